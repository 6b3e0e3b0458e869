// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was done, for programs: a header, a line for each frame, the largest changes, and a footer, in JSON.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::chunk::{Done, Record};
use super::digest;
use super::plan::Plan;

/// Version of the lines.
const FORMAT: u32 = 1;

/// A frame, as it was planned and as it came out.
pub struct Row<'a> {
    /// Its number.
    pub index: usize,
    /// Digest of what came out.
    pub digest: &'a str,
    /// What was done to it.
    pub done: &'a Done,
}

/// All frames. A status does not depend on where the job was cut: a frame that is equal to the one before it, in and
/// out, is `reused`.
pub fn rows<'a>(plan: &'a Plan, records: &'a [Record]) -> impl Iterator<Item = Row<'a>> {
    let all = records.iter().flat_map(|record| record.digests.iter().zip(&record.done));
    all.zip(&plan.frames).enumerate().map(|(index, ((digest, done), _))| Row { index, digest, done })
}

/// Frames that differ from what came in, the largest change first.
pub fn largest(plan: &Plan, records: &[Record], most: usize) -> Vec<usize> {
    let measured = rows(plan, records).filter(|row| changed(plan, row) && row.done.largest.is_some());
    let mut found: Vec<_> = measured
        .map(|row| (row.done.largest.unwrap_or_default(), row.done.psnr.unwrap_or(f64::MAX), row.index))
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    found.into_iter().take(most).map(|(.., index)| index).collect()
}

/// Whether a frame is not as it came.
pub fn changed(plan: &Plan, row: &Row) -> bool {
    plan.frames[row.index].digest != row.digest
}

/// The whole file; `output` is what is said of the output.
pub fn text(plan: &Plan, records: &[Record], worst: &[usize], output: Value) -> Result<String> {
    let mut lines = vec![header(plan, records)?];
    let (mut counts, mut before) = (std::collections::BTreeMap::<&str, u64>::new(), None);
    let mut altered = 0u64;
    for row in rows(plan, records) {
        let now = (&plan.frames[row.index].digest, row.digest);
        let made = ["restored", "reused"].contains(&row.done.status.as_str());
        let status = match made {
            true if before == Some(now) => "reused",
            true => "restored",
            false => &row.done.status,
        };
        before = Some(now);
        *counts.entry(status).or_default() += 1;
        altered += u64::from(changed(plan, &row));
        lines.push(frame(plan, &row, status));
    }
    let all: Vec<Row> = rows(plan, records).collect();
    for (rank, index) in worst.iter().enumerate() {
        let (row, planned) = (&all[*index], &plan.frames[*index]);
        lines.push(json!({
            "type": "change",
            "rank": rank + 1,
            "frame": index,
            "pts": seconds(planned.time),
            "timecode": planned.timecode,
            "largest": row.done.largest,
            "psnr": row.done.psnr,
            "ssim": row.done.ssim,
        }));
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    lines.push(json!({
        "type": "footer",
        "frames": plan.frames.len(),
        "restored": count("restored"),
        "reused": count("reused"),
        "bypassed": count("bypassed"),
        "late": count("late"),
        "failed": count("failed"),
        "changed": altered,
        "output": output,
    }));
    Ok(lines.into_iter().map(|line| format!("{line}\n")).collect())
}

fn header(plan: &Plan, records: &[Record]) -> Result<Value> {
    let (settings, wish) = (&plan.settings, &plan.settings.wish);
    let network = &records.first().context("no chunks")?.network;
    let mut devices: Vec<&str> = records.iter().map(|record| record.network.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    let caps: gst::Caps = settings.caps.parse().context("the plan's caps")?;
    let info = gst_video::VideoInfo::from_caps(&caps)?;
    Ok(json!({
        "type": "header",
        "format": FORMAT,
        "program": "i2sb-run",
        "version": settings.version,
        "plugin": network.plugin,
        "model": network.model,
        "model_sha256": network.hash,
        "sampler": network.sampler,
        "steps": network.steps,
        "seed": network.seed,
        "strength": network.strength,
        "device": devices.join(", "),
        "precision": network.precision,
        "properties": wish.properties,
        "source": {
            "name": wish.source.input.file_name().unwrap_or_default().to_string_lossy(),
            "bytes": settings.bytes,
            "sha256": settings.sha256,
            "caps": settings.caps,
            "said": {"colorimetry": wish.source.colorimetry, "framerate": wish.source.framerate},
        },
        "pixels": digest::pixels(info.format()),
        "frames": settings.frames,
    }))
}

fn frame(plan: &Plan, row: &Row, status: &str) -> Value {
    let planned = &plan.frames[row.index];
    json!({
        "type": "frame",
        "frame": row.index,
        "pts": seconds(planned.time),
        "timecode": planned.timecode,
        "captions": planned.captions,
        "status": status,
        "psnr": row.done.psnr,
        "ssim": row.done.ssim,
        "largest": row.done.largest,
        "in": planned.digest,
        "out": row.digest,
    })
}

/// Seconds with all nine digits, as text: a floating-point number would not keep them.
fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}
