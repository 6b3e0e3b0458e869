// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks of tiles: multiplied, stored, and finished while the next one is multiplied.

use std::{arch::x86_64::*, mem::MaybeUninit};

use half::bf16;

use super::{Finish, Number, Packed, Run, SIDE};

/// Eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
pub struct Config([u8; 64]);

pub const CONFIG: Config = {
    let mut c = [0u8; 64];
    c[0] = 1;
    let mut i = 0;
    while i < 8 {
        c[16 + 2 * i] = 64;
        c[48 + i] = 16;
        i += 1;
    }
    Config(c)
};

// The compiler never uses tile registers, so they keep their values from one block to the next.
macro_rules! tile {
    ($($line:expr),+ $(; $($name:ident = $value:expr),*)?) => {
        std::arch::asm!($($line),+ $(, $($name = in(reg) $value),*)?, options(nostack, preserves_flags))
    };
}
pub(super) use tile;

/// The instructions of a number. Sums are tiles 0 to 3: pixels first, then channels.
///
/// # Safety
/// The processor has AMX for this number, tiles are configured, pointers are good for whole tiles.
pub trait Tiled: Number {
    /// Adds the products of `P` tiles of activations, rows `step` bytes apart, with `C` tiles of weights.
    unsafe fn multiply<const P: usize, const C: usize>(a: [*const Self; 4], step: usize, b: [*const u8; 2]);
    /// Sums of 16 channels as floats.
    unsafe fn floats(sums: *const f32, factor: *const f32) -> __m512;
    /// Begins sum `tile`.
    unsafe fn begin<const TILE: usize>(start: *const Self::Sum);
}

macro_rules! multiply {
    ($dot:literal) => {
        #[inline(always)]
        unsafe fn multiply<const P: usize, const C: usize>(a: [*const Self; 4], step: usize, b: [*const u8; 2]) {
            // SAFETY: the caller's contract.
            unsafe {
                match (P, C) {
                    (1, 1) => tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                        concat!($dot, " tmm0, tmm4, tmm6"); a = a[0], b = b[0], s = step, t = 64usize),
                    (1, 2) => tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                        concat!($dot, " tmm0, tmm4, tmm6"), "tileloadd tmm7, [{d} + {t}]",
                        concat!($dot, " tmm1, tmm4, tmm7");
                        a = a[0], b = b[0], d = b[1], s = step, t = 64usize),
                    (2, 2) => tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                        concat!($dot, " tmm0, tmm4, tmm6"), "tileloadd tmm7, [{d} + {t}]",
                        concat!($dot, " tmm1, tmm4, tmm7"), "tileloadd tmm5, [{c} + {s}]",
                        concat!($dot, " tmm2, tmm5, tmm6"), concat!($dot, " tmm3, tmm5, tmm7");
                        a = a[0], c = a[1], b = b[0], d = b[1], s = step, t = 64usize),
                    _ => {
                        tile!("tileloadd tmm6, [{b} + {t}]", "tileloadd tmm4, [{a} + {s}]",
                            concat!($dot, " tmm0, tmm4, tmm6"), "tileloadd tmm5, [{c} + {s}]",
                            concat!($dot, " tmm1, tmm5, tmm6");
                            a = a[0], c = a[1], b = b[0], s = step, t = 64usize);
                        if P > 2 {
                            tile!("tileloadd tmm7, [{a} + {s}]", concat!($dot, " tmm2, tmm7, tmm6");
                                a = a[2], s = step);
                        }
                        if P > 3 {
                            tile!("tileloadd tmm4, [{a} + {s}]", concat!($dot, " tmm3, tmm4, tmm6");
                                a = a[3], s = step);
                        }
                    }
                }
            }
        }
    };
}

