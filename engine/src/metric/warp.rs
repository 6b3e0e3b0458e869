// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much a clip flickers along the motion of the scene: warping error by block matching.

use rayon::prelude::*;

use super::same_size;
use crate::{Result, picture::to_u8};

/// Edge of a block in pixels.
const BLOCK: usize = 8;
/// Farthest displacement that is searched, in pixels, each way.
const REACH: isize = 8;
/// A block whose best match differs by more than this, in 8-bit steps of luma a pixel, is taken to be hidden
/// in the frame before, or too fast, and does not count.
const HIDDEN: u32 = 8;

/// Warping error of `N` versions of a clip and of its original, frame by frame.
///
/// The motion is the original's: of each whole 8×8 block, the displacement of at most 8 pixels each way, inside
/// the frame, with the least sum of absolute differences of luma to the frame before (the shortest of equal
/// ones). [`WarpMeter::errors`] is `√(mean (x_t(p) − x_{t−1}(p + v))²)` in 8-bit steps over the three channels,
/// all pixels p of the blocks that were found again, and all frames but the first (after Lai et al., ECCV 2018,
/// with blocks for optical flow). The original's own error tells what of it is motion finer than a pixel, noise
/// and light.
#[derive(Debug)]
pub struct WarpMeter<const N: usize> {
    width: usize,
    height: usize,
    before: Option<Frames<N>>,
    blocks: u64,
    found: u64,
    /// Of the original, then of the versions.
    squares: (u64, [u64; N]),
}

/// 8-bit planes `(3, height, width)` of the original and of its versions.
#[derive(Debug)]
struct Frames<const N: usize> {
    original: Vec<u8>,
    versions: [Vec<u8>; N],
}

impl<const N: usize> WarpMeter<N> {
    /// For frames of `width`×`height` pixels.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, before: None, blocks: 0, found: 0, squares: (0, [0; N]) }
    }

    /// Adds the next frame, planes `(3, height, width)` in [-1, 1]: the original and its versions.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for a frame of another size.
    pub fn push(&mut self, original: &[f32], versions: [&[f32]; N]) -> Result<()> {
        for version in versions {
            same_size("warping error", original, version, self.width, self.height)?;
        }
        let bytes = |planes: &[f32]| planes.iter().map(|v| to_u8(*v)).collect::<Vec<u8>>();
        let now = Frames { original: bytes(original), versions: versions.map(bytes) };
        if let Some(before) = self.before.take() {
            let (now_luma, before_luma) = (self.luma(&now.original), self.luma(&before.original));
            let columns = self.width / BLOCK;
            let count = columns * (self.height / BLOCK);
            let matches: Vec<_> = (0..count)
                .into_par_iter()
                .filter_map(|i| {
                    let at = (i % columns * BLOCK, i / columns * BLOCK);
                    self.best(&now_luma, &before_luma, at).map(|from| (at, from))
                })
                .collect();
            self.blocks += count as u64;
            self.found += matches.len() as u64;
            for (at, from) in matches {
                let size = (self.width, self.height);
                self.squares.0 += squared(size, &now.original, &before.original, at, from);
                for (n, sum) in self.squares.1.iter_mut().enumerate() {
                    let (now, before) = (&now.versions[n], &before.versions[n]);
                    *sum += squared(size, now, before, at, from);
                }
            }
        }
        self.before = Some(now);
        Ok(())
    }

    /// Share of blocks that were found again, 0 to 1.
    pub fn share(&self) -> f64 {
        self.found as f64 / self.blocks.max(1) as f64
    }

    /// The original's error and each version's, in 8-bit steps; nothing if no block was found again.
    pub fn errors(&self) -> Option<(f64, [f64; N])> {
        let samples = (self.found * (3 * BLOCK * BLOCK) as u64) as f64;
        let root = |sum: u64| (sum as f64 / samples).sqrt();
        (self.found > 0).then(|| (root(self.squares.0), self.squares.1.map(root)))
    }

    /// BT.601 luma in 8-bit steps, rounded.
    fn luma(&self, planes: &[u8]) -> Vec<u8> {
        let n = self.width * self.height;
        let weighted = |i: usize| {
            299 * u32::from(planes[i]) + 587 * u32::from(planes[n + i]) + 114 * u32::from(planes[2 * n + i])
        };
        (0..n).map(|i| ((weighted(i) + 500) / 1000) as u8).collect()
    }

    /// Where the block was in the frame before.
    fn best(&self, now: &[u8], before: &[u8], (x, y): (usize, usize)) -> Option<(usize, usize)> {
        let inside =
            |at: usize, by: isize, len: usize| at.checked_add_signed(by).filter(|from| from + BLOCK <= len);
        let mut best = (u32::MAX, isize::MAX, (x, y));
        for dy in -REACH..=REACH {
            let Some(from_y) = inside(y, dy, self.height) else { continue };
            for dx in -REACH..=REACH {
                let Some(from_x) = inside(x, dx, self.width) else { continue };
                let length = dx * dx + dy * dy;
                let mut sum = 0;
                for row in 0..BLOCK {
                    let a = &now[(y + row) * self.width + x..][..BLOCK];
                    let b = &before[(from_y + row) * self.width + from_x..][..BLOCK];
                    sum += a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
                    if sum > best.0 {
                        break;
                    }
                }
                if (sum, length) < (best.0, best.1) {
                    best = (sum, length, (from_x, from_y));
                }
            }
        }
        (best.0 <= HIDDEN * (BLOCK * BLOCK) as u32).then_some(best.2)
    }
}

