// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folder `sampling`: trajectories of the bridge's samplers with real networks (SPEC 5, 6).

use candle_core::Tensor;

use super::{Case, Fixture, Folder, network::Stored, schedule::configured};
use crate::{
    Cancel, Result, bridge,
    combine::{Term, paste, weighted_sum},
    denoiser::BridgeDenoiser,
    net::{Network, adm::AdmNet},
    sampler::{self, Moment, ReplayedNoise, Run},
    schedule::Schedule,
};

/// One step from the stored state, network output and noise.
const STEP: f64 = 2e-6;
/// One network evaluation of the stored state, as in `training`.
const NETWORK: f64 = 2e-4;
/// The trajectory that runs freely from x1.
const TRAJECTORY: f64 = 2e-4;
/// Noise levels reach 1000, where one ulp is 6e-5.
const NOISE_LEVEL: f64 = 1e-4;

pub(super) fn run(folder: &mut Folder) -> Result<()> {
    for stem in folder.stems() {
        folder.fixture(&stem, |folder, fixture| match fixture.json.text("/kind")? {
            "network_state" => network_state(folder, &stem, fixture),
            "sampling_trajectory" => trajectory(folder, &stem, fixture),
            other => Err(fixture.json.error(format!("kind {other:?} is not understood here"))),
        });
    }
    Ok(())
}

/// The state must fit its configuration, tensor by tensor.
fn network_state(folder: &mut Folder, stem: &str, fixture: &Fixture) -> Result<()> {
    let stored = Stored::read(fixture)?;
    let device = folder.device();
    folder.case(stem, "state", |case| {
        stored.build(device)?;
        let parameters: usize = stored.state.values().map(Tensor::elem_count).sum();
        let counts = ["/state_tensor_count", "/state_param_count"];
        for (counted, at) in [stored.state.len(), parameters].into_iter().zip(counts) {
            if fixture.json.find(at).is_some() {
                case.equal(&at[1..], &[counted], &[fixture.json.count(at)?]);
            }
        }
        case.equal("tensors", &[stored.state.len()], &[stored.config.plan()?.tensors().len()]);
        Ok(())
    });
    Ok(())
}

/// A trajectory file, opened.
struct Recording<'a> {
    fixture: &'a Fixture,
    schedule: Schedule,
    network: AdmNet,
    x1: Tensor,
    mask: Option<Tensor>,
    cond: Option<Tensor>,
    clip: bool,
    ot_ode: bool,
}

fn trajectory(folder: &mut Folder, stem: &str, fixture: &Fixture) -> Result<()> {
    let json = &fixture.json;
    if json.find("/config/add_x1_noise").is_some() && json.flag("/config/add_x1_noise")? {
        return Err(json.error("config.add_x1_noise is true, but no tensor is known to hold this noise"));
    }
    let network = Stored::named_by(json, folder.path(), folder.device())?.build(folder.device())?;
    let tensor_if = |flag: &str, name: &str| {
        json.flag(flag).and_then(|set| set.then(|| fixture.tensor(name)).transpose())
    };
    let recording = Recording {
        fixture,
        schedule: configured(json)?,
        network,
        x1: fixture.tensor("x1")?,
        mask: tensor_if("/config/mask", "mask")?,
        cond: tensor_if("/config/cond_x1", "cond")?,
        clip: json.flag("/config/clip_denoise")?,
        ot_ode: json.flag("/config/ot_ode")?,
    };
    for key in json.keys("/runs")? {
        let nfe = key.parse().map_err(|_| json.error(format!("runs.{key} is no number of evaluations")))?;
        let run = recording.open(nfe)?;
        folder.case(stem, &format!("nfe{nfe} step"), |case| run.isolated(case));
        folder.case(stem, &format!("nfe{nfe} network"), |case| run.evaluations(case));
        folder.case(stem, &format!("nfe{nfe} trajectory"), |case| run.free(case));
    }
    Ok(())
}

impl Recording<'_> {
    fn open(&self, nfe: usize) -> Result<RecordedRun<'_>> {
        let named = |name: &str| format!("nfe{nfe}.{name}");
        let tensor = |name: &str| self.fixture.tensor(&named(name));
        let tensor_if = |wanted: bool, name: &str| wanted.then(|| tensor(name)).transpose();
        let masked = self.mask.is_some();
        Ok(RecordedRun {
            of: self,
            nfe,
            steps: self.fixture.indices(&named("steps"))?,
            net_t: self.fixture.numbers(&named("net_t"))?,
            xt: tensor("xt")?,
            net_out: tensor("net_out")?,
            pred_x0: tensor("pred_x0")?,
            x1_start: tensor_if(masked, "x1_start")?,
            noise: ReplayedNoise {
                x1: None,
                hole: tensor_if(masked, "noise_init")?,
                step: tensor_if(!self.ot_ode && nfe > 1, "noise")?,
                known: tensor_if(!self.ot_ode && masked, "noise_mask")?,
            },
        })
    }
}

