// SPDX-License-Identifier: MIT OR Apache-2.0
//! Picture in, restored picture out: the face of the engine that programs use.
//!
//! A [`Restorer`] is a preset's network on a device, and the settings it runs with. It takes pictures
//! of any size from 1×1 up, pads them to the network's stride by repeating the last row and column,
//! and evaluates the network tile by tile with the margin that makes the tiles fit exactly. What it
//! returns depends on the picture, the preset, the sampler, the number of steps, the seed and the
//! frame number; not on the size of the tiles, on the number of threads, or on what came before.
//!
//! ```
//! use i2sb::{
//!     Cancel,
//!     preset::Preset,
//!     restore::{Request, RestoreOptions, Restorer},
//! };
//! # // A preset in memory: the smallest network there is, with random weights.
//! # fn open(_: &str) -> i2sb::Result<Preset> {
//! #     use i2sb::net::{params::TensorSource, random::RandomWeights};
//! #     let toml = r#"
//! #         name = "tiny-v1"
//! #         task = "test"
//! #         description = "Random."
//! #         sampling = { sampler = "i2sb", nfe = 1 }
//! #         bridge = { interval = 1000, beta_max = 0.3 }
//! #         network = { family = "bridge", in_channels = 3, unshuffle = 2, widths = [16],
//! #             encoder = [], middle = 1, decoder = [], time_features = 8 }"#;
//! #     let config = i2sb::preset::PresetConfig::parse(toml, "tiny")?;
//! #     let weights = RandomWeights::new(&config.network, 1)?;
//! #     let read = |(name, _): (String, _)| Ok((name.clone(), weights.read(&name)?));
//! #     let tensors = weights.shapes().into_iter().map(read).collect::<i2sb::Result<Vec<_>>>()?;
//! #     Preset::from_bytes(toml, safetensors::serialize(tensors, None).unwrap(), None)
//! # }
//! # struct Program;
//! # impl Program { fn open(name: &str) -> i2sb::Result<Preset> { open(name) } }
//!
//! # fn main() -> i2sb::Result<()> {
//! # use Program as Preset;
//! let preset = Preset::open("jpeg-small")?;
//! let restorer = Restorer::new(&preset, RestoreOptions::default())?;
//!
//! let (width, height) = (33, 17); // any size from 1×1 up
//! let degraded = vec![0.25; 3 * width * height]; // planes R, G, B in [-1, 1]
//! let restored = restorer.restore(&degraded, width, height, &Request::default(), &Cancel::default())?;
//! assert_eq!(restored.len(), degraded.len());
//!
//! // Half way between input and result, on the same network:
//! let half = restorer.with_options(RestoreOptions { strength: 0.5, ..RestoreOptions::default() })?;
//! println!("{}", half.about()); // "jpeg-small-v6, 1 step, cpu, f32"
//! # half.restore(&degraded, width, height, &Request::default(), &Cancel::default())?;
//! # Ok(())
//! # }
//! ```

#[cfg(all(test, feature = "cudnn"))]
mod cuda_tests;
mod exact;
mod grey;
mod options;
mod raw;
mod sample;
mod tiled;
mod tta;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use candle_core::{Device, Tensor};

pub use grey::is_grey;
pub use options::RestoreOptions;

use self::exact::Exact;
use crate::{
    Cancel, Error, Result,
    net::Network,
    ops::{Precision, transfer::to_host},
    preset::{BridgeConfig, Preset, PresetConfig},
    sampler::{self, Sampler},
    schedule::{Schedule, ScheduleConfig},
    tile::Window,
};

/// A network ready to restore pictures. Clones share the network; all methods may be called from
/// several threads at once.
#[derive(Clone)]
pub struct Restorer {
    model: Arc<Model>,
    options: RestoreOptions,
    sampler: Sampler,
    pool: Option<Arc<rayon::ThreadPool>>,
    recomputed: Arc<AtomicU64>,
}

/// What is the same for all pictures.
struct Model {
    network: Box<dyn Network>,
    schedule: Schedule,
    config: PresetConfig,
    hash: String,
    device: Device,
    exact: Exact,
}

/// What belongs to one picture.
#[derive(Clone, Copy, Default)]
pub struct Request<'a> {
    /// Number of the frame: noise differs from frame to frame, and is the same for equal numbers.
    pub frame: u64,
    /// Where to fill in, `(H, W)`: 1 in the hole, 0 where the picture is known (SPEC section 6).
    pub mask: Option<&'a [f32]>,
    /// Called after each tile with the share that is done, above 0 and at most 1.
    pub progress: Option<&'a (dyn Fn(f32) + Sync)>,
}

impl Restorer {
    /// Builds the preset's network on the device that `options` name.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value out of range, [`Error::Device`] if the device cannot be used,
    /// [`Error::File`] if the weights do not fit.
    pub fn new(preset: &Preset, options: RestoreOptions) -> Result<Self> {
        let device = options.device.open()?;
        let network = preset.build(&device, options.precision)?;
        let exact = match options.precision {
            Precision::F32 => Exact::default(),
            _ => {
                let (preset, device) = (preset.clone(), device.clone());
                Exact::new(Box::new(move || preset.build(&device, Precision::F32)))
            }
        };
        let hash = preset.hash_in(options.precision)?;
        Self::assemble(network, device, preset.config.clone(), hash, options, exact)
    }

