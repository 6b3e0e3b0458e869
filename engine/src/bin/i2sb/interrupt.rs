// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ctrl-C and SIGTERM: the first asks the work to stop, the second ends the process at once.

use anyhow::Context;
use i2sb::Cancel;

/// Exit code of an interrupted command, as shells have it (128 + SIGINT).
pub const EXIT_CODE: u8 = 130;

/// Sets `cancel` when the user asks to stop. Files are written beside and renamed, so that even
/// the second Ctrl-C leaves no half-written file under its final name.
#[cfg(unix)]
pub fn listen(cancel: Cancel) -> anyhow::Result<()> {
    use std::sync::{Arc, atomic::AtomicBool};

    use signal_hook::consts::{SIGINT, SIGPIPE, SIGTERM};

    // `i2sb inspect … | head` ends like any other tool instead of failing to print.
    signal_hook::flag::register_conditional_default(SIGPIPE, Arc::new(AtomicBool::new(true)))
        .context("cannot listen for SIGPIPE")?;
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("cannot listen for Ctrl-C")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if cancel.is_cancelled() {
                std::process::exit(EXIT_CODE.into());
            }
            cancel.cancel();
        }
    });
    Ok(())
}

/// Elsewhere Ctrl-C ends the process at once.
#[cfg(not(unix))]
pub fn listen(_cancel: Cancel) -> anyhow::Result<()> {
    Ok(())
}
