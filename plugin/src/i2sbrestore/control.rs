// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties, states and loading.

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{CAT, I2sbRestore, Input, Told, lock};
use super::message;
use super::settings::OnError;
use super::source::Source;
use super::stats::Counters;
use crate::engine::{About, EngineError};
use crate::flow::latency::Estimator;
use crate::flow::queue::Queue;

impl I2sbRestore {
    /// Sets a property; one that only counts at the next start is refused while running.
    pub fn set(&self, value: &glib::Value, pspec: &glib::ParamSpec) {
        let name = pspec.name();
        let running = self.obj().current_state() >= gst::State::Paused;
        if running && pspec.flags() & gst::PARAM_FLAG_MUTABLE_PLAYING != gst::PARAM_FLAG_MUTABLE_PLAYING {
            let now = lock(&self.settings).clone();
            let mut wanted = now.clone();
            wanted.set(name, value);
            if wanted != now {
                gst::element_imp_warning!(
                    self,
                    gst::LibraryError::Settings,
                    ("{name} stays as it is while the element runs; set it in NULL or READY"),
                    ["{name} was to become {value:?}"]
                );
            }
            return;
        }
        let (old, latency, late_frames) = {
            let mut settings = lock(&self.settings);
            let old = settings.get(name);
            let latency = settings.set(name, value);
            (old, latency, settings.late_frames)
        };
        gst::info!(CAT, imp = self, "{name}: {old:?} -> {value:?}");
        let mut state = self.stream.lock();
        state.late_frames = late_frames;
        state.latency_stale |= latency && running;
    }

    /// NULL→READY: finds the model.
    pub fn resolve(&self) -> Result<(), gst::StateChangeError> {
        let settings = lock(&self.settings).clone();
        match Source::resolve(&settings) {
            Ok(source) => {
                *lock(&self.source) = Some(source);
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
        if !lock(&self.source).as_ref().is_some_and(|source| source.fits(&settings)) {
            self.resolve()?;
        }
        let Some(mut source) = lock(&self.source).take() else { return Err(gst::StateChangeError) };
        let worker = source.worker();
        *lock(&self.source) = Some(source);
        let worker = worker.map_err(|error| {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Failed,
                ("Cannot start the engine's thread: {error}"),
                ["spawn: {error}"]
            );
            gst::StateChangeError
        })?;
        *lock(&self.input) = Input::default();
        *lock(&self.told) = Told::default();
        *lock(&self.stream.last) = None;
        let epoch = {
            let mut state = self.stream.lock();
            state.queue = Queue::new(settings.limits());
            state.counters = Counters::default();
            state.times = Estimator::default();
            state.late_frames = settings.late_frames;
            state.unloaded = false;
            state.about = None;
            state.worker = Some(worker.clone());
            state.epoch += 1;
            state.epoch
        };
        if worker.about().is_none() {
            message::progress(&self.obj(), gst::ProgressType::Start, "Loading the model and warming up");
        }
        let element = self.obj().downgrade();
        let fresh = worker.about().is_none();
        worker.when_loaded(Box::new(move |result| {
            if let Some(element) = element.upgrade() {
                element.imp().loaded(epoch, fresh, result);
            }
        }));
        Ok(())
    }

    /// News from the engine's thread. No lock is held while the bus is told.
    fn loaded(&self, epoch: u64, fresh: bool, result: Result<&About, &str>) {
        let obj = self.obj();
        if self.stream.lock().epoch != epoch {
            return;
        }
        let reason = match result {
            Ok(about) => {
                gst::info!(CAT, imp = self, "loaded {about:?}");
                self.stream.lock().about = Some(about.clone());
                if fresh {
                    message::progress(&obj, gst::ProgressType::Complete, "The model is loaded");
                }
                return;
            }
            Err(reason) => reason,
        };
        gst::error!(CAT, imp = self, "loading failed: {reason}");
        if fresh {
            message::progress(&obj, gst::ProgressType::Error, reason);
        }
        let on_error = lock(&self.settings).on_error;
        if on_error == OnError::PassThrough {
            self.stream.lock().unloaded = true;
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Failed,
                ("The model cannot be loaded, frames pass unrestored: {reason}"),
                ["load: {reason}"]
            );
        } else {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Failed,
                ("The model cannot be loaded: {reason}"),
                ["load: {reason}"]
            );
            self.stream.fail(gst::FlowError::Error);
        }
        self.stream.ring();
    }

    /// PAUSED→READY, after the pads are inactive.
    pub fn stop(&self) {
        let loading = {
            let mut state = self.stream.lock();
            state.epoch += 1;
            state.worker.take().is_some_and(|worker| worker.is_loading())
        };
        if loading {
            message::progress(&self.obj(), gst::ProgressType::Canceled, "Loading was stopped");
        }
        *lock(&self.stream.last) = None;
        *lock(&self.input) = Input::default();
    }

    /// A frame that could not be restored, with `on-error`: whether it goes out as it came.
    pub fn failed(&self, error: &EngineError) -> bool {
        if matches!(error, EngineError::Cancelled) {
            return true;
        }
        self.stream.lock().counters.failed += 1;
        if lock(&self.settings).on_error == OnError::Error {
            message::error(&self.obj(), "A frame could not be restored", error);
            return false;
        }
        if !std::mem::replace(&mut lock(&self.told).failure, true) {
            message::warning(&self.obj(), "Frames pass unrestored", error);
        }
        true
    }
}
