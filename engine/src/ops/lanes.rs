// SPDX-License-Identifier: MIT OR Apache-2.0
//! One vector register of floats: what the f32 kernels are written in.

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
    /// `self·b + c`, rounded once.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
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
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        let mut out = [0.0; 8];
        for (i, o) in out.iter_mut().enumerate() {
            *o = self.0[i].mul_add(b.0[i], c.0[i]);
        }
        Self(out)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    // SAFETY of all four: the caller has the instruction set and passes pointers good for N floats.
    macro_rules! lanes {
        ($t:ty, $n:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $fma:ident) => {
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
                unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: see the trait.
                    unsafe { $fma(self, b, c) }
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
        _mm256_fmadd_ps
    );
    lanes!(
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_fmadd_ps
    );
}