/// With the number of a sum's tile known to the compiler.
macro_rules! of_tile {
    ($tile:expr, $before:literal, $after:literal $(; $($name:ident = $value:expr),*)?) => {
        match $tile {
            0 => tile!(concat!($before, "tmm0", $after) $(; $($name = $value),*)?),
            1 => tile!(concat!($before, "tmm1", $after) $(; $($name = $value),*)?),
            2 => tile!(concat!($before, "tmm2", $after) $(; $($name = $value),*)?),
            _ => tile!(concat!($before, "tmm3", $after) $(; $($name = $value),*)?),
        }
    };
}

impl Tiled for bf16 {
    multiply!("tdpbf16ps");

    #[inline(always)]
    unsafe fn floats(sums: *const f32, _: *const f32) -> __m512 {
        // SAFETY: the caller's contract.
        unsafe { _mm512_load_ps(sums) }
    }
    #[inline(always)]
    unsafe fn begin<const TILE: usize>(_: *const f32) {
        // SAFETY: the caller's contract.
        unsafe { of_tile!(TILE, "tilezero ", "") }
    }
}

impl Tiled for u8 {
    multiply!("tdpbusd");

    #[inline(always)]
    unsafe fn floats(sums: *const f32, factor: *const f32) -> __m512 {
        // SAFETY: the caller's contract.
        unsafe { _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums.cast())), _mm512_loadu_ps(factor)) }
    }
    #[inline(always)]
    unsafe fn begin<const TILE: usize>(start: *const i32) {
        // SAFETY: the caller's contract; all rows of the tile are the same 16 integers.
        unsafe { of_tile!(TILE, "tileloadd ", ", [{a} + {s}]"; a = start, s = 0usize) }
    }
}

/// Sums of a block, `[pixel][tile][16]`.
#[repr(C, align(64))]
struct Block([f32; 4 * SIDE * SIDE]);

/// A block whose sums are there and not finished yet.
#[derive(Clone, Copy)]
struct Waiting {
    sums: *const f32,
    /// The next pixel, and their number.
    next: usize,
    pixels: usize,
    /// Tiles of channels, and the first channel.
    tiles: usize,
    first: usize,
    /// Of each tile the pixel that `finish` takes it for, if it is the run's first, and the channel.
    to: [[usize; 2]; 2],
}

/// What all blocks of a run have in common.
struct Work<'a, N: Number, F> {
    run: &'a Run<'a, N>,
    w: &'a Packed<N>,
    row: usize,
    per: usize,
    finish: &'a mut F,
    waiting: Waiting,
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub unsafe fn finish<N: Tiled, F: Finish>(
    run: &Run<'_, N>,
    w: &Packed<N>,
    (row, per): (usize, usize),
    finish: &mut F,
) {
    // Written by the tiles before it is read: clearing it took a row of few channels longer than its products.
    let mut blocks = [const { MaybeUninit::<Block>::uninit() }; 2];
    let sums = blocks.each_mut().map(|block| block.as_mut_ptr().cast::<f32>());
    let waiting = Waiting { sums: sums[0], next: 0, pixels: 0, tiles: 1, first: 0, to: [[0; 2]; 2] };
    let mut work = Work { run, w, row, per, finish, waiting };
    let mut turn = 0;
    // SAFETY: `super::finish` checked every bound.
    unsafe {
        tile!("ldtilecfg [{c}]"; c = &CONFIG);
        let mut p = 0;
        while p < run.n {
            // Four sums at a time keep the tiles busy: two by two, or four of 16 channels.
            let most = if w.cout == SIDE { 4 } else { 2 };
            let tiles = (run.n - p).div_ceil(SIDE).min(most);
            let mut o = 0;
            while o < w.cout {
                let wide = w.cout - o > SIDE;
                let at = [p, o];
                match (tiles, wide) {
                    (1, false) => work.block::<1, 1>(at, sums[turn]),
                    (1, true) => work.block::<1, 2>(at, sums[turn]),
                    (2, true) => work.block::<2, 2>(at, sums[turn]),
                    (2, false) => work.block::<2, 1>(at, sums[turn]),
                    (3, _) => work.block::<3, 1>(at, sums[turn]),
                    _ => work.block::<4, 1>(at, sums[turn]),
                }
                turn = 1 - turn;
                o += if wide { 2 * SIDE } else { SIDE };
            }
            p += tiles * SIDE;
        }
        tile!("tilerelease");
        work.finish(usize::MAX);
    }
}

