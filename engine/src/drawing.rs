// SPDX-License-Identifier: MIT OR Apache-2.0
//! A canvas for the pictures that the command makes about pictures: comparisons, sheets, plots.

use std::convert::Infallible;

use embedded_graphics::{
    Drawable, Pixel,
    draw_target::DrawTarget,
    geometry::{OriginDimensions, Point, Size},
    mono_font::{MonoFont, MonoTextStyle, ascii},
    pixelcolor::{Rgb888, RgbColor},
    primitives::{Line, Primitive, PrimitiveStyle, Rectangle},
    text::{Baseline, Text},
};

use crate::{Result, picture::Picture};

/// A colour: red, green, blue.
pub type Colour = [u8; 3];

/// Dark grey, behind everything.
pub const INK: Colour = [24, 24, 27];
/// Nearly white, for text on [`INK`].
pub const PAPER: Colour = [244, 244, 245];

/// Letters of one size. Other characters than ASCII's appear as question marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    /// 6 × 10 pixels.
    Small,
    /// 10 × 20 pixels.
    Large,
}

impl Letters {
    /// Width and height of one character, in pixels.
    pub fn size(self) -> (usize, usize) {
        let size = self.font().character_size;
        (size.width as usize, size.height as usize)
    }

    fn font(self) -> &'static MonoFont<'static> {
        match self {
            Self::Small => &ascii::FONT_6X10,
            Self::Large => &ascii::FONT_10X20,
        }
    }
}

/// 8-bit RGB pixels to draw on. What falls outside is cut off. Positions are `(x, y)` from the top
/// left, in pixels.
#[derive(Debug, Clone)]
pub struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    /// A canvas of one colour.
    pub fn new(width: usize, height: usize, colour: Colour) -> Self {
        Self { width, height, rgb: colour.repeat(width * height) }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Interleaved pixels, `(height, width, 3)`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Fills a rectangle of `size` at `at`.
    pub fn fill(&mut self, at: (usize, usize), size: (usize, usize), colour: Colour) {
        let area = Rectangle::new(point(at), Size::new(size.0 as u32, size.1 as u32));
        always(area.into_styled(PrimitiveStyle::with_fill(shade(colour))).draw(self));
    }

    /// A line one pixel wide, both ends included.
    pub fn line(&mut self, from: (usize, usize), to: (usize, usize), colour: Colour) {
        let line = Line::new(point(from), point(to));
        always(line.into_styled(PrimitiveStyle::with_stroke(shade(colour), 1)).draw(self));
    }

    /// One line of text whose top left corner is `at`.
    pub fn text(&mut self, at: (usize, usize), text: &str, letters: Letters, colour: Colour) {
        let style = MonoTextStyle::new(letters.font(), shade(colour));
        let plain: String = text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
        always(Text::with_baseline(&plain, point(at), style, Baseline::Top).draw(self).map(drop));
    }

    /// Puts a picture's pixels with the top left corner at `at`; opacity is ignored.
    pub fn paste(&mut self, at: (usize, usize), picture: &Picture) {
        let pixels = picture.to_rgb8();
        let visible = picture.width.min(self.width.saturating_sub(at.0));
        for (row, line) in pixels.chunks_exact(picture.width * 3).enumerate() {
            if at.1 + row >= self.height {
                break;
            }
            let start = ((at.1 + row) * self.width + at.0) * 3;
            self.rgb[start..start + visible * 3].copy_from_slice(&line[..visible * 3]);
        }
    }

    /// The canvas as a picture.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if a side is zero.
    pub fn to_picture(&self) -> Result<Picture> {
        Picture::from_rgb8(self.width, self.height, &self.rgb)
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> std::result::Result<(), Infallible> {
        for Pixel(Point { x, y }, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { continue };
            if x < self.width && y < self.height {
                let at = (y * self.width + x) * 3;
                self.rgb[at..at + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

fn shade([r, g, b]: Colour) -> Rgb888 {
    Rgb888::new(r, g, b)
}

fn point((x, y): (usize, usize)) -> Point {
    let clamp = |v: usize| v.min(i32::MAX as usize / 2) as i32;
    Point::new(clamp(x), clamp(y))
}

fn always<T>(drawn: std::result::Result<T, Infallible>) -> T {
    match drawn {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(canvas: &Canvas, x: usize, y: usize) -> Colour {
        let at = (y * canvas.width + x) * 3;
        canvas.rgb[at..at + 3].try_into().unwrap()
    }

    #[test]
    fn shapes_land_where_they_are_put_and_are_cut_at_the_border() {
        let mut canvas = Canvas::new(8, 6, INK);
        canvas.fill((6, 4), (10, 10), [255, 0, 0]);
        canvas.line((0, 0), (7, 0), PAPER);
        canvas.paste((2, 2), &Picture::from_rgb8(1, 9, &[1, 2, 3].repeat(9)).unwrap());
        canvas.paste((90, 90), &Picture::from_rgb8(1, 1, &[9; 3]).unwrap());
        assert_eq!(pixel(&canvas, 7, 5), [255, 0, 0]);
        assert_eq!(pixel(&canvas, 5, 4), INK);
        assert_eq!((pixel(&canvas, 0, 0), pixel(&canvas, 7, 0), pixel(&canvas, 0, 1)), (PAPER, PAPER, INK));
        assert_eq!((pixel(&canvas, 2, 5), pixel(&canvas, 2, 1), pixel(&canvas, 3, 2)), ([1, 2, 3], INK, INK));
    }

    #[test]
    fn text_has_the_size_it_promises() {
        let (width, height) = Letters::Small.size();
        let mut canvas = Canvas::new(4 * width, 2 * height, INK);
        canvas.text((0, height), "M\u{e9}", Letters::Small, PAPER);
        let lit = |x: usize, y: usize| pixel(&canvas, x, y) == PAPER;
        let any = |xs: std::ops::Range<usize>, ys: std::ops::Range<usize>| {
            xs.clone().any(|x| ys.clone().any(|y| lit(x, y)))
        };
        assert!(any(0..width, height..2 * height) && any(width..2 * width, height..2 * height));
        assert!(!any(0..4 * width, 0..height) && !any(2 * width..4 * width, 0..2 * height));
    }
}
