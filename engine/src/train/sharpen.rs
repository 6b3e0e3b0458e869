// SPDX-License-Identifier: MIT OR Apache-2.0
//! A clean picture a little sharper than it is, to train towards: what has lost detail is judged (by VMAF, and by
//! eyes) by its contrast more than by its squared error, and the mean of all answers is softer than each of them.

use super::example::mean_square;
use crate::degrade::gaussian;

/// Width of the unsharp mask, in pixels.
const SIGMA: f64 = 1.0;
/// PSNR in dB of a degraded picture to which half the amount is added.
const HALF: f32 = 38.0;

/// `x0 + amount·s·(x0 − G∗x0)`, G a Gaussian of one pixel (an unsharp mask), `s = m/(m + m_half)` with m the mean square
/// of `x1 − x0` and `m_half` that at a PSNR of 38 dB: a picture that has lost nothing stays as it is.
///
/// - `x0`, `x1`: planes `(3, height, width)`, range [-1, 1].
pub fn sharpened(x0: &[f32], x1: &[f32], (height, width): (usize, usize), amount: f32) -> Vec<f32> {
    let square = x0.iter().zip(x1).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / x0.len() as f32;
    let amount = amount * square / (square + mean_square(HALF));
    if amount == 0.0 {
        return x0.to_vec();
    }
    let soft = gaussian(x0, width, height, SIGMA);
    x0.iter().zip(&soft).map(|(v, soft)| v + amount * (v - soft)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;

    #[test]
    fn detail_grows_by_the_amount_where_much_was_lost_and_not_where_nothing_was() {
        let (h, w) = (24, 40);
        let mut rng = Stream::new(5, 0);
        // Stripes two pixels wide, whose mean over a Gaussian of one pixel is known: e^(−π²/8) of their amplitude.
        let x0: Vec<f32> = (0..3 * h * w).map(|i| [0.1, 0.0, -0.1, 0.0][i % w % 4]).collect();
        let noisy = |amount: f32, rng: &mut Stream| -> Vec<f32> {
            x0.iter().map(|v| v + amount * rng.next_normal()).collect()
        };
        let kept = (-std::f32::consts::PI.powi(2) / 8.0).exp();
        for (noise, share) in [(0.0, 0.0), (1.0, 1.0)] {
            let out = sharpened(&x0, &noisy(noise, &mut rng), (h, w), 0.5);
            let at = (h / 2) * w + w / 2;
            let want = 0.1 * (1.0 + 0.5 * share * (1.0 - kept));
            assert!((out[at] - want).abs() < 1e-3, "{noise}: {} for {want}", out[at]);
        }
        let little = sharpened(&x0, &noisy(0.002, &mut rng), (h, w), 0.5);
        assert!(little.iter().zip(&x0).all(|(a, b)| (a - b).abs() < 1e-3));
    }
}
