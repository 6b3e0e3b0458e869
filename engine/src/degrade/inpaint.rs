// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reference's inpainting tasks: holes in the middle, or along brush strokes (SPEC 6, 11.4).

use super::{Arguments, Degradation, Degraded, Span, check};
use crate::{Result, noise::Stream};

struct Center;

struct Freeform {
    percent: Span,
}

pub(super) fn build_center(_: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(Center))
}

pub(super) fn build_freeform(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    let percent = arguments.span_or("PERCENT", 0.0..=100.0, Span { low: 20.0, high: 30.0 })?;
    Ok(Box::new(Freeform { percent }))
}

impl Degradation for Center {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, _: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let inside = |at: usize, len: usize| (len / 4..len / 4 + len / 2).contains(&at);
        let hole = |i: usize| inside(i / width, height) && inside(i % width, width);
        Ok(degraded(x0, (0..width * height).map(|i| f32::from(u8::from(hole(i)))).collect()))
    }
}

impl Degradation for Freeform {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let share = self.percent.draw(rng) / 100.0;
        Ok(degraded(x0, strokes(width, height, share, rng)))
    }
}

/// `(1 − M)·x0 + M`: holes are white. `x0`: `(3, height, width)`; `mask`: `(height, width)`, 1 in holes.
pub fn with_holes(x0: &[f32], mask: &[f32]) -> Vec<f32> {
    x0.iter().zip(mask.iter().cycle()).map(|(x, m)| (1.0 - m) * x + m).collect()
}

fn degraded(x0: &[f32], mask: Vec<f32>) -> Degraded {
    Degraded { x1: with_holes(x0, &mask), mask: Some(mask) }
}

/// Brush strokes until at least `share` of the pixels is covered; each bends a few times, as a hand
/// would draw.
fn strokes(width: usize, height: usize, share: f32, rng: &mut Stream) -> Vec<f32> {
    let mut mask = vec![0.0; width * height];
    let wanted = (share * (width * height) as f32).ceil() as usize;
    let mut covered = 0;
    let side = width.max(height) as f32;
    while covered < wanted {
        let (mut x, mut y) = (rng.next_f32() * width as f32, rng.next_f32() * height as f32);
        let radius = (0.015 + 0.035 * rng.next_f32()) * side;
        let mut angle = rng.next_f32() * std::f32::consts::TAU;
        for _ in 0..2 + rng.below(6) {
            angle += (rng.next_f32() - 0.5) * 2.4;
            let length = (0.05 + 0.2 * rng.next_f32()) * side;
            // Discs half a radius apart look like a line.
            let gap = (radius / 2.0).max(0.5);
            for _ in 0..=(length / gap) as usize {
                covered += stamp(&mut mask, width, height, (x, y), radius);
                if covered >= wanted {
                    return mask;
                }
                (x, y) = (x + gap * angle.cos(), y + gap * angle.sin());
            }
        }
    }
    mask
}

/// Covers a disc; gives the number of pixels that were free before.
fn stamp(mask: &mut [f32], width: usize, height: usize, (x, y): (f32, f32), radius: f32) -> usize {
    let radius = radius.max(0.75);
    let range = |at: f32, len: usize| {
        let from = (at - radius).floor().max(0.0) as usize;
        from..((at + radius).ceil().max(0.0) as usize).min(len)
    };
    let mut fresh = 0;
    for row in range(y, height) {
        for column in range(x, width) {
            let (dx, dy) = (column as f32 + 0.5 - x, row as f32 + 0.5 - y);
            let pixel = &mut mask[row * width + column];
            if dx * dx + dy * dy <= radius * radius && *pixel == 0.0 {
                *pixel = 1.0;
                fresh += 1;
            }
        }
    }
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strokes_cover_the_asked_share() {
        for seed in 0..20 {
            let mask = strokes(256, 256, 0.25, &mut Stream::new(seed, 0));
            let share = mask.iter().sum::<f32>() / 65536.0;
            assert!((0.25..0.26).contains(&share), "{share}");
        }
        assert_eq!(strokes(1, 1, 0.2, &mut Stream::new(0, 0)), [1.0]);
        assert_eq!(strokes(9, 9, 0.0, &mut Stream::new(0, 0)), [0.0; 81]);
        assert_eq!(strokes(7, 300, 1.0, &mut Stream::new(0, 0)), vec![1.0; 2100]);
    }
}
