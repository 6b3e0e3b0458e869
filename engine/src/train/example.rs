// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a clean and a degraded crop to what the network is shown and should say.

use super::recipe::{Loss, TrainConfig};
use crate::{net::bridge::Example, noise::Stream, preset::BridgeConfig, schedule::Schedule};

/// Mean square of `x1 − x0`, range [-1, 1], at a PSNR of `db`.
pub(super) fn mean_square(db: f32) -> f32 {
    4.0 * 10f32.powf(-db / 10.0)
}

/// Draws a step and makes the example at it.
///
/// With the recipe's `endpoint_share` it is the degraded end as the sampler starts from it, `x_n = x1`
/// with `n = N−1`; otherwise n is uniform and `x_n` is drawn from the bridge (SPEC 3.1). The target
/// is `(x_n − x0)/σ_n` (SPEC section 4). `x0` and `x1` are planes of equal size.
pub fn example(
    schedule: &Schedule,
    bridge: &BridgeConfig,
    config: &TrainConfig,
    x0: &[f32],
    x1: &[f32],
    draw: &mut Stream,
) -> Example {
    let last = schedule.interval() - 1;
    let at_end = f64::from(draw.next_f32()) < config.endpoint_share;
    let n = if at_end { last } else { draw.below(schedule.interval() as u64) as usize };
    let cond = x1;
    let noisy: Vec<f32>;
    let x1 = if bridge.add_x1_noise {
        noisy = x1.iter().map(|v| v + draw.next_normal()).collect();
        &noisy
    } else {
        x1
    };
    let mut xt: Vec<f32> = if at_end {
        x1.to_vec()
    } else {
        let (a, b, s) = (schedule.mu_x0[n], schedule.mu_x1[n], schedule.std_sb[n]);
        let mean = x0.iter().zip(x1).map(|(x0, x1)| a * x0 + b * x1);
        if bridge.ot_ode { mean.collect() } else { mean.map(|m| m + s * draw.next_normal()).collect() }
    };
    let std = schedule.std_fwd[n];
    let target: Vec<f32> = xt.iter().zip(x0).map(|(xt, x0)| (xt - x0) / std).collect();
    let weight = match config.loss {
        Loss::Plain => 1.0,
        // Its whole loss stands beside the squares.
        Loss::Logarithm => 0.0,
        Loss::Relative => {
            let square = target.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / target.len() as f64;
            1.0 / (square as f32 + mean_square(config.near) / (std * std))
        }
    };
    if bridge.cond_x1 {
        xt.extend_from_slice(cond);
    }
    Example { xt, target, noise_level: schedule.noise_levels[n], std, weight }
}
