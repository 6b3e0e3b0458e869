// SPDX-License-Identifier: MIT OR Apache-2.0
//! Restores one chunk: exactly its frames, each proved to be the planned one, into a lossless file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;

use super::chunk::{self, Record};
use super::digest;
use super::frames::{Frame, Frames, told};
use super::plan::Plan;
use crate::interrupt;

/// FFV1 with every frame a key frame: a packet depends on its frame alone, so chunks join packet by packet.
pub const ENCODER: &str = "avenc_ffv1 gop-size=1 slicecrc=true";

/// Restores a chunk that was claimed.
///
/// # Errors
/// If a frame is not the planned one, naming it; if the element, the encoder or the disk fails. No file is left.
pub fn restore(plan: &Plan, chunk: u64) -> Result<Record> {
    let part = plan.file(chunk, &format!("part-{}", std::process::id()));
    let range = plan.range(chunk);
    let result = attempt(plan, chunk, &part, range.start > 0).or_else(|error| match error {
        Trouble::Seek(reason) => {
            eprintln!("chunk {chunk}: {reason:#}; reading from the start instead");
            attempt(plan, chunk, &part, false)
        }
        other => Err(other),
    });
    let result = result.map_err(|trouble| match trouble {
        Trouble::Seek(error) | Trouble::Other(error) => error,
    });
    let result = result.and_then(|record| chunk::finish(plan, chunk, &part, &record).map(|()| record));
    if result.is_err() {
        // It may not have been made yet.
        let _ = std::fs::remove_file(&part);
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

fn attempt(plan: &Plan, chunk: u64, part: &Path, seek: bool) -> Result<Record, Trouble> {
    let started = Instant::now();
    let range = plan.range(chunk);
    let size =
        std::fs::metadata(&plan.settings.input).with_context(|| plan.settings.input.display().to_string())?;
    if size.len() != plan.settings.bytes {
        return Err(anyhow::anyhow!(
            "{}: {} bytes, planned were {}; it changed since",
            plan.settings.input.display(),
            size.len(),
            plan.settings.bytes
        )
        .into());
    }
    let source = Frames::open(&plan.settings.input)?;
    let mut next = 0;
    if seek {
        source.seek(gst::ClockTime::from_nseconds(plan.frames[range.start].time)).map_err(Trouble::Seek)?;
    }
    let mut line = Line::new(&plan.settings.caps, &plan.settings.properties, part)?;
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
                if frame.time.nseconds() < plan.frames[range.start].time {
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
        if let Some(frame) = frame.filter(|_| range.contains(&next)) {
            line.push(frame).with_context(|| format!("frame {next}"))?;
        }
        next += 1;
    }
    let (digests, packets, restored, network) = line.end()?;
    if digests.len() != range.len() {
        return Err(anyhow::anyhow!("{} frames went in, {} came out", range.len(), digests.len()).into());
    }
    let (file, bytes) = digest::file(part)?;
    Ok(Record {
        first: range.start as u64,
        digests,
        packets,
        bytes,
        file,
        network,
        restored,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// What is wrong with a frame that should be number `index`.
fn check(plan: &Plan, index: usize, frame: &Frame) -> Result<Option<anyhow::Error>> {
    let planned = &plan.frames[index];
    let input = plan.settings.input.display();
    if frame.time.nseconds() != planned.time {
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

/// `appsrc ! i2sbrestore ! avenc_ffv1 ! matroskamux ! filesink`.
struct Line {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    restore: gst::Element,
    encoder: gst::Element,
    digests: Arc<Mutex<Vec<Result<String>>>>,
}

impl Line {
    fn new(caps: &str, properties: &BTreeMap<String, String>, part: &Path) -> Result<Self> {
        let caps: gst::Caps = caps.parse().context("the plan's caps")?;
        let pipeline = gst::Pipeline::new();
        let source = gst_app::AppSrc::builder()
            .caps(&caps)
            .format(gst::Format::Time)
            .max_buffers(2)
            .block(true)
            .build();
        let restore = gst::ElementFactory::make("i2sbrestore").build()?;
        for (name, text) in properties {
            crate::restore::set(&restore, name, text)?;
        }
        let encoder = gst::parse::bin_from_description(ENCODER, true)?.upcast::<gst::Element>();
        let muxer = gst::ElementFactory::make("matroskamux").build()?;
        let location = part.to_str().context("the job's folder is not UTF-8")?;
        let sink = gst::ElementFactory::make("filesink").property("location", location).build()?;
        let all = [source.upcast_ref(), &restore, &encoder, &muxer, &sink];
        pipeline.add_many(all)?;
        gst::Element::link_many(all)?;
        let digests = Arc::<Mutex<Vec<_>>>::default();
        let seen = digests.clone();
        let pad = restore.static_pad("src").context("i2sbrestore has no source pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(digest::frame(buffer, &caps));
            }
            gst::PadProbeReturn::Ok
        });
        let line = Self { pipeline, source, restore, encoder, digests };
        line.pipeline.set_state(gst::State::Playing).map_err(|_| line.failed())?;
        Ok(line)
    }

    fn push(&mut self, frame: Frame) -> Result<()> {
        let mut buffer = frame.buffer;
        // As in the whole file: times count from the start of its presentation.
        buffer.make_mut().set_pts(frame.time);
        self.source.push_buffer(buffer).map_err(|_| self.failed())?;
        if interrupt::asked() {
            bail!("interrupted");
        }
        self.no_error()
    }

    /// Digests of what came out, caps of the packets, how many frames were restored, and with what.
    fn end(self) -> Result<(Vec<String>, String, u64, [String; 4])> {
        self.source.end_of_stream().map_err(|_| self.failed())?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = loop {
            match bus.timed_pop_filtered(200 * gst::ClockTime::MSECOND, &kinds) {
                Some(message) => break message,
                None => ensure!(!interrupt::asked(), "interrupted"),
            }
        };
        if message.type_() == gst::MessageType::Error {
            return Err(told(&message));
        }
        let packets =
            self.encoder.static_pad("src").and_then(|pad| pad.current_caps()).context("no packets")?;
        let stats: gst::Structure = self.restore.property("stats");
        let text = |name: &str| stats.get::<String>(name).unwrap_or_default();
        let network = ["model", "hash", "device", "precision"].map(text);
        let restored = stats.get::<u64>("restored").unwrap_or_default();
        // The file is whole only once the sink is closed.
        self.pipeline.set_state(gst::State::Null)?;
        let digests = std::mem::take(&mut *self.digests.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((digests.into_iter().collect::<Result<_>>()?, packets.to_string(), restored, network))
    }

    fn no_error(&self) -> Result<()> {
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        bus.pop_filtered(&[gst::MessageType::Error]).map_or(Ok(()), |message| Err(told(&message)))
    }

    fn failed(&self) -> anyhow::Error {
        let wait = gst::ClockTime::from_seconds(1);
        let message =
            self.pipeline.bus().and_then(|bus| bus.timed_pop_filtered(wait, &[gst::MessageType::Error]));
        message.map_or_else(|| anyhow::anyhow!("the pipeline stopped"), |message| told(&message))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Only a pipeline that cannot be stopped fails here, and nobody waits for it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
