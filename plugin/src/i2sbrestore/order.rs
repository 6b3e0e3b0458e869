// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the engines' threads do for one frame: judge lateness, reuse, restore, mix, report.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use i2sb::Cancel;
use i2sb::pixel::Raw;

use super::mix::mix;
use super::settings::LateFrames;
use super::stream::{Outcome, Pass, Stream, Work};
use crate::engine::cuda::CudaError;
use crate::engine::reuse::Changed;
use crate::engine::worker::{Job, panicked};
use crate::engine::{Engine, EngineError, Image, Knobs, Picture};
use crate::flow::queue::Ticket;

/// Side of the tile that is tried after one chosen by the engine did not fit, in pixels.
const SMALLER_TILE: u32 = 256;
/// The smallest tile worth a second attempt, in pixels.
const SMALLEST_TILE: u32 = 32;

/// The frame that was restored last for this element.
pub struct Last {
    engine: u64,
    knobs: Knobs,
    strength: f32,
    inputs: Vec<Image>,
    outputs: Vec<Image>,
}

/// One frame's work; if it is dropped undone, the frame fails.
pub struct Order {
    stream: Arc<Stream>,
    ticket: Ticket,
    /// Empty until its turn comes.
    inputs: Vec<Image>,
    strength: f32,
    passes: VecDeque<Pass>,
    results: Vec<(Vec<Image>, f32)>,
    trouble: Option<EngineError>,
    first: bool,
    frame_time: Option<Duration>,
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
    recomputed: u64,
}

impl Order {
    /// Work on the frame `ticket`.
    pub fn new(stream: Arc<Stream>, ticket: Ticket, work: &Work, cancel: Cancel) -> Self {
        Self {
            stream,
            ticket,
            inputs: Vec::new(),
            strength: work.strength,
            passes: work.passes.iter().cloned().collect(),
            results: Vec::new(),
            trouble: None,
            first: false,
            frame_time: work.frame_time,
            running_time: work.running_time,
            cancel,
            done: false,
        }
    }

