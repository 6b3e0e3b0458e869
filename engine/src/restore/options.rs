// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user may choose when restoring; every default stands here, once.

use crate::{Error, Result, device::DeviceName, ops::Precision};

/// Settings of a [`super::Restorer`].
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreOptions {
    /// Where the network runs.
    pub device: DeviceName,
    /// Number type of the network's multiplications.
    pub precision: Precision,
    /// Network evaluations per picture, 1 to the preset's interval − 1; `None`: as the preset says.
    pub nfe: Option<usize>,
    /// Name of a sampler in [`crate::sampler::SAMPLERS`]; `None`: as the preset says.
    pub sampler: Option<String>,
    /// Seed of all noise; equal seeds and frame numbers give equal pictures.
    pub seed: u64,
    /// How far to go from the input, 0, to the restored picture, 1. At 0 the network does not run and
    /// the input comes back bit for bit.
    pub strength: f32,
    /// Orientations of the picture, mirrored and turned, whose results are averaged, 1, 2, 4 or 8: nearer to the original, for as
    /// many times the work.
    pub tta: usize,
    /// Edge of a tile in pixels, halo not counted, rounded up to the network's stride; 0: as large as
    /// [`crate::tile::AUTO_TILE_PIXELS`] allows, 2048 on a CUDA device. On the CPU the result does not
    /// depend on it.
    pub tile: usize,
    /// Threads on the CPU, at most [`RestoreOptions::MAX_THREADS`]; 0: one per core. The result does
    /// not depend on it.
    pub threads: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            device: DeviceName::Auto,
            precision: Precision::F32,
            nfe: None,
            sampler: None,
            seed: 0,
            strength: 1.0,
            tta: 1,
            tile: 0,
            threads: 0,
        }
    }
}

impl RestoreOptions {
    /// Most threads that may be asked for.
    pub const MAX_THREADS: usize = 1024;

    /// What [`RestoreOptions::tta`] may be.
    pub const TTA: [usize; 4] = [1, 2, 4, super::tta::MOST];

    /// Checks what can be checked without a preset.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first value out of range.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.strength) {
            return Err(Error::setting("strength", self.strength, "0 to 1"));
        }
        if !Self::TTA.contains(&self.tta) {
            return Err(Error::setting("tta", self.tta, "1, 2, 4 or 8"));
        }
        if self.threads > Self::MAX_THREADS {
            let limit = format!("at most {} (0: one per core)", Self::MAX_THREADS);
            return Err(Error::setting("threads", self.threads, limit));
        }
        Ok(())
    }
}
