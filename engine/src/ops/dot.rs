// SPDX-License-Identifier: MIT OR Apache-2.0
//! The products of [`super::gemm`] in bfloat16 with AVX512_BF16, sums in f32.
//!
//! One instruction (`vdpbf16ps`) adds two products to each of 16 sums: the left operand is a pair of
//! neighbouring values of the map, repeated, the right one 16 pairs of weights. So nothing of a
//! channels-last map is rearranged. Each sum is one chain in the order (tap, pair), as in `gemm`.

use half::bf16;

use super::{
    gemm::{BLOCK, Run},
    map::Map,
    planes::{TURNED, interleave, transpose},
};

/// Weights as the kernel reads them: `[block of 32 channels][tap][k/2][32 channels][2]`, zero-padded.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    data: Vec<bf16>,
    /// Output channels, padded to 16.
    pub cout: usize,
}

impl Packed {
    /// `w`: `[tap][k][cout]`, all taps in one; their length must be even. `cout` is padded to a
    /// multiple of 16.
    pub fn new(cout: usize, w: &[bf16]) -> Self {
        let padded = cout.next_multiple_of(16);
        let (rows, blocks) = (w.len() / cout, padded.div_ceil(BLOCK));
        assert!(rows % 2 == 0, "pairs of values need an even number of them, not {rows}");
        let mut data = vec![bf16::ZERO; blocks * rows * BLOCK];
        for (row, w) in w.chunks_exact(cout).enumerate() {
            for (block, w) in w.chunks(BLOCK).enumerate() {
                let at = (block * rows + row / 2 * 2) * BLOCK + row % 2;
                w.iter().enumerate().for_each(|(o, w)| data[at + 2 * o] = *w);
            }
        }
        Self { data, cout: padded }
    }
}

/// `out[p][o]` for `run.n` pixels, rows of `weights.cout` floats; taps of even length. Only where
/// [`super::Cpu::bf16`] says so.
pub(crate) fn forward(run: Run<'_, bf16>, weights: &Packed, out: &mut [f32]) {
    run.check(run.n, run.k);
    assert!(run.k % 2 == 0 && out.len() >= run.n * weights.cout);
    assert_eq!(weights.data.len(), weights.cout.div_ceil(BLOCK) * run.taps.len() * run.k * BLOCK);
    // SAFETY: bounds were checked; the caller has asked the processor for AVX512_BF16.
    unsafe { x86::forward(run, weights, out.as_mut_ptr()) }
}

/// Adds the gradient of a 3×3 kernel's weights, `[tap][cin][cout]`; both maps hold all their lines. Only where
/// [`super::Cpu::bf16`] says so.
pub(crate) fn weight_grad(x: &Map<bf16>, dy: &Map<bf16>, grad: &mut [f32], scratch: &mut Vec<bf16>) {
    let (cin, cout, width) = (x.c, dy.c, x.w + 2);
    assert!((x.h, x.w) == (dy.h, dy.w) && x.lines == x.h && dy.lines == dy.h);
    let pixels = (x.h * width).next_multiple_of(2);
    let plane = (pixels + 2 * width + 2).next_multiple_of(TURNED);
    if scratch.len() < cin * plane + pixels * cout {
        scratch.resize(cin * plane + pixels * cout, bf16::ZERO);
    }
    let (planes, pairs) = scratch.split_at_mut(cin * plane);
    // The last taps read up to three pixels of the slack.
    transpose(&x.data[..((x.h + 2) * width + 3) * cin], cin, planes, plane);
    interleave(&dy.data[dy.at(0, 0)..][..x.h * width * cout], cout, pixels / 2, (2 * cout, 32), pairs);
    let shifts = std::array::from_fn(|t| t / 3 * width + t % 3);
    grad_of_planes(planes, plane, cin, &shifts, pairs, pixels, cout, grad);
}

