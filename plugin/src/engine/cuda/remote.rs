// SPDX-License-Identifier: MIT OR Apache-2.0
//! An engine inside the CUDA library behind the element's trait.

use std::sync::Arc;

use i2sb::{Cancel, pixel::Raw, preset::Preset};
use i2sb_cuda_abi::{Code, Knobs as AbiKnobs, Text};

use super::{CudaError, Library, library::Handle};
use crate::engine::{About, Engine, EngineError, Knobs, Picture};

/// Side of the picture that warms the network up, in pixels.
const WARM_UP: usize = 64;

/// What is to be opened in a library.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Folder of the preset; empty: the one inside the library, which must be the plugin's.
    pub preset: String,
    /// Share of its perceptual end.
    pub detail: f32,
    /// The weights that it must have.
    pub hash: String,
    /// `cuda:N`.
    pub device: String,
    /// `f32`, `f16` or `bf16`.
    pub precision: String,
    /// Network evaluations per frame that the preset advises.
    pub steps: u32,
}

impl Choice {
    /// The choice of an opened preset.
    pub fn new(preset: &Preset, device: String, precision: String) -> Self {
        let folder = preset.folder.as_ref().map(|folder| folder.to_string_lossy().into_owned());
        let (preset_folder, hash) = (folder.unwrap_or_default(), preset.hash.clone());
        let (detail, steps) = (preset.detail(), preset.config.sampling.nfe as u32);
        Self { preset: preset_folder, detail, hash, device, precision, steps }
    }
}

/// An engine inside a library.
pub struct Remote {
    library: Arc<Library>,
    /// `None` only while being dropped.
    engine: Option<Handle>,
    about: About,
    recomputed: u64,
}

impl Remote {
    /// Opens the preset on the device.
    ///
    /// # Errors
    /// [`EngineError::Cuda`] with the library's words.
    pub fn open(library: Arc<Library>, choice: &Choice) -> Result<Self, EngineError> {
        let engine = library
            .open(&choice.preset, choice.detail, &choice.device, &choice.precision)
            .map_err(|e| told(e, 0))?;
        let text = library.describe(&engine);
        let mut remote = Self { library, engine: Some(engine), about: About::default(), recomputed: 0 };
        let text = text.map_err(|error| told(error, 0))?;
        let mut lines = text.lines().map(str::to_owned);
        let mut next = || lines.next().unwrap_or_default();
        remote.about = About {
            model: next(),
            hash: next(),
            device: next(),
            precision: next(),
            steps: choice.steps,
            raw: true,
        };
        if remote.about.hash != choice.hash {
            let reason = format!(
                "{} holds other weights of {} than the plugin; install the library of this plugin's version",
                remote.library.path().display(),
                remote.about.model
            );
            return Err(CudaError::Refused { code: Code::File, reason }.into());
        }
        Ok(remote)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            self.library.free(engine);
        }
    }
}

impl Engine for Remote {
    fn about(&self) -> &About {
        &self.about
    }

    fn warm_up(&mut self, cancel: &Cancel) -> Result<(), EngineError> {
        let grey = Picture::new(WARM_UP, WARM_UP, vec![0.0; 3 * WARM_UP * WARM_UP]);
        let knobs = Knobs { steps: 0, sampler: String::new(), seed: 0, frame: 0, tile: 0 };
        self.restore(&grey, &knobs, cancel).map(drop)
    }

    fn restore(&mut self, picture: &Picture, knobs: &Knobs, cancel: &Cancel) -> Result<Picture, EngineError> {
        let Some(engine) = &mut self.engine else { return Err(EngineError::Stopped) };
        if picture.hole.is_some() {
            return Err(beyond("inpaint-mask", "none"));
        }
        let (width, height, rgb) = (picture.width, picture.height, &picture.rgb);
        let mut out = vec![0.0; rgb.len()];
        let done = self.library.restore(engine, (width, height), rgb, &mut out, wish(knobs)?, cancel);
        self.recomputed = done.map_err(|error| told(error, knobs.tile))?;
        Ok(Picture::new(width, height, out))
    }

    fn restore_raw(
        &mut self,
        raw: &mut Raw,
        strength: f32,
        knobs: &Knobs,
        cancel: &Cancel,
    ) -> Result<bool, EngineError> {
        let Some(engine) = &mut self.engine else { return Err(EngineError::Stopped) };
        let done = self.library.restore_raw(engine, raw, strength, wish(knobs)?, cancel);
        let (recomputed, broken) = done.map_err(|error| told(error, knobs.tile))?;
        self.recomputed = recomputed;
        Ok(broken)
    }

    fn twin(&self) -> Result<Option<Box<dyn Engine>>, EngineError> {
        let Some(engine) = &self.engine else { return Err(EngineError::Stopped) };
        let twin = self.library.twin(engine).map_err(|error| told(error, 0))?;
        let (library, about) = (self.library.clone(), self.about.clone());
        Ok(Some(Box::new(Self { library, engine: Some(twin), about, recomputed: 0 })))
    }

    fn recomputed(&self) -> u64 {
        self.recomputed
    }
}

/// Said, not left out: the library does not take it.
fn beyond(name: &'static str, limit: &str) -> EngineError {
    i2sb::Error::setting(name, "set", format!("{limit} with the CUDA library; set device=cpu for it")).into()
}

fn wish(knobs: &Knobs) -> Result<AbiKnobs, EngineError> {
    if knobs.frame != 0 {
        return Err(beyond("noise", "still"));
    }
    let sampler = Text::of(&knobs.sampler);
    Ok(AbiKnobs { steps: knobs.steps, tile: knobs.tile, seed: knobs.seed, sampler })
}

/// The library's refusal as the element tells errors apart.
fn told(error: CudaError, tile: u32) -> EngineError {
    match error {
        CudaError::Refused { code: Code::Cancelled, .. } => EngineError::Cancelled,
        CudaError::Refused { code: Code::OutOfMemory, reason } => EngineError::OutOfMemory { tile, reason },
        CudaError::Refused { code: Code::Panicked, reason } => EngineError::Panicked(reason),
        other => EngineError::Cuda(other),
    }
}
