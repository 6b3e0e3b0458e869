// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the properties `model`, `device` and `precision` to something that can be loaded.

use std::sync::Arc;

use gst::glib;
use i2sb::device::DeviceName;
use i2sb::ops::Precision;
use i2sb::preset::Preset;
use i2sb::restore::RestoreOptions;

use super::settings::Settings;
use crate::engine::real::Real;
use crate::engine::worker::{Key, Loader, Worker};
use crate::engine::{Engine, EngineError, Factory, provided};

/// A model that exists, not yet loaded.
pub struct Source {
    key: Key,
    wanted: (String, String, String),
    kind: Kind,
    worker: Option<Arc<Worker>>,
}

enum Kind {
    Provided(Factory, String),
    Preset(Arc<Preset>, RestoreOptions),
}

impl Source {
    /// Checks the settings and finds the model; nothing is loaded.
    ///
    /// # Errors
    /// [`EngineError`] with the file, the reason and where was searched.
    pub fn resolve(settings: &Settings) -> Result<Self, EngineError> {
        let wanted = (settings.model.clone(), settings.device.clone(), settings.precision.clone());
        let (model, device, precision) = wanted.clone();
        if let Some((factory, rest)) = provided(&model) {
            let kind = Kind::Provided(factory, rest.to_owned());
            return Ok(Self { key: Key { model, device, precision }, wanted, kind, worker: None });
        }
        let device: DeviceName = device.parse()?;
        // Opened once here, so that a device that is not there is told before anything runs.
        let on_cpu = device.open()?.is_cpu();
        let precision = match precision.as_str() {
            "" if on_cpu => Precision::F32,
            "" => Precision::F16,
            name => name.parse()?,
        };
        let preset = match model.as_str() {
            "" => Preset::default_embedded()?,
            name => Preset::open(path(name))?,
        };
        let key = Key {
            model: preset.hash.clone(),
            device: device.to_string(),
            precision: precision.name().to_owned(),
        };
        let options = RestoreOptions { device, precision, ..RestoreOptions::default() };
        Ok(Self { key, wanted, kind: Kind::Preset(Arc::new(preset), options), worker: None })
    }

    /// Whether `settings` still ask for this.
    pub fn fits(&self, settings: &Settings) -> bool {
        let (model, device, precision) = &self.wanted;
        (model, device, precision) == (&settings.model, &settings.device, &settings.precision)
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
        };
        let worker = Worker::shared(&self.key, loader)?;
        // Held from here until NULL, so that stopping and starting again loads nothing.
        self.worker = Some(worker.clone());
        Ok(worker)
    }
}

/// A `file:` URI or a path as a path.
fn path(model: &str) -> std::path::PathBuf {
    match glib::filename_from_uri(model) {
        Ok((path, _)) => path,
        Err(_) => model.into(),
    }
}
