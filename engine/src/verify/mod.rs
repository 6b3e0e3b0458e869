// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares the engine with reference numbers on disk (`i2sb verify DIR`).
//!
//! `DIR` holds one folder per kind of case, named as in [`KINDS`]; a kind may be absent. In it lie
//! pairs `NAME.json` (configuration) and `NAME.safetensors` (tensors) under any names. Nothing is
//! known of single files: intervals, networks, sizes and counts are read from the JSON and from the
//! tensors' names. A file or tensor that no runner understands is a failed case, not a warning.
//!
//! To add a kind of case, add `verify/<kind>.rs` with `pub(super) fn run(folder: &mut Folder) ->
//! Result<()>` and its row in [`KINDS`]. In `run`:
//!
//! ```text
//! for stem in folder.stems() {                       // every NAME with a .json; other files fail by themselves
//!     folder.fixture(&stem, |folder, fixture| {      // opened, and its listing checked
//!         let x = fixture.tensor("x")?;              // marks "x" as used; unused tensors fail the file
//!         let limit = fixture.tolerance("xt_abs", 2e-4)?;
//!         folder.case(&stem, "forward", |case| case.close("out", &got, &want, limit));
//!         Ok(())
//!     });
//! }
//! ```
//!
//! An `Err` inside a case or a fixture becomes one failed line that names the file; the others go on.

mod blocks;
mod case;
mod checkpoint;
mod corruption;
mod fixture;
mod folder;
mod json;
mod network;
mod samplers;
mod sampling;
mod schedule;
mod training;
mod unet;

use std::path::Path;

use candle_core::Device;

pub use case::{Case, CaseReport};
pub use fixture::Fixture;
pub use folder::Folder;
pub use json::Json;

use crate::{Error, Result};

/// One kind of case: a folder's name and what runs on it.
pub struct Kind {
    /// Name of the folder.
    pub folder: &'static str,
    /// What is compared, for the help text.
    pub about: &'static str,
    run: fn(&mut Folder) -> Result<()>,
}

/// Every kind of case, in the order in which they run.
pub const KINDS: &[Kind] = &[
    Kind {
        folder: "schedule",
        about: "noise schedule, posterior coefficients, step lists",
        run: schedule::run,
    },
    Kind {
        folder: "sampling",
        about: "trajectories of the bridge's samplers with real networks",
        run: sampling::run,
    },
    Kind { folder: "samplers", about: "i3sb and dbim with recorded predictions", run: samplers::run },
    Kind {
        folder: "training",
        about: "two iterations: loss, gradients, optimiser, averaged weights",
        run: training::run,
    },
    Kind {
        folder: "checkpoint",
        about: "checkpoints of the original software: names, averages, options",
        run: checkpoint::run,
    },
    Kind { folder: "unet", about: "ADM networks and their blocks", run: unet::run },
    Kind {
        folder: "corruption",
        about: "the reference's degradations, piece by piece",
        run: corruption::run,
    },
];

/// How many cases passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cases within their tolerance.
    pub passed: usize,
    /// Cases beyond it, and files that were not understood.
    pub failed: usize,
}

impl Summary {
    /// True if at least one case ran and none failed.
    pub fn is_pass(&self) -> bool {
        self.passed > 0 && self.failed == 0
    }
}

/// Runs every case below `dir` on the CPU and hands each result to `report` as soon as it is there.
///
/// # Errors
/// [`Error::Io`] or [`Error::File`] if `dir` cannot be listed or holds none of the folders of
/// [`KINDS`]. What goes wrong inside is a failed case.
pub fn run(dir: impl AsRef<Path>, report: &mut dyn FnMut(&CaseReport)) -> Result<Summary> {
    run_on(dir, &Device::Cpu, report)
}

/// [`run`] with tensors and networks on `device`.
///
/// # Errors
/// As for [`run`].
pub fn run_on(
    dir: impl AsRef<Path>,
    device: &Device,
    report: &mut dyn FnMut(&CaseReport),
) -> Result<Summary> {
    let dir = dir.as_ref();
    let names = folder::entries(dir)?;
    let mut summary = Summary::default();
    let mut count = |case: &CaseReport| {
        if case.passed() {
            summary.passed += 1
        } else {
            summary.failed += 1
        }
        report(case);
    };
    let known = |name: &str| KINDS.iter().any(|kind| kind.folder == name);
    if !names.iter().any(|name| known(name)) {
        let folders: Vec<_> = KINDS.iter().map(|kind| kind.folder).collect();
        return Err(Error::file(dir, format!("holds none of the folders {}", folders.join(", "))));
    }
    for name in names.iter().filter(|name| !known(name) && !is_page(name)) {
        count(&CaseReport::not_understood(name, "no kind of case has this name"));
    }
    for kind in KINDS.iter().filter(|kind| names.iter().any(|name| name == kind.folder)) {
        let mut folder = match Folder::open(dir, kind.folder, device, &mut count) {
            Ok(folder) => folder,
            Err(error) => {
                count(&CaseReport::not_understood(kind.folder, error));
                continue;
            }
        };
        if let Err(error) = (kind.run)(&mut folder) {
            folder.fail("", error);
        }
    }
    Ok(summary)
}

/// Text for people, which may lie beside the fixtures.
fn is_page(name: &str) -> bool {
    name.ends_with(".md")
}
