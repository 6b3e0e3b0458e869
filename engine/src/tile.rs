// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cuts a frame into tiles whose results, put side by side, are exactly the whole frame's.
//!
//! A pixel of a network's output depends on the pixels within the network's halo and on where zero
//! padding begins. So a tile reads its own pixels and a halo around them, cut on multiples of the
//! network's stride, twice over ([`CUT`]); the halo ends where the frame ends, because there the whole frame is padded
//! too. What lies in the halo is thrown away afterwards. Nothing is blended.

use std::ops::Range;

use candle_core::Tensor;

use crate::{Error, Result};

/// Most pixels that an automatic tile reads, halo included, on a CPU.
///
/// A network of the `bridge` family holds a few rows of most of its maps at a time, so a tile of
/// 4096×2304 pixels needs little more memory than its pixels.
pub const AUTO_TILE_PIXELS: usize = 4096 * 2304;

/// Tiles begin on multiples of this many strides: kernels compute squares of 2×2 values together, also
/// where a value stands for a square of stride × stride pixels.
pub const CUT: usize = 2;

/// A window of a frame: rows and columns in pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// First row, and one past the last.
    pub rows: Range<usize>,
    /// First column, and one past the last.
    pub cols: Range<usize>,
}

/// One tile, in pixels of the padded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// What the network gets: the kept window and the halo around it, clipped at the frame's border.
    pub read: Window,
    /// What of the network's result is kept. The kept windows of a plan cover the frame once.
    pub keep: Window,
}

/// How a frame is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    height: usize,
    width: usize,
    halo: usize,
    tile_height: usize,
    tile_width: usize,
}

impl Plan {
    /// A plan for a frame of `height` × `width` pixels, both multiples of `stride`.
    ///
    /// - `halo`: how far the network looks, in pixels; `None` puts all into one tile.
    /// - `tile`: edge of a tile's kept window in pixels, rounded up to [`CUT`] strides; 0 chooses the
    ///   largest equal tiles that read at most [`AUTO_TILE_PIXELS`] each.
    ///
    /// # Errors
    /// [`Error::Setting`] if the frame is empty or not a multiple of the stride.
    pub fn new(height: usize, width: usize, stride: usize, halo: Option<usize>, tile: usize) -> Result<Self> {
        let stride = stride.max(1);
        for (name, value) in [("frame height", height), ("frame width", width)] {
            if value == 0 || !value.is_multiple_of(stride) {
                return Err(Error::setting(name, value, format!("a multiple of {stride} above 0")));
            }
        }
        let Some(halo) = halo else {
            return Ok(Self { height, width, halo: 0, tile_height: height, tile_width: width });
        };
        let stride = CUT * stride;
        let halo = halo.next_multiple_of(stride);
        let (tile_height, tile_width) = match tile {
            0 => automatic(height, width, stride, halo),
            _ => {
                let edge = tile.min(height.max(width)).next_multiple_of(stride);
                (edge.min(height), edge.min(width))
            }
        };
        Ok(Self { height, width, halo, tile_height, tile_width })
    }

    /// True if one tile holds the whole frame.
    pub fn is_whole(&self) -> bool {
        self.tile_height >= self.height && self.tile_width >= self.width
    }

    /// How many tiles there are.
    pub fn count(&self) -> usize {
        self.height.div_ceil(self.tile_height) * self.width.div_ceil(self.tile_width)
    }

    /// The tiles, row by row from the top left.
    pub fn tiles(&self) -> impl Iterator<Item = Tile> + '_ {
        let starts = |length: usize, tile: usize| (0..length).step_by(tile);
        starts(self.height, self.tile_height).flat_map(move |top| {
            starts(self.width, self.tile_width).map(move |left| {
                let keep = Window {
                    rows: top..(top + self.tile_height).min(self.height),
                    cols: left..(left + self.tile_width).min(self.width),
                };
                Tile { read: keep.grown(self.halo, 1, self.height, self.width), keep }
            })
        })
    }
}

impl Tile {
    /// Where the kept window lies inside the window that was read.
    pub fn keep_in_read(&self) -> Window {
        self.keep.relative_to(&self.read)
    }
}

impl Window {
    /// This window and `halo` pixels around it, widened to multiples of `stride` and clipped at a frame
    /// of `height` × `width`, which are multiples of it.
    pub fn grown(&self, halo: usize, stride: usize, height: usize, width: usize) -> Self {
        let grow = |range: &Range<usize>, end: usize| {
            let start = range.start.saturating_sub(halo) / stride * stride;
            start..range.end.saturating_add(halo).min(end).next_multiple_of(stride).min(end)
        };
        Self { rows: grow(&self.rows, height), cols: grow(&self.cols, width) }
    }

    /// This window as seen from the top left corner of `outer`, which holds it.
    pub fn relative_to(&self, outer: &Self) -> Self {
        let shift = |range: &Range<usize>, by: usize| range.start - by..range.end - by;
        Self { rows: shift(&self.rows, outer.rows.start), cols: shift(&self.cols, outer.cols.start) }
    }

