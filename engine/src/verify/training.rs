// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folder `training`: iterations of several micro-batches, from the drawn state to the averaged
//! weights (SPEC 3.1, 4, 10).

use std::{collections::BTreeMap, ops::Range};

use candle_core::{Device, Tensor, Var};

use super::{Case, Fixture, Folder, network::Stored, schedule::configured};
use crate::{
    Cancel, Error, Result, bridge,
    net::{
        Network,
        adm::{AdmConfig, AdmNet},
    },
    ops::Precision,
    schedule::Schedule,
    train::{
        ema::Ema,
        optim::{AdamW, AdamWConfig},
    },
};

const STATE: f64 = 1e-6;
/// Relative to the largest label.
const LABEL: f64 = 1e-5;
const PREDICTION: f64 = 2e-4;
/// Relative to the loss.
const LOSS: f64 = 1e-4;
/// Relative to the largest entry of the tensor's gradient.
const GRADIENT: f64 = 1e-3;
/// Weights and their average after a step, where the gradient is not nearly zero.
const WEIGHT: f64 = 5e-6;
/// What may stand before the names of the network's weights.
const PREFIX: &str = "diffusion_model.";

pub(super) fn run(folder: &mut Folder) -> Result<()> {
    for stem in folder.stems() {
        folder.fixture(&stem, |folder, fixture| match fixture.json.text("/kind")? {
            "training" => training(folder, &stem, fixture),
            other => Err(fixture.json.error(format!("kind {other:?} is not understood here"))),
        });
    }
    Ok(())
}

fn training(folder: &mut Folder, stem: &str, fixture: &Fixture) -> Result<()> {
    let stored = Stored::named_by(&fixture.json, folder.path(), folder.device())?;
    let mut learner = Learner::new(fixture, stored, folder.device())?;
    folder.case(stem, "start weights", |case| {
        for name in names(fixture, "param_before.") {
            let want = fixture.numbers(&format!("param_before.{name}"))?;
            case.values(name, &learner.part(&learner.params, name)?, &want, 0.0)?;
        }
        Ok(())
    });
    let mut losses = Vec::new();
    for it in 0..count(fixture, "it") {
        folder.case(stem, &format!("it{it} network"), |case| learner.batches(case, it, &mut losses));
        folder.case(stem, &format!("it{it} gradients"), |case| learner.compare_gradients(case, it));
        folder.case(stem, &format!("it{it} weights"), |case| learner.step(case, it));
    }
    folder.case(stem, "losses", |case| {
        let listed = fixture.json.list("/losses")?;
        let listed: Vec<f64> = listed.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect();
        case.values("losses", &losses, &listed, LOSS * largest(&listed))
    });
    Ok(())
}

/// A training run that repeats a recorded one.
struct Learner<'a> {
    fixture: &'a Fixture,
    schedule: Schedule,
    device: &'a Device,
    config: AdmConfig,
    /// Where each weight lies in the flat lists, and its shape.
    places: BTreeMap<String, (Range<usize>, Vec<usize>)>,
    params: Vec<f32>,
    /// Gradients after the first micro-batch of the iteration, and after all of them.
    first_grad: Vec<f32>,
    grad: Vec<f32>,
    adam: AdamW,
    ema: Ema,
    lr: f64,
}

impl<'a> Learner<'a> {
    fn new(fixture: &'a Fixture, stored: Stored, device: &'a Device) -> Result<Self> {
        let json = &fixture.json;
        let named = |key: &str| format!("/config/optimizer/{key}");
        let name = json.text(&named("name"))?;
        if name != "AdamW" {
            return Err(json.error(format!("config.optimizer.name is {name:?}, but must be \"AdamW\"")));
        }
        let adam = AdamWConfig {
            beta1: json.number(&named("betas/0"))?,
            beta2: json.number(&named("betas/1"))?,
            eps: json.number(&named("eps"))?,
            weight_decay: json.number(&named("weight_decay"))?,
        };
        let (mut places, mut params) = (BTreeMap::new(), Vec::new());
        for (name, tensor) in &stored.state {
            let from = params.len();
            params.extend(tensor.flatten_all()?.to_vec1::<f32>()?);
            places.insert(name.clone(), (from..params.len(), tensor.dims().to_vec()));
        }
        Ok(Self {
            fixture,
            schedule: configured(json)?,
            device,
            config: stored.config,
            places,
            first_grad: Vec::new(),
            grad: vec![0.0; params.len()],
            adam: AdamW::new(adam, params.len()),
            ema: Ema::new(json.number("/config/ema_decay")?, &params),
            params,
            lr: json.number(&named("lr"))?,
        })
    }

