// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes in: a source, taken apart and decoded, until it ends, fails or falls silent; then it is opened anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gst::prelude::*;

use super::line::{self, Line};
use super::streams::StreamJob;
use super::timecodes;
use super::timeline::{Placed, Timeline};

/// Data that may wait on its way to a decoder, in bytes.
const WAITING_BYTES: u32 = 64 << 20;
/// Streams that keep their places among each other over a jump of the clock; further ones go alone.
const MOST_STREAMS: usize = 64;
/// How long what is left of a stream that has gone may take.
const REST: Duration = Duration::from_secs(5);
/// How long a sample waits for the output to be built before it looks whether that will ever be.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is found in a source: what the output is built from.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Caps of the decoded video, once a frame has been seen.
    pub video: Option<gst::Caps>,
    /// Caps of what is carried, in order.
    pub carried: Vec<gst::Caps>,
    /// Whether all streams are known.
    pub complete: bool,
    /// Whether one of them is video that a decoder takes.
    pub promised: bool,
    /// Whether that video has come to its end.
    pub ended: bool,
    /// What is in the source and is not carried.
    pub left_out: Vec<String>,
}

/// Where samples go, once it is there; shared by one intake after the other.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    found: Found,
    line: Option<Arc<Line>>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been found so far.
    pub fn found(&self) -> Found {
        self.lock().found.clone()
    }

    /// From now on samples go here.
    pub fn open(&self, line: Arc<Line>) {
        self.lock().line = Some(line);
        self.changed.notify_all();
    }

    /// No sample goes anywhere any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    fn is_open(&self) -> bool {
        self.lock().line.is_some()
    }

    /// Hands a sample on, as soon as there is a line.
    fn pass(
        &self,
        stop: &AtomicBool,
        stream: usize,
        sample: &gst::Sample,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = self.lock();
        if stream == 0 && state.line.is_none() {
            state.found.video = line::video_caps(sample);
        }
        loop {
            if self.closed.load(Ordering::SeqCst) || stop.load(Ordering::SeqCst) {
                return Err(gst::FlowError::Flushing);
            }
            if let Some(line) = state.line.clone() {
                drop(state);
                return line.take(stream, sample);
            }
            let waited = self.changed.wait_timeout(state, PATIENCE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// How an intake is.
#[derive(Debug, PartialEq)]
pub enum Health {
    /// It goes on.
    Fine,
    /// It has come to its end.
    Ended,
    /// It has failed, for this reason.
    Failed(String),
}

/// A source that is being read.
pub struct Intake {
    pipeline: gst::Pipeline,
    stop: Arc<AtomicBool>,
    /// When it was opened.
    pub since: Instant,
}

impl Intake {
    /// Opens the source; a live one goes by this clock, whose time at zero is given too.
    pub fn open(
        source: &str,
        job: &Arc<StreamJob>,
        gate: &Arc<Gate>,
        clock: Option<&(gst::Clock, gst::ClockTime)>,
    ) -> Result<Self> {
        let description = format!("{source} ! tsdemux name=demux");
        let pipeline = gst::parse::launch(&description).with_context(|| description.clone())?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().ok().context("a pipeline")?;
        let demux = pipeline.by_name("demux").context("tsdemux")?;
        if let Some((clock, zero)) = clock {
            demux.set_property("latency", i32::try_from(job.live.input_ms / 2).unwrap_or(i32::MAX));
            pipeline.use_clock(Some(clock));
            pipeline.set_start_time(gst::ClockTime::NONE);
            pipeline.set_base_time(*zero);
        }
        let stop = Arc::new(AtomicBool::default());
        let streams = Streams {
            pipeline: pipeline.downgrade(),
            job: job.clone(),
            gate: gate.clone(),
            stop: stop.clone(),
            known: Mutex::default(),
            clock: clock.cloned(),
            timeline: Arc::new(Mutex::new(Timeline::coded(MOST_STREAMS))),
        };
        let streams = Arc::new(streams);
        let added = streams.clone();
        demux.connect_pad_added(move |demux, pad| {
            if let Err(error) = added.add(pad) {
                gst::element_error!(demux, gst::StreamError::Failed, ("{error:#}"), ["{error:#}"]);
            }
        });
        let removed = streams.clone();
        demux.connect_pad_removed(move |_, pad| removed.remove(pad));
        demux.connect_no_more_pads(move |_| {
            streams.known.lock().unwrap_or_else(PoisonError::into_inner).complete = true;
            let mut state = streams.gate.lock();
            if state.line.is_none() {
                state.found.complete = true;
            }
        });
        if !gate.is_open() {
            gate.lock().found = Found::default();
        }
        let intake = Self { pipeline, stop, since: Instant::now() };
        if intake.pipeline.set_state(gst::State::Playing).is_err() {
            if let Health::Failed(reason) = intake.health() {
                anyhow::bail!(reason);
            }
            anyhow::bail!("{source} does not start");
        }
        Ok(intake)
    }

    /// Reads its bus.
    pub fn health(&self) -> Health {
        let Some(bus) = self.pipeline.bus() else { return Health::Fine };
        while let Some(message) = bus.pop() {
            match message.view() {
                gst::MessageView::Eos(_) => return Health::Ended,
                gst::MessageView::Error(_) => {
                    return Health::Failed(crate::progress::told(&message).to_string());
                }
                gst::MessageView::Latency(_) => drop(self.pipeline.recalculate_latency()),
                _ => {}
            }
        }
        Health::Fine
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Nothing is left to be done about one that does not stop.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The streams of one intake.
struct Streams {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    job: Arc<StreamJob>,
    gate: Arc<Gate>,
    stop: Arc<AtomicBool>,
    known: Mutex<Known>,
    clock: Option<(gst::Clock, gst::ClockTime)>,
    timeline: Arc<Mutex<Timeline>>,
}

#[derive(Default)]
struct Known {
    video: bool,
    carried: usize,
    /// Whether a stream that is found now belongs to another programme than these.
    complete: bool,
    branches: Vec<(String, [gst::Element; 3])>,
}

impl Streams {
    fn add(&self, pad: &gst::Pad) -> Result<()> {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut known.complete) {
            (known.video, known.carried) = (false, 0);
        }
        if let Some(decoder) = self.job.decoder(&caps).filter(|_| !known.video) {
            known.video = true;
            self.gate.lock().found.promised = true;
            return self.branch(&mut known, pad, decoder, 0);
        }
        let mut state = self.gate.lock();
        if self.job.carrier(&caps).is_none() {
            state.found.left_out.push(caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default());
            drop(state);
            return self.branch(&mut known, pad, "identity", usize::MAX);
        }
        known.carried += 1;
        if state.line.is_none() {
            state.found.carried.push(caps);
        }
        drop(state);
        let stream = known.carried;
        self.branch(&mut known, pad, "identity", stream)
    }

    /// A stream is gone; what it has left is decoded, then its elements go too.
    fn remove(&self, pad: &gst::Pad) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = known.branches.iter().position(|(name, _)| *name == pad.name()) else { return };
        let (_, elements) = known.branches.swap_remove(at);
        let pipeline = self.pipeline.clone();
        std::thread::spawn(move || {
            std::thread::sleep(REST);
            let Some(pipeline) = pipeline.upgrade() else { return };
            for element in &elements {
                // Whatever does not stop or has gone already is gone.
                let _ = element.set_state(gst::State::Null);
                let _ = pipeline.remove(element);
            }
        });
    }

    /// Has the times of a stream go on where the source's clock jumps: decoders would hold them instead.
    fn close_jumps(&self, pad: &gst::Pad, stream: usize) {
        let (timeline, clock, stream) =
            (self.timeline.clone(), self.clock.clone(), stream.min(MOST_STREAMS - 1));
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let segment = pad.sticky_event::<gst::event::Segment>(0);
            let segment = segment.as_ref().and_then(|event| event.segment().downcast_ref::<gst::ClockTime>());
            let Some(buffer) = info.buffer_mut() else { return gst::PadProbeReturn::Ok };
            let time = segment.and_then(|segment| line::running(segment, buffer.pts()));
            let Some(time) = time else { return gst::PadProbeReturn::Ok };
            let now =
                clock.as_ref().map(|(clock, zero)| clock.time().saturating_sub(*zero).nseconds() as i64);
            let guess = if stream == 0 { line::FRAME } else { 0 };
            let duration = buffer.duration().map_or(guess, |duration| duration.nseconds() as i64);
            let placed = {
                let mut timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
                timeline.place(stream, Some(time), duration, now)
            };
            if let Placed::At(at) = placed
                && at != time
            {
                let moved = |old: gst::ClockTime| {
                    gst::ClockTime::from_nseconds((old.nseconds() as i64 + at - time).max(0) as u64)
                };
                let buffer = buffer.make_mut();
                buffer.set_pts(buffer.pts().map(moved));
                buffer.set_dts(buffer.dts().map(moved));
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// `queue ! DESCRIPTION ! appsink` for the stream of this number.
    fn branch(&self, known: &mut Known, pad: &gst::Pad, description: &str, stream: usize) -> Result<()> {
        let pipeline = self.pipeline.upgrade().context("the pipeline is gone")?;
        let queue = gst::ElementFactory::make("queue")
            .property("max-size-bytes", WAITING_BYTES)
            .property("max-size-buffers", 0u32)
            .property("max-size-time", 0u64)
            .build()?;
        let middle = gst::parse::bin_from_description(description, true).context(description.to_owned())?;
        timecodes::watch(&middle);
        let (gate, stop) = (self.gate.clone(), self.stop.clone());
        let pass = move |sink: &gst_app::AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            gate.pass(&stop, stream, &sample)
        };
        let gate = self.gate.clone();
        let end = move |_: &gst_app::AppSink| {
            if stream == 0 {
                gate.lock().found.ended = true;
            }
        };
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(pass).eos(end).build();
        // One sink must not wait for the first buffer of another.
        let sink = gst_app::AppSink::builder().sync(false).async_(false).callbacks(callbacks).build();
        sink.set_property("max-buffers", 1u32);
        let all = [&queue, middle.upcast_ref(), sink.upcast_ref()];
        pipeline.add_many(all)?;
        gst::Element::link_many(all)?;
        for element in all.iter().rev() {
            element.sync_state_with_parent()?;
        }
        self.close_jumps(pad, stream);
        pad.link(&queue.static_pad("sink").context("queue has no sink pad")?)?;
        known.branches.push((pad.name().to_string(), all.map(Clone::clone)));
        Ok(())
    }
}
