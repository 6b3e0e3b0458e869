// SPDX-License-Identifier: MIT OR Apache-2.0
//! The element in GStreamer: one binary, one module per matter.

mod behaviour;
mod content;
mod errors;
mod formats;
mod library;
mod metas;
mod null;
mod pipelines;
mod preset;
mod rig;
mod soak;