    /// Forward and backward through every micro-batch of iteration `it`.
    fn batches(&mut self, case: &mut Case, it: usize, losses: &mut Vec<f64>) -> Result<()> {
        let (variables, network) = self.network()?;
        self.grad.fill(0.0);
        let batches = count(self.fixture, &format!("it{it}.mb"));
        let expected = self.fixture.json.count("/config/microbatches_per_iteration")?;
        case.equal("micro-batches", &[batches], &[expected]);
        for mb in 0..batches {
            let loss = self.batch(case, &format!("it{it}.mb{mb}"), &network)?;
            losses.push(f64::from(loss.to_scalar::<f32>()?));
            let gradients = loss.backward()?;
            for (name, variable) in &variables {
                let (range, _) = &self.places[name];
                let gradient = gradients.get(variable).ok_or_else(|| {
                    let reason = format!("no gradient reaches {name}");
                    self.fixture.error(reason)
                })?;
                let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
                self.grad[range.clone()].iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
            }
            if mb == 0 {
                self.first_grad.clone_from(&self.grad);
            }
        }
        Ok(())
    }

    /// The loss of one micro-batch.
    fn batch(&self, case: &mut Case, at: &str, network: &AdmNet) -> Result<Tensor> {
        let (fixture, json) = (self.fixture, &self.fixture.json);
        let tensor = |name: &str| fixture.tensor(&format!("{at}.{name}"));
        let (x0, x1) = (tensor("x0")?, tensor("x1")?);
        let steps = fixture.indices(&format!("{at}.step"))?;
        if steps.len() != x0.dim(0)? {
            return Err(Error::shape(
                format!("{at}.step"),
                &[steps.len()],
                format!("{} (batch)", x0.dim(0)?),
            ));
        }
        let noise = (!json.flag("/config/ot_ode")?).then(|| tensor("noise")).transpose()?;
        let mask = json.flag("/config/mask")?.then(|| tensor("mask")).transpose()?;

        let xt = bridge::q_sample(&self.schedule, &steps, &x0, &x1, noise.as_ref())?;
        case.close(&format!("{at}.xt"), &xt, &tensor("xt")?, fixture.tolerance("xt_abs", STATE)?)?;
        let label = bridge::target(&self.schedule, &steps, &xt, &x0)?;
        let name = format!("{at}.label");
        let limit = fixture.tolerance("label_rel", LABEL)? * largest(&fixture.numbers(&name)?);
        case.close(&name, &label, &tensor("label")?, limit)?;

        let input = if json.flag("/config/cond_x1")? { Tensor::cat(&[&xt, &x1], 1)? } else { xt };
        let levels: Vec<f32> = steps.iter().map(|&n| self.schedule.noise_levels[n]).collect();
        let output = network.forward(&input, &levels, &Cancel::default())?;
        let shown = match &mask {
            Some(mask) => output.broadcast_mul(mask)?,
            None => output.clone(),
        };
        case.close(&format!("{at}.pred"), &shown.detach(), &tensor("pred")?, PREDICTION)?;
        let loss = bridge::loss(&output, &label, mask.as_ref())?;
        let name = format!("{at}.loss");
        let want = fixture.numbers(&name)?;
        let limit = fixture.tolerance("loss_rel", LOSS)? * largest(&want);
        case.values(&name, &[f64::from(loss.to_scalar::<f32>()?)], &want, limit)?;
        Ok(loss)
    }

    fn compare_gradients(&self, case: &mut Case, it: usize) -> Result<()> {
        for (kind, gradients) in [("grad_mb0", &self.first_grad), ("grad_sum", &self.grad)] {
            let prefix = format!("it{it}.{kind}.");
            for name in names(self.fixture, &prefix) {
                let want = self.fixture.numbers(&format!("{prefix}{name}"))?;
                let limit = GRADIENT * largest(&want);
                case.values(&format!("{kind}.{name}"), &self.part(gradients, name)?, &want, limit)?;
            }
        }
        let name = format!("it{it}.grad_sum_norm");
        let want = self.fixture.numbers(&name)?;
        let norm = self.grad.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        case.values(&name, &[norm], &want, GRADIENT * largest(&want))
    }

