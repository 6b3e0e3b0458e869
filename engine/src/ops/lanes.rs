// SPDX-License-Identifier: MIT OR Apache-2.0
//! One vector register of floats: what the f32 kernels are written in.

use half::bf16;

use super::{map::Value, tiny::settled};

/// A register of `N` floats. Methods are inlined into a caller that carries the target feature.
///
/// # Safety
/// Every method needs the instruction set of its type, and pointers good for `N` floats.
pub(crate) trait Lanes: Copy {
    const N: usize;
    unsafe fn splat(v: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    /// [`Lanes::add`] by the units that multiply, where a processor has them beside those that add.
    #[inline(always)]
    unsafe fn plus(self, b: Self) -> Self {
        // SAFETY: the caller's contract.
        unsafe { self.add(b) }
    }
    /// [`Lanes::sub`], likewise.
    #[inline(always)]
    unsafe fn minus(self, b: Self) -> Self {
        // SAFETY: the caller's contract.
        unsafe { self.sub(b) }
    }
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    /// `self·b + c`, rounded once.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// Not below `low`, not above `high`; what is no number stays what it is.
    unsafe fn clamp(self, low: f32, high: f32) -> Self;
    /// [`settled`].
    unsafe fn settled(self) -> Self;
    /// The float of the bits `(bits + 127) << 23`: 2ⁿ, where n stands in the low bits.
    unsafe fn exponent(self) -> Self;
    /// `N` bfloat16 numbers, exactly.
    unsafe fn load_bf16(p: *const bf16) -> Self;
    /// Rounds to the nearest, ties to even; what is below the normal numbers may become zero. Sixteen at once
    /// need AVX512_BF16.
    unsafe fn store_bf16(self, p: *mut bf16);
    /// Two of [`Lanes::store_bf16`].
    #[inline(always)]
    unsafe fn store_both_bf16(both: [Self; 2], to: [*mut bf16; 2]) {
        // SAFETY: the caller's contract.
        unsafe {
            both[0].store_bf16(to[0]);
            both[1].store_bf16(to[1]);
        }
    }
}

/// Eight floats in plain Rust; LLVM maps them to whatever the target has (NEON: two registers).
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 8]);

impl Lanes for Plain {
    const N: usize = 8;
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Self([v; 8])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller gives a pointer good for eight floats; an array of f32 has their alignment.
        Self(unsafe { p.cast::<[f32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { p.cast::<[f32; 8]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        let mut out = self.0;
        out.iter_mut().zip(b.0).for_each(|(o, b)| *o += b);
        Self(out)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        let mut out = self.0;
        out.iter_mut().zip(b.0).for_each(|(o, b)| *o -= b);
        Self(out)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        let mut out = self.0;
        out.iter_mut().zip(b.0).for_each(|(o, b)| *o *= b);
        Self(out)
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        let mut out = self.0;
        out.iter_mut().zip(b.0).for_each(|(o, b)| *o /= b);
        Self(out)
    }
    #[inline(always)]
    unsafe fn clamp(self, low: f32, high: f32) -> Self {
        Self(self.0.map(|v| v.clamp(low, high)))
    }
    #[inline(always)]
    unsafe fn settled(self) -> Self {
        Self(self.0.map(settled))
    }
    #[inline(always)]
    unsafe fn exponent(self) -> Self {
        Self(self.0.map(|v| f32::from_bits(v.to_bits().wrapping_add(127) << 23)))
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        let mut out = [0.0; 8];
        for (i, o) in out.iter_mut().enumerate() {
            *o = self.0[i].mul_add(b.0[i], c.0[i]);
        }
        Self(out)
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Self {
        // SAFETY: the caller gives a pointer good for eight values.
        Self(unsafe { p.cast::<[bf16; 8]>().read() }.map(Value::to_f32))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16) {
        // SAFETY: as in `load_bf16`.
        unsafe { p.cast::<[bf16; 8]>().write(self.0.map(Value::from_f32)) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::{Lanes, Value};
    use crate::ops::tiny::TINY;

    // SAFETY of all four: the caller has the instruction set and passes pointers good for N floats.
    macro_rules! lanes {
        (
            $t:ty, $n:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident,
            $div:ident, $fma:ident, $fnma:ident, $least:ident, $most:ident, $settle:ident, $exponent:ident, $widen:ident,
            $narrow:ident, $narrow_both:ident
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
        narrow8_both
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
        narrow16_both
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
        unsafe {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))))
        }
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
        unsafe {
            _mm256_storeu_si256(p.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)))
        }
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
}
