// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a noise level becomes scales and shifts: sinusoids, one hidden layer, one linear map a block.

use super::layout::{Layout, Linear};
use crate::ops::silu::{silu, silu_slope};

/// What the way forward keeps for the way back.
pub(super) struct Time {
    features: Vec<f32>,
    hidden: Vec<f32>,
    active: Vec<f32>,
    /// `2·width` numbers a block: its scales, then its shifts.
    pub modulation: Vec<Vec<f32>>,
}

/// Sinusoidal features (SPEC 7.2, cosines first), `silu(W·f + b)`, and each block's scale and shift.
pub(super) fn forward(layout: &Layout, params: &[f32], noise_level: f32) -> Time {
    let half = layout.config.time_features / 2;
    let angle = |i: usize| noise_level * (-(10_000f32.ln()) * i as f32 / half as f32).exp();
    let features: Vec<f32> =
        (0..half).map(|i| angle(i).cos()).chain((0..half).map(|i| angle(i).sin())).collect();
    let hidden = apply(&layout.time, params, &features);
    let active: Vec<f32> = hidden.iter().map(|v| silu(*v)).collect();
    let modulation = layout.blocks.iter().map(|b| apply(&b.time, params, &active)).collect();
    Time { features, hidden, active, modulation }
}

/// Adds the gradients of every parameter that the time goes through; `d` is that of `modulation`.
pub(super) fn backward(layout: &Layout, params: &[f32], time: &Time, d: &[Vec<f32>], grad: &mut [f32]) {
    let mut d_active = vec![0.0; time.active.len()];
    for (block, d) in layout.blocks.iter().zip(d) {
        pull_back(&block.time, params, &time.active, d, grad, Some(&mut d_active));
    }
    let d_hidden: Vec<f32> = d_active.iter().zip(&time.hidden).map(|(d, h)| d * silu_slope(*h)).collect();
    pull_back(&layout.time, params, &time.features, &d_hidden, grad, None);
}

fn apply(l: &Linear, params: &[f32], x: &[f32]) -> Vec<f32> {
    (0..l.cout)
        .map(|o| {
            let row = &params[l.weight + o * l.cin..][..l.cin];
            row.iter().zip(x).fold(params[l.bias + o], |sum, (w, x)| w.mul_add(*x, sum))
        })
        .collect()
}

fn pull_back(
    l: &Linear,
    params: &[f32],
    x: &[f32],
    dy: &[f32],
    grad: &mut [f32],
    mut dx: Option<&mut Vec<f32>>,
) {
    for (o, d) in dy.iter().enumerate() {
        grad[l.bias + o] += d;
        for (i, x) in x.iter().enumerate() {
            grad[l.weight + o * l.cin + i] += d * x;
            if let Some(dx) = &mut dx {
                dx[i] += d * params[l.weight + o * l.cin + i];
            }
        }
    }
}
