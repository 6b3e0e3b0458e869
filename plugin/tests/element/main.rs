// SPDX-License-Identifier: MIT OR Apache-2.0
//! The element in GStreamer: one binary, one module per matter.

mod actor;
mod behaviour;
mod clips;
mod content;
mod cost;
mod detail;
mod determined;
mod downstream;
mod errors;
mod evidence;
mod flush;
mod formats;
mod int8;
mod library;
mod limit;
mod masks;
mod metas;
mod null;
mod on_air;
mod pipelines;
mod play;
mod preset;
mod raw;
mod rig;
mod soak;
mod strict;
mod traced;
