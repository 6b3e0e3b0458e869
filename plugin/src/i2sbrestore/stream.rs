// SPDX-License-Identifier: MIT OR Apache-2.0
//! What flows through the element, shared by the sink pad, the source pad's task and the engine.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use i2sb::Cancel;

use super::engines::{Engines, Passed};
use super::frame::Part;
use super::settings::{Compare, LateFrames};
use super::stats::Counters;
use crate::engine::worker::{Job, Worker};
use crate::engine::{EngineError, Image, Knobs};
use crate::flow::latency::Estimator;
use crate::flow::queue::{Batch, Limits, Queue, Ticket};

use super::order::{Last, Order};

/// A buffer on its way, with what is to be done to it.
pub struct Held {
    /// The buffer as it came in; the restoration is added to it in place.
    pub buffer: gst::Buffer,
    /// `None`: it goes out as it is.
    pub work: Option<Work>,
    /// When it goes out at the latest, restored or not, as [`Stream::now`] counts.
    pub due: Option<Duration>,
}

/// An engine's share in a frame.
#[derive(Clone)]
pub struct Pass {
    /// The engine.
    pub worker: Arc<Worker>,
    /// What it is asked for.
    pub knobs: Knobs,
    /// Its weight in the result, in (0, 1].
    pub weight: f32,
}

/// The pictures of a buffer and the settings that were in force when it came.
pub struct Work {
    /// Where each picture is in the buffer.
    pub parts: Vec<Part>,
    /// The pictures: one frame or two fields.
    pub inputs: Vec<Image>,
    /// For each picture, the pixels that must stay as they are, if any.
    pub keep: Vec<Option<Arc<[bool]>>>,
    /// Who works on it; the rest of the weight is the input's.
    pub passes: Vec<Pass>,
    /// Time until the next frame, if known.
    pub frame_time: Option<Duration>,
    /// 0 … 1.
    pub strength: f32,
    /// What to show.
    pub compare: Compare,
    /// When it is to be shown.
    pub running_time: Option<gst::ClockTime>,
}

/// What frames of one batch have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchKey {
    sizes: Vec<(usize, usize)>,
    passes: Vec<(u64, Knobs)>,
}

impl BatchKey {
    /// The key of a frame.
    pub fn of(work: &Work) -> Self {
        let sizes = work.inputs.iter().map(Image::size).collect();
        // Frames that differ by their noise alone are a batch.
        let knobs = |pass: &Pass| Knobs { frame: 0, ..pass.knobs.clone() };
        let passes = work.passes.iter().map(|pass| (pass.worker.id(), knobs(pass))).collect();
        Self { sizes, passes }
    }
}

/// How a frame's time in the engine ended.
pub enum Outcome {
    /// One result per picture; and what began an outage of one of several engines.
    Restored(Vec<Image>, Option<EngineError>),
    /// It was given to no engine.
    Passed(Passed),
    /// It was too late; dropped if so asked.
    Late {
        /// Whether the buffer must not go out.
        drop: bool,
    },
    /// It went wrong.
    Failed {
        /// Why.
        error: EngineError,
        /// It is the first of an outage.
        first: bool,
    },
}

/// What keeps its place between frames.
pub enum Other {
    /// A serialized event.
    Event(gst::Event),
    /// A serialized query; its sender waits.
    Query(PendingQuery),
}

/// A query that waits in the queue while its sender's thread waits for the answer.
pub struct PendingQuery {
    query: std::ptr::NonNull<gst::QueryRef>,
    answer: mpsc::SyncSender<bool>,
}

// SAFETY: the pointer is used only by the thread that took the query from the queue, and only while
// the sender blocks in `PendingQuery::ask`, which ends when `answer` is used or dropped.
unsafe impl Send for PendingQuery {}

impl PendingQuery {
    /// Has `enqueue` queue the query and waits for the answer; false if it was dropped unanswered.
    pub fn ask(query: &mut gst::QueryRef, enqueue: impl FnOnce(Self) -> bool) -> bool {
        let (answer, answered) = mpsc::sync_channel(1);
        let pending = Self { query: std::ptr::NonNull::from(query), answer };
        enqueue(pending) && answered.recv().unwrap_or(false)
    }

    /// Answers the query with `handle`.
    pub fn answer(mut self, handle: impl FnOnce(&mut gst::QueryRef) -> bool) {
        // SAFETY: the sender blocks until `self.answer` is used or dropped, so its `&mut` is alive
        // and unused; `self` is the only holder of the pointer.
        let query = unsafe { self.query.as_mut() };
        let result = handle(query);
        let _ = self.answer.send(result);
    }
}

/// What [`Stream::dispatch`] leaves to its caller.
#[must_use = "to be dropped after the lock"]
pub struct Dispatched {
    /// When to look again.
    pub deadline: Option<Duration>,
    /// Work that no engine took.
    pub refused: Vec<Job>,
}

