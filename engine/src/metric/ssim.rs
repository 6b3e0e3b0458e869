// SPDX-License-Identifier: MIT OR Apache-2.0
//! Structural similarity.

use rayon::prelude::*;

use super::{rounded, same_size};
use crate::Result;

/// Half the side of the window, 11 pixels in all.
const RADIUS: usize = 5;
/// Standard deviation of the window's Gaussian weights, in pixels.
const SIGMA: f64 = 1.5;

/// Structural similarity after Wang et al. (IEEE TIP 2004): 11×11 Gaussian window of σ 1.5,
/// K1 = 0.01, K2 = 0.03, L = 255, biased variances, windows inside the picture only; the mean over the
/// three colour channels, on pictures rounded to 8 bits. 1 for equal pictures.
///
/// The same as scikit-image's `structural_similarity(a, b, channel_axis=2, gaussian_weights=True,
/// sigma=1.5, use_sample_covariance=False, data_range=255)`. A picture with a side of less than 11
/// pixels, for which there is no such window, is first extended by its mirror image.
///
/// # Errors
/// [`crate::Error::Shape`] if the pictures are not both `(3, height, width)`.
pub fn ssim(a: &[f32], b: &[f32], width: usize, height: usize) -> Result<f64> {
    same_size("SSIM", a, b, width, height)?;
    let plane = width * height;
    let (wide, high) = (width.max(2 * RADIUS + 1), height.max(2 * RADIUS + 1));
    let extended = |plane: &[f32]| -> Vec<f64> {
        let at = |i: usize| plane[mirrored(i / wide, height) * width + mirrored(i % wide, width)];
        (0..wide * high).map(|i| (f64::from(rounded(at(i))) + 1.0) * 127.5).collect()
    };
    let channels = a.par_chunks_exact(plane).zip(b.par_chunks_exact(plane));
    let each: Vec<f64> = channels.map(|(a, b)| of_channel(&extended(a), &extended(b), wide)).collect();
    Ok(each.iter().sum::<f64>() / 3.0)
}

fn of_channel(a: &[f64], b: &[f64], width: usize) -> f64 {
    const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
    const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);
    let product = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x * y).collect() };
    let (mean_a, mean_b) = (filtered(a, width), filtered(b, width));
    let (aa, bb, ab) =
        (filtered(&product(a, a), width), filtered(&product(b, b), width), filtered(&product(a, b), width));
    let similarity = |i: usize| {
        let (ma, mb) = (mean_a[i], mean_b[i]);
        let (va, vb, cov) = (aa[i] - ma * ma, bb[i] - mb * mb, ab[i] - ma * mb);
        (2.0 * ma * mb + C1) * (2.0 * cov + C2) / ((ma * ma + mb * mb + C1) * (va + vb + C2))
    };
    (0..mean_a.len()).map(similarity).sum::<f64>() / mean_a.len() as f64
}

/// Weighted means under the window, where it lies inside.
fn filtered(plane: &[f64], width: usize) -> Vec<f64> {
    let weights: [f64; 2 * RADIUS + 1] = std::array::from_fn(|i| {
        let x = i as f64 - RADIUS as f64;
        (-0.5 * x * x / (SIGMA * SIGMA)).exp()
    });
    let sum: f64 = weights.iter().sum();
    let narrow = width - 2 * RADIUS;
    let rows = plane.len() / width;
    let mut across = vec![0.0; rows * narrow];
    for (row, line) in plane.chunks_exact(width).zip(across.chunks_exact_mut(narrow)) {
        for (k, weight) in weights.iter().enumerate() {
            line.iter_mut().zip(&row[k..k + narrow]).for_each(|(o, v)| *o += weight / sum * v);
        }
    }
    let mut out = vec![0.0; (rows - 2 * RADIUS) * narrow];
    for (y, line) in out.chunks_exact_mut(narrow).enumerate() {
        for (k, weight) in weights.iter().enumerate() {
            let row = &across[(y + k) * narrow..(y + k + 1) * narrow];
            line.iter_mut().zip(row).for_each(|(o, v)| *o += weight / sum * v);
        }
    }
    out
}

fn mirrored(at: usize, len: usize) -> usize {
    let at = at % (2 * len);
    if at < len { at } else { 2 * len - 1 - at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;

    #[test]
    fn equal_pictures_are_alike_and_others_less() {
        let mut rng = Stream::new(1, 1);
        for (width, height) in [(1, 1), (3, 40), (11, 11), (30, 12)] {
            let a: Vec<f32> = (0..3 * width * height).map(|_| rng.next_f32() * 2.0 - 1.0).collect();
            let b: Vec<f32> = a.iter().map(|v| v * 0.5).collect();
            let (same, other) = (ssim(&a, &a, width, height).unwrap(), ssim(&a, &b, width, height).unwrap());
            assert!((same - 1.0).abs() < 1e-12, "{same}");
            assert!(other < 0.99 && (ssim(&b, &a, width, height).unwrap() - other).abs() < 1e-12);
        }
        assert!(ssim(&[0.0; 12], &[0.0; 12], 3, 1).is_err());
    }
}
