// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pictures by which people judge a filter: before and after in one frame.

use super::settings::Compare;
use crate::engine::Picture;

/// Width of the line between the two halves, in pixels.
const LINE: usize = 2;

/// Turns `restored` into the comparison of it with `input`: left before, right after.
///
/// `split`: the right half is restored in place. `side`: both halves show the middle half of the
/// picture. A white line parts them.
pub fn compose(mode: Compare, input: &Picture, restored: &mut Picture) {
    let width = input.width;
    let middle = width / 2;
    for (input, restored) in input.rgb.chunks_exact(width).zip(restored.rgb.chunks_exact_mut(width)) {
        match mode {
            Compare::Off => return,
            Compare::Split => restored[..middle].copy_from_slice(&input[..middle]),
            Compare::Side => {
                let quarter = width / 4;
                restored.copy_within(quarter..quarter + (width - middle), middle);
                restored[..middle].copy_from_slice(&input[quarter..quarter + middle]);
            }
        }
        let line = middle.saturating_sub(LINE / 2)..(middle + LINE / 2).min(width);
        restored[line].fill(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(width: usize) -> (Picture, Picture) {
        let rgb = (0..3 * 2 * width).map(|i| (i % width) as f32 / 100.0).collect();
        let input = Picture::new(width, 2, rgb);
        let mut restored = input.clone();
        restored.rgb.iter_mut().for_each(|v| *v = -*v);
        (input, restored)
    }

    #[test]
    fn split_keeps_the_left_half() {
        let (input, mut out) = pictures(12);
        compose(Compare::Split, &input, &mut out);
        assert_eq!(out.rgb[..5], input.rgb[..5]);
        assert_eq!(out.rgb[5..7], [1.0, 1.0]);
        assert_eq!(out.rgb[7..12], [-0.07, -0.08, -0.09, -0.10, -0.11]);
    }

    #[test]
    fn side_shows_the_same_part_twice() {
        let (input, mut out) = pictures(12);
        compose(Compare::Side, &input, &mut out);
        assert_eq!(out.rgb[..5], [0.03, 0.04, 0.05, 0.06, 0.07]);
        assert_eq!(out.rgb[7..12], [-0.04, -0.05, -0.06, -0.07, -0.08]);
    }

    #[test]
    fn any_width_is_safe() {
        for width in 1..9 {
            for mode in [Compare::Off, Compare::Split, Compare::Side] {
                let (input, mut out) = pictures(width);
                compose(mode, &input, &mut out);
            }
        }
    }
}
