// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb verify`.

use std::{collections::BTreeSet, path::PathBuf};

use i2sb::{
    Cancel, Error,
    device::DeviceName,
    verify::{CaseReport, KINDS, run_on},
};

/// Compare the engine with reference numbers in a folder of fixtures.
///
/// Prints one line per case: largest error, tolerance, pass or fail; then the sum, and which kinds had no case. Ends
/// with 1 if a case fails or a file is not understood.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder laid out like tests/fixtures/i2sb
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Where to run: auto, cpu or cuda:N
    #[arg(long, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Print only the cases that fail, and the sum
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(args: Args, cancel: &Cancel) -> anyhow::Result<()> {
    let device = args.device.open()?;
    let (mut printed, mut seen) = (Ok(()), BTreeSet::new());
    let mut print = |case: &CaseReport| {
        seen.extend(case.name.split('/').next().map(str::to_owned));
        if printed.is_ok() && (!args.quiet || !case.passed()) {
            printed = crate::print::out(format_args!("{case}\n"));
        }
        if cancel.is_cancelled() {
            // Cases are short and write nothing, so there is nothing to put in order.
            std::process::exit(crate::interrupt::EXIT_CODE.into());
        }
    };
    let summary = run_on(&args.folder, &device, &mut print)?;
    cancel.check()?;
    printed?;
    let absent: Vec<_> = KINDS.iter().map(|kind| kind.folder).filter(|name| !seen.contains(*name)).collect();
    let absent =
        if absent.is_empty() { String::new() } else { format!("; no case of {}", absent.join(", ")) };
    println!("{} passed, {} failed{absent}", summary.passed, summary.failed);
    if !summary.is_pass() {
        let reason = match summary.failed {
            0 => "holds no case".to_string(),
            failed => format!("{failed} of {} cases failed", failed + summary.passed),
        };
        return Err(Error::file(&args.folder, reason).into());
    }
    Ok(())
}
