// SPDX-License-Identifier: MIT OR Apache-2.0
//! The coefficients of one step back (SPEC 3.2).

use super::Schedule;
use crate::{Error, Result};

/// Weights of `x_m = mu_x0·x̂0 + mu_xn·x_n + std·noise` for a step from n to m < n.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Posterior {
    /// `A`: weight of the clean prediction.
    pub mu_x0: f32,
    /// `B`: weight of the current state; `A + B = 1`.
    pub mu_xn: f32,
    /// `√V`: standard deviation of the noise.
    pub std: f32,
}

impl Schedule {
    /// The posterior's coefficients, all of them in f32 in the order of SPEC 3.2: the difference of
    /// two close squares loses digits, and weights made elsewhere were sampled with this loss.
    ///
    /// # Errors
    /// [`Error::Setting`] unless `m < n < interval`.
    pub fn posterior(&self, n: usize, m: usize) -> Result<Posterior> {
        self.check_step(n)?;
        if m >= n {
            return Err(Error::setting("next step", m, format!("below the current step {n}")));
        }
        let (std_n, std_m) = (self.std_fwd[n], self.std_fwd[m]);
        let delta = (std_n * std_n - std_m * std_m).sqrt();
        let (clean, kept) = (delta * delta, std_m * std_m);
        let sum = kept + clean;
        Ok(Posterior { mu_x0: clean / sum, mu_xn: kept / sum, std: (kept * clean / sum).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ScheduleConfig;
    use super::*;

    proptest! {
        /// A step back from the bridge at n lands on the bridge at m: the weights add up to one and
        /// `B²·v_n + V` is v_m, to 0.2 % (0.5 % for the wider schedule) because the sums of both ends
        /// include the current β: in f64 the worst of all pairs is 0.14 % (0.40 %).
        #[test]
        fn posterior_after_bridge_is_the_bridge(m in 0usize..998, gap in 1usize..999, large: bool) {
            let (beta_max, limit) = if large { (1.0, 5e-3) } else { (0.3, 2e-3) };
            let s = Schedule::new(ScheduleConfig { beta_max, ..Default::default() }).unwrap();
            let n = (m + gap).min(999);
            let p = s.posterior(n, m).unwrap();
            prop_assert!((p.mu_x0 + p.mu_xn - 1.0).abs() < 2e-7);
            let var = |i: usize| s.std_sb[i] * s.std_sb[i];
            let got = p.mu_xn * p.mu_xn * var(n) + p.std * p.std;
            prop_assert!((got / var(m) - 1.0).abs() < limit, "{} {}", got, var(m));
        }
    }

    #[test]
    fn steps_must_fall() {
        let s = Schedule::new(ScheduleConfig::default()).unwrap();
        assert!(s.posterior(5, 5).unwrap_err().to_string().contains("next step is 5"));
        assert!(s.posterior(1000, 5).unwrap_err().to_string().contains("step is 1000"));
    }
}
