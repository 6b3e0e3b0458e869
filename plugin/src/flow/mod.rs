// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of things without GStreamer: a bounded queue with batches, and what it has measured.

pub mod latency;
pub mod queue;
