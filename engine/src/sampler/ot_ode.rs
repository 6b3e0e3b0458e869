// SPDX-License-Identifier: MIT OR Apache-2.0
//! The posterior's mean without noise (SPEC 3.3), for networks trained with `ot_ode`.

use super::{Entry, Masking, Plan, Update};
use crate::{Result, schedule::Schedule};

pub(super) const ENTRY: Entry = Entry {
    name: "ot-ode",
    about: "the posterior's mean, no noise: straight from x1 to x0",
    min_nfe: 1,
    eta: None,
    noisy: false,
    plan,
};

fn plan(schedule: &Schedule, nfe: usize, _eta: f64) -> Result<Plan> {
    let pairs = schedule.steps(nfe)?;
    let update = |pair: &[usize]| {
        let (m, n) = (pair[0], pair[1]);
        let at = schedule.posterior(n, m)?;
        Ok(Update { x0: at.mu_x0, xt: at.mu_xn, ..Update::new(n, m) })
    };
    let updates = pairs.windows(2).rev().map(update).collect::<Result<_>>()?;
    Ok(Plan { updates, masking: Masking::PasteKnown })
}
