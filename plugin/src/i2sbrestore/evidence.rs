// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a frame that goes out differs from what came in: as numbers, and as a picture on `src_residual`.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::caps::Format;
use super::frame::{Part, parts};
use super::imp::{CAT, I2sbRestore, lock};
use super::settings::Interlaced;
use i2sb::pixel::{add_difference, to_rgb};

/// Name of the pad, which is there while `residual-gain` is above 0.
pub const PAD: &str = "src_residual";

/// How far a frame is from what it was, in R'G'B' as decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Audit {
    /// Peak signal-to-noise ratio in dB, peak white, not rounded; infinite for equal frames.
    pub psnr: f64,
    /// Structural similarity, on pictures rounded to 8 bits; the mean of two fields.
    pub ssim: f64,
    /// Largest difference of two samples, 1 = black to white.
    pub largest: f64,
}

impl Audit {
    /// Of frames that are equal.
    pub const EQUAL: Self = Self { psnr: f64::INFINITY, ssim: 1.0, largest: 0.0 };

    /// Of pictures before and after: planes with their size.
    fn of(pairs: &[Pair]) -> Self {
        let (mut sum, mut count, mut largest, mut ssim) = (0.0, 0, 0f32, 0.0);
        for Pair { part, before, after } in pairs {
            for (a, b) in before.iter().zip(after) {
                let change = 0.5 * (b - a);
                sum += f64::from(change) * f64::from(change);
                largest = largest.max(change.abs());
            }
            count += before.len();
            // Fails for pictures of two sizes only.
            ssim += i2sb::metric::ssim(before, after, part.view.width, part.view.height).unwrap_or(f64::NAN);
        }
        Self {
            psnr: 10.0 * (count as f64 / sum).log10(),
            ssim: ssim / pairs.len() as f64,
            largest: f64::from(largest),
        }
    }
}

/// One picture of a frame, before and after.
struct Pair {
    part: Part,
    before: Vec<f32>,
    after: Vec<f32>,
}

/// The pictures of two buffers of one format; `None` if one of them cannot be read.
fn pairs(format: &Format, before: &gst::BufferRef, after: &gst::BufferRef) -> Option<Vec<Pair>> {
    let scan = format.scan(after, Interlaced::Fields).ok()??;
    let (old, new) = (before.map_readable().ok()?, after.map_readable().ok()?);
    let (was, is) =
        (parts(format, before, scan, old.len()).ok()?, parts(format, after, scan, new.len()).ok()?);
    let decode = |part: &Part, bytes: &[u8]| {
        let mut rgb = vec![0.0; 3 * part.view.pixels()];
        to_rgb(&part.view, &part.color, bytes, &mut rgb);
        rgb
    };
    let pair =
        |(was, is): (&Part, &Part)| Pair { part: *was, before: decode(was, &old), after: decode(is, &new) };
    Some(was.iter().zip(&is).map(pair).collect())
}

impl I2sbRestore {
    /// Whether somebody wants to know how frames changed, so that the input must be kept.
    pub fn wants_evidence(&self) -> bool {
        let settings = lock(&self.settings);
        settings.archival.audit || settings.archival.residual_gain > 0.0
    }

    /// Compares a frame with what it was; pushes the difference if it is wanted. `None` without `audit`.
    pub fn compare_with(&self, before: &gst::Buffer, after: &gst::BufferRef, same: bool) -> Option<Audit> {
        let (audit, gain) = {
            let settings = lock(&self.settings);
            (settings.archival.audit, settings.archival.residual_gain)
        };
        let residual = lock(&self.residual).clone();
        let format = self.srcpad.current_caps().and_then(|caps| Format::parse(&caps).ok())?;
        if same && residual.is_none() {
            return audit.then_some(Audit::EQUAL);
        }
        let pairs = pairs(&format, before, after)?;
        if let Some(pad) = residual {
            match picture(before, &pairs, gain) {
                // It may be linked to nothing, or end early; neither is the main pad's concern.
                Some(picture) => drop(pad.push(picture)),
                None => gst::warning!(CAT, imp = self, "no residual for {:?}", before.pts()),
            }
        }
        audit.then(|| if same { Audit::EQUAL } else { Audit::of(&pairs) })
    }

