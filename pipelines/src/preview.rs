// SPDX-License-Identifier: MIT OR Apache-2.0
//! One frame before and after the element, side by side in a PNG; below it what changed most, enlarged.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use gst::prelude::*;
use gst_video::prelude::*;

use crate::closeup;
use crate::output::beside;

/// White columns between the two halves.
const GAP: u32 = 4;

/// Where the picture of this output goes.
pub fn place(output: &Path) -> PathBuf {
    beside(output, ".before-after.png")
}

#[derive(Default)]
struct Pair {
    /// The frame to take: the first not before this time.
    from: gst::ClockTime,
    before: Option<gst::Sample>,
    after: Option<gst::Sample>,
}

/// Takes one frame from both sides of an element.
#[derive(Clone, Default)]
pub struct Preview(Arc<Mutex<Pair>>);

impl Preview {
    /// Watches both pads of `element`. Until [`Preview::aim`] is called the first frame is taken.
    pub fn watch(&self, element: &gst::Element) {
        for (name, input) in [("sink", true), ("src", false)] {
            let Some(pad) = element.static_pad(name) else { continue };
            let pair = self.0.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
                    let mut pair = pair.lock().unwrap_or_else(PoisonError::into_inner);
                    pair.see(input, buffer, &caps);
                }
                gst::PadProbeReturn::Ok
            });
        }
    }

    /// Forgets what was taken.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Pair::default();
    }

    /// Takes a frame at or after this time instead of the one taken so far.
    pub fn aim(&self, from: gst::ClockTime) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).from = from;
    }

    /// Writes the picture; returns where, or nothing if no frame was seen.
    pub fn write(&self, output: &Path) -> Result<Option<PathBuf>> {
        let (before, after) = {
            let pair = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (pair.before.clone(), pair.after.clone())
        };
        let (Some(before), Some(after)) = (before, after) else { return Ok(None) };
        let path = place(output);
        together(&rgb(&before)?, &rgb(&after)?).save(&path).with_context(|| path.display().to_string())?;
        Ok(Some(path))
    }
}

impl Pair {
    fn see(&mut self, input: bool, buffer: &gst::Buffer, caps: &gst::Caps) {
        let sample = || gst::Sample::builder().buffer(buffer).caps(caps).build();
        let pts = |sample: &gst::Sample| sample.buffer().and_then(|buffer| buffer.pts());
        if input {
            let taken = self.before.as_ref().and_then(pts);
            let better = taken.is_none() || (taken < Some(self.from) && buffer.pts() >= Some(self.from));
            if better {
                // The element sees that the buffer is held and writes to a copy of its memory.
                self.before = Some(sample());
                self.after = None;
            }
        } else if self.after.is_none()
            && self.before.as_ref().is_some_and(|before| pts(before) == buffer.pts())
        {
            self.after = Some(sample());
        }
    }
}

/// The picture of a frame, in 8 bits.
pub fn rgb(sample: &gst::Sample) -> Result<image::RgbImage> {
    let caps = gst_video::VideoCapsBuilder::new().format(gst_video::VideoFormat::Rgb).build();
    let sample = gst_video::convert_sample(sample, &caps, Some(10 * gst::ClockTime::SECOND))
        .context("a frame cannot be converted to RGB")?;
    let info = gst_video::VideoInfo::from_caps(sample.caps().context("converted frame without caps")?)?;
    let buffer = sample.buffer().context("converted frame without memory")?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
    let (width, stride) = (info.width() as usize, frame.plane_stride()[0] as usize);
    let rows = frame.plane_data(0)?.chunks(stride).take(info.height() as usize);
    let data = rows.flat_map(|row| row[..3 * width].iter().copied()).collect();
    image::RgbImage::from_raw(info.width(), info.height(), data)
        .context("a frame of another size than its caps say")
}

/// Before on the left, after on the right; below them the place that changed most.
fn together(before: &image::RgbImage, after: &image::RgbImage) -> image::RgbImage {
    let (width, height) = (before.width() + GAP + after.width(), before.height().max(after.height()));
    let close = closeup::pair(before, after);
    let foot = close.as_ref().map_or(0, |[large, _]| GAP + large.height());
    let mut out = image::RgbImage::from_pixel(width, height + foot, image::Rgb([255; 3]));
    let right = i64::from(before.width() + GAP);
    image::imageops::replace(&mut out, before, 0, 0);
    image::imageops::replace(&mut out, after, right, 0);
    for (large, left) in close.iter().flatten().zip([0, right]) {
        image::imageops::replace(&mut out, large, left, i64::from(height + GAP));
    }
    out
}
