// SPDX-License-Identifier: MIT OR Apache-2.0
//! Between what comes in and what goes out: frames find their time, and where none come in time the last one is
//! shown again, so that the output never stops.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::video_meta::VideoMeta;

use super::timeline::{Placed, Timeline};

/// Duration of a frame that does not tell, in nanoseconds.
pub const FRAME: i64 = 40_000_000;

/// A longer hole is none that is filled afterwards.
const MOST_HOLE: i64 = 5_000_000_000;

/// What is counted here.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Frames that were decoded.
    pub decoded: Arc<AtomicU64>,
    /// Times that the last frame was shown again.
    pub filled: Arc<AtomicU64>,
    /// Frames that came after their time had been filled.
    pub discarded: Arc<AtomicU64>,
    /// Jumps of the source's clock.
    pub jumps: Arc<AtomicU64>,
}

/// The line: video is stream 0, audio the ones after it.
pub struct Line {
    sources: Vec<gst_app::AppSrc>,
    inner: Mutex<Inner>,
    /// Held from where a frame of video finds its time until it is handed on.
    order: Mutex<()>,
    /// Of a live source: the clock that both sides go by, and its time at zero.
    clock: Option<(gst::Clock, gst::ClockTime)>,
    counts: Counts,
    ended: AtomicBool,
}

struct Inner {
    timeline: Timeline,
    last: Option<(gst::Sample, i64)>,
    seen: Instant,
    /// Which field was first in the last frame that had two.
    top_first: bool,
}

