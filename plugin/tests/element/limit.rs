// SPDX-License-Identifier: MIT OR Apache-2.0
//! A limit on every wait: a test that hangs ends the process, and is named.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// Longest that a test or a program it calls may take; the slowest needs a tenth of it.
const LIMIT: Duration = Duration::from_secs(300);

/// Name and end of what runs on each thread.
type Running = HashMap<ThreadId, (String, Instant)>;

fn running() -> MutexGuard<'static, Running> {
    static RUNNING: LazyLock<Mutex<Running>> = LazyLock::new(Mutex::default);
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the thread from the list when it ends.
struct Entry(ThreadId);

impl Drop for Entry {
    fn drop(&mut self) {
        running().remove(&self.0);
    }
}

/// Starts the clock of the test on this thread.
pub fn start() {
    thread_local!(static ENTRY: RefCell<Option<Entry>> = const { RefCell::new(None) });
    let this = thread::current();
    let name = this.name().unwrap_or("a test").to_owned();
    // The entry of an earlier test on this thread, if any, takes itself from the list.
    ENTRY.set(Some(Entry(this.id())));
    running().insert(this.id(), (name, Instant::now() + LIMIT));
    static WATCH: Once = Once::new();
    WATCH.call_once(|| drop(thread::spawn(watch)));
}

fn watch() {
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = Instant::now();
        if let Some((name, _)) = running().values().find(|(_, end)| *end < now) {
            // Not by a macro, whose text would be kept with a test's own.
            let _ = writeln!(std::io::stderr(), "{name} takes longer than {LIMIT:?}: all tests end");
            std::process::abort();
        }
    }
}

/// A program that is killed if it takes too long.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=10").arg(LIMIT.as_secs().to_string()).arg(program);
    command
}