/// Sum of squared differences of two blocks over the three channels.
fn squared(
    (width, height): (usize, usize),
    now: &[u8],
    before: &[u8],
    at: (usize, usize),
    from: (usize, usize),
) -> u64 {
    let mut sum = 0;
    for plane in 0..3 {
        for row in 0..BLOCK {
            let line = |frame: &'_ [u8], (x, y): (usize, usize)| -> [u8; BLOCK] {
                let start = (plane * height + y + row) * width + x;
                frame[start..start + BLOCK].try_into().expect("BLOCK long")
            };
            let (a, b) = (line(now, at), line(before, from));
            sum += a.iter().zip(&b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum::<u64>();
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{noise::Stream, picture::from_u8};

    /// A 40×24 window of a field of random greys, moved by `dx`, `dy`; three channels alike.
    fn window(dx: usize, dy: usize, add: u8) -> Vec<f32> {
        let mut rng = Stream::new(1, 1);
        let field: Vec<u8> = (0..64 * 64).map(|_| rng.below(200) as u8).collect();
        let plane = (0..24 * 40).map(|i| from_u8(field[(i / 40 + dy) * 64 + i % 40 + dx] + add));
        let plane: Vec<f32> = plane.collect();
        plane.repeat(3)
    }

    #[test]
    fn whole_motion_is_followed() {
        let mut meter = WarpMeter::<1>::new(40, 24);
        // The scene moves by (−3, +5), 4 steps brighter in the version's second frame.
        meter.push(&window(10, 10, 0), [&window(10, 10, 0)]).unwrap();
        assert_eq!(meter.errors(), None);
        meter.push(&window(13, 5, 0), [&window(13, 5, 4)]).unwrap();
        // Five rows came in at the top and three columns at the right: 4 of 5 columns, 2 of 3 rows found.
        assert!((meter.share() - 8.0 / 15.0).abs() < 1e-12, "{}", meter.share());
        assert_eq!(meter.errors(), Some((0.0, [4.0])));
    }

    #[test]
    fn a_flat_scene_stays_where_it_is() {
        let flat = |v: u8| vec![from_u8(v); 3 * 16 * 16];
        let mut meter = WarpMeter::<1>::new(16, 16);
        // All displacements match alike, so none is taken: the version's columns differ.
        let ramp = |v: u8| (0..3 * 256).map(|i| from_u8(v + 10 * (i % 16) as u8)).collect::<Vec<f32>>();
        // Versions 1, 4, 1: two changes of 3. The original grows by one step a frame.
        for (clean, version) in [(100, 1), (101, 4), (102, 1)] {
            meter.push(&flat(clean), [&ramp(version)]).unwrap();
        }
        assert_eq!((meter.share(), meter.errors()), (1.0, Some((1.0, [3.0]))));
    }

    #[test]
    fn a_cut_is_not_flicker() {
        let flat = |v: u8| vec![from_u8(v); 3 * 16 * 16];
        let mut meter = WarpMeter::<1>::new(16, 16);
        meter.push(&flat(0), [&flat(0)]).unwrap();
        meter.push(&flat(200), [&flat(90)]).unwrap();
        assert_eq!((meter.share(), meter.errors()), (0.0, None));
        assert!(meter.push(&flat(0), [&[0.0; 3]]).is_err());
    }

    #[test]
    fn frames_smaller_than_a_block_have_nothing_to_match() {
        let mut meter = WarpMeter::<1>::new(7, 3);
        for _ in 0..2 {
            meter.push(&[0.0; 63], [&[0.0; 63]]).unwrap();
        }
        assert_eq!((meter.share(), meter.errors()), (0.0, None));
    }
}
