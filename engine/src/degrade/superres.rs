// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reference's super-resolution tasks: shrunk by 4, then each pixel repeated (SPEC 11.2).

use super::{Arguments, Degradation, Degraded, check, cropped, padded};
use crate::{Result, noise::Stream};

/// The factor of both tasks.
const FACTOR: usize = 4;

/// Taps of the bicubic filter: Keys' kernel, a = −0.5, at distances `(i − 7.5)/4`, sum 1.
pub const BICUBIC: [f64; 16] = [
    -0.001708984375,
    -0.010986328125,
    -0.018310546875,
    -0.011962890625,
    0.022705078125,
    0.097412109375,
    0.181884765625,
    0.240966796875,
    0.240966796875,
    0.181884765625,
    0.097412109375,
    0.022705078125,
    -0.011962890625,
    -0.018310546875,
    -0.010986328125,
    -0.001708984375,
];

struct Shrunk(fn(&[f32], usize, usize) -> Vec<f32>);

pub(super) fn build_pool(_: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(Shrunk(pool_low)))
}

pub(super) fn build_bicubic(_: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(Shrunk(bicubic_low)))
}

impl Degradation for Shrunk {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, _: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let mut x1 = Vec::with_capacity(x0.len());
        for plane in x0.chunks_exact(width * height) {
            let (plane, wide, high) = padded(plane, width, height, FACTOR);
            let low = (self.0)(&plane, wide, high);
            x1.extend(cropped(&repeat_4x(&low, wide / FACTOR), wide, width, height));
        }
        Ok(Degraded { x1, mask: None })
    }
}

/// Means of 4×4 pixels of one plane whose sides are multiples of 4.
pub fn pool_low(plane: &[f32], width: usize, height: usize) -> Vec<f32> {
    let block = |y: usize, x: usize| {
        let rows = (0..FACTOR).flat_map(|dy| &plane[(FACTOR * y + dy) * width + FACTOR * x..][..FACTOR]);
        (rows.map(|&v| f64::from(v)).sum::<f64>() / 16.0) as f32
    };
    (0..height / FACTOR).flat_map(|y| (0..width / FACTOR).map(move |x| block(y, x))).collect()
}

/// `A·X·Aᵀ` with the bicubic matrix of SPEC 11.2, of one plane whose sides are multiples of 4.
pub fn bicubic_low(plane: &[f32], width: usize, height: usize) -> Vec<f32> {
    let mirrored = |at: isize, len: usize| {
        let at = at.rem_euclid(2 * len as isize) as usize;
        if at < len { at } else { 2 * len - 1 - at }
    };
    let taps = |r: usize, len: usize| {
        BICUBIC.iter().enumerate().map(move |(i, w)| (mirrored((4 * r + i) as isize - 6, len), w))
    };
    let mut columns = Vec::with_capacity(height * width / FACTOR);
    for row in plane.chunks_exact(width) {
        columns.extend(
            (0..width / FACTOR)
                .map(|x| taps(x, width).map(|(from, w)| w * f64::from(row[from])).sum::<f64>()),
        );
    }
    let narrow = width / FACTOR;
    let low =
        |y: usize, x: usize| taps(y, height).map(|(from, w)| w * columns[from * narrow + x]).sum::<f64>();
    (0..height / FACTOR).flat_map(|y| (0..narrow).map(move |x| low(y, x) as f32)).collect()
}

/// Repeats each pixel of a plane of rows of `width` 4 times in both directions.
pub fn repeat_4x(plane: &[f32], width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(16 * plane.len());
    for row in plane.chunks_exact(width) {
        for _ in 0..FACTOR {
            out.extend(row.iter().flat_map(|&v| [v; FACTOR]));
        }
    }
    out
}
