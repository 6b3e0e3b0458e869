// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding, loading, exchanging and reloading models, from state changes and while playing.

use std::sync::Arc;

use gst::subclass::prelude::*;
use i2sb::ops::{Cpu, Precision};

use super::imp::{CAT, I2sbRestore, Input, Told, lock};
use super::masks::Masks;
use super::message;
use super::provenance::Trail;
use super::settings::{OnError, Settings};
use super::source::Source;
use super::stats::Counters;
use crate::engine::About;
use crate::engine::worker::Worker;
use crate::flow::latency::Estimator;
use crate::flow::queue::Queue;

impl I2sbRestore {
    /// NULL→READY: finds the models.
    pub fn resolve(&self) -> Result<(), gst::StateChangeError> {
        let settings = lock(&self.settings).clone();
        match Source::resolve_all(&settings) {
            Ok(sources) => {
                *lock(&self.sources) = sources;
                Ok(())
            }
            Err(error) => {
                gst::error!(CAT, imp = self, "{error}");
                message::error(&self.obj(), "Cannot use this model", &error);
                Err(gst::StateChangeError)
            }
        }
    }

    /// READY→PAUSED: starts loading and opens an empty stream.
    pub fn start(&self) -> Result<(), gst::StateChangeError> {
        let settings = lock(&self.settings).clone();
        if !Source::fit(&lock(&self.sources), &settings) {
            self.resolve()?;
        }
        let mut sources = lock(&self.sources).clone();
        let workers: Result<Vec<_>, _> = sources.iter_mut().map(Source::worker).collect();
        *lock(&self.sources) = sources;
        let workers = workers.map_err(|error| {
            self.no_thread(&error);
            gst::StateChangeError
        })?;
        let masks = Masks::load(&settings.archival).map_err(|error| {
            message::error(&self.obj(), "Cannot use this mask", &error);
            gst::StateChangeError
        })?;
        *lock(&self.masks) = Arc::new(masks);
        *lock(&self.input) = Input::default();
        *lock(&self.told) = Told::default();
        *lock(&self.trail) = Trail::default();
        self.add_residual_pad();
        *lock(&self.stream.last) = None;
        let epoch = {
            let mut state = self.stream.lock();
            state.queue = Queue::new(settings.limits());
            state.counters = Counters::default();
            state.times = Estimator::default();
            state.late_frames = settings.late_frames;
            state.fixed_latency = settings.fixed_latency();
            state.engines.start(workers.clone());
            state.epoch += 1;
            state.epoch
        };
        for (index, worker) in workers.iter().enumerate() {
            let fresh = index == 0 && worker.about().is_none();
            if fresh {
                message::progress(&self.obj(), gst::ProgressType::Start, "Loading the model and warming up");
            }
            self.listen(worker, epoch, fresh);
        }
        Ok(())
    }

    fn listen(&self, worker: &Arc<Worker>, epoch: u64, fresh: bool) {
        let (element, id) = (self.obj().downgrade(), worker.id());
        worker.when_loaded(Box::new(move |result| {
            if let Some(element) = element.upgrade() {
                element.imp().loaded(epoch, id, fresh, result);
            }
        }));
    }

