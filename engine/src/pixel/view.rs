// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the planes of one picture, or of one of its fields, lie in a buffer.

use super::format::{Packing, PixelFormat};

/// Geometry of a picture in a byte slice; made only by [`View::new`], which proves it fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The format.
    pub format: &'static PixelFormat,
    /// Width in pixels.
    pub width: usize,
    /// Height in rows of this view.
    pub height: usize,
    chroma_rows: usize,
    row_bytes: [usize; 3],
    offset: [usize; 4],
    stride: [usize; 4],
}

/// A buffer is too short for, or contradicts, its description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// A plane ends behind the buffer's end.
    #[error("plane {plane} of {format} {width}x{height} needs {need} bytes, the buffer has {have}")]
    Short {
        /// Name of the format.
        format: &'static str,
        /// Width in pixels.
        width: usize,
        /// Height in rows.
        height: usize,
        /// The plane that does not fit.
        plane: usize,
        /// Bytes from the buffer's start to the plane's end.
        need: usize,
        /// Bytes in the buffer.
        have: usize,
    },
    /// A row is longer than the distance to the next one.
    #[error("plane {plane}: rows of {row} bytes do not fit a stride of {stride}")]
    Stride {
        /// The plane.
        plane: usize,
        /// Bytes of picture in a row.
        row: usize,
        /// The stride, in bytes.
        stride: usize,
    },
    /// Rows that lie from the last to the first.
    #[error(
        "a stride of {stride} bytes: rows from the last to the first are not taken; put a videoconvert before"
    )]
    Upwards {
        /// The stride, in bytes.
        stride: i32,
    },
    /// The format's samples lie in a stream of bits across pixels.
    #[error("{format} has no rows that can be cut out alone")]
    Stream {
        /// Name of the format.
        format: &'static str,
    },
    /// Numbers too large to be a picture.
    #[error("a picture of {width}x{height} pixels cannot be addressed")]
    Size {
        /// Width in pixels.
        width: usize,
        /// Height in rows.
        height: usize,
    },
}

impl View {
    /// A whole picture: `offset` and `stride` in bytes per plane, `len` the buffer's length.
    ///
    /// # Errors
    /// [`ViewError`] if any sample would lie outside `len` bytes or a row overlaps the next.
    pub fn new(
        format: &'static PixelFormat,
        (width, height): (usize, usize),
        offset: [usize; 4],
        stride: [usize; 4],
        len: usize,
    ) -> Result<Self, ViewError> {
        let chroma_rows = height.div_ceil(1 << format.sub.1);
        let mut view = Self { format, width, height, chroma_rows, row_bytes: [0; 3], offset, stride };
        check_size(width, height)?;
        for index in 0..format.count() {
            let plane = format.components[index].plane;
            let (row, rows) = (view.measure_row(index), view.rows(index));
            view.row_bytes[index] = row;
            if rows > 1 && row > stride[plane] {
                return Err(ViewError::Stride { plane, row, stride: stride[plane] });
            }
            let need = stride[plane]
                .checked_mul(rows - 1)
                .and_then(|bytes| bytes.checked_add(row))
                .and_then(|bytes| bytes.checked_add(offset[plane]));
            match need {
                Some(need) if need <= len => {}
                _ => {
                    let (need, have) = (need.unwrap_or(usize::MAX), len);
                    return Err(ViewError::Short { format: format.name, width, height, plane, need, have });
                }
            }
        }
        Ok(view)
    }

    /// A picture without gaps: plane after plane, row after row. `chroma_rows`: rows of components 1 and 2, which a
    /// field may have one less of than its height asks for.
    ///
    /// # Errors
    /// [`ViewError`] for a size that cannot be, or a format whose samples lie in a stream of bits.
    pub fn packed(
        format: &'static PixelFormat,
        (width, height): (usize, usize),
        chroma_rows: usize,
    ) -> Result<Self, ViewError> {
        check_size(width, height)?;
        if format.packing.is_stream() {
            return Err(ViewError::Stream { format: format.name });
        }
        if chroma_rows == 0 || chroma_rows > height {
            return Err(ViewError::Size { width, height: chroma_rows });
        }
        let mut view =
            Self { format, width, height, chroma_rows, row_bytes: [0; 3], offset: [0; 4], stride: [0; 4] };
        for index in 0..format.count() {
            view.row_bytes[index] = view.measure_row(index);
            let stride = &mut view.stride[format.components[index].plane];
            *stride = view.row_bytes[index].max(*stride);
        }
        let planes: Vec<_> = view.planes().collect();
        let mut end = 0;
        for (index, rows) in planes {
            let plane = format.components[index].plane;
            view.offset[plane] = end;
            end += view.stride[plane] * rows;
        }
        Ok(view)
    }

