// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every property: name, default, range, unit, mutability; stated once, here.

use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use super::archival::{self, Archival};
pub use super::policies::{Compare, Hdr, Interlaced, LateFrames, OnError};
use super::tables::{PRECISION, SAMPLER};
use crate::engine::Knobs;
use crate::flow::queue::Limits;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Short name or path; empty: the embedded network.
    pub model: String,
    /// 0, faithful, … 1, perceptual.
    pub detail: f32,
    /// The same of those to step down to, with commas between.
    pub fallback_models: String,
    /// Evaluations per frame; 0: as the model advises; `AUTO_STEPS`.
    pub steps: i32,
    /// `auto`, `cpu`, `cuda:N`.
    pub device: String,
    /// Name of a row of the engine's precisions; empty: the engine's choice.
    pub precision: String,
    /// What the engine needs per frame.
    pub knobs: Knobs,
    /// 0 … 1.
    pub strength: f32,
    /// Frames worked on together.
    pub batch_size: u32,
    /// Nanoseconds.
    pub batch_timeout: u64,
    /// Frames; 0: the batch and two more.
    pub max_in_flight: u32,
    /// See [`LateFrames`].
    pub late_frames: LateFrames,
    /// See [`Interlaced`].
    pub interlaced: Interlaced,
    /// See [`Hdr`].
    pub hdr: Hdr,
    /// See [`OnError`].
    pub on_error: OnError,
    /// Nanoseconds; -1: measured.
    pub latency: i64,
    /// See [`Compare`].
    pub compare: Compare,
    /// Whether frames are restored at all.
    pub enabled: bool,
    /// See `archival.rs`.
    pub archival: Archival,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: String::new(),
            detail: 0.0,
            fallback_models: String::new(),
            steps: 0,
            device: "auto".into(),
            precision: String::new(),
            knobs: Knobs { steps: 0, sampler: String::new(), seed: 0, frame: 0, tile: 0 },
            strength: 1.0,
            batch_size: 1,
            batch_timeout: 20_000_000,
            max_in_flight: 0,
            late_frames: LateFrames::default(),
            interlaced: Interlaced::default(),
            hdr: Hdr::default(),
            on_error: OnError::default(),
            latency: -1,
            compare: Compare::default(),
            enabled: true,
            archival: Archival::default(),
        }
    }
}

/// The property that says whether CUDA can be used.
pub const CUDA: &str = "cuda";
/// Frames beyond the batch that are held when `max-in-flight` is 0: one that is decoded while the
/// engine works, one that is written back.
const SPARE_FRAMES: usize = 2;
/// The value of `steps` that leaves the number to the load.
pub const AUTO_STEPS: i32 = -1;
/// A bridge of the usual thousand noise levels has room for one step less.
const MOST_STEPS: i32 = 999;
/// Most frames a user may ask to be held.
const MOST_FRAMES: u32 = 1024;

impl Settings {
    /// The queue these settings ask for.
    pub fn limits(&self) -> Limits {
        let batch_size = self.batch_size.max(1) as usize;
        let max_in_flight = match self.max_in_flight {
            0 => batch_size + SPARE_FRAMES,
            some => some as usize,
        };
        Limits { max_in_flight, batch_size, batch_timeout: Duration::from_nanos(self.batch_timeout) }
    }

    /// The latency that the user fixed.
    pub fn fixed_latency(&self) -> Option<Duration> {
        u64::try_from(self.latency).ok().map(Duration::from_nanos)
    }

