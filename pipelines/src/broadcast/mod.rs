// SPDX-License-Identifier: MIT OR Apache-2.0
//! A transport stream restored on its way. The source, the output and the connection to its peer are pipelines of
//! their own, so that none stops because another fails.

mod ancillary;
mod bits;
mod coding;
mod delivery;
mod intake;
mod line;
mod mpeg2;
mod nal;
mod patience;
mod place;
mod playout;
mod source;
pub mod streams;
mod timecodes;
mod timeline;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use gst::prelude::*;
use serde_json::json;

use crate::exit::refused;
use crate::log::{Event, Log};
use crate::metrics::{Exporter, Extra};
use crate::output::{self, Part};
use crate::progress::{self, Watch};
use crate::restore;
use crate::{Args, Done, Reach, interrupt};
use delivery::Delivery;
use intake::Gate;
use line::Line;
use patience::Limit;
use place::Place;
use playout::{Plan, Playout};
use source::Source;
use streams::StreamJob;

/// How often everything is looked after.
const LOOK: Duration = Duration::from_millis(10);

/// What is counted besides what the element counts.
#[derive(Clone, Default)]
struct Counts {
    line: line::Counts,
    delivery: delivery::Counts,
    /// 1 while frames come.
    connected: Arc<AtomicU64>,
    reconnects: Arc<AtomicU64>,
}

impl Counts {
    /// Name, help, whether it only grows, the number.
    fn all(&self) -> [(&'static str, &'static str, bool, &Arc<AtomicU64>); 9] {
        let (line, delivery) = (&self.line, &self.delivery);
        [
            ("input_connected", "1 while frames come from the source", false, &self.connected),
            ("input_reconnects", "Times that the source was opened anew", true, &self.reconnects),
            ("frames_decoded", "Frames that were decoded", true, &line.decoded),
            (
                "frames_filled",
                "Times that the last frame was shown again for want of the next",
                true,
                &line.filled,
            ),
            ("frames_discarded", "Frames whose time had been filled when they came", true, &line.discarded),
            ("time_jumps", "Jumps of the source's clock that were closed", true, &line.jumps),
            ("output_connected", "1 while the output's peer is there", false, &delivery.connected),
            (
                "output_reconnects",
                "Connections to the output's peer after the first",
                true,
                &delivery.reconnects,
            ),
            ("output_undelivered", "Buffers of packets that nobody took", true, &delivery.undelivered),
        ]
    }

    fn export(&self, metrics: &Exporter) {
        metrics.add(self.all().map(|(name, help, counter, value)| Extra {
            name,
            help,
            counter,
            value: value.clone(),
        }));
    }

    fn json(&self, mut counted: serde_json::Value) -> serde_json::Value {
        for (name, _, _, value) in self.all() {
            counted[name.replace('_', "-")] = value.load(Ordering::Relaxed).into();
        }
        counted
    }
}

/// Runs the job until the source ends, or a signal comes.
pub fn run(args: &Args, job: &Arc<StreamJob>, log: &Log, reach: &Reach) -> Result<Done> {
    let (input, target) = (Place::parse(args.input())?, Place::parse(args.output())?);
    if let Place::File(to) = &target {
        job.ending(to)?;
    }
    let encoder = job.encoder(args.encoder.as_deref())?;
    let limit = Limit(args.wait);
    let live = input.is_live();
    let part = match (&input, &target) {
        (Place::File(from), _) if !from.is_file() => bail!("{} is no file", from.display()),
        (Place::File(from), Place::File(to)) if same(from, to) => {
            return Err(refused(format!("IN and OUT are the same; {} would be lost", from.display())));
        }
        (_, Place::File(to)) => {
            output::free(&[to], args.force)?;
            Some(Part::claim(to, args.force)?)
        }
        _ => None,
    };
    let mut properties = job.properties.clone();
    if live {
        properties.extend(job.on_air.clone());
    }
    let restore = restore::element(args, &properties)?;
    reach.watch(&restore);
    let counts = Counts::default();
    counts.export(&reach.metrics);
    let delivery = target.sink().map(|sink| Delivery::start(sink, target.calls(), counts.delivery.clone()));
    let end = match (&delivery, &part) {
        (Some(delivery), _) => delivery.sink().upcast(),
        (None, Some(part)) => {
            gst::ElementFactory::make("filesink").property("location", part.path()).build()?
        }
        (None, None) => bail!("{target} is neither a file nor a peer"),
    };
    let clock = live.then(|| {
        let clock = gst::SystemClock::obtain();
        let zero = clock.time();
        (clock, zero)
    });
    let air = Air {
        job,
        source: input.source(job.live.reorder_ms),
        input,
        target,
        limit,
        log,
        clock,
        counts,
        gate: Arc::default(),
        delivery,
    };
    let started = Instant::now();
    let stopped = air.run(encoder, &restore, end)?;
    let stats: gst::Structure = restore.property("stats");
    let count = |name: &str| stats.get::<u64>(name).unwrap_or_default();
    if count("frames-out") == 0 {
        bail!("{}: no frame of video was finished", air.input);
    }
    if count("frames-in") != count("frames-out") + count("dropped") {
        bail!("{}: {} frames went in, {} came out", air.input, count("frames-in"), count("frames-out"));
    }
    if let Some(part) = part {
        part.publish()?;
    }
    let early = if stopped { "interrupted; " } else { "" };
    println!("{}: {early}{}", air.target, restore::summary(&restore, started.elapsed()));
    Ok(Done { stopped, counted: air.counts.json(restore::counted(&restore)) })
}

