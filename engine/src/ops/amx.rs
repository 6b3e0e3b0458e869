// SPDX-License-Identifier: MIT OR Apache-2.0
//! The products of [`super::gemm`] on AMX tiles: bfloat16 with sums in f32, bytes with sums in 32-bit integers.
//!
//! A tile of activations is read straight out of the channels-last map (16 pixels, `step` apart, 64 bytes of k each):
//! nothing is rearranged. Taps whose length is no multiple of that read on into the next pixel against zero weights,
//! so maps carry finite values behind their end. While the tiles of one block multiply, the vector units finish the
//! sums of the block before: each takes about as long as the other.

use half::bf16;

use super::{finish::Finish, gemm::Run};

mod grad;

pub(crate) use grad::weight_grad;

/// Pixels of a tile, and channels.
const SIDE: usize = 16;

/// A number that tiles multiply.
pub(crate) trait Number: Copy {
    /// What it is multiplied by.
    type Weight: Copy + Default;
    /// What products add up to, four bytes.
    type Sum: Copy;
    /// Values of k in a row of a tile, 64 bytes.
    const K: usize;
}

impl Number for bf16 {
    type Weight = bf16;
    type Sum = f32;
    const K: usize = 32;
}

impl Number for u8 {
    type Weight = i8;
    type Sum = i32;
    const K: usize = 64;
}

/// A row of a tile, which lies in one line of the caches.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Weights as the tiles want them: `[block of 16 channels][tap][k/K][16 groups of k][16 channels][group]`, zero-padded; a
/// group has four bytes.
#[derive(Debug, Clone)]
pub(crate) struct Packed<N: Number> {
    data: Vec<Line>,
    taps: usize,
    /// Tiles of a tap.
    ks: usize,
    /// Output channels, padded to 16.
    pub cout: usize,
    /// What each channel's sum begins with.
    start: Vec<N::Sum>,
    /// What each channel's sum is multiplied by.
    factor: Vec<f32>,
}

impl Packed<bf16> {
    /// `w`: `[tap][k][cout]`; `cout` is padded to a multiple of 16, k to one of 32.
    pub fn bf16(k: usize, cout: usize, w: &[bf16]) -> Self {
        let padded = cout.next_multiple_of(SIDE);
        Self::new(k, cout, w, vec![0.0; padded], vec![1.0; padded])
    }
}

impl<N: Number> Packed<N> {
    /// `w`: `[tap][k][cout]`; `cout` is padded to a multiple of 16, k to one of [`Number::K`]. What each padded channel's
    /// sum begins with, and is multiplied by.
    pub fn new(k: usize, cout: usize, w: &[N::Weight], start: Vec<N::Sum>, factor: Vec<f32>) -> Self {
        let (taps, ks, group) = (w.len() / (k * cout), k.div_ceil(N::K), N::K / SIDE);
        let (blocks, tile) = (cout.div_ceil(SIDE), N::K * SIDE);
        assert!([start.len(), factor.len()] == [blocks * SIDE; 2] && w.len() == taps * k * cout);
        let mut values = vec![N::Weight::default(); blocks * taps * ks * tile];
        for (row, w) in w.chunks_exact(cout).enumerate() {
            let (tap, i) = (row / k, row % k);
            for (block, w) in w.chunks(SIDE).enumerate() {
                let to = &mut values[((block * taps + tap) * ks + i / N::K) * tile..][..tile];
                let at = i % N::K / group * N::K + i % group;
                w.iter().enumerate().for_each(|(o, w)| to[at + o * group] = *w);
            }
        }
        let mut data = vec![Line([0; 64]); blocks * taps * ks * SIDE];
        assert_eq!(size_of_val(&values[..]), size_of_val(&data[..]));
        // SAFETY: as many bytes on both sides, of numbers without padding.
        unsafe { values.as_ptr().copy_to_nonoverlapping(data.as_mut_ptr().cast(), values.len()) };
        Self { data, taps, ks, cout: blocks * SIDE, start, factor }
    }
}

/// Hands the sums of a run to `finish`: `per` pixels of row `row` (0 or 1) for each of the run's, one after the other in
/// its channels. Only where [`super::Cpu`] says that there is AMX for this number.
pub(crate) fn finish<N: tiles::Tiled, F: Finish>(
    run: Run<'_, N>,
    weights: &Packed<N>,
    (row, per): (usize, usize),
    finish: &mut F,
) {
    run.check(run.n.next_multiple_of(SIDE), weights.ks * N::K);
    assert!(run.taps.len() == weights.taps && run.k.div_ceil(N::K) == weights.ks);
    assert!(weights.cout % (per * SIDE) == 0 && finish.fits(row + 1, run.n * per, weights.cout / per));
    // SAFETY: bounds were checked; the caller has asked the processor for AMX.
    unsafe { tiles::finish(&run, weights, (row, per), finish) }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod tiles {
    use super::{Finish, Number, Packed, Run};

    pub trait Tiled: Number {}
    impl<N: Number> Tiled for N {}

    pub unsafe fn finish<N: Tiled, F: Finish>(_: &Run<'_, N>, _: &Packed<N>, _: (usize, usize), _: &mut F) {
        unreachable!("Cpu does not say AMX here")
    }
}

#[cfg(test)]
#[path = "amx/tests.rs"]
mod tests;
