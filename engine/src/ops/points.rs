// SPDX-License-Identifier: MIT OR Apache-2.0
//! The products of [`super::winograd`] in bfloat16 with AVX512_BF16, sums in f32.
//!
//! Four points of a row are multiplied side by side, so the first half of the way back (`m A`) is taken while they
//! are in registers, and half as many sums go through memory. Sixteen channels at a time: what a block of squares
//! leaves stays in the first-level cache, however many channels there are.

use half::bf16;

use super::{
    map::Value,
    winograd::{POINTS, apart},
};

/// Output channels of a block.
pub(crate) const BLOCK: usize = 16;

/// Weights as the kernel reads them: `[block][row of points][k/2][4 points][16 channels][2]`, zero-padded.
#[derive(Debug, Clone)]
pub(crate) struct Points {
    data: Vec<bf16>,
    /// Input channels.
    k: usize,
    /// Output channels, padded to 16.
    pub cout: usize,
}

impl Points {
    /// `points`: `[k][cout]` of each point, k even.
    pub fn new(cout: usize, points: &[Vec<f32>]) -> Self {
        let (k, blocks) = (points[0].len() / cout, cout.div_ceil(BLOCK));
        assert!(points.len() == POINTS && k % 2 == 0, "pairs of values need an even number of them, not {k}");
        let mut data = vec![bf16::ZERO; blocks * POINTS * k * BLOCK];
        for (point, w) in points.iter().enumerate() {
            for (pair, w) in w.chunks_exact(2 * cout).enumerate() {
                let (even, odd) = w.split_at(cout);
                for (block, (even, odd)) in even.chunks(BLOCK).zip(odd.chunks(BLOCK)).enumerate() {
                    let row = (block * 4 + point / 4) * k / 2 + pair;
                    let to = data[(row * 4 + point % 4) * 2 * BLOCK..][..2 * BLOCK].chunks_exact_mut(2);
                    for (to, (even, odd)) in to.zip(even.iter().zip(odd)) {
                        to.copy_from_slice(&[
                            <bf16 as Value>::from_f32(*even),
                            <bf16 as Value>::from_f32(*odd),
                        ]);
                    }
                }
            }
        }
        Self { data, k, cout: blocks * BLOCK }
    }
}

