// SPDX-License-Identifier: MIT OR Apache-2.0
//! The products of [`super::gemm`] in bytes: activations 0 to 255 times weights −127 to 127, sums in 32-bit integers.
//!
//! Integers add up exactly, so every instruction set gives the same bits. With VNNI one instruction (`vpdpbusd`) adds
//! four products to each sum: the left operand is four neighbouring values of the map, repeated, the right one four
//! weights of each channel. So nothing of a channels-last map is rearranged.

use super::{
    amx,
    finish::{self, Finish},
    gemm::{BLOCK, Run, call, with_rows},
    isa::{Int8, Isa},
    scales::Scales,
};

/// Pixels computed before their sums are finished.
const CHUNK: usize = 96;
/// Products that one step adds to a sum.
const GROUP: usize = 4;

/// Weights as this processor's instructions want them.
#[derive(Debug, Clone)]
pub(crate) enum Packed {
    Fours(Int8, Fours),
    Tiles(amx::Packed<u8>),
}

/// Weights in fours: `[block of 32 channels][tap][k/4][32 channels][4]`, zero-padded.
#[derive(Debug, Clone)]
pub(crate) struct Fours {
    data: Vec<i8>,
    cout: usize,
    /// What each channel's sum begins with: whatever the bytes of 0 in the map will add, taken off.
    start: Vec<i32>,
    /// What each channel's sum is multiplied by.
    factor: Vec<f32>,
}

impl Packed {
    /// Rounds `w`, `[tap][k][cout]`, to 255 steps of each output channel's largest, k being some pixels of the input's
    /// channels, whose steps are worked in. For instructions that the processor has.
    pub fn new(int8: Int8, taps: usize, cout: usize, w: &[f32], input: &Scales) -> Self {
        let (rows, padded) = (w.len() / cout, cout.next_multiple_of(16));
        let (step, zero) = (
            |row: usize| input.step[row % input.step.len()],
            |row: usize| input.zero[row % input.zero.len()],
        );
        assert!(rows % GROUP == 0, "groups of four values need a multiple of four of them, not {rows}");
        let mut largest = vec![0f32; padded];
        for (row, w) in w.chunks_exact(cout).enumerate() {
            largest.iter_mut().zip(w).for_each(|(most, w)| *most = most.max((w * step(row)).abs()));
        }
        let mut rounded = vec![0; w.len()];
        let mut start = vec![0; padded];
        for (row, (w, to)) in w.chunks_exact(cout).zip(rounded.chunks_exact_mut(cout)).enumerate() {
            for (o, w) in w.iter().enumerate().filter(|(o, _)| largest[*o] > 0.0) {
                to[o] = (w * step(row) / largest[o] * 127.0).round() as i8;
                start[o] -= i32::from(to[o]) * i32::from(zero(row));
            }
        }
        let factor = largest.iter().map(|most| most / 127.0).collect();
        match int8 {
            Int8::Amx => Self::Tiles(amx::Packed::new(rows / taps, cout, &rounded, start, factor)),
            _ => Self::Fours(int8, Fours::new(cout, &rounded, start, factor)),
        }
    }

    /// Output channels, padded to 16.
    fn cout(&self) -> usize {
        match self {
            Self::Fours(_, weights) => weights.cout,
            Self::Tiles(weights) => weights.cout,
        }
    }
}

impl Fours {
    fn new(cout: usize, w: &[i8], start: Vec<i32>, factor: Vec<f32>) -> Self {
        let (rows, padded) = (w.len() / cout, cout.next_multiple_of(16));
        let mut data = vec![0; padded.div_ceil(BLOCK) * rows * BLOCK];
        for (row, w) in w.chunks_exact(cout).enumerate() {
            for (o, w) in w.iter().enumerate() {
                let group = (o / BLOCK * rows + row / GROUP * GROUP) * BLOCK;
                data[group + o % BLOCK * GROUP + row % GROUP] = *w;
            }
        }
        Self { data, cout: padded, start, factor }
    }
}

/// Hands the sums of a run, in the units of the values, to `finish`: `per` pixels for each of the run's, one after the
/// other in its channels; taps of a length that four divides. All instructions give the same bits.
pub(crate) fn finish<F: Finish>(
    isa: Isa,
    run: Run<'_, u8>,
    weights: &Packed,
    per: usize,
    sums: &mut Vec<f32>,
    finish: &mut F,
) {
    let (int8, weights, cout) = match weights {
        Packed::Tiles(weights) => return amx::finish(run, weights, (0, per), finish),
        Packed::Fours(int8, fours) => (*int8, fours, weights.cout()),
    };
    sums.resize(CHUNK * cout, 0.0);
    for first in (0..run.n).step_by(CHUNK) {
        let n = (run.n - first).min(CHUNK);
        forward(int8, Run { start: run.start + first * run.step, n, ..run }, weights, sums);
        finish::give::<f32, F>(isa, &sums[..n * cout], cout / per, 0, first * per, finish);
    }
}

