// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is written beside an output, so that others can check what was changed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::chunk::Record;
use super::digest;
use super::framemd5;
use super::plan::{Plan, Wish, write_whole};
use super::scc;
use super::sheet;
use super::sidecar;
use super::source::{Frame, Frames};
use crate::output::beside;
use crate::preview;

/// What the files are called behind the output's name.
const ENDINGS: [&str; 5] = [".jsonl", ".in.framemd5", ".out.framemd5", ".changes.png", ".scc"];

/// Where the files of this job go; none if it asked for no proof.
pub fn places(wish: &Wish, output: &Path) -> Vec<PathBuf> {
    let wanted = ENDINGS.iter().filter(|_| wish.proof.is_some());
    wanted.map(|ending| beside(output, ending)).collect()
}

/// Files that are removed again unless they are kept.
pub struct Written {
    files: Vec<PathBuf>,
    /// Frames that differ from what came in.
    pub changed: usize,
}

impl Written {
    fn add(&mut self, path: PathBuf, bytes: &[u8]) -> Result<()> {
        write_whole(&path, bytes)?;
        self.files.push(path);
        Ok(())
    }

    /// Keeps them; which there are, and how many frames changed.
    pub fn keep(mut self) -> (Vec<PathBuf>, usize) {
        (std::mem::take(&mut self.files), self.changed)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for file in &self.files {
            // There is nothing more to be done about it.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Writes them; `made` are the frames of what was made, at `part`.
pub fn write(
    plan: &Plan,
    records: &[Record],
    output: &Path,
    part: &Path,
    mut made: Frames,
) -> Result<Written> {
    let changed = sidecar::rows(plan, records).filter(|row| sidecar::changed(plan, row)).count();
    let mut written = Written { files: Vec::new(), changed };
    let Some(proof) = &plan.settings.wish.proof else { return Ok(written) };
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let told = if part.is_dir() {
        json!({"name": name, "files": plan.frames.len()})
    } else {
        json!({"name": name, "bytes": std::fs::metadata(part)?.len(), "sha256": digest::sha256(part)?})
    };
    let worst = sidecar::largest(plan, records, proof.changes);
    let [jsonl, before, after, changes, captions] = ENDINGS.map(|ending| beside(output, ending));
    written.add(jsonl, sidecar::text(plan, records, &worst, told)?.as_bytes())?;
    let caps: gst::Caps = plan.settings.caps.parse().context("the plan's caps")?;
    let times = || plan.frames.iter().map(|frame| frame.time);
    let ins = times().zip(plan.frames.iter().map(|frame| frame.digest.as_str()));
    written.add(before, framemd5::text(&caps, ins)?.as_bytes())?;
    let outs = times().zip(records.iter().flat_map(|record| record.digests.iter().map(String::as_str)));
    written.add(after, framemd5::text(&caps, outs)?.as_bytes())?;
    // Those of an earlier run, which may be written over; they may not be there.
    let gone = |path: &Path| _ = std::fs::remove_file(path);
    match scc::text(plan)? {
        Some(text) => written.add(captions, text.as_bytes())?,
        None => gone(&captions),
    }
    if worst.is_empty() {
        gone(&changes);
    } else {
        let rows = rows(plan, records, &worst, &mut made)?;
        let mut png = std::io::Cursor::new(Vec::new());
        sheet::draw(&rows)?.write_to(&mut png, image::ImageFormat::Png)?;
        written.add(changes, png.get_ref())?;
    }
    Ok(written)
}

/// The frames to show, in the order of `worst`.
fn rows(plan: &Plan, records: &[Record], worst: &[usize], made: &mut Frames) -> Result<Vec<sheet::Row>> {
    let outs: Vec<_> = sidecar::rows(plan, records).collect();
    let source = || plan.settings.wish.source.open();
    let mut before = source()?;
    let mut rows = Vec::new();
    for &index in worst {
        let (planned, row) = (&plan.frames[index], &outs[index]);
        let old = find(&mut before, planned.time, &planned.digest);
        // A file that cannot be sought in is read from its start.
        let old = match old? {
            Some(frame) => Some(frame),
            None => {
                before = source()?;
                walk(&mut before, planned.time, &planned.digest)?
            }
        };
        let new = find(made, planned.time, row.digest)?;
        let lost = |what: &str| format!("frame {index} is not found again in the {what}");
        let (old, new) = (old.with_context(|| lost("source"))?, new.with_context(|| lost("output"))?);
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let time = gst::ClockTime::from_nseconds(planned.time);
        let code = planned.timecode.as_ref().map(|code| format!("  timecode {code}")).unwrap_or_default();
        let title = format!(
            "frame {index}  {time:.3}{code}  PSNR {} dB  SSIM {}  largest change {} of white",
            number(row.done.psnr, 2),
            number(row.done.ssim, 4),
            number(row.done.largest, 4)
        );
        rows.push(sheet::Row { title, before: rgb(&old)?, after: rgb(&new)? });
    }
    Ok(rows)
}

fn rgb(frame: &Frame) -> Result<image::RgbImage> {
    preview::rgb(&gst::Sample::builder().buffer(&frame.buffer).caps(&frame.caps).build())
}

/// The frame of this time and digest, by a seek; `None` if the seek does not lead there.
fn find(frames: &mut Frames, time: u64, digest: &str) -> Result<Option<Frame>> {
    match frames.seek(gst::ClockTime::from_nseconds(time)) {
        Ok(()) => walk(frames, time, digest),
        Err(_) => Ok(None),
    }
}

/// The same, from where the reading is.
fn walk(frames: &mut Frames, time: u64, digest: &str) -> Result<Option<Frame>> {
    // Matroska rounds to milliseconds.
    let near = gst::ClockTime::MSECOND.nseconds();
    while let Some(frame) = frames.next()? {
        let now = frame.time.nseconds();
        if now + near >= time && digest::frame(&frame.buffer, &frame.caps)? == digest {
            return Ok(Some(frame));
        }
        if now > time + near {
            return Ok(None);
        }
    }
    Ok(None)
}
