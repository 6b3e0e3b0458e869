// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was done to a frame, on the frame and in the stream's tags.

use std::sync::OnceLock;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::evidence::Audit;
use super::imp::{CAT, I2sbRestore, lock};
use super::number;
use super::stream::Work;
use crate::engine::{About, Image, Knobs};

/// Name of the custom meta on each frame that goes out, and of its structure.
///
/// Fields: `status` (`restored`, `reused`, `bypassed`, `late` or `failed`), `frame` (u64, by
/// its time and the frame rate), `version`, `model`, `hash` (SHA-256 of the weights), `device`, `precision`, `sampler` (`model`: as
/// the model advises), `steps` (u32, network evaluations; 0 without a model), `seed` (u64), `strength` (f32); with `audit` also
/// `psnr` (f64, dB, peak white; infinite where nothing changed), `ssim` (f64, on 8 bits) and `largest` (f64,
/// largest change of a sample of R'G'B', 1 = black to white).
///
/// While two engines or numbers of steps are cross-faded, the fields name the one with the larger share. The
/// comment tag of the stream tells of the first frame that was restored.
pub const META: &str = "GstI2sbProvenanceMeta";

/// What was done to a frame as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Restored.
    Restored,
    /// Equal to the frame before it, whose result was used again.
    Reused,
    /// Passed as it came, as was asked for.
    Bypassed,
    /// Passed as it came, because it was late.
    Late,
    /// Passed as it came, because it could not be restored.
    Failed,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::Reused => "reused",
            Self::Bypassed => "bypassed",
            Self::Late => "late",
            Self::Failed => "failed",
        }
    }
}

/// Who was to restore a frame, and how.
pub struct Maker {
    about: About,
    knobs: Knobs,
    strength: f32,
}

impl Maker {
    /// Network evaluations per frame.
    fn steps(&self) -> u32 {
        match (self.knobs.steps, self.about.model.is_empty()) {
            (0, true) => 0,
            (0, false) => self.about.steps.max(1),
            (steps, _) => steps,
        }
    }
}

/// What the source pad's task remembers for it.
#[derive(Default)]
pub struct Trail {
    /// The last results, to see that they were used again.
    shown: Vec<Image>,
    /// The stream's own tags.
    upstream: Option<gst::TagList>,
    /// The tag has been sent.
    told: Option<String>,
}

/// Registers the meta, once.
pub fn register() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| gst::meta::CustomMeta::register(META, &[]));
}

impl Trail {
    /// Whether these results are those of the frame before.
    pub fn status(&mut self, pictures: &[Image]) -> Status {
        let same =
            pictures.len() == self.shown.len() && pictures.iter().zip(&self.shown).all(|(a, b)| a.is(b));
        self.shown = pictures.to_vec();
        if same { Status::Reused } else { Status::Restored }
    }

    /// An event as it goes on: the stream's tags get ours.
    pub fn event(&mut self, event: gst::Event) -> gst::Event {
        match event.view() {
            gst::EventView::StreamStart(_) => (self.upstream, self.told) = (None, None),
            gst::EventView::Tag(tag) if tag.tag().scope() == gst::TagScope::Stream => {
                self.upstream = Some(tag.tag_owned());
                if self.told.is_some() {
                    return self.tags();
                }
            }
            _ => {}
        }
        event
    }

    fn tags(&self) -> gst::Event {
        let mut tags = self.upstream.clone().unwrap_or_default();
        if let Some(text) = &self.told {
            tags.make_mut().add::<gst::tags::Comment>(&text.as_str(), gst::TagMergeMode::Append);
        }
        gst::event::Tag::new(tags)
    }
}

impl I2sbRestore {
    /// Who works on this frame as it was asked for when the frame came; without work, as is asked for now.
    pub fn maker(&self, work: Option<&Work>) -> Maker {
        let pass = work.and_then(|work| work.passes.iter().max_by(|a, b| a.weight.total_cmp(&b.weight)));
        let about = pass.and_then(|pass| pass.worker.about());
        let about = about.or_else(|| self.stream.lock().engines.about.clone()).unwrap_or_default();
        let settings = lock(&self.settings);
        let knobs = pass.map_or_else(|| settings.knobs.clone(), |pass| pass.knobs.clone());
        Maker { about, knobs, strength: work.map_or(settings.strength, |work| work.strength) }
    }

    /// Puts the meta on a frame, and the tag before the first one that was restored.
    pub fn prove(&self, buffer: &mut gst::Buffer, status: Status, maker: &Maker, audit: Option<Audit>) {
        let Maker { about, knobs, strength } = maker;
        let segment = self.srcpad.sticky_event::<gst::event::Segment>(0);
        let segment = segment.and_then(|event| event.segment().downcast_ref::<gst::ClockTime>().cloned());
        let caps = self.srcpad.current_caps();
        let rate = caps.and_then(|caps| caps.structure(0)?.get::<gst::Fraction>("framerate").ok());
        let frame = number::of(buffer, segment.as_ref(), rate.unwrap_or(gst::Fraction::new(0, 1)));
        if matches!(status, Status::Restored | Status::Reused) {
            self.tell_tags(maker);
        }
        let Ok(mut meta) = gst::meta::CustomMeta::add(buffer.make_mut(), META) else {
            gst::warning!(CAT, imp = self, "no {META}");
            return;
        };
        let fields = meta.mut_structure();
        fields.set("status", status.name());
        fields.set("frame", frame);
        fields.set("version", env!("CARGO_PKG_VERSION"));
        fields.set("model", about.model.as_str());
        fields.set("hash", about.hash.as_str());
        fields.set("device", about.device.as_str());
        fields.set("precision", about.precision.as_str());
        fields.set("sampler", sampler(knobs));
        fields.set("steps", maker.steps());
        fields.set("seed", knobs.seed);
        fields.set("strength", *strength);
        if let Some(audit) = audit {
            fields.set("psnr", audit.psnr);
            fields.set("ssim", audit.ssim);
            fields.set("largest", audit.largest);
        }
    }

    fn tell_tags(&self, maker: &Maker) {
        let Maker { about, knobs, strength } = maker;
        let event = {
            let mut trail = lock(&self.trail);
            if trail.told.is_some() {
                return;
            }
            let steps = maker.steps();
            trail.told = Some(format!(
                "restored with i2sb {}: model {} (SHA-256 {}), sampler {}, steps {steps}, seed {}, strength {}, {} on \
                 {}",
                env!("CARGO_PKG_VERSION"),
                about.model,
                about.hash,
                sampler(knobs),
                knobs.seed,
                strength,
                about.precision,
                about.device,
            ));
            trail.tags()
        };
        gst::debug!(CAT, imp = self, "pushing {event:?}");
        self.srcpad.push_event(event);
    }
}

fn sampler(knobs: &Knobs) -> &str {
    match knobs.sampler.as_str() {
        "" => "model",
        name => name,
    }
}
