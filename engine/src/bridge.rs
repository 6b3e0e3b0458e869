// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bridge on tensors (SPEC sections 3, 4): where the state is given both ends, how to step back,
//! and what the network learns.
//!
//! Pictures are `(B, C, H, W)`, f32, nominal range [-1, 1]. In OT-ODE mode no noise is handed in;
//! nothing else changes.

use candle_core::Tensor;

use crate::{
    Error, Result,
    combine::{Term, per_item, weighted_sum},
    schedule::Schedule,
};

/// Draws the state at one step per item, both ends pinned (SPEC 3.1):
/// `x_n = mu_x0·x0 + mu_x1·x1 + std_sb·noise`.
///
/// - `steps`: one index per batch item.
/// - `noise`: unit normal; `None` gives the deterministic path (OT-ODE).
///
/// # Errors
/// [`Error::Setting`] for an index beyond the schedule, [`Error::Shape`] if the shapes differ.
pub fn q_sample(
    schedule: &Schedule,
    steps: &[usize],
    x0: &Tensor,
    x1: &Tensor,
    noise: Option<&Tensor>,
) -> Result<Tensor> {
    let mu_x0 = at_steps(schedule, &schedule.mu_x0, steps)?;
    let mu_x1 = at_steps(schedule, &schedule.mu_x1, steps)?;
    let std_sb = at_steps(schedule, &schedule.std_sb, steps)?;
    let mut terms = vec![Term { weights: &mu_x0, tensor: x0 }, Term { weights: &mu_x1, tensor: x1 }];
    terms.extend(noise.map(|noise| Term { weights: &std_sb, tensor: noise }));
    weighted_sum(&terms, None)
}

/// One step back from index `n` to `m` below it (SPEC 3.2): `A·x̂0 + B·x_n + √V·noise`.
///
/// - `noise`: `None` for OT-ODE, and for m = 0.
///
/// # Errors
/// [`Error::Setting`] unless `m < n < interval`, [`Error::Shape`] if the shapes differ.
pub fn posterior(
    schedule: &Schedule,
    n: usize,
    m: usize,
    xt: &Tensor,
    x0: &Tensor,
    noise: Option<&Tensor>,
) -> Result<Tensor> {
    let at = schedule.posterior(n, m)?;
    let (mu_x0, mu_xn, std) = ([at.mu_x0], [at.mu_xn], [at.std]);
    let mut terms = vec![Term { weights: &mu_x0, tensor: x0 }, Term { weights: &mu_xn, tensor: xt }];
    terms.extend(noise.map(|noise| Term { weights: &std, tensor: noise }));
    weighted_sum(&terms, None)
}

/// The clean picture that a network output stands for (SPEC 4): `x_n − σ_n·output`, clamped to
/// [-1, 1] if `clip`.
///
/// # Errors
/// [`Error::Setting`] for an index beyond the schedule, [`Error::Shape`] if the shapes differ.
pub fn predict_x0(
    schedule: &Schedule,
    step: usize,
    xt: &Tensor,
    output: &Tensor,
    clip: bool,
) -> Result<Tensor> {
    schedule.check_step(step)?;
    let (one, minus_std) = ([1.0], [-schedule.std_fwd[step]]);
    let terms = [Term { weights: &one, tensor: xt }, Term { weights: &minus_std, tensor: output }];
    weighted_sum(&terms, clip.then_some((-1.0, 1.0)))
}

/// What the network shall answer (SPEC 4): `(x_n − x0)/σ_n`.
///
/// - `steps`: one index per batch item.
///
/// # Errors
/// [`Error::Setting`] for an index beyond the schedule, [`Error::Tensor`] if the shapes differ.
pub fn target(schedule: &Schedule, steps: &[usize], xt: &Tensor, x0: &Tensor) -> Result<Tensor> {
    let std_fwd = at_steps(schedule, &schedule.std_fwd, steps)?;
    Ok((xt - x0)?.broadcast_div(&per_item(&std_fwd, xt)?)?)
}

/// Mean over all elements of `(output − target)²`, both multiplied by the mask if there is one
/// (SPEC 4): a scalar, through which gradients flow.
///
/// - `mask`: `(B or 1, 1, H, W)`, 1 = hole. The mean divides by all elements, not by the hole's.
///
/// # Errors
/// [`Error::Tensor`] if the shapes do not fit.
pub fn loss(output: &Tensor, target: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let difference = match mask {
        Some(mask) => (output.broadcast_mul(mask)? - target.broadcast_mul(mask)?)?,
        None => (output - target)?,
    };
    Ok(difference.sqr()?.mean_all()?)
}

