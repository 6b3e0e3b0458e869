// SPDX-License-Identifier: MIT OR Apache-2.0
//! A restored chunk: its lock, its files, and the record that says it is done.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::plan::{Output, Plan, write_whole};

/// What `NNNNNN.json` holds; a chunk without it is not done.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Number of the first frame.
    pub first: u64,
    /// Digests of the restored frames.
    pub digests: Vec<String>,
    /// What was done to each.
    pub done: Vec<Done>,
    /// Caps of the packets, the encoder's header in them; of pictures, the caps of frames.
    pub packets: String,
    /// Length of `NNNNNN.mkv`, or of all pictures in `NNNNNN.pictures`.
    pub bytes: u64,
    /// Its digest.
    pub file: String,
    /// With what.
    pub network: Network,
    /// Frames that were restored; the others repeat one, or went through untouched as the properties ask.
    pub restored: u64,
    /// Time that it took, in seconds.
    pub seconds: f64,
}

/// What was done to a frame, as the element says it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// `restored`, `reused`, `bypassed`, `late` or `failed`.
    pub status: String,
    /// Peak signal-to-noise ratio against what came in, in dB; nothing if it was not measured, or nothing changed.
    pub psnr: Option<f64>,
    /// Structural similarity to what came in, if it was measured.
    pub ssim: Option<f64>,
    /// Largest change of a sample, 1 = black to white, if it was measured.
    pub largest: Option<f64>,
}

/// The network of a chunk, and how it was used.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Version of the plugin, with its commit where it is known.
    pub plugin: String,
    /// Its name.
    pub model: String,
    /// SHA-256 of its weights.
    pub hash: String,
    /// Where it ran.
    pub device: String,
    /// Numbers it multiplied with.
    pub precision: String,
    /// How the steps were taken.
    pub sampler: String,
    /// Network evaluations per frame.
    pub steps: u64,
    /// Seed of the noise.
    pub seed: u64,
    /// How much of the restoration was applied.
    pub strength: f64,
}

impl Network {
    /// That two made the same bits, as far as can be known: all but the device.
    pub fn agrees(&self, other: &Self) -> bool {
        Self { device: String::new(), ..self.clone() } == Self { device: String::new(), ..other.clone() }
    }
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
        remove(&part).with_context(|| part.display().to_string())?;
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

/// A chunk's record, if it is done: both the record and what it is of are there.
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
        record.first as usize == range.start
            && record.digests.len() == range.len()
            && record.done.len() == range.len(),
        "{}: frames {} to {}, planned were {} to {}",
        path.display(),
        record.first,
        record.first as usize + record.digests.len(),
        range.start,
        range.end
    );
    // Somebody removed it: it is not done any more.
    Ok(Some(record).filter(|_| place(plan, chunk).exists()))
}

/// Where a chunk's frames are: a file, or a folder of pictures.
pub fn place(plan: &Plan, chunk: u64) -> PathBuf {
    plan.file(
        chunk,
        if matches!(plan.settings.wish.output, Output::Video { .. }) { "mkv" } else { "pictures" },
    )
}

/// Makes the chunk's `part` final and writes its record, in this order.
pub fn finish(plan: &Plan, chunk: u64, part: &Path, record: &Record) -> Result<()> {
    File::open(part).and_then(|file| file.sync_all()).with_context(|| part.display().to_string())?;
    let path = place(plan, chunk);
    // A folder cannot be renamed onto one that holds pictures, whose record was removed.
    if path.is_dir() {
        remove(&path).with_context(|| path.display().to_string())?;
    }
    fs::rename(part, &path).with_context(|| path.display().to_string())?;
    write_whole(&plan.file(chunk, "json"), serde_json::to_string(record)?.as_bytes())
}

/// Removes a file or a folder.
pub fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
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
