// SPDX-License-Identifier: MIT OR Apache-2.0
//! An opened engine, in safe Rust.

use i2sb::{
    Cancel, Error,
    device::DeviceName,
    ops::Precision,
    pixel::Raw,
    preset::Preset,
    restore::{Request, RestoreOptions, Restorer},
};
use i2sb_cuda_abi::Code;

/// A preset's network on its device.
pub(crate) struct State {
    restorer: Restorer,
    pub(crate) description: String,
}

/// What the caller wants for a picture.
pub(crate) struct Wish<'a> {
    pub steps: u32,
    pub tile: u32,
    pub seed: u64,
    pub sampler: &'a str,
}

impl State {
    pub fn open(preset: &str, detail: f32, device: &str, precision: &str) -> i2sb::Result<Self> {
        let device: DeviceName = device.parse()?;
        let precision: Precision = precision.parse()?;
        let preset = match preset {
            "" => Preset::default_for_video()?,
            name => Preset::open(name)?,
        }
        .with_detail(detail)?;
        let options = RestoreOptions { device, precision, ..RestoreOptions::default() };
        let restorer = Restorer::new(&preset, options)?;
        let lines = [preset.config.name.as_str(), &preset.hash, &restorer.device(), precision.name()];
        Ok(Self { description: lines.join("\n"), restorer })
    }

    /// A second one on the same network.
    pub fn twin(&self) -> Self {
        Self { restorer: self.restorer.twin(), description: self.description.clone() }
    }

    pub fn restore(
        &mut self,
        rgb: &[f32],
        (width, height): (usize, usize),
        wish: &Wish,
        cancel: &Cancel,
    ) -> i2sb::Result<Vec<f32>> {
        self.turn(wish)?;
        self.restorer.restore(rgb, width, height, &Request::default(), cancel)
    }

    /// A frame in its own format, in place; whether the network gave what no picture has.
    pub fn restore_raw(
        &mut self,
        raw: &mut Raw,
        strength: f32,
        wish: &Wish,
        cancel: &Cancel,
    ) -> i2sb::Result<bool> {
        self.turn(wish)?;
        self.restorer.restore_raw(raw, strength, &Request::default(), cancel)
    }

    fn turn(&mut self, wish: &Wish) -> i2sb::Result<()> {
        let options = RestoreOptions {
            nfe: Some(wish.steps as usize).filter(|&steps| steps > 0),
            sampler: Some(wish.sampler.to_owned()).filter(|name| !name.is_empty()),
            seed: wish.seed,
            tile: wish.tile as usize,
            strength: 1.0,
            ..self.restorer.options().clone()
        };
        if options != *self.restorer.options() {
            self.restorer = self.restorer.with_options(options)?;
        }
        Ok(())
    }

    /// Pictures so far that were computed again in f32.
    pub fn recomputed(&self) -> u64 {
        self.restorer.recomputed()
    }
}

/// Whether a device can be used, in words.
pub(crate) fn status(device: &str) -> i2sb::Result<String> {
    let device: DeviceName = device.parse()?;
    device.open()?;
    Ok(format!("{device} can be used"))
}

/// The error as the interface tells errors apart.
pub(crate) fn code(error: &Error) -> Code {
    match error {
        Error::Cancelled => Code::Cancelled,
        Error::Device { .. } => Code::Device,
        Error::Setting { .. } => Code::Setting,
        Error::File { .. } | Error::Io { .. } => Code::File,
        other => {
            // What CUDA and its libraries call it; the tensor library has no variant for it.
            let text = other.to_string().to_lowercase();
            let short = ["out_of_memory", "out of memory", "alloc_failed"].iter().any(|s| text.contains(s));
            if short { Code::OutOfMemory } else { Code::Failed }
        }
    }
}
