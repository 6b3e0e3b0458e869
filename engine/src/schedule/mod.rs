// SPDX-License-Identifier: MIT OR Apache-2.0
//! The noise schedule (SPEC section 2): computed in f64, cast once to f32; no tensors.

mod beta;
mod posterior;
mod steps;

pub(crate) use beta::BETA_START;
pub use posterior::Posterior;
pub use steps::{logged_steps, space, steps};

use crate::{Error, Result};

/// What a schedule is computed from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleConfig {
    /// `N`, the number of step indices: even, 2 to [`ScheduleConfig::MAX_INTERVAL`].
    pub interval: usize,
    /// Upper end of the ramp of β, times `N`: above 0, at most [`ScheduleConfig::MAX_BETA_MAX`].
    pub beta_max: f64,
    /// First noise level, divided by `N`: not negative.
    pub t0: f64,
    /// Last noise level, divided by `N`: above `t0`.
    pub t_end: f64,
}

impl ScheduleConfig {
    /// Largest `interval`; keeps the arrays of a hostile configuration below 100 MB.
    pub const MAX_INTERVAL: usize = 1_000_000;
    /// Largest `beta_max`; keeps every variance far within f32.
    pub const MAX_BETA_MAX: f64 = 1e6;
}

impl Default for ScheduleConfig {
    /// The released JPEG models' schedule.
    fn default() -> Self {
        Self { interval: 1000, beta_max: 0.3, t0: 1e-4, t_end: 1.0 }
    }
}

/// The schedule's arrays, each `interval` long; index 0 is the clean end, `interval − 1` the degraded.
#[derive(Debug, Clone)]
pub struct Schedule {
    config: ScheduleConfig,
    /// β_n, the variance added at each step.
    pub betas: Vec<f32>,
    /// σ_n: standard deviation gathered from the clean end up to n, inclusive; strictly rising.
    pub std_fwd: Vec<f32>,
    /// σ̄_n: the same from the degraded end down to n; falling.
    pub std_bwd: Vec<f32>,
    /// Standard deviation of the bridge at n, both ends pinned.
    pub std_sb: Vec<f32>,
    /// Weight of x0 in the bridge's mean.
    pub mu_x0: Vec<f32>,
    /// Weight of x1 in the bridge's mean; `mu_x0 + mu_x1 = 1`.
    pub mu_x1: Vec<f32>,
    /// What the network is told about time: `t0·N` … `t_end·N` (SPEC 2.1).
    pub noise_levels: Vec<f32>,
    /// The same arrays before the cast.
    pub exact: Exact,
}

/// The f64 arrays of a [`Schedule`].
#[derive(Debug, Clone)]
pub struct Exact {
    /// β_n.
    pub betas: Vec<f64>,
    /// σ_n.
    pub std_fwd: Vec<f64>,
    /// σ̄_n.
    pub std_bwd: Vec<f64>,
    /// v_n, the bridge's variance: `std_sb²`.
    pub var: Vec<f64>,
}

impl Schedule {
    /// Computes the arrays by the recipe of SPEC section 2.
    ///
    /// # Errors
    /// [`Error::Setting`] if a value is outside the range that [`ScheduleConfig`] states.
    pub fn new(config: ScheduleConfig) -> Result<Self> {
        check(&config)?;
        let betas = beta::mirrored_ramp(config.interval, config.beta_max);
        let std_fwd = running_std(betas.iter());
        let mut std_bwd = running_std(betas.iter().rev());
        std_bwd.reverse();
        let product = |n: usize| {
            let (fwd, bwd) = (std_fwd[n] * std_fwd[n], std_bwd[n] * std_bwd[n]);
            (fwd, bwd, fwd + bwd)
        };
        let per_step = |value: &dyn Fn((f64, f64, f64)) -> f64| -> Vec<f64> {
            (0..config.interval).map(|n| value(product(n))).collect()
        };
        let mu_x0 = per_step(&|(_, bwd, both)| bwd / both);
        let mu_x1 = per_step(&|(fwd, _, both)| fwd / both);
        let var = per_step(&|(fwd, bwd, both)| fwd * bwd / both);
        Ok(Self {
            config,
            betas: narrow(&betas),
            std_fwd: narrow(&std_fwd),
            std_bwd: narrow(&std_bwd),
            std_sb: var.iter().map(|v| v.sqrt() as f32).collect(),
            mu_x0: narrow(&mu_x0),
            mu_x1: narrow(&mu_x1),
            noise_levels: noise_levels(&config),
            exact: Exact { betas, std_fwd, std_bwd, var },
        })
    }

    /// `N`, the number of step indices.
    pub fn interval(&self) -> usize {
        self.config.interval
    }

    /// What the schedule was computed from.
    pub fn config(&self) -> &ScheduleConfig {
        &self.config
    }

    /// The indices that a run of `nfe` network evaluations visits: [`steps`] of this interval.
    ///
    /// # Errors
    /// [`Error::Setting`] if `nfe` is not in 1..=interval−1.
    pub fn steps(&self, nfe: usize) -> Result<Vec<usize>> {
        steps(self.config.interval, nfe)
    }

