// SPDX-License-Identifier: MIT OR Apache-2.0
//! DBIM (arXiv 2405.15885; SPEC 14.2), orders 1 to 3.
//!
//! The mean and noise of the bridge are written `a_k x_N + b_k x̂0 + c_k ε` with
//! `a_k = σ_k²/ρ²`, `b_k = σ̄_k²/ρ²`, `c_k = σ_k σ̄_k/ρ`, `ρ = σ_{N−1}`. A first evaluation at index
//! N−1 and a draw of the bridge lead to the first point of the grid; every later evaluation leads
//! one point on. So a run has one evaluation more than the grid has intervals, and at least two.

use super::{Entry, Masking, Plan, Update};
use crate::{Error, Result, schedule::Schedule};

pub(super) const FIRST: Entry = Entry {
    name: "dbim",
    about: "implicit bridge sampler of order 1; eta 0 (deterministic) for few steps, towards 1 for many",
    eta: Some(0.0),
    plan: |schedule, nfe, eta| plan(schedule, &grid(schedule.interval(), nfe, GRID)?, 1, eta),
    ..HIGHER
};

pub(super) const SECOND: Entry = Entry {
    name: "dbim2",
    about: "implicit bridge sampler of order 2, deterministic after the first step",
    plan: |schedule, nfe, eta| plan(schedule, &grid(schedule.interval(), nfe, GRID)?, 2, eta),
    ..HIGHER
};

pub(super) const THIRD: Entry = Entry {
    name: "dbim3",
    about: "implicit bridge sampler of order 3, deterministic after the first step",
    plan: |schedule, nfe, eta| plan(schedule, &grid(schedule.interval(), nfe, GRID)?, 3, eta),
    ..HIGHER
};

/// What the rows have in common.
const HIGHER: Entry = Entry {
    name: "",
    about: "",
    min_nfe: 2,
    eta: None,
    noisy: true,
    plan: |schedule, nfe, eta| plan(schedule, &grid(schedule.interval(), nfe, GRID)?, 1, eta),
};

/// First and last point of the grid, in units of N − 1.
pub(crate) const GRID: (f64, f64) = (0.999, 1e-4);

/// The indices of a run with `nfe` evaluations, falling: `nfe` of them, spread evenly between the
/// two ends.
///
/// # Errors
/// [`Error::Setting`] if there are fewer than two or more than fit without a repetition.
pub(crate) fn grid(interval: usize, nfe: usize, (first, last): (f64, f64)) -> Result<Vec<usize>> {
    let limit = || format!("from 2 to about {} for this sampler and interval", interval - interval / 100 - 2);
    if nfe < 2 || nfe >= interval {
        return Err(Error::setting("nfe", nfe, limit()));
    }
    let count = nfe - 1;
    let point = |i: usize| {
        let t = first + (last - first) * i as f64 / count as f64;
        (t * (interval - 1) as f64).round_ties_even() as usize
    };
    let grid: Vec<usize> = (0..=count).map(point).collect();
    if grid.windows(2).any(|pair| pair[0] <= pair[1]) {
        return Err(Error::setting("nfe", nfe, limit()));
    }
    Ok(grid)
}

/// `a`, `b`, `c` at every index.
pub(crate) fn coefficients(schedule: &Schedule) -> [Vec<f64>; 3] {
    let (fwd, bwd) = (&schedule.exact.std_fwd, &schedule.exact.std_bwd);
    let rho = fwd[schedule.interval() - 1];
    let each = |value: &dyn Fn(f64, f64) -> f64| fwd.iter().zip(bwd).map(|(&f, &b)| value(f, b)).collect();
    [each(&|f, _| (f / rho).powi(2)), each(&|_, b| (b / rho).powi(2)), each(&|f, b| f * b / rho)]
}

