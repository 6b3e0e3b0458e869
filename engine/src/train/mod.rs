// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training: a folder of photographs and a degradation in, a preset's folder out.
//!
//! Step s of a run draws everything from `Stream::new(seed, …s…)`, so a run that was stopped and
//! resumed gives the same bits as one that was not.

pub mod crop;
pub mod dataset;
pub mod ema;
pub mod example;
pub mod grow;
pub mod held_out;
pub mod held_out_list;
pub mod logarithm;
pub mod manifest;
pub mod optim;
mod patterns;
pub mod perceptual;
pub mod plot;
pub mod prefetch;
pub mod recipe;
pub mod sharpen;
pub mod sources;
pub mod state;
pub mod synthetic;
pub mod window;

use std::sync::Arc;

use candle_core::Device;
use rayon::prelude::*;

use self::{
    crop::Samples,
    optim::AdamWConfig,
    perceptual::Perceptual,
    prefetch::Prefetch,
    recipe::{Loss, Recipe, TrainConfig},
    sources::Sources,
    state::State,
};
use crate::{
    Cancel, Error, Result, degrade,
    net::{
        NetworkConfig,
        bridge::{Example, Layout, Learner, OutputLoss},
    },
    noise::Stream,
    ops::Precision,
    preset::Preset,
    schedule::{Schedule, ScheduleConfig},
};

/// Threads that make batches.
const DATA_THREADS: usize = 1;
/// Set apart from the seed of the samples, whose streams have the same numbers.
const BRIDGE_SEED: u64 = 0x6272_6964_6765;
/// Share of the newest gradient norm in its running mean.
const NORM_SHARE: f64 = 0.02;

/// A run under way.
pub struct Trainer {
    recipe: Recipe,
    learner: Learner,
    perceptual: Option<Perceptual>,
    schedule: Schedule,
    samples: Arc<Samples>,
    grad: Vec<f32>,
    /// What is saved between steps.
    pub state: State,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Steps done.
    pub step: u64,
    /// Mean loss of the batch.
    pub loss: f64,
    /// Learning rate used.
    pub lr: f64,
    /// Norm of the gradient.
    pub norm: f64,
}

