// SPDX-License-Identifier: MIT OR Apache-2.0
//! A restored chunk: its lock, its files, and the record that says it is done.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::plan::{Plan, write_whole};

/// What `NNNNNN.json` holds; a chunk without it is not done.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Number of the first frame.
    pub first: u64,
    /// Digests of the restored frames.
    pub digests: Vec<String>,
    /// Caps of the packets, the encoder's header in them.
    pub packets: String,
    /// Length of `NNNNNN.mkv`.
    pub bytes: u64,
    /// Digest of `NNNNNN.mkv`.
    pub file: String,
    /// Name, hash, device and precision of the network.
    pub network: [String; 4],
    /// Frames that were restored; the others repeat one, or went through untouched as the properties ask.
    pub restored: u64,
    /// Time that it took, in seconds.
    pub seconds: f64,
}

/// What is known of a chunk.
pub enum State {
    /// Restored, with its record.
    Done(Box<Record>),
    /// A worker that is alive has it.
    InWork,
    /// Nobody has it.
    Missing,
}

/// The right to work on a chunk; it ends with the process, however that ends.
pub struct Claim {
    _lock: File,
}

/// Takes a chunk; `None` if another worker that is alive has it.
pub fn claim(plan: &Plan, chunk: u64) -> Result<Option<Claim>> {
    let path = plan.file(chunk, "lock");
    let lock =
        File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => {
            return Err(error)
                .with_context(|| format!("{}: the file system must know locks", path.display()));
        }
    }
    // What workers that were killed left half done.
    for part in parts(plan, chunk)? {
        fs::remove_file(&part).with_context(|| part.display().to_string())?;
    }
    Ok(Some(Claim { _lock: lock }))
}

/// How far a chunk is.
pub fn state(plan: &Plan, chunk: u64) -> Result<State> {
    if let Some(record) = record(plan, chunk)? {
        return Ok(State::Done(Box::new(record)));
    }
    let Ok(lock) = File::open(plan.file(chunk, "lock")) else { return Ok(State::Missing) };
    Ok(if lock.try_lock_shared().is_ok() { State::Missing } else { State::InWork })
}

/// A chunk's record, if it is done.
pub fn record(plan: &Plan, chunk: u64) -> Result<Option<Record>> {
    let path = plan.file(chunk, "json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let record: Record = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let range = plan.range(chunk);
    ensure!(
        record.first as usize == range.start && record.digests.len() == range.len(),
        "{}: frames {} to {}, planned were {} to {}",
        path.display(),
        record.first,
        record.first as usize + record.digests.len(),
        range.start,
        range.end
    );
    Ok(Some(record))
}

/// Makes the chunk's file `part` final and writes its record, in this order.
pub fn finish(plan: &Plan, chunk: u64, part: &std::path::Path, record: &Record) -> Result<()> {
    File::open(part).and_then(|file| file.sync_all()).with_context(|| part.display().to_string())?;
    let path = plan.file(chunk, "mkv");
    fs::rename(part, &path).with_context(|| path.display().to_string())?;
    write_whole(&plan.file(chunk, "json"), serde_json::to_string(record)?.as_bytes())
}

/// Half-done files of a chunk.
fn parts(plan: &Plan, chunk: u64) -> Result<Vec<PathBuf>> {
    let path = plan.file(chunk, "part-");
    let (folder, start) = (path.parent().context("a folder")?, path.file_name().context("a name")?);
    let start = start.to_string_lossy().into_owned();
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let of_chunk = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&start));
    Ok(entries.flatten().map(|entry| entry.path()).filter(of_chunk).collect())
}