/// One run of a file.
struct RecordedRun<'a> {
    of: &'a Recording<'a>,
    nfe: usize,
    steps: Vec<usize>,
    net_t: Vec<f64>,
    xt: Tensor,
    net_out: Tensor,
    pred_x0: Tensor,
    x1_start: Option<Tensor>,
    noise: ReplayedNoise,
}

impl RecordedRun<'_> {
    fn isolated(&self, case: &mut Case) -> Result<()> {
        let schedule = &self.of.schedule;
        let list = schedule.steps(self.nfe)?;
        case.equal("steps", &self.steps, &list);
        let listed = self.of.fixture.json.counts(&format!("/runs/{}/steps", self.nfe))?;
        case.equal("listed steps", &listed, &list);
        let levels: Vec<f64> = list[1..].iter().rev().map(|&n| f64::from(schedule.noise_levels[n])).collect();
        case.values("net_t", &levels, &self.net_t, NOISE_LEVEL)?;

        let limit = self.of.fixture.tolerance("isolated_step_abs", STEP)?;
        let entry = |all: &Option<Tensor>, i: usize| all.as_ref().map(|all| all.get(i)).transpose();
        for (i, pair) in list.windows(2).rev().enumerate() {
            let (m, n) = (pair[0], pair[1]);
            let (xt, output) = (self.xt.get(i)?, self.net_out.get(i)?);
            let x0 = bridge::predict_x0(schedule, n, &xt, &output, self.of.clip)?;
            case.close(&format!("pred_x0[{i}]"), &x0, &self.pred_x0.get(i)?, limit)?;
            let noise = if m > 0 { entry(&self.noise.step, i)? } else { None };
            let mut next = bridge::posterior(schedule, n, m, &xt, &x0, noise.as_ref())?;
            if let (Some(mask), Some(start)) = (&self.of.mask, &self.x1_start) {
                let known = match entry(&self.noise.known, i)? {
                    Some(noise) => noisy(start, schedule.std_sb[m], &noise)?,
                    None => start.clone(),
                };
                next = paste(mask, &known, &next)?;
            }
            case.close(&format!("xt[{}]", i + 1), &next, &self.xt.get(i + 1)?, limit)?;
        }
        Ok(())
    }

    fn evaluations(&self, case: &mut Case) -> Result<()> {
        for i in 0..self.nfe {
            let xt = self.xt.get(i)?;
            let input = match &self.of.cond {
                Some(cond) => Tensor::cat(&[&xt, cond], 1)?,
                None => xt,
            };
            let levels = vec![self.net_t.get(i).copied().unwrap_or(f64::NAN) as f32; input.dim(0)?];
            let output = self.of.network.forward(&input, &levels, &Cancel::default())?;
            case.close(&format!("net_out[{i}]"), &output, &self.net_out.get(i)?, NETWORK)?;
        }
        Ok(())
    }

    fn free(&self, case: &mut Case) -> Result<()> {
        let limit = self.of.fixture.tolerance("xt_abs", TRAJECTORY)?;
        let denoiser = BridgeDenoiser {
            network: &self.of.network,
            schedule: &self.of.schedule,
            clip: self.of.clip,
            cond: self.of.cond.clone(),
        };
        let run = Run {
            schedule: &self.of.schedule,
            denoiser: &denoiser,
            x1: &self.of.x1,
            mask: self.of.mask.as_ref(),
            add_x1_noise: false,
            noise: &self.noise,
            cancel: &Cancel::default(),
        };
        let mut states = Vec::new();
        let sampler =
            sampler::build(if self.of.ot_ode { "ot-ode" } else { "i2sb" }, run.schedule, self.nfe, None)?;
        sampler.sample(&run, &mut |moment| {
            states.push(match moment {
                Moment::Start(x1) => x1.clone(),
                Moment::Update { next, .. } => next.clone(),
            });
        })?;
        if let Some(start) = &self.x1_start {
            case.close("x1_start", &states[0], start, limit)?;
        }
        case.close("xt", &Tensor::stack(&states, 0)?, &self.xt, limit)
    }
}

fn noisy(x: &Tensor, std: f32, noise: &Tensor) -> Result<Tensor> {
    let terms = [Term { weights: &[1.0], tensor: x }, Term { weights: &[std], tensor: noise }];
    weighted_sum(&terms, None)
}
