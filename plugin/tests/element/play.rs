// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pipeline as in gst-launch, and what passes its pads.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

/// Longest silence of the bus.
const LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(120);

/// When a buffer is shown and for how long.
pub type Time = (Option<gst::ClockTime>, Option<gst::ClockTime>);

/// A running pipeline that is stopped when it is dropped.
pub struct Pipeline(pub gst::Pipeline);

impl Pipeline {
    /// The pipeline that a description makes.
    pub fn new(description: &str) -> Self {
        crate::null::init();
        Self(gst::parse::launch(description).expect(description).downcast().expect("a pipeline"))
    }

    /// The element of this name.
    pub fn element(&self, name: &str) -> gst::Element {
        self.0.by_name(name).expect(name)
    }

    /// Times of all buffers at a pad of an element.
    pub fn times(&self, name: &str, pad: &str) -> Arc<Mutex<Vec<Time>>> {
        let times = Arc::new(Mutex::new(Vec::new()));
        let seen = times.clone();
        self.element(name).static_pad(pad).expect(pad).add_probe(
            gst::PadProbeType::BUFFER,
            move |_, info| {
                let buffer = info.buffer().expect("asked for buffers");
                seen.lock().unwrap().push((buffer.pts(), buffer.duration()));
                gst::PadProbeReturn::Ok
            },
        );
        times
    }

    /// Plays to EOS; returns the element messages.
    pub fn run(&self) -> Vec<gst::Message> {
        self.0.set_state(gst::State::Playing).expect("playing");
        let mut messages = Vec::new();
        loop {
            let message = self.0.bus().unwrap().timed_pop(LIMIT).expect("messages until EOS");
            match message.view() {
                gst::MessageView::Eos(_) => return messages,
                gst::MessageView::Error(error) => {
                    panic!("{:?}: {} ({:?})", error.src(), error.error(), error.debug())
                }
                gst::MessageView::Element(_) => messages.push(message),
                _ => {}
            }
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}
