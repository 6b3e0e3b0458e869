// SPDX-License-Identifier: MIT OR Apache-2.0
//! Squares of `u`×`u` pixels to channels and back: channel `(plane·u + y)·u + x` is pixel (y, x) of a square.

use crate::ops::{map::Value, tiny::settled};

/// One row of squares of a picture of `h`×`w`, channels first, to pixels of `c` channels; channels from
/// `channels` on stay as they are. What is tiny becomes zero.
pub(super) fn unshuffle<T: Value>(
    x: &[f32],
    (h, w): (usize, usize),
    u: usize,
    channels: usize,
    row: usize,
    (out, c): (&mut [T], usize),
) {
    for line in 0..channels / u {
        let (plane, dy) = (line / u, line % u);
        let from = &x[(plane * h + row * u + dy) * w..][..w];
        let to = out[line * u..].chunks_mut(c);
        match u {
            1 => gather::<1, T>(from, to),
            2 => gather::<2, T>(from, to),
            4 => gather::<4, T>(from, to),
            _ => {
                for (square, to) in from.chunks_exact(u).zip(to) {
                    to.iter_mut().zip(square).for_each(|(to, v)| *to = T::from_f32(settled(*v)));
                }
            }
        }
    }
}

/// As many copies as a constant says: no loop and no call for each square.
#[inline(always)]
fn gather<'a, const U: usize, T: Value>(from: &[f32], to: impl Iterator<Item = &'a mut [T]>) {
    for (square, to) in from.as_chunks::<U>().0.iter().zip(to) {
        for (to, v) in to[..U].iter_mut().zip(square) {
            *to = T::from_f32(settled(*v));
        }
    }
}

/// One line of pixels of a plane from the squares of its row: channels `k` to `k + u` of pixels of `c`.
pub(super) fn shuffle<T: Value>(map: &[T], c: usize, k: usize, u: usize, out: &mut [f32]) {
    match u {
        1 => spread::<1, T>(map, c, k, out),
        2 => spread::<2, T>(map, c, k, out),
        4 => spread::<4, T>(map, c, k, out),
        _ => {
            for (pixel, out) in map.chunks_exact(c).zip(out.chunks_exact_mut(u)) {
                out.iter_mut().zip(&pixel[k..k + u]).for_each(|(out, v)| *out = v.to_f32());
            }
        }
    }
}

/// The reverse of [`gather`].
#[inline(always)]
fn spread<const U: usize, T: Value>(map: &[T], c: usize, k: usize, out: &mut [f32]) {
    for (pixel, out) in map.chunks_exact(c).zip(out.as_chunks_mut::<U>().0) {
        out.iter_mut().zip(&pixel[k..k + U]).for_each(|(out, v)| *out = v.to_f32());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_go_to_channels_and_back() {
        for u in 1..6 {
            let (h, w, c, planes) = (2 * u, 3 * u, planes_of(u).next_multiple_of(16), 3);
            let x: Vec<f32> = (0..planes * h * w).map(|i| i as f32).collect();
            for row in 0..2 {
                let mut line = vec![-1f32; 3 * c];
                unshuffle(&x, (h, w), u, planes_of(u), row, (&mut line, c));
                for (i, v) in line.iter().enumerate() {
                    let (square, k) = (i / c, i % c);
                    let (plane, y, xx) = (k / (u * u), row * u + k / u % u, square * u + k % u);
                    let want = if k < planes_of(u) { ((plane * h + y) * w + xx) as f32 } else { -1.0 };
                    assert_eq!(*v, want, "{u}: square {square}, channel {k}");
                }
                for (plane, y) in (0..planes * u).map(|i| (i / u, i % u)) {
                    let mut out = vec![0.0; w];
                    shuffle(&line, c, (plane * u + y) * u, u, &mut out);
                    assert_eq!(out, x[(plane * h + row * u + y) * w..][..w], "{u}: plane {plane}, line {y}");
                }
            }
        }
    }

    fn planes_of(u: usize) -> usize {
        3 * u * u
    }
}
