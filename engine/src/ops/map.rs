// SPDX-License-Identifier: MIT OR Apache-2.0
//! A channels-last feature map of one picture with a border of zeros, so that a 3×3 kernel needs
//! no special case at the edge. It holds all lines of the picture, or the last few.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::{isa::Isa, lanes::Lanes, rows};

/// A number that convolutions read.
pub(crate) trait Value: Copy + Default + Send + Sync + 'static {
    /// True if it has fewer than 12 bits.
    const ROUGH: bool;
    /// Rounds to the nearest, ties to even.
    fn from_f32(v: f32) -> Self;
    /// Exactly.
    fn to_f32(self) -> f32;
    /// Some neighbours at once, exactly.
    ///
    /// # Safety
    /// `p` must be good for `L::N` values; the caller has the instruction set of `L`.
    unsafe fn load<L: Lanes>(p: *const Self) -> L;
    /// The reverse of [`Value::load`], rounded to the nearest, ties to even.
    ///
    /// # Safety
    /// As [`Value::load`]; sixteen bfloat16 numbers need AVX512_BF16.
    unsafe fn store<L: Lanes>(v: L, p: *mut Self);
    /// Two of [`Value::store`].
    ///
    /// # Safety
    /// As [`Value::store`].
    #[inline(always)]
    unsafe fn store_both<L: Lanes>(both: [L; 2], to: [*mut Self; 2]) {
        // SAFETY: the caller's contract.
        unsafe {
            Self::store(both[0], to[0]);
            Self::store(both[1], to[1]);
        }
    }
}