impl<N: Tiled, F: Finish> Work<'_, N, F> {
    /// Computes `P` tiles of pixels from p on × `C` tiles of channels from o on into `sums`, and finishes the block
    /// before meanwhile.
    ///
    /// # Safety
    /// The block lies in the run and the weights; the caller has the instructions.
    #[inline(always)]
    unsafe fn block<const P: usize, const C: usize>(&mut self, [p, o]: [usize; 2], sums: *mut f32) {
        let Self { run, w, per, .. } = *self;
        let steps = w.taps * w.ks;
        let share = self.waiting.pixels.div_ceil(steps);
        // SAFETY: the caller's contract.
        unsafe {
            let a = run.x.as_ptr().add(run.start + p * run.step);
            let b = w.data.as_ptr().add(o / SIDE * steps * SIDE).cast::<u8>();
            let start = w.start.as_ptr().add(o);
            N::begin::<0>(start);
            if P * C > 1 {
                N::begin::<1>(start.add(if C == 2 { SIDE } else { 0 }));
            }
            if P * C > 2 {
                N::begin::<2>(start);
            }
            if P * C > 3 {
                N::begin::<3>(start.add(if C == 2 { SIDE } else { 0 }));
            }
            let mut offset = 0;
            for &tap in run.taps {
                for i in 0..w.ks {
                    let a = a.add(tap + i * N::K);
                    let a = [0, 1, 2, 3].map(|p| if p < P { a.add(p * SIDE * run.step) } else { a });
                    let b = b.add(offset);
                    let b = [b, if C == 2 { b.add(steps * SIDE * 64) } else { b }];
                    N::multiply::<P, C>(a, run.step * size_of::<N>(), b);
                    self.finish(share);
                    offset += SIDE * 64;
                }
            }
            let rows = C * SIDE * 4;
            of_tile!(0, "tilestored [{y} + {s}], ", ""; y = sums, s = rows);
            if P * C > 1 {
                let to = if C == 2 { sums.add(SIDE) } else { sums.add(SIDE * SIDE) };
                of_tile!(1, "tilestored [{y} + {s}], ", ""; y = to, s = rows);
            }
            if P * C > 2 {
                of_tile!(2, "tilestored [{y} + {s}], ", ""; y = sums.add(2 * SIDE * SIDE), s = rows);
            }
            if P * C > 3 {
                let to = sums.add(if C == 2 { 2 * SIDE * SIDE + SIDE } else { 3 * SIDE * SIDE });
                of_tile!(3, "tilestored [{y} + {s}], ", ""; y = to, s = rows);
            }
        }
        debug_assert!(self.waiting.next == self.waiting.pixels);
        let c = w.cout / per;
        let to = [o, o + SIDE].map(|o| [p * per + o / c, o % c]);
        let pixels = (run.n - p).min(P * SIDE);
        self.waiting = Waiting { sums, next: 0, pixels, tiles: C, first: o, to };
    }

    /// Finishes some pixels of the block before.
    ///
    /// # Safety
    /// As [`Work::block`].
    #[inline(always)]
    unsafe fn finish(&mut self, pixels: usize) {
        let Waiting { sums, next, tiles, first, to, .. } = self.waiting;
        let end = self.waiting.pixels.min(next.saturating_add(pixels));
        for pixel in next..end {
            for (tile, [x, channel]) in to.into_iter().enumerate().take(tiles) {
                // SAFETY: the caller's contract; `super::finish` asked whether the run fits.
                unsafe {
                    let sums = N::floats(
                        sums.add((pixel * tiles + tile) * SIDE),
                        self.w.factor.as_ptr().add(first + tile * SIDE),
                    );
                    self.finish.take(sums, self.row, x + pixel * self.per, channel);
                }
            }
        }
        self.waiting.next = end;
    }
}
