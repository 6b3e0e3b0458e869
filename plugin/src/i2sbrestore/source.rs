// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the properties `model`, `detail`, `device` and `precision` to something that can be loaded.

use std::sync::Arc;

use gst::glib;
use i2sb::Error;
use i2sb::device::DeviceName;
use i2sb::ops::Precision;
use i2sb::preset::{Preset, PresetConfig};
use i2sb::restore::{RestoreOptions, check_sampling};

use super::settings::Settings;
use crate::engine::cuda::{self, Choice, Library, Remote};
use crate::engine::real::Real;
use crate::engine::worker::{Key, Loader, Worker};
use crate::engine::{Engine, EngineError, Factory, Knobs, provided};

/// A model that exists, not yet loaded.
#[derive(Clone)]
pub struct Source {
    key: Key,
    wanted: Wanted,
    /// The preset's, if it is one.
    config: Option<PresetConfig>,
    kind: Kind,
    worker: Option<Arc<Worker>>,
}

/// What the properties asked for.
#[derive(Clone, PartialEq)]
struct Wanted {
    model: String,
    /// 0 … 1; of a model to step down to, what it can give.
    detail: f32,
    device: String,
    precision: String,
    sampler: String,
    steps: u32,
}

#[derive(Clone)]
enum Kind {
    Provided(Factory, String),
    Preset(Arc<Preset>, RestoreOptions),
    Cuda(Arc<Library>, Choice),
}

impl Source {
    /// Checks the settings and finds the model; nothing is loaded.
    ///
    /// # Errors
    /// [`EngineError`] with the file, the reason and where was searched.
    pub fn resolve(model: &str, settings: &Settings) -> Result<Self, EngineError> {
        let wanted = Wanted::of(model, settings);
        let Wanted { model, detail, device, precision, .. } = wanted.clone();
        if let Some((factory, rest)) = provided(&model) {
            let kind = Kind::Provided(factory, rest.to_owned());
            let key = Key { model, device, precision };
            return Ok(Self { key, wanted, config: None, kind, worker: None });
        }
        let asked: DeviceName = device.parse()?;
        // Asked here, so that a device that is not there is told before anything runs.
        let (device, library) = on(asked)?;
        let precision = match precision.as_str() {
            "" if library.is_none() => Precision::F32,
            "" => Precision::F16,
            name => name.parse()?,
        };
        let preset = match model.as_str() {
            "" => Preset::default_for_video()?,
            name => Preset::open(path(name))?,
        };
        let spare = model != settings.model;
        let detail = if spare && !preset.has_detail() { 0.0 } else { detail };
        let preset = preset.with_detail(detail)?;
        let config = Some(preset.config.clone());
        takes(config.as_ref(), settings)?;
        let key = Key {
            model: preset.hash_in(precision)?,
            device: device.to_string(),
            precision: precision.name().to_owned(),
        };
        let kind = match library {
            Some(library) => {
                let choice = Choice::new(&preset, key.device.clone(), key.precision.clone());
                Kind::Cuda(library, choice)
            }
            None => {
                let options = RestoreOptions { device, precision, ..RestoreOptions::default() };
                Kind::Preset(Arc::new(preset), options)
            }
        };
        Ok(Self { key, wanted, config, kind, worker: None })
    }

    /// Whether the model can be run as `settings` say now.
    ///
    /// # Errors
    /// [`EngineError`] with the property, its value and what it may be.
    pub fn takes(&self, settings: &Settings) -> Result<(), EngineError> {
        takes(self.config.as_ref(), settings)
    }

    /// All models of `settings`: `model`, then `fallback-models`.
    ///
    /// # Errors
    /// As [`Source::resolve`].
    pub fn resolve_all(settings: &Settings) -> Result<Vec<Self>, EngineError> {
        let all = names(settings).enumerate().map(|(index, model)| {
            let source = Self::resolve(model, settings);
            source.map_err(|error| if index == 0 { error } else { of_fallback(error) })
        });
        all.collect()
    }

    /// Whether `settings` still ask for these.
    pub fn fit(sources: &[Self], settings: &Settings) -> bool {
        sources
            .iter()
            .map(|source| source.wanted.clone())
            .eq(names(settings).map(|m| Wanted::of(m, settings)))
    }