/// `out[p][o]` for `run.n` pixels, rows of `weights.cout` floats.
fn forward(int8: Int8, run: Run<'_, u8>, weights: &Fours, out: &mut [f32]) {
    run.check(run.n, run.k);
    assert!(run.k % GROUP == 0 && out.len() >= run.n * weights.cout);
    assert_eq!(weights.data.len(), weights.cout.div_ceil(BLOCK) * run.taps.len() * run.k * BLOCK);
    let out = out.as_mut_ptr();
    match int8 {
        // SAFETY: bounds were checked; an `Int8` of this value exists only where the processor has the instructions.
        #[cfg(target_arch = "x86_64")]
        Int8::Avx512Vnni => unsafe { x86::avx512_vnni(run, weights, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Int8::AvxVnni => unsafe { x86::avx_vnni(run, weights, out) },
        // SAFETY: plain Rust on checked bounds.
        _ => unsafe { forward_in::<Plain>(run, weights, out) },
    }
}

/// A register of `N` integers. Methods are inlined into a caller that carries the target feature.
///
/// # Safety
/// Every method needs the instruction set of its type, and pointers good for what it reads or writes.
trait Sums: Copy {
    const N: usize;
    unsafe fn load(p: *const i32) -> Self;
    /// Four bytes of a map, repeated.
    unsafe fn repeat(p: *const u8) -> Self;
    /// Four weights of each channel.
    unsafe fn weights(p: *const i8) -> Self;
    /// `self + Σ x·w` over the four.
    unsafe fn dot(self, x: Self, w: Self) -> Self;
    /// Each sum rounded to a float and multiplied by its factor.
    unsafe fn store(self, factor: *const f32, out: *mut f32);
}

/// Eight sums in plain Rust.
#[derive(Clone, Copy)]
struct Plain([i32; 8]);

impl Sums for Plain {
    const N: usize = 8;
    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self {
        // SAFETY: the caller gives a pointer good for eight integers.
        Self(unsafe { p.cast::<[i32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn repeat(p: *const u8) -> Self {
        // SAFETY: the caller gives a pointer good for four bytes.
        Self([i32::from_le_bytes(unsafe { p.cast::<[u8; 4]>().read() }); 8])
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> Self {
        // SAFETY: the caller gives a pointer good for 32 bytes.
        Self(unsafe { p.cast::<[[u8; 4]; 8]>().read() }.map(i32::from_le_bytes))
    }
    #[inline(always)]
    unsafe fn dot(self, x: Self, w: Self) -> Self {
        let mut out = self.0;
        for (o, (x, w)) in out.iter_mut().zip(x.0.into_iter().zip(w.0)) {
            let (x, w) = (x.to_le_bytes(), w.to_le_bytes());
            *o += x.into_iter().zip(w).map(|(x, w)| i32::from(x) * i32::from(w as i8)).sum::<i32>();
        }
        Self(out)
    }
    #[inline(always)]
    unsafe fn store(self, factor: *const f32, out: *mut f32) {
        for (i, sum) in self.0.iter().enumerate() {
            // SAFETY: the caller gives pointers good for eight floats.
            unsafe { *out.add(i) = *sum as f32 * *factor.add(i) }
        }
    }
}

/// # Safety
/// As [`forward`] checks; the caller has the instruction set of `S`.
#[inline(always)]
unsafe fn forward_in<S: Sums>(run: Run<'_, u8>, w: &Fours, out: *mut f32) {
    // Two registers of channels for each pixel: 24 sums of 32 registers, or 12 of 16.
    let most = if S::N == 16 { 12 } else { 6 };
    let slab = run.taps.len() * run.k * BLOCK;
    for channel in (0..w.cout).step_by(2 * S::N) {
        let both = w.cout - channel > S::N;
        for p in (0..run.n).step_by(most) {
            let rows = (run.n - p).min(most);
            // SAFETY: inside the packed weights and the checked run.
            unsafe {
                let weights = w.data.as_ptr().add(channel / BLOCK * slab + channel % BLOCK * GROUP);
                let x = run.x.as_ptr().add(run.start + p * run.step);
                let (start, factor) = (w.start.as_ptr().add(channel), w.factor.as_ptr().add(channel));
                let y = out.add(p * w.cout + channel);
                if both {
                    with_rows!(rows, products, [S,], 2, (&run, x, weights, start, factor, y, w.cout));
                } else {
                    with_rows!(rows, products, [S,], 1, (&run, x, weights, start, factor, y, w.cout));
                }
            }
        }
    }
}

/// `P` pixels × `V` registers of output channels.
///
/// # Safety
/// Pointers must be good for the block; the caller has the instructions.
#[inline(always)]
unsafe fn products<S: Sums, const P: usize, const V: usize>(
    run: &Run<'_, u8>,
    x: *const u8,
    mut w: *const i8,
    start: *const i32,
    factor: *const f32,
    y: *mut f32,
    ld: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let start: [S; V] = std::array::from_fn(|v| S::load(start.add(v * S::N)));
        let mut sums = [start; P];
        for &tap in run.taps {
            let x = x.add(tap);
            for i in (0..run.k).step_by(GROUP) {
                let weights: [S; V] = std::array::from_fn(|v| S::weights(w.add(v * S::N * GROUP)));
                for (p, row) in sums.iter_mut().enumerate() {
                    let x = S::repeat(x.add(p * run.step + i));
                    row.iter_mut().zip(weights).for_each(|(sum, w)| *sum = sum.dot(x, w));
                }
                w = w.add(BLOCK * GROUP);
            }
        }
        for (p, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                sum.store(factor.add(v * S::N), y.add(p * ld + v * S::N));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Fours, Run, Sums, forward_in};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
    pub unsafe fn avx512_vnni(run: Run<'_, u8>, w: &Fours, out: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { forward_in::<Wide>(run, w, out) }
    }

    #[target_feature(enable = "avxvnni,avx2,fma")]
    pub unsafe fn avx_vnni(run: Run<'_, u8>, w: &Fours, out: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { forward_in::<Vex>(run, w, out) }
    }

    /// [`avx_vnni`] in the encoding of AVX-512, for processors that have only that.
    #[cfg(test)]
    #[target_feature(enable = "avx512f,avx512vl,avx512vnni,avx2,fma")]
    pub unsafe fn evex_vnni(run: Run<'_, u8>, w: &Fours, out: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { forward_in::<Evex>(run, w, out) }
    }

    macro_rules! sums {
        ($name:ident, $t:ty, $n:literal, $load:ident, $repeat:ident, $dot:ident, $float:ident, $mul:ident, $factor:ident,
            $store:ident) => {
            #[derive(Clone, Copy)]
            struct $name($t);

            impl Sums for $name {
                const N: usize = $n;
                #[inline(always)]
                unsafe fn load(p: *const i32) -> Self {
                    // SAFETY: see the trait.
                    Self(unsafe { $load(p.cast()) })
                }
                #[inline(always)]
                unsafe fn repeat(p: *const u8) -> Self {
                    // SAFETY: see the trait.
                    Self(unsafe { $repeat(p.cast::<i32>().read_unaligned()) })
                }
                #[inline(always)]
                unsafe fn weights(p: *const i8) -> Self {
                    // SAFETY: see the trait.
                    Self(unsafe { $load(p.cast()) })
                }
                #[inline(always)]
                unsafe fn dot(self, x: Self, w: Self) -> Self {
                    // SAFETY: see the trait.
                    Self(unsafe { $dot(self.0, x.0, w.0) })
                }
                #[inline(always)]
                unsafe fn store(self, factor: *const f32, out: *mut f32) {
                    // SAFETY: see the trait.
                    unsafe { $store(out, $mul($float(self.0), $factor(factor))) }
                }
            }
        };
    }
    sums!(
        Wide,
        __m512i,
        16,
        _mm512_loadu_si512,
        _mm512_set1_epi32,
        _mm512_dpbusd_epi32,
        _mm512_cvtepi32_ps,
        _mm512_mul_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps
    );
    sums!(
        Vex,
        __m256i,
        8,
        _mm256_loadu_si256,
        _mm256_set1_epi32,
        _mm256_dpbusd_avx_epi32,
        _mm256_cvtepi32_ps,
        _mm256_mul_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps
    );
    #[cfg(test)]
    sums!(
        Evex,
        __m256i,
        8,
        _mm256_loadu_si256,
        _mm256_set1_epi32,
        _mm256_dpbusd_epi32,
        _mm256_cvtepi32_ps,
        _mm256_mul_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps
    );
}

#[cfg(test)]
#[path = "int8_tests.rs"]
mod tests;