    /// Its turn has come: takes the pictures, which until then the queue alone holds, so that frames that left it
    /// in time wait for no engine. False if nobody waits for it any more: its time was up, or all was stopped.
    fn begin(&mut self) -> bool {
        let mut state = self.stream.lock();
        if self.cancel.is_cancelled() || !state.queue.is_wanted(self.ticket) {
            return false;
        }
        let work = state.queue.payload(self.ticket).and_then(|held| held.work.as_ref());
        self.inputs = work.map(|work| work.inputs.clone()).unwrap_or_default();
        true
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

    fn restore(
        &self,
        engine: &mut dyn Engine,
        pass: &Pass,
        saved: &mut Saved,
    ) -> Result<Vec<Image>, EngineError> {
        let (id, knobs) = (pass.worker.id(), &pass.knobs);
        // Taken out, so that no lock is held while the engine works.
        let last = self.stream.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let before = last.filter(|last| last.engine == id && last.knobs == *knobs);
        let same_strength = before.as_ref().is_some_and(|last| last.strength == self.strength);
        let mut outputs = Vec::with_capacity(self.inputs.len());
        for (index, input) in self.inputs.iter().enumerate() {
            let before =
                before.as_ref().and_then(|last| Some((last.inputs.get(index)?, last.outputs.get(index)?)));
            outputs.push(match input {
                Image::Decoded(input) => {
                    self.picture(engine, knobs, input, before.and_then(decoded), saved)?
                }
                Image::Raw { frame, .. } => {
                    self.raw(engine, knobs, frame, before.filter(|_| same_strength), saved)?
                }
            });
        }
        let now = Last {
            engine: id,
            knobs: knobs.clone(),
            strength: self.strength,
            inputs: self.inputs.clone(),
            outputs: outputs.clone(),
        };
        let mut last = self.stream.last.lock().unwrap_or_else(PoisonError::into_inner);
        // A stop cancels and then forgets; asked under the lock, what ends later cannot come back.
        *last = Some(now).filter(|_| !self.cancel.is_cancelled());
        Ok(outputs)
    }

    fn picture(
        &self,
        engine: &mut dyn Engine,
        knobs: &Knobs,
        input: &Picture,
        before: Option<(&Arc<Picture>, &Arc<Picture>)>,
        saved: &mut Saved,
    ) -> Result<Image, EngineError> {
        let compared = before.and_then(|(old, output)| Some((Changed::between(old, input)?, output)));
        if let Some((changed, output)) = compared {
            saved.blocks += changed.blocks.len() as u64;
            if changed.is_none() {
                saved.repeated += 1;
                saved.reused += changed.blocks.len() as u64;
                return Ok(Image::Decoded(output.clone()));
            }
            if changed.count() < changed.blocks.len() {
                let parts = engine.restore_parts(input, output, &changed, knobs, &self.cancel)?;
                if let Some((picture, reused)) = parts {
                    saved.reused += reused as u64;
                    return Ok(Image::Decoded(Arc::new(picture)));
                }
            }
        } else {
            saved.blocks += Changed::blocks_of(input.width, input.height) as u64;
        }
        let picture = tiled(knobs, saved, |knobs| engine.restore(input, knobs, &self.cancel))?;
        Ok(Image::Decoded(Arc::new(picture)))
    }

    /// A frame in its own format: the same as the one before, or restored.
    fn raw(
        &self,
        engine: &mut dyn Engine,
        knobs: &Knobs,
        input: &Raw,
        before: Option<(&Image, &Image)>,
        saved: &mut Saved,
    ) -> Result<Image, EngineError> {
        let blocks = Changed::blocks_of(input.view.width, input.view.height) as u64;
        saved.blocks += blocks;
        if let Some((Image::Raw { frame, .. }, output)) = before
            && **frame == *input
        {
            saved.repeated += 1;
            saved.reused += blocks;
            return Ok(output.clone());
        }
        tiled(knobs, saved, |knobs| {
            let mut frame = input.clone();
            let broken = engine.restore_raw(&mut frame, self.strength, knobs, &self.cancel)?;
            Ok(Image::Raw { frame: Arc::new(frame), broken })
        })
    }

    fn finish(&mut self, outcome: Outcome) {
        self.done = true;
        self.passes.clear();
        let refused = self.stream.lock().queue.finish(self.ticket, outcome);
        self.stream.ring();
        drop(refused);
    }
}

impl Order {
    /// One engine's share.
    fn pass(&mut self, engine: &mut dyn Engine, pass: &Pass, alone: bool) -> Result<(), EngineError> {
        let (start, mut saved) = (Instant::now(), Saved::default());
        let recomputed = engine.recomputed();
        let result = catch_unwind(AssertUnwindSafe(|| self.restore(engine, pass, &mut saved)));
        saved.recomputed = engine.recomputed().saturating_sub(recomputed);
        let (elapsed, taken) = (start.elapsed(), pass.worker.took(start));
        let result = result.unwrap_or_else(|panic| Err(panicked(&*panic)));
        {
            let now = self.stream.now();
            let mut state = self.stream.lock();
            let state = &mut *state;
            if result.is_ok() {
                state.engines.succeeded(pass.worker.id(), now);
            }
            let counters = &mut state.counters;
            counters.repeated += saved.repeated;
            counters.blocks += saved.blocks;
            counters.reused_blocks += saved.reused;
            counters.retried += saved.retried;
            counters.recomputed += saved.recomputed;
            // A frame that was not fully computed, or twice, or by two, says nothing about what a frame costs.
            if result.is_ok() && saved.reused == 0 && saved.recomputed == 0 && alone {
                let stale = state.times.record(elapsed);
                state.latency_stale |= stale && state.fixed_latency.is_none();
                if let Some(frame_time) = self.frame_time.filter(|time| !time.is_zero()) {
                    let load = taken.as_secs_f64() / frame_time.as_secs_f64();
                    state.engines.worked(pass.worker.id(), pass.knobs.steps, load);
                }
            }
        }
        self.results.push((result?, pass.weight));
        Ok(())
    }

    /// An engine could not do its share.
    fn troubled(&mut self, id: u64, error: EngineError) {
        if !matches!(error, EngineError::Cancelled) {
            let now = self.stream.now();
            self.first |= self.stream.lock().engines.failed(id, now) == Some(true);
        }
        self.trouble = Some(error);
    }

