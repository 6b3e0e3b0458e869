// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures that nobody photographed: text, subtitles, line art, screens, patterns, gradients, noise.
//! Restorers that have seen none of them spoil them.

use super::patterns::{curves, flat, pattern, pixel_art, subtitles};
use crate::{
    drawing::{Canvas, Letters},
    noise::Stream,
    picture::{
        from_u8, planar,
        resize::{Filter, resize},
        to_u8,
    },
};

/// Kinds of drawn pictures; each is drawn equally often.
const KINDS: &[fn((usize, usize), &mut Stream) -> Vec<f32>] =
    &[text, lines, screen, gradient, noise, titled, pattern, pixel_art, curves, flat];

/// A drawn picture, planes `(3, height, width)`, range [-1, 1], on the grid of 8-bit files.
pub fn draw(size: (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let kind = KINDS[rng.below(KINDS.len() as u64) as usize];
    let mut planes = kind(size, rng);
    planes.iter_mut().for_each(|v| *v = from_u8(to_u8(*v)));
    planes
}

type Colour = [u8; 3];

/// Any colour; greys, black and white more often than by chance.
pub(super) fn colour(rng: &mut Stream) -> Colour {
    let any = rng.next_u32().to_le_bytes();
    match rng.below(8) {
        0 => [0; 3],
        1 => [255; 3],
        2 => [any[0]; 3],
        _ => [any[0], any[1], any[2]],
    }
}

/// Two colours far enough apart to be told from each other.
pub(super) fn contrast(rng: &mut Stream) -> (Colour, Colour) {
    loop {
        let (a, b) = (colour(rng), colour(rng));
        let apart: u32 = a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
        if apart > 120 {
            return (a, b);
        }
    }
}

/// A whole number from `low` to `high`, both included.
pub(super) fn between(low: usize, high: usize, rng: &mut Stream) -> usize {
    low + rng.below((high.max(low) - low + 1) as u64) as usize
}

/// Draws on a canvas that is larger by a random factor and shrinks it, which smooths the edges; once
/// in four times it is not larger, and edges stay hard.
fn shrunk(
    size: (usize, usize),
    rng: &mut Stream,
    draw: impl FnOnce(&mut Canvas, &mut Stream),
    ground: Colour,
) -> Vec<f32> {
    let factor = if rng.below(4) == 0 { 1.0 } else { 1.0 + 2.0 * rng.next_f32() };
    let large = |side: usize| (side as f32 * factor).ceil() as usize;
    let wide = (large(size.0), large(size.1));
    let mut canvas = Canvas::new(wide.0, wide.1, ground);
    draw(&mut canvas, rng);
    let planes = planar(canvas.rgb());
    if wide == size { planes } else { resize(&planes, wide, size, Filter::Area) }
}

fn write_lines(canvas: &mut Canvas, ink: Colour, rng: &mut Stream) {
    let letters = if rng.below(2) == 0 { Letters::Small } else { Letters::Large };
    let ((wide, high), (width, height)) = (letters.size(), canvas.size());
    let (mut y, gap) = (between(0, high, rng), between(0, high / 2, rng));
    while y < height {
        let left = between(0, 2 * wide, rng);
        let count = between(1, width / wide + 2, rng);
        let line: String = (0..count).map(|_| letter(rng)).collect();
        canvas.text((left, y), &line, letters, ink);
        y += high + gap;
    }
}

/// Mostly small letters, with spaces, capitals, figures and signs as in writing.
pub(super) fn letter(rng: &mut Stream) -> char {
    match rng.below(20) {
        0..=2 => ' ',
        3 => char::from(b'A' + rng.below(26) as u8),
        4 => char::from(b'0' + rng.below(10) as u8),
        5 => char::from(b'!' + rng.below(94) as u8),
        _ => char::from(b'a' + rng.below(26) as u8),
    }
}

fn text(size: (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let (ground, ink) = contrast(rng);
    shrunk(size, rng, |canvas, rng| write_lines(canvas, ink, rng), ground)
}

fn lines(size: (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let (ground, ink) = contrast(rng);
    let strokes = move |canvas: &mut Canvas, rng: &mut Stream| {
        let (width, height) = canvas.size();
        let place = |rng: &mut Stream| (between(0, width, rng), between(0, height, rng));
        for _ in 0..between(4, 24, rng) {
            let colour = if rng.below(4) == 0 { colour(rng) } else { ink };
            let (mut from, thick) = (place(rng), between(1, 4, rng));
            for _ in 0..between(1, 4, rng) {
                let to = place(rng);
                for shift in 0..thick {
                    canvas.line((from.0 + shift, from.1), (to.0 + shift, to.1), colour);
                    canvas.line((from.0, from.1 + shift), (to.0, to.1 + shift), colour);
                }
                from = to;
            }
        }
    };
    shrunk(size, rng, strokes, ground)
}

fn screen(size: (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let ground = colour(rng);
    let mut canvas = Canvas::new(size.0, size.1, ground);
    for _ in 0..between(2, 9, rng) {
        let at = (between(0, size.0, rng), between(0, size.1, rng));
        let area = (between(1, size.0 / 2 + 1, rng), between(1, size.1 / 2 + 1, rng));
        let (face, mark) = contrast(rng);
        match rng.below(5) {
            0 => {
                // A dithered or striped field, the hardest thing there is for a codec.
                let (period, upright) = (between(1, 3, rng), rng.below(3));
                for y in 0..area.1 {
                    for x in 0..area.0 {
                        let phase = [x / period, y / period, x / period + y / period][upright as usize];
                        canvas.fill((at.0 + x, at.1 + y), (1, 1), if phase % 2 == 0 { face } else { mark });
                    }
                }
            }
            1 => {
                let mut page = Canvas::new(area.0, area.1, face);
                write_lines(&mut page, mark, rng);
                if let Ok(page) = page.to_picture() {
                    canvas.paste(at, &page);
                }
            }
            _ => {
                // A button or window: frame and face.
                canvas.fill(at, area, mark);
                let frame = between(0, 2, rng);
                let inner = (area.0.saturating_sub(2 * frame), area.1.saturating_sub(2 * frame));
                canvas.fill((at.0 + frame, at.1 + frame), inner, face);
            }
        }
    }
    planar(canvas.rgb())
}

/// Subtitles over a gradient or clouds.
fn titled(size: (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let ground = if rng.below(2) == 0 { gradient(size, rng) } else { noise(size, rng) };
    subtitles(ground, size, rng)
}

fn gradient((width, height): (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let (a, b) = (colour(rng), colour(rng));
    let angle = rng.next_f32() * std::f32::consts::TAU;
    let (sin, cos) = angle.sin_cos();
    let round = rng.below(2) == 0;
    let (cx, cy) = (rng.next_f32() * width as f32, rng.next_f32() * height as f32);
    let reach = (width.max(height) as f32) * (0.5 + rng.next_f32());
    let place = |x: usize, y: usize| {
        let (dx, dy) = (x as f32 - cx, y as f32 - cy);
        let along = if round { dx.hypot(dy) } else { (dx * cos + dy * sin).abs() };
        (along / reach).min(1.0)
    };
    let unit: Vec<f32> = (0..width * height).map(|i| place(i % width, i / width)).collect();
    let ends = (0..3).map(|c| (from_u8(a[c]), from_u8(b[c])));
    ends.flat_map(|(a, b)| unit.iter().map(move |t| a + (b - a) * t)).collect()
}

/// Clouds of several sizes over a colour, and grain.
fn noise((width, height): (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let ground = colour(rng);
    let mut planes: Vec<f32> =
        ground.iter().flat_map(|&c| std::iter::repeat_n(from_u8(c), width * height)).collect();
    let coloured = rng.below(2) == 0;
    for scale in [1usize, 2, 4, 8, 16, 32] {
        let strength = 0.35 * rng.next_f32() * rng.next_f32();
        let small = (width.div_ceil(scale), height.div_ceil(scale));
        let channels = if coloured { 3 } else { 1 };
        let values: Vec<f32> = (0..channels * small.0 * small.1).map(|_| rng.next_normal()).collect();
        let field = resize(&values, small, (width, height), Filter::Cubic);
        planes.iter_mut().zip(field.iter().cycle()).for_each(|(p, n)| *p += strength * n);
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_fills_every_size() {
        for kind in KINDS {
            for size in [(1, 1), (1, 50), (97, 3), (64, 64)] {
                let mut rng = Stream::new(9, size.0 as u64);
                let planes = kind(size, &mut rng);
                assert_eq!(planes.len(), 3 * size.0 * size.1);
                assert!(planes.iter().all(|v| v.is_finite()));
                assert_eq!(planes, kind(size, &mut Stream::new(9, size.0 as u64)));
            }
        }
    }

    #[test]
    fn pictures_differ_and_are_not_flat() {
        let all: Vec<_> = (0..80).map(|i| draw((48, 48), &mut Stream::new(1, i))).collect();
        let varied = all.iter().filter(|p| p.iter().any(|v| (v - p[0]).abs() > 0.05)).count();
        assert!(varied >= 64, "{varied}");
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
