// SPDX-License-Identifier: MIT OR Apache-2.0
//! A window of a stored picture, at any place and scale.

use crate::picture::{
    from_u8,
    resize::{Axis, Filter, resample},
    to_u8,
};

/// Resamples a window of `rgb`, interleaved pixels of a picture of size `whole` (width, height).
///
/// The window starts at `start` (x, y) and has `width`×`height` pixels of `step` source pixels each; beyond
/// the far edges of a picture that is too small it goes on mirrored. Gives planes `(3, height, width)`, range
/// [-1, 1], on the grid of 8-bit files.
pub fn window(
    rgb: &[u8],
    whole: (usize, usize),
    start: [f64; 2],
    (width, height): (usize, usize),
    step: f64,
    filter: Filter,
) -> Vec<f32> {
    // Half a source pixel of slack: rounding of the division must not shorten a fitting window.
    let fits = |side: usize, len: usize| (((side as f64 + 0.5) / step) as usize).clamp(1, len);
    let (across, down) = (fits(whole.0, width), fits(whole.1, height));
    let columns = Axis::new(whole.0, start[0], step, across, filter);
    let rows = Axis::new(whole.1, start[1], step, down, filter);
    let places: Vec<usize> = (0..width).map(|x| mirrored(x, across)).collect();
    let mut planes = Vec::with_capacity(3 * width * height);
    for c in 0..3 {
        let plane = resample(&columns, &rows, |y, span, row| {
            let pixels = &rgb[3 * (y * whole.0 + span.start)..3 * (y * whole.0 + span.end)];
            row.extend(pixels.iter().skip(c).step_by(3).map(|&v| from_u8(v)));
        });
        for y in 0..height {
            let row = &plane[mirrored(y, down) * across..][..across];
            planes.extend(places.iter().map(|x| from_u8(to_u8(row[*x]))));
        }
    }
    planes
}

fn mirrored(at: usize, len: usize) -> usize {
    let at = at % (2 * len);
    if at < len { at } else { 2 * len - 1 - at }
}