    /// For each plane, the component whose rows are its longest, and how many rows it has; in the order in which
    /// [`View::packed`] lays planes out.
    pub fn planes(&self) -> impl Iterator<Item = (usize, usize)> + use<'_> {
        let count = self.format.count();
        let plane = |index: usize| self.format.components[index].plane;
        let longest = move |index: &usize| {
            let others = (0..count).filter(|other| plane(*other) == plane(*index));
            others.max_by_key(|other| (self.row_bytes[*other], std::cmp::Reverse(*other))) == Some(*index)
        };
        (0..count).filter(longest).map(|index| (index, self.rows(index)))
    }

    /// Bytes from the start of the first plane of a picture without gaps to the end of its last.
    pub fn bytes(&self) -> usize {
        self.planes().map(|(index, rows)| self.stride[self.format.components[index].plane] * rows).sum()
    }

    /// Where row 0 of component `index` begins, and bytes from one of its rows to the next.
    pub fn place(&self, index: usize) -> (usize, usize) {
        let plane = self.format.components[index].plane;
        (self.offset[plane], self.stride[plane])
    }

    /// One field of an interleaved picture: 0 holds rows 0, 2, …; 1 holds rows 1, 3, ….
    /// `None` if the picture is too small to have this field.
    pub fn field(&self, parity: usize) -> Option<Self> {
        let height = (self.height + 1 - parity) / 2;
        let chroma_rows = (self.chroma_rows + 1 - parity) / 2;
        if height == 0 || chroma_rows == 0 {
            return None;
        }
        let mut view = Self { height, chroma_rows, ..*self };
        for plane in 0..4 {
            view.offset[plane] += parity * self.stride[plane];
            view.stride[plane] *= 2;
        }
        Some(view)
    }

    /// Pixels.
    pub fn pixels(&self) -> usize {
        self.width * self.height
    }

    /// Rows of component `index`.
    pub fn rows(&self, index: usize) -> usize {
        if index == 0 { self.height } else { self.chroma_rows }
    }

    /// Samples in a row of component `index`.
    pub fn columns(&self, index: usize) -> usize {
        self.width.div_ceil(1 << self.format.sub_of(index).0)
    }

    /// Bytes of a row, from the plane's left border to the last byte of component `index`.
    fn measure_row(&self, index: usize) -> usize {
        let component = self.format.components[index];
        let last = component.offset + (self.columns(index) - 1) * component.step;
        match self.format.packing {
            Packing::Byte => last + 1,
            Packing::Le16 | Packing::Be16 => last + 2,
            Packing::Le32 | Packing::Be32 => last + 4,
            // GStreamer's strides of these leave out the last chroma sample of some odd widths.
            Packing::Tens32 => ((last / 3 + 1) * 4).min(self.stride[component.plane]),
            Packing::TensLe | Packing::TensBe => {
                ((last + 1) * 10).div_ceil(8).min(self.stride[component.plane])
            }
        }
    }

    /// The bytes of row `row` of component `index` within the buffer.
    pub fn row_range(&self, index: usize, row: usize) -> std::ops::Range<usize> {
        let plane = self.format.components[index].plane;
        let start = self.offset[plane] + row * self.stride[plane];
        start..start + self.row_bytes[index]
    }
}

fn check_size(width: usize, height: usize) -> Result<(), ViewError> {
    let fits = |side: usize| (1..=1 << 24).contains(&side);
    if fits(width) && fits(height) { Ok(()) } else { Err(ViewError::Size { width, height }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn i420() -> &'static PixelFormat {
        PixelFormat::named("I420").expect("listed")
    }

    #[test]
    fn one_byte_short_is_refused() {
        let (offset, stride) = ([0, 24, 30, 0], [6, 3, 3, 0]);
        assert!(View::new(i420(), (5, 4), offset, stride, 36).is_ok());
        let short = View::new(i420(), (5, 4), offset, stride, 35).unwrap_err();
        assert!(matches!(short, ViewError::Short { plane: 2, need: 36, have: 35, .. }), "{short}");
    }

    #[test]
    fn overlapping_rows_and_huge_sizes_are_refused() {
        let stride = View::new(i420(), (8, 4), [0; 4], [7, 4, 4, 0], 1000).unwrap_err();
        assert!(matches!(stride, ViewError::Stride { plane: 0, row: 8, stride: 7 }));
        let huge = View::new(i420(), (8, 4), [0, usize::MAX, 0, 0], [8, usize::MAX / 2, 4, 0], 1000);
        assert!(huge.is_err());
        assert!(View::new(i420(), (0, 4), [0; 4], [8; 4], 1000).is_err());
    }

    #[test]
    fn fields_share_out_the_rows() {
        let view = View::new(i420(), (4, 7), [0, 28, 36, 0], [4, 2, 2, 0], 44).unwrap();
        let (top, bottom) = (view.field(0).unwrap(), view.field(1).unwrap());
        assert_eq!((top.height, bottom.height), (4, 3));
        assert_eq!((top.rows(1), bottom.rows(1)), (2, 2));
        assert_eq!(bottom.row_range(0, 0), 4..8);
        assert_eq!(bottom.row_range(1, 1), 34..36);
        assert!(View::new(i420(), (4, 1), [0; 4], [4; 4], 44).unwrap().field(1).is_none());
    }
}
