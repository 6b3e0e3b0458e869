// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real baseline JPEG: encoded and decoded again, with the choices of libjpeg.

use super::{Arguments, Degradation, Degraded, Span, check};
use crate::{
    Error, Result,
    noise::Stream,
    picture::{Sampling, decode_jpeg, encode_jpeg, interleaved, planar},
};

/// Side of the largest unit of a JPEG, a block of 8×8 chroma samples of 2×2 pixels.
const UNIT: usize = 16;

const SAMPLINGS: &[(&str, Option<Sampling>)] = &[
    ("444", Some(Sampling::S444)),
    ("422", Some(Sampling::S422)),
    ("420", Some(Sampling::S420)),
    ("any", None),
];

struct Jpeg {
    quality: Span,
    /// `None`: one of the three, drawn.
    sampling: Option<Sampling>,
    unaligned: bool,
}

pub(super) fn build(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    let quality = arguments.whole_span("QUALITY", 1.0..=100.0)?;
    let sampling = arguments.choice(SAMPLINGS).unwrap_or(Some(Sampling::S420));
    let unaligned = arguments.choice(&[("unaligned", true)]).unwrap_or(false);
    Ok(Box::new(Jpeg { quality, sampling, unaligned }))
}

impl Degradation for Jpeg {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        // Every draw is made whether it is used or not: the stream goes on equally.
        let quality = self.quality.draw_whole(rng) as u8;
        let drawn = [Sampling::S444, Sampling::S422, Sampling::S420][rng.below(3) as usize];
        let sampling = self.sampling.unwrap_or(drawn);
        let (dx, dy) = (rng.below(UNIT as u64) as usize, rng.below(UNIT as u64) as usize);
        let (dx, dy) = if self.unaligned { (dx, dy) } else { (0, 0) };

        let rgb = shifted(&interleaved(x0), (width, height), (dx, dy));
        let size = (width + dx, height + dy);
        let failed = |reason: String| Error::setting("picture for JPEG", format!("{width}×{height}"), reason);
        let bytes = encode_jpeg(&rgb, size, quality, sampling, None).map_err(failed)?;
        let decoded = decode_jpeg(&bytes, usize::MAX).map_err(failed)?;
        let rows = decoded.pixels.chunks_exact(3 * size.0).skip(dy);
        let kept: Vec<u8> = rows.flat_map(|row| &row[3 * dx..]).copied().collect();
        Ok(Degraded { x1: planar(&kept), mask: None })
    }
}

/// The picture with `dx` columns and `dy` rows before it, its own mirrored: the grid of blocks,
/// which starts at the corner, then lies elsewhere.
fn shifted(rgb: &[u8], (width, height): (usize, usize), (dx, dy): (usize, usize)) -> Vec<u8> {
    if dx == 0 && dy == 0 {
        return rgb.to_vec();
    }
    let mirror = |at: usize, shift: usize, len: usize| {
        if at >= shift { at - shift } else { (shift - 1 - at).min(len - 1) }
    };
    let mut out = Vec::with_capacity(3 * (width + dx) * (height + dy));
    for y in 0..height + dy {
        let row = &rgb[3 * width * mirror(y, dy, height)..][..3 * width];
        for x in 0..dx {
            out.extend_from_slice(&row[3 * mirror(x, dx, width)..][..3]);
        }
        out.extend_from_slice(row);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_keeps_the_picture_in_its_corner() {
        let rgb: Vec<u8> = (0..3 * 4 * 2).collect();
        let out = shifted(&rgb, (4, 2), (7, 3));
        assert_eq!(out.len(), 3 * 11 * 5);
        for y in 0..2 {
            assert_eq!(out[3 * (11 * (y + 3) + 7)..][..12], rgb[12 * y..][..12]);
        }
        // Beyond the far edge of a small picture its last pixel stands in.
        assert_eq!(out[..3], rgb[12 + 9..12 + 12]);
    }

    #[test]
    fn quality_and_sampling_matter() {
        let x0: Vec<f32> = (0..3 * 64 * 48).map(|i| ((i * 7919) % 255) as f32 / 127.5 - 1.0).collect();
        let error = |spec: &str| -> f32 {
            let x1 = super::super::parse(spec).unwrap().apply(&x0, 64, 48, &mut Stream::new(3, 3)).unwrap();
            x0.iter().zip(&x1).map(|(a, b)| (a - b) * (a - b)).sum()
        };
        assert!(error("jpeg:10") > 1.05 * error("jpeg:60"));
        assert!(error("jpeg:90:420") > 1.05 * error("jpeg:90:422"));
        assert!(error("jpeg:90:422") > 1.05 * error("jpeg:90:444"));
        assert_ne!(error("jpeg:50:420:unaligned"), error("jpeg:50"));
    }
}
