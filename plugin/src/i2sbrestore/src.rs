// SPDX-License-Identifier: MIT OR Apache-2.0
//! The source pad: its task takes what is finished, adds the restoration and pushes.

use std::sync::Arc;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::compare::compose;
use super::engines::Passed;
use super::imp::{CAT, I2sbRestore, lock};
use super::masks::restore_kept;
use super::provenance::Status;
use super::settings::{Compare, LateFrames};
use super::stream::{Held, Other, Outcome, Work};
use crate::engine::Image;
use crate::flow::queue::Out;
use i2sb::pixel::add_difference;

/// Late frames, and no other, after which the user is told.
const HOPELESS: u64 = 25;

impl I2sbRestore {
    /// The source pad starts or stops its task.
    pub fn src_activate(
        &self,
        pad: &gst::Pad,
        mode: gst::PadMode,
        active: bool,
    ) -> Result<(), gst::LoggableError> {
        if mode != gst::PadMode::Push {
            return Err(gst::loggable_error!(CAT, "only push mode is possible"));
        }
        if active {
            self.restart();
            return Ok(());
        }
        drop(self.stream.stop());
        pad.stop_task().map_err(|error| gst::loggable_error!(CAT, "the task does not stop: {error}"))
    }

    /// Lets data flow and the task run.
    pub fn restart(&self) {
        self.stream.restart();
        let element = self.obj().downgrade();
        let started = self.srcpad.start_task(move || {
            if let Some(element) = element.upgrade() {
                element.imp().turn();
            }
        });
        if let Err(error) = started {
            gst::element_imp_error!(
                self,
                gst::CoreError::Thread,
                ("The pad's thread cannot be started"),
                ["start_task: {error}"]
            );
        }
    }

    /// One turn of the task: one thing out of the queue.
    fn turn(&self) {
        let mut state = self.stream.lock();
        let out = loop {
            match state.flow {
                Ok(()) => {}
                // Somebody may be linked at any time: see `src_event`.
                Err(gst::FlowError::NotLinked) => {
                    state = self.stream.wait(state, None);
                    continue;
                }
                Err(_) => {
                    drop(state);
                    let _ = self.srcpad.pause_task();
                    return;
                }
            }
            let dispatched = self.stream.dispatch(&mut state);
            if !dispatched.refused.is_empty() {
                drop(state);
                drop(dispatched);
                state = self.stream.lock();
                continue;
            }
            if let Some(out) = state.queue.pop() {
                break out;
            }
            let now = self.stream.now();
            let awaited = state.queue.awaited().and_then(|(ticket, held)| Some((ticket, held.due?)));
            if let Some((ticket, _)) = awaited.filter(|(_, due)| *due <= now) {
                // Its time is up: what the engine makes of it later is refused.
                let drop = state.late_frames == LateFrames::Drop;
                state.engines.late(now);
                let _ = state.queue.finish(ticket, Outcome::Late { drop });
                continue;
            }
            let deadline = awaited.map(|(_, due)| due).into_iter().chain(dispatched.deadline).min();
            state = self.stream.wait(state, deadline);
        };
        let stale = std::mem::take(&mut state.latency_stale);
        if stale {
            state.times.announce();
        }
        let news = std::mem::take(&mut state.engines.news);
        drop(state);
        self.tell(news);
        self.stream.ring();
        if stale {
            gst::debug!(CAT, imp = self, "latency changed");
            let _ = self.obj().post_message(gst::message::Latency::builder().src(&*self.obj()).build());
        }
        match out {
            Out::Frame(held, outcome) => match self.frame(held, outcome) {
                Ok(()) => {}
                Err(gst::FlowError::Eos) => {
                    gst::debug!(CAT, imp = self, "downstream has enough");
                    self.stream.sate();
                }
                Err(error) => {
                    gst::debug!(CAT, imp = self, "flow ends: {error}");
                    self.stream.fail(error).into_iter().for_each(|dropped| self.keep_sticky(dropped));
                    let eos = self.stream.lock().eos;
                    if eos && unexplained(error) {
                        self.post_flow_error(error);
                    }
                }
            },
            Out::Other(Other::Event(event)) => {
                let event = lock(&self.trail).event(event);
                gst::debug!(CAT, imp = self, "pushing {event:?}");
                self.residual_event(&event);
                self.srcpad.push_event(event);
            }
            Out::Other(Other::Query(pending)) => pending.answer(|query| self.serialized(query)),
        }
    }