impl Trainer {
    /// Prepares the first step.
    ///
    /// # Errors
    /// [`Error::Setting`] for a recipe that cannot be trained on this device in this precision;
    /// what [`Preset::open`] returns for the preset that the run starts from.
    pub fn new(
        recipe: Recipe,
        data: impl Into<Sources>,
        device: &Device,
        precision: Precision,
    ) -> Result<Self> {
        let NetworkConfig::Bridge(config) = &recipe.preset.network else {
            return Err(Error::setting("network.family", "adm", "bridge: the family that is trained here"));
        };
        let layout = Layout::new(config)?;
        let (width, height) = (recipe.train.crop.width, recipe.train.crop.height);
        if width % config.stride() != 0 || height % config.stride() != 0 {
            let limit = format!("multiples of the network's stride, {}", config.stride());
            return Err(Error::setting("train.crop", format!("{width}×{height}"), limit));
        }
        let b = &recipe.preset.bridge;
        let (interval, beta_max, t0, t_end) = (b.interval, b.beta_max, b.t0, b.t_end);
        let schedule = Schedule::new(ScheduleConfig { interval, beta_max, t0, t_end })?;
        let sources = data.into();
        sources.check(&recipe.train)?;
        let degradation = degrade::parse(&recipe.train.degrade)?;
        let samples = Samples::new(sources, degradation, recipe.train.crop.clone(), recipe.train.seed)?;
        let adam = AdamWConfig { weight_decay: recipe.train.weight_decay, ..AdamWConfig::default() };
        let params = match &recipe.train.init {
            None => layout.init(recipe.train.seed),
            Some(model) => {
                let preset = Preset::open(model)?;
                let NetworkConfig::Bridge(config) = &preset.config.network else {
                    return Err(Error::setting("train.init", model, "a preset of the bridge family"));
                };
                let from = Layout::new(config)?;
                grow::grow(&from, &from.gather(preset.weights())?, &layout, recipe.train.seed)?
            }
        };
        let share = recipe.train.perceptual;
        let perceptual = (share > 0.0).then(|| Perceptual::new(share, (width, height))).transpose()?;
        let state = State::new(params, adam, recipe.train.ema_decay);
        Ok(Self {
            grad: vec![0.0; layout.len()],
            learner: Learner::new(layout, device, precision)?,
            perceptual,
            schedule,
            samples: Arc::new(samples),
            recipe,
            state,
        })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The network's layout.
    pub fn layout(&self) -> &Layout {
        self.learner.layout()
    }

    /// Takes steps until `until` are done, the recipe's end is reached, or `after_step` says no.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a loss is; the state is then that of the last good step.
    /// [`Error::Cancelled`] between two steps.
    pub fn run(&mut self, until: u64, cancel: &Cancel, mut after_step: impl FnMut(&Report)) -> Result<()> {
        let until = until.min(self.recipe.train.steps);
        let count = self.recipe.train.batch;
        let mut batches =
            Prefetch::start(self.samples.clone(), self.state.step * count as u64, count, DATA_THREADS)?;
        while self.state.step < until {
            cancel.check()?;
            let examples = self.examples(&batches.next_batch()?);
            after_step(&self.step(&examples)?);
        }
        Ok(())
    }

    /// Each pair at a step of the bridge, drawn from the pair's own stream.
    fn examples(&self, batch: &prefetch::Batch) -> Vec<Example> {
        let t = &self.recipe.train;
        let pairs = batch
            .x0
            .par_chunks_exact(batch.x0.len() / t.batch)
            .zip(batch.x1.par_chunks_exact(batch.x1.len() / t.batch));
        let numbered = pairs.enumerate().map(|(i, (x0, x1))| {
            let mut draw = Stream::new(t.seed ^ BRIDGE_SEED, batch.first + i as u64);
            let x0 = sharpen::sharpened(x0, x1, (t.crop.height, t.crop.width), t.sharpen);
            example::example(&self.schedule, &self.recipe.preset.bridge, t, &x0, x1, &mut draw)
        });
        numbered.collect()
    }

    fn step(&mut self, examples: &[Example]) -> Result<Report> {
        let t = &self.recipe.train;
        self.grad.fill(0.0);
        let mut loss = 0.0;
        let further = further(t, self.perceptual.as_ref());
        for part in examples.chunks(examples.len().div_ceil(t.accumulate)) {
            let part_loss = self.learner.loss_and_grad(
                &self.state.params,
                part,
                (t.crop.height, t.crop.width),
                further.as_ref().map(|f| f as OutputLoss),
                &mut self.grad,
            )?;
            loss += part_loss / t.accumulate as f64;
        }
        let squares =
            self.grad.par_chunks(1 << 14).map(|g| g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>());
        let norm = squares.collect::<Vec<_>>().iter().sum::<f64>().sqrt();
        if !loss.is_finite() || !norm.is_finite() {
            let what = format!("loss of step {}", self.state.step + 1);
            return Err(Error::NotFinite { what, value: if loss.is_finite() { norm } else { loss } as f32 });
        }
        let limit = t.clip * self.state.norm;
        if limit > 0.0 && norm > limit {
            let shrink = (limit / norm) as f32;
            self.grad.iter_mut().for_each(|g| *g *= shrink);
        }
        let shown = if limit > 0.0 { norm.min(limit) } else { norm };
        let share = if self.state.step == 0 { 1.0 } else { NORM_SHARE };
        self.state.norm += share * (shown - self.state.norm);
        let lr = self.recipe.lr(self.state.step);
        self.state.adam.step(&mut self.state.params, &self.grad, lr);
        self.state.ema.update(&self.state.params);
        self.state.step += 1;
        Ok(Report { step: self.state.step, loss, lr, norm })
    }
}

/// What is added to the squares, if anything.
fn further<'a>(
    t: &'a TrainConfig,
    perceptual: Option<&'a Perceptual>,
) -> Option<impl Fn(&Example, &[f32], &mut [f32]) -> Result<f64> + Sync + 'a> {
    let logarithm = t.loss == Loss::Logarithm;
    (logarithm || perceptual.is_some()).then_some(move |e: &Example, net: &[f32], d: &mut [f32]| {
        let mut loss = 0.0;
        if logarithm {
            let near = example::mean_square(t.near) / (e.std * e.std);
            loss += logarithm::loss(e, net, near.into(), d);
        }
        if let Some(perceptual) = perceptual {
            loss += perceptual.loss(e, net, d)?;
        }
        Ok(loss)
    })
}
