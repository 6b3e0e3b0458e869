// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which parts of a picture differ from the one before.

use super::Picture;

/// Side of the blocks that are compared, in pixels.
pub const BLOCK: usize = 64;

/// Blocks of [`BLOCK`]² pixels, row by row; true where the pictures differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Blocks in a row.
    pub columns: usize,
    /// One flag per block.
    pub blocks: Vec<bool>,
}

impl Changed {
    /// Compares two pictures bit by bit; `None` if their sizes or holes differ.
    pub fn between(before: &Picture, now: &Picture) -> Option<Self> {
        if (before.width, before.height) != (now.width, now.height) || before.hole != now.hole {
            return None;
        }
        let columns = now.width.div_ceil(BLOCK);
        let mut blocks = vec![false; columns * now.height.div_ceil(BLOCK)];
        let planes =
            before.rgb.chunks_exact(now.width * now.height).zip(now.rgb.chunks_exact(now.width * now.height));
        for (before, now_plane) in planes {
            let rows = before.chunks_exact(now.width).zip(now_plane.chunks_exact(now.width));
            for (y, (before, now_row)) in rows.enumerate() {
                let at = y / BLOCK * columns;
                let flags = &mut blocks[at..at + columns];
                let parts = before.chunks(BLOCK).zip(now_row.chunks(BLOCK));
                for (flag, (before, now_part)) in flags.iter_mut().zip(parts) {
                    // A block once found changed is not read again: moving pictures cost one row.
                    *flag = *flag || differ(before, now_part);
                }
            }
        }
        Some(Self { columns, blocks })
    }

    /// Blocks of a picture.
    pub fn blocks_of(width: usize, height: usize) -> usize {
        width.div_ceil(BLOCK) * height.div_ceil(BLOCK)
    }

    /// Blocks that changed.
    pub fn count(&self) -> usize {
        self.blocks.iter().filter(|&&changed| changed).count()
    }

    /// Whether nothing changed.
    pub fn is_none(&self) -> bool {
        self.blocks.iter().all(|&changed| !changed)
    }

    /// The blocks whose result can differ when the network looks `halo` pixels far.
    pub fn grown(&self, halo: usize) -> Self {
        let (reach, rows) = (halo.div_ceil(BLOCK), self.blocks.len() / self.columns.max(1));
        let mut blocks = vec![false; self.blocks.len()];
        for (index, _) in self.blocks.iter().enumerate().filter(|(_, changed)| **changed) {
            let (row, column) = (index / self.columns, index % self.columns);
            for row in row.saturating_sub(reach)..(row + reach + 1).min(rows) {
                for column in column.saturating_sub(reach)..(column + reach + 1).min(self.columns) {
                    blocks[row * self.columns + column] = true;
                }
            }
        }
        Self { columns: self.columns, blocks }
    }
}

/// Whether two runs of samples differ in any bit: all of a run at once, which vectorises.
fn differ(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).fold(0, |bits, (a, b)| bits | (a.to_bits() ^ b.to_bits())) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Picture {
        let rgb = (0..3 * width * height).map(|i| (i % 255) as f32 / 255.0).collect();
        Picture::new(width, height, rgb)
    }

    #[test]
    fn one_sample_marks_one_block_and_its_neighbours() {
        let (before, mut now) = (picture(200, 130), picture(200, 130));
        assert!(Changed::between(&before, &now).unwrap().is_none());
        let at = 2 * 200 * 130 + 70 * 200 + 199;
        now.rgb[at] += 0.25;
        let changed = Changed::between(&before, &now).unwrap();
        assert_eq!(changed.columns, 4);
        assert_eq!(changed.blocks.iter().position(|&c| c), Some(7));
        assert_eq!(changed.count(), 1);
        assert_eq!(changed.grown(1).count(), 6);
        assert_eq!(changed.grown(65).count(), 9);
        assert_eq!(changed.grown(0).count(), 1);
    }

    #[test]
    fn pictures_of_other_size_cannot_be_compared() {
        assert_eq!(Changed::between(&picture(8, 8), &picture(8, 9)), None);
    }
}
