// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folder `samplers`: the fast samplers of SPEC 14.2, with recorded predictions instead of a network.

use std::cell::RefCell;

use candle_core::Tensor;

use super::{Fixture, Folder, schedule::configured};
use crate::{
    Cancel, Result,
    denoiser::Denoiser,
    sampler::{self, ReplayedNoise, Run, Sampler, dbim},
    schedule::Schedule,
};

const STATE: f64 = 2e-5;

pub(super) fn run(folder: &mut Folder) -> Result<()> {
    for stem in folder.stems() {
        folder.fixture(&stem, |folder, fixture| match fixture.json.text("/kind")? {
            "fast_sampler_i3sb" => i3sb(folder, &stem, fixture),
            "fast_sampler_dbim" => dbim(folder, &stem, fixture),
            other => Err(fixture.json.error(format!("kind {other:?} is not understood here"))),
        });
    }
    Ok(())
}

/// Runs named `nfe<k>.eta<η>`.
fn i3sb(folder: &mut Folder, stem: &str, fixture: &Fixture) -> Result<()> {
    let schedule = configured(&fixture.json)?;
    let x1 = fixture.tensor("x1")?;
    let limit = fixture.tolerance("isolated_step_abs", STATE)?;
    for name in fixture.json.keys("/runs")? {
        let Some((Some(nfe), Way::Eta(eta))) = parse(name, "nfe") else {
            return Err(not_understood(fixture, name));
        };
        let recorded = |part: &str| fixture.tensor(&format!("{name}.{part}"));
        folder.case(stem, name, |case| {
            let sampler = sampler::build("i3sb", &schedule, nfe, Some(eta))?;
            let noise = format!("{name}.noise");
            let noise = ReplayedNoise { step: fixture.tensor_if_any(&noise)?, ..Default::default() };
            let seen = replay(&sampler, &schedule, &x1, recorded("pred_x0")?, &noise)?;
            let mut steps = schedule.steps(nfe)?;
            case.equal("steps", &fixture.indices(&format!("{name}.steps"))?, &steps);
            steps.reverse();
            case.equal("evaluated steps", &seen.steps, &steps[..nfe]);
            case.close("xt", &Tensor::stack(&seen.states, 0)?, &recorded("xt")?, limit)
        });
    }
    Ok(())
}

/// Runs named `n<k>.eta<η>` (order 1) and `n<k>.order<2|3>`; k + 1 evaluations each.
fn dbim(folder: &mut Folder, stem: &str, fixture: &Fixture) -> Result<()> {
    let schedule = configured(&fixture.json)?;
    let x1 = fixture.tensor("x_T")?;
    let limit = fixture.tolerance("isolated_step_abs", STATE)?;
    folder.case(stem, "coefficients", |case| {
        for (name, got) in ["coef.a", "coef.b", "coef.c"].iter().zip(dbim::coefficients(&schedule)) {
            case.values(name, &got, &fixture.numbers(name)?, limit)?;
        }
        Ok(())
    });
    let at = |key: &str| fixture.json.number(&format!("/config/{key}"));
    let ends = (at("t_max")? - at("first_offset")?, at("t_min")?);
    for name in fixture.json.keys("/runs")? {
        let (count, order, eta) = match parse(name, "n") {
            Some((Some(count), Way::Eta(eta))) => (count, 1, eta),
            Some((Some(count), Way::Order(order @ 1..=3))) => (count, order, 0.0),
            _ => return Err(not_understood(fixture, name)),
        };
        let recorded = |part: &str| fixture.tensor(&format!("{name}.{part}"));
        folder.case(stem, name, |case| {
            let grid = dbim::grid(schedule.interval(), count.saturating_add(1), ends)?;
            case.equal("grid_index", &grid, &fixture.indices(&format!("n{count}.grid_index"))?);
            let sampler = Sampler::from(dbim::plan(&schedule, &grid, order, eta)?);
            let noise = ReplayedNoise { step: Some(recorded("noise")?), ..Default::default() };
            let seen = replay(&sampler, &schedule, &x1, recorded("pred_x0")?, &noise)?;
            case.equal("denoiser_index", &seen.steps, &fixture.indices(&format!("{name}.denoiser_index"))?);
            let (inputs, path) = (&seen.states[..count + 1], &seen.states[1..]);
            case.close("denoiser_in", &Tensor::stack(inputs, 0)?, &recorded("denoiser_in")?, limit)?;
            case.close("path", &Tensor::stack(path, 0)?, &recorded("path")?, limit)
        });
    }
    Ok(())
}

/// What follows the count in a run's name.
enum Way {
    Eta(f64),
    Order(usize),
}

/// `<prefix><count>.eta<η>` or `<prefix><count>.order<o>`.
fn parse(name: &str, prefix: &str) -> Option<(Option<usize>, Way)> {
    let (count, way) = name.strip_prefix(prefix)?.split_once('.')?;
    let way = match (way.strip_prefix("eta"), way.strip_prefix("order")) {
        (Some(eta), _) => Way::Eta(eta.parse().ok()?),
        (_, Some(order)) => Way::Order(order.parse().ok()?),
        _ => return None,
    };
    Some((count.parse().ok(), way))
}

fn not_understood(fixture: &Fixture, name: &str) -> crate::Error {
    fixture.json.error(format!("run {name:?} is not understood"))
}

/// What a replayed run went through.
struct Seen {
    /// Index of each evaluation.
    steps: Vec<usize>,
    /// The start, then the state after each update.
    states: Vec<Tensor>,
}

/// Answers every evaluation from a recording.
struct Replay {
    pred_x0: Tensor,
    steps: RefCell<Vec<usize>>,
}

impl Denoiser for Replay {
    fn x0(&self, _xt: &Tensor, step: usize, _cancel: &Cancel) -> Result<Tensor> {
        let mut steps = self.steps.borrow_mut();
        steps.push(step);
        Ok(self.pred_x0.get(steps.len() - 1)?)
    }
}

fn replay(
    sampler: &Sampler,
    schedule: &Schedule,
    x1: &Tensor,
    pred_x0: Tensor,
    noise: &ReplayedNoise,
) -> Result<Seen> {
    let denoiser = Replay { pred_x0, steps: RefCell::default() };
    let mut states = Vec::new();
    let run = Run {
        schedule,
        denoiser: &denoiser,
        x1,
        mask: None,
        add_x1_noise: false,
        noise,
        cancel: &Cancel::default(),
    };
    sampler.sample(&run, &mut |moment| {
        states.push(match moment {
            sampler::Moment::Start(x1) => x1.clone(),
            sampler::Moment::Update { next, .. } => next.clone(),
        });
    })?;
    Ok(Seen { steps: denoiser.steps.into_inner(), states })
}
