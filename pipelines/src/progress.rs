// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bar: how far, how fast, how long still; and waiting for a pipeline's end.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::log::{Event, Log};
use crate::{exit, interrupt};

/// Time between two progress lines of the log.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// Name of the details that `i2sbrestore` gives its error with where `strict` refuses.
const REFUSED: &str = "i2sb-refused";

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

/// Runs a pipeline, whose frames go in at `taken` and come out at `meter`, to its end, or to where `stop` ends it in order after a signal, with a bar and a log; an
/// error on the bus is the result, and ends all. Whether it was stopped.
pub fn run(
    pipeline: &gst::Pipeline,
    taken: &Meter,
    meter: &Meter,
    log: &Log,
    stop: &dyn Fn(),
) -> Result<bool> {
    let (bar, logged) = (bar(None), Cell::new(Instant::now()));
    let see = |message: Option<&gst::Message>| {
        match message.map(|message| message.view()) {
            Some(gst::MessageView::Warning(warning)) => {
                let text = warning.error().to_string();
                bar.suspend(|| eprintln!("warning: {text}"));
                log.write(Event::Warning, json!({"text": text, "detail": warning.debug().map(String::from)}));
            }
            Some(gst::MessageView::Progress(progress)) => bar.set_message(progress.get().2.to_string()),
            _ => {}
        }
        if bar.length().is_none()
            && let Some(length) = pipeline.query_duration::<gst::ClockTime>()
        {
            bar.set_length(length.mseconds());
        }
        let speed = meter.frames() as f64 / bar.elapsed().as_secs_f64().max(1e-3);
        if meter.frames() > 0 {
            bar.set_position(meter.milliseconds());
            bar.set_message(format!("{} frames, {speed:.2} frames/s", meter.frames()));
        }
        if logged.get().elapsed() >= LOG_EVERY {
            logged.set(Instant::now());
            let seconds = |ms: u64| ms as f64 / 1e3;
            let now = json!({
                "taken": taken.frames(),
                "frames": meter.frames(),
                "frames_per_second": speed,
                "position_s": seconds(meter.milliseconds()),
                "length_s": bar.length().map(seconds),
                "left_s": bar.length().map(|_| bar.eta().as_secs()),
            });
            log.write(Event::Progress, now);
        }
    };
    let result = wait(pipeline, see, Some(stop));
    bar.finish_and_clear();
    // Only a pipeline that cannot be stopped fails here, and the first error tells more.
    let _ = pipeline.set_state(gst::State::Null);
    result
}

/// Plays until EOS or the first error; `see` gets every other message, and `None` now and then. After a
/// signal, once, `stop` is to bring EOS about, and the result is true; without it the signal is an error.
pub fn wait(
    pipeline: &gst::Pipeline,
    see: impl Fn(Option<&gst::Message>),
    stop: Option<&dyn Fn()>,
) -> Result<bool> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    pipeline.set_state(gst::State::Playing).map_err(|_| first_error(&bus))?;
    let mut stopped = false;
    loop {
        if interrupt::asked() && !stopped {
            let Some(stop) = stop else { bail!("interrupted") };
            stopped = true;
            stop();
        }
        let message = bus.timed_pop(200 * gst::ClockTime::MSECOND);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => return Ok(stopped),
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
    let refused = error.details().is_some_and(|details| details.name() == REFUSED);
    let detail = error.debug().map(|debug| debug.lines().next_back().unwrap_or_default().to_owned());
    let text = error.error().to_string();
    let text = match detail.filter(|detail| !text.contains(detail.as_str())) {
        Some(detail) => format!("{source}: {text} ({detail})"),
        None => format!("{source}: {text}"),
    };
    if refused { exit::refused(text) } else { anyhow::Error::msg(text) }
}