    /// A restorer around a network that was built elsewhere, on `device`. Of `config`, all but its
    /// `network` counts; [`Restorer::hash`] is empty.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value out of range.
    pub fn from_network(
        network: Box<dyn Network>,
        device: Device,
        config: PresetConfig,
        options: RestoreOptions,
    ) -> Result<Self> {
        Self::assemble(network, device, config, String::new(), options, Exact::default())
    }

    fn assemble(
        network: Box<dyn Network>,
        device: Device,
        config: PresetConfig,
        hash: String,
        options: RestoreOptions,
        exact: Exact,
    ) -> Result<Self> {
        let schedule = schedule(&config)?;
        let model = Arc::new(Model { network, schedule, config, hash, device, exact });
        Self::around(model, options)
    }

    fn around(model: Arc<Model>, options: RestoreOptions) -> Result<Self> {
        options.check()?;
        let sampler = sampling(&model.config, &model.schedule, options.sampler.as_deref(), options.nfe)?;
        let pool = match options.threads {
            0 => None,
            threads => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                Some(Arc::new(pool.map_err(|error| Error::setting("threads", threads, error))?))
            }
        };
        Ok(Self { model, options, sampler, pool, recomputed: Arc::default() })
    }

    /// The same network with other settings, without loading anything.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value out of range, or if device or precision differ from those that
    /// the network was built for.
    pub fn with_options(&self, options: RestoreOptions) -> Result<Self> {
        if options.device != self.options.device {
            return Err(Error::setting(
                "device",
                options.device,
                format!("{} as built", self.options.device),
            ));
        }
        if options.precision != self.options.precision {
            let (asked, built) = (options.precision.name(), self.options.precision.name());
            return Err(Error::setting("precision", asked, format!("{built} as built")));
        }
        if options.threads == self.options.threads {
            let (pool, recomputed) = (self.pool.clone(), self.recomputed.clone());
            let other = Self::around(self.model.clone(), RestoreOptions { threads: 0, ..options.clone() })?;
            return Ok(Self { pool, options, recomputed, ..other });
        }
        Ok(Self { recomputed: self.recomputed.clone(), ..Self::around(self.model.clone(), options)? })
    }

    /// A clone that counts on its own what it had to compute again.
    pub fn twin(&self) -> Self {
        Self { recomputed: Arc::default(), ..self.clone() }
    }

    /// The settings.
    pub fn options(&self) -> &RestoreOptions {
        &self.options
    }

    /// The preset's configuration.
    pub fn config(&self) -> &PresetConfig {
        &self.model.config
    }

    /// SHA-256 of all that the bits depend on, hexadecimal: [`Preset::hash_in`].
    pub fn hash(&self) -> &str {
        &self.model.hash
    }

    /// Network evaluations per picture.
    pub fn nfe(&self) -> usize {
        self.sampler.nfe()
    }

    /// The device in use, e.g. `cpu` or `cuda:0`.
    pub fn device(&self) -> String {
        match self.model.device.location() {
            candle_core::DeviceLocation::Cpu => "cpu".into(),
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        }
    }

    /// Model, steps, device and precision in a few words.
    pub fn about(&self) -> String {
        let steps = if self.nfe() == 1 { "1 step".into() } else { format!("{} steps", self.nfe()) };
        let (name, precision) = (&self.model.config.name, self.options.precision.name());
        let tta = if self.options.tta > 1 { format!(", tta {}", self.options.tta) } else { String::new() };
        format!("{name}, {steps}, {}, {precision}{tta}", self.device())
    }

    /// Pictures so far, of this restorer and its clones (but [`Restorer::twin`]), that went beyond the range of its precision and were
    /// computed again in f32.
    pub fn recomputed(&self) -> u64 {
        self.recomputed.load(Ordering::Relaxed)
    }

    /// How far, in pixels, a pixel of the result looks, all steps together; `None`: everywhere.
    pub fn halo(&self) -> Option<usize> {
        let stride = self.model.network.stride().max(1);
        Some(self.model.network.halo()?.next_multiple_of(stride).saturating_mul(self.nfe()))
    }

    /// Multiply-accumulates of a picture of this size, halos of tiles not counted.
    pub fn macs(&self, width: usize, height: usize) -> f64 {
        let network = &self.model.network;
        let stride = network.stride().max(1);
        let (w, h) = (width.next_multiple_of(stride), height.next_multiple_of(stride));
        network.macs_per_pixel(h, w) * (w * h * self.nfe() * self.options.tta) as f64
    }

    /// Restores one picture.
    ///
    /// - `rgb`: planes, `(3, height, width)`, f32, nominal range [-1, 1].
    ///
    /// Returns planes of the same size; of a picture without colour, equal in R, G and B, one without. The
    /// range is nominal: values may lie a little outside of it, as those of the input may.
    ///
    /// # Errors
    /// [`Error::Shape`] if `rgb` or the mask is not of this size or empty, [`Error::Cancelled`] within
    /// one block of the network once `cancel` is set, [`Error::Tensor`] if the device fails,
    /// [`Error::NotFinite`] if the result goes beyond the range of a precision other than f32 and there are no
    /// weights to compute it again with ([`Restorer::from_network`]).
    pub fn restore(
        &self,
        rgb: &[f32],
        width: usize,
        height: usize,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<Vec<f32>> {
        self.restore_part(rgb, width, height, &Window { rows: 0..height, cols: 0..width }, request, cancel)
    }

    /// Restores a window of a picture: exactly the pixels that [`Restorer::restore`] gives there, at
    /// about the cost of the window and its [`Restorer::halo`].
    ///
    /// Returns planes `(3, rows, cols)` of the window.
    ///
    /// # Errors
    /// As [`Restorer::restore`]; [`Error::Shape`] too if the window is empty or not in the picture.
    pub fn restore_part(
        &self,
        rgb: &[f32],
        width: usize,
        height: usize,
        window: &Window,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<Vec<f32>> {
        check_size(rgb, width, height, window, request)?;
        cancel.check()?;
        let size = (height, width);
        let input = || window.cut(&Tensor::from_slice(rgb, (1, 3, height, width), &Device::Cpu)?);
        if self.options.strength == 0.0 {
            return to_host(&input()?);
        }
        let run = || -> Result<Vec<f32>> {
            let mut restored = match self.options.tta {
                1 => self.restore_once(rgb, size, window, request, cancel)?,
                count => self.averaged(count, rgb, size, window, request, cancel)?,
            };
            if is_grey(rgb) {
                grey::make_grey(&mut restored);
            }
            if self.options.strength < 1.0 {
                let input = to_host(&input()?)?;
                let strength = self.options.strength;
                restored.iter_mut().zip(input).for_each(|(out, x)| *out = x + strength * (*out - x));
            }
            Ok(restored)
        };
        self.install(run)
    }

    /// Runs `work` on the threads that the network runs on.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(work),
            // On one of the threads, so that what it hands out to the others costs no change of threads.
            None => rayon::scope(|_| work()),
        }
    }
}

