// SPDX-License-Identifier: MIT OR Apache-2.0
//! A channels-last feature map of one picture with a border of zeros, so that a 3×3 kernel needs
//! no special case at the edge.

use half::bf16;

use super::{isa::Isa, rows};

/// A number that convolutions read.
pub(crate) trait Value: Copy + Default + Send + Sync + 'static {
    /// Rounds to the nearest, ties to even.
    fn from_f32(v: f32) -> Self;
}

impl Value for f32 {
    #[inline(always)]
    fn from_f32(v: f32) -> Self {
        v
    }
}

impl Value for bf16 {
    /// As `bf16::from_f32`, without a branch, so that it vectorises.
    #[inline(always)]
    fn from_f32(v: f32) -> Self {
        let bits = v.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
        bf16::from_bits(if v.is_nan() { 0x7fc0 } else { rounded })
    }
}

/// `(h + 2) × (w + 2) × c` values; the outermost ring is zero and stays zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map<T> {
    /// Rows without the border.
    pub h: usize,
    /// Columns without the border.
    pub w: usize,
    /// Channels, a multiple of 16.
    pub c: usize,
    /// The values, followed by slack that kernels may read but never use.
    pub data: Vec<T>,
}

impl<T: Value> Map<T> {
    /// Gives the map another size, keeping its memory; a map that has the size already is left as it is.
    pub fn reset(&mut self, h: usize, w: usize, c: usize) {
        assert!(c % 16 == 0, "maps have channels in multiples of 16, not {c}");
        if (self.h, self.w, self.c) == (h, w, c) && !self.data.is_empty() {
            return;
        }
        (self.h, self.w, self.c) = (h, w, c);
        self.data.clear();
        // A run reads up to 32 pixels and 32 values of k too far (ops::amx).
        self.data.resize((h + 2) * (w + 2) * c + 34 * c + 64, T::default());
    }

    /// Values from one row to the next.
    pub fn pitch(&self) -> usize {
        (self.w + 2) * self.c
    }

    /// Offset of pixel (y, x).
    pub fn at(&self, y: usize, x: usize) -> usize {
        (y + 1) * self.pitch() + (x + 1) * self.c
    }

    /// The pixels of row y.
    pub fn row_mut(&mut self, y: usize) -> &mut [T] {
        let (at, n) = (self.at(y, 0), self.w * self.c);
        &mut self.data[at..at + n]
    }

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
            }
        }
        assert!(<bf16 as Value>::from_f32(f32::from_bits(0x7fff_ffff)).is_nan());
    }
}
