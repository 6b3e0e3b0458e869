// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties, and what the bus is told of failures and changes.

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::engines::News;
use super::imp::{CAT, I2sbRestore, lock};
use super::message;
use super::settings::OnError;
use crate::engine::EngineError;

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
        if running
            && matches!(name, "sampler" | "steps")
            && let Err(error) = self.could_take(name, value)
        {
            message::warning(&self.obj(), &format!("{name} stays as it is"), &error);
            return;
        }
        let (old, latency, now) = {
            let mut settings = lock(&self.settings);
            let old = settings.clone();
            let latency = settings.set(name, value);
            (old, latency, settings.clone())
        };
        gst::info!(CAT, imp = self, "{name}: {:?} -> {value:?}", old.get(name));
        {
            let mut state = self.stream.lock();
            state.late_frames = now.late_frames;
            state.fixed_latency = now.fixed_latency();
            state.latency_stale |= latency && running;
        }
        if running && (&old.model, old.detail) != (&now.model, now.detail) {
            self.change_model(&now);
        }
    }

    /// Whether all models can be run with this value of a property: asked before a frame is.
    fn could_take(&self, name: &str, value: &glib::Value) -> Result<(), EngineError> {
        let mut wanted = lock(&self.settings).clone();
        wanted.set(name, value);
        let sources = lock(&self.sources).clone();
        sources.iter().try_for_each(|source| source.takes(&wanted))
    }

    /// A frame that could not be restored, with `on-error`: whether it goes out as it came. `first`: it
    /// begins an outage.
    pub fn failed(&self, error: &EngineError, first: bool) -> bool {
        if matches!(error, EngineError::Cancelled) {
            return true;
        }
        self.stream.lock().counters.outages += u64::from(first);
        if lock(&self.settings).on_error == OnError::Error {
            message::error(&self.obj(), "A frame could not be restored", error);
            return false;
        }
        if first {
            message::warning(&self.obj(), "Frames pass unrestored until the engine is back", error);
            message::outage(&self.obj(), &error.to_string());
        }
        true
    }

    /// Tells the bus what the engines have been through.
    pub fn tell(&self, news: Vec<News>) {
        for news in news {
            gst::info!(CAT, imp = self, "{news:?}");
            if matches!(news, News::Recovered(_)) {
                self.stream.lock().counters.recoveries += 1;
            }
            message::news(&self.obj(), &news);
        }
    }
}
