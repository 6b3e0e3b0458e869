// SPDX-License-Identifier: MIT OR Apache-2.0
//! A buffer's bytes as [`View`]s: strides and offsets of its `GstVideoMeta`, else of its caps.

use super::caps::{Format, Scan};
use super::masks::Rows;
use i2sb::pixel::{Color, View, ViewError};

/// One picture of a buffer: the frame, or one of its fields.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Where its samples are.
    pub view: View,
    /// What they mean.
    pub color: Color,
}

/// The pictures of a buffer of `len` bytes.
///
/// # Errors
/// [`ViewError`] if the buffer is shorter than its description.
pub fn parts(
    format: &Format,
    buffer: &gst::BufferRef,
    scan: Scan,
    len: usize,
) -> Result<Vec<Part>, ViewError> {
    let (mut size, mut offset, mut stride) =
        ((format.info.width() as usize, format.rows()), [0usize; 4], [0usize; 4]);
    if let Some(meta) = buffer.meta::<gst_video::VideoMeta>() {
        // A decoder that crops by meta stores more than the caps show: all of it is restored.
        if matches!(scan, Scan::Whole | Scan::Woven) {
            size = (size.0.max(meta.width() as usize), size.1.max(meta.height() as usize));
        }
        copy(meta.offset(), &mut offset);
        if let Some(upwards) = meta.stride().iter().find(|stride| **stride < 0) {
            return Err(ViewError::Upwards { stride: *upwards });
        }
        meta.stride().iter().zip(&mut stride).for_each(|(&s, to)| *to = usize::try_from(s).unwrap_or(0));
    } else {
        copy(format.info.offset(), &mut offset);
        format
            .info
            .stride()
            .iter()
            .zip(&mut stride)
            .for_each(|(&s, to)| *to = usize::try_from(s).unwrap_or(0));
    }
    let whole = View::new(format.pixels, size, offset, stride, len)?;
    let color = format.color;
    let field = |parity| {
        let view = whole.field(parity)?;
        Some(Part { view, color: color.of_field(parity, format.pixels) })
    };
    Ok(match scan {
        Scan::Woven => match (field(0), field(1)) {
            (Some(top), Some(bottom)) => vec![top, bottom],
            // Too small to hold two fields.
            _ => vec![Part { view: whole, color }],
        },
        Scan::Whole => vec![Part { view: whole, color }],
        Scan::Single(parity) => vec![Part { view: whole, color: color.of_field(parity, format.pixels) }],
    })
}

/// Which rows of the frame the `index`th part holds.
pub fn rows(format: &Format, buffer: &gst::BufferRef, scan: Scan, index: usize, part: &Part) -> Rows {
    let crop = buffer.meta::<gst_video::VideoCropMeta>().map(|meta| meta.rect());
    let origin = crop.map_or((0, 0), |(x, y, ..)| (x as usize, y as usize));
    let from = match scan {
        Scan::Whole => (0, 1),
        // A frame too small for two fields is one part.
        Scan::Woven if part.view.height == format.rows() => (0, 1),
        Scan::Woven => (index, 2),
        Scan::Single(parity) => (parity, 2),
    };
    Rows { width: part.view.width, height: part.view.height, from, origin, sub: format.pixels.sub }
}

/// The regions of interest of this type, `(x, y, width, height)`.
pub fn regions(buffer: &gst::BufferRef, kind: &str) -> Vec<(usize, usize, usize, usize)> {
    let all = buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>();
    let ours = all.filter(|meta| !kind.is_empty() && meta.roi_type() == kind);
    ours.map(|meta| meta.rect())
        .map(|(x, y, w, h)| (x as usize, y as usize, w as usize, h as usize))
        .collect()
}

fn copy(from: &[usize], to: &mut [usize; 4]) {
    from.iter().zip(to).for_each(|(&from, to)| *to = from);
}
