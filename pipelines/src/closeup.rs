// SPDX-License-Identifier: MIT OR Apache-2.0
//! The place where two pictures differ most, enlarged: what people look at first.

use image::{RgbImage, imageops};

/// Each pixel of the place is this large.
const ZOOM: u32 = 4;
/// Height of the place in pixels.
const HEIGHT: u32 = 96;
/// Pictures whose place would be narrower are seen well enough as they are.
const LEAST_WIDTH: u32 = 24;

/// From both pictures the place that differs most, together as wide as they are; `None` for pictures of
/// two sizes, or too small for it.
pub fn pair(before: &RgbImage, after: &RgbImage) -> Option<[RgbImage; 2]> {
    let size = (before.width() / ZOOM, HEIGHT.min(before.height()));
    if before.dimensions() != after.dimensions() || size.0 < LEAST_WIDTH {
        return None;
    }
    let (x, y) = most_different(before, after, size);
    Some([before, after].map(|picture| {
        let part = imageops::crop_imm(picture, x, y, size.0, size.1).to_image();
        imageops::resize(&part, size.0 * ZOOM, size.1 * ZOOM, imageops::FilterType::Nearest)
    }))
}

/// Corner of the window with the largest sum of squared differences, looked for in steps of half a window.
fn most_different(a: &RgbImage, b: &RgbImage, (width, height): (u32, u32)) -> (u32, u32) {
    let row = 3 * a.width() as usize;
    let difference = |(x, y): (u32, u32)| -> u64 {
        let rows = (y..y + height).map(|y| y as usize * row + 3 * x as usize);
        let pairs = rows.flat_map(|at| {
            let part = at..at + 3 * width as usize;
            a.as_raw()[part.clone()].iter().zip(&b.as_raw()[part])
        });
        pairs.map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum()
    };
    let steps = |side: u32, length: u32| {
        let half = (length / 2).max(1);
        (0..=(side - length).div_ceil(half)).map(move |step| (step * half).min(side - length))
    };
    let all = steps(a.height(), height).flat_map(|y| steps(a.width(), width).map(move |x| (x, y)));
    all.max_by_key(|&at| difference(at)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_that_changed_is_found_and_enlarged() {
        let before = RgbImage::new(401, 203);
        let mut after = before.clone();
        after.put_pixel(400, 202, image::Rgb([9; 3]));
        assert_eq!(most_different(&before, &after, (100, HEIGHT)), (301, 203 - HEIGHT));
        let [dark, bright] = pair(&before, &after).unwrap();
        assert_eq!((bright.width(), bright.height()), (400, HEIGHT * ZOOM));
        assert!(dark.pixels().all(|pixel| pixel.0 == [0; 3]));
        assert_eq!(bright.pixels().filter(|pixel| pixel.0 == [9; 3]).count(), (ZOOM * ZOOM) as usize);
    }

    #[test]
    fn small_pictures_and_pictures_of_two_sizes_have_none() {
        let small = RgbImage::new(95, 300);
        assert!(pair(&small, &small).is_none());
        assert!(pair(&RgbImage::new(200, 1), &RgbImage::new(200, 1)).is_some());
        assert!(pair(&RgbImage::new(200, 100), &RgbImage::new(200, 101)).is_none());
    }
}
