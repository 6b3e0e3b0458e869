// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parts of planes, and how far two differ.

/// Planes with their last row repeated down to `height`.
pub fn extended(planes: &[f32], (width, high): (usize, usize), height: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(3 * width * height);
    for plane in planes.chunks_exact(width * high) {
        out.extend_from_slice(plane);
        (high..height).for_each(|_| out.extend_from_slice(&plane[(high - 1) * width..]));
    }
    out
}

/// A square of planes.
pub fn cut(
    planes: &[f32],
    (width, height): (usize, usize),
    (left, top): (usize, usize),
    side: usize,
) -> Vec<f32> {
    let rows =
        planes.chunks_exact(width * height).flat_map(|plane| plane.chunks_exact(width).skip(top).take(side));
    rows.flat_map(|row| &row[left..left + side]).copied().collect()
}

/// dB, of values with a range of 2.
pub fn psnr(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    10.0 * (4.0 / (squares / a.len() as f64).max(1e-10)).log10()
}