/// `out[2·row + j][square][16]` of `n` squares and the 16 channels from `first` on: sum `j` of `m A` of each row of
/// points; `product` values from one sum to the next. `x`: as [`super::winograd`] transforms, points [`apart`]. Only
/// where [`super::Cpu::bf16`] says so.
pub(crate) fn halves(x: &[bf16], n: usize, points: &Points, first: usize, out: &mut [f32], product: usize) {
    let (input, slab) = (apart(points.k), POINTS * points.k * BLOCK);
    assert!(first % BLOCK == 0 && n * points.k <= input && x.len() >= POINTS * input);
    assert!(n * BLOCK <= product && out.len() >= 8 * product);
    let w = &points.data[first / BLOCK * slab..][..slab];
    // SAFETY: bounds were checked; the caller has asked the processor for AVX512_BF16.
    unsafe { x86::halves(x.as_ptr(), (n, points.k), w.as_ptr(), out.as_mut_ptr(), product) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::BLOCK;
    use crate::ops::{
        dot::x86::{pairs, twice},
        winograd::apart,
    };

    /// Squares of a register block; with four points 24 sums.
    const ROWS: usize = 6;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub unsafe fn halves(
        x: *const bf16,
        (n, k): (usize, usize),
        w: *const bf16,
        out: *mut f32,
        product: usize,
    ) {
        let input = apart(k);
        for row in 0..4 {
            // SAFETY: `super::halves` checked every bound.
            unsafe {
                let (x, w) = (x.add(4 * row * input), w.add(row * 4 * k * BLOCK));
                let out = out.add(2 * row * product);
                for s in (0..n).step_by(ROWS) {
                    let (x, out) = (x.add(s * k), out.add(s * BLOCK));
                    // Where the compiler knows how far apart things lie, they take one register together.
                    match (n - s, k) {
                        (1, _) => block::<1>(x, input, k, w, out, product),
                        (2, _) => block::<2>(x, input, k, w, out, product),
                        (3, _) => block::<3>(x, input, k, w, out, product),
                        (4, _) => block::<4>(x, input, k, w, out, product),
                        (5, _) => block::<5>(x, input, k, w, out, product),
                        (_, 16) => block::<ROWS>(x, apart(16), 16, w, out, product),
                        (_, 32) => block::<ROWS>(x, apart(32), 32, w, out, product),
                        (_, 64) => block::<ROWS>(x, apart(64), 64, w, out, product),
                        (_, 128) => block::<ROWS>(x, apart(128), 128, w, out, product),
                        (_, 256) => block::<ROWS>(x, apart(256), 256, w, out, product),
                        _ => block::<ROWS>(x, input, k, w, out, product),
                    }
                }
            }
        }
    }

    /// `S` squares × four points × sixteen channels, `k` products each.
    ///
    /// # Safety
    /// Pointers must be good for the block; the caller has the instructions.
    #[inline(always)]
    unsafe fn block<const S: usize>(
        x: *const bf16,
        input: usize,
        k: usize,
        w: *const bf16,
        out: *mut f32,
        product: usize,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut acc = [[_mm512_setzero_ps(); 4]; S];
            for i in (0..k).step_by(2) {
                let w: [__m512bh; 4] = std::array::from_fn(|j| pairs(w.add((i * 2 + j) * 2 * BLOCK)));
                for (s, row) in acc.iter_mut().enumerate() {
                    for (j, a) in row.iter_mut().enumerate() {
                        *a = _mm512_dpbf16_ps(*a, w[j], twice(x.add(j * input + s * k + i)));
                    }
                }
            }
            for (s, [a, b, c, d]) in acc.into_iter().enumerate() {
                let (left, right) =
                    (_mm512_add_ps(_mm512_add_ps(a, b), c), _mm512_sub_ps(_mm512_sub_ps(b, c), d));
                _mm512_storeu_ps(out.add(s * BLOCK), left);
                _mm512_storeu_ps(out.add(product + s * BLOCK), right);
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod x86 {
    use half::bf16;

    pub unsafe fn halves(_: *const bf16, _: (usize, usize), _: *const bf16, _: *mut f32, _: usize) {
        unreachable!("Cpu::bf16 is none here")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{noise::Stream, ops::Bf16};

    proptest! {
        #[test]
        fn halves_equal_the_plain_sums(n in 1usize..25, pairs in 1usize..80, cout in 1usize..80, seed: u64) {
            if !Bf16::Avx512.available() {
                return Ok(());
            }
            // Small whole numbers: sums are exact in whatever order, so they must be equal to the bit.
            let mut stream = Stream::new(seed, 0);
            let mut some = |n: usize| -> Vec<f32> { (0..n).map(|_| stream.below(17) as f32 - 8.0).collect() };
            let k = 2 * pairs;
            let (input, product) = (apart(k), n * BLOCK + 3);
            let x = some(POINTS * input);
            let w: Vec<Vec<f32>> = (0..POINTS).map(|_| some(k * cout)).collect();
            let points = Points::new(cout, &w);
            let rounded: Vec<bf16> = x.iter().map(|v| bf16::from_f32(*v)).collect();
            let sum = |point: usize, s: usize, o: usize| -> f32 {
                if o >= cout { return 0.0 }
                (0..k).map(|i| x[point * input + s * k + i] * w[point][i * cout + o]).sum()
            };
            for first in (0..points.cout).step_by(BLOCK) {
                let mut got = vec![f32::NAN; 8 * product];
                halves(&rounded, n, &points, first, &mut got, product);
                for (row, s, o) in (0..4).flat_map(|r| (0..n).flat_map(move |s| (0..BLOCK).map(move |o| (r, s, o)))) {
                    let m = [0, 1, 2, 3].map(|j| sum(4 * row + j, s, first + o));
                    let at = |j: usize| got[(2 * row + j) * product + s * BLOCK + o];
                    prop_assert_eq!(at(0), m[0] + m[1] + m[2], "row {} square {} channel {}", row, s, first + o);
                    prop_assert_eq!(at(1), m[1] - m[2] - m[3], "row {} square {} channel {}", row, s, first + o);
                }
            }
        }
    }
}
