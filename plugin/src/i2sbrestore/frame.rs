// SPDX-License-Identifier: MIT OR Apache-2.0
//! A buffer's bytes as [`View`]s: strides and offsets of its `GstVideoMeta`, else of its caps.

use super::caps::{Format, Scan};
use crate::pixel::{Color, View, ViewError};

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

fn copy(from: &[usize], to: &mut [usize; 4]) {
    from.iter().zip(to).for_each(|(&from, to)| *to = from);
}
