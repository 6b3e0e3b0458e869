// SPDX-License-Identifier: MIT OR Apache-2.0
//! SiLU and its slope, written so that the compiler vectorises them and every lane has the same bits.

use super::lanes::{INTEGER, Lanes};

/// Where [`exp`] is good.
const RANGE: (f32, f32) = (-87.0, 88.0);
/// −ln 2 in two parts (Cody and Waite).
const LN_2: [f32; 2] = [-0.693_359_4, 2.121_944_4e-4];
/// 1/n!, from n = 6 down to 0.
const FACTORIALS: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// `exp(x)` to 2 ulp for x in [-87, 88]; outside it saturates. Range reduction by ln 2, degree-6 polynomial on
/// [-ln2/2, ln2/2].
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(RANGE.0, RANGE.1);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, INTEGER);
    let n = shifted - INTEGER;
    let r = n.mul_add(LN_2[1], n.mul_add(LN_2[0], x));
    let mut p = FACTORIALS[0];
    for f in &FACTORIALS[1..] {
        p = r.mul_add(p, *f);
    }
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// [`silu`] of a register, to the same bits.
///
/// # Safety
/// The caller has the instruction set of `L`.
#[inline(always)]
pub(crate) unsafe fn silu_lanes<L: Lanes>(v: L) -> L {
    // SAFETY: the caller's contract.
    unsafe {
        let x = L::splat(0.0).sub(v).clamp(RANGE.0, RANGE.1);
        let shifted = x.mul_add(L::splat(std::f32::consts::LOG2_E), L::splat(INTEGER));
        let n = shifted.sub(L::splat(INTEGER));
        let r = n.mul_add(L::splat(LN_2[1]), n.mul_add(L::splat(LN_2[0]), x));
        let mut p = L::splat(FACTORIALS[0]);
        for f in &FACTORIALS[1..] {
            p = r.mul_add(p, L::splat(*f));
        }
        v.div(L::splat(1.0).add(p.mul(shifted.exponent())))
    }
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
    fn registers_have_the_bits_of_single_numbers() {
        use crate::ops::lanes::Plain;
        let some =
            [0.0, -0.0, 1.0, -1.0, 1e-30, 88.5, -88.5, 1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let mut values: Vec<f32> = (-40_000..40_000).map(|i| i as f32 * 0.0025).chain(some).collect();
        values.resize(values.len().next_multiple_of(16), 0.5);
        let mut out = vec![0.0; values.len()];
        let all = |out: &mut [f32], n: usize, one: &dyn Fn(*const f32, *mut f32)| {
            for (from, to) in values.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
                one(from.as_ptr(), to.as_mut_ptr());
            }
            for (v, o) in values.iter().zip(&*out) {
                let want = silu(*v);
                assert!(
                    o.to_bits() == want.to_bits() || (o.is_nan() && want.is_nan()),
                    "silu({v}) = {o}, {want}"
                );
            }
        };
        // SAFETY: pointers are good for as many floats as a register has.
        all(&mut out, 8, &|from, to| unsafe { silu_lanes(Plain::load(from)).store(to) });
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{__m256, __m512};
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2(from: *const f32, to: *mut f32) {
                // SAFETY: the caller's contract.
                unsafe { silu_lanes(<__m256 as Lanes>::load(from)).store(to) }
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn avx512(from: *const f32, to: *mut f32) {
                // SAFETY: the caller's contract.
                unsafe { silu_lanes(<__m512 as Lanes>::load(from)).store(to) }
            }
            let isa = crate::ops::Cpu::detect().isa;
            if matches!(isa, crate::ops::Isa::Avx2 | crate::ops::Isa::Avx512) {
                // SAFETY: the processor has it.
                all(&mut out, 8, &|from, to| unsafe { avx2(from, to) });
            }
            if isa == crate::ops::Isa::Avx512 {
                // SAFETY: the processor has it.
                all(&mut out, 16, &|from, to| unsafe { avx512(from, to) });
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_is_rough_is_right_to_twelve_bits() {
        use std::arch::x86_64::__m512;
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn rough(values: &[f32; 16], out: &mut [f32; 16]) {
            // SAFETY: both have sixteen floats; the caller has the instructions.
            unsafe { <__m512 as Lanes>::load(values.as_ptr()).silu_rough().store(out.as_mut_ptr()) }
        }
        if crate::ops::Cpu::detect().isa != crate::ops::Isa::Avx512 {
            println!("skipped: this processor has no AVX-512");
            return;
        }
        let mut out = [0.0; 16];
        for first in (-400_000..400_000).step_by(16) {
            let values: [f32; 16] = std::array::from_fn(|i| (first + i as i32) as f32 * 2e-4);
            // SAFETY: the processor has it.
            unsafe { rough(&values, &mut out) };
            for (v, got) in values.iter().zip(out) {
                let want = f64::from(*v) / (1.0 + (-f64::from(*v)).exp());
                assert!((f64::from(got) - want).abs() <= want.abs() / 4096.0, "silu({v}) = {got}, {want}");
            }
        }
        let far =
            [1e30, -1e30, 3e38, -3e38, 200.0, -200.0, 0.0, -0.0, 1e-20, -1e-20, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        // SAFETY: as above.
        unsafe { rough(&far, &mut out) };
        for (v, got) in far.iter().zip(out) {
            let want = f64::from(*v) / (1.0 + (-f64::from(*v)).exp());
            assert!(
                (f64::from(got) - want).abs() <= want.abs() / 4096.0 + 1e-30,
                "silu({v}) = {got}, {want}"
            );
        }
        let wrong = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        // SAFETY: as above.
        unsafe { rough(&std::array::from_fn(|i| wrong[i % 3]), &mut out) };
        assert!(out.iter().all(|v| !v.is_finite()), "what is no number stays none: {out:?}");
    }

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
        assert!(silu(0.0) == 0.0 && silu(200.0) == 200.0 && silu(-200.0).abs() < 1e-30);
    }
}