/// Everything behind the lock. The lock covers field access only.
pub struct State {
    /// Frames, events and queries in order.
    pub queue: Queue<Held, Option<BatchKey>, Outcome, Other>,
    /// What the source pad's last push returned; `Flushing` while stopped or flushing.
    pub flow: Result<(), gst::FlowError>,
    /// EOS has been queued.
    pub eos: bool,
    /// Downstream wants no more frames until another segment or stream begins; events still go there.
    pub sated: bool,
    /// Stops the engine's work for the present frames.
    pub cancel: Cancel,
    /// The engines, from READY→PAUSED to PAUSED→READY.
    pub engines: Engines,
    /// Counts starts, so that news of an earlier load are not taken for this one's.
    pub epoch: u64,
    /// See `stats`.
    pub counters: Counters,
    /// See `stats` and LATENCY.
    pub times: Estimator,
    /// A latency that the user fixed: load does not change what is told.
    pub fixed_latency: Option<Duration>,
    /// The announced latency is no longer true.
    pub latency_stale: bool,
    /// Policy for late frames.
    pub late_frames: LateFrames,
    /// Frames to be shown before this are late.
    pub earliest: Option<gst::ClockTime>,
    /// Downstream's proportion, for QOS messages.
    pub proportion: f64,
}

/// Whether frames behind such an event are wanted again by who had enough.
pub fn begins(type_: gst::EventType) -> bool {
    matches!(type_, gst::EventType::Segment | gst::EventType::StreamStart)
}

impl State {
    /// What comes next has nothing to do with what was before.
    fn run_on(&mut self) {
        self.earliest = None;
        self.engines.jump();
        self.cancel = Cancel::default();
    }
}

/// The lock, and the bell that is rung at every change.
pub struct Stream {
    state: Mutex<State>,
    bell: Condvar,
    start: Instant,
    /// What the engine did last for this element; its thread takes it and puts it back.
    pub last: Mutex<Option<Last>>,
}

impl Stream {
    /// A stream that is stopped.
    pub fn new(limits: Limits) -> Self {
        let state = State {
            queue: Queue::new(limits),
            flow: Err(gst::FlowError::Flushing),
            eos: false,
            sated: false,
            cancel: Cancel::default(),
            engines: Engines::default(),
            epoch: 0,
            counters: Counters::default(),
            times: Estimator::default(),
            fixed_latency: None,
            latency_stale: false,
            late_frames: LateFrames::default(),
            earliest: None,
            proportion: 1.0,
        };
        Self { state: Mutex::new(state), bell: Condvar::new(), start: Instant::now(), last: Mutex::new(None) }
    }

    /// Takes the lock. No panic happens under it, so a poisoned one is as good as any.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everyone who waits for a change.
    pub fn ring(&self) {
        self.bell.notify_all();
    }

    /// Waits for a change, at most until `deadline` (as [`Stream::now`] counts).
    pub fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        deadline: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match deadline {
            None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_sub(self.now());
                self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Time since the stream was made.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Stops all: wakes every waiter, tells the engine, forgets what is queued. Returns what was
    /// queued between the frames.
    pub fn stop(&self) -> Vec<Other> {
        let dropped = {
            let mut state = self.lock();
            state.flow = Err(gst::FlowError::Flushing);
            state.cancel.cancel();
            state.queue.flush()
        };
        self.ring();
        // Outside of the lock: dropping a query wakes its sender, dropping an event may run anything.
        dropped
    }

    /// Lets data flow again after [`Stream::stop`].
    pub fn restart(&self) {
        let mut state = self.lock();
        state.flow = Ok(());
        (state.eos, state.sated) = (false, false);
        state.run_on();
    }

    /// Lets data flow again after [`gst::FlowError::NotLinked`]: there may be somebody to take it now.
    pub fn relinked(&self) {
        {
            let mut state = self.lock();
            if state.flow != Err(gst::FlowError::NotLinked) {
                return;
            }
            state.flow = Ok(());
            state.run_on();
        }
        self.ring();
    }

    /// Downstream has enough: the frames of this segment are forgotten, what lies between them keeps its place.
    pub fn sate(&self) {
        let begins = |other: &Other| matches!(other, Other::Event(event) if begins(event.type_()));
        let dropped = {
            let mut state = self.lock();
            let (dropped, another) = state.queue.drop_frames(begins);
            state.sated = !another;
            if !another {
                state.cancel.cancel();
                state.run_on();
            }
            dropped
        };
        self.ring();
        drop(dropped);
    }

    /// Ends the flow with `error`, unless it has ended. Returns what was queued between the frames.
    pub fn fail(&self, error: gst::FlowError) -> Vec<Other> {
        let dropped = {
            let mut state = self.lock();
            if state.flow.is_ok() {
                state.flow = Err(error);
            }
            state.cancel.cancel();
            state.queue.flush()
        };
        self.ring();
        dropped
    }

    /// Hands every batch that is due to the engine. What an ended engine did not take must be
    /// dropped after the lock: its frames fail by that.
    pub fn dispatch(self: &Arc<Self>, state: &mut State) -> Dispatched {
        let mut refused = Vec::new();
        loop {
            match state.queue.take_batch(self.now()) {
                Batch::Empty => return Dispatched { deadline: None, refused },
                Batch::At(deadline) => return Dispatched { deadline: Some(deadline), refused },
                Batch::Ready(tickets) => {
                    let orders: Vec<_> =
                        tickets.into_iter().filter_map(|ticket| self.order(state, ticket)).collect();
                    refused.extend(super::order::submit(orders));
                }
            }
        }
    }

    /// [`Stream::dispatch`], and everyone who waits for a change is woken.
    pub fn hand_on(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let dispatched = self.dispatch(&mut state);
        drop(state);
        drop(dispatched);
        self.ring();
    }

    /// The work on a frame that is in the queue.
    pub fn order(self: &Arc<Self>, state: &mut State, ticket: Ticket) -> Option<Order> {
        let cancel = state.cancel.clone();
        let work = state.queue.payload(ticket)?.work.as_ref()?;
        Some(Order::new(self.clone(), ticket, work, cancel))
    }
}
