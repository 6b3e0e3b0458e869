// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens to film and tape itself: scratches along the film, dust and hairs, dropouts along the tape.

use super::{Arguments, Degradation, Degraded, Span, as_file, check};
use crate::{Result, noise::Stream};

/// Area that densities count in, pixels.
const AREA: f32 = 10_000.0;

/// Streaks along a row where the tape gave no signal.
struct Dropouts(Span);

/// Lines along the film, light where its layer is gone, dark where light is caught.
struct Scratches(Span);

/// Specks and hairs.
struct Dust(Span);

pub(super) fn build_dropouts(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(Dropouts(arguments.span("DENSITY", 0.0..=50.0)?)))
}

pub(super) fn build_scratches(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(Scratches(arguments.span("DENSITY", 0.0..=50.0)?)))
}

pub(super) fn build_dust(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(Dust(arguments.span("DENSITY", 0.0..=50.0)?)))
}

impl Degradation for Dropouts {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        let mut picture = Picture::new(x0, width, height)?;
        for _ in 0..count(self.0.draw(rng), (width * height) as f32 / AREA, rng) {
            let (x, y) = (rng.below(width as u64) as usize, rng.below(height as u64) as usize);
            let (length, rows) = (4 + rng.below(60) as usize, 1 + rng.below(2) as usize);
            // Mostly white, sometimes black; the end fades as the signal comes back.
            let value = if rng.below(4) == 0 { -1.0 } else { 1.0 };
            let fade = 1.0 + 8.0 * rng.next_f32();
            for dx in 0..length {
                let share = ((length - dx) as f32 / fade).min(1.0) * (0.6 + 0.4 * rng.next_f32());
                (0..rows).for_each(|dy| picture.mix(x + dx, y + dy, value, share));
            }
        }
        Ok(picture.finished())
    }
}

impl Degradation for Scratches {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        let mut picture = Picture::new(x0, width, height)?;
        // A scratch crosses the picture: its density counts along the width alone.
        for _ in 0..count(self.0.draw(rng), width as f32 / AREA.sqrt(), rng) {
            let mut x = rng.next_f32() * width as f32;
            let (value, share) = (if rng.below(2) == 0 { 1.0 } else { -1.0 }, 0.25 + 0.75 * rng.next_f32());
            let half = 0.5 + rng.next_f32();
            let whole = rng.below(2) == 0;
            let from = if whole { 0 } else { rng.below(height as u64) as usize };
            let to = if whole { height } else { from + 1 + rng.below(height as u64) as usize };
            let slant = 0.06 * (rng.next_f32() - 0.5);
            for y in from..to.min(height) {
                x += slant + 0.15 * rng.next_normal();
                let first = (x - half).max(0.0) as usize;
                for at in first..first + 4 {
                    let cover = (half + 0.5 - (at as f32 - x).abs()).clamp(0.0, 1.0);
                    picture.mix(at, y, value, share * cover);
                }
            }
        }
        Ok(picture.finished())
    }
}

impl Degradation for Dust {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        let mut picture = Picture::new(x0, width, height)?;
        for _ in 0..count(self.0.draw(rng), (width * height) as f32 / AREA, rng) {
            let value = if rng.below(3) == 0 { 1.0 } else { -1.0 };
            let share = 0.4 + 0.6 * rng.next_f32();
            let mut at = (rng.next_f32() * width as f32, rng.next_f32() * height as f32);
            let mut direction = std::f32::consts::TAU * rng.next_f32();
            // A speck is a short way of a thick pen, a hair a long, winding way of a thin one.
            let hair = rng.below(4) == 0;
            let (steps, radius) =
                if hair { (10 + rng.below(50), 0.6) } else { (1 + rng.below(3), 0.6 + 2.5 * rng.next_f32()) };
            for _ in 0..steps {
                picture.dot(at, radius, value, share);
                direction += 0.3 * rng.next_normal();
                at = (at.0 + direction.cos(), at.1 + direction.sin());
            }
        }
        Ok(picture.finished())
    }
}

/// A whole number whose mean is `density · size`.
fn count(density: f32, size: f32, rng: &mut Stream) -> usize {
    (density * size + rng.next_f32()) as usize
}

/// Planes that are drawn on. A pixel is covered by the strongest mark, not by their sum, so that a pen which
/// goes on does not darken its own way.
struct Picture {
    planes: Vec<f32>,
    marks: Vec<(f32, f32)>,
    width: usize,
    height: usize,
}

impl Picture {
    fn new(x0: &[f32], width: usize, height: usize) -> Result<Self> {
        check(x0, width, height)?;
        Ok(Self { planes: x0.to_vec(), marks: vec![(0.0, 0.0); width * height], width, height })
    }

    fn mix(&mut self, x: usize, y: usize, value: f32, share: f32) {
        if x < self.width && y < self.height {
            let mark = &mut self.marks[y * self.width + x];
            if share > mark.1 {
                *mark = (value, share);
            }
        }
    }

    fn dot(&mut self, (x, y): (f32, f32), radius: f32, value: f32, share: f32) {
        let reach = |at: f32| ((at - radius - 1.0).max(0.0) as usize, (at + radius + 1.0).max(0.0) as usize);
        let ((left, right), (top, bottom)) = (reach(x), reach(y));
        for row in top..=bottom {
            for column in left..=right {
                let away = (column as f32 - x).hypot(row as f32 - y);
                self.mix(column, row, value, share * (radius + 0.5 - away).clamp(0.0, 1.0));
            }
        }
    }

    fn finished(self) -> Degraded {
        let mut x1 = self.planes;
        for plane in x1.chunks_exact_mut(self.width * self.height) {
            for (pixel, (value, share)) in plane.iter_mut().zip(&self.marks) {
                *pixel += share * (value - *pixel);
            }
        }
        as_file(&mut x1);
        Degraded { x1, mask: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (200, 150);

    /// Pixels that changed, on grey, and the picture.
    fn marked(spec: &str, seed: u64) -> Vec<usize> {
        let x0 = vec![crate::picture::from_u8(128); 3 * SIZE.0 * SIZE.1];
        let x1 = super::super::parse(spec).unwrap();
        let x1 = x1.apply(&x0, SIZE.0, SIZE.1, &mut Stream::new(seed, 0)).unwrap();
        let plane = SIZE.0 * SIZE.1;
        assert_eq!(x1[..plane], x1[plane..2 * plane], "all colours are hit alike");
        (0..plane).filter(|&i| x1[i] != x0[i]).collect()
    }

    #[test]
    fn nothing_happens_at_density_nought_and_more_at_more() {
        for name in ["dropouts", "scratches", "dust"] {
            assert!(marked(&format!("{name}:0"), 1).is_empty(), "{name}");
            let sum = |density: &str| {
                (0..8).map(|seed| marked(&format!("{name}:{density}"), seed).len()).sum::<usize>()
            };
            let (few, many) = (sum("1"), sum("4"));
            assert!(few > 0 && many > 2 * few, "{name}: {few} {many}");
            assert!(many < 8 * SIZE.0 * SIZE.1 / 3, "{name}: {many}");
        }
    }

    #[test]
    fn scratches_stand_and_dropouts_lie() {
        let extent = |spec: &str| {
            let (mut rows, mut columns) =
                (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            for i in marked(spec, 3) {
                rows.insert(i / SIZE.0);
                columns.insert(i % SIZE.0);
            }
            (columns.len(), rows.len())
        };
        let (wide, high) = extent("scratches:1");
        assert!(high > 2 * wide, "{wide}×{high}");
        let (wide, high) = extent("dropouts:1");
        assert!(wide > 2 * high, "{wide}×{high}");
    }
}