impl Line {
    /// A line into these.
    pub fn new(
        sources: Vec<gst_app::AppSrc>,
        clock: Option<(gst::Clock, gst::ClockTime)>,
        counts: Counts,
    ) -> Self {
        let timeline = Timeline::new(sources.len());
        let inner = Inner { timeline, last: None, seen: Instant::now(), top_first: true };
        Self {
            sources,
            inner: Mutex::new(inner),
            order: Mutex::default(),
            clock,
            counts,
            ended: AtomicBool::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time of the line, if it is live.
    fn now(&self) -> Option<i64> {
        self.clock.as_ref().map(|(clock, zero)| clock.time().saturating_sub(*zero).nseconds() as i64)
    }

    /// Takes a sample of a stream; waits where the output may be waited for.
    pub fn take(&self, stream: usize, sample: &gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
        if self.ended.load(Ordering::SeqCst) {
            return Err(gst::FlowError::Eos);
        }
        let Some(source) = self.sources.get(stream) else { return Ok(gst::FlowSuccess::Ok) };
        let Some(buffer) = sample.buffer_owned() else { return Ok(gst::FlowSuccess::Ok) };
        let segment = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
        let time = segment.and_then(|segment| running(segment, buffer.pts()));
        let video = stream == 0;
        let duration = buffer.duration().map_or(if video { FRAME } else { 0 }, |d| d.nseconds() as i64);
        let _order = video.then(|| self.order.lock().unwrap_or_else(PoisonError::into_inner));
        let mut inner = self.lock();
        if video {
            self.counts.decoded.fetch_add(1, Ordering::Relaxed);
            inner.seen = Instant::now();
        }
        let before = inner.timeline.next(stream);
        let placed = inner.timeline.place(stream, time, duration, self.now());
        self.counts.jumps.store(inner.timeline.jumps(), Ordering::Relaxed);
        let Placed::At(at) = placed else {
            if video {
                self.counts.discarded.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(gst::FlowSuccess::Ok);
        };
        if video && self.clock.is_some() {
            let hole = before.filter(|next| at - next <= MOST_HOLE);
            for again in hole.map(|next| self.fillers(&inner, next, at - duration / 2)).unwrap_or_default() {
                // The frame itself tells why no more is taken.
                let _ = source.push_sample(&again);
            }
        }
        let caps = sample
            .caps_owned()
            .map(|caps| if video { settled(caps, &buffer, &mut inner.top_first) } else { caps });
        let sample = stamped(buffer, caps, at);
        if video {
            inner.last = Some((sample.clone(), duration));
        }
        drop(inner);
        source.push_sample(&sample)
    }

    /// The last frame again, from `next` on as long as one begins before `until`.
    fn fillers(&self, inner: &Inner, next: i64, until: i64) -> Vec<gst::Sample> {
        let Some((sample, duration)) = inner.last.as_ref().filter(|(_, duration)| *duration > 0) else {
            return Vec::new();
        };
        let times = (0..).map(|index| next + index * duration).take_while(|at| *at < until);
        let again =
            times.filter_map(|at| Some(stamped(bare(sample.buffer_owned()?), sample.caps_owned(), at)));
        let again: Vec<_> = again.collect();
        self.counts.filled.fetch_add(again.len() as u64, Ordering::Relaxed);
        again
    }

    /// Shows the last frame again as often as it takes, if none has come for `patience` after its time.
    pub fn keep_alive(&self, patience: Duration) {
        let Some(now) = self.now() else { return };
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.lock();
        let until = now - patience.as_nanos() as i64;
        let Some(next) = inner.timeline.next(0).filter(|_| !self.ended.load(Ordering::SeqCst)) else {
            return;
        };
        let again = self.fillers(&inner, next, until);
        let Some((_, duration)) = &inner.last else { return };
        let duration = *duration;
        for _ in &again {
            inner.timeline.fill(0, duration);
        }
        drop(inner);
        for sample in &again {
            // The output tells by itself why it takes no more.
            let _ = self.sources[0].push_sample(sample);
        }
    }

    /// How long no frame has come.
    pub fn silent(&self) -> Duration {
        self.lock().seen.elapsed()
    }

    /// Ends every stream; what has been taken goes out.
    pub fn end(&self) {
        if !self.ended.swap(true, Ordering::SeqCst) {
            for source in &self.sources {
                // A source that has failed takes no end.
                let _ = source.end_of_stream();
            }
        }
    }
}

/// Where this is in running time, in nanoseconds; before its begin it is negative.
pub fn running(segment: &gst::FormattedSegment<gst::ClockTime>, time: Option<gst::ClockTime>) -> Option<i64> {
    Some(match segment.to_running_time_full(time?)? {
        gst::Signed::Positive(time) => time.nseconds() as i64,
        gst::Signed::Negative(time) => -(time.nseconds() as i64),
    })
}

/// The caps that this sample of video has in the line.
pub fn video_caps(sample: &gst::Sample) -> Option<gst::Caps> {
    Some(settled(sample.caps_owned()?, sample.buffer()?, &mut true))
}

/// The buffer at this time of the line.
fn stamped(mut buffer: gst::Buffer, caps: Option<gst::Caps>, at: i64) -> gst::Sample {
    let raw = buffer.make_mut();
    raw.set_pts(gst::ClockTime::from_nseconds(at.max(0) as u64));
    raw.set_dts(gst::ClockTime::NONE);
    let sample = gst::Sample::builder().buffer(&buffer);
    match caps {
        Some(caps) => sample.caps(&caps).build(),
        None => sample.build(),
    }
}

/// Where a decoder leaves it to each frame, which field is first: caps that say so, which encoders go by.
fn settled(mut caps: gst::Caps, buffer: &gst::BufferRef, top_first: &mut bool) -> gst::Caps {
    let mixed = |s: &gst::StructureRef| s.get::<&str>("interlace-mode").is_ok_and(|mode| mode == "mixed");
    if caps.structure(0).is_some_and(mixed) {
        let flags = buffer.video_flags();
        // A whole frame has no first field: it goes by the one before.
        if flags.contains(gst_video::VideoBufferFlags::INTERLACED) {
            *top_first = flags.contains(gst_video::VideoBufferFlags::TFF);
        }
        let order = if *top_first { "top-field-first" } else { "bottom-field-first" };
        let caps = caps.make_mut();
        caps.set("interlace-mode", "interleaved");
        caps.set("field-order", order);
    }
    caps
}

/// The picture alone: what rode on the frame has been shown, and is not shown twice.
fn bare(mut buffer: gst::Buffer) -> gst::Buffer {
    buffer.make_mut().foreach_meta_mut(|mut meta| {
        let keep = meta.downcast_ref::<VideoMeta>().is_some();
        std::ops::ControlFlow::Continue(if keep {
            gst::buffer::BufferMetaForeachAction::Keep
        } else {
            gst::buffer::BufferMetaForeachAction::Remove
        })
    });
    buffer
}