/// `grad[tap][c][o] += Σ_q x[c][q + shift(tap)] · dy[q][o]`.
///
/// - `x`: channel planes of `plane` values each, `cin` (a multiple of 4) of them.
/// - `shifts`: where each tap begins in a plane; three in a row of the kernel.
/// - `dy`: `[q/2][cout][2]`, `q` running over `pixels`, an even number; `cout` a multiple of 16.
/// - `grad`: `[tap][cin][cout]`.
#[allow(clippy::too_many_arguments, reason = "two operands, their shapes, and where the sums go")]
fn grad_of_planes(
    x: &[bf16],
    plane: usize,
    cin: usize,
    shifts: &[usize; 9],
    dy: &[bf16],
    pixels: usize,
    cout: usize,
    grad: &mut [f32],
) {
    assert!(pixels % 2 == 0 && cin % 4 == 0 && cout % 16 == 0);
    assert!(x.len() >= cin * plane && shifts.iter().all(|s| s + pixels <= plane));
    assert!(dy.len() >= pixels * cout && grad.len() >= shifts.len() * cin * cout);
    // SAFETY: bounds were checked; the caller has asked the processor for AVX512_BF16.
    unsafe { x86::weight_grad(x, plane, cin, shifts, dy, pixels, cout, grad) }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::{BLOCK, Packed, Run};
    use crate::ops::gemm::{call, with_rows};

    /// Pixels of a register block; with two registers of channels 24 sums.
    const ROWS: usize = 12;
    /// Steps of k after which the next pixels take their turn: 256·32 values stay in the first-level cache.
    const K_BLOCK: usize = 256;
    /// Pixels of a weight gradient after which the next channels take their turn.
    const Q_BLOCK: usize = 1024;

    /// A pair of values, sixteen times.
    ///
    /// # Safety
    /// `p` must be good for two values.
    #[inline(always)]
    pub unsafe fn twice(p: *const bf16) -> __m512bh {
        // SAFETY: the caller's contract; the types have the same bits.
        unsafe { std::mem::transmute(_mm512_set1_epi32(p.cast::<i32>().read_unaligned())) }
    }

    /// Sixteen pairs of values.
    ///
    /// # Safety
    /// `p` must be good for 32 values.
    #[inline(always)]
    pub unsafe fn pairs(p: *const bf16) -> __m512bh {
        // SAFETY: the caller's contract; the types have the same bits.
        unsafe { std::mem::transmute(_mm512_loadu_si512(p.cast())) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub unsafe fn forward(run: Run<'_, bf16>, w: &Packed, out: *mut f32) {
        let slab = run.taps.len() * run.k * BLOCK;
        for block in 0..w.cout.div_ceil(BLOCK) {
            let wide = w.cout - block * BLOCK >= BLOCK;
            for (t, &tap) in run.taps.iter().enumerate() {
                for k0 in (0..run.k).step_by(K_BLOCK) {
                    let (k, first) = ((run.k - k0).min(K_BLOCK), t == 0 && k0 == 0);
                    for p in (0..run.n).step_by(ROWS) {
                        let rows = (run.n - p).min(ROWS);
                        // SAFETY: inside the packed weights and the checked run.
                        unsafe {
                            let wk = w.data.as_ptr().add(block * slab + (t * run.k + k0) * BLOCK);
                            let x = run.x.as_ptr().add(run.start + tap + k0 + p * run.step);
                            let y = out.add(p * w.cout + block * BLOCK);
                            if wide {
                                with_rows!(rows, products, [], 2, (x, run.step, k, wk, y, w.cout, first));
                            } else {
                                with_rows!(rows, products, [], 1, (x, run.step, k, wk, y, w.cout, first));
                            }
                        }
                    }
                }
            }
        }
    }

    /// `P` pixels × `V` registers of output channels, `k` products each.
    ///
    /// # Safety
    /// Pointers must be good for the block; the caller has the instructions.
    #[inline(always)]
    unsafe fn products<const P: usize, const V: usize>(
        x: *const bf16,
        step: usize,
        k: usize,
        w: *const bf16,
        y: *mut f32,
        ld: usize,
        first: bool,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut acc = [[_mm512_setzero_ps(); V]; P];
            if !first {
                for (p, row) in acc.iter_mut().enumerate() {
                    for (v, a) in row.iter_mut().enumerate() {
                        *a = _mm512_loadu_ps(y.add(p * ld + v * 16));
                    }
                }
            }
            for i in (0..k).step_by(2) {
                let wv: [__m512bh; V] = std::array::from_fn(|v| pairs(w.add(i * BLOCK + v * 32)));
                for (p, row) in acc.iter_mut().enumerate() {
                    let xv = twice(x.add(p * step + i));
                    for (v, a) in row.iter_mut().enumerate() {
                        *a = _mm512_dpbf16_ps(*a, wv[v], xv);
                    }
                }
            }
            for (p, row) in acc.iter().enumerate() {
                for (v, a) in row.iter().enumerate() {
                    _mm512_storeu_ps(y.add(p * ld + v * 16), *a);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn weight_grad(
        x: &[bf16],
        plane: usize,
        cin: usize,
        shifts: &[usize; 9],
        dy: &[bf16],
        pixels: usize,
        cout: usize,
        grad: &mut [f32],
    ) {
        for q0 in (0..pixels).step_by(Q_BLOCK) {
            let n = (pixels - q0).min(Q_BLOCK);
            for o in (0..cout).step_by(32) {
                for (row, shifts) in shifts.as_chunks::<3>().0.iter().enumerate() {
                    for c in (0..cin).step_by(4) {
                        // SAFETY: `super::grad_of_planes` checked every bound.
                        unsafe {
                            let x = x.as_ptr().add(c * plane + q0);
                            let d = dy.as_ptr().add(q0 * cout + 2 * o);
                            let g = grad.as_mut_ptr().add((row * 3 * cin + c) * cout + o);
                            if cout - o >= 32 {
                                grad_block::<2>(x, plane, shifts, d, n, cout, g, cin * cout);
                            } else {
                                grad_block::<1>(x, plane, shifts, d, n, cout, g, cin * cout);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Three taps × four input channels × `V` registers of output channels, over `n` pixels.
    ///
    /// # Safety
    /// Pointers must be good for the block; the caller has the instructions.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn grad_block<const V: usize>(
        x: *const bf16,
        plane: usize,
        shifts: &[usize; 3],
        dy: *const bf16,
        n: usize,
        cout: usize,
        grad: *mut f32,
        tap: usize,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut acc = [[[_mm512_setzero_ps(); V]; 4]; 3];
            for q in (0..n).step_by(2) {
                let dv: [__m512bh; V] = std::array::from_fn(|v| pairs(dy.add(q * cout + v * 32)));
                for (t, row) in acc.iter_mut().enumerate() {
                    for (c, sums) in row.iter_mut().enumerate() {
                        let xv = twice(x.add(c * plane + shifts[t] + q));
                        for (v, a) in sums.iter_mut().enumerate() {
                            *a = _mm512_dpbf16_ps(*a, dv[v], xv);
                        }
                    }
                }
            }
            for (t, row) in acc.iter().enumerate() {
                for (c, sums) in row.iter().enumerate() {
                    for (v, a) in sums.iter().enumerate() {
                        let g = grad.add(t * tap + c * cout + v * 16);
                        _mm512_storeu_ps(g, _mm512_add_ps(_mm512_loadu_ps(g), *a));
                    }
                }
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod x86 {
    use half::bf16;

    use super::{Packed, Run};

    pub unsafe fn forward(_: Run<'_, bf16>, _: &Packed, _: *mut f32) {
        unreachable!("Cpu::bf16 is none here")
    }
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn weight_grad(
        _: &[bf16],
        _: usize,
        _: usize,
        _: &[usize; 9],
        _: &[bf16],
        _: usize,
        _: usize,
        _: &mut [f32],
    ) {
        unreachable!("Cpu::bf16 is none here")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{noise::Stream, ops::Bf16};

    /// Small whole numbers: sums are exact in whatever order, so they must be equal to the bit.
    fn values(n: usize, seed: u64) -> Vec<f32> {
        let mut s = Stream::new(seed, 0);
        (0..n).map(|_| s.below(17) as f32 - 8.0).collect()
    }

    fn half(v: &[f32]) -> Vec<bf16> {
        v.iter().map(|v| bf16::from_f32(*v)).collect()
    }

    proptest! {
        #[test]
        fn forward_equals_the_plain_sum(
            n in 1usize..40, pairs in 1usize..200, taps in 1usize..4, cout in 1usize..80, step in 1usize..50, seed: u64,
        ) {
            if !Bf16::Avx512.available() {
                return Ok(());
            }
            let k = 2 * pairs;
            let offsets: Vec<usize> = (0..taps).map(|t| t * (k + 3)).collect();
            let x = values(5 + n * step + taps * (k + 3) + k, seed);
            let w = values(taps * k * cout, seed ^ 1);
            let packed = Packed::new(cout, &half(&w));
            let mut got = vec![f32::NAN; n * packed.cout];
            let run = Run { x: &half(&x), start: 5, step, taps: &offsets, k, n };
            forward(run, &packed, &mut got);
            for (at, got) in got.iter().enumerate() {
                let (p, o) = (at / packed.cout, at % packed.cout);
                let term = |t: usize, i: usize| x[5 + p * step + offsets[t] + i] * w[(t * k + i) * cout + o];
                let want: f32 = (0..taps * k).map(|r| if o < cout { term(r / k, r % k) } else { 0.0 }).sum();
                prop_assert_eq!(*got, want, "pixel {} channel {}", p, o);
            }
        }

        #[test]
        fn weight_grad_equals_the_plain_sum(
            pixels in 1usize..1400, cin in 1usize..3, cout in 1usize..4, seed: u64,
        ) {
            if !Bf16::Avx512.available() {
                return Ok(());
            }
            let (pixels, cin, cout) = (pixels.next_multiple_of(2), 4 * cin, 16 * cout);
            let shifts = std::array::from_fn(|t| t / 3 * 11 + t % 3);
            let plane = pixels + 24;
            let (x, dy) = (values(cin * plane, seed), values(pixels * cout, seed ^ 1));
            let mut grad = vec![1.0; 9 * cin * cout];
            grad_of_planes(&half(&x), plane, cin, &shifts, &half(&dy), pixels, cout, &mut grad);
            for (at, got) in grad.iter().enumerate() {
                let (t, c, o) = (at / cout / cin, at / cout % cin, at % cout);
                let term = |q: usize| x[c * plane + q + shifts[t]] * dy[(q / 2 * cout + o) * 2 + q % 2];
                prop_assert_eq!(*got, 1.0 + (0..pixels).map(term).sum::<f32>(), "tap {} {} {}", t, c, o);
            }
        }
    }
}
