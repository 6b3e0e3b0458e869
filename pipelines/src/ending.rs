// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ending a video before its end, in order: every stream stops where the last frame taken ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result};
use gst::prelude::*;

/// Ends a pipeline around one restoring element early.
#[derive(Clone)]
pub struct Ending {
    restore: gst::Element,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    begun: AtomicBool,
    /// Where the last frame taken ends, in nanoseconds of the stream's time.
    end: AtomicU64,
}

impl Ending {
    /// Watches which frames `restore` takes.
    pub fn new(restore: &gst::Element) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let pad = restore.static_pad("sink").context("i2sbrestore has no sink pad")?;
        let seen = shared.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(buffer) = info.buffer() else { return gst::PadProbeReturn::Ok };
            if seen.begun.load(Ordering::SeqCst) {
                return gst::PadProbeReturn::Handled;
            }
            if let Some(pts) = buffer.pts() {
                let end = pts + buffer.duration().unwrap_or_default();
                seen.end.fetch_max(end.nseconds(), Ordering::SeqCst);
            }
            gst::PadProbeReturn::Ok
        });
        Ok(Self { restore: restore.clone(), shared })
    }

    /// After [`Ending::begin`], what passes at this pad after the last frame is dropped.
    pub fn cut(&self, pad: &gst::Pad) {
        let shared = self.shared.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let end = gst::ClockTime::from_nseconds(shared.end.load(Ordering::SeqCst));
            let after = info.buffer().and_then(|buffer| buffer.pts()).is_some_and(|pts| pts >= end);
            if after && shared.begun.load(Ordering::SeqCst) {
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Takes no more frames and has every stream end: EOS reaches the sink when the frames that were
    /// taken are out.
    pub fn begin(&self, pipeline: &gst::Pipeline) {
        if self.shared.begun.swap(true, Ordering::SeqCst) {
            return;
        }
        // On threads of their own: both wait for streaming threads, which wait for frames. A live source gets its EOS only
        // when what it pushes is taken, and a muxer takes it only when the other streams go on or end.
        let pipeline = pipeline.clone();
        // The source ends what is not read yet; what waits in queues before the element is dropped there.
        std::thread::spawn(move || pipeline.send_event(gst::event::Eos::new()));
        if let Some(pad) = self.restore.static_pad("sink") {
            // A source whose demuxer reads by itself ends at its next read; the element need not wait.
            std::thread::spawn(move || pad.send_event(gst::event::Eos::new()));
        }
    }
}