    /// Checks a step index that comes from outside.
    ///
    /// # Errors
    /// [`Error::Setting`] if `step` is not below the interval.
    pub fn check_step(&self, step: usize) -> Result<()> {
        if step < self.interval() {
            return Ok(());
        }
        Err(Error::setting("step", step, format!("below the interval {}", self.interval())))
    }
}

fn check(config: &ScheduleConfig) -> Result<()> {
    let ScheduleConfig { interval, beta_max, t0, t_end } = *config;
    let (max_interval, max_beta) = (ScheduleConfig::MAX_INTERVAL, ScheduleConfig::MAX_BETA_MAX);
    if interval < 2 || interval % 2 == 1 || interval > max_interval {
        return Err(Error::setting("interval", interval, format!("an even number from 2 to {max_interval}")));
    }
    if !(beta_max.is_finite() && beta_max > 0.0 && beta_max <= max_beta) {
        return Err(Error::setting("beta_max", beta_max, format!("above 0 and at most {max_beta}")));
    }
    if !(t0.is_finite() && t0 >= 0.0) {
        return Err(Error::setting("t0", t0, "a finite number, not negative"));
    }
    if !(t_end.is_finite() && t_end > t0) {
        return Err(Error::setting("t_end", t_end, format!("a finite number above t0 = {t0}")));
    }
    Ok(())
}

/// Square roots of the running sums, each summand included in its own sum.
fn running_std<'a>(betas: impl Iterator<Item = &'a f64>) -> Vec<f64> {
    betas
        .scan(0.0, |sum, beta| {
            *sum += beta;
            Some(f64::sqrt(*sum))
        })
        .collect()
}

/// The ramp of SPEC 2.1, in f32 with fused multiply-adds, counted from the nearer end.
fn noise_levels(config: &ScheduleConfig) -> Vec<f32> {
    let count = config.interval;
    let (t0, t_end) = (config.t0 as f32, config.t_end as f32);
    let step = (t_end - t0) / (count - 1) as f32;
    (0..count)
        .map(|i| {
            let level = if i < count / 2 {
                step.mul_add(i as f32, t0)
            } else {
                (-step).mul_add((count - 1 - i) as f32, t_end)
            };
            level * count as f32
        })
        .collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(interval: usize, beta_max: f64) -> Schedule {
        Schedule::new(ScheduleConfig { interval, beta_max, ..Default::default() }).unwrap()
    }

    /// The spot values that stand in SPEC section 2.
    #[test]
    fn spot_values() {
        let rows = [
            (0.3, [0.14102725, 0.26554403, 0.26589495, 0.37553596, 0.18789193, 0.49933964]),
            (1.0, [0.24692870, 0.35137495, 0.35199007, 0.49691921, 0.24867681, 0.49912545]),
        ];
        for (beta_max, want) in rows {
            let s = schedule(1000, beta_max);
            let sum: f64 = s.exact.betas.iter().sum();
            let fwd = &s.exact.std_fwd;
            let got = [sum, fwd[499], fwd[500], fwd[999], s.exact.var[499].sqrt(), f64::from(s.mu_x0[500])];
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() <= 3e-8, "{got} {want}");
            }
        }
    }

    #[test]
    fn bad_settings_are_named() {
        let good = ScheduleConfig::default();
        let cases = [
            (ScheduleConfig { interval: 999, ..good }, "interval is 999"),
            (ScheduleConfig { interval: 0, ..good }, "interval is 0"),
            (ScheduleConfig { interval: 1_000_002, ..good }, "interval is 1000002"),
            (ScheduleConfig { beta_max: f64::NAN, ..good }, "beta_max is NaN"),
            (ScheduleConfig { beta_max: f64::INFINITY, ..good }, "beta_max is inf"),
            (ScheduleConfig { beta_max: 0.0, ..good }, "beta_max is 0"),
            (ScheduleConfig { beta_max: -1.0, ..good }, "beta_max is -1"),
            (ScheduleConfig { t0: -0.1, ..good }, "t0 is -0.1"),
            (ScheduleConfig { t_end: 0.0, ..good }, "t_end is 0"),
        ];
        for (config, want) in cases {
            let text = Schedule::new(config).unwrap_err().to_string();
            assert!(text.starts_with(want), "{text}");
        }
    }

    proptest! {
        #[test]
        fn invariants(half in 1usize..1200, beta_max in 1e-6f64..100.0) {
            let s = schedule(2 * half, beta_max);
            let n = s.interval();
            for i in 0..n {
                prop_assert!((s.mu_x0[i] + s.mu_x1[i] - 1.0).abs() <= 1.2e-7);
                prop_assert!(s.betas[i] > 0.0 && s.betas[i] == s.betas[n - 1 - i]);
                prop_assert!(s.std_sb[i] > 0.0 && s.std_sb[i] <= s.std_fwd[i].min(s.std_bwd[i]));
            }
            prop_assert!(s.exact.std_fwd.windows(2).all(|w| w[0] < w[1]));
            prop_assert!(s.exact.std_bwd.windows(2).all(|w| w[0] > w[1]));
            prop_assert!(s.noise_levels.windows(2).all(|w| w[0] < w[1]));
            prop_assert_eq!(s.std_fwd[0], 0.01);
            prop_assert_eq!(s.std_bwd[n - 1], 0.01);
        }
    }
}
