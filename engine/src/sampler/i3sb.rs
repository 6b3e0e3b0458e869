// SPDX-License-Identifier: MIT OR Apache-2.0
//! I3SB (arXiv 2403.06069; SPEC 14.2): keeps part of the noise that is already in the state.
//!
//! `x_m = μ_m(x̂0) + √((v_m − g²)/v_n)·(x_n − μ_n(x̂0)) + g·ε` with `g = η·σ_m·α/σ_n`. The first
//! step is the plain posterior; the step to index 0 adds no noise.

use super::{Entry, Masking, Plan, Update};
use crate::{Result, schedule::Schedule};

pub(super) const ENTRY: Entry = Entry {
    name: "i3sb",
    about: "non-Markovian: reuses noise, the fewer fresh the smaller eta; good at few steps",
    min_nfe: 1,
    eta: Some(0.6),
    noisy: true,
    plan,
};

fn plan(schedule: &Schedule, nfe: usize, eta: f64) -> Result<Plan> {
    let pairs = schedule.steps(nfe)?;
    let update = |(index, pair): (usize, &[usize])| {
        let (m, n) = (pair[0], pair[1]);
        if index > 0 {
            return Ok(update(schedule, n, m, eta));
        }
        let at = schedule.posterior(n, m)?;
        let noise = if m > 0 { at.std } else { 0.0 };
        Ok(Update { x0: at.mu_x0, xt: at.mu_xn, noise, ..Update::new(n, m) })
    };
    let updates = pairs.windows(2).rev().enumerate().map(update).collect::<Result<_>>()?;
    Ok(Plan { updates, masking: Masking::PasteNoisyKnown })
}

fn update(schedule: &Schedule, n: usize, m: usize, eta: f64) -> Update {
    let exact = &schedule.exact;
    let (var_n, var_m) = (exact.std_fwd[n].powi(2), exact.std_fwd[m].powi(2));
    let fresh = (eta * eta * var_m * (var_n - var_m) / var_n).min(exact.var[m]);
    let kept = ((exact.var[m] - fresh) / exact.var[n]).sqrt();
    // Weights of x0 and x1 in the bridge's mean at index k.
    let mean = |k: usize| {
        let (fwd, bwd) = (exact.std_fwd[k].powi(2), exact.std_bwd[k].powi(2));
        (bwd / (fwd + bwd), fwd / (fwd + bwd))
    };
    let ((x0_n, x1_n), (x0_m, x1_m)) = (mean(n), mean(m));
    Update {
        x0: (x0_m - kept * x0_n) as f32,
        xt: kept as f32,
        x1: (x1_m - kept * x1_n) as f32,
        noise: if m > 0 { fresh.sqrt() as f32 } else { 0.0 },
        ..Update::new(n, m)
    }
}
