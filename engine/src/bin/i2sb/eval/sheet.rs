// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contact sheet: of each picture the crop that suffered most, original, degraded, restored.

use i2sb::{
    drawing::{Canvas, INK, Letters, PAPER},
    picture::Picture,
};

use super::table::Row;

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
        let at = worst(planes[0], planes[1], (width, height), size);
        let [original, degraded, restored] = planes.map(|planes| crop(planes, width, height, at, size));
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

/// Top left corner of the crop with the largest squared error, looked for in steps of half a crop.
fn worst(a: &[f32], b: &[f32], (width, height): (usize, usize), size: (usize, usize)) -> (usize, usize) {
    let plane = width * height;
    let error = |(x, y): (usize, usize)| -> f64 {
        let rows = (0..3).flat_map(|c| (y..y + size.1).map(move |row| c * plane + row * width + x));
        let row = |at: usize| -> f32 {
            a[at..at + size.0].iter().zip(&b[at..at + size.0]).map(|(a, b)| (a - b) * (a - b)).sum()
        };
        rows.map(|at| f64::from(row(at))).sum()
    };
    let steps = |side: usize, len: usize| {
        (0..=(side - len).div_ceil(CROP / 2)).map(move |i| (i * CROP / 2).min(side - len))
    };
    let all = steps(height, size.1).flat_map(|y| steps(width, size.0).map(move |x| (x, y)));
    all.map(|at| (error(at), at)).max_by(|a, b| a.0.total_cmp(&b.0)).map_or((0, 0), |(_, at)| at)
}

/// The crop, its pixels enlarged.
fn crop(
    planes: &[f32],
    width: usize,
    height: usize,
    (x, y): (usize, usize),
    size: (usize, usize),
) -> i2sb::Result<Picture> {
    let mut large = Vec::with_capacity(3 * size.0 * size.1 * ZOOM * ZOOM);
    for plane in planes.chunks_exact(width * height) {
        for row in 0..size.1 * ZOOM {
            let line = &plane[(y + row / ZOOM) * width + x..][..size.0];
            large.extend(line.iter().flat_map(|&v| [v; ZOOM]));
        }
    }
    Picture::new(size.0 * ZOOM, size.1 * ZOOM, large)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::table::Scores;

    #[test]
    fn the_worst_crop_of_every_size_is_shown() {
        let (width, height) = (300, 200);
        let a = vec![0.0; 3 * width * height];
        let mut b = a.clone();
        b[199 * width + 299] = 1.0;
        assert_eq!(worst(&a, &b, (width, height), (128, 128)), (300 - 128, 200 - 128));
        let mut sheet = Sheet::default();
        let scores = Scores { psnr: 1.0, ssim: 1.0, lpips: None };
        let row = Row { image: "x".into(), before: scores, after: scores };
        sheet.add(&row, (width, height), [&a, &b, &a]).unwrap();
        sheet.add(&row, (1, 1), [&[0.0; 3]; 3]).unwrap();
        let drawn = sheet.draw("jpeg:10").unwrap();
        assert!(drawn.width > 6 * 256 && drawn.height > 256);
    }
}
