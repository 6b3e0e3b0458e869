// SPDX-License-Identifier: MIT OR Apache-2.0
//! Short scenes out of still pictures: a camera that pans, zooms, shakes or stands still; things that move
//! before it; cuts, fades and titles.

use i2sb::{
    drawing::{Canvas, Letters},
    noise::Stream,
    picture::{Picture, from_u8, interleaved, planar, resize::Filter, to_u8},
    train::{
        dataset::{Dataset, Stored},
        synthetic,
        window::window,
    },
};

/// Of a hundred scenes, how many have each of these.
const SYNTHETIC: u64 = 8;
const CUT: u64 = 10;
const FOREGROUND: u64 = 20;
const TITLE: u64 = 12;
const FADE: u64 = 6;

/// Frames of a scene, planes `(3, height, width)`, on the grid of 8-bit files.
pub struct Scene {
    pub frames: Vec<Vec<f32>>,
    /// Names of the pictures that can be seen, the first one first; none if all was drawn.
    pub pictures: Vec<String>,
}

/// A camera over a picture. Lengths are in pixels of the frame.
struct Shot {
    rgb: Vec<u8>,
    whole: (usize, usize),
    centre: [f64; 2],
    speed: [f64; 2],
    /// Source pixels per pixel of the frame, and its factor from frame to frame.
    step: f64,
    zoom: f64,
    /// Largest shake to each side.
    shake: f64,
    filter: Filter,
}

/// Draws a scene of `count` frames of `size` from the pictures of `data`.
pub fn draw(data: &Dataset, size: (usize, usize), count: usize, rng: &mut Stream) -> Scene {
    let mut pictures = Vec::new();
    let mut photograph = |rng: &mut Stream| {
        let picture = data.pick(f64::from(rng.next_f32()));
        pictures.push(picture.name.clone());
        Shot::over(picture, size, rng)
    };
    let percent = |share: u64, rng: &mut Stream| rng.below(100) < share;
    let first = if percent(SYNTHETIC, rng) { Shot::drawn(size, rng) } else { photograph(rng) };
    let cut = percent(CUT, rng).then(|| (1 + rng.below(count as u64 - 1) as usize, photograph(rng)));
    let before = percent(FOREGROUND, rng).then(|| (Mask::draw(size, rng), photograph(rng)));
    let title = percent(TITLE, rng).then(|| Title::draw(size, rng));
    let fade = percent(FADE, rng).then(|| (rng.below(2) == 0, if rng.below(3) == 0 { 1.0 } else { -1.0 }));
    let mut frames = Vec::new();
    for t in 0..count {
        let shot = cut.as_ref().filter(|(at, _)| t >= *at).map_or(&first, |(_, shot)| shot);
        let mut planes = shot.frame(t, size, rng);
        if let Some((mask, shot)) = &before {
            let front = shot.frame(t, size, rng);
            let share = mask.at(t, size);
            for (i, value) in planes.iter_mut().enumerate() {
                *value += share[i % share.len()] * (front[i] - *value);
            }
        }
        if let Some(title) = &title {
            planes = title.over(planes, size);
        }
        if let Some((out, end)) = fade {
            let part = (t as f32 + 0.5) / count as f32;
            let part = if out { part } else { 1.0 - part };
            planes.iter_mut().for_each(|v| *v += part * (end - *v));
        }
        planes.iter_mut().for_each(|v| *v = from_u8(to_u8(*v)));
        frames.push(planes);
    }
    Scene { frames, pictures }
}

impl Shot {
    fn over(picture: &Stored, size: (usize, usize), rng: &mut Stream) -> Self {
        Self::moving(picture.rgb.clone(), (picture.width, picture.height), size, rng)
    }

    /// Over something drawn: text, lines, screens, gradients, noise.
    fn drawn(size: (usize, usize), rng: &mut Stream) -> Self {
        let whole = (size.0 * 3 / 2, size.1 * 3 / 2);
        let planes = synthetic::draw(whole, rng);
        Self::moving(interleaved(&planes), whole, size, rng)
    }

    fn moving(rgb: Vec<u8>, whole: (usize, usize), size: (usize, usize), rng: &mut Stream) -> Self {
        // As far away as the picture allows, at most so that it is shrunk to 0.4: that hides the artifacts that
        // it came with, and small clips are as sharp.
        let room = (whole.0 as f64 / size.0 as f64).min(whole.1 as f64 / size.1 as f64);
        let most = room.clamp(1.0, 1.0 / 0.4);
        let step = 1.0 + (most - 1.0) * f64::from(rng.next_f32());
        let mut unit = || f64::from(rng.next_f32()) * 2.0 - 1.0;
        let centre = [(unit() + 1.0) / 2.0 * whole.0 as f64, (unit() + 1.0) / 2.0 * whole.1 as f64];
        // Mostly slow: the cube of a uniform number, up to six pixels a frame.
        let (mut speed, zoom, shake) =
            ([6.0 * unit().powi(3), 4.0 * unit().powi(3)], 1.0 + 0.02 * unit(), unit().abs());
        let mut shot = Self {
            rgb,
            whole,
            centre,
            speed,
            step,
            zoom: 1.0,
            shake: 0.0,
            filter: [Filter::Cubic, Filter::Lanczos3, Filter::Area][rng.below(3) as usize],
        };
        match rng.below(10) {
            0 | 1 => speed = [0.0; 2],
            // Whole pixels.
            2..=4 => speed = speed.map(f64::round),
            5 => shot.shake = shake,
            6 | 7 => shot.zoom = zoom,
            _ => {}
        }
        shot.speed = speed;
        shot
    }

