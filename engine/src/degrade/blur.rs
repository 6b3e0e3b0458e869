// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blur as cameras and resizing make it: Gaussian, out of focus, motion. The picture goes on
//! mirrored beyond its edges; the result is rounded as a file would hold it.

use super::{Arguments, Degradation, Degraded, Span, as_file, check};
use crate::{Result, noise::Stream};

/// Largest extent of a kernel, in pixels.
const MAX_EXTENT: f32 = 64.0;

/// One kernel weight at its place.
struct Tap {
    dx: isize,
    dy: isize,
    weight: f32,
}

struct Gauss(Span);

struct Defocus(Span);

struct Motion {
    length: Span,
    degrees: Span,
}

pub(super) fn build_gauss(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(Gauss(arguments.span("SIGMA", 0.0..=MAX_EXTENT / 4.0)?)))
}

pub(super) fn build_defocus(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(Defocus(arguments.span("RADIUS", 0.0..=MAX_EXTENT / 2.0)?)))
}

pub(super) fn build_motion(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    let length = arguments.span("LENGTH", 1.0..=MAX_EXTENT)?;
    let degrees = arguments.span_or("DEGREES", 0.0..=180.0, Span { low: 0.0, high: 180.0 })?;
    Ok(Box::new(Motion { length, degrees }))
}

impl Degradation for Gauss {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        Ok(finished(gaussian(x0, width, height, f64::from(self.0.draw(rng)))))
    }
}

impl Degradation for Defocus {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let radius = f64::from(self.0.draw(rng));
        let reach = (radius + 0.5).ceil() as isize;
        let square = (-reach..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dx, dy)));
        // The edge of the disc fades over one pixel.
        let cover = |dx: isize, dy: isize| (radius + 0.5 - (dx as f64).hypot(dy as f64)).clamp(0.0, 1.0);
        let taps = normalised(square.map(|(dx, dy)| (dx, dy, cover(dx, dy))));
        Ok(finished(convolved(x0, width, height, &taps)))
    }
}

impl Degradation for Motion {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let length = f64::from(self.length.draw(rng));
        let (sin, cos) = f64::from(self.degrees.draw(rng)).to_radians().sin_cos();
        // Points a pixel apart along the line, each shared among the four pixels around it.
        let points = length.ceil().max(1.0);
        let gap = if points > 1.0 { (length - 1.0) / (points - 1.0) } else { 0.0 };
        let mut shares = Vec::new();
        for i in 0..points as usize {
            let along = i as f64 * gap - (length - 1.0) / 2.0;
            let (x, y) = (along * cos, -along * sin);
            let (left, top) = (x.floor(), y.floor());
            for (dx, wx) in [(left, 1.0 - (x - left)), (left + 1.0, x - left)] {
                for (dy, wy) in [(top, 1.0 - (y - top)), (top + 1.0, y - top)] {
                    shares.push((dx as isize, dy as isize, wx * wy));
                }
            }
        }
        Ok(finished(convolved(x0, width, height, &normalised(shares.into_iter()))))
    }
}

/// A Gaussian of `sigma` pixels over each plane of `(3, height, width)`.
pub(crate) fn gaussian(planes: &[f32], width: usize, height: usize, sigma: f64) -> Vec<f32> {
    let radius = (4.0 * sigma).ceil() as isize;
    let weight = |i: isize| if sigma > 0.0 { (-0.5 * (i as f64 / sigma).powi(2)).exp() } else { 1.0 };
    let line: Vec<(isize, f64)> = (-radius..=radius).map(|i| (i, weight(i))).collect();
    let across = normalised(line.iter().map(|&(i, w)| (i, 0, w)));
    let down = normalised(line.iter().map(|&(i, w)| (0, i, w)));
    let across = convolved(planes, width, height, &across);
    convolved(&across, width, height, &down)
}

fn finished(mut x1: Vec<f32>) -> Degraded {
    as_file(&mut x1);
    Degraded { x1, mask: None }
}

