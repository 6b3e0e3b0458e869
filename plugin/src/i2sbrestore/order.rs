// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the engine's thread does for one frame: judge lateness, reuse, restore, report.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use i2sb::Cancel;

use super::settings::LateFrames;
use super::stream::{Outcome, Stream};
use crate::engine::reuse::Changed;
use crate::engine::worker::panicked;
use crate::engine::{Engine, EngineError, Knobs, Picture};
use crate::flow::queue::Ticket;

/// Side of the tile that is tried after one chosen by the engine did not fit, in pixels.
const SMALLER_TILE: u32 = 256;
/// The smallest tile worth a second attempt, in pixels.
const SMALLEST_TILE: u32 = 32;

/// The frame the engine restored last for this element.
pub struct Last {
    knobs: Knobs,
    inputs: Vec<Arc<Picture>>,
    outputs: Vec<Arc<Picture>>,
}

/// One frame's work; if it is dropped undone, the frame fails.
pub struct Order {
    stream: Arc<Stream>,
    ticket: Ticket,
    inputs: Vec<Arc<Picture>>,
    knobs: Knobs,
    running_time: Option<gst::ClockTime>,
    cancel: Cancel,
    done: bool,
}

/// What was saved and what was tried twice.
#[derive(Default)]
struct Saved {
    repeated: u64,
    blocks: u64,
    reused: u64,
    retried: u64,
}

impl Order {
    /// Work on the frame `ticket`.
    pub fn new(
        stream: Arc<Stream>,
        ticket: Ticket,
        inputs: Vec<Arc<Picture>>,
        knobs: Knobs,
        running_time: Option<gst::ClockTime>,
        cancel: Cancel,
    ) -> Self {
        Self { stream, ticket, inputs, knobs, running_time, cancel, done: false }
    }

    fn late(&self) -> Option<Outcome> {
        let state = self.stream.lock();
        let drop = match state.late_frames {
            LateFrames::Process => return None,
            LateFrames::PassThrough => false,
            LateFrames::Drop => true,
        };
        let late = self.running_time.zip(state.earliest).is_some_and(|(time, earliest)| time <= earliest);
        late.then_some(Outcome::Late { drop })
    }

    fn restore(&self, engine: &mut dyn Engine, saved: &mut Saved) -> Result<Vec<Arc<Picture>>, EngineError> {
        // Taken out, so that no lock is held while the engine works.
        let last = self.stream.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let before = last.filter(|last| last.knobs == self.knobs);
        let mut outputs = Vec::with_capacity(self.inputs.len());
        for (index, input) in self.inputs.iter().enumerate() {
            let before =
                before.as_ref().and_then(|last| Some((last.inputs.get(index)?, last.outputs.get(index)?)));
            outputs.push(self.picture(engine, input, before, saved)?);
        }
        let now = Last { knobs: self.knobs.clone(), inputs: self.inputs.clone(), outputs: outputs.clone() };
        let mut last = self.stream.last.lock().unwrap_or_else(PoisonError::into_inner);
        // A stop cancels and then forgets; asked under the lock, what ends later cannot come back.
        *last = Some(now).filter(|_| !self.cancel.is_cancelled());
        Ok(outputs)
    }

    fn picture(
        &self,
        engine: &mut dyn Engine,
        input: &Picture,
        before: Option<(&Arc<Picture>, &Arc<Picture>)>,
        saved: &mut Saved,
    ) -> Result<Arc<Picture>, EngineError> {
        let compared = before.and_then(|(old, output)| Some((Changed::between(old, input)?, output)));
        if let Some((changed, output)) = compared {
            saved.blocks += changed.blocks.len() as u64;
            if changed.is_none() {
                saved.repeated += 1;
                saved.reused += changed.blocks.len() as u64;
                return Ok(output.clone());
            }
            if changed.count() < changed.blocks.len() {
                let parts = engine.restore_parts(input, output, &changed, &self.knobs, &self.cancel)?;
                if let Some((picture, reused)) = parts {
                    saved.reused += reused as u64;
                    return Ok(Arc::new(picture));
                }
            }
        } else {
            saved.blocks += Changed::blocks_of(input) as u64;
        }
        let first = engine.restore(input, &self.knobs, &self.cancel);
        let Err(EngineError::OutOfMemory { .. }) = first else { return first.map(Arc::new) };
        let tile = if self.knobs.tile == 0 { SMALLER_TILE } else { self.knobs.tile / 2 };
        if tile < SMALLEST_TILE {
            return first.map(Arc::new);
        }
        saved.retried += 1;
        let knobs = Knobs { tile, ..self.knobs.clone() };
        engine.restore(input, &knobs, &self.cancel).map(Arc::new)
    }

    fn finish(&mut self, outcome: Outcome) {
        self.done = true;
        let refused = self.stream.lock().queue.finish(self.ticket, outcome);
        self.stream.ring();
        drop(refused);
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        if !self.done {
            self.finish(Outcome::Failed(EngineError::Stopped));
        }
    }
}

/// Runs a batch on the engine's thread; `Break` after a panic.
pub fn attend(orders: Vec<Order>, engine: &mut dyn Engine) -> ControlFlow<()> {
    for mut order in orders {
        if order.cancel.is_cancelled() {
            order.finish(Outcome::Failed(EngineError::Cancelled));
            continue;
        }
        if let Some(outcome) = order.late() {
            order.finish(outcome);
            continue;
        }
        let (start, mut saved) = (Instant::now(), Saved::default());
        let result = catch_unwind(AssertUnwindSafe(|| order.restore(engine, &mut saved)));
        let elapsed = start.elapsed();
        let result = match result {
            Ok(result) => result,
            Err(panic) => {
                order.finish(Outcome::Failed(panicked(&*panic)));
                return ControlFlow::Break(());
            }
        };
        {
            let mut state = order.stream.lock();
            let counters = &mut state.counters;
            counters.repeated += saved.repeated;
            counters.blocks += saved.blocks;
            counters.reused_blocks += saved.reused;
            counters.retried += saved.retried;
            // A frame that was not fully computed says nothing about what a frame costs.
            if result.is_ok() && saved.reused == 0 {
                state.latency_stale |= state.times.record(elapsed);
            }
        }
        order.finish(result.map_or_else(Outcome::Failed, Outcome::Restored));
    }
    ControlFlow::Continue(())
}