    /// News of a load. `fresh`: the first one, which PROGRESS tells of. No lock is held while the bus is
    /// told.
    fn loaded(&self, epoch: u64, id: u64, fresh: bool, result: Result<&About, &str>) {
        let obj = self.obj();
        let next = {
            let state = self.stream.lock();
            if state.epoch != epoch {
                return;
            }
            state.engines.is_next(id)
        };
        let reason = match result {
            Ok(about) => {
                gst::info!(CAT, imp = self, "loaded {about:?}");
                let precision = about.precision.parse::<Precision>();
                if let Some(advice) = precision.ok().and_then(|precision| precision.advice(Cpu::detect())) {
                    gst::warning!(gst::CAT_PERFORMANCE, imp = self, "{advice}");
                }
                if next
                    && let Some(source) = lock(&self.candidate).take()
                    && let Some(held) = lock(&self.sources).first_mut()
                {
                    *held = source;
                }
                self.stream.lock().engines.loaded(id, about);
                self.stream.ring();
                if fresh {
                    message::progress(&obj, gst::ProgressType::Complete, "The model is loaded");
                }
                return;
            }
            Err(reason) => reason,
        };
        if !next && self.stream.lock().engines.seat_of(id).is_none() {
            gst::debug!(CAT, imp = self, "not wanted any more: {reason}");
            return;
        }
        gst::error!(CAT, imp = self, "loading failed: {reason}");
        if fresh {
            message::progress(&obj, gst::ProgressType::Error, reason);
        }
        if next {
            self.stream.lock().engines.prepare(None);
            self.keep_model(reason);
            return;
        }
        let (first, seat) = {
            let now = self.stream.now();
            let mut state = self.stream.lock();
            let seat = state.engines.seat_of(id);
            let first = state.engines.failed(id, now) == Some(true);
            state.counters.outages += u64::from(first);
            (first, seat)
        };
        // A fallback that is not there is missed only when it is needed.
        if lock(&self.settings).on_error == OnError::PassThrough || seat.is_none_or(|seat| seat > 0) {
            if first {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Failed,
                    ("A model cannot be loaded; until it can, frames pass unrestored or go to the next: {reason}"),
                    ["load: {reason}"]
                );
                message::outage(&obj, reason);
            }
        } else {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Failed,
                ("The model cannot be loaded: {reason}"),
                ["load: {reason}"]
            );
            drop(self.stream.fail(gst::FlowError::Error));
        }
        self.stream.ring();
    }

    /// An engine that failed is loaded anew, beside the frames that pass meanwhile.
    pub fn load_again(&self, seat: usize) {
        let Some(mut source) = lock(&self.sources).get(seat).cloned() else { return };
        // Whoever still holds the failed one would otherwise be given it again.
        source.release();
        if let Some(held) = lock(&self.sources).get_mut(seat) {
            held.release();
        }
        match source.worker() {
            Ok(worker) => {
                if let Some(held) = lock(&self.sources).get_mut(seat) {
                    *held = source;
                }
                let epoch = {
                    let mut state = self.stream.lock();
                    state.engines.seat(seat, worker.clone());
                    state.epoch
                };
                self.listen(&worker, epoch, false);
            }
            Err(error) => {
                gst::warning!(CAT, imp = self, "no thread for the engine: {error}");
                let now = self.stream.now();
                self.stream.lock().engines.not_started(seat, now);
            }
        }
    }

    /// `model` or `detail` was set while playing: the new one is loaded, the old one works until then.
    pub fn change_model(&self, settings: &Settings) {
        // Before what takes long: a stop meanwhile is seen by it.
        let epoch = self.stream.lock().epoch;
        let resolved = Source::resolve(&settings.model, settings);
        let mut source = match resolved {
            Ok(source) => source,
            Err(error) => return self.keep_model(&error.to_string()),
        };
        match source.worker() {
            Ok(worker) => {
                {
                    let mut state = self.stream.lock();
                    if state.epoch != epoch {
                        return;
                    }
                    state.engines.prepare(Some(worker.clone()));
                }
                *lock(&self.candidate) = Some(source);
                self.listen(&worker, epoch, false);
            }
            Err(error) => self.keep_model(&error.to_string()),
        }
    }

    /// The model that works goes on working, and the properties say so.
    fn keep_model(&self, reason: &str) {
        let kept = lock(&self.sources).first().map(|source| (source.name().to_owned(), source.detail()));
        let wanted = {
            let settings = &mut *lock(&self.settings);
            let (model, detail) = kept.unwrap_or_default();
            settings.detail = detail;
            std::mem::replace(&mut settings.model, model)
        };
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Failed,
            ("The model stays as it is, {wanted:?} cannot be loaded: {reason}"),
            ["load: {reason}"]
        );
    }

    fn no_thread(&self, error: &std::io::Error) {
        gst::element_imp_error!(
            self,
            gst::ResourceError::Failed,
            ("Cannot start the engine's thread: {error}"),
            ["spawn: {error}"]
        );
    }

    /// PAUSED→READY, after the pads are inactive.
    pub fn stop(&self) {
        let loading = {
            let mut state = self.stream.lock();
            state.epoch += 1;
            state.engines.stop()
        };
        if loading {
            message::progress(&self.obj(), gst::ProgressType::Canceled, "Loading was stopped");
        }
        *lock(&self.candidate) = None;
        *lock(&self.stream.last) = None;
        *lock(&self.input) = Input::default();
        *lock(&self.trail) = Trail::default();
        self.remove_residual_pad();
    }
}
