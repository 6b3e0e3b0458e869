// SPDX-License-Identifier: MIT OR Apache-2.0
//! What analogue recording and transmission do to a signal: noise that is not white, colour that smears and
//! lags, echoes of edges, lines that do not start where they should.

use super::{Arguments, Degradation, Degraded, Span, as_file, check};
use crate::{Result, noise::Stream};

/// BT.601: weights of red and blue in luma.
const KR: f32 = 0.299;
const KB: f32 = 0.114;
/// Of the row before, how much of a line's displacement stays.
const JITTER_KEPT: f32 = 0.7;

struct Noise {
    /// Standard deviations in 8-bit steps.
    luma: Span,
    chroma: Span,
    /// Standard deviation of the blur that correlates neighbours, in pixels across; half as much down.
    size: Span,
}

struct Bleed {
    width: Span,
    shift: Span,
}

struct Ringing {
    strength: Span,
    period: Span,
}

struct Jitter(Span);

pub(super) fn build_noise(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    let luma = arguments.span("LUMA", 0.0..=128.0)?;
    let chroma = arguments.span_or("CHROMA", 0.0..=128.0, Span { low: 0.0, high: 0.0 })?;
    let size = arguments.span_or("SIZE", 0.0..=8.0, Span { low: 0.0, high: 0.0 })?;
    Ok(Box::new(Noise { luma, chroma, size }))
}

pub(super) fn build_bleed(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    let width = arguments.span("WIDTH", 0.0..=16.0)?;
    let shift = arguments.span_or("SHIFT", 0.0..=8.0, Span { low: 0.0, high: 0.0 })?;
    Ok(Box::new(Bleed { width, shift }))
}

pub(super) fn build_ringing(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    let strength = arguments.span("STRENGTH", 0.0..=1.0)?;
    let period = arguments.span_or("PERIOD", 2.0..=16.0, Span { low: 3.0, high: 6.0 })?;
    Ok(Box::new(Ringing { strength, period }))
}

pub(super) fn build_jitter(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(Jitter(arguments.span("PIXELS", 0.0..=8.0)?)))
}

impl Degradation for Noise {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let (luma, chroma, size) = (self.luma.draw(rng), self.chroma.draw(rng), self.size.draw(rng));
        let mut ycc = to_ycc(x0);
        // Colour is stored more coarsely than brightness, so its noise is wider.
        let wide = [(luma, size), (chroma, 2.0 * size), (chroma, 2.0 * size)];
        for (plane, (strength, size)) in ycc.chunks_exact_mut(width * height).zip(wide) {
            let field = correlated(width, height, size, rng);
            plane.iter_mut().zip(&field).for_each(|(v, n)| *v += strength / 127.5 * n);
        }
        Ok(finished(to_rgb(&ycc)))
    }
}

impl Degradation for Bleed {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let (smear, shift) = (self.width.draw(rng), self.shift.draw(rng));
        let shift = if rng.below(2) == 0 { shift } else { -shift };
        let mut ycc = to_ycc(x0);
        for row in ycc[width * height..].chunks_exact_mut(width) {
            let moved: Vec<f32> = (0..width).map(|x| between(row, x as f32 - shift)).collect();
            row.copy_from_slice(&blurred(&moved, &gaussian(smear)));
        }
        Ok(finished(to_rgb(&ycc)))
    }
}

impl Degradation for Ringing {
    /// Echoes of edges: `x_i + strength · Σ_k e^(−k/p) cos(2πk/p) (x_{i−k} − x_i)`, normalised so that the
    /// absolute weights sum to `strength`; behind edges alone, or on both sides.
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let (strength, period) = (self.strength.draw(rng), self.period.draw(rng));
        let both = rng.below(2) == 0;
        let echo = |k: usize| {
            let turns = k as f32 / period;
            (-turns).exp() * (std::f32::consts::TAU * turns).cos()
        };
        let echoes: Vec<f32> = (1..=(3.0 * period) as usize).map(echo).collect();
        let sum: f32 = echoes.iter().map(|e| e.abs()).sum::<f32>() * if both { 2.0 } else { 1.0 };
        let mut x1 = x0.to_vec();
        for (row, out) in x0.chunks_exact(width).zip(x1.chunks_exact_mut(width)) {
            for (x, value) in out.iter_mut().enumerate() {
                let mut change = 0.0;
                for (k, echo) in echoes.iter().enumerate() {
                    change += echo * (row[x.saturating_sub(k + 1)] - row[x]);
                    if both {
                        change += echo * (row[(x + k + 1).min(width - 1)] - row[x]);
                    }
                }
                // An echo that follows with its sign would blur; it swings to the other side.
                *value -= strength / sum * change;
            }
        }
        Ok(finished(x1))
    }
}

