// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reverse process: from x1 to x0 in a number of network evaluations.
//!
//! Every sampler here is linear in what it knows: after each evaluation the next state is a weighted
//! sum of the prediction, the state, the bridge's end, earlier predictions and noise. So a sampler
//! is a plan, the list of these weights, computed once from the schedule; one loop runs any plan.
//!
//! ```text
//! let sampler = sampler::build("i2sb", &schedule, nfe, None)?;   // None: the sampler's own eta
//! let x0 = sampler.sample(&Run { schedule, denoiser, x1, mask: None, add_x1_noise: false,
//!                                noise: &SeededNoise::new(seed, frame), cancel }, &mut |_| {})?;
//! ```

pub(crate) mod dbim;
mod draw;
mod i2sb;
mod i3sb;
mod ot_ode;
#[cfg(test)]
mod tests;

pub use draw::{Draw, NoiseSource, ReplayedNoise, SeededNoise};

use candle_core::Tensor;

use crate::{
    Cancel, Error, Result,
    combine::{Term, paste, weighted_sum},
    denoiser::Denoiser,
    schedule::Schedule,
};

/// A row of [`SAMPLERS`].
pub struct Entry {
    /// Name as the user writes it.
    pub name: &'static str,
    /// One line for the help text.
    pub about: &'static str,
    /// Fewest network evaluations.
    pub min_nfe: usize,
    /// Default of η, 0 (deterministic) to 1 (as noisy as the bridge); `None`: has no such setting.
    pub eta: Option<f64>,
    /// The states between start and end carry noise. A network trained with `ot_ode` has never seen
    /// such states and needs a sampler where this is false.
    pub noisy: bool,
    plan: fn(&Schedule, usize, f64) -> Result<Plan>,
}

/// Every sampler.
pub const SAMPLERS: &[Entry] =
    &[i2sb::ENTRY, ot_ode::ENTRY, i3sb::ENTRY, dbim::FIRST, dbim::SECOND, dbim::THIRD];

/// Finds a sampler by name and plans its run.
///
/// - `nfe`: network evaluations, from the entry's `min_nfe` to interval − 1.
/// - `eta`: 0 to 1; `None` takes the entry's default.
///
/// # Errors
/// [`Error::Setting`] for an unknown name, or a setting outside its range.
pub fn build(name: &str, schedule: &Schedule, nfe: usize, eta: Option<f64>) -> Result<Sampler> {
    let entry = find(name)?;
    if nfe < entry.min_nfe {
        let limit = format!("at least {} for the sampler {name}", entry.min_nfe);
        return Err(Error::setting("nfe", nfe, limit));
    }
    let eta = match (eta, entry.eta) {
        (None, default) => default.unwrap_or(0.0),
        (Some(eta), Some(_)) if (0.0..=1.0).contains(&eta) => eta,
        (Some(eta), Some(_)) => return Err(Error::setting("eta", eta, "from 0 to 1")),
        (Some(eta), None) => return Err(Error::setting("eta", eta, format!("unset for the sampler {name}"))),
    };
    Ok(Sampler { plan: (entry.plan)(schedule, nfe, eta)? })
}

/// The row of a name.
///
/// # Errors
/// [`Error::Setting`] that lists the names if there is none.
pub fn find(name: &str) -> Result<&'static Entry> {
    SAMPLERS.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<_> = SAMPLERS.iter().map(|entry| entry.name).collect();
        Error::setting("sampler", name, format!("one of {}", names.join(", ")))
    })
}

/// One evaluation and the step that follows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Index at which the network is evaluated.
    pub step: usize,
    /// Index of the state that comes out.
    pub next: usize,
    /// Weight of the prediction x̂0.
    pub x0: f32,
    /// Weight of the state x_n.
    pub xt: f32,
    /// Weight of the start of the bridge.
    pub x1: f32,
    /// Weights of the predictions one and two evaluations ago.
    pub before: [f32; 2],
    /// Weight of fresh noise; 0: none is drawn.
    pub noise: f32,
}

impl Update {
    /// An update from `step` to `next` with all weights 0.
    pub(crate) fn new(step: usize, next: usize) -> Self {
        Self { step, next, x0: 0.0, xt: 0.0, x1: 0.0, before: [0.0; 2], noise: 0.0 }
    }
}

/// How a mask acts (SPEC 6 and 14.2).
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::enum_variant_names, reason = "all of them paste")]
enum Masking {
    /// After each step the known region is pasted back as it is.
    PasteKnown,
    /// The same, with the bridge's noise of the new index on it.
    PasteNoisyKnown,
    /// The prediction takes the known region from x1.
    PastePrediction,
}

/// Everything that a run will do, independent of pictures.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    updates: Vec<Update>,
    masking: Masking,
}

/// A planned sampler.
#[derive(Debug, Clone)]
pub struct Sampler {
    plan: Plan,
}