/// Weights of sum 1 without those too small to matter.
fn normalised(weights: impl Iterator<Item = (isize, isize, f64)>) -> Vec<Tap> {
    let weights: Vec<_> = weights.filter(|(_, _, w)| *w > 1e-6).collect();
    let sum: f64 = weights.iter().map(|(_, _, w)| w).sum();
    weights.into_iter().map(|(dx, dy, w)| Tap { dx, dy, weight: (w / sum) as f32 }).collect()
}

/// Convolves each plane of `(3, height, width)`.
fn convolved(planes: &[f32], width: usize, height: usize, taps: &[Tap]) -> Vec<f32> {
    let mirrored = |at: isize, len: usize| {
        let at = at.rem_euclid(2 * len as isize) as usize;
        if at < len { at } else { 2 * len - 1 - at }
    };
    let margin = taps.iter().map(|t| t.dx.unsigned_abs()).max().unwrap_or(0);
    let columns: Vec<usize> =
        (0..width + 2 * margin).map(|x| mirrored(x as isize - margin as isize, width)).collect();
    let wide = columns.len();
    let mut out = vec![0.0; planes.len()];
    for (plane, out) in planes.chunks_exact(width * height).zip(out.chunks_exact_mut(width * height)) {
        let extended: Vec<f32> =
            plane.chunks_exact(width).flat_map(|row| columns.iter().map(|&x| row[x])).collect();
        for (y, line) in out.chunks_exact_mut(width).enumerate() {
            for tap in taps {
                let row = mirrored(y as isize + tap.dy, height) * wide;
                let from = row + margin.wrapping_add_signed(tap.dx);
                line.iter_mut().zip(&extended[from..from + width]).for_each(|(o, v)| *o += tap.weight * v);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a white pixel in the middle of black becomes, as weights that sum to about 1.
    fn spread(spec: &str) -> Vec<f32> {
        let mut x0 = vec![-1.0; 3 * 31 * 31];
        x0[15 * 31 + 15] = 1.0;
        let x1 = super::super::parse(spec).unwrap().apply(&x0, 31, 31, &mut Stream::new(0, 0)).unwrap();
        x1[..31 * 31].iter().map(|v| (v + 1.0) / 2.0).collect()
    }

    #[test]
    fn a_level_motion_of_nine_is_nine_equal_pixels() {
        let spread = spread("blur-motion:9:0");
        let lit: Vec<usize> = (0..31 * 31).filter(|&i| spread[i] > 0.0).collect();
        assert_eq!(lit, (15 * 31 + 11..=15 * 31 + 19).collect::<Vec<_>>());
        assert!(lit.iter().all(|&i| (spread[i] - 1.0 / 9.0).abs() < 0.003));
    }

    #[test]
    fn widths_are_as_asked() {
        // Variance of the spread in x: σ² for the Gaussian, r²/4 for a disc.
        for (spec, variance) in [("blur-gauss:1.6", 2.56), ("blur-defocus:4", 4.0), ("blur-gauss:0", 0.0)] {
            let spread = spread(spec);
            let sum: f32 = spread.iter().sum();
            let second = |i: usize| spread[i] * (i as f32 % 31.0 - 15.0).powi(2);
            let found = (0..31 * 31).map(second).sum::<f32>() / sum;
            assert!((found - variance).abs() < 0.1 * variance + 0.01, "{spec}: {found}");
        }
    }

    #[test]
    fn a_constant_stays() {
        for spec in ["blur-gauss:3", "blur-defocus:3", "blur-motion:12:45", "blur-motion:1"] {
            let x0 = vec![crate::picture::from_u8(77); 3 * 5 * 3];
            let x1 = super::super::parse(spec).unwrap().apply(&x0, 5, 3, &mut Stream::new(0, 0)).unwrap();
            assert_eq!(x1, x0, "{spec}");
        }
    }
}