    /// Optimiser and average, and what they leave.
    fn step(&mut self, case: &mut Case, it: usize) -> Result<()> {
        self.adam.step(&mut self.params, &self.grad, self.lr);
        self.ema.update(&self.params);
        for (kind, values) in [("param_after", &self.params), ("ema_after", &self.ema.shadow)] {
            let prefix = format!("it{it}.{kind}.");
            for name in names(self.fixture, &prefix) {
                let want = self.fixture.numbers(&format!("{prefix}{name}"))?;
                let got = self.part(values, name)?;
                let firm = self.firm(it, name, want.len())?;
                // Where Adam divides a gradient of nearly zero by itself, its sign is chance.
                let loose = 2.0 * self.lr * (it + 1) as f64;
                for (wanted, limit) in [(true, WEIGHT), (false, loose)] {
                    let chosen = |values: &[f64]| -> Vec<f64> {
                        values
                            .iter()
                            .zip(&firm)
                            .filter(|(_, firm)| **firm == wanted)
                            .map(|(v, _)| *v)
                            .collect()
                    };
                    case.values(&format!("{kind}.{name}"), &chosen(&got), &chosen(&want), limit)?;
                }
            }
        }
        Ok(())
    }

    /// True for each weight whose gradient was at least a thousandth of the tensor's largest in every
    /// iteration so far.
    fn firm(&self, it: usize, name: &str, len: usize) -> Result<Vec<bool>> {
        let mut firm = vec![true; len];
        for earlier in 0..=it {
            let gradient = self.fixture.numbers(&format!("it{earlier}.grad_sum.{name}"))?;
            let limit = 1e-3 * largest(&gradient);
            if gradient.len() != len {
                return Err(self
                    .fixture
                    .error(format!("it{earlier}.grad_sum.{name} is not {len} values long")));
            }
            firm.iter_mut().zip(gradient).for_each(|(firm, g)| *firm &= g.abs() >= limit);
        }
        Ok(firm)
    }

    /// The values of one weight in a flat list.
    fn part(&self, values: &[f32], name: &str) -> Result<Vec<f64>> {
        let plain = name.strip_prefix(PREFIX).unwrap_or(name);
        let place = self.places.get(plain);
        let (range, _) =
            place.ok_or_else(|| self.fixture.error(format!("the network has no weight {name}")))?;
        Ok(values.get(range.clone()).unwrap_or(&[]).iter().map(|&v| f64::from(v)).collect())
    }

    /// The network on variables that hold the present weights.
    fn network(&self) -> Result<(BTreeMap<String, Var>, AdmNet)> {
        let mut variables = BTreeMap::new();
        for (name, (range, shape)) in &self.places {
            let values = Tensor::from_slice(&self.params[range.clone()], shape.as_slice(), self.device)?;
            variables.insert(name.clone(), Var::from_tensor(&values)?);
        }
        let source: BTreeMap<_, _> =
            variables.iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone())).collect();
        let network = AdmNet::build(&self.config, &source, self.device, Precision::F32)?;
        Ok((variables, network))
    }
}

/// How many of `<prefix>0.`, `<prefix>1.`, … there are, without a gap.
fn count(fixture: &Fixture, prefix: &str) -> usize {
    let present = |i: &usize| {
        let start = format!("{prefix}{i}.");
        fixture.names().any(|name| name.starts_with(&start))
    };
    (0..).take_while(present).count()
}

/// What follows `prefix` in the names that start with it.
fn names<'a>(fixture: &'a Fixture, prefix: &str) -> Vec<&'a str> {
    fixture.names().filter_map(|name| name.strip_prefix(prefix)).collect()
}

/// Largest absolute value; NaN if there is none or one is NaN.
fn largest(values: &[f64]) -> f64 {
    values.iter().map(|v| v.abs()).reduce(|a, b| if a.is_nan() || a > b { a } else { b }).unwrap_or(f64::NAN)
}
