// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drawn pictures of hard shapes: subtitles, test patterns, pixel art, curves, flat fields.

use super::synthetic::{between, colour, contrast, letter};
use crate::{
    drawing::{Canvas, Letters},
    noise::Stream,
    picture::{Picture, from_u8, planar},
};

/// Outlined text over what `ground` draws.
pub(super) fn subtitles(ground: Vec<f32>, (width, height): (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let Ok(picture) = Picture::new(width, height, ground) else { return vec![] };
    let mut canvas = Canvas::new(width, height, [0; 3]);
    canvas.paste((0, 0), &picture);
    let letters = if rng.below(3) == 0 { Letters::Small } else { Letters::Large };
    let ink = [[255, 255, 255], [255, 240, 0], [235, 235, 235], [0, 255, 255]][rng.below(4) as usize];
    for _ in 0..between(1, 3, rng) {
        let (x, y) = (between(1, width / 3 + 1, rng), between(1, height, rng));
        let line: String = (0..between(3, width / letters.size().0 + 2, rng)).map(|_| letter(rng)).collect();
        for (dx, dy) in [(0, 1), (2, 1), (1, 0), (1, 2), (0, 0), (2, 2)] {
            canvas.text((x + dx - 1, y + dy - 1), &line, letters, [0; 3]);
        }
        canvas.text((x, y), &line, letters, ink);
    }
    planar(canvas.rgb())
}

/// Stripes, checks, rings of rising frequency (a zone plate), bars of colour.
pub(super) fn pattern((width, height): (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let (a, b) = contrast(rng);
    let (period, phase) = (1.0 + 15.0 * rng.next_f32().powi(2), rng.next_f32());
    let (sin, cos) = (std::f32::consts::TAU * rng.next_f32()).sin_cos();
    let (cx, cy) = (rng.next_f32() * width as f32, rng.next_f32() * height as f32);
    let (kind, hard) = (rng.below(4), rng.below(2) == 0);
    let bars: Vec<[u8; 3]> = (0..8).map(|_| colour(rng)).collect();
    let mut planes = vec![0.0; 3 * width * height];
    for i in 0..width * height {
        let (x, y) = ((i % width) as f32, (i / width) as f32);
        let turns = match kind {
            0 => (x * cos + y * sin) / (2.0 * period) + phase,
            1 => ((x / period).floor() + (y / period).floor()) / 2.0,
            2 => ((x - cx).powi(2) + (y - cy).powi(2)) / (2.0 * period * width.max(height) as f32),
            _ => 0.0,
        };
        let wave = 0.5 - 0.5 * (std::f32::consts::TAU * turns).cos();
        let share = if hard { f32::from(u8::from(wave > 0.5)) } else { wave };
        for c in 0..3 {
            let bar = from_u8(bars[(i % width) * bars.len() / width][c]);
            let mixed = from_u8(a[c]) + share * (from_u8(b[c]) - from_u8(a[c]));
            planes[c * width * height + i] = if kind == 3 { bar } else { mixed };
        }
    }
    planes
}

/// Tiles of large pixels in few colours.
pub(super) fn pixel_art((width, height): (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let palette: Vec<[u8; 3]> = (0..between(2, 8, rng)).map(|_| colour(rng)).collect();
    let (zoom, tile) = (between(1, 6, rng), between(4, 16, rng));
    let sprites = between(1, 4, rng);
    let cells: Vec<usize> =
        (0..sprites * tile * tile).map(|_| rng.below(palette.len() as u64) as usize).collect();
    let kinds: Vec<usize> = (0..256).map(|_| rng.below(sprites as u64) as usize).collect();
    let mut planes = vec![0.0; 3 * width * height];
    for i in 0..width * height {
        let (x, y) = (i % width / zoom, i / width / zoom);
        let sprite = kinds[(x / tile * 31 + y / tile * 17) % kinds.len()];
        let cell = cells[(sprite * tile + y % tile) * tile + x % tile];
        (0..3).for_each(|c| planes[c * width * height + i] = from_u8(palette[cell][c]));
    }
    planes
}

/// Line art with curves and filled faces, smoothed over a pixel at each edge.
pub(super) fn curves((width, height): (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let (ground, ink) = contrast(rng);
    let plane = width * height;
    let mut planes: Vec<f32> = ground.iter().flat_map(|&c| std::iter::repeat_n(from_u8(c), plane)).collect();
    let reach = width.max(height) as f32;
    for _ in 0..between(2, 9, rng) {
        let centre = (rng.next_f32() * width as f32, rng.next_f32() * height as f32);
        let radius = (2.0 + 0.5 * reach * rng.next_f32(), 2.0 + 0.5 * reach * rng.next_f32());
        let (line, face) = (0.5 + 2.5 * rng.next_f32(), (rng.below(2) == 0).then(|| colour(rng)));
        let (sin, cos) = (std::f32::consts::PI * rng.next_f32()).sin_cos();
        for i in 0..plane {
            let (x, y) = ((i % width) as f32 - centre.0, (i / width) as f32 - centre.1);
            let (u, v) = ((x * cos + y * sin) / radius.0, (y * cos - x * sin) / radius.1);
            // First order distance to the ellipse, in pixels.
            let (away, slope) = (u * u + v * v, 2.0 * (u / radius.0).hypot(v / radius.1));
            let distance = (away - 1.0) / slope.max(1e-3);
            let inside = (0.5 - distance).clamp(0.0, 1.0);
            let edge = (line / 2.0 + 0.5 - distance.abs()).clamp(0.0, 1.0);
            for c in 0..3 {
                let value = &mut planes[c * plane + i];
                if let Some(face) = face {
                    *value += inside * (from_u8(face[c]) - *value);
                }
                *value += edge * (from_u8(ink[c]) - *value);
            }
        }
    }
    planes
}

/// One colour, or two halves of it, with or without the least noise that 8 bits can hold.
pub(super) fn flat((width, height): (usize, usize), rng: &mut Stream) -> Vec<f32> {
    let (a, b) = (colour(rng), colour(rng));
    let border = if rng.below(2) == 0 { width } else { between(0, width, rng) };
    let noise = if rng.below(2) == 0 { 0.0 } else { 1.5 / 127.5 * rng.next_f32() };
    let mut planes = Vec::with_capacity(3 * width * height);
    for c in 0..3 {
        for i in 0..width * height {
            let side = if i % width < border { a[c] } else { b[c] };
            planes.push(from_u8(side) + noise * rng.next_normal());
        }
    }
    planes
}
