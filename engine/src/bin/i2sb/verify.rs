// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb verify`.

use std::path::PathBuf;

use i2sb::{
    Cancel, Error,
    device::DeviceName,
    verify::{CaseReport, run_on},
};

/// Compare the engine with reference numbers in a folder of fixtures.
///
/// Prints one line per case: largest error, tolerance, pass or fail. Ends with 1 if a case fails or a
/// file is not understood.
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
    let mut print = |case: &CaseReport| {
        if !args.quiet || !case.passed() {
            println!("{case}");
        }
        if cancel.is_cancelled() {
            // Cases are short and write nothing, so there is nothing to put in order.
            std::process::exit(crate::interrupt::EXIT_CODE.into());
        }
    };
    let summary = run_on(&args.folder, &device, &mut print)?;
    cancel.check()?;
    println!("{} passed, {} failed", summary.passed, summary.failed);
    if !summary.is_pass() {
        let reason = match summary.failed {
            0 => "holds no case".to_string(),
            failed => format!("{failed} of {} cases failed", failed + summary.passed),
        };
        return Err(Error::file(&args.folder, reason).into());
    }
    Ok(())
}