impl Degradation for Jitter {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let amount = self.0.draw(rng);
        let fresh = (1.0 - JITTER_KEPT * JITTER_KEPT).sqrt();
        let mut at = rng.next_normal();
        let mut shifts = Vec::with_capacity(height);
        for _ in 0..height {
            shifts.push(amount * at);
            at = JITTER_KEPT * at + fresh * rng.next_normal();
        }
        let rows = x0.chunks_exact(width).enumerate();
        let moved = rows.flat_map(|(i, row)| {
            let shift = shifts[i % height];
            (0..width).map(move |x| between(row, x as f32 - shift))
        });
        Ok(finished(moved.collect()))
    }
}

fn finished(mut x1: Vec<f32>) -> Degraded {
    as_file(&mut x1);
    Degraded { x1, mask: None }
}

/// RGB planes to Y, Cb, Cr, all in [-1, 1].
fn to_ycc(rgb: &[f32]) -> Vec<f32> {
    let plane = rgb.len() / 3;
    let mut out = vec![0.0; rgb.len()];
    for i in 0..plane {
        let (r, g, b) = (rgb[i], rgb[plane + i], rgb[2 * plane + i]);
        let y = KR * r + (1.0 - KR - KB) * g + KB * b;
        (out[i], out[plane + i], out[2 * plane + i]) =
            (y, (b - y) / (2.0 - 2.0 * KB), (r - y) / (2.0 - 2.0 * KR));
    }
    out
}

fn to_rgb(ycc: &[f32]) -> Vec<f32> {
    let plane = ycc.len() / 3;
    let mut out = vec![0.0; ycc.len()];
    for i in 0..plane {
        let (y, cb, cr) = (ycc[i], ycc[plane + i], ycc[2 * plane + i]);
        let (r, b) = (y + (2.0 - 2.0 * KR) * cr, y + (2.0 - 2.0 * KB) * cb);
        (out[i], out[plane + i], out[2 * plane + i]) = (r, (y - KR * r - KB * b) / (1.0 - KR - KB), b);
    }
    out
}

/// The value of a row between its pixels; its ends go on.
fn between(row: &[f32], at: f32) -> f32 {
    let at = at.clamp(0.0, (row.len() - 1) as f32);
    let first = at as usize;
    let (a, b) = (row[first], row[(first + 1).min(row.len() - 1)]);
    a + (at - first as f32) * (b - a)
}

