// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bridge's own posterior, with its noise (SPEC section 5).

use super::{Entry, Masking, Plan, Update};
use crate::{Result, schedule::Schedule};

pub(super) const ENTRY: Entry = Entry {
    name: "i2sb",
    about: "the bridge's posterior with fresh noise at every step",
    min_nfe: 1,
    eta: None,
    noisy: true,
    plan,
};

fn plan(schedule: &Schedule, nfe: usize, _eta: f64) -> Result<Plan> {
    let pairs = schedule.steps(nfe)?;
    let update = |pair: &[usize]| {
        let (m, n) = (pair[0], pair[1]);
        let at = schedule.posterior(n, m)?;
        let noise = if m > 0 { at.std } else { 0.0 };
        Ok(Update { x0: at.mu_x0, xt: at.mu_xn, noise, ..Update::new(n, m) })
    };
    let updates = pairs.windows(2).rev().map(update).collect::<Result<_>>()?;
    Ok(Plan { updates, masking: Masking::PasteNoisyKnown })
}
