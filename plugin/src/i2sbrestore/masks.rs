// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where nothing may change, and where to fill in.

use std::sync::{Arc, Mutex, PoisonError};

use i2sb::picture::Picture;

use super::archival::Archival;
use crate::engine::EngineError;

/// What no pixel of may change, besides what is outside of the hole, for one picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cut {
    /// As [`crate::engine::Picture::hole`].
    pub hole: Option<Arc<[f32]>>,
    /// Pixels that stay as they came in, row by row; `None`: none.
    pub keep: Option<Arc<[bool]>>,
}

/// A picture of a buffer, in the frame's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Width in pixels.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// First row, and distance between rows, in the frame.
    pub from: (usize, usize),
    /// Column and row of the stored frame at which the shown one begins.
    pub origin: (usize, usize),
    /// log2 of the pixels that share a chroma sample, across and down.
    pub sub: (u32, u32),
}

/// The masks of the settings.
#[derive(Debug, Default)]
pub struct Masks {
    protect: Option<Mask>,
    hole: Option<Mask>,
    /// What was last cut out, for the parts of a frame.
    cache: Mutex<Vec<(Rows, Cut)>>,
}

#[derive(Debug)]
struct Mask {
    width: usize,
    height: usize,
    set: Vec<bool>,
    path: String,
}

impl Mask {
    fn load(path: &str) -> Result<Option<Self>, EngineError> {
        if path.is_empty() {
            return Ok(None);
        }
        let Picture { width, height, rgb, .. } = Picture::load(path)?;
        let plane = width * height;
        // Brighter than middle grey, all channels together.
        let set = (0..plane).map(|i| rgb[i] + rgb[plane + i] + rgb[2 * plane + i] > 0.0).collect();
        Ok(Some(Self { width, height, set, path: path.to_owned() }))
    }

    /// Outside of the mask's picture nothing is set.
    fn at(&self, x: usize, y: usize) -> bool {
        x < self.width && y < self.height && self.set[y * self.width + x]
    }
}

impl Masks {
    /// Reads the pictures that the settings name.
    ///
    /// # Errors
    /// [`EngineError`] that names the file.
    pub fn load(settings: &Archival) -> Result<Self, EngineError> {
        let (protect, hole) = (Mask::load(&settings.protect_mask)?, Mask::load(&settings.inpaint_mask)?);
        Ok(Self { protect, hole, cache: Mutex::default() })
    }

    /// Whether the masks are as large as frames of this size.
    ///
    /// # Errors
    /// One sentence that names the file and both sizes.
    pub fn fit(&self, width: usize, height: usize) -> Result<(), String> {
        let all = [("protect-mask", &self.protect), ("inpaint-mask", &self.hole)];
        for (name, mask) in all.into_iter().filter_map(|(name, mask)| Some((name, mask.as_ref()?))) {
            if (mask.width, mask.height) != (width, height) {
                return Err(format!(
                    "{name} {} has {}x{} pixels, the video {width}x{height}",
                    mask.path, mask.width, mask.height
                ));
            }
        }
        Ok(())
    }

