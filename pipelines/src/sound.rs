// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets of sound that muxers would leave out: one that begins a moment before the presentation does, and, in MP4,
//! a last one that does not say how long it is.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gst::prelude::*;

use crate::fleet::quicktime;

/// Packets of sound that are copied.
#[derive(Clone, Default)]
pub struct Sound(Arc<AtomicU64>);

impl Sound {
    /// Has what leaves at this pad of a queue keep its packets, where it is sound. With `lengths`, a packet that does not
    /// say how long it is gets the length of the one before it.
    ///
    /// What ends before the presentation begins, an encoder's priming, is left as it is.
    pub fn keep(&self, pad: &gst::Pad, lengths: bool) {
        let count = self.0.clone();
        let last = Mutex::<Option<gst::ClockTime>>::default();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let caps = pad.current_caps();
            if !caps
                .and_then(|caps| Some(caps.structure(0)?.name().starts_with("audio/")))
                .unwrap_or_default()
            {
                return gst::PadProbeReturn::Ok;
            }
            let segment = pad.sticky_event::<gst::event::Segment>(0);
            let segment = segment.and_then(|event| event.segment().downcast_ref::<gst::ClockTime>().cloned());
            let (Some(gst::PadProbeData::Buffer(buffer)), Ok(mut last), Some(segment)) =
                (&mut info.data, last.lock(), segment)
            else {
                return gst::PadProbeReturn::Ok;
            };
            let Some(begins) = buffer.pts() else { return gst::PadProbeReturn::Ok };
            let before = last.replace(begins);
            let end = begins + buffer.duration().unwrap_or_default();
            // What lies outside, muxers leave out.
            if segment.clip(begins, end).is_some() {
                count.fetch_add(1, Ordering::Relaxed);
            }
            if lengths
                && buffer.duration().is_none()
                && let Some(length) = before.and_then(|before| begins.checked_sub(before))
            {
                buffer.make_mut().set_duration(length);
            }
            if let (Some(start), Some(length)) = (segment.start(), buffer.duration())
                && begins < start
                && begins + length > start
            {
                let buffer = buffer.make_mut();
                buffer.set_pts(start);
                buffer.set_dts(start);
                buffer.set_duration(begins + length - start);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// What is to be said of the packets of a file that did not come; nothing if all did.
    pub fn left_out(&self, input: &Path) -> Option<String> {
        let missing = quicktime::sounds(input).saturating_sub(self.0.load(Ordering::Relaxed));
        (missing > 0).then(|| {
            format!(
                "{}: {missing} packets of sound lie before or behind what its edit list plays and are left out",
                input.display()
            )
        })
    }
}
