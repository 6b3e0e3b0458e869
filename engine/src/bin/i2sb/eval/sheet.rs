// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contact sheet: of each picture the crop that suffered most, original, degraded, restored.

use i2sb::{
    drawing::{Canvas, INK, Letters, PAPER},
    picture::Picture,
};

use super::table::Row;
use crate::closeup::{enlarged, most_different};

/// Edge of a crop, in pixels of the picture.
const CROP: usize = 128;
/// Each pixel is shown this large.
const ZOOM: usize = 2;
/// Space between crops and around them.
const GAP: usize = 6;
/// Pictures side by side, three crops each.
const ACROSS: usize = 2;

/// Crops of the pictures so far.
#[derive(Default)]
pub struct Sheet {
    strips: Vec<(String, [Picture; 3])>,
}

impl Sheet {
    /// Adds the crops of one picture, planes `(3, height, width)`: original, degraded, restored.
    pub fn add(
        &mut self,
        row: &Row,
        (width, height): (usize, usize),
        planes: [&[f32]; 3],
    ) -> i2sb::Result<()> {
        let size = (width.min(CROP), height.min(CROP));
        let at = most_different(planes[0], planes[1], (width, height), size);
        let [original, degraded, restored] =
            planes.map(|planes| enlarged(planes, (width, height), at, size, ZOOM));
        let title = format!("{}   {:.2} dB -> {:.2} dB", row.image, row.before.psnr, row.after.psnr);
        self.strips.push((title, [original?, degraded?, restored?]));
        Ok(())
    }

    /// The whole sheet.
    pub fn draw(&self, spec: &str) -> i2sb::Result<Picture> {
        let letters = Letters::Small;
        let line = letters.size().1 + GAP;
        let cell = CROP * ZOOM + GAP;
        let strip = (3 * cell + GAP, cell + line);
        let across = ACROSS.min(self.strips.len().max(1));
        let down = self.strips.len().div_ceil(across);
        let mut canvas = Canvas::new(across * strip.0 + GAP, 2 * line + down * strip.1 + GAP, INK);
        for column in 0..across {
            for (i, label) in ["original", spec, "restored"].into_iter().enumerate() {
                let fits: String = label.chars().take(CROP * ZOOM / letters.size().0).collect();
                canvas.text((GAP + column * strip.0 + i * cell, GAP), &fits, letters, PAPER);
            }
        }
        for (n, (title, crops)) in self.strips.iter().enumerate() {
            let (left, top) = (GAP + n % across * strip.0, 2 * line + n / across * strip.1);
            let fits: String = title.chars().take(3 * cell / letters.size().0).collect();
            canvas.text((left, top), &fits, letters, PAPER);
            for (i, crop) in crops.iter().enumerate() {
                canvas.paste((left + i * cell, top + line - GAP / 2), crop);
            }
        }
        canvas.to_picture()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::table::Scores;

    #[test]
    fn a_crop_of_every_size_is_shown() {
        let (width, height) = (300, 200);
        let (a, b) = (vec![0.0; 3 * width * height], vec![0.5; 3 * width * height]);
        let mut sheet = Sheet::default();
        let scores = Scores { psnr: 1.0, ssim: 1.0, lpips: None };
        let row = Row { image: "x".into(), before: scores, after: scores };
        sheet.add(&row, (width, height), [&a, &b, &a]).unwrap();
        sheet.add(&row, (1, 1), [&[0.0; 3]; 3]).unwrap();
        let drawn = sheet.draw("jpeg:10").unwrap();
        assert!(drawn.width > 6 * 256 && drawn.height > 256);
    }
}
