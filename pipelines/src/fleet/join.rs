// SPDX-License-Identifier: MIT OR Apache-2.0
//! All chunks into one file, proved frame by frame, and put in place without writing over anything.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::chunk::{self, Record};
use super::digest;
use super::ebml;
use super::frames::Frames;
use super::mux;
use super::plan::Plan;
use crate::exit::{refused, usage};

/// Joins a job whose chunks are all done.
///
/// # Errors
/// If chunks are missing, or were made with different networks or packets; if a frame of a chunk or of the joined
/// file is not the one that was restored, naming it; if `output` is there and `force` is not given.
pub fn join(plan: &Plan, output: &Path, force: bool) -> Result<()> {
    if !force && output.exists() {
        return Err(refused(format!("{} exists; --force replaces it", output.display())));
    }
    if output.extension().is_none_or(|ending| ending != "mkv") {
        return Err(usage(format!("{}: the ending must be mkv", output.display())));
    }
    let records = records(plan)?;
    for (chunk, record) in records.iter().enumerate() {
        whole(plan, chunk as u64, record)?;
    }
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    // One part for each process: two that join the same job do not write into each other's.
    let part = output.with_extension(format!("part-{}.mkv", std::process::id()));
    let result = mux::write(plan, &records, &part)
        .and_then(|()| ebml::settle(&part, seed(plan, &records)))
        .and_then(|()| compare(&part, &mut digests(&records), 0))
        .and_then(|()| place(&part, output, force));
    // After `place` it is there only under its own name.
    let _ = fs::remove_file(&part);
    result
}

/// Every chunk's record, all made alike.
fn records(plan: &Plan) -> Result<Vec<Record>> {
    let mut missing = Vec::new();
    let mut records = Vec::new();
    for chunk in 0..plan.chunks() {
        match chunk::record(plan, chunk)? {
            Some(record) => records.push(record),
            None => missing.push(chunk.to_string()),
        }
    }
    if !missing.is_empty() {
        bail!("{} of {} chunks are missing: {}", missing.len(), plan.chunks(), missing.join(","));
    }
    let mut pairs = records.iter().skip(1).enumerate();
    if let Some((index, other)) =
        pairs.find(|(_, r)| r.network[..2] != records[0].network[..2] || r.packets != records[0].packets)
    {
        bail!(
            "chunk {} was made with {:?} into {}, chunk 0 with {:?} into {}; remove one of them and work again",
            index + 1,
            other.network,
            other.packets,
            records[0].network,
            records[0].packets
        );
    }
    Ok(records)
}

fn digests(records: &[Record]) -> impl Iterator<Item = &String> {
    records.iter().flat_map(|record| &record.digests)
}

/// That a chunk's file is as it was written; where it is not, which frame.
fn whole(plan: &Plan, chunk: u64, record: &Record) -> Result<()> {
    let path = plan.file(chunk, "mkv");
    if digest::file(&path)? == (record.file.clone(), record.bytes) {
        return Ok(());
    }
    let advice = || format!("remove {} and work again", plan.file(chunk, "json").display());
    compare(&path, &mut record.digests.iter(), record.first).with_context(advice)?;
    bail!("{}: its pictures are whole, but its bytes are not as written; {}", path.display(), advice())
}

/// Decodes a file and compares every frame; `first` is the number of its first frame.
fn compare(path: &Path, expected: &mut dyn Iterator<Item = &String>, first: u64) -> Result<()> {
    let mut index = first;
    let source = Frames::open(path).with_context(|| format!("frame {index} of {}", path.display()))?;
    loop {
        let frame = source.next().with_context(|| format!("frame {index} of {}", path.display()))?;
        match (frame, expected.next()) {
            (None, None) => return Ok(()),
            (Some(frame), Some(digest)) => {
                let found = digest::frame(&frame.buffer, &frame.caps)?;
                ensure!(
                    found == *digest,
                    "frame {index} of {} has samples {found}, restored were {digest}",
                    path.display()
                );
            }
            (None, Some(_)) => bail!("frame {index} of {} is missing", path.display()),
            (Some(_), None) => bail!("frame {index} of {} is one too many", path.display()),
        }
        index += 1;
    }
}

/// 16 bytes that depend on all that was restored.
fn seed(plan: &Plan, records: &[Record]) -> [u8; 16] {
    let all: Vec<&str> = digests(records).map(String::as_str).collect();
    let text = format!("{} {}", plan.settings.bytes, all.join(" "));
    let digits = digest::bytes(text.as_bytes());
    let mut seed = [0; 16];
    for (byte, pair) in seed.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    seed
}

/// Gives the finished file its name. A link cannot replace what appeared meanwhile; a renaming would.
fn place(part: &Path, output: &Path, force: bool) -> Result<()> {
    fs::File::open(part).and_then(|file| file.sync_all()).with_context(|| part.display().to_string())?;
    if force {
        return fs::rename(part, output).with_context(|| output.display().to_string());
    }
    fs::hard_link(part, output).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            refused(format!("{} appeared meanwhile; --force replaces it", output.display()))
        }
        _ => anyhow::Error::new(error).context(output.display().to_string()),
    })
}
