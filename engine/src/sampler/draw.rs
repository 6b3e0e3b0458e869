// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a sampler's noise comes from.

use candle_core::Tensor;

use crate::{
    Error, Result,
    noise::{NoiseKey, normal},
};

/// What a noise tensor is for. Each is drawn at most once in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// Added to x1 (`add_x1_noise`).
    X1,
    /// Fills the hole of x1.
    Hole,
    /// Part of the update after evaluation `.0`.
    Step(usize),
    /// Added to the known region after evaluation `.0`.
    Known(usize),
}

impl Draw {
    /// The number under which [`SeededNoise`] draws it; all are different.
    pub fn number(self) -> u32 {
        match self {
            Self::X1 => 0,
            Self::Hole => 1,
            Self::Step(index) => 2 + 2 * index as u32,
            Self::Known(index) => 3 + 2 * index as u32,
        }
    }
}

/// Gives unit normals.
pub trait NoiseSource {
    /// The noise for one purpose, with shape and device of `like`, `(B, C, H, W)`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the source has no such noise.
    fn normal(&self, draw: Draw, like: &Tensor) -> Result<Tensor>;
}

/// Noise of [`crate::noise`]: depends on seed, frame, purpose and position alone.
#[derive(Debug, Clone)]
pub struct SeededNoise {
    /// The user's seed.
    pub seed: u64,
    /// Number of the frame, one per batch item.
    pub frames: Vec<u64>,
    /// Row of the whole picture at which these pictures begin (a tile's origin).
    pub row: usize,
    /// Column of the whole picture at which these pictures begin.
    pub col: usize,
}

impl SeededNoise {
    /// Noise for one whole frame.
    pub fn new(seed: u64, frame: u64) -> Self {
        Self { seed, frames: vec![frame], row: 0, col: 0 }
    }
}

impl NoiseSource for SeededNoise {
    fn normal(&self, draw: Draw, like: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = like.dims4()?;
        if batch != self.frames.len() {
            let expected = format!("a batch of {} (one per frame number)", self.frames.len());
            return Err(Error::shape("noise", like.dims(), expected));
        }
        let field = |&frame: &u64| {
            let key = NoiseKey { seed: self.seed, frame, draw: draw.number() };
            normal(key, channels, self.row..self.row + height, self.col..self.col + width)
        };
        let values = match self.frames.as_slice() {
            [frame] => field(frame),
            frames => frames.iter().flat_map(field).collect(),
        };
        Ok(Tensor::from_vec(values, like.dims(), like.device())?)
    }
}

/// Noise that was recorded elsewhere.
#[derive(Debug, Clone, Default)]
pub struct ReplayedNoise {
    /// For [`Draw::X1`]: `(B, C, H, W)`.
    pub x1: Option<Tensor>,
    /// For [`Draw::Hole`]: `(B, C, H, W)`.
    pub hole: Option<Tensor>,
    /// For [`Draw::Step`]: `(k, B, C, H, W)`, one entry per update.
    pub step: Option<Tensor>,
    /// For [`Draw::Known`]: `(k, B, C, H, W)`, one entry per update.
    pub known: Option<Tensor>,
}

impl NoiseSource for ReplayedNoise {
    fn normal(&self, draw: Draw, like: &Tensor) -> Result<Tensor> {
        let absent =
            |found: &[usize]| Error::shape(format!("recorded noise for {draw:?}"), found, "an entry for it");
        let entry = |all: &Option<Tensor>, index: usize| match all {
            Some(all) if all.rank() > 0 && index < all.dims()[0] => Ok(all.get(index)?),
            Some(all) => Err(absent(all.dims())),
            None => Err(absent(&[])),
        };
        let noise = match draw {
            Draw::X1 => self.x1.clone().ok_or_else(|| absent(&[]))?,
            Draw::Hole => self.hole.clone().ok_or_else(|| absent(&[]))?,
            Draw::Step(index) => entry(&self.step, index)?,
            Draw::Known(index) => entry(&self.known, index)?,
        };
        if noise.dims() != like.dims() {
            return Err(Error::shape("recorded noise", noise.dims(), format!("{:?}", like.dims())));
        }
        Ok(noise.to_device(like.device())?)
    }
}
