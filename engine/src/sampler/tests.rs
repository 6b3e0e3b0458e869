// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds for every row of the table.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use super::*;
use crate::schedule::ScheduleConfig;

/// Knows the clean picture; counts its evaluations.
struct Oracle {
    x0: Tensor,
    steps: RefCell<Vec<usize>>,
    stop_after: Option<usize>,
}

impl Denoiser for Oracle {
    fn x0(&self, _xt: &Tensor, step: usize, cancel: &Cancel) -> Result<Tensor> {
        self.steps.borrow_mut().push(step);
        if self.stop_after == Some(self.steps.borrow().len()) {
            cancel.cancel();
        }
        Ok(self.x0.clone())
    }
}

fn oracle(x0: &Tensor) -> Oracle {
    Oracle { x0: x0.clone(), steps: RefCell::default(), stop_after: None }
}

fn picture(draw: usize, side: usize) -> Tensor {
    let shape = Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu).unwrap();
    let noise = SeededNoise::new(99, 0).normal(Draw::Step(draw), &shape).unwrap();
    (noise * 0.4).unwrap()
}

fn furthest(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

fn restored(name: &str, schedule: &Schedule, nfe: usize, denoiser: &Oracle, x1: &Tensor) -> Result<Tensor> {
    let (cancel, noise) = (Cancel::default(), SeededNoise::new(5, 1));
    let run = Run { schedule, denoiser, x1, mask: None, add_x1_noise: false, noise: &noise, cancel: &cancel };
    build(name, schedule, nfe, None)?.sample(&run, &mut |_| {})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A denoiser that knows x0 leads every sampler there: what is left is index 0's share of x1
    /// (below 1 %) and its noise (0.01).
    #[test]
    fn an_oracle_leads_to_x0(half in 10usize..300, share in 0f64..1.0, beta_max in 0.2f64..1.5) {
        let schedule =
            Schedule::new(ScheduleConfig { interval: 2 * half, beta_max, ..Default::default() }).unwrap();
        let (x0, x1) = (picture(0, 8), picture(1, 8));
        for entry in SAMPLERS {
            let most = (2 * half - 3) as f64 - entry.min_nfe as f64;
            let nfe = entry.min_nfe + (share * most) as usize;
            let denoiser = oracle(&x0);
            let got = restored(entry.name, &schedule, nfe, &denoiser, &x1).unwrap();
            prop_assert!(furthest(&got, &x0) < 0.09, "{} nfe {}: {}", entry.name, nfe, furthest(&got, &x0));
            prop_assert_eq!(denoiser.steps.borrow().len(), nfe);
        }
    }

    /// The weights of pictures add up to one, whatever the interval and the number of evaluations.
    #[test]
    fn weights_keep_the_mean(half in 10usize..600, share in 0f64..1.0, eta in 0f64..=1.0) {
        let schedule = Schedule::new(ScheduleConfig { interval: 2 * half, ..Default::default() }).unwrap();
        for entry in SAMPLERS {
            let most = (2 * half - 3) as f64 - entry.min_nfe as f64;
            let nfe = entry.min_nfe + (share * most) as usize;
            let sampler = build(entry.name, &schedule, nfe, entry.eta.map(|_| eta)).unwrap();
            let updates = sampler.updates();
            prop_assert_eq!(sampler.nfe(), nfe);
            prop_assert_eq!(updates[0].step, 2 * half - 1);
            prop_assert_eq!(updates[nfe - 1].noise, 0.0);
            for (at, update) in updates.iter().enumerate() {
                let sum = update.x0 + update.xt + update.x1 + update.before[0] + update.before[1];
                // DBIM's a + b is 1 + β/ρ², and β falls as the schedule gets longer.
                let limit = (1.0 / half as f32).max(0.02);
                prop_assert!((sum - 1.0).abs() < limit, "{} {:?}", entry.name, update);
                prop_assert!(update.next <= update.step);
                prop_assert!(at == 0 || updates[at - 1].next == update.step);
                prop_assert!(entry.noisy || update.noise == 0.0);
            }
        }
    }
}

#[test]
fn runs_repeat_and_seeds_differ() {
    let schedule = Schedule::new(ScheduleConfig::default()).unwrap();
    let (x0, x1) = (picture(0, 8), picture(1, 8));
    for entry in SAMPLERS {
        let result = |seed: u64| {
            let (cancel, noise, denoiser) = (Cancel::default(), SeededNoise::new(seed, 0), oracle(&x0));
            let run = Run {
                schedule: &schedule,
                denoiser: &denoiser,
                x1: &x1,
                mask: None,
                add_x1_noise: false,
                noise: &noise,
                cancel: &cancel,
            };
            build(entry.name, &schedule, 4, None).unwrap().sample(&run, &mut |_| {}).unwrap()
        };
        assert_eq!(furthest(&result(1), &result(1)), 0.0, "{}", entry.name);
        assert_eq!(furthest(&result(1), &result(2)) > 0.0, entry.noisy, "{}", entry.name);
    }
}

/// A tile's noise is the whole frame's, cut at the tile.
#[test]
fn noise_follows_the_tile() {
    let frames = vec![4, 9];
    let whole = SeededNoise { seed: 1, frames: frames.clone(), row: 0, col: 0 };
    let tile = SeededNoise { seed: 1, frames, row: 3, col: 7 };
    let shape = |h: usize, w: usize| Tensor::zeros((2, 3, h, w), DType::F32, &Device::Cpu).unwrap();
    for draw in [Draw::X1, Draw::Hole, Draw::Step(0), Draw::Step(1), Draw::Known(0)] {
        let all = whole.normal(draw, &shape(16, 16)).unwrap();
        let part = tile.normal(draw, &shape(5, 6)).unwrap();
        assert_eq!(furthest(&all.narrow(2, 3, 5).unwrap().narrow(3, 7, 6).unwrap(), &part), 0.0);
    }
    assert!(whole.normal(Draw::X1, &Tensor::zeros((1, 3, 2, 2), DType::F32, &Device::Cpu).unwrap()).is_err());
}

/// What is known stays: exactly for the deterministic sampler, up to index 0's noise for the others.
#[test]
fn masks_keep_the_known_region() {
    let schedule = Schedule::new(ScheduleConfig { beta_max: 1.0, ..Default::default() }).unwrap();
    let (x0, x1) = (picture(0, 16), picture(1, 16));
    let mask = picture(2, 16).narrow(1, 0, 1).unwrap().ge(0f32).unwrap().to_dtype(DType::F32).unwrap();
    let known = mask.affine(-1.0, 1.0).unwrap();
    for entry in SAMPLERS {
        let (cancel, noise, denoiser) = (Cancel::default(), SeededNoise::new(2, 0), oracle(&x0));
        let run = Run {
            schedule: &schedule,
            denoiser: &denoiser,
            x1: &x1,
            mask: Some(&mask),
            add_x1_noise: false,
            noise: &noise,
            cancel: &cancel,
        };
        let mut start = None;
        let sampler = build(entry.name, &schedule, 5, None).unwrap();
        let got = sampler
            .sample(&run, &mut |moment| {
                if let Moment::Start(x1) = moment {
                    start = Some(x1.clone());
                }
            })
            .unwrap();
        let off = furthest(&got.broadcast_mul(&known).unwrap(), &x1.broadcast_mul(&known).unwrap());
        let hole = furthest(&got.broadcast_mul(&mask).unwrap(), &x0.broadcast_mul(&mask).unwrap());
        assert!(if entry.noisy { off < 0.06 } else { off == 0.0 }, "{}: {off}", entry.name);
        assert!(hole < 0.06, "{}: {hole}", entry.name);
        let start = start.unwrap();
        assert_eq!(furthest(&start.broadcast_mul(&known).unwrap(), &x1.broadcast_mul(&known).unwrap()), 0.0);
        assert!(furthest(&start, &x1) > 1.0);
    }
}

#[test]
fn a_run_stops_between_evaluations() {
    let schedule = Schedule::new(ScheduleConfig::default()).unwrap();
    let x0 = picture(0, 4);
    for entry in SAMPLERS {
        let denoiser = Oracle { stop_after: Some(3), ..oracle(&x0) };
        let result = restored(entry.name, &schedule, 8, &denoiser, &x0);
        assert!(matches!(result, Err(Error::Cancelled)), "{}", entry.name);
        assert_eq!(denoiser.steps.borrow().len(), 3);
    }
}

#[test]
fn bad_settings_are_named() {
    let schedule = Schedule::new(ScheduleConfig::default()).unwrap();
    let error = |name: &str, nfe, eta| build(name, &schedule, nfe, eta).unwrap_err().to_string();
    assert!(error("ddim", 1, None).contains("one of i2sb, ot-ode, i3sb, dbim, dbim2, dbim3"));
    assert!(error("i2sb", 0, None).starts_with("nfe is 0"));
    assert!(error("i2sb", 1000, None).starts_with("nfe is 1000"));
    assert!(error("dbim", 1, None).starts_with("nfe is 1"));
    assert!(error("i2sb", 1, Some(0.5)).starts_with("eta is 0.5"));
    assert!(error("i3sb", 1, Some(1.5)).starts_with("eta is 1.5"));
    assert!(error("dbim", 2, Some(f64::NAN)).starts_with("eta is NaN"));
}