fn at_steps(schedule: &Schedule, values: &[f32], steps: &[usize]) -> Result<Vec<f32>> {
    if steps.is_empty() {
        return Err(Error::shape("steps", &[0], "one index per batch item"));
    }
    steps.iter().map(|&step| schedule.check_step(step).map(|()| values[step])).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::{
        noise::{NoiseKey, normal},
        schedule::ScheduleConfig,
    };

    fn picture(draw: u32, side: usize) -> Tensor {
        let key = NoiseKey { seed: 4, frame: 0, draw };
        Tensor::from_vec(normal(key, 3, 0..side, 0..side), (1, 3, side, side), &Device::Cpu).unwrap()
    }

    fn mean_sqr(x: &Tensor) -> f64 {
        f64::from(x.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap())
    }

    fn furthest(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    /// With both ends at 0 the state is pure noise; after the posterior its variance is the bridge's.
    #[test]
    fn posterior_after_bridge_has_the_bridges_variance() {
        let schedule = Schedule::new(ScheduleConfig::default()).unwrap();
        let zero = picture(0, 256).zeros_like().unwrap();
        for (n, m) in [(999, 500), (800, 20), (500, 499), (30, 1)] {
            let xt = q_sample(&schedule, &[n], &zero, &zero, Some(&picture(1, 256))).unwrap();
            let xm = posterior(&schedule, n, m, &xt, &zero, Some(&picture(2, 256))).unwrap();
            for (x, step) in [(xt, n), (xm, m)] {
                let want = f64::from(schedule.std_sb[step]).powi(2);
                // 196608 values: six standard errors are 1.9 %.
                assert!((mean_sqr(&x) / want - 1.0).abs() < 0.021, "{step}");
            }
        }
    }

    /// The target is the output from which `predict_x0` recovers x0; without noise the posterior
    /// moves along the bridge's mean.
    #[test]
    fn prediction_inverts_the_target() {
        let schedule = Schedule::new(ScheduleConfig::default()).unwrap();
        let (x0, x1, noise) = (picture(0, 16), picture(1, 16), picture(2, 16));
        for n in [0, 1, 500, 999] {
            let xt = q_sample(&schedule, &[n], &x0, &x1, Some(&noise)).unwrap();
            let output = target(&schedule, &[n], &xt, &x0).unwrap();
            assert!(furthest(&predict_x0(&schedule, n, &xt, &output, false).unwrap(), &x0) < 2e-6);
            let clipped = predict_x0(&schedule, n, &xt, &output, true).unwrap();
            assert!(furthest(&clipped, &x0.clamp(-1f32, 1f32).unwrap()) < 2e-6);
        }
        let at = |n: usize| q_sample(&schedule, &[n], &x0, &x1, None).unwrap();
        let moved = posterior(&schedule, 700, 300, &at(700), &x0, None).unwrap();
        assert!(furthest(&moved, &at(300)) < 1e-2);
    }

    #[test]
    fn every_item_has_its_own_step() {
        let schedule = Schedule::new(ScheduleConfig::default()).unwrap();
        let [x0, x1, noise] = [0, 1, 2].map(|draw| picture(draw, 8));
        let two = |x: &Tensor| Tensor::cat(&[x, x], 0).unwrap();
        let both = q_sample(&schedule, &[3, 900], &two(&x0), &two(&x1), Some(&two(&noise))).unwrap();
        let labels = target(&schedule, &[3, 900], &both, &two(&x0)).unwrap();
        for (item, n) in [(0, 3), (1, 900)] {
            let one = q_sample(&schedule, &[n], &x0, &x1, Some(&noise)).unwrap();
            assert_eq!(furthest(&both.narrow(0, item, 1).unwrap(), &one), 0.0);
            let label = target(&schedule, &[n], &one, &x0).unwrap();
            assert_eq!(furthest(&labels.narrow(0, item, 1).unwrap(), &label), 0.0);
        }
        assert!(q_sample(&schedule, &[3, 1000], &two(&x0), &two(&x1), None).is_err());
        assert!(q_sample(&schedule, &[3, 4, 5], &two(&x0), &two(&x1), None).is_err());
    }

    #[test]
    fn masked_loss_divides_by_all_elements() {
        let (output, target) = (picture(0, 8), picture(1, 8));
        let ones = Tensor::ones((1, 1, 8, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
        let half = Tensor::cat(
            &[ones.narrow(2, 0, 4).unwrap(), ones.narrow(2, 0, 4).unwrap().zeros_like().unwrap()],
            2,
        );
        let value = |mask: Option<&Tensor>| loss(&output, &target, mask).unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(value(Some(&ones)), value(None));
        let upper = (output.narrow(2, 0, 4).unwrap() - target.narrow(2, 0, 4).unwrap()).unwrap();
        assert!((f64::from(value(half.ok().as_ref())) - mean_sqr(&upper) / 2.0).abs() < 1e-6);
    }
}
