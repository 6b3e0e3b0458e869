// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--compare`: input and result side by side, labelled, with a line between; below them the place
//! that changed most, enlarged.

use std::path::{Path, PathBuf};

use i2sb::{
    drawing::{Canvas, INK, Letters, PAPER},
    picture::Picture,
};

use crate::closeup::{enlarged, most_different};

/// Width of the line between the two, in pixels.
const DIVIDER: usize = 4;
/// Space around a label, in pixels.
const MARGIN: usize = 6;

/// Each pixel of the enlarged place is this large.
const ZOOM: usize = 4;
/// Largest height of the enlarged place, in pixels of the picture.
const CLOSEUP: usize = 96;

/// `a/b.png` → `a/b-compare.png`.
pub fn path(output: &Path) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{stem}-compare.png"))
}

/// Both pictures are of one size; `about` says what restored the right one.
pub fn side_by_side(input: &Picture, output: &Picture, about: &str) -> i2sb::Result<Picture> {
    let labels = ["input".to_string(), format!("restored by {about}")];
    let (letters, longest) = choose(&labels, input.width);
    let (_, letter_height) = letters.size();
    let head = letter_height + 2 * MARGIN;
    let panel = input.width.max(longest);
    let size = (input.width, input.height);
    // As wide as a panel once it is enlarged; pictures smaller than that are shown as they are.
    let window = (input.width / ZOOM, CLOSEUP.min(input.height));
    let close = window.0 * ZOOM >= CLOSEUP;
    let foot = if close { head + window.1 * ZOOM } else { 0 };
    let mut canvas = Canvas::new(2 * panel + DIVIDER, head + input.height + foot, INK);
    let at = if close { most_different(&input.rgb, &output.rgb, size, window) } else { (0, 0) };
    for (left, (picture, label)) in [(0, (input, &labels[0])), (panel + DIVIDER, (output, &labels[1]))] {
        canvas.text((left + MARGIN, MARGIN), label, letters, PAPER);
        canvas.paste((left, head), picture);
        if close {
            let place = format!("changed most, x{ZOOM}, at {},{}", at.0, at.1);
            canvas.text((left + MARGIN, head + input.height + MARGIN), &place, letters, PAPER);
            let large = enlarged(&picture.rgb, size, at, window, ZOOM)?;
            canvas.paste((left, 2 * head + input.height), &large);
        }
    }
    let (_, height) = canvas.size();
    canvas.fill((panel, 0), (DIVIDER, height), PAPER);
    canvas.to_picture()
}

/// Large letters where they fit, and the width of the longest label with its margins.
fn choose(labels: &[String], width: usize) -> (Letters, usize) {
    let longest = |letters: Letters| {
        let characters = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        characters * letters.size().0 + 2 * MARGIN
    };
    let letters = if longest(Letters::Large) <= width { Letters::Large } else { Letters::Small };
    (letters, longest(letters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pictures_are_whole_and_apart() {
        let picture = |value: u8| Picture::from_rgb8(300, 2, &[value; 1800]).unwrap();
        let sheet = side_by_side(&picture(10), &picture(200), "x").unwrap();
        assert_eq!(sheet.width, 2 * 300 + DIVIDER);
        let pixels = sheet.to_rgb8();
        assert!(sheet.height > 2 + 2 * ZOOM);
        let row = &pixels[pixels.len() - sheet.width * 3..];
        assert!(row[..900].iter().all(|&v| v == 10) && row[912..].iter().all(|&v| v == 200));
    }

    #[test]
    fn a_single_pixel_still_gets_its_labels() {
        let picture = Picture::from_rgb8(1, 1, &[7; 3]).unwrap();
        let sheet = side_by_side(&picture, &picture, "jpeg-nano-v1").unwrap();
        assert!(sheet.width > 200 && sheet.height > 10);
    }
}
