// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sbrestore`: restores every decoded frame with an Image-to-Image Schrödinger Bridge.
//!
//! ## Example
//! ```text
//! gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! videoconvert ! i2sbrestore ! videoconvert \
//!     ! x264enc ! mp4mux ! filesink location=out.mp4
//! ```
//!
//! ## What comes out
//! The caps, timestamps, flags and metas of what went in, every frame once and in order. The
//! restoration is added to the samples as a difference, so what the network leaves alone, or
//! `strength=0`, is equal bit by bit, in every format. Alpha is not touched.
//!
//! ## Threads
//! The upstream thread decodes a frame to R'G'B' and queues it with the events and queries around
//! it; one engine thread per model, device and precision in the process restores; the source pad's
//! task adds the difference and pushes. At most `max-in-flight` frames are inside; after that,
//! upstream waits. A flush, a seek or a state change waits for none of them: the engine's present
//! work is cancelled and its late result refused.
//!
//! ## Latency
//! Live pipelines are told the measured time per frame as minimum and the time of `max-in-flight`
//! frames as maximum; they are told again when it grew, or shrank by more than a quarter. By
//! default no frame is dropped for being late and QOS events end here; see `late-frames`.
//!
//! `latency` fixes what is told. In a live pipeline with `late-frames` other than `process` it is also
//! kept: a frame whose time is up goes out as it came (or is dropped), whatever the engine does.
//!
//! ## Load, failures and changes while playing
//! With `steps=-1` or `fallback-models` the element takes as many steps, and the best model, as keep up
//! with the frame rate of the caps: two frames above 90 % of it are a step down, two calm seconds with
//! less than 70 % expected a step up; a step up that does not hold makes the next wait twice as long. With
//! `late-frames=pass-through` the last rung passes frames. With `on-error=pass-through` an engine that
//! fails is loaded again in the background, after half a second, then ever later up to 30 s; until it has
//! restored a frame the next of `fallback-models` works, or frames pass. `model` may change while playing.
//! Every such switch is a cross-fade over eight frames, three for a step down; what fails is left at once.
//! The bus gets one WARNING per outage, and `i2sb-engine` element messages whose `event` is `failed`,
//! `recovered`, `stepped-down`, `stepped-up` or `changed`.
//!
//! ## Interlaced video
//! Each field is restored as a picture and the fields are woven again; see `interlaced`.
//!
//! ## The same bits
//! Nothing of one frame enters another: what is used again of the frame before is what would have been
//! computed. Noise depends on the seed, the place in the frame and, with `noise=frame`, the frame's number,
//! which comes from its time and the frame rate. So on one device a frame has the same bits whether the
//! file is played whole, from a seek, in parts or twice, and a cut needs no reset.
//!
//! ## Proof
//! Each frame carries a [`META`] with what was done to it, by what; the stream gets a comment
//! tag. With `audit` the meta also tells how far the frame is from what it was; with `residual-gain` the
//! pad `src_residual` shows it. `strict` refuses rather than guesses, `protect-mask` and regions of
//! interest keep samples as they are, `inpaint-mask` fills in what is lost.

mod accept;
mod archival;
mod caps;
mod compare;
mod control;
mod engines;
mod evidence;
mod frame;
mod imp;
mod loading;
mod masks;
mod message;
mod mix;
mod number;
mod order;
mod policies;
mod provenance;
mod settings;
mod sink;
mod source;
mod src;
mod stats;
mod stream;
mod strict;
mod tables;

pub use archival::Noise;
pub use caps::template;
pub use provenance::META;
pub use settings::{Compare, Hdr, Interlaced, LateFrames, OnError, Settings};

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// The element.
    pub struct I2sbRestore(ObjectSubclass<imp::I2sbRestore>)
        @extends gst::Element, gst::Object, @implements gst::Preset;
}

/// Registers the element with rank NONE: it is never plugged unasked.
///
/// # Errors
/// GStreamer's, if the name is taken.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    provenance::register();
    gst::Element::register(Some(plugin), "i2sbrestore", gst::Rank::NONE, I2sbRestore::static_type())
}
