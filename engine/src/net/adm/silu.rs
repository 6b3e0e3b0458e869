// SPDX-License-Identifier: MIT OR Apache-2.0
//! SiLU on slices, `x·sigmoid(x)`, written so that the compiler turns it into vectors.

/// Beyond this `exp` leaves the range of f32; SiLU has then long reached 0 or x.
const EXP_LIMIT: f32 = 87.0;

/// `exp(x)` to 2 units in the last place for |x| ≤ 87, clamped beyond.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // x = n·ln2 + r with |r| ≤ ln2/2; adding and subtracting 1.5·2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-EXP_LIMIT, EXP_LIMIT);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // Taylor to the seventh power: 5e-9 relative at |r| = 0.35.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// Logistic function `1/(1 + exp(−x))`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Replaces each value by its SiLU.
pub fn silu_in_place(values: &mut [f32]) {
    for v in values {
        *v *= sigmoid(*v);
    }
}

/// Derivative of SiLU.
#[inline(always)]
pub fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_the_whole_range() {
        let mut worst = 0f64;
        for i in -87_000..=87_000 {
            let x = i as f32 / 1000.0;
            let exact = (x as f64).exp();
            worst = worst.max((exp(x) as f64 / exact - 1.0).abs());
        }
        assert!(worst < 2.5e-7, "{worst}");
    }

    #[test]
    fn extremes_stay_finite() {
        let mut v = [0.0, 1e30, -1e30, 200.0, -200.0, 1.0];
        silu_in_place(&mut v);
        assert_eq!(v[..2], [0.0, 1e30]);
        assert!(v[2].abs() < 1e-6 && v[4].abs() < 1e-30 && v[3] == 200.0, "{v:?}");
        assert!((v[5] as f64 - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-7);
    }

    #[test]
    fn slope_is_the_derivative() {
        for i in -80..80 {
            let x = i as f64 / 10.0;
            let f = |x: f64| x / (1.0 + (-x).exp());
            let slope = (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
            assert!((slope - silu_slope(x as f32) as f64).abs() < 1e-6);
        }
    }
}
