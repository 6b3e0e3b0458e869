// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contact sheet of the largest changes: before, after, and the difference enlarged, a row for each frame.

use anyhow::{Context, Result};
use i2sb::drawing::{Canvas, Letters};
use i2sb::picture::Picture;
use image::{RgbImage, imageops};

/// Widest picture of a row, in pixels.
const WIDEST: u32 = 480;
/// Space around pictures, in pixels.
const GAP: usize = 8;
/// How much larger the difference is shown than it is.
pub const GAIN: i32 = 8;
/// Ground, and letters on it.
const COLOURS: ([u8; 3], [u8; 3]) = ([24; 3], [230; 3]);

/// A row: what stands above it, and the frame before and after.
pub struct Row {
    /// Which frame, when, how much.
    pub title: String,
    /// As it came.
    pub before: RgbImage,
    /// As it went.
    pub after: RgbImage,
}

/// Draws it.
pub fn draw(rows: &[Row]) -> Result<RgbImage> {
    let letters = Letters::Small;
    let line = letters.size().1 + GAP;
    let heads = ["before".to_owned(), "after".to_owned(), format!("difference, {GAIN} times, on grey")];
    let cells: Vec<(&Row, [RgbImage; 3])> = rows.iter().map(|row| (row, cells(row))).collect();
    let size = |row: &[RgbImage; 3]| (row[0].width() as usize, row[0].height() as usize);
    let widest = cells.iter().map(|(_, row)| size(row).0).max().context("no row")?;
    let longest = rows.iter().map(|row| row.title.len()).max().unwrap_or_default() * letters.size().0;
    // As wide as the pictures, or as the words above them.
    let head = heads.iter().map(String::len).max().unwrap_or_default() * letters.size().0;
    let column = widest.max(head) + GAP;
    let width = GAP + (3 * column).max(longest + GAP);
    let height = GAP + line + cells.iter().map(|(_, row)| line + size(row).1 + GAP).sum::<usize>();
    let mut canvas = Canvas::new(width, height, COLOURS.0);
    for (index, text) in heads.iter().enumerate() {
        canvas.text((GAP + index * column, GAP), text, letters, COLOURS.1);
    }
    let mut top = GAP + line;
    for (row, pictures) in &cells {
        canvas.text((GAP, top), &row.title, letters, COLOURS.1);
        for (index, picture) in pictures.iter().enumerate() {
            let (width, height) = size(pictures);
            let picture = Picture::from_rgb8(width, height, picture.as_raw())?;
            canvas.paste((GAP + index * column, top + line - GAP / 2), &picture);
        }
        top += line + size(pictures).1 + GAP;
    }
    RgbImage::from_raw(width as u32, height as u32, canvas.rgb().to_vec()).context("the sheet's size")
}

/// The three pictures of a row, small enough.
fn cells(row: &Row) -> [RgbImage; 3] {
    let mut difference = row.after.clone();
    for (now, before) in difference.iter_mut().zip(row.before.iter()) {
        *now = (128 + GAIN * (i32::from(*now) - i32::from(*before))).clamp(0, 255) as u8;
    }
    [row.before.clone(), row.after.clone(), difference].map(|picture| {
        let (width, height) = picture.dimensions();
        if width <= WIDEST {
            return picture;
        }
        let height = (u64::from(height) * u64::from(WIDEST)).div_ceil(width.into()) as u32;
        imageops::resize(&picture, WIDEST, height, imageops::FilterType::Triangle)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_before_after_and_what_changed() {
        let before = RgbImage::from_pixel(960, 100, image::Rgb([50; 3]));
        let mut after = before.clone();
        for y in 0..100 {
            for x in 0..480 {
                after.put_pixel(x, y, image::Rgb([55, 50, 40]));
            }
        }
        let row = |title: &str| Row { title: title.into(), before: before.clone(), after: after.clone() };
        let sheet = draw(&[row("frame 7"), row("frame 8")]).unwrap();
        let column = (480 + GAP) as u32;
        let y = (GAP + 2 * (10 + GAP)) as u32 + 20;
        let at = |column_index: u32, x: u32| sheet.get_pixel(GAP as u32 + column_index * column + x, y).0;
        assert_eq!((at(0, 10), at(0, 470)), ([50; 3], [50; 3]));
        assert_eq!((at(1, 10), at(1, 470)), ([55, 50, 40], [50; 3]));
        assert_eq!((at(2, 10), at(2, 470)), ([168, 128, 48], [128; 3]));
        assert!(draw(&[]).is_err());
    }
}
