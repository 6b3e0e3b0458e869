// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture alone, in its own format: what of a buffer crosses to a device and back.

use super::{
    color::Color,
    format::PixelFormat,
    view::{View, ViewError},
};

/// A picture in a raw format, plane after plane and row after row without gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// Where its samples are in `bytes`: made by [`View::packed`].
    pub view: View,
    /// What they mean.
    pub color: Color,
    /// [`View::bytes`] bytes.
    pub bytes: Vec<u8>,
}

impl Raw {
    /// Whether each word of the format belongs to one pixel, or to pixels that share their chroma, so that pixels can
    /// be written side by side. Others do not cross as they are.
    pub fn takes(format: &PixelFormat) -> bool {
        !format.packing.is_stream()
    }

    /// The picture that `view` shows of `bytes`.
    ///
    /// # Errors
    /// [`ViewError`] for a format that [`Raw::takes`] not.
    ///
    /// # Panics
    /// If `bytes` is shorter than `view` was checked for.
    pub fn cut(view: &View, color: &Color, bytes: &[u8]) -> Result<Self, ViewError> {
        let packed = View::packed(view.format, (view.width, view.height), view.rows(1))?;
        let mut alone = Vec::with_capacity(packed.bytes());
        for (index, rows) in view.planes() {
            (0..rows).for_each(|row| alone.extend_from_slice(&bytes[view.row_range(index, row)]));
        }
        Ok(Self { view: packed, color: *color, bytes: alone })
    }

    /// Puts the picture back to where `view` shows it in `bytes`; what lies between its rows stays.
    ///
    /// # Panics
    /// If `view` is not of the format and size of the one that the picture was cut from.
    pub fn put(&self, view: &View, bytes: &mut [u8]) {
        for (index, rows) in view.planes() {
            for row in 0..rows {
                bytes[view.row_range(index, row)]
                    .copy_from_slice(&self.bytes[self.view.row_range(index, row)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::PIXEL_FORMATS;
    use super::*;

    /// Of every format, also fields and odd sizes: what is cut and put back changes nothing; what is changed arrives,
    /// and nothing else.
    #[test]
    fn a_picture_comes_back_to_where_it_was() {
        for format in PIXEL_FORMATS {
            for (width, height) in [(1, 1), (13, 6), (8, 7)] {
                let old: Vec<u8> = (0..8192u32).map(|i| (i * 151 % 251) as u8).collect();
                let whole =
                    View::new(format, (width, height), [5, 2048, 4096, 6144], [256; 4], old.len()).unwrap();
                let color = Color::new(format, (0.299, 0.114), false, (true, false));
                for view in [Some(whole), whole.field(0), whole.field(1)].into_iter().flatten() {
                    let Ok(mut raw) = Raw::cut(&view, &color, &old) else {
                        assert!(!Raw::takes(format), "{}", format.name);
                        continue;
                    };
                    assert!(Raw::takes(format) && raw.bytes.len() == raw.view.bytes(), "{}", format.name);
                    let mut new = old.clone();
                    raw.put(&view, &mut new);
                    assert!(new == old, "{}", format.name);
                    raw.bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
                    raw.put(&view, &mut new);
                    let mut shown = vec![false; old.len()];
                    for index in 0..format.count() {
                        (0..view.rows(index)).for_each(|row| shown[view.row_range(index, row)].fill(true));
                    }
                    let fits = |((old, new), shown): ((&u8, &u8), &bool)| {
                        (old ^ new) == if *shown { 0x55 } else { 0 }
                    };
                    assert!(old.iter().zip(&new).zip(&shown).all(fits), "{} {width}x{height}", format.name);
                }
            }
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let format = PixelFormat::named("I420").unwrap();
        for (size, chroma_rows) in [((0, 4), 2), ((4, 0), 1), ((1 << 25, 4), 2), ((4, 4), 0), ((4, 4), 5)] {
            assert!(View::packed(format, size, chroma_rows).is_err(), "{size:?} {chroma_rows}");
        }
        assert!(View::packed(PixelFormat::named("v210").unwrap(), (8, 4), 4).is_err());
    }
}
