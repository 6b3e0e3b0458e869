// SPDX-License-Identifier: MIT OR Apache-2.0
//! All chunks into one file, proved frame by frame, and put in place without writing over anything.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::chunk::{self, Record};
use super::digest;
use super::ebml;
use super::mux;
use super::pictures;
use super::plan::{Output, Plan, Wish};
use super::proof;
use super::source::Source;
use crate::exit::usage;
use crate::output::{self, Part};
use crate::sound::Sound;

/// How often a file is written at most: of the identifiers that the muxer draws for tracks, one in 256 is too short.
const TRIES: usize = 8;

/// What was joined.
pub struct Joined {
    /// Frames in all.
    pub frames: usize,
    /// Those that differ from what came in.
    pub changed: usize,
    /// The files that were written beside the output.
    pub beside: Vec<std::path::PathBuf>,
}

/// What an output cannot be called.
pub fn ending(kind: &Output, output: &Path) -> Result<()> {
    let ending = output.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match kind {
        Output::Video { .. } if ending != "mkv" => {
            Err(usage(format!("{}: the ending must be mkv", output.display())))
        }
        Output::Pictures(_) if ending == "mkv" => {
            Err(usage(format!("{}: the job's frames are pictures; name a folder for them", output.display())))
        }
        _ => Ok(()),
    }
}

/// Refuses if something of an output is there already.
pub fn free(wish: &Wish, output: &Path, force: bool) -> Result<()> {
    let beside = proof::places(wish, output);
    let all: Vec<_> = std::iter::once(output).chain(beside.iter().map(|path| path.as_path())).collect();
    output::free(&all, force)
}

/// Joins a job whose chunks are all done.
///
/// # Errors
/// If chunks are missing, or were made with different networks or packets; if a frame of a chunk or of the joined
/// output is not the one that was restored, naming it; if something is there already and `force` is not given.
pub fn join(plan: &Plan, output: &Path, force: bool) -> Result<Joined> {
    ending(&plan.settings.wish.output, output)?;
    free(&plan.settings.wish, output, force)?;
    let records = records(plan)?;
    let video = matches!(plan.settings.wish.output, Output::Video { .. });
    if video {
        for (chunk, record) in records.iter().enumerate() {
            whole(plan, chunk as u64, record)?;
        }
    }
    let part = Part::claim(output, force)?;
    let written = if video {
        let timecode = plan.frames.first().and_then(|frame| frame.timecode.as_deref());
        let seed = seed(plan, &records);
        let (mut settled, mut sound) = (false, Sound::default());
        for _ in 0..TRIES {
            sound = mux::write(plan, &records, part.path())?;
            settled = ebml::settle(part.path(), seed, timecode)?;
            if settled {
                break;
            }
        }
        ensure!(
            settled,
            "{}: {TRIES} times matroskamux gave a track an identifier of fewer than 8 bytes; equal jobs would not give \
             equal files",
            part.path().display()
        );
        compare(part.path(), &mut digests(&records), 0)?;
        fs::File::open(part.path())
            .and_then(|file| file.sync_all())
            .with_context(|| part.path().display().to_string())?;
        let made = Source::plain(part.path()).open()?;
        let written = proof::write(plan, &records, output, part.path(), made)?;
        part.publish()?;
        if let Some(note) = sound.left_out(&plan.settings.wish.source.input) {
            eprintln!("note: {note}");
        }
        written
    } else {
        let staged = pictures::stage(plan, &records, output)?;
        let written = proof::write(plan, &records, output, staged.folder(), staged.open()?)?;
        staged.publish(output, force)?;
        written
    };
    let (beside, changed) = written.keep();
    Ok(Joined { frames: plan.frames.len(), changed, beside })
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
        pairs.find(|(_, r)| !r.network.agrees(&records[0].network) || r.packets != records[0].packets)
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
    let at = |index: u64| format!("frame {index} of {}", path.display());
    let mut source = Source::plain(path).open().with_context(|| at(index))?;
    loop {
        let frame = source.next().with_context(|| at(index))?;
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
