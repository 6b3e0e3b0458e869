// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which network, and how it runs: the options that several subcommands share.

use clap::builder::TypedValueParser;
use i2sb::{
    device::DeviceName,
    ops::{Cpu, PRECISIONS, Precision},
    preset::Preset,
    restore::RestoreOptions,
};

use crate::values;

/// Which network.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArgs {
    /// Name of a preset (jpeg-small), or path of its folder; without it, the network inside this program
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,
    /// From 0, the most faithful picture, to 1, the one that looks least damaged; for models with both ends
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = values::detail)]
    pub detail: f32,
}

/// How it runs.
#[derive(Debug, Clone, clap::Args)]
pub struct EngineArgs {
    /// Network evaluations per picture, 1 to 999 [default: as the preset says]
    #[arg(long, value_name = "N", value_parser = values::steps)]
    pub steps: Option<usize>,
    /// Sampler [default: as the preset says]
    #[arg(long, value_name = "NAME", value_parser = sampler_names())]
    pub sampler: Option<String>,
    /// Seed of all noise
    #[arg(long, value_name = "N", default_value_t = RestoreOptions::default().seed)]
    pub seed: u64,
    /// Where to run: auto, cpu or cuda:N
    #[arg(long, default_value_t = RestoreOptions::default().device)]
    pub device: DeviceName,
    /// Number type of the network's multiplications
    #[arg(long, value_name = "TYPE", default_value = RestoreOptions::default().precision.name(), value_parser = precisions())]
    pub precision: Precision,
    /// Restore the picture in so many orientations, mirrored and turned, and average: 1, 2, 4 or 8, as many times the work
    /// (test-time augmentation)
    #[arg(long, value_name = "N", default_value_t = RestoreOptions::default().tta, value_parser = values::tta)]
    pub tta: usize,
    /// Edge of a tile in pixels; 0: chosen so that memory stays bounded. Does not change the result
    #[arg(long, value_name = "PX", default_value_t = RestoreOptions::default().tile)]
    pub tile: usize,
    /// Threads; 0: one per core. Does not change the result
    #[arg(long, value_name = "N", default_value_t = RestoreOptions::default().threads, value_parser = values::threads)]
    pub threads: usize,
}

impl ModelArgs {
    /// Opens the preset, or the one inside the program.
    pub fn open(&self) -> i2sb::Result<Preset> {
        let preset = match &self.model {
            Some(model) => Preset::open(model)?,
            None => Preset::default_for_pictures()?,
        };
        preset.with_detail(self.detail)
    }
}

impl EngineArgs {
    /// Says on standard error if another precision is faster here.
    pub fn advise(&self) {
        if let Some(advice) = self.precision.advice(Cpu::detect()) {
            eprintln!("note: {advice}");
        }
    }

    /// The options for a [`i2sb::restore::Restorer`], strength left at its default.
    pub fn options(&self) -> RestoreOptions {
        RestoreOptions {
            device: self.device,
            precision: self.precision,
            nfe: self.steps,
            sampler: self.sampler.clone(),
            seed: self.seed,
            tta: self.tta,
            tile: self.tile,
            threads: self.threads,
            ..RestoreOptions::default()
        }
    }
}

fn sampler_names() -> clap::builder::PossibleValuesParser {
    let values = i2sb::sampler::SAMPLERS.iter();
    values.map(|entry| clap::builder::PossibleValue::new(entry.name).help(entry.about)).into()
}

fn precisions() -> impl TypedValueParser<Value = Precision> {
    let values = PRECISIONS.iter();
    let values = values.map(|entry| clap::builder::PossibleValue::new(entry.name).help(entry.about));
    clap::builder::PossibleValuesParser::from(values).try_map(|name| name.parse::<Precision>())
}
