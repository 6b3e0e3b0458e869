// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folder `schedule`: the arrays of SPEC 2, the coefficients of 3.2, the step lists of 5.

use std::collections::BTreeSet;

use super::{Folder, fixture::Fixture, json::Json};
use crate::{
    Result,
    schedule::{Schedule, ScheduleConfig, logged_steps, steps},
};

/// Posterior coefficients: one ulp of numbers below 1, the arithmetic being that of SPEC 3.2.
const POSTERIOR: f64 = 2e-6;

pub(super) fn run(folder: &mut Folder) -> Result<()> {
    for stem in folder.stems() {
        folder.fixture(&stem, |folder, fixture| match fixture.json.text("/kind")? {
            "schedule" => schedule(folder, &stem, fixture),
            "step_tables" => {
                folder.case(&stem, "", |case| {
                    for row in 0..fixture.json.list("/rows")?.len() {
                        step_row(case, &fixture.json, row)?;
                    }
                    Ok(())
                });
                Ok(())
            }
            other => Err(fixture.json.error(format!("kind {other:?} is not understood here"))),
        });
    }
    Ok(())
}

/// The schedule that a JSON's `config` describes. `t0` and `T` may be absent.
pub(super) fn configured(json: &Json) -> Result<Schedule> {
    let standard = ScheduleConfig::default();
    let number = |key: &str, standard: f64| match json.find(key) {
        Some(_) => json.number(key),
        None => Ok(standard),
    };
    let interval = json.count("/config/interval")?;
    let beta_max = json.number("/config/beta_max")?;
    let t0 = number("/config/t0", standard.t0)?;
    let t_end = number("/config/T", standard.t_end)?;
    let start = number("/config/linear_start", crate::schedule::BETA_START)?;
    if start != crate::schedule::BETA_START {
        let only = crate::schedule::BETA_START;
        return Err(json.error(format!("config.linear_start is {start}, but must be {only}")));
    }
    Schedule::new(ScheduleConfig { interval, beta_max, t0, t_end })
}

fn schedule(folder: &mut Folder, stem: &str, fixture: &Fixture) -> Result<()> {
    let schedule = configured(&fixture.json)?;
    let s = &schedule;
    folder.case(stem, "arrays", |case| {
        let narrow = [
            ("betas", &s.betas),
            ("std_fwd", &s.std_fwd),
            ("std_bwd", &s.std_bwd),
            ("std_sb", &s.std_sb),
            ("mu_x0", &s.mu_x0),
            ("mu_x1", &s.mu_x1),
            ("noise_levels", &s.noise_levels),
        ];
        for (name, got) in narrow {
            let got: Vec<f64> = got.iter().map(|&v| f64::from(v)).collect();
            case.values(name, &got, &fixture.numbers(name)?, 0.0)?;
        }
        let exact = [
            ("betas_f64", &s.exact.betas),
            ("std_fwd_f64", &s.exact.std_fwd),
            ("std_bwd_f64", &s.exact.std_bwd),
            ("var_f64", &s.exact.var),
        ];
        for (name, got) in exact {
            case.values(name, got, &fixture.numbers(name)?, 0.0)?;
        }
        Ok(())
    });
    let runs: BTreeSet<usize> = fixture
        .names()
        .filter_map(|name| name.strip_prefix("post.nfe")?.split('.').next()?.parse().ok())
        .collect();
    for nfe in runs {
        folder.case(stem, &format!("nfe{nfe} posterior"), |case| posterior(case, fixture, s, nfe));
    }
    Ok(())
}

fn posterior(case: &mut super::Case, fixture: &Fixture, schedule: &Schedule, nfe: usize) -> Result<()> {
    let list = schedule.steps(nfe)?;
    case.equal("steps", &list, &fixture.indices(&format!("post.nfe{nfe}.steps"))?);
    let rows =
        list.windows(2).rev().map(|pair| schedule.posterior(pair[1], pair[0])).collect::<Result<Vec<_>>>()?;
    for (name, of) in [
        ("mu_x0", (|p| p.mu_x0) as fn(&crate::schedule::Posterior) -> f32),
        ("mu_xn", |p| p.mu_xn),
        ("std", |p| p.std),
    ] {
        let got: Vec<f64> = rows.iter().map(|p| f64::from(of(p))).collect();
        case.values(name, &got, &fixture.numbers(&format!("post.nfe{nfe}.{name}"))?, POSTERIOR)?;
    }
    Ok(())
}

fn step_row(case: &mut super::Case, json: &Json, row: usize) -> Result<()> {
    let at = |key: &str| format!("/rows/{row}/{key}");
    let (interval, nfe) = (json.count(&at("interval"))?, json.count(&at("nfe"))?);
    let list = steps(interval, nfe)?;
    let name = format!("interval {interval}, nfe {nfe}: steps");
    case.equal(&name, &list, &json.counts(&at("steps"))?);
    let log_count = json.count(&at("log_count"))?;
    case.equal(&format!("{name} logged"), &logged_steps(&list, log_count), &json.counts(&at("log_steps"))?);
    Ok(())
}