    /// Sets one property. The type has been checked by GObject. Whether the latency may have changed.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        fn of<'a, T: glib::value::FromValue<'a>>(value: &'a glib::Value) -> T {
            value.get().expect("type checked upstream")
        }
        let text = |value: &glib::Value| of::<Option<String>>(value).unwrap_or_default();
        let before = (self.latency, self.limits());
        match name {
            "model" => self.model = text(value),
            "detail" => self.detail = of(value),
            "device" => self.device = text(value),
            "precision" => self.precision = PRECISION.name_of(value).into(),
            "fallback-models" => self.fallback_models = text(value),
            "steps" => {
                self.steps = of(value);
                self.knobs.steps = u32::try_from(self.steps).unwrap_or(0);
            }
            "sampler" => self.knobs.sampler = SAMPLER.name_of(value).into(),
            "seed" => self.knobs.seed = of(value),
            "tile-size" => self.knobs.tile = of(value),
            "strength" => self.strength = of(value),
            "batch-size" => self.batch_size = of(value),
            "batch-timeout" => self.batch_timeout = of(value),
            "max-in-flight" => self.max_in_flight = of(value),
            "late-frames" => self.late_frames = of(value),
            "interlaced" => self.interlaced = of(value),
            "hdr" => self.hdr = of(value),
            "on-error" => self.on_error = of(value),
            "latency" => self.latency = of(value),
            "compare" => self.compare = of(value),
            "enabled" => self.enabled = of(value),
            _ => assert!(self.archival.set(name, value), "property {name}"),
        }
        before != (self.latency, self.limits())
    }

    /// The value of one property.
    pub fn get(&self, name: &str) -> glib::Value {
        let text = |text: &String| Some(text).filter(|text| !text.is_empty()).to_value();
        match name {
            "model" => text(&self.model),
            "detail" => self.detail.to_value(),
            "device" => self.device.to_value(),
            "precision" => PRECISION.value_of(&self.precision),
            "fallback-models" => text(&self.fallback_models),
            "steps" => self.steps.to_value(),
            "sampler" => SAMPLER.value_of(&self.knobs.sampler),
            "seed" => self.knobs.seed.to_value(),
            "tile-size" => self.knobs.tile.to_value(),
            "strength" => self.strength.to_value(),
            "batch-size" => self.batch_size.to_value(),
            "batch-timeout" => self.batch_timeout.to_value(),
            "max-in-flight" => self.max_in_flight.to_value(),
            "late-frames" => self.late_frames.to_value(),
            "interlaced" => self.interlaced.to_value(),
            "hdr" => self.hdr.to_value(),
            "on-error" => self.on_error.to_value(),
            "latency" => self.latency.to_value(),
            "compare" => self.compare.to_value(),
            "enabled" => self.enabled.to_value(),
            _ => self.archival.get(name).unwrap_or_else(|| unimplemented!("property {name}")),
        }
    }
}