    /// Sends one frame out.
    fn frame(&self, mut held: Held, outcome: Outcome) -> Result<(), gst::FlowError> {
        enum Count {
            Restored,
            Bypassed,
            Late,
            Failed,
        }
        let before = self.wants_evidence().then(|| held.buffer.clone());
        let maker = self.maker(held.work.as_ref());
        let mut status = None;
        let count = match outcome {
            Outcome::Passed(Passed::Asked) => Count::Bypassed,
            Outcome::Passed(Passed::Overload) => Count::Late,
            Outcome::Passed(Passed::Outage) => Count::Failed,
            Outcome::Late { drop } => {
                self.tell_late(&held, drop);
                if drop {
                    return Ok(());
                }
                Count::Late
            }
            Outcome::Failed { error, first } => {
                if !self.failed(&error, first) {
                    return Err(gst::FlowError::Error);
                }
                Count::Failed
            }
            Outcome::Restored(images, trouble) => {
                if let Some(error) = trouble
                    && !self.failed(&error, true)
                {
                    return Err(gst::FlowError::Error);
                }
                status = Some(lock(&self.trail).status(&images));
                if let Some(work) = held.work.take() {
                    held.buffer = self.write(held.buffer, work, images)?;
                }
                Count::Restored
            }
        };
        gst::log!(CAT, imp = self, "pushing frame {:?}", held.buffer.pts());
        {
            let counters = &mut self.stream.lock().counters;
            counters.output += 1;
            match count {
                Count::Restored => counters.restored += 1,
                Count::Bypassed => counters.bypassed += 1,
                Count::Late => counters.late += 1,
                Count::Failed => counters.failed += 1,
            }
        }
        let status = status.unwrap_or(match count {
            Count::Restored => Status::Restored,
            Count::Bypassed => Status::Bypassed,
            Count::Late => Status::Late,
            Count::Failed => Status::Failed,
        });
        let same = !matches!(status, Status::Restored | Status::Reused);
        let audit = before.and_then(|before| self.compare_with(&before, &held.buffer, same));
        self.prove(&mut held.buffer, status, &maker, audit);
        self.srcpad.push(held.buffer).map(|_| ())
    }