    /// All who could have worked on it; what there is goes out.
    fn conclude(&mut self) {
        let results = std::mem::take(&mut self.results);
        let outcome = match (results.is_empty(), self.trouble.take()) {
            (false, None) => Outcome::Restored(mix(&self.inputs, results, false), None),
            (false, Some(error)) if !matches!(error, EngineError::Cancelled) => {
                let pictures = mix(&self.inputs, results, true);
                Outcome::Restored(pictures, Some(error).filter(|_| self.first))
            }
            (_, trouble) => {
                Outcome::Failed { error: trouble.unwrap_or(EngineError::Stopped), first: self.first }
            }
        };
        self.finish(outcome);
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        if !self.done {
            // Its engine ended before its turn came.
            if let Some(id) = self.passes.front().map(|pass| pass.worker.id())
                && self.trouble.is_none()
            {
                self.troubled(id, EngineError::Stopped);
            }
            self.conclude();
        }
    }
}

/// A decoded picture and its result.
fn decoded<'a>((input, output): (&'a Image, &'a Image)) -> Option<(&'a Arc<Picture>, &'a Arc<Picture>)> {
    match (input, output) {
        (Image::Decoded(input), Image::Decoded(output)) => Some((input, output)),
        _ => None,
    }
}

/// What `restore` gives; where memory is short, once more with a smaller tile.
fn tiled<T>(
    knobs: &Knobs,
    saved: &mut Saved,
    mut restore: impl FnMut(&Knobs) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let first = restore(knobs);
    let Err(EngineError::OutOfMemory { .. }) = first else { return first };
    let tile = if knobs.tile == 0 { SMALLER_TILE } else { knobs.tile / 2 };
    if tile < SMALLEST_TILE {
        return first;
    }
    saved.retried += 1;
    restore(&Knobs { tile, ..knobs.clone() })
}

/// Queues a batch at the engine that works on it first. What an ended engine did not take is given
/// back: dropped, its frames fail.
pub fn submit(orders: Vec<Order>) -> Option<Job> {
    let worker = orders.first()?.passes.front()?.worker.clone();
    let id = worker.id();
    worker.submit(Box::new(move |engine| attend(orders, engine, id))).err()
}

/// Whether the engine that told this must not be used again.
fn is_lost(error: &EngineError) -> bool {
    use i2sb::Error;
    use i2sb_cuda_abi::Code;
    match error {
        // A refusal of what was asked for: the library works on.
        EngineError::Cuda(CudaError::Refused { code, .. }) => {
            !matches!(code, Code::Setting | Code::File | Code::Misused)
        }
        EngineError::Panicked(_) | EngineError::Cuda(_) => true,
        EngineError::Failed(Error::Tensor(_) | Error::Device { .. }) => true,
        _ => false,
    }
}

/// Runs a batch on an engine's thread; `Break` if the engine is not to be trusted any more.
fn attend(orders: Vec<Order>, engine: &mut dyn Engine, id: u64) -> ControlFlow<()> {
    let mut flow = ControlFlow::Continue(());
    for mut order in orders {
        if flow.is_break() {
            // Dropped, and failed by that.
            continue;
        }
        if !order.begin() {
            order.finish(Outcome::Failed { error: EngineError::Cancelled, first: false });
            continue;
        }
        if let Some(outcome) = order.late() {
            order.finish(outcome);
            continue;
        }
        let alone = order.passes.len() == 1 && order.results.is_empty();
        while order.passes.front().is_some_and(|pass| pass.worker.id() == id) {
            let Some(pass) = order.passes.pop_front() else { break };
            if let Err(error) = order.pass(engine, &pass, alone) {
                if is_lost(&error) {
                    flow = ControlFlow::Break(());
                    order.passes.retain(|pass| pass.worker.id() != id);
                }
                order.troubled(id, error);
            }
        }
        if order.passes.is_empty() {
            order.conclude();
        } else {
            // The other engine's turn; refused, it is dropped here, and concludes.
            drop(submit(vec![order]));
        }
    }
    flow
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
