// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handing buffers to a pipeline that may fail meanwhile.

use anyhow::{Context, Result, anyhow, ensure};
use gst::prelude::*;

use crate::interrupt;
use crate::progress::told;

/// Buffers that may wait; more would only take memory.
const WAITING: u64 = 4;

/// A source for [`push`].
pub fn source(caps: &gst::Caps) -> gst_app::AppSrc {
    gst_app::AppSrc::builder().caps(caps).format(gst::Format::Time).build()
}

/// Hands over a buffer as soon as few wait. A source that blocks by itself would wait for ever where an error has
/// stopped the pipeline.
///
/// # Errors
/// The pipeline's, or an interruption.
pub fn push(pipeline: &gst::Pipeline, source: &gst_app::AppSrc, buffer: gst::Buffer) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    while source.current_level_buffers() >= WAITING {
        ensure!(!interrupt::asked(), "interrupted");
        let wait = 5 * gst::ClockTime::MSECOND;
        if let Some(message) = bus.timed_pop_filtered(wait, &[gst::MessageType::Error]) {
            return Err(told(&message));
        }
    }
    source.push_buffer(buffer).map(drop).map_err(|_| failed(pipeline))
}

/// Why a pipeline stopped.
pub fn failed(pipeline: &gst::Pipeline) -> anyhow::Error {
    let wait = gst::ClockTime::from_seconds(1);
    let message = pipeline.bus().and_then(|bus| bus.timed_pop_filtered(wait, &[gst::MessageType::Error]));
    message.map_or_else(|| anyhow!("the pipeline stopped"), |message| told(&message))
}