    /// Makes the pad appear, if it is asked for.
    pub fn add_residual_pad(&self) {
        if lock(&self.settings).archival.residual_gain <= 0.0 || lock(&self.residual).is_some() {
            return;
        }
        let Some(template) = self.obj().pad_template(PAD) else { return };
        let pad = gst::Pad::builder_from_template(&template).flags(gst::PadFlags::FIXED_CAPS).build();
        let added = pad.set_active(true).map_err(|error| error.to_string());
        match added.and_then(|()| self.obj().add_pad(&pad).map_err(|error| error.to_string())) {
            Ok(()) => *lock(&self.residual) = Some(pad),
            Err(error) => gst::error!(CAT, imp = self, "{PAD}: {error}"),
        }
    }

    /// Makes the pad disappear.
    pub fn remove_residual_pad(&self) {
        let pad = lock(&self.residual).take();
        if let Some(pad) = pad {
            // Fails only for pads that are not ours.
            let _ = pad.set_active(false);
            let _ = self.obj().remove_pad(&pad);
        }
    }

    /// Sends an event of the main pad beside it, too.
    pub fn residual_event(&self, event: &gst::Event) {
        let Some(pad) = lock(&self.residual).clone() else { return };
        let event = match event.view() {
            gst::EventView::StreamStart(start) => {
                let id = format!("{}/{PAD}", start.stream_id());
                let mut builder = gst::event::StreamStart::builder(&id).flags(start.stream_flags());
                if let Some(group) = start.group_id() {
                    builder = builder.group_id(group);
                }
                builder.build()
            }
            _ => event.clone(),
        };
        pad.push_event(event);
    }
}

/// The change times `gain` on grey, in the format and with the times of `before`.
fn picture(before: &gst::Buffer, pairs: &[Pair], gain: f32) -> Option<gst::Buffer> {
    // Without captions and the like: they belong to the picture.
    let what = gst::BufferCopyFlags::MEMORY
        | gst::BufferCopyFlags::DEEP
        | gst::BufferCopyFlags::TIMESTAMPS
        | gst::BufferCopyFlags::FLAGS;
    let mut out = before.copy_region(what, ..).ok()?;
    let target = out.make_mut();
    if let Some(layout) = before.meta::<gst_video::VideoMeta>() {
        let (flags, format) = (layout.video_frame_flags(), layout.format());
        let (width, height, offset, stride) =
            (layout.width(), layout.height(), layout.offset(), layout.stride());
        gst_video::VideoMeta::add_full(target, flags, format, width, height, offset, stride).ok()?;
    }
    let mut map = target.map_writable().ok()?;
    for Pair { part, before, after } in pairs {
        let change = before.iter().zip(after).map(|(a, b)| (gain * (b - a)).clamp(-1.0, 1.0));
        let wanted: Vec<f32> = change.collect();
        // What the bytes hold becomes what is wanted: the difference of both is added.
        add_difference(&part.view, &part.color, &mut map, before, &wanted, 1.0);
    }
    drop(map);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use i2sb::pixel::{Color, PixelFormat, View};

    #[test]
    fn one_step_of_sixteen_bits_is_seen() {
        let format = PixelFormat::named("GRAY16_LE").unwrap();
        let view = View::new(format, (16, 16), [0; 4], [32; 4], 512).unwrap();
        let color = Color::new(format, (0.299, 0.114), true, (false, false));
        let part = Part { view, color };
        let before = vec![0.25f32; 768];
        let mut after = before.clone();
        after[5] += 2.0 / 65535.0;
        let audit = Audit::of(&[Pair { part, before: before.clone(), after }]);
        let exact = 10.0 * (768.0 * 65535.0f64 * 65535.0).log10();
        assert!((audit.psnr - exact).abs() < 0.05 && audit.ssim == 1.0, "{audit:?} {exact}");
        assert!((audit.largest * 65535.0 - 1.0).abs() < 0.01, "{audit:?}");
        assert_eq!(Audit::of(&[Pair { part, before: before.clone(), after: before }]), Audit::EQUAL);
    }
}
