// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much a clip flickers where the scene stands still.

use super::same_size;
use crate::{Error, Result, picture::to_u8};

/// A sample counts as still if the original's value never leaves a range of this many 8-bit steps.
const STILL_RANGE: u8 = 2;
/// Most frames whose squares fit a sum of 32 bits.
const MAX_FRAMES: usize = 65_000;

/// Temporal deviation of `N` versions of a clip against its original, frame by frame, in memory of a few frames.
///
/// Of each still sample (one channel of one pixel) the variance over time of its error, version minus
/// original, in 8-bit steps; [`StillMeter::deviation`] is the square root of its mean over all still samples:
/// `√(mean_p (mean_t e² − (mean_t e)²))`. A version that is wrong but constant has none.
#[derive(Debug)]
pub struct StillMeter<const N: usize> {
    width: usize,
    height: usize,
    frames: usize,
    least: Vec<u8>,
    most: Vec<u8>,
    sums: [Vec<i32>; N],
    squares: [Vec<u32>; N],
}

impl<const N: usize> StillMeter<N> {
    /// For frames of `width`×`height` pixels.
    pub fn new(width: usize, height: usize) -> Self {
        let samples = 3 * width * height;
        Self {
            width,
            height,
            frames: 0,
            least: vec![u8::MAX; samples],
            most: vec![0; samples],
            sums: std::array::from_fn(|_| vec![0; samples]),
            squares: std::array::from_fn(|_| vec![0; samples]),
        }
    }

    /// Adds the next frame, planes `(3, height, width)` in [-1, 1]: the original and its versions.
    ///
    /// # Errors
    /// [`Error::Shape`] for a frame of another size, [`Error::Setting`] after 65000 frames.
    pub fn push(&mut self, original: &[f32], versions: [&[f32]; N]) -> Result<()> {
        if self.frames == MAX_FRAMES {
            return Err(Error::setting("frames of a clip", self.frames + 1, format!("at most {MAX_FRAMES}")));
        }
        for version in versions {
            same_size("temporal deviation", original, version, self.width, self.height)?;
        }
        for (i, value) in original.iter().enumerate() {
            let clean = to_u8(*value);
            self.least[i] = self.least[i].min(clean);
            self.most[i] = self.most[i].max(clean);
            for (n, version) in versions.iter().enumerate() {
                let error = i32::from(to_u8(version[i])) - i32::from(clean);
                self.sums[n][i] += error;
                self.squares[n][i] += error.unsigned_abs().pow(2);
            }
        }
        self.frames += 1;
        Ok(())
    }

    fn still(&self) -> impl Iterator<Item = usize> {
        (0..self.least.len()).filter(|i| self.most[*i].saturating_sub(self.least[*i]) <= STILL_RANGE)
    }

    /// Share of still samples, 0 to 1.
    pub fn share(&self) -> f64 {
        self.still().count() as f64 / self.least.len().max(1) as f64
    }

    /// Each version's deviation in 8-bit steps; nothing before the second frame, or if nothing stands still.
    pub fn deviation(&self) -> Option<[f64; N]> {
        let count = self.still().count();
        if self.frames < 2 || count == 0 {
            return None;
        }
        let frames = self.frames as f64;
        let variance = |n: usize, i: usize| {
            let mean = f64::from(self.sums[n][i]) / frames;
            f64::from(self.squares[n][i]) / frames - mean * mean
        };
        Some(std::array::from_fn(|n| {
            let sum: f64 = self.still().map(|i| variance(n, i)).sum();
            (sum / count as f64).max(0.0).sqrt()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::from_u8;

    fn frame(values: [u8; 2]) -> Vec<f32> {
        // Two pixels, three channels alike.
        (0..3).flat_map(|_| values.map(from_u8)).collect()
    }

    #[test]
    fn deviation_by_hand() {
        let mut meter = StillMeter::<2>::new(2, 1);
        // The first pixel stands still, the second moves by 100 and must not count.
        for (clean, a, b) in [([50, 0], [52, 9], [60, 0]), ([50, 100], [48, 77], [60, 0])] {
            meter.push(&frame(clean), [&frame(a), &frame(b)]).unwrap();
        }
        // Errors +2 and −2: deviation 2. Errors +10 and +10: constant, none.
        assert_eq!(meter.share(), 0.5);
        assert_eq!(meter.deviation(), Some([2.0, 0.0]));
    }

    #[test]
    fn small_changes_of_the_original_are_taken_out() {
        let mut meter = StillMeter::<1>::new(2, 1);
        for value in [50, 52, 51] {
            meter.push(&frame([value, value]), [&frame([value + 5, value + 5])]).unwrap();
        }
        assert_eq!((meter.share(), meter.deviation()), (1.0, Some([0.0])));
    }

    #[test]
    fn without_change_or_stillness_there_is_nothing_to_say() {
        let mut meter = StillMeter::<1>::new(2, 1);
        meter.push(&frame([0, 0]), [&frame([0, 0])]).unwrap();
        assert_eq!(meter.deviation(), None);
        meter.push(&frame([3, 3]), [&frame([3, 3])]).unwrap();
        assert_eq!((meter.share(), meter.deviation()), (0.0, None));
        assert!(meter.push(&frame([0, 0]), [&[0.0; 3]]).is_err());
    }
}