    fn frame(&self, t: usize, size: (usize, usize), rng: &mut Stream) -> Vec<f32> {
        let step = (self.step * self.zoom.powi(t as i32)).max(0.5);
        // Not beyond the picture's edges, as long as it reaches.
        let start = [0, 1].map(|axis| {
            let (side, len) = [(self.whole.0, size.0), (self.whole.1, size.1)][axis];
            let shake = self.shake * (f64::from(rng.next_f32()) * 2.0 - 1.0);
            let free = (side as f64 - len as f64 * step).max(0.0);
            let at = self.centre[axis] / side as f64 * free;
            // It turns back at the edge.
            let at = at + step * (self.speed[axis] * t as f64 + shake);
            let there = at.rem_euclid((2.0 * free).max(f64::MIN_POSITIVE));
            if free == 0.0 { 0.0 } else { there.min(2.0 * free - there) }
        });
        let still = step == 1.0 && self.speed.iter().all(|v| v.fract() == 0.0) && self.shake == 0.0;
        let start = if still { start.map(f64::floor) } else { start };
        window(&self.rgb, self.whole, start, size, step, self.filter)
    }
}

/// An ellipse with a soft edge that moves.
struct Mask {
    centre: [f32; 2],
    speed: [f32; 2],
    radius: [f32; 2],
}

impl Mask {
    fn draw(size: (usize, usize), rng: &mut Stream) -> Self {
        let mut unit = || rng.next_f32();
        Self {
            centre: [unit() * size.0 as f32, unit() * size.1 as f32],
            speed: [8.0 * unit() - 4.0, 8.0 * unit() - 4.0],
            radius: [20.0 + 60.0 * unit(), 20.0 + 60.0 * unit()],
        }
    }

    /// Share of what is in front, `(height, width)`.
    fn at(&self, t: usize, (width, height): (usize, usize)) -> Vec<f32> {
        let centre = [0, 1].map(|axis| self.centre[axis] + self.speed[axis] * t as f32);
        let reach = self.radius[0].min(self.radius[1]);
        let one = |i: usize| {
            let (x, y) = ((i % width) as f32 - centre[0], (i / width) as f32 - centre[1]);
            let from_edge = 1.0 - (x / self.radius[0]).hypot(y / self.radius[1]);
            (from_edge * reach / 1.5 + 0.5).clamp(0.0, 1.0)
        };
        (0..width * height).map(one).collect()
    }
}

/// A line of text that stands over the picture, with a dark edge.
struct Title {
    at: (usize, usize),
    text: String,
    letters: Letters,
    colour: [u8; 3],
}

impl Title {
    fn draw(size: (usize, usize), rng: &mut Stream) -> Self {
        let letters = if rng.below(2) == 0 { Letters::Small } else { Letters::Large };
        let length = 4 + rng.below((size.0 / letters.size().0) as u64) as usize;
        let letter = |rng: &mut Stream| match rng.below(6) {
            0 => ' ',
            1 => char::from(b'A' + rng.below(26) as u8),
            _ => char::from(b'a' + rng.below(26) as u8),
        };
        let text = (0..length).map(|_| letter(rng)).collect();
        let at = (4 + rng.below(40) as usize, rng.below((size.1 - letters.size().1) as u64) as usize + 1);
        let colour = [[255, 255, 255], [255, 240, 0], [230, 230, 230], [0, 255, 255]][rng.below(4) as usize];
        Self { at, text, letters, colour }
    }

    fn over(&self, planes: Vec<f32>, size: (usize, usize)) -> Vec<f32> {
        let mut canvas = Canvas::new(size.0, size.1, [0; 3]);
        let Ok(picture) = Picture::new(size.0, size.1, planes.clone()) else { return planes };
        canvas.paste((0, 0), &picture);
        let (x, y) = self.at;
        for (dx, dy) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
            canvas.text((x + dx - 1, y + dy - 1), &self.text, self.letters, [0; 3]);
        }
        canvas.text(self.at, &self.text, self.letters, self.colour);
        planar(canvas.rgb())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use i2sb::{Cancel, train::dataset::DatasetOptions};

    fn data() -> Dataset {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/photo");
        let options = DatasetOptions::default();
        Dataset::open(&folder, None, &options, &Cancel::default(), |_, _| (), |_, _| ()).unwrap()
    }

    #[test]
    fn scenes_are_what_their_seed_says_and_mostly_move() {
        let (data, size) = (data(), (96, 64));
        let mut moving = 0;
        for i in 0..24 {
            let scene = draw(&data, size, 4, &mut Stream::new(1, i));
            assert_eq!(scene.frames, draw(&data, size, 4, &mut Stream::new(1, i)).frames);
            assert!(scene.frames.iter().all(|frame| frame.len() == 3 * 96 * 64));
            assert!(scene.frames.iter().flatten().all(|v| from_u8(to_u8(*v)) == *v));
            moving += usize::from(scene.frames[0] != scene.frames[3]);
        }
        assert!((12..24).contains(&moving), "{moving} of 24 move");
    }

    #[test]
    fn a_pan_by_whole_pixels_shifts_the_picture() {
        let side = 64;
        let rgb: Vec<u8> = (0..3 * side * side).map(|i| (i * 31 % 251) as u8).collect();
        let shot = Shot {
            rgb,
            whole: (side, side),
            centre: [16.0, 16.0],
            speed: [3.0, 1.0],
            step: 1.0,
            zoom: 1.0,
            shake: 0.0,
            filter: Filter::Cubic,
        };
        let rng = &mut Stream::new(0, 0);
        let (a, b) = (shot.frame(0, (16, 16), rng), shot.frame(1, (16, 16), rng));
        for y in 0..15 {
            assert_eq!(a[(y + 1) * 16 + 3..(y + 2) * 16], b[y * 16..y * 16 + 13]);
        }
    }
}
