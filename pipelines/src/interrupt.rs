// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ctrl-C: the first one ends the run in order, the second at once, without what is half written.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Exit code of a run that was interrupted, as shells have it.
pub const EXIT_CODE: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);
/// Files that are half written.
static HALVES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Begins to listen.
pub fn watch() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if ASKED.swap(true, Ordering::Relaxed) {
                let halves = halves();
                for path in halves.iter() {
                    // It may not have been made yet.
                    let _ = std::fs::remove_file(path);
                }
                // The lock is held to the end: nobody puts a file in place any more.
                signal_hook::low_level::exit(EXIT_CODE.into());
            }
        }
    });
    Ok(())
}

/// Whether the run is to end.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// A file that is half written: gone when the run ends at once.
#[derive(Debug)]
pub struct Half(PathBuf);

impl Half {
    /// From now on.
    pub fn new(path: &Path) -> Self {
        halves().push(path.to_owned());
        Self(path.to_owned())
    }

    /// Puts the whole file in its place: not while a run ends.
    pub fn place<T>(&self, how: impl FnOnce() -> T) -> T {
        let mut halves = halves();
        forget(&mut halves, &self.0);
        how()
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        forget(&mut halves(), &self.0);
    }
}

fn forget(halves: &mut Vec<PathBuf>, path: &Path) {
    halves.retain(|half| half != path);
}

fn halves() -> MutexGuard<'static, Vec<PathBuf>> {
    HALVES.lock().unwrap_or_else(PoisonError::into_inner)
}