    /// Adds the restoration to the buffer, in place where nobody else holds its memory.
    fn write(
        &self,
        mut buffer: gst::Buffer,
        work: Work,
        images: Vec<Image>,
    ) -> Result<gst::Buffer, gst::FlowError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Write,
                ("A frame's memory cannot be written"),
                ["map: {error}"]
            );
            gst::FlowError::Error
        };
        let mut broken = false;
        {
            let target = buffer.make_mut();
            let mut map = target.map_writable().map_err(|error| unreadable(&error))?;
            let results = work.parts.iter().zip(&work.inputs).zip(&work.keep).zip(images);
            for (((part, input), keep), restored) in results {
                if restored.size() != input.size() {
                    return Err(unreadable(&"the engine returned a picture of another size"));
                }
                let mut strength = work.strength;
                let (input, mut restored) = match (input, restored) {
                    (Image::Decoded(input), Image::Decoded(restored)) => (input, restored),
                    (Image::Raw { .. }, Image::Raw { frame, broken: wrong }) => {
                        frame.put(&part.view, &mut map);
                        broken |= wrong;
                        continue;
                    }
                    _ => return Err(unreadable(&"the engine returned a picture of another kind")),
                };
                if work.compare != Compare::Off {
                    let restored = Arc::make_mut(&mut restored);
                    let pixels = restored.rgb.iter_mut().zip(&input.rgb);
                    pixels.for_each(|(restored, input)| *restored = input + strength * (*restored - input));
                    strength = 1.0;
                    compose(work.compare, input, restored);
                }
                if let Some(keep) = keep {
                    restore_kept(keep, &input.rgb, &mut Arc::make_mut(&mut restored).rgb);
                }
                broken |=
                    add_difference(&part.view, &part.color, &mut map, &input.rgb, &restored.rgb, strength);
            }
        }
        if broken {
            self.stream.lock().counters.failed += 1;
            if !std::mem::replace(&mut lock(&self.told).broken, true) {
                gst::element_imp_warning!(
                    self,
                    gst::LibraryError::Failed,
                    ("The network gave samples that are no numbers; they are left as they were. Set precision=f32"),
                    ["not finite"]
                );
            }
        }
        Ok(buffer)
    }

    fn tell_late(&self, held: &Held, drop: bool) {
        let (late, dropped, restored, proportion) = {
            let mut state = self.stream.lock();
            state.counters.late += u64::from(drop);
            state.counters.dropped += u64::from(drop);
            let counters = &state.counters;
            (counters.late, counters.dropped, counters.restored, state.proportion)
        };
        gst::debug!(CAT, imp = self, "late frame {:?}, {late} so far", held.buffer.pts());
        if restored == 0 && late >= HOPELESS && !std::mem::replace(&mut lock(&self.told).late, true) {
            gst::element_imp_warning!(
                self,
                gst::StreamError::TooLazy,
                ("None of {late} frames was restored in time; set a larger latency, a faster model or more fallback-models"),
                ["late-frames"]
            );
        }
        let running_time = held.work.as_ref().and_then(|work| work.running_time);
        let frames = |count: u64| gst::format::Buffers::from_u64(count);
        let message = gst::message::Qos::builder(false)
            .running_time(running_time)
            .timestamp(held.buffer.pts())
            .duration(held.buffer.duration())
            // Quality in millionths: a late frame that goes out has none of ours.
            .values(0, proportion, 0)
            .stats(frames(restored), frames(dropped))
            .src(&*self.obj())
            .build();
        let _ = self.obj().post_message(message);
    }

    /// A serialized query in its turn: all frames before it are out.
    fn serialized(&self, query: &mut gst::QueryRef) -> bool {
        let answered = self.srcpad.peer_query(query);
        let gst::QueryViewMut::Allocation(allocation) = query.view_mut() else { return answered };
        let held = self.stream.lock().queue.limits().max_in_flight as u32;
        if !answered {
            // Nobody downstream minds strides, as buffers go through as they are; but as nobody
            // said so, only what is always true is answered.
            return false;
        }
        let pools: Vec<_> = allocation.allocation_pools().collect();
        for (index, (pool, size, min, max)) in pools.into_iter().enumerate() {
            let max = if max == 0 { 0 } else { max + held };
            allocation.set_nth_allocation_pool(index as u32, pool.as_ref(), size, min + held, max);
        }
        true
    }

    /// An event from downstream.
    pub fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Reconfigure {
            self.stream.relinked();
        }
        let gst::EventView::Qos(qos) = event.view() else {
            return gst::Pad::event_default(pad, Some(&*self.obj()), event);
        };
        let (_, proportion, jitter, timestamp) = qos.get();
        let mode = {
            let mut state = self.stream.lock();
            state.proportion = proportion;
            if jitter > 0 {
                let now = self.stream.now();
                state.engines.late(now);
            }
            state.earliest = timestamp.and_then(|timestamp| {
                let late = u64::try_from(jitter).ok().map(gst::ClockTime::from_nseconds)?;
                timestamp.checked_add(late)?.checked_add(late)
            });
            state.late_frames
        };
        gst::log!(CAT, obj = pad, "QOS: jitter {jitter}, proportion {proportion}");
        // Upstream would drop frames if it heard of this.
        mode != LateFrames::Drop || gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    /// A query from downstream.
    pub fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        if !matches!(query.view(), gst::QueryView::Latency(_)) {
            return gst::Pad::query_default(pad, Some(&*self.obj()), query);
        }
        if !self.sinkpad.peer_query(query) {
            return false;
        }
        let gst::QueryViewMut::Latency(latency) = query.view_mut() else { return false };
        let (live, min, max) = latency.result();
        let (own_min, own_max) = self.latency();
        let max = max.map(|max| max + own_max);
        gst::debug!(CAT, obj = pad, "latency: live {live}, {min} + {own_min}, at most {own_max} more");
        latency.set(live, min + own_min, max);
        true
    }

    /// What the element adds to the latency, at least and at most.
    fn latency(&self) -> (gst::ClockTime, gst::ClockTime) {
        let asked = lock(&self.settings).latency;
        let frame = lock(&self.input).format.as_ref().and_then(|format| format.frame_time());
        let frame = frame.unwrap_or(gst::ClockTime::from_mseconds(40));
        let state = self.stream.lock();
        let limits = state.queue.limits();
        let batch = limits.batch_size as u64;
        let measured = || {
            let each = u64::try_from(state.times.announced().as_nanos()).unwrap_or(u64::MAX);
            let work = gst::ClockTime::from_nseconds(each.saturating_mul(batch));
            frame.mul_div_ceil(batch - 1, 1).and_then(|fill| fill.checked_add(work)).unwrap_or(work)
        };
        let min = u64::try_from(asked).map_or_else(|_| measured(), gst::ClockTime::from_nseconds);
        let held = frame.mul_div_ceil(limits.max_in_flight as u64, 1).unwrap_or(frame);
        (min, held.max(min))
    }

    /// Tells the application what ended the flow when no buffer's return can, and nobody else does.
    pub fn post_flow_error(&self, error: gst::FlowError) {
        gst::element_imp_error!(
            self,
            gst::StreamError::Failed,
            ("Downstream takes no more data: {error}"),
            ["streaming stopped, reason {error}"]
        );
    }
}

/// Whether who ended the flow like this leaves it to others to tell the application.
pub fn unexplained(error: gst::FlowError) -> bool {
    matches!(error, gst::FlowError::NotLinked | gst::FlowError::NotNegotiated)
}
