// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where two pictures differ most, and that place enlarged: what people look at first.

use i2sb::picture::Picture;

/// Top left corner of the window of `size` with the largest sum of squared differences between the
/// planes `a` and `b`, `(3, height, width)`, looked for in steps of half a window.
pub fn most_different(
    a: &[f32],
    b: &[f32],
    (width, height): (usize, usize),
    size: (usize, usize),
) -> (usize, usize) {
    let plane = width * height;
    let difference = |(x, y): (usize, usize)| -> f64 {
        let rows = (0..3).flat_map(|c| (y..y + size.1).map(move |row| c * plane + row * width + x));
        let row = |at: usize| -> f32 {
            a[at..at + size.0].iter().zip(&b[at..at + size.0]).map(|(a, b)| (a - b) * (a - b)).sum()
        };
        rows.map(|at| f64::from(row(at))).sum()
    };
    let steps = |side: usize, len: usize| {
        let half = (len / 2).max(1);
        (0..=(side - len).div_ceil(half)).map(move |i| (i * half).min(side - len))
    };
    let all = steps(height, size.1).flat_map(|y| steps(width, size.0).map(move |x| (x, y)));
    all.map(|at| (difference(at), at)).max_by(|a, b| a.0.total_cmp(&b.0)).map_or((0, 0), |(_, at)| at)
}

/// The window of `planes` whose corner is `(x, y)`, each pixel `zoom`×`zoom` large.
pub fn enlarged(
    planes: &[f32],
    (width, height): (usize, usize),
    (x, y): (usize, usize),
    size: (usize, usize),
    zoom: usize,
) -> i2sb::Result<Picture> {
    let mut large = Vec::with_capacity(3 * size.0 * size.1 * zoom * zoom);
    for plane in planes.chunks_exact(width * height) {
        for row in 0..size.1 * zoom {
            let line = &plane[(y + row / zoom) * width + x..][..size.0];
            large.extend(line.iter().flat_map(|&v| std::iter::repeat_n(v, zoom)));
        }
    }
    Picture::new(size.0 * zoom, size.1 * zoom, large)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_found_and_enlarged() {
        let (width, height) = (300, 200);
        let a = vec![0.0; 3 * width * height];
        let mut b = a.clone();
        b[199 * width + 299] = 1.0;
        let size = (128, 128);
        let at = most_different(&a, &b, (width, height), size);
        assert_eq!(at, (300 - 128, 200 - 128));
        let large = enlarged(&b, (width, height), at, size, 2).unwrap();
        assert_eq!((large.width, large.height), (256, 256));
        let bright = large.rgb.iter().filter(|v| **v == 1.0).count();
        assert_eq!(bright, 4);
        assert_eq!(most_different(&[0.0; 3], &[1.0; 3], (1, 1), (1, 1)), (0, 0));
    }
}
