// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a training run is: a preset's `config.toml` with one more table, `[train]`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{crop::CropOptions, dataset::DatasetOptions, sources::PairConfig};
use crate::{Error, Result, preset::PresetConfig};

/// The table `[train]`. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The degradation, e.g. `jpeg:5-95`.
    pub degrade: String,
    /// Which pictures are used, and how often.
    pub data: DatasetOptions,
    /// Ready-made pairs beside the photographs.
    pub pairs: Vec<PairConfig>,
    /// How crops are cut; their sides are multiples of the network's stride.
    pub crop: CropOptions,
    /// Optimiser steps.
    pub steps: u64,
    /// Crops per step.
    pub batch: usize,
    /// Parts that a batch is computed in; gradients add up.
    pub accumulate: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// Steps in which the learning rate rises from nothing.
    pub warmup: u64,
    /// Learning rate at the end, as a share of `lr`; between them it follows a cosine.
    pub lr_end: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients with a larger norm than this multiple of their running mean norm are shortened to it; 0: never.
    pub clip: f64,
    /// Largest decay of the averaged weights.
    pub ema_decay: f64,
    /// Share of examples at the degraded end itself, where sampling begins (and with one step ends);
    /// the others are drawn uniformly from all steps.
    pub endpoint_share: f64,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Steps from one evaluation, and one checkpoint, to the next.
    pub every: u64,
    /// What is made small.
    pub loss: Loss,
    /// PSNR in dB from which on [`Loss::Relative`] (of a degraded crop) and [`Loss::Logarithm`] (of a restored one)
    /// ask for no more care, 20 to 80.
    pub near: f32,
    /// How much of the detail of a clean crop is added to it once more as the target ([`super::sharpen`]), less where
    /// little was lost: 0, none, to 1.
    pub sharpen: f32,
    /// Weight of LPIPS, relative to that of the degraded crop, beside the squared error: 0, the most faithful, to 10.
    pub perceptual: f32,
    /// Preset whose weights the run starts from, [grown](super::grow) if its network is smaller; nothing: weights as
    /// [`crate::net::bridge::Layout::init`] draws them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Degradations of the evaluation.
    pub eval: Vec<String>,
    /// Folders of ready-made pairs for the evaluation, laid out as those of `pairs`.
    pub eval_pairs: Vec<PathBuf>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            degrade: "jpeg:5-95".into(),
            data: DatasetOptions::default(),
            pairs: vec![],
            crop: CropOptions::default(),
            steps: 10_000,
            batch: 16,
            accumulate: 1,
            lr: 1e-3,
            warmup: 500,
            lr_end: 0.01,
            weight_decay: 0.0,
            clip: 4.0,
            ema_decay: 0.999,
            endpoint_share: 0.8,
            seed: 1,
            every: 1000,
            loss: Loss::Plain,
            near: 48.0,
            sharpen: 0.0,
            perceptual: 0.0,
            init: None,
            eval: vec!["jpeg:10".into(), "jpeg:20".into(), "jpeg:40".into()],
            eval_pairs: vec![],
        }
    }
}

/// How the squared errors of a batch are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// All alike (SPEC section 4).
    Plain,
    /// Each example's relative to the error of doing nothing, so that slightly and badly degraded
    /// pictures count alike: the plain loss hardly sees the harm done to a good picture.
    Relative,
    /// The logarithm of each example's ([`super::logarithm`]): PSNR itself. Unlike the relative loss it is not ruled
    /// by the few examples that were good already and are harmed.
    Logarithm,
}

/// A whole recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The preset that comes out.
    pub preset: PresetConfig,
    /// How it is trained.
    pub train: TrainConfig,
}

impl Recipe {
    /// Reads a recipe; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::File`] for a text that is no recipe, [`Error::Setting`] for a value out of range.
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| Error::file(path, e))?;
        let train = table.remove("train").unwrap_or_else(|| toml::Table::new().into());
        let train: TrainConfig = train.try_into().map_err(|e| Error::file(path, format!("[train]: {e}")))?;
        let preset = PresetConfig::parse(&toml::to_string(&table).map_err(|e| Error::file(path, e))?, path)?;
        let recipe = Self { preset, train };
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> Result<()> {
        let t = &self.train;
        let is = |ok: bool, name: &'static str, value: &dyn std::fmt::Display, limit: &str| {
            if ok { Ok(()) } else { Err(Error::setting(name, value, limit)) }
        };
        is((1..=100_000_000).contains(&t.steps), "train.steps", &t.steps, "1 to 100000000")?;
        is((1..=4096).contains(&t.batch), "train.batch", &t.batch, "1 to 4096")?;
        let divides = t.accumulate >= 1 && t.batch % t.accumulate.max(1) == 0;
        is(divides, "train.accumulate", &t.accumulate, "a divisor of train.batch")?;
        is(t.lr > 0.0 && t.lr <= 1.0, "train.lr", &t.lr, "above 0, at most 1")?;
        is((0.0..=1.0).contains(&t.lr_end), "train.lr_end", &t.lr_end, "0 to 1")?;
        is((0.0..1.0).contains(&t.weight_decay), "train.weight_decay", &t.weight_decay, "0 to 1")?;
        is(t.clip >= 0.0 && t.clip.is_finite(), "train.clip", &t.clip, "0 or more")?;
        is((0.0..1.0).contains(&t.ema_decay), "train.ema_decay", &t.ema_decay, "0 or more, below 1")?;
        is((0.0..=1.0).contains(&t.endpoint_share), "train.endpoint_share", &t.endpoint_share, "0 to 1")?;
        let shares = t.pairs.iter().map(|p| p.share);
        for share in shares.clone() {
            is(share > 0.0 && share <= 1.0, "train.pairs.share", &share, "above 0, at most 1")?;
        }
        let sum = shares.sum::<f32>() + t.crop.synthetic;
        is(sum <= 1.0, "train.pairs.share", &sum, "at most 1, all shares and train.crop.synthetic together")?;
        is((20.0..=80.0).contains(&t.near), "train.near", &t.near, "20 to 80")?;
        is((0.0..=1.0).contains(&t.sharpen), "train.sharpen", &t.sharpen, "0 to 1")?;
        is((0.0..=10.0).contains(&t.perceptual), "train.perceptual", &t.perceptual, "0 to 10")?;
        let sides = t.perceptual == 0.0 || t.crop.width.min(t.crop.height) >= 32;
        is(
            sides,
            "train.crop",
            &format!("{}×{}", t.crop.width, t.crop.height),
            "32×32 or more with train.perceptual",
        )?;
        is(t.every >= 1, "train.every", &t.every, "at least 1")
    }

    /// Learning rate of a step, counted from 0.
    pub fn lr(&self, step: u64) -> f64 {
        let t = &self.train;
        let rise = ((step + 1) as f64 / t.warmup.max(1) as f64).min(1.0);
        let done = step as f64 / t.steps as f64;
        let fall = t.lr_end + (1.0 - t.lr_end) * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
        t.lr * rise * fall
    }
}
