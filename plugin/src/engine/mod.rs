// SPDX-License-Identifier: MIT OR Apache-2.0
//! What restores pictures: the trait the element works against, and the threads that run it.

pub mod cuda;
mod image;
pub mod real;
pub mod reuse;
pub mod worker;

use std::sync::{Arc, LazyLock, Mutex};

use i2sb::Cancel;
use i2sb::pixel::{Raw, add_difference, to_rgb};

pub use self::image::Image;

/// A planar R'G'B' picture, f32 in [-1, 1]: three planes of `width·height`, red first.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Width in pixels.
    pub width: usize,
    /// Height in rows.
    pub height: usize,
    /// `3·width·height` samples.
    pub rgb: Vec<f32>,
    /// `width·height` values, 1 where to fill in, 0 where the picture is known; `None`: all of it is restored.
    pub hole: Option<Arc<[f32]>>,
}

impl Picture {
    /// A picture without a hole.
    pub fn new(width: usize, height: usize, rgb: Vec<f32>) -> Self {
        Self { width, height, rgb, hole: None }
    }
}

/// What may change from frame to frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Knobs {
    /// Network evaluations per frame; 0: as many as the preset says.
    pub steps: u32,
    /// Name of the sampler; empty: the preset's.
    pub sampler: String,
    /// Seed of the noise.
    pub seed: u64,
    /// Number of the frame that the noise is drawn for; 0 for all, so that still parts stay still.
    pub frame: u64,
    /// Side of a tile in pixels; 0: chosen by the engine.
    pub tile: u32,
}

/// Who an engine is, for `stats` and messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Name of the model.
    pub model: String,
    /// SHA-256 of the weights, in hexadecimal.
    pub hash: String,
    /// The device in use.
    pub device: String,
    /// The precision in use.
    pub precision: String,
    /// Network evaluations per frame that the model advises; 0 counts as 1.
    pub steps: u32,
    /// Whether it takes frames in their own format better than decoded pictures ([`Engine::restore_raw`]).
    pub raw: bool,
}

/// Why an engine could not restore a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The token was set: nobody wants the result.
    #[error("cancelled")]
    Cancelled,
    /// The device has too little memory for this tile.
    #[error("out of memory at a tile of {tile} pixels ({reason}); set a smaller tile-size")]
    OutOfMemory {
        /// Side of the tile that was tried; 0: the engine's choice.
        tile: u32,
        /// What the device said.
        reason: String,
    },
    /// The engine panicked: a defect, not a setting.
    #[error("the engine panicked: {0}; please report this with the model's name")]
    Panicked(String),
    /// The engine has ended, as a frame before this one told.
    #[error("the engine has stopped")]
    Stopped,
    /// CUDA was asked for and cannot be used.
    #[error("CUDA: {0}")]
    Cuda(#[from] cuda::CudaError),
    /// Everything else the engine can tell.
    #[error(transparent)]
    Failed(#[from] i2sb::Error),
}

/// A loaded network on its device. Lives on one thread of its own, its twin on another.
pub trait Engine: Send {
    /// Who it is.
    fn about(&self) -> &About;

    /// Runs once on a small picture, so that the first frame costs what every frame costs.
    ///
    /// # Errors
    /// [`EngineError`] if the device cannot run the network.
    fn warm_up(&mut self, cancel: &Cancel) -> Result<(), EngineError>;

    /// Restores one picture; the result has its size.
    ///
    /// # Errors
    /// [`EngineError`]; [`EngineError::Cancelled`] within one network block of `cancel`.
    fn restore(&mut self, picture: &Picture, knobs: &Knobs, cancel: &Cancel) -> Result<Picture, EngineError>;

    /// Restores what `changed` can reach and copies all else from `previous`; also returns how many
    /// blocks were copied. `None` if this engine or its network cannot do parts.
    ///
    /// # Errors
    /// As [`Engine::restore`].
    fn restore_parts(
        &mut self,
        _picture: &Picture,
        _previous: &Picture,
        _changed: &reuse::Changed,
        _knobs: &Knobs,
        _cancel: &Cancel,
    ) -> Result<Option<(Picture, usize)>, EngineError> {
        Ok(None)
    }

    /// Adds `strength`, 0 to 1, of the restoration to a frame in its own format; a frame that fails stays as it was.
    /// Returns whether the network gave samples that no picture has, which are left as they were.
    ///
    /// # Errors
    /// As [`Engine::restore`].
    fn restore_raw(
        &mut self,
        raw: &mut Raw,
        strength: f32,
        knobs: &Knobs,
        cancel: &Cancel,
    ) -> Result<bool, EngineError> {
        let (width, height) = (raw.view.width, raw.view.height);
        let mut input = Picture::new(width, height, vec![0.0; 3 * width * height]);
        to_rgb(&raw.view, &raw.color, &raw.bytes, &mut input.rgb);
        let restored = self.restore(&input, knobs, cancel)?;
        Ok(add_difference(&raw.view, &raw.color, &mut raw.bytes, &input.rgb, &restored.rgb, strength))
    }

    /// A second one on the same network, for a second thread, if pictures of two gain by that: the network works on
    /// a device, and while one picture is computed there, the next may be on its way to it and the last on its
    /// way back.
    ///
    /// # Errors
    /// [`EngineError`] if it cannot be made.
    fn twin(&self) -> Result<Option<Box<dyn Engine>>, EngineError> {
        Ok(None)
    }

    /// Pictures so far that went beyond the range of the precision and were computed again in f32.
    fn recomputed(&self) -> u64 {
        0
    }
}

/// Makes an engine from what follows its prefix in the `model` property.
pub type Factory = fn(&str) -> Result<Box<dyn Engine>, EngineError>;

static FACTORIES: LazyLock<Mutex<Vec<(String, Factory)>>> = LazyLock::new(Mutex::default);

/// Lets `model=PREFIX:…` name engines made by `factory`: the door for an application that brings
/// its own, and for tests.
pub fn provide(prefix: &str, factory: Factory) {
    FACTORIES.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((prefix.to_owned(), factory));
}

/// The factory for this value of `model`, with the rest of the value.
pub fn provided(model: &str) -> Option<(Factory, &str)> {
    let (prefix, rest) = model.split_once(':')?;
    let factories = FACTORIES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    factories.iter().find(|(name, _)| name == prefix).map(|(_, factory)| (*factory, rest))
}
