// SPDX-License-Identifier: MIT OR Apache-2.0
//! Squares of `u`×`u` pixels to channels and back: channel `(plane·u + y)·u + x` is pixel (y, x) of a square.

use std::mem::MaybeUninit;

use crate::ops::{map::Value, tiny::settled};

/// Values that are rounded together.
const PART: usize = 256;

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

/// As many copies as a constant, a divisor of [`PART`], says: no loop and no call for each square. Values are rounded
/// before they are spread, many at once.
#[inline(always)]
fn gather<'a, const U: usize, T: Value>(from: &[f32], mut to: impl Iterator<Item = &'a mut [T]>) {
    let mut rounded = [T::default(); PART];
    for part in from.chunks(PART) {
        rounded.iter_mut().zip(part).for_each(|(to, v)| *to = T::from_f32(settled(*v)));
        // The squares first: they end with the part, and no pixel is taken for nothing.
        for (square, to) in rounded[..part.len()].as_chunks::<U>().0.iter().zip(&mut to) {
            to[..U].copy_from_slice(square);
        }
    }
}

/// One line of pixels of a plane from the squares of its row: pixel i gets `value(i, v)`, v from channels `k` to `k + u` of
/// pixels of `c`.
#[inline(always)]
pub(super) fn shuffle<T: Value>(
    map: &[T],
    c: usize,
    k: usize,
    u: usize,
    out: &mut [MaybeUninit<f32>],
    value: impl Fn(usize, f32) -> f32,
) {
    match u {
        1 => spread::<1, T>(map, c, k, out, value),
        2 => spread::<2, T>(map, c, k, out, value),
        4 => spread::<4, T>(map, c, k, out, value),
        _ => {
            for (square, (pixel, out)) in map.chunks_exact(c).zip(out.chunks_exact_mut(u)).enumerate() {
                for (i, (out, v)) in out.iter_mut().zip(&pixel[k..k + u]).enumerate() {
                    out.write(value(square * u + i, v.to_f32()));
                }
            }
        }
    }
}

/// The reverse of [`gather`]: values are collected before something is made of many at once.
#[inline(always)]
fn spread<const U: usize, T: Value>(
    map: &[T],
    c: usize,
    k: usize,
    out: &mut [MaybeUninit<f32>],
    value: impl Fn(usize, f32) -> f32,
) {
    let mut collected = [T::default(); PART];
    for (part, (out, map)) in out.chunks_mut(PART).zip(map.chunks(PART / U * c)).enumerate() {
        for (square, pixel) in collected.as_chunks_mut::<U>().0.iter_mut().zip(map.chunks_exact(c)) {
            square.copy_from_slice(&pixel[k..k + U]);
        }
        for (i, (out, v)) in out.iter_mut().zip(&collected).enumerate() {
            out.write(value(part * PART + i, v.to_f32()));
        }
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
                    let mut out = vec![MaybeUninit::new(f32::NAN); w];
                    shuffle(&line, c, (plane * u + y) * u, u, &mut out, |i, v| 1000.0 * i as f32 + v);
                    for (i, (out, x)) in out.iter().zip(&x[(plane * h + row * u + y) * w..]).enumerate() {
                        // SAFETY: set above.
                        let out = unsafe { out.assume_init() };
                        assert_eq!(out, 1000.0 * i as f32 + x, "{u}: plane {plane}, line {y}");
                    }
                }
            }
        }
    }

    fn planes_of(u: usize) -> usize {
        3 * u * u
    }
}
