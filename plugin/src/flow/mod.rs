// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of frames, their latency, and what follows from load and failures: nothing of GStreamer.

pub mod fade;
pub mod ladder;
pub mod latency;
pub mod outage;
pub mod queue;
