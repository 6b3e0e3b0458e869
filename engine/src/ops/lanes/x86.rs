// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Lanes`] in the registers of AVX2 and AVX-512.

use std::arch::x86_64::*;

use half::bf16;

use super::{INTEGER, Lanes, Value};
use crate::ops::{silu::silu_lanes, tiny::TINY};

// SAFETY of all four: the caller has the instruction set and passes pointers good for N floats.
macro_rules! lanes {
    (
        $t:ty, $n:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident,
        $div:ident, $fma:ident, $fnma:ident, $least:ident, $most:ident, $settle:ident, $exponent:ident, $widen:ident,
        $narrow:ident, $narrow_both:ident, $bytes:ident, $silu:ident
    ) => {
        impl Lanes for $t {
            const N: usize = $n;
            #[inline(always)]
            unsafe fn splat(v: f32) -> Self {
                // SAFETY: see the trait.
                unsafe { $splat(v) }
            }
            #[inline(always)]
            unsafe fn load(p: *const f32) -> Self {
                // SAFETY: see the trait.
                unsafe { $load(p) }
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut f32) {
                // SAFETY: see the trait.
                unsafe { $store(p, self) }
            }
            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self {
                // SAFETY: see the trait.
                unsafe { $add(self, b) }
            }
            #[inline(always)]
            unsafe fn sub(self, b: Self) -> Self {
                // SAFETY: see the trait.
                unsafe { $sub(self, b) }
            }
            #[inline(always)]
            unsafe fn plus(self, b: Self) -> Self {
                // SAFETY: see the trait.
                unsafe { $fma(b, $splat(1.0), self) }
            }
            #[inline(always)]
            unsafe fn minus(self, b: Self) -> Self {
                // SAFETY: see the trait.
                unsafe { $fnma(b, $splat(1.0), self) }
            }
            #[inline(always)]
            unsafe fn mul(self, b: Self) -> Self {
                // SAFETY: see the trait.
                unsafe { $mul(self, b) }
            }
            #[inline(always)]
            unsafe fn div(self, b: Self) -> Self {
                // SAFETY: see the trait.
                unsafe { $div(self, b) }
            }
            #[inline(always)]
            unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: see the trait.
                unsafe { $fma(self, b, c) }
            }
            #[inline(always)]
            unsafe fn clamp(self, low: f32, high: f32) -> Self {
                // SAFETY: see the trait. Where one is no number, these give the second.
                unsafe { $least($splat(high), $most($splat(low), self)) }
            }
            #[inline(always)]
            unsafe fn settled(self) -> Self {
                // SAFETY: see the trait.
                unsafe { $settle(self) }
            }
            #[inline(always)]
            unsafe fn silu_rough(self) -> Self {
                // SAFETY: see the trait.
                unsafe { $silu(self) }
            }
            #[inline(always)]
            unsafe fn exponent(self) -> Self {
                // SAFETY: see the trait.
                unsafe { $exponent(self) }
            }
            #[inline(always)]
            unsafe fn load_bf16(p: *const bf16) -> Self {
                // SAFETY: see the trait.
                unsafe { $widen(p) }
            }
            #[inline(always)]
            unsafe fn store_bf16(self, p: *mut bf16) {
                // SAFETY: see the trait.
                unsafe { $narrow(self, p) }
            }
            #[inline(always)]
            unsafe fn store_both_bf16(both: [Self; 2], to: [*mut bf16; 2]) {
                // SAFETY: see the trait.
                unsafe { $narrow_both(both, to) }
            }
            #[inline(always)]
            unsafe fn store_bytes(self, p: *mut u8) {
                // SAFETY: see the trait.
                unsafe { $bytes(self, p) }
            }
        }
    };
}
lanes!(
    __m256,
    8,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_div_ps,
    _mm256_fmadd_ps,
    _mm256_fnmadd_ps,
    _mm256_min_ps,
    _mm256_max_ps,
    settle8,
    exponent8,
    widen8,
    narrow8,
    narrow8_both,
    bytes8,
    silu_lanes
);
lanes!(
    __m512,
    16,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_div_ps,
    _mm512_fmadd_ps,
    _mm512_fnmadd_ps,
    _mm512_min_ps,
    _mm512_max_ps,
    settle16,
    exponent16,
    widen16,
    narrow16,
    narrow16_both,
    bytes16,
    silu16
);

/// # Safety
/// As [`Lanes::settled`].
#[inline(always)]
unsafe fn settle8(v: __m256) -> __m256 {
    // SAFETY: the caller's contract.
    unsafe {
        let size = _mm256_andnot_ps(_mm256_set1_ps(-0.0), v);
        _mm256_and_ps(v, _mm256_cmp_ps::<_CMP_NLT_UQ>(size, _mm256_set1_ps(TINY)))
    }
}

/// # Safety
/// As [`Lanes::settled`].
#[inline(always)]
unsafe fn settle16(v: __m512) -> __m512 {
    // SAFETY: the caller's contract.
    unsafe {
        let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(v), _mm512_set1_ps(TINY));
        _mm512_maskz_mov_ps(kept, v)
    }
}

