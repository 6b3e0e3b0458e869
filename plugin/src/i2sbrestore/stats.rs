// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the element has done, as the `stats` property tells it.

use super::stream::State;
use crate::engine::About;

/// Counters since READY→PAUSED.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came in.
    pub input: u64,
    /// Frames that went out.
    pub output: u64,
    /// Frames that went out restored.
    pub restored: u64,
    /// Frames that went out as they came, as was asked for.
    pub bypassed: u64,
    /// Frames that were too late, or that load left no time for: passed through or dropped.
    pub late: u64,
    /// Frames that were not sent out.
    pub dropped: u64,
    /// Frames that could not be restored, or had samples that could not.
    pub failed: u64,
    /// Pictures equal to the one before, whose result was used again.
    pub repeated: u64,
    /// Blocks of pictures whose result was used again.
    pub reused_blocks: u64,
    /// Blocks of all pictures.
    pub blocks: u64,
    /// Pictures restored at the second attempt, with smaller tiles.
    pub retried: u64,
    /// Pictures that went beyond the range of the precision and were computed again in f32.
    pub recomputed: u64,
    /// Steps down under load.
    pub step_downs: u64,
    /// Steps up when load had gone.
    pub step_ups: u64,
    /// Times that an engine failed, or could not be loaded.
    pub outages: u64,
    /// Times that an engine came back.
    pub recoveries: u64,
}

/// The `stats` structure.
pub fn structure(state: &State) -> gst::Structure {
    let counters = &state.counters;
    let ms = |part| state.times.percentile(part).as_secs_f64() * 1e3;
    let nobody = About::default();
    let about = state.engines.about.as_ref().unwrap_or(&nobody);
    gst::Structure::builder("application/x-i2sb-stats")
        .field("frames-in", counters.input)
        .field("frames-out", counters.output)
        .field("restored", counters.restored)
        .field("bypassed", counters.bypassed)
        .field("late", counters.late)
        .field("dropped", counters.dropped)
        .field("failed", counters.failed)
        .field("repeated", counters.repeated)
        .field("tiles", counters.blocks)
        .field("tiles-reused", counters.reused_blocks)
        .field("retried", counters.retried)
        .field("recomputed", counters.recomputed)
        .field("step-downs", counters.step_downs)
        .field("step-ups", counters.step_ups)
        .field("outages", counters.outages)
        .field("recoveries", counters.recoveries)
        .field("queued", state.queue.frames() as u64)
        .field("ms-per-frame-p50", ms(0.5))
        .field("ms-per-frame-p95", ms(0.95))
        .field("model", about.model.as_str())
        .field("steps", u64::from(state.engines.steps()))
        .field("hash", about.hash.as_str())
        .field("device", about.device.as_str())
        .field("precision", about.precision.as_str())
        .build()
}