/// Whether a preset can be run with this sampler and so many network evaluations; `None`: as the preset says.
///
/// # Errors
/// [`Error::Setting`] that says what each may be.
pub fn check_sampling(config: &PresetConfig, sampler: Option<&str>, nfe: Option<usize>) -> Result<()> {
    sampling(config, &schedule(config)?, sampler, nfe).map(|_| ())
}

fn schedule(config: &PresetConfig) -> Result<Schedule> {
    let BridgeConfig { interval, beta_max, t0, t_end, .. } = config.bridge;
    Schedule::new(ScheduleConfig { interval, beta_max, t0, t_end })
}

fn sampling(
    config: &PresetConfig,
    schedule: &Schedule,
    sampler: Option<&str>,
    nfe: Option<usize>,
) -> Result<Sampler> {
    let nfe = nfe.unwrap_or(config.sampling.nfe);
    let name = sampler.unwrap_or(&config.sampling.sampler);
    if config.bridge.ot_ode && sampler::find(name)?.noisy {
        let calm = sampler::SAMPLERS.iter().filter(|entry| !entry.noisy).map(|entry| entry.name);
        let limit = format!(
            "{} for this network, which was trained without noise (ot_ode) and has never seen any",
            calm.collect::<Vec<_>>().join(", ")
        );
        return Err(Error::setting("sampler", name, limit));
    }
    sampler::build(name, schedule, nfe, None)
}

fn check_size(rgb: &[f32], width: usize, height: usize, window: &Window, request: &Request) -> Result<()> {
    let pixels = width.checked_mul(height).filter(|&pixels| pixels > 0 && pixels <= MAX_PIXELS);
    let Some(pixels) = pixels else {
        return Err(Error::shape("picture", &[height, width], format!("1 to {MAX_PIXELS} pixels")));
    };
    if rgb.len() != 3 * pixels {
        let expected = format!("3·{height}·{width} = {} values", 3 * pixels);
        return Err(Error::shape("planes of the picture", &[rgb.len()], expected));
    }
    if let Some(mask) = request.mask.filter(|mask| mask.len() != pixels) {
        return Err(Error::shape("mask", &[mask.len()], format!("{height}·{width} = {pixels} values")));
    }
    let Window { rows, cols } = window;
    if rows.is_empty() || cols.is_empty() || rows.end > height || cols.end > width {
        let found = [rows.start, rows.end, cols.start, cols.end];
        return Err(Error::shape("window (rows, columns)", &found, format!("inside {height} × {width}")));
    }
    Ok(())
}

/// Largest picture: 2³⁰ pixels, 12 GiB of planes.
const MAX_PIXELS: usize = 1 << 30;
