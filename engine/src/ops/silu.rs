// SPDX-License-Identifier: MIT OR Apache-2.0
//! SiLU and its slope, written so that the compiler vectorises them and every lane has the same bits.

/// `exp(x)` to 2 ulp for x in [-87, 88]; outside it saturates. Range reduction by ln 2 in two parts
/// (Cody and Waite), degree-6 polynomial on [-ln2/2, ln2/2].
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to an integer
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.0 / 720.0;
    p = r.mul_add(p, 1.0 / 120.0);
    p = r.mul_add(p, 1.0 / 24.0);
    p = r.mul_add(p, 1.0 / 6.0);
    p = r.mul_add(p, 0.5);
    p = r.mul_add(p, 1.0);
    p = r.mul_add(p, 1.0);
    // The low bits of `shifted` are n in two's complement.
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    p * scale
}

/// `x·sigmoid(x)`.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `silu'(x) = s·(1 + x·(1 − s))` with `s = sigmoid(x)`.
#[inline(always)]
pub(crate) fn silu_slope(x: f32) -> f32 {
    let s = 1.0 / (1.0 + exp(-x));
    s * x.mul_add(1.0 - s, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_right_to_two_ulp_over_its_range() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}): relative error {error:e}");
        }
    }

    #[test]
    fn silu_and_slope_agree_with_f64() {
        for i in -2000..=2000 {
            let x = i as f32 * 0.01;
            let s = 1.0 / (1.0 + (-f64::from(x)).exp());
            let (y, d) = (f64::from(x) * s, s * (1.0 + f64::from(x) * (1.0 - s)));
            assert!((f64::from(silu(x)) - y).abs() < 1e-6 * (1.0 + y.abs()));
            assert!((f64::from(silu_slope(x)) - d).abs() < 1e-6);
        }
        assert!(silu(-1e30).abs() < 1e-6 && silu(1e30) == 1e30);
    }
}