/// The properties as GObject sees them; defaults come from [`Settings::default`].
pub fn properties() -> Vec<glib::ParamSpec> {
    let d = Settings::default();
    let mut all = vec![
        glib::ParamSpecString::builder("model")
            .nick("Model")
            .blurb(
                "Network to restore with: a short name such as jpeg-small, searched in $I2SB_MODEL_PATH, ./weights and where it was installed, \
                 a path or a file: URI of a preset's folder; nothing or empty means the embedded video-small. Changed \
                 while playing, the new one is loaded beside the old one, which works until then",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecFloat::builder("detail")
            .nick("Detail")
            .blurb(
                "Between the most faithful picture, 0, and the one that looks least damaged, 1, of models that were \
                 trained for both (fallback-models that were not stay at 0); changed while playing as model is",
            )
            .minimum(0.0)
            .maximum(1.0)
            .default_value(d.detail)
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("fallback-models")
            .nick("Fallback models")
            .blurb(
                "Cheaper networks to step down to while the machine cannot keep up with the frame rate, or while \
                 model fails: names as in model, best first, with commas between; all are kept in memory",
            )
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("device")
            .nick("Device")
            .blurb("Where the network runs: auto (CUDA if the property `cuda` says that it can be used, else the CPU), cpu, or cuda:N")
            .default_value(Some(d.device.as_str()))
            .mutable_ready()
            .build(),
        PRECISION.property(
            "precision",
            "Precision",
            "Numbers that the network multiplies with",
            glib::ParamFlags::READWRITE | gst::PARAM_FLAG_MUTABLE_READY,
        ),
        glib::ParamSpecInt::builder("steps")
            .nick("Steps")
            .blurb(
                "Network evaluations per frame, each as costly as the first; 0 means as many as the model advises, \
                 -1 auto: as many of those as keep up with the frame rate",
            )
            .minimum(AUTO_STEPS)
            .maximum(MOST_STEPS)
            .default_value(d.steps)
            .mutable_playing()
            .build(),
        SAMPLER.property(
            "sampler",
            "Sampler",
            "How the steps are taken; networks that were trained without noise, as all that come with the plugin, take \
             model and ot-ode alone",
            glib::ParamFlags::READWRITE | gst::PARAM_FLAG_MUTABLE_PLAYING,
        ),
        glib::ParamSpecFloat::builder("strength")
            .nick("Strength")
            .blurb("How much of the restoration is applied: 0 gives the input bit by bit, 1 the whole")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(d.strength)
            .controllable()
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("seed")
            .nick("Seed")
            .blurb("Seed of the noise, for models and samplers that draw any; equal seeds give equal pictures")
            .default_value(d.knobs.seed)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("tile-size")
            .nick("Tile size")
            .blurb(
                "Side in pixels of the tiles that a frame is restored in, which bounds memory and does not change \
                 the picture; 0 means chosen by the engine",
            )
            .maximum(1 << 16)
            .default_value(d.knobs.tile)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("batch-size")
            .nick("Batch size")
            .blurb("Frames handed to the engine together; more than 1 adds latency and may help on a GPU")
            .minimum(1)
            .maximum(MOST_FRAMES)
            .default_value(d.batch_size)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("batch-timeout")
            .nick("Batch timeout")
            .blurb("Longest time in nanoseconds that a frame waits for its batch to fill")
            .default_value(d.batch_timeout)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("max-in-flight")
            .nick("Maximum in flight")
            .blurb(
                "Most frames inside the element, each taking 24 bytes per pixel; 0 means two more than batch-size",
            )
            .maximum(MOST_FRAMES)
            .default_value(d.max_in_flight)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("late-frames", d.late_frames)
            .nick("Late frames")
            .blurb("What to do with a frame that downstream reports it would show too late")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("interlaced", d.interlaced)
            .nick("Interlaced")
            .blurb("What to do with interlaced content; mixed content is judged buffer by buffer")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("hdr", d.hdr)
            .nick("HDR")
            .blurb("What to do with PQ and HLG content, which the networks were not trained for")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("on-error", d.on_error)
            .nick("On error")
            .blurb("What to do when the model cannot be loaded or a frame cannot be restored")
            .mutable_playing()
            .build(),
        glib::ParamSpecInt64::builder("latency")
            .nick("Latency")
            .blurb(
                "Latency in nanoseconds that live pipelines are told, whatever the load; with late-frames other \
                 than process every frame of a live source leaves within it. -1 means as measured",
            )
            .minimum(-1)
            .default_value(d.latency)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("compare", d.compare)
            .nick("Compare")
            .blurb("Show the input and the restoration in one frame")
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("enabled")
            .nick("Enabled")
            .blurb("Restore frames; false lets them through untouched, without renegotiation")
            .default_value(d.enabled)
            .controllable()
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder(CUDA)
            .nick("CUDA")
            .blurb("Whether CUDA can be used here and from which library, or why not; asked once")
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb(
                "Counters and times: frames in, out, restored, bypassed, late, dropped, failed, repeated, retried \
                 and recomputed, tiles reused, steps down and up, outages and recoveries, frames queued, ms per frame p50 and p95, \
                 and of the model in use its name, steps, hash, device and precision",
            )
            .read_only()
            .build(),
    ];
    all.extend(archival::properties());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_shown_are_defaults_used() {
        gst::init().unwrap();
        let settings = Settings::default();
        for spec in properties().iter().filter(|spec| ![CUDA, "stats"].contains(&spec.name())) {
            let (shown, used) = (spec.default_value(), settings.get(spec.name()));
            assert_eq!(format!("{shown:?}"), format!("{used:?}"), "{}", spec.name());
        }
    }

    #[test]
    fn what_is_set_is_got() {
        gst::init().unwrap();
        let mut settings = Settings::default();
        settings.set("strength", &0.25f32.to_value());
        assert_eq!(settings.get("strength").get::<f32>().unwrap(), 0.25);
        assert!(settings.set("latency", &5i64.to_value()));
        settings.set("model", &None::<String>.to_value());
        assert_eq!(settings.model, "");
    }
}