/// Weights of sum 1 around the middle.
fn gaussian(sigma: f32) -> Vec<f32> {
    let reach = (3.0 * sigma).ceil() as isize;
    let weight = |i: isize| if sigma > 0.0 { (-0.5 * (i as f32 / sigma).powi(2)).exp() } else { 1.0 };
    let weights: Vec<f32> = (-reach..=reach).map(weight).collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

fn blurred(row: &[f32], weights: &[f32]) -> Vec<f32> {
    let reach = weights.len() / 2;
    let at = |x: usize, k: usize| row[(x + k).saturating_sub(reach).min(row.len() - 1)];
    (0..row.len()).map(|x| weights.iter().enumerate().map(|(k, w)| w * at(x, k)).sum()).collect()
}

/// Unit normals whose neighbours are alike over about `size` pixels across and half as many down.
fn correlated(width: usize, height: usize, size: f32, rng: &mut Stream) -> Vec<f32> {
    let (across, down) = (gaussian(size), gaussian(size / 2.0));
    // The field is larger by the reach of the blur, so that its borders are as the rest.
    let (left, top) = (across.len() / 2, down.len() / 2);
    let (wide, high) = (width + 2 * left, height + 2 * top);
    let white: Vec<f32> = (0..wide * high).map(|_| rng.next_normal()).collect();
    let square = |weights: &[f32]| weights.iter().map(|w| w * w).sum::<f32>().sqrt();
    let gain = 1.0 / (square(&across) * square(&down));
    let rows: Vec<f32> = white
        .chunks_exact(wide)
        .flat_map(|row| {
            let sums = (0..width).map(|x| across.iter().zip(&row[x..]).map(|(w, v)| w * v).sum::<f32>());
            sums.collect::<Vec<_>>()
        })
        .collect();
    let value =
        |x: usize, y: usize| down.iter().enumerate().map(|(k, w)| w * rows[(y + k) * width + x]).sum::<f32>();
    (0..width * height).map(|i| gain * value(i % width, i / width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (160, 120);

    fn spoiled(spec: &str, x0: &[f32], seed: u64) -> Vec<f32> {
        super::super::parse(spec).unwrap().apply(x0, SIZE.0, SIZE.1, &mut Stream::new(seed, 0)).unwrap()
    }

    fn grey() -> Vec<f32> {
        vec![crate::picture::from_u8(128); 3 * SIZE.0 * SIZE.1]
    }

    /// Left black, right white, upper half red instead of white.
    fn edge() -> Vec<f32> {
        let plane = SIZE.0 * SIZE.1;
        let lit = |i: usize| i % SIZE.0 >= SIZE.0 / 2 && (i / plane == 0 || i % plane / SIZE.0 >= SIZE.1 / 2);
        (0..3 * plane).map(|i| if lit(i) { 1.0 } else { -1.0 }).collect()
    }

    #[test]
    fn noise_has_the_strengths_and_the_width_that_were_asked() {
        for (spec, luma, chroma) in
            [("noise:8", 8.0, 0.0), ("noise:2:10", 2.0, 10.0), ("noise:6:6:1.5", 6.0, 6.0)]
        {
            let ycc = to_ycc(&spoiled(spec, &grey(), 1));
            let plane = SIZE.0 * SIZE.1;
            for (c, asked) in [luma, chroma, chroma].into_iter().enumerate() {
                let values = &ycc[c * plane..][..plane];
                let mean = values.iter().sum::<f32>() / plane as f32;
                let std =
                    (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / plane as f32).sqrt() * 127.5;
                assert!((std - asked).abs() < 0.15 * asked + 0.4, "{spec} plane {c}: {std}");
            }
        }
        let alike = |spec: &str| {
            let x1 = to_ycc(&spoiled(spec, &grey(), 2));
            let row = &x1[..SIZE.0 * SIZE.1];
            let products: f32 = row.windows(2).map(|w| w[0] * w[1]).sum();
            products / row.iter().map(|v| v * v).sum::<f32>()
        };
        assert!(alike("noise:10").abs() < 0.05);
        assert!(alike("noise:10:0:1.5") > 0.7);
    }

    #[test]
    fn bleeding_colour_leaves_brightness() {
        let x0 = edge();
        let x1 = spoiled("chroma-bleed:4:3", &x0, 3);
        let (before, after) = (to_ycc(&x0), to_ycc(&x1));
        let plane = SIZE.0 * SIZE.1;
        // Clipping moves brightness beside the edge of red; far from it and in the white half it stays.
        let row = (SIZE.1 - 10) * SIZE.0;
        assert!((0..SIZE.0).all(|x| (before[row + x] - after[row + x]).abs() < 0.02));
        let changed = |c: usize| {
            (0..SIZE.0).filter(|x| (before[c * plane + x] - after[c * plane + x]).abs() > 0.05).count()
        };
        assert!(changed(2) > 8, "{}", changed(2));
        assert_eq!(spoiled("chroma-bleed:0", &x0, 3), x0);
    }

    #[test]
    fn ringing_swings_beside_edges_and_nowhere_else() {
        let x0: Vec<f32> =
            edge().iter().map(|v| crate::picture::from_u8(crate::picture::to_u8(v * 0.5))).collect();
        let x1 = spoiled("ringing:0.4:4", &x0, 4);
        let row = &x1[(SIZE.1 - 5) * SIZE.0..][..SIZE.0];
        assert!((row[10] - x0[0]).abs() < 1e-6, "far from the edge nothing changes");
        let white = x0[(SIZE.1 - 5) * SIZE.0 + SIZE.0 - 1];
        assert!(row[SIZE.0 / 2..].iter().any(|v| *v > white + 0.02), "it swings over");
        assert_eq!(spoiled("ringing:0", &x0, 4), x0);
    }

    #[test]
    fn jitter_moves_rows_and_all_colours_alike() {
        let x0: Vec<f32> = edge();
        let x1 = spoiled("line-jitter:2", &x0, 5);
        let plane = SIZE.0 * SIZE.1;
        let places: std::collections::BTreeSet<usize> = (SIZE.1 / 2..SIZE.1)
            .map(|y| (0..SIZE.0).position(|x| x1[y * SIZE.0 + x] > 0.0).unwrap())
            .collect();
        assert!(places.len() > 3, "{places:?}");
        let low = SIZE.1 / 2 * SIZE.0..plane;
        assert_eq!(x1[low.clone()], x1[plane + low.start..plane + low.end]);
        assert_eq!(spoiled("line-jitter:0", &x0, 5), x0);
    }
}
