// SPDX-License-Identifier: MIT OR Apache-2.0
//! Restores one chunk: exactly its frames, each proved to be the planned one, into lossless files.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::chunk::{self, Record};
use super::digest;
use super::line::{Line, Target};
use super::plan::{Output, Plan};
use super::source::Frame;
use super::survey::PATIENCE;
use crate::interrupt;

/// Restores a chunk that was claimed.
///
/// # Errors
/// If a frame is not the planned one, naming it; if the element, the encoder or the disk fails. No file is left.
/// `see` is told how many frames went in.
pub fn restore(plan: &Plan, chunk: u64, see: &dyn Fn(usize)) -> Result<Record> {
    let part = plan.file(chunk, &format!("part-{}", std::process::id()));
    let range = plan.range(chunk);
    let result = attempt(plan, chunk, &part, range.start > 0, see).or_else(|error| match error {
        Trouble::Seek(reason) => {
            eprintln!("chunk {chunk}: {reason:#}; reading from the start instead");
            attempt(plan, chunk, &part, false, see)
        }
        other => Err(other),
    });
    let result = result.map_err(|trouble| match trouble {
        Trouble::Seek(error) | Trouble::Other(error) => error,
    });
    let result = result.and_then(|record| chunk::finish(plan, chunk, &part, &record).map(|()| record));
    if result.is_err() {
        // It may not have been made yet.
        let _ = chunk::remove(&part);
    }
    result
}

/// Why an attempt failed.
enum Trouble {
    /// The seek may be the cause.
    Seek(anyhow::Error),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn attempt(plan: &Plan, chunk: u64, part: &Path, seek: bool, see: &dyn Fn(usize)) -> Result<Record, Trouble> {
    let started = Instant::now();
    let range = plan.range(chunk);
    let (wish, input) = (&plan.settings.wish, plan.settings.wish.source.input.display());
    let bytes = wish.source.bytes()?;
    if bytes != plan.settings.bytes {
        let planned = plan.settings.bytes;
        return Err(
            anyhow::anyhow!("{input}: {bytes} bytes, planned were {planned}; it changed since").into()
        );
    }
    let mut source = wish.source.open()?;
    let mut next = 0;
    if seek {
        source.seek(gst::ClockTime::from_nseconds(plan.frames[range.start].time)).map_err(Trouble::Seek)?;
    }
    let target = match &wish.output {
        Output::Video { encoder } => Target::Video { part, encoder },
        Output::Pictures(kind) => {
            // What an attempt from a seek left.
            let _ = chunk::remove(part);
            std::fs::create_dir(part).with_context(|| part.display().to_string())?;
            Target::Pictures { part: part.to_owned(), kind: *kind, first: range.start }
        }
    };
    let mut line =
        Line::new(&plan.settings.caps.parse().context("the plan's caps")?, &wish.properties, target)?;
    while next < range.end {
        let frame = match source.next().with_context(|| format!("frame {next}")) {
            Ok(frame) => frame,
            Err(error) if seek && !interrupt::asked() => return Err(Trouble::Seek(error)),
            Err(error) => return Err(error.into()),
        };
        let wrong = match &frame {
            None => Some(anyhow::anyhow!("frame {next} is missing: the file ends before it")),
            Some(frame) if seek && next < range.start => {
                // A seek may come out before its frame, never after it.
                if early(plan, range.start, frame)? {
                    continue;
                }
                next = range.start;
                check(plan, next, frame)?
            }
            // Read from the start, all frames are counted, and those of this chunk looked at.
            Some(_) if next < range.start => None,
            Some(frame) => check(plan, next, frame)?,
        };
        match wrong {
            Some(reason) if seek => return Err(Trouble::Seek(reason)),
            Some(reason) => return Err(reason.into()),
            None => {}
        }
        if let Some(mut frame) = frame.filter(|_| range.contains(&next)) {
            frame.time = gst::ClockTime::from_nseconds(plan.frames[next].time);
            line.push(&frame).with_context(|| format!("frame {next}"))?;
            see(next + 1 - range.start);
        }
        next += 1;
    }
    let made = line.end()?;
    if made.digests.len() != range.len() || made.done.len() != range.len() {
        let (ins, outs) = (range.len(), made.digests.len());
        return Err(anyhow::anyhow!("{ins} frames went in, {outs} came out").into());
    }
    let (file, bytes) = if part.is_dir() { digest::folder(part)? } else { digest::file(part)? };
    Ok(Record {
        first: range.start as u64,
        digests: made.digests,
        done: made.done,
        packets: made.packets,
        bytes,
        file,
        network: made.network,
        restored: made.restored,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Whether a frame is before number `index`: by its time, and where times were put right, by its samples.
fn early(plan: &Plan, index: usize, frame: &Frame) -> Result<bool> {
    let time = plan.frames[index].time;
    Ok(frame.time.nseconds() < time
        && digest::frame(&frame.buffer, &frame.caps)? != plan.frames[index].digest)
}

/// What is wrong with a frame that should be number `index`.
fn check(plan: &Plan, index: usize, frame: &Frame) -> Result<Option<anyhow::Error>> {
    let planned = &plan.frames[index];
    let input = plan.settings.wish.source.input.display();
    // In plans for which times were put right, they may be off by as much.
    let slack = frame.buffer.duration().unwrap_or_default().nseconds() * PATIENCE as u64;
    let slack = if plan.settings.wish.proof.is_some() { slack } else { 0 };
    if frame.time.nseconds().abs_diff(planned.time) > slack {
        let time = gst::ClockTime::from_nseconds(planned.time);
        return Ok(Some(anyhow::anyhow!("{input}: frame {index} is at {}, planned was {time}", frame.time)));
    }
    let digest = digest::frame(&frame.buffer, &frame.caps)?;
    if digest != planned.digest {
        return Ok(Some(anyhow::anyhow!(
            "{input}: frame {index} at {} has samples {digest}, planned were {}; the file changed or is damaged",
            frame.time,
            planned.digest
        )));
    }
    Ok(None)
}