/// What one run works on.
pub struct Run<'a> {
    /// The schedule that the sampler was built with.
    pub schedule: &'a Schedule,
    /// The network.
    pub denoiser: &'a dyn Denoiser,
    /// The degraded picture, `(B, C, H, W)`, f32.
    pub x1: &'a Tensor,
    /// `(B or 1, 1, H, W)`, 1 = hole to be filled; what x1 holds there is replaced by noise.
    pub mask: Option<&'a Tensor>,
    /// Add unit noise to x1 before the start.
    pub add_x1_noise: bool,
    /// Where noise comes from.
    pub noise: &'a dyn NoiseSource,
    /// Checked before every evaluation.
    pub cancel: &'a Cancel,
}

/// What a run lets its caller see.
pub enum Moment<'a> {
    /// The start of the bridge, after noise and hole.
    Start(&'a Tensor),
    /// One update is done.
    Update {
        /// Number of the evaluation, from 0.
        index: usize,
        /// Its weights.
        update: &'a Update,
        /// The state that was evaluated.
        xt: &'a Tensor,
        /// The prediction.
        x0: &'a Tensor,
        /// The state that came out; the last one is the result.
        next: &'a Tensor,
    },
}

impl From<Plan> for Sampler {
    fn from(plan: Plan) -> Self {
        Self { plan }
    }
}

impl Sampler {
    /// Number of network evaluations.
    pub fn nfe(&self) -> usize {
        self.plan.updates.len()
    }

    /// The evaluations in the order in which they run.
    pub fn updates(&self) -> &[Update] {
        &self.plan.updates
    }

    /// Runs the plan and returns the restored picture, not clamped. `watch` sees every state.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if asked to stop, [`Error::Shape`] if mask or noise do not fit x1,
    /// otherwise what the denoiser reports.
    pub fn sample(&self, run: &Run, watch: &mut dyn FnMut(Moment)) -> Result<Tensor> {
        let start = start(run)?;
        watch(Moment::Start(&start));
        let mut xt = start.clone();
        let mut before: [Option<Tensor>; 2] = [None, None];
        for (index, update) in self.plan.updates.iter().enumerate() {
            run.cancel.check()?;
            let mut x0 = run.denoiser.x0(&xt, update.step, run.cancel)?;
            if let (Some(mask), Masking::PastePrediction) = (run.mask, self.plan.masking) {
                x0 = paste(mask, &start, &x0)?;
            }
            let mut next = advance(run, index, update, [&x0, &xt, &start], &before)?;
            if let Some(mask) = run.mask {
                next = self.paste_known(run, index, update, mask, &start, next)?;
            }
            watch(Moment::Update { index, update, xt: &xt, x0: &x0, next: &next });
            xt = next;
            let [last, _] = before;
            before = [Some(x0), last];
        }
        Ok(xt)
    }

    fn paste_known(
        &self,
        run: &Run,
        index: usize,
        update: &Update,
        mask: &Tensor,
        start: &Tensor,
        next: Tensor,
    ) -> Result<Tensor> {
        match self.plan.masking {
            Masking::PastePrediction => Ok(next),
            Masking::PasteKnown => paste(mask, start, &next),
            Masking::PasteNoisyKnown => {
                let noise = run.noise.normal(Draw::Known(index), start)?;
                let std = [run.schedule.std_sb[update.next]];
                let terms = [Term { weights: &[1.0], tensor: start }, Term { weights: &std, tensor: &noise }];
                paste(mask, &weighted_sum(&terms, None)?, &next)
            }
        }
    }
}

/// x1 with its noise, and with noise in the hole.
fn start(run: &Run) -> Result<Tensor> {
    let mut x1 = run.x1.clone();
    if run.add_x1_noise {
        x1 = (x1 + run.noise.normal(Draw::X1, run.x1)?)?;
    }
    match run.mask {
        Some(mask) => paste(mask, &x1, &run.noise.normal(Draw::Hole, run.x1)?),
        None => Ok(x1),
    }
}

/// The weighted sum of one update; terms of weight 0 are left out, so their noise is never drawn.
fn advance(
    run: &Run,
    index: usize,
    update: &Update,
    [x0, xt, x1]: [&Tensor; 3],
    before: &[Option<Tensor>; 2],
) -> Result<Tensor> {
    let noise = (update.noise != 0.0).then(|| run.noise.normal(Draw::Step(index), xt)).transpose()?;
    let [last, older] = before.each_ref().map(Option::as_ref);
    let weights = [update.x0, update.xt, update.x1, update.before[0], update.before[1], update.noise];
    let tensors = [Some(x0), Some(xt), Some(x1), last, older, noise.as_ref()];
    let terms: Vec<_> = weights
        .chunks(1)
        .zip(tensors)
        .filter_map(|(weights, tensor)| Some(Term { weights, tensor: tensor? }))
        .filter(|term| term.weights != [0.0])
        .collect();
    weighted_sum(&terms, None)
}
