// SPDX-License-Identifier: MIT OR Apache-2.0
//! One vector register of floats: what the f32 kernels are written in.

use half::bf16;

use super::{map::Value, silu::silu_lanes, tiny::settled};

#[cfg(target_arch = "x86_64")]
mod x86;

/// Adding 1.5·2²³ rounds to an integer, which then stands in the low bits in two's complement.
pub(super) const INTEGER: f32 = 12_582_912.0;

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
    /// SiLU to 12 bits, for what is rounded to fewer; what is no number stays so.
    unsafe fn silu_rough(self) -> Self {
        // SAFETY: the caller's contract.
        unsafe { silu_lanes(self) }
    }
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
    /// Rounds to the nearest, ties to even; values lie from 0 to 255, what is no number becomes any byte.
    unsafe fn store_bytes(self, p: *mut u8);
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
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8) {
        // SAFETY: the caller gives a pointer good for eight bytes.
        unsafe { p.cast::<[u8; 8]>().write(self.0.map(|v| (v + INTEGER).to_bits() as u8)) }
    }
}