/// The updates along a grid. `eta` matters for order 1 only.
pub(crate) fn plan(schedule: &Schedule, grid: &[usize], order: usize, eta: f64) -> Result<Plan> {
    let [a, b, c] = coefficients(schedule);
    let last = schedule.interval() - 1;
    let first = grid.first().copied().unwrap_or(last);
    let mut updates = vec![Update {
        x1: a[first] as f32,
        x0: b[first] as f32,
        noise: c[first] as f32,
        ..Update::new(last, first)
    }];
    let lambda = |k: usize| (b[k] / c[k]).ln();
    for (at, pair) in grid.windows(2).enumerate() {
        let (s, t) = (pair[0], pair[1]);
        let is_last = at + 2 == grid.len();
        let mut update = Update::new(s, t);
        let order = if is_last { 1 } else { order.min(at + 1) };
        if order == 1 {
            let std = |k: usize| schedule.exact.std_fwd[k];
            let omega = eta * std(t) * (1.0 - (std(t) / std(s)).powi(2)).max(0.0).sqrt();
            let kept = (c[t] * c[t] - omega * omega).max(0.0).sqrt() / c[s];
            update.x0 = (b[t] - kept * b[s]) as f32;
            update.xt = kept as f32;
            update.x1 = (a[t] - kept * a[s]) as f32;
            update.noise = if is_last { 0.0 } else { omega as f32 };
        } else {
            let u = grid[at - 1];
            let h = lambda(t) - lambda(s);
            let h1 = lambda(s) - lambda(u);
            let h2 = if order == 3 { Some(lambda(u) - lambda(grid[at - 2])) } else { None };
            // c_t·e^λ_t is b_t.
            let [now, then, earlier] = bracket(h, h1, h2).map(|weight| (b[t] * weight) as f32);
            let kept = c[t] / c[s];
            (update.x0, update.before) = (now, [then, earlier]);
            update.xt = kept as f32;
            update.x1 = (a[t] - a[s] * kept) as f32;
        }
        updates.push(update);
    }
    Ok(Plan { updates, masking: Masking::PastePrediction })
}

/// Weights of the predictions at s, u and w in the bracket of orders 2 (`h2` absent) and 3.
///
/// The integral of `e^λ x̂0(λ)` over the step, `x̂0` being replaced by its Taylor polynomial with
/// divided differences `Δ₁`, `Δ₂` for derivatives.
fn bracket(h: f64, h1: f64, h2: Option<f64>) -> [f64; 3] {
    let fall = (-h).exp();
    let (zeroth, first, second) = (1.0 - fall, fall + h - 1.0, h * h / 2.0 - h + 1.0 - fall);
    let Some(h2) = h2 else {
        return [zeroth + first / h1, -first / h1, 0.0];
    };
    // Each difference as weights of (x̂s − x̂u) and (x̂u − x̂w).
    let delta1 = [(2.0 * h1 + h2) / h1 / (h1 + h2), -h1 / h2 / (h1 + h2)];
    let delta2 = [2.0 / h1 / (h1 + h2), -2.0 / h2 / (h1 + h2)];
    let [near, far] = [0, 1].map(|i| first * delta1[i] + second * delta2[i]);
    [zeroth + near, far - near, -far]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ScheduleConfig;

    /// The bracket integrates polynomials exactly: with x̂0(λ) = λ^k its value is
    /// `∫ e^(λ−λ_t) λ^k dλ` over the step.
    #[test]
    fn brackets_integrate_polynomials() {
        let (s, h, h1, h2) = (0.7, 0.9, 0.6, 0.4);
        for (order, third) in [(2, None), (3, Some(h2))] {
            let weights = bracket(h, h1, third);
            for degree in 0..order {
                let power = |x: f64| x.powi(degree);
                let got: f64 =
                    weights.iter().zip([s, s - h1, s - h1 - h2]).map(|(w, at)| w * power(at)).sum();
                let slices = 100_000;
                let want: f64 = (0..slices)
                    .map(|i| s + h * (f64::from(i) + 0.5) / f64::from(slices))
                    .map(|x| (x - s - h).exp() * power(x) * h / f64::from(slices))
                    .sum();
                assert!((got - want).abs() < 1e-8, "order {order}, degree {degree}: {got} {want}");
            }
        }
    }

    #[test]
    fn grids_fall_from_end_to_end() {
        assert_eq!(grid(1000, 5, GRID).unwrap(), [998, 749, 499, 250, 0]);
        for (interval, nfe) in [(1000, 1), (1000, 1000), (20, 20)] {
            assert!(
                grid(interval, nfe, GRID).unwrap_err().to_string().starts_with("nfe is"),
                "{interval} {nfe}"
            );
        }
        for nfe in 2..=998 {
            grid(1000, nfe, GRID).unwrap();
        }
    }

    /// Order 1 with eta 1 is the posterior up to terms of order β/ρ² (apart from the first point,
    /// where the state and x_N are nearly one picture and share their weight otherwise).
    #[test]
    fn eta_one_is_nearly_the_posterior() {
        let schedule = Schedule::new(ScheduleConfig::default()).unwrap();
        for update in &plan(&schedule, &[998, 700, 300, 100, 0], 1, 1.0).unwrap().updates[2..] {
            let p = schedule.posterior(update.step, update.next).unwrap();
            assert!(
                (update.x0 - p.mu_x0).abs() < 3e-3 && (update.xt - p.mu_xn).abs() < 3e-3,
                "{update:?} {p:?}"
            );
            assert!(update.x1.abs() < 3e-3 && (update.noise == 0.0 || (update.noise - p.std).abs() < 1e-6));
        }
    }
}
