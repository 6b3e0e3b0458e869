// SPDX-License-Identifier: MIT OR Apache-2.0
//! Still pictures: from a file to planar f32 and back.

mod avif;
#[cfg(test)]
mod fixtures;
mod heif;
mod jpeg;
mod load;
pub mod resize;
mod save;

pub use jpeg::{Sampling, decode_jpeg, encode_jpeg};
pub use load::{Limits, READABLE, is_foreign, is_picture, read_rgb8};
pub use save::{SaveOptions, WRITABLE, writable};

use crate::{Error, Result};

/// A picture as the bridge sees it, with what is needed to write it back as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Pixels per row, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// Red, green, blue planes one after the other, `(3, height, width)`, range [-1, 1].
    pub rgb: Vec<f32>,
    /// Opacity, `(height, width)`, range [0, 1]; `None` where every pixel is opaque.
    pub alpha: Option<Vec<f32>>,
    /// True if the file had more than 8 bits per channel; it is then written with 16 where the
    /// format allows.
    pub deep: bool,
    /// The file's ICC profile, if it describes RGB values.
    pub icc: Option<Vec<u8>>,
}

impl Picture {
    /// An opaque picture of `rgb`, `(3, height, width)`, range [-1, 1].
    ///
    /// # Errors
    /// [`Error::Shape`] if a side is zero or the planes do not hold `3·width·height` values.
    pub fn new(width: usize, height: usize, rgb: Vec<f32>) -> Result<Self> {
        if width == 0 || height == 0 || rgb.len() != 3 * width * height {
            return Err(Error::shape("picture", &[rgb.len()], format!("3 planes of {width}×{height}")));
        }
        Ok(Self { width, height, rgb, alpha: None, deep: false, icc: None })
    }

    /// A picture of interleaved 8-bit `rgb`, `(height, width, 3)`: `x = 2·(u8/255) − 1`.
    ///
    /// # Errors
    /// [`Error::Shape`] as [`Picture::new`].
    pub fn from_rgb8(width: usize, height: usize, rgb: &[u8]) -> Result<Self> {
        Self::new(width, height, planar(rgb))
    }

    /// Interleaved 8-bit pixels `(height, width, 3)`, rounded to nearest and clamped; NaN becomes 0.
    pub fn to_rgb8(&self) -> Vec<u8> {
        interleaved(&self.rgb)
    }

    /// One pixel of the planes, red, green, blue, range [-1, 1].
    ///
    /// # Panics
    /// If `x` or `y` is outside the picture.
    pub fn at(&self, x: usize, y: usize) -> [f32; 3] {
        let plane = self.width * self.height;
        [0, 1, 2].map(|c| self.rgb[c * plane + y * self.width + x])
    }
}

/// Interleaved u8 `(n, 3)` to planes `(3, n)` in [-1, 1].
pub fn planar(interleaved: &[u8]) -> Vec<f32> {
    let plane = interleaved.len() / 3;
    let mut planes = vec![0.0; 3 * plane];
    let (red, rest) = planes.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    let channels = red.iter_mut().zip(green).zip(blue);
    for (pixel, ((r, g), b)) in interleaved.chunks_exact(3).zip(channels) {
        *r = from_u8(pixel[0]);
        *g = from_u8(pixel[1]);
        *b = from_u8(pixel[2]);
    }
    planes
}

/// Planes `(3, n)` in [-1, 1] to interleaved u8 `(n, 3)`, rounded and clamped.
pub fn interleaved(planes: &[f32]) -> Vec<u8> {
    let plane = planes.len() / 3;
    let (red, rest) = planes.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    let mut interleaved = vec![0; 3 * plane];
    let channels = red.iter().zip(green).zip(blue);
    for (pixel, ((r, g), b)) in interleaved.chunks_exact_mut(3).zip(channels) {
        pixel.copy_from_slice(&[to_u8(*r), to_u8(*g), to_u8(*b)]);
    }
    interleaved
}

/// `x = 2·(u8/255) − 1` (SPEC 1).
pub fn from_u8(value: u8) -> f32 {
    2.0 * (f32::from(value) / 255.0) - 1.0
}

/// [-1, 1] to 0..=255, rounded to nearest and clamped; NaN becomes 0.
pub fn to_u8(value: f32) -> u8 {
    // A float-to-int `as` saturates, so this clamps as well; adding a half and truncating is much
    // faster than `round` where the processor has no instruction for it.
    (value * 127.5 + 128.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_8_bit_value_survives() {
        for value in 0..=255 {
            assert_eq!(to_u8(from_u8(value)), value);
        }
        assert_eq!([to_u8(f32::NAN), to_u8(-9.0), to_u8(9.0)], [0, 0, 255]);
    }

    #[test]
    fn planes_must_fit_the_size() {
        assert!(Picture::new(0, 1, vec![]).is_err());
        assert!(Picture::new(2, 2, vec![0.0; 11]).is_err());
        let picture = Picture::from_rgb8(2, 1, &[0, 128, 255, 1, 2, 3]).unwrap();
        assert_eq!(picture.to_rgb8(), [0, 128, 255, 1, 2, 3]);
        assert_eq!(picture.at(1, 0), [from_u8(1), from_u8(2), from_u8(3)]);
    }
}
