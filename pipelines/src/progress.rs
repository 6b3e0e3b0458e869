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
use crate::{exit, interrupt, restore};

/// Time between two progress lines of the log.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// Name of the messages of `i2sbrestore` about its engines.
const ENGINE: &str = "i2sb-engine";
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

/// The bar and the log's progress of one restoring element.
pub struct Watch<'a> {
    bar: ProgressBar,
    log: &'a Log,
    pipeline: gst::Pipeline,
    taken: Meter,
    out: Meter,
    logged: Cell<Instant>,
}

impl<'a> Watch<'a> {
    /// Counts from now on what goes into `restore` and comes out.
    pub fn new(pipeline: &gst::Pipeline, restore: &gst::Element, log: &'a Log) -> Result<Self> {
        let (taken, out) = (Meter::default(), Meter::default());
        taken.watch(&restore.static_pad("sink").context("i2sbrestore has no sink pad")?);
        out.watch(&restore.static_pad("src").context("i2sbrestore has no source pad")?);
        let (bar, pipeline) = (bar(None), pipeline.clone());
        Ok(Self { bar, log, pipeline, taken, out, logged: Cell::new(Instant::now()) })
    }

    /// Frames that went in.
    pub fn taken(&self) -> u64 {
        self.taken.frames()
    }

    /// Frames that came out.
    pub fn frames(&self) -> u64 {
        self.out.frames()
    }

    /// Shows a message of the bus, and how far things are.
    pub fn see(&self, message: Option<&gst::Message>) {
        let (bar, out) = (&self.bar, &self.out);
        match message.map(|message| message.view()) {
            Some(gst::MessageView::Warning(warning)) => {
                let text = warning.error().to_string();
                bar.suspend(|| eprintln!("warning: {text}"));
                let more = json!({"text": text, "detail": warning.debug().map(String::from)});
                self.log.write(Event::Warning, more);
            }
            Some(gst::MessageView::Progress(progress)) => bar.set_message(progress.get().2.to_string()),
            Some(gst::MessageView::Element(element)) => {
                if let Some(news) = element.structure().filter(|news| news.name() == ENGINE) {
                    self.log.write(Event::News, json!({"engine": restore::fields(news)}));
                }
            }
            _ => {}
        }
        if bar.length().is_none()
            && let Some(length) = self.pipeline.query_duration::<gst::ClockTime>()
        {
            bar.set_length(length.mseconds());
        }
        let speed = out.frames() as f64 / bar.elapsed().as_secs_f64().max(1e-3);
        if out.frames() > 0 {
            bar.set_position(out.milliseconds());
            bar.set_message(format!("{} frames, {speed:.2} frames/s", out.frames()));
        }
        if self.logged.get().elapsed() >= LOG_EVERY {
            self.logged.set(Instant::now());
            let seconds = |ms: u64| ms as f64 / 1e3;
            let now = json!({
                "taken": self.taken.frames(),
                "frames": out.frames(),
                "frames_per_second": speed,
                "position_s": seconds(out.milliseconds()),
                "length_s": bar.length().map(seconds),
                "left_s": bar.length().map(|_| bar.eta().as_secs()),
            });
            self.log.write(Event::Progress, now);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Runs a pipeline to its end, or to where `stop` ends it in order after a signal, with a bar and a log; an error
/// on the bus is the result, and ends all. Whether it was stopped.
pub fn run(pipeline: &gst::Pipeline, watch: &Watch<'_>, stop: &dyn Fn()) -> Result<bool> {
    let result = wait(pipeline, |message| watch.see(message), Some(stop));
    watch.finish();
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
            Some(gst::MessageView::Error(_)) => return Err(message.as_ref().map_or_else(silent, told)),
            Some(gst::MessageView::Latency(_)) => drop(pipeline.recalculate_latency()),
            _ => see(message.as_ref()),
        }
    }
}

/// What kept a pipeline from starting.
pub fn first_error(bus: &gst::Bus) -> anyhow::Error {
    bus.pop_filtered(&[gst::MessageType::Error]).as_ref().map_or_else(silent, told)
}

fn silent() -> anyhow::Error {
    anyhow::anyhow!("the pipeline does not start")
}

/// The text of an error message; refused, if `strict` refused.
pub fn told(message: &gst::Message) -> anyhow::Error {
    let gst::MessageView::Error(error) = message.view() else { return silent() };
    let source = error.src().map(|source| source.name().to_string()).unwrap_or_default();
    let refused = error.details().is_some_and(|details| details.name() == REFUSED);
    let detail = error.debug().map(|debug| debug.lines().next_back().unwrap_or_default().to_owned());
    let text = error.error().to_string();
    // A refusal says all itself.
    let text = match detail.filter(|detail| !refused && !text.contains(detail.as_str())) {
        Some(detail) => format!("{source}: {text} ({detail})"),
        None => format!("{source}: {text}"),
    };
    if refused { exit::refused(text) } else { anyhow::Error::msg(text) }
}