    /// The masks for one picture; `regions`: more of what may not change, `(x, y, width, height)` in the frame.
    pub fn cut(&self, rows: Rows, regions: &[(usize, usize, usize, usize)]) -> Cut {
        if self.protect.is_none() && self.hole.is_none() && regions.is_empty() {
            return Cut::default();
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if !regions.is_empty() {
            drop(cache);
            return self.make(rows, regions);
        }
        if let Some((_, cut)) = cache.iter().find(|(known, _)| *known == rows) {
            return cut.clone();
        }
        // A frame has two parts at most.
        if cache.len() >= 2 {
            cache.remove(0);
        }
        let cut = self.make(rows, regions);
        cache.push((rows, cut.clone()));
        cut
    }

    fn make(&self, rows: Rows, regions: &[(usize, usize, usize, usize)]) -> Cut {
        let plane = |set: &dyn Fn(usize, usize) -> bool| -> Vec<bool> {
            let place = |i: usize| {
                let (x, y) = (i % rows.width, rows.from.0 + i / rows.width * rows.from.1);
                x >= rows.origin.0 && y >= rows.origin.1 && set(x - rows.origin.0, y - rows.origin.1)
            };
            (0..rows.width * rows.height).map(place).collect()
        };
        let hole = self.hole.as_ref().map(|mask| plane(&|x, y| mask.at(x, y)));
        let mut keep = plane(&|x, y| {
            let inside = |&(left, top, width, height): &(usize, usize, usize, usize)| {
                (left..left + width).contains(&x) && (top..top + height).contains(&y)
            };
            self.protect.as_ref().is_some_and(|mask| mask.at(x, y)) || regions.iter().any(inside)
        });
        if keep.contains(&true) {
            grow(&mut keep, rows);
        }
        if let Some(hole) = &hole {
            keep.iter_mut().zip(hole).for_each(|(keep, hole)| *keep |= !hole);
        }
        let hole: Option<Arc<[f32]>> =
            hole.map(|hole| hole.into_iter().map(|set| f32::from(u8::from(set))).collect());
        Cut { hole, keep: Some(keep).filter(|keep| keep.contains(&true)).map(Into::into) }
    }
}

/// How many chroma samples around a pixel's own it is shown with, and are made from its neighbours.
const REACH: usize = 2;

/// Marks all pixels that share, or are shown with, a chroma sample of a marked one.
fn grow(keep: &mut [bool], rows: Rows) {
    let Rows { width, height, sub, .. } = rows;
    let lines =
        |length: usize, step: usize, sub: u32, starts: &mut dyn Iterator<Item = usize>, keep: &mut [bool]| {
            if sub == 0 {
                return;
            }
            let cells = length.div_ceil(1 << sub);
            for start in starts {
                let mut marked = vec![false; cells];
                for i in (0..length).filter(|i| keep[start + i * step]) {
                    let cell = i >> sub;
                    marked[cell.saturating_sub(REACH)..(cell + REACH + 1).min(cells)].fill(true);
                }
                (0..length).for_each(|i| keep[start + i * step] |= marked[i >> sub]);
            }
        };
    lines(width, 1, sub.0, &mut (0..height).map(|y| y * width), keep);
    lines(height, width, sub.1, &mut (0..width), keep);
}

/// Puts what may not change back.
pub fn restore_kept(keep: &[bool], input: &[f32], restored: &mut [f32]) {
    let planes = input.chunks_exact(keep.len()).zip(restored.chunks_exact_mut(keep.len()));
    for (input, restored) in planes {
        for ((&keep, &input), restored) in keep.iter().zip(input).zip(restored) {
            if keep {
                *restored = input;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(width: usize, height: usize, set: &[(usize, usize)]) -> Mask {
        let at = |i: usize| set.contains(&(i % width, i / width));
        Mask { width, height, set: (0..width * height).map(at).collect(), path: "mask.png".into() }
    }

    fn rows(width: usize, height: usize) -> Rows {
        Rows { width, height, from: (0, 1), origin: (0, 0), sub: (0, 0) }
    }

    #[test]
    fn fields_get_their_own_rows_and_stored_frames_their_border() {
        let masks = Masks { hole: Some(mask(4, 4, &[(1, 2), (3, 3)])), ..Masks::default() };
        let hole = |rows| masks.cut(rows, &[]).hole.unwrap().iter().map(|&v| v as u8).collect::<Vec<_>>();
        assert_eq!(hole(Rows { from: (0, 2), ..rows(4, 2) }), [0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(hole(Rows { from: (1, 2), ..rows(4, 2) }), [0, 0, 0, 0, 0, 0, 0, 1]);
        let stored = hole(Rows { origin: (1, 0), ..rows(6, 4) });
        assert_eq!(stored.iter().position(|&v| v == 1), Some(2 * 6 + 2));
        // All that is not hole stays.
        let cut = masks.cut(rows(4, 4), &[]);
        assert_eq!(cut.keep.unwrap().iter().filter(|&&keep| !keep).count(), 2);
        assert!(
            masks.fit(4, 4).is_ok() && masks.fit(4, 5).unwrap_err().contains("inpaint-mask mask.png has 4x4")
        );
    }

    #[test]
    fn what_is_kept_grows_by_the_chroma_it_shares() {
        let masks = Masks { protect: Some(mask(32, 32, &[(16, 16)])), ..Masks::default() };
        let kept = |sub, regions: &[_]| {
            let keep = masks.cut(Rows { sub, ..rows(32, 32) }, regions).keep.unwrap();
            (keep.iter().filter(|&&keep| keep).count(), keep[16 * 32 + 16])
        };
        assert_eq!(kept((0, 0), &[]), (1, true));
        assert_eq!(kept((1, 0), &[]), (10, true));
        assert_eq!(kept((1, 1), &[]), (100, true));
        assert_eq!(kept((0, 0), &[(0, 0, 2, 3)]), (7, true));
        assert_eq!(Masks::default().cut(rows(4, 4), &[]), Cut::default());
    }
}