    /// This window of `x`, `(B, C, H, W)` → `(B, C, rows, cols)`, contiguous.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the window reaches beyond `x`.
    pub fn cut(&self, x: &Tensor) -> Result<Tensor> {
        let rows = x.narrow(2, self.rows.start, self.rows.len())?;
        Ok(rows.narrow(3, self.cols.start, self.cols.len())?.contiguous()?)
    }
}

/// Repeats the last row and the last column until `x`, `(B, C, H, W)`, is `height` × `width`.
///
/// Rows and columns are added below and to the right, so absolute positions stay.
///
/// # Errors
/// [`Error::Shape`] if `x` has no pixels or is larger already.
pub fn pad_edges(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if h == 0 || w == 0 || h > height || w > width {
        return Err(Error::shape("frame to pad", x.dims(), format!("at most {height} × {width}, not empty")));
    }
    Ok(x.pad_with_same(2, 0, height - h)?.pad_with_same(3, 0, width - w)?)
}

/// Equal tiles, as few as fit: the frame is halved, thirded … along its longer edge first.
fn automatic(height: usize, width: usize, stride: usize, halo: usize) -> (usize, usize) {
    let part = |length: usize, count: usize| length.div_ceil(count).next_multiple_of(stride);
    let read = |kept: usize, length: usize| kept.saturating_add(2 * halo).min(length);
    let (mut rows, mut cols) = (1, 1);
    loop {
        let (tile_height, tile_width) = (part(height, rows), part(width, cols));
        let pixels = read(tile_height, height).saturating_mul(read(tile_width, width));
        // Below the halo's own size a smaller tile saves little and costs much.
        let smallest = |kept: usize, length: usize| kept <= halo.max(stride).min(length);
        if pixels <= AUTO_TILE_PIXELS || (smallest(tile_height, height) && smallest(tile_width, width)) {
            return (tile_height, tile_width);
        }
        if tile_width >= tile_height && !smallest(tile_width, width) || smallest(tile_height, height) {
            cols += 1;
        } else {
            rows += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn kept_windows_cover_the_frame_once(
            rows in 1usize..60, cols in 1usize..60, stride in 1usize..9, halo in 0usize..40, tile in 0usize..300,
        ) {
            let (height, width) = (rows * stride, cols * stride);
            let plan = Plan::new(height, width, stride, Some(halo), tile).unwrap();
            let mut seen = vec![0u8; height * width];
            for Tile { read, keep } in plan.tiles() {
                for edge in [keep.rows.start, keep.cols.start, read.rows.start, read.cols.start] {
                    prop_assert_eq!(edge % (CUT * stride), 0);
                }
                prop_assert!(read.rows.end <= height && read.cols.end <= width);
                prop_assert!(read.rows.start + halo <= keep.rows.start || read.rows.start == 0);
                prop_assert!(keep.rows.end + halo <= read.rows.end || read.rows.end == height);
                prop_assert!(read.cols.start + halo <= keep.cols.start || read.cols.start == 0);
                prop_assert!(keep.cols.end + halo <= read.cols.end || read.cols.end == width);
                for y in keep.rows.clone() {
                    keep.cols.clone().for_each(|x| seen[y * width + x] += 1);
                }
            }
            prop_assert_eq!(plan.tiles().count(), plan.count());
            prop_assert!(seen.iter().all(|&n| n == 1));
        }

        #[test]
        fn automatic_tiles_keep_the_bound(rows in 1usize..2000, cols in 1usize..2000, halo in 0usize..96) {
            let plan = Plan::new(rows * 8, cols * 8, 8, Some(halo), 0).unwrap();
            for Tile { read, .. } in plan.tiles() {
                prop_assert!(read.rows.len() * read.cols.len() <= AUTO_TILE_PIXELS);
            }
        }
    }

    #[test]
    fn a_network_without_halo_gets_the_whole_frame() {
        let plan = Plan::new(4096, 4096, 32, None, 64).unwrap();
        assert!(plan.is_whole());
        assert_eq!((plan.tiles().count(), plan.count()), (1, 1));
    }

    #[test]
    fn frames_off_the_stride_are_refused() {
        assert!(Plan::new(0, 8, 8, Some(1), 0).is_err());
        assert!(Plan::new(8, 12, 8, Some(1), 0).is_err());
    }

    #[test]
    fn padding_repeats_the_edge() {
        let x = Tensor::arange(0f32, 6.0, &Device::Cpu).unwrap().reshape((1, 1, 2, 3)).unwrap();
        let y = pad_edges(&x, 3, 5).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(y, [0., 1., 2., 2., 2., 3., 4., 5., 5., 5., 3., 4., 5., 5., 5.]);
        let empty = Tensor::zeros((1, 3, 0, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(pad_edges(&empty, 8, 8).is_err());
        assert!(pad_edges(&x, 1, 5).is_err());
    }
}
