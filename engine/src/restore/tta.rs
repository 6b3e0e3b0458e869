// SPDX-License-Identifier: MIT OR Apache-2.0
//! Test-time augmentation: a picture is restored in several orientations, mirrored and turned, and the results'
//! mean is nearer than each of them, as their errors differ (Timofte, Rothe, Van Gool, "Seven ways to improve
//! example-based single image super resolution", 2016).

use std::ops::Range;

use super::{Request, Restorer};
use crate::{Cancel, Result, tile::Window};

/// Orientations that there are.
pub(super) const MOST: usize = 8;

/// One orientation: rows and columns in reverse, and then exchanged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    rows: bool,
    cols: bool,
    exchanged: bool,
}

impl Turn {
    /// The first `count` orientations, beginning with the picture's own.
    pub fn first(count: usize) -> impl ExactSizeIterator<Item = Self> {
        (0..count).map(|i| Self { cols: i & 1 != 0, rows: i & 2 != 0, exchanged: i & 4 != 0 })
    }

    /// Height and width of a picture after the turn.
    pub fn size(self, (h, w): (usize, usize)) -> (usize, usize) {
        if self.exchanged { (w, h) } else { (h, w) }
    }

    /// Planes of `size`, turned.
    pub fn turned(self, planes: &[f32], size: (usize, usize)) -> Vec<f32> {
        let (h, w) = self.size(size);
        let mut out = Vec::with_capacity(planes.len());
        for plane in planes.chunks_exact(h * w) {
            for y in 0..h {
                out.extend((0..w).map(|x| {
                    let (y, x) = self.mirrored(if self.exchanged { (x, y) } else { (y, x) }, size);
                    plane[y * size.1 + x]
                }));
            }
        }
        out
    }

    /// Where a window of a picture of `size` lies after the turn.
    pub fn window(self, window: &Window, size: (usize, usize)) -> Window {
        let mirrored = |range: &Range<usize>, whole: usize, yes: bool| {
            if yes { whole - range.end..whole - range.start } else { range.clone() }
        };
        let (rows, cols) =
            (mirrored(&window.rows, size.0, self.rows), mirrored(&window.cols, size.1, self.cols));
        if self.exchanged { Window { rows: cols, cols: rows } } else { Window { rows, cols } }
    }

    /// Adds planes of the turned `window`, turned back and times `share`, to planes of `window`.
    pub fn add_back(
        self,
        turned: &[f32],
        share: f32,
        window: &Window,
        size: (usize, usize),
        sum: &mut [f32],
    ) {
        let there = self.window(window, size);
        let (h, w) = (window.rows.len(), window.cols.len());
        for (turned, sum) in turned.chunks_exact(h * w).zip(sum.chunks_exact_mut(h * w)) {
            for (y, row) in window.rows.clone().zip(sum.chunks_exact_mut(w)) {
                for (x, sum) in window.cols.clone().zip(row) {
                    let (y, x) = self.mirrored((y, x), size);
                    let (y, x) = if self.exchanged { (x, y) } else { (y, x) };
                    *sum += share * turned[(y - there.rows.start) * there.cols.len() + x - there.cols.start];
                }
            }
        }
    }

    fn mirrored(self, (y, x): (usize, usize), (h, w): (usize, usize)) -> (usize, usize) {
        (if self.rows { h - 1 - y } else { y }, if self.cols { w - 1 - x } else { x })
    }
}

impl Restorer {
    /// The mean of the results of `count` orientations.
    pub(super) fn averaged(
        &self,
        count: usize,
        rgb: &[f32],
        size: (usize, usize),
        window: &Window,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<Vec<f32>> {
        let mut sum = vec![0.0; 3 * window.rows.len() * window.cols.len()];
        for (i, turn) in Turn::first(count).enumerate() {
            let picture = turn.turned(rgb, size);
            let mask = request.mask.map(|mask| turn.turned(mask, size));
            let progress =
                |done: f32| request.progress.iter().for_each(|p| p((i as f32 + done) / count as f32));
            let request = Request { mask: mask.as_deref(), progress: Some(&progress), ..*request };
            let there = turn.window(window, size);
            let restored = self.restore_once(&picture, turn.size(size), &there, &request, cancel)?;
            turn.add_back(&restored, 1.0 / count as f32, window, size, &mut sum);
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_orientation_differs_and_comes_back() {
        let size = (3, 5);
        let planes: Vec<f32> = (0..2 * 15).map(|v| v as f32).collect();
        let all: Vec<_> =
            Turn::first(MOST).map(|turn| (turn.size(size), turn.turned(&planes, size))).collect();
        assert_eq!(all[0].1, planes);
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b), "{i}");
        }
        for window in [Window { rows: 0..3, cols: 0..5 }, Window { rows: 1..3, cols: 2..4 }] {
            let cut = |planes: &[f32], (h, w): (usize, usize), window: &Window| -> Vec<f32> {
                let planes = planes.chunks_exact(h * w);
                let rows = planes.flat_map(|plane| window.rows.clone().map(move |y| &plane[y * w..][..w]));
                rows.flat_map(|row| row[window.cols.clone()].to_vec()).collect()
            };
            let want = cut(&planes, size, &window);
            for (turn, (there, turned)) in Turn::first(MOST).zip(&all) {
                let part = cut(turned, *there, &turn.window(&window, size));
                let mut sum = vec![1.0; want.len()];
                turn.add_back(&part, 2.0, &window, size, &mut sum);
                assert!(sum.iter().zip(&want).all(|(s, v)| *s == 1.0 + 2.0 * v), "{turn:?} {window:?}");
            }
        }
    }
}
