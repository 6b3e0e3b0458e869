// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bar: how far, how fast, how long still; and waiting for a pipeline's end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};

use crate::interrupt;

/// Frames and stream time that went by at a pad.
#[derive(Clone, Default)]
pub struct Meter(Arc<(AtomicU64, AtomicU64)>);

impl Meter {
    /// Counts every buffer at this pad.
    pub fn watch(&self, pad: &gst::Pad) {
        let counters = self.0.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                counters.0.fetch_add(1, Ordering::Relaxed);
                if let Some(pts) = buffer.pts() {
                    counters.1.fetch_max(pts.mseconds(), Ordering::Relaxed);
                }
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Buffers so far.
    pub fn frames(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }

    fn milliseconds(&self) -> u64 {
        self.0.1.load(Ordering::Relaxed)
    }
}

/// A bar for `length` units; a spinner if unknown.
pub fn bar(length: Option<u64>) -> ProgressBar {
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let style = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Runs a pipeline to its end with a bar; an error on the bus is the result, and ends all.
pub fn run(pipeline: &gst::Pipeline, meter: &Meter, output: &Path) -> Result<()> {
    let bar = bar(None);
    let result = wait(pipeline, |message| {
        match message.map(|message| message.view()) {
            Some(gst::MessageView::Warning(warning)) => {
                bar.suspend(|| eprintln!("warning: {}", warning.error()));
            }
            Some(gst::MessageView::Progress(progress)) => bar.set_message(progress.get().2.to_string()),
            _ => {}
        }
        if bar.length().is_none()
            && let Some(length) = pipeline.query_duration::<gst::ClockTime>()
        {
            bar.set_length(length.mseconds());
        }
        if meter.frames() > 0 {
            bar.set_position(meter.milliseconds());
            let speed = meter.frames() as f64 / bar.elapsed().as_secs_f64().max(1e-3);
            bar.set_message(format!("{} frames, {speed:.2} frames/s", meter.frames()));
        }
    });
    bar.finish_and_clear();
    // Only a pipeline that cannot be stopped fails here, and the first error tells more.
    let _ = pipeline.set_state(gst::State::Null);
    if result.is_err() {
        let _ = std::fs::remove_file(output);
    }
    result
}

/// Plays until EOS, the first error or Ctrl-C; `see` gets every other message, and `None` now and then.
pub fn wait(pipeline: &gst::Pipeline, see: impl Fn(Option<&gst::Message>)) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    pipeline.set_state(gst::State::Playing).map_err(|_| first_error(&bus))?;
    loop {
        if interrupt::asked() {
            bail!("interrupted");
        }
        let message = bus.timed_pop(200 * gst::ClockTime::MSECOND);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => return Ok(()),
            Some(gst::MessageView::Error(error)) => return Err(told(error)),
            Some(gst::MessageView::Latency(_)) => drop(pipeline.recalculate_latency()),
            _ => see(message.as_ref()),
        }
    }
}

fn first_error(bus: &gst::Bus) -> anyhow::Error {
    let message = bus.pop_filtered(&[gst::MessageType::Error]);
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => told(error),
        _ => anyhow::anyhow!("the pipeline does not start"),
    }
}

fn told(error: &gst::message::Error) -> anyhow::Error {
    let source = error.src().map(|source| source.name().to_string()).unwrap_or_default();
    let detail = error.debug().map(|debug| debug.lines().next_back().unwrap_or_default().to_owned());
    let text = error.error().to_string();
    match detail.filter(|detail| !text.contains(detail.as_str())) {
        Some(detail) => anyhow::anyhow!("{source}: {text} ({detail})"),
        None => anyhow::anyhow!("{source}: {text}"),
    }
}