impl Value for f32 {
    const ROUGH: bool = false;
    #[inline(always)]
    fn from_f32(v: f32) -> Self {
        v
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const Self) -> L {
        // SAFETY: the caller's contract.
        unsafe { L::load(p) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(v: L, p: *mut Self) {
        // SAFETY: the caller's contract.
        unsafe { v.store(p) }
    }
}

impl Value for bf16 {
    const ROUGH: bool = true;
    /// As `bf16::from_f32`, without a branch, so that it vectorises.
    #[inline(always)]
    fn from_f32(v: f32) -> Self {
        let bits = v.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
        bf16::from_bits(if v.is_nan() { 0x7fc0 } else { rounded })
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const Self) -> L {
        // SAFETY: the caller's contract.
        unsafe { L::load_bf16(p) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(v: L, p: *mut Self) {
        // SAFETY: the caller's contract.
        unsafe { v.store_bf16(p) }
    }
    #[inline(always)]
    unsafe fn store_both<L: Lanes>(both: [L; 2], to: [*mut Self; 2]) {
        // SAFETY: the caller's contract.
        unsafe { L::store_both_bf16(both, to) }
    }
}

/// `lines + 2` lines of `w + 2` pixels of `c` values; first and last line, first and last column are
/// zero and stay zero (of a [`Map::window`] the columns only). Line y of the picture lies in place `y mod lines`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map<T> {
    /// Rows of the picture.
    pub h: usize,
    /// Columns without the border.
    pub w: usize,
    /// Channels, a multiple of 16.
    pub c: usize,
    /// Rows of the picture that have a place at the same time: `h`, or fewer.
    pub lines: usize,
    /// All values, followed by slack that kernels may read but never use.
    pub data: Vec<T>,
}

impl<T: Copy + Default + Send + Sync> Map<T> {
    /// Gives the map another size, with a place for every row, keeping its memory; a map that has the
    /// size already is left as it is.
    pub fn reset(&mut self, h: usize, w: usize, c: usize) {
        self.reset_lines(h, w, c, h);
    }

    /// As [`Map::reset`], with places for `lines` rows only.
    pub fn reset_lines(&mut self, h: usize, w: usize, c: usize, lines: usize) {
        self.reset_around(h, w, c, lines, &[T::default()]);
    }

    /// As [`Map::reset_lines`], with a border of pixels of `zero`, one value for all channels or one for each; the same in
    /// every call.
    pub fn reset_around(&mut self, h: usize, w: usize, c: usize, lines: usize, zero: &[T]) {
        assert!(c % 16 == 0, "maps have channels in multiples of 16, not {c}");
        if (self.h, self.w, self.c, self.lines) == (h, w, c, lines) && !self.data.is_empty() {
            return;
        }
        (self.h, self.w, self.c, self.lines) = (h, w, c, lines);
        self.data.clear();
        // A run reads up to 15 pixels, or twice as many where it takes every second one, and 63 values too far (ops::amx).
        let n = (lines + 2) * (w + 2) * c + 30 * c + 64;
        match zero {
            [one] => self.data.resize(n, *one),
            _ => self.data.extend(zero.iter().cycle().take(n)),
        }
    }

    /// Makes the map rows `rows` of a channels-last picture, lines of `w` pixels of `c` values: the lines above and
    /// below are the picture's, zeros beyond it. Zeros fill the channels up.
    pub fn window(&mut self, x: &[T], w: usize, c: usize, rows: Range<usize>) {
        self.reset(rows.len(), w, c.next_multiple_of(16));
        let (h, pitch, padded) = (x.len() / (w * c), self.pitch(), self.c);
        for (i, line) in self.data.chunks_exact_mut(pitch).take(rows.len() + 2).enumerate() {
            let pixels = &mut line[padded..][..w * padded];
            let Some(y) = (rows.start + i).checked_sub(1).filter(|y| *y < h) else {
                pixels.fill(T::default());
                continue;
            };
            for (to, from) in pixels.chunks_exact_mut(padded).zip(x[y * w * c..].chunks_exact(c)) {
                to[..c].copy_from_slice(from);
                to[c..].fill(T::default());
            }
        }
    }

    /// Values from one line to the next.
    pub fn pitch(&self) -> usize {
        (self.w + 2) * self.c
    }

    /// Offset of the line above row y, border included: `above(y + 1)` is row y itself. Above the
    /// picture and below it are lines of zeros.
    pub fn above(&self, y: usize) -> usize {
        match y {
            0 => 0,
            y if y > self.h => (self.lines + 1) * self.pitch(),
            y => ((y - 1) % self.lines + 1) * self.pitch(),
        }
    }

    /// Offset of pixel (y, x).
    pub fn at(&self, y: usize, x: usize) -> usize {
        self.above(y + 1) + (x + 1) * self.c
    }

    /// The pixels of row y.
    pub fn row(&self, y: usize) -> &[T] {
        &self.data[self.at(y, 0)..][..self.w * self.c]
    }

    /// The pixels of row y.
    pub fn row_mut(&mut self, y: usize) -> &mut [T] {
        let (at, n) = (self.at(y, 0), self.w * self.c);
        &mut self.data[at..at + n]
    }

    /// Rows `rows`, borders included, `group` at a time (the last group may be smaller). At most
    /// `lines` of them; if they do not begin at 0, `group` must divide their first and `lines`.
    pub fn lines_mut(
        &mut self,
        rows: Range<usize>,
        group: usize,
    ) -> impl IndexedParallelIterator<Item = &mut [T]> {
        let (pitch, first) = (self.pitch(), rows.start % self.lines);
        assert!(rows.len() <= self.lines && (first == 0 || first % group + self.lines % group == 0));
        let (low, high) = self.data[pitch..].split_at_mut(first * pitch);
        let straight = rows.len().min(self.lines - first);
        let high = high[..straight * pitch].par_chunks_mut(group * pitch);
        high.chain(low[..(rows.len() - straight) * pitch].par_chunks_mut(group * pitch))
    }
}

impl<T: Value> Map<T> {
    /// Rounds a plain channels-last picture of the same size into the map.
    pub fn fill(&mut self, isa: Isa, from: &[f32]) {
        for (y, row) in from.chunks_exact(self.w * self.c).enumerate() {
            rows::round(isa, row, self.row_mut(y));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_to_bf16_equals_the_crates_own() {
        for i in 0..=u32::MAX / 4099 {
            let v = f32::from_bits(i * 4099);
            if !v.is_nan() {
                assert_eq!(<bf16 as Value>::from_f32(v).to_bits(), bf16::from_f32(v).to_bits(), "{v:e}");
                let half = bf16::from_f32(v);
                assert_eq!(half.to_f32().to_bits(), Value::to_f32(half).to_bits());
            }
        }
        assert!(<bf16 as Value>::from_f32(f32::from_bits(0x7fff_ffff)).is_nan());
    }

    #[test]
    fn a_window_shows_its_rows_and_those_beside_it() {
        let (h, w, c) = (5, 3, 2);
        let x: Vec<f32> = (1..=h * w * c).map(|i| i as f32).collect();
        let mut map = Map::default();
        // What an earlier window of the same size left must not show.
        map.window(&vec![f32::NAN; 5 * 3 * 16], 3, 16, 1..3);
        for rows in [0..2, 2..4, 3..5, 0..5, 4..5] {
            map.window(&x, w, c, rows.clone());
            for i in 0..rows.len() + 2 {
                for column in 0..w + 2 {
                    let (y, inside) = ((rows.start + i).wrapping_sub(1), (1..=w).contains(&column));
                    let pixel = &map.data[map.above(i)..][column * 16..][..16];
                    for (k, v) in pixel.iter().enumerate() {
                        let want =
                            if y < h && inside && k < c { x[(y * w + column - 1) * c + k] } else { 0.0 };
                        assert_eq!(*v, want, "{rows:?} line {i}, column {column}, channel {k}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_lines_stay_and_the_border_is_zero() {
        let mut map = Map::<f32>::default();
        map.reset_lines(11, 3, 16, 6);
        for rows in [0..4, 4..8, 8..11] {
            let first = rows.start;
            map.lines_mut(rows, 2).enumerate().for_each(|(i, group)| {
                for (j, line) in group.chunks_exact_mut(5 * 16).enumerate() {
                    line[16..4 * 16].fill((first + 2 * i + j + 1) as f32);
                }
            });
        }
        for y in 5..11 {
            assert!(map.row(y).iter().all(|v| *v == (y + 1) as f32), "row {y}");
            let line = &map.data[map.above(y + 1)..][..5 * 16];
            assert!(line[..16].iter().chain(&line[64..]).all(|v| *v == 0.0));
        }
        for y in [0, 12, 13] {
            assert!(map.data[map.above(y)..][..5 * 16].iter().all(|v| *v == 0.0), "line above {y}");
        }
    }
}
