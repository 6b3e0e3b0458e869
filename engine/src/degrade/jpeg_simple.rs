// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reference's simplified JPEG: quantised block transform without rounding of pixels (SPEC 11.1).

use std::{f64::consts::PI, sync::LazyLock};

use super::{Arguments, Degradation, Degraded, Span, check, cropped, padded};
use crate::{Result, noise::Stream};

/// Quantisers of quality 50, row by row: those for luma and for chroma in ITU-T T.81, Annex K.
const BASE: [[u16; 64]; 2] = [
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14,
        17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49,
        64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ],
    [
        17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47,
        66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    ],
];

/// `DCT[u][x]`, the orthonormal 8-point DCT-II.
static DCT: LazyLock<[[f64; 8]; 8]> = LazyLock::new(|| {
    let entry = |u: usize, x: usize| {
        let scale = if u == 0 { 0.125f64.sqrt() } else { 0.5 };
        scale * ((2 * x + 1) as f64 * u as f64 * PI / 16.0).cos()
    };
    std::array::from_fn(|u| std::array::from_fn(|x| entry(u, x)))
});

/// The simplified codec at a quality or a range of them.
pub struct SimpleJpeg {
    quality: Span,
}

/// Quantised coefficients, blocks kept in place.
#[derive(Debug, Clone, PartialEq)]
pub struct Coefficients {
    /// `(high, wide)`: sides rounded up to multiples of 16.
    pub luma: Vec<f64>,
    /// Cb then Cr, each `(high/2, wide/2)`.
    pub chroma: [Vec<f64>; 2],
    /// Width of the luma plane.
    pub wide: usize,
}

/// The quantisers for luma and chroma at `quality`, row by row, 1 to 255.
pub fn quantisers(quality: u32) -> [[f64; 64]; 2] {
    let scale = if quality < 50 { 5000.0 / f64::from(quality) } else { 200.0 - 2.0 * f64::from(quality) };
    BASE.map(|table| table.map(|base| ((scale * f64::from(base) + 50.0) / 100.0).floor().clamp(1.0, 255.0)))
}

pub(super) fn build(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(SimpleJpeg { quality: arguments.whole_span("QUALITY", 1.0..=100.0)? }))
}

impl SimpleJpeg {
    /// The codec at one quality, 1 to 100.
    pub fn at(quality: u8) -> Self {
        let quality = f32::from(quality.clamp(1, 100));
        Self { quality: Span { low: quality, high: quality } }
    }

    /// Steps 1 to 5 of SPEC 11.1, up to the rounding. `x0`: `(3, height, width)`.
    pub fn encode(x0: &[f32], width: usize, height: usize, quality: u32) -> Coefficients {
        let [q_luma, q_chroma] = quantisers(quality);
        let plane = width * height;
        let channel: Vec<_> =
            x0.chunks_exact(plane).map(|channel| padded(channel, width, height, 16)).collect();
        let (wide, high) = (channel[0].1, channel[0].2);
        let mix = |weights: [f64; 3], offset: f64, at: usize| {
            let byte = |c: usize| (f64::from(channel[c].0[at]) + 1.0) / 2.0 * 255.0;
            weights[0] * byte(0) + weights[1] * byte(1) + weights[2] * byte(2) + offset
        };
        let luma = (0..wide * high).map(|at| mix([0.299, 0.587, 0.114], 0.0, at)).collect();
        let decimated = |weights: [f64; 3]| {
            let rows = (0..high).step_by(2);
            rows.flat_map(|y| (0..wide).step_by(2).map(move |x| y * wide + x))
                .map(|at| mix(weights, 128.0, at))
                .collect()
        };
        let (cb, cr) = (decimated([-0.1687, -0.3313, 0.5]), decimated([0.5, -0.4187, -0.0813]));
        Coefficients {
            luma: quantised(luma, wide, &q_luma),
            chroma: [quantised(cb, wide / 2, &q_chroma), quantised(cr, wide / 2, &q_chroma)],
            wide,
        }
    }

    /// The rest of step 5 to step 8, cropped to `width`×`height`.
    pub fn decode(coefficients: &Coefficients, width: usize, height: usize, quality: u32) -> Vec<f32> {
        let [q_luma, q_chroma] = quantisers(quality);
        let wide = coefficients.wide;
        let luma = restored(&coefficients.luma, wide, &q_luma);
        let [cb, cr] = [0, 1].map(|c| restored(&coefficients.chroma[c], wide / 2, &q_chroma));
        let mut x1 = Vec::with_capacity(3 * width * height);
        for [from_cb, from_cr] in
            [[-3.68199903e-5, 1.40198758], [-0.344113281, -0.714103821], [1.77197812, -1.34583413e-4]]
        {
            let value = |at: usize| {
                let half = at / wide / 2 * (wide / 2) + at % wide / 2;
                let byte = luma[at] + from_cb * (cb[half] - 128.0) + from_cr * (cr[half] - 128.0);
                (byte / 255.0 * 2.0 - 1.0) as f32
            };
            let plane: Vec<f32> = (0..luma.len()).map(value).collect();
            x1.extend(cropped(&plane, wide, width, height));
        }
        x1
    }
}

impl Degradation for SimpleJpeg {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let quality = self.quality.draw_whole(rng);
        let coefficients = Self::encode(x0, width, height, quality);
        Ok(Degraded { x1: Self::decode(&coefficients, width, height, quality), mask: None })
    }
}

fn quantised(mut plane: Vec<f64>, wide: usize, table: &[f64; 64]) -> Vec<f64> {
    each_block(&mut plane, wide, |block| {
        let centred: [f64; 64] = std::array::from_fn(|i| block[i] - 128.0);
        // D·X·Dᵀ
        let spectrum = sandwich(&centred, |u, x| DCT[u][x]);
        std::array::from_fn(|i| (spectrum[i] / table[i]).round_ties_even())
    });
    plane
}

fn restored(coefficients: &[f64], wide: usize, table: &[f64; 64]) -> Vec<f64> {
    let mut plane = coefficients.to_vec();
    each_block(&mut plane, wide, |block| {
        let spectrum: [f64; 64] = std::array::from_fn(|i| block[i] * table[i]);
        // Dᵀ·F·D
        let pixels = sandwich(&spectrum, |x, u| DCT[u][x]);
        std::array::from_fn(|i| pixels[i] + 128.0)
    });
    plane
}

/// `M·B·Mᵀ` of 8×8 matrices.
fn sandwich(block: &[f64; 64], m: impl Fn(usize, usize) -> f64) -> [f64; 64] {
    let mut half = [0.0; 64];
    for (i, v) in half.iter_mut().enumerate() {
        *v = (0..8).map(|k| m(i / 8, k) * block[8 * k + i % 8]).sum();
    }
    std::array::from_fn(|i| (0..8).map(|k| half[i / 8 * 8 + k] * m(i % 8, k)).sum())
}

fn each_block(plane: &mut [f64], wide: usize, work: impl Fn(&[f64; 64]) -> [f64; 64]) {
    for band in plane.chunks_exact_mut(8 * wide) {
        for x in (0..wide).step_by(8) {
            let block: [f64; 64] = std::array::from_fn(|i| band[i / 8 * wide + x + i % 8]);
            for (i, v) in work(&block).into_iter().enumerate() {
                band[i / 8 * wide + x + i % 8] = v;
            }
        }
    }
}
