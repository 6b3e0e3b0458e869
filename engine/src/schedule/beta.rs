// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ramp of β.

/// Lower end of the ramp. It does not scale with the interval.
pub(crate) const BETA_START: f64 = 1e-4;

/// The first half of a quadratic ramp of `interval` points, then its mirror image: `2·⌊N/2⌋` values.
///
/// `h_i = (a + s·i)²` with `a = √1e-4`, `s = (√(beta_max/N) − a)/(N − 1)` (SPEC section 2).
pub(super) fn mirrored_ramp(interval: usize, beta_max: f64) -> Vec<f64> {
    let start = BETA_START.sqrt();
    let end = (beta_max / interval as f64).sqrt();
    let step = (end - start) / (interval - 1) as f64;
    let half = (0..interval / 2).map(|i| {
        let root = step.mul_add(i as f64, start);
        root * root
    });
    half.clone().chain(half.rev()).collect()
}