fn same(from: &std::path::Path, to: &std::path::Path) -> bool {
    matches!((from.canonicalize(), to.canonicalize()), (Ok(from), Ok(to)) if from == to)
}

/// A job on its way.
struct Air<'a> {
    job: &'a Arc<StreamJob>,
    source: String,
    input: Place,
    target: Place,
    limit: Limit,
    log: &'a Log,
    clock: Option<(gst::Clock, gst::ClockTime)>,
    counts: Counts,
    gate: Arc<Gate>,
    delivery: Option<Delivery>,
}

impl Air<'_> {
    /// Whether a signal ended it.
    fn run(&self, encoder: &streams::Encoder, restore: &gst::Element, end: gst::Element) -> Result<bool> {
        let mut source = Source::new(self);
        let found = loop {
            if interrupt::asked() {
                bail!("interrupted before the first frame came");
            }
            if source.look(None)? {
                bail!("{}: there is no video in it that can be decoded", self.input);
            }
            self.peer()?;
            let found = self.gate.found();
            if found.video.is_some() && found.complete {
                break found;
            }
            if self.clock.is_none() && found.complete && (!found.promised || found.ended) {
                bail!("{}: there is no video in it that can be decoded", self.input);
            }
            std::thread::sleep(LOOK);
        };
        // What can wait, waits for whoever takes it.
        while self.clock.is_none() && self.delivery.as_ref().is_some_and(|delivery| delivery.gone().is_some())
        {
            if interrupt::asked() {
                bail!("interrupted before {} was there", self.target);
            }
            self.peer()?;
            std::thread::sleep(LOOK);
        }
        for name in &found.left_out {
            self.warn(&format!("{}: a stream of {name} is not carried", self.input));
        }
        let plan = Plan { job: self.job, encoder, found: &found, live: self.clock.is_some(), end };
        let playout = Playout::build(plan, restore)?;
        if let Some((clock, zero)) = &self.clock {
            playout.pipeline.use_clock(Some(clock));
            playout.pipeline.set_start_time(gst::ClockTime::NONE);
            playout.pipeline.set_base_time(*zero);
        }
        let line = Line::new(playout.sources.clone(), self.clock.clone(), self.counts.line.clone());
        let line = Arc::new(line);
        let watch = Watch::new(&playout.pipeline, restore, self.log)?;
        let result = self.go_on(&mut source, &playout, &line, &watch);
        watch.finish();
        self.gate.close();
        drop(source);
        // Only a pipeline that cannot be stopped fails here, and the first error tells more.
        let _ = playout.pipeline.set_state(gst::State::Null);
        result
    }

    fn go_on(
        &self,
        source: &mut Source<'_>,
        playout: &Playout,
        line: &Arc<Line>,
        watch: &Watch<'_>,
    ) -> Result<bool> {
        let bus = playout.pipeline.bus().expect("a pipeline has a bus");
        playout.pipeline.set_state(gst::State::Playing).map_err(|_| progress::first_error(&bus))?;
        self.gate.open(line.clone());
        let (mut stopped, mut told) = (false, false);
        loop {
            if interrupt::asked() && !stopped {
                stopped = true;
                eprintln!("ending in order; once more ends at once");
                line.end();
            }
            let message = bus.timed_pop(gst::ClockTime::from_nseconds(LOOK.as_nanos() as u64));
            match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Eos(_)) => return Ok(stopped),
                Some(gst::MessageView::Error(_)) => {
                    return Err(message
                        .as_ref()
                        .map_or_else(|| anyhow::anyhow!("the output stops"), progress::told));
                }
                Some(gst::MessageView::Latency(_)) => drop(playout.pipeline.recalculate_latency()),
                Some(gst::MessageView::AsyncDone(_)) | None if !told => told = self.tell_latency(playout),
                _ => {}
            }
            watch.see(message.as_ref());
            line.keep_alive(self.job.live.repeat_after());
            if !stopped && source.look(Some(line))? {
                line.end();
            }
            if !stopped {
                self.peer()?;
            }
        }
    }

    /// Says what latency is held, once it is known.
    fn tell_latency(&self, playout: &Playout) -> bool {
        let mut query = gst::query::Latency::new();
        let known = playout.end.static_pad("sink").is_some_and(|pad| pad.peer_query(&mut query));
        let (live, least, _) = query.result();
        if known && live {
            let ms = least.mseconds();
            eprintln!("latency: {ms} ms from a frame's arrival to its packets");
            self.log.write(Event::News, json!({"latency_ms": ms}));
        }
        known || self.clock.is_none()
    }

    /// Whether the peer has been gone for too long.
    fn peer(&self) -> Result<()> {
        let gone = self.delivery.as_ref().and_then(Delivery::gone);
        match gone {
            Some((since, reason)) if self.limit.is_over(since.elapsed()) => {
                bail!("{}: nobody takes it for {} s: {reason}", self.target, self.limit.0)
            }
            _ => Ok(()),
        }
    }

    fn news(&self, text: &str) {
        eprintln!("{text}");
        self.log.write(Event::News, json!({"text": text}));
    }

    fn warn(&self, text: &str) {
        eprintln!("warning: {text}");
        self.log.write(Event::Warning, json!({"text": text}));
    }
}