/// `v / (1 + 2^(−v·log2 e))`: the power by a polynomial of degree 3 (least squares at
/// Chebyshev's nodes: to 8e-5), the quotient
/// by a reciprocal of 14 bits.
///
/// # Safety
/// As [`Lanes::silu_rough`].
#[inline(always)]
unsafe fn silu16(v: __m512) -> __m512 {
    const POWER: [f32; 4] = [0.055_088_684, 0.242_604_05, 0.693_276_2, 0.999_928_95];
    // SAFETY: the caller's contract.
    unsafe {
        let x = _mm512_mul_ps(v, _mm512_set1_ps(-std::f32::consts::LOG2_E));
        let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        let r = _mm512_sub_ps(x, n);
        let [mut p, rest @ ..] = POWER.map(|f| _mm512_set1_ps(f));
        for f in rest {
            p = _mm512_fmadd_ps(r, p, f);
        }
        _mm512_mul_ps(v, _mm512_rcp14_ps(_mm512_add_ps(_mm512_set1_ps(1.0), _mm512_scalef_ps(p, n))))
    }
}

/// # Safety
/// As [`Lanes::exponent`].
#[inline(always)]
unsafe fn exponent8(v: __m256) -> __m256 {
    // SAFETY: the caller's contract.
    unsafe {
        let bits = _mm256_add_epi32(_mm256_castps_si256(v), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits))
    }
}

/// # Safety
/// As [`Lanes::exponent`].
#[inline(always)]
unsafe fn exponent16(v: __m512) -> __m512 {
    // SAFETY: the caller's contract.
    unsafe {
        let bits = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(127));
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(bits))
    }
}

/// # Safety
/// As [`Lanes::load_bf16`].
#[inline(always)]
unsafe fn widen8(p: *const bf16) -> __m256 {
    // SAFETY: the caller's contract.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())))) }
}

/// # Safety
/// As [`Lanes::store_bf16`].
#[inline(always)]
unsafe fn narrow8(v: __m256, p: *mut bf16) {
    let mut wide = [0.0f32; 8];
    // SAFETY: the caller's contract; the array holds eight floats.
    unsafe {
        _mm256_storeu_ps(wide.as_mut_ptr(), v);
        p.cast::<[bf16; 8]>().write(wide.map(Value::from_f32));
    }
}

/// # Safety
/// As [`Lanes::store_both_bf16`].
#[inline(always)]
unsafe fn narrow8_both([a, b]: [__m256; 2], [first, second]: [*mut bf16; 2]) {
    // SAFETY: the caller's contract.
    unsafe {
        narrow8(a, first);
        narrow8(b, second);
    }
}

/// # Safety
/// As [`Lanes::load_bf16`].
#[inline(always)]
unsafe fn widen16(p: *const bf16) -> __m512 {
    // SAFETY: the caller's contract.
    unsafe {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()))))
    }
}

/// # Safety
/// As [`Lanes::store_bf16`].
#[inline(always)]
unsafe fn narrow16(v: __m512, p: *mut bf16) {
    // SAFETY: the caller's contract, AVX512_BF16 included; the types have the same bits.
    unsafe { _mm256_storeu_si256(p.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v))) }
}

/// # Safety
/// As [`Lanes::store_both_bf16`], AVX512_BF16 included.
#[inline(always)]
unsafe fn narrow16_both([a, b]: [__m512; 2], [first, second]: [*mut bf16; 2]) {
    // SAFETY: the caller's contract; the types have the same bits.
    unsafe {
        let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a));
        _mm256_storeu_si256(first.cast(), _mm512_castsi512_si256(both));
        _mm256_storeu_si256(second.cast(), _mm512_extracti64x4_epi64::<1>(both));
    }
}

/// # Safety
/// As [`Lanes::store_bytes`].
#[inline(always)]
unsafe fn bytes8(v: __m256, p: *mut u8) {
    // SAFETY: the caller's contract.
    unsafe {
        let bits = _mm256_castps_si256(_mm256_add_ps(v, _mm256_set1_ps(INTEGER)));
        // The lowest byte of each float to the front of its half, then both halves together.
        let low = _mm256_setr_epi32(0x0c08_0400, -1, -1, -1, 0x0c08_0400, -1, -1, -1);
        let halves = _mm256_shuffle_epi8(bits, low);
        let both = _mm256_permutevar8x32_epi32(halves, _mm256_setr_epi32(0, 4, 1, 1, 1, 1, 1, 1));
        _mm_storel_epi64(p.cast(), _mm256_castsi256_si128(both));
    }
}

/// # Safety
/// As [`Lanes::store_bytes`].
#[inline(always)]
unsafe fn bytes16(v: __m512, p: *mut u8) {
    // SAFETY: the caller's contract.
    unsafe {
        let bits = _mm512_castps_si512(_mm512_add_ps(v, _mm512_set1_ps(INTEGER)));
        _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(bits));
    }
}