    /// The value of `model` that this stands for.
    pub fn name(&self) -> &str {
        &self.wanted.model
    }

    /// The value of `detail` that this stands for.
    pub fn detail(&self) -> f32 {
        self.wanted.detail
    }

    /// Lets go of the engine, so that the next one is not held back by it.
    pub fn release(&mut self) {
        self.worker = None;
    }

    /// The engine's thread; starts loading if nobody has yet.
    ///
    /// # Errors
    /// The system's reason if no thread can be started.
    pub fn worker(&mut self) -> std::io::Result<Arc<Worker>> {
        let loader: Loader = match &self.kind {
            Kind::Provided(factory, rest) => {
                let (factory, rest) = (*factory, rest.clone());
                Box::new(move || factory(&rest))
            }
            Kind::Preset(preset, options) => {
                let (preset, options) = (preset.clone(), options.clone());
                Box::new(move || {
                    Real::load(&preset, options).map(|engine| Box::new(engine) as Box<dyn Engine>)
                })
            }
            Kind::Cuda(library, choice) => {
                let (library, choice) = (library.clone(), choice.clone());
                Box::new(move || {
                    Remote::open(library, &choice).map(|engine| Box::new(engine) as Box<dyn Engine>)
                })
            }
        };
        let worker = Worker::shared(&self.key, loader)?;
        // Held from here until NULL, so that stopping and starting again loads nothing.
        self.worker = Some(worker.clone());
        Ok(worker)
    }
}

impl Wanted {
    fn of(model: &str, settings: &Settings) -> Self {
        Self {
            model: model.to_owned(),
            detail: settings.detail,
            device: settings.device.clone(),
            precision: settings.precision.clone(),
            sampler: settings.knobs.sampler.clone(),
            steps: settings.knobs.steps,
        }
    }
}

fn takes(config: Option<&PresetConfig>, settings: &Settings) -> Result<(), EngineError> {
    let Some(config) = config else { return Ok(()) };
    let Knobs { sampler, steps, .. } = &settings.knobs;
    let sampler = Some(sampler.as_str()).filter(|name| !name.is_empty());
    let steps = Some(*steps as usize).filter(|steps| *steps > 0);
    check_sampling(config, sampler, steps).map_err(|error| match error {
        Error::Setting { name: "nfe", value, limit } => Error::setting("steps", value, limit).into(),
        other => other.into(),
    })
}

/// Said of the property that names the model.
fn of_fallback(error: EngineError) -> EngineError {
    match error {
        EngineError::Failed(Error::Setting { name: "model", value, limit }) => {
            Error::setting("fallback-models", value, limit).into()
        }
        other => other,
    }
}

/// Where a device's engine is: in the plugin for the CPU, in the CUDA library for the others. `auto` is
/// the first CUDA device where one can be used, else the CPU; the property `cuda` says which and why.
fn on(asked: DeviceName) -> Result<(DeviceName, Option<Arc<Library>>), EngineError> {
    let first = DeviceName::Cuda(0);
    match asked {
        DeviceName::Cpu => Ok((asked, None)),
        DeviceName::Cuda(_) => {
            let library = cuda::library()?;
            library.status(&asked.to_string())?;
            Ok((asked, Some(library)))
        }
        DeviceName::Auto => match cuda::library().and_then(|l| l.status(&first.to_string()).map(|_| l)) {
            Ok(library) => Ok((first, Some(library))),
            Err(_) => Ok((DeviceName::Cpu, None)),
        },
    }
}

/// The names of all models, the best first.
fn names(settings: &Settings) -> impl Iterator<Item = &str> {
    let fallbacks = settings.fallback_models.split(',').map(str::trim).filter(|name| !name.is_empty());
    std::iter::once(settings.model.as_str()).chain(fallbacks)
}

/// A `file:` URI or a path as a path.
fn path(model: &str) -> std::path::PathBuf {
    match glib::filename_from_uri(model) {
        Ok((path, _)) => path,
        Err(_) => model.into(),
    }
}
