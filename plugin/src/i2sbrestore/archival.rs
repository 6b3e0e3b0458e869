// SPDX-License-Identifier: MIT OR Apache-2.0
//! The properties of those who must prove what was changed: name, default, range, stated once, here.

use gst::glib;
use gst::prelude::*;

/// Which noise a frame gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstI2sbNoise")]
pub enum Noise {
    /// The same for all.
    #[default]
    #[enum_value(
        name = "Still: the same noise in every frame, so that still parts stay still",
        nick = "still"
    )]
    Still,
    /// By the frame's number.
    #[enum_value(
        name = "Frame: noise by the frame's number, which comes from its time and the frame rate",
        nick = "frame"
    )]
    Frame,
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Archival {
    /// Refuse rather than guess.
    pub strict: bool,
    /// See [`Noise`].
    pub noise: Noise,
    /// Path of a picture, white where nothing may change; empty: none.
    pub protect_mask: String,
    /// Type of the regions of interest in which nothing may change; empty: none.
    pub protect_roi: String,
    /// Path of a picture, white where to fill in; empty: none.
    pub inpaint_mask: String,
    /// Compare each frame with what came in.
    pub audit: bool,
    /// Amplification on the pad `src_residual`; 0: no such pad.
    pub residual_gain: f32,
}

impl Default for Archival {
    fn default() -> Self {
        Self {
            strict: false,
            noise: Noise::default(),
            protect_mask: String::new(),
            protect_roi: "i2sb-protect".into(),
            inpaint_mask: String::new(),
            audit: false,
            residual_gain: 0.0,
        }
    }
}

/// Largest amplification: one step of 8 bits becomes white.
const MOST_GAIN: f32 = 256.0;

impl Archival {
    /// Sets one of these properties; false if it is none of them. The type has been checked by GObject.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        fn of<'a, T: glib::value::FromValue<'a>>(value: &'a glib::Value) -> T {
            value.get().expect("type checked upstream")
        }
        let text = |value: &glib::Value| of::<Option<String>>(value).unwrap_or_default();
        match name {
            "strict" => self.strict = of(value),
            "noise" => self.noise = of(value),
            "protect-mask" => self.protect_mask = text(value),
            "protect-roi" => self.protect_roi = text(value),
            "inpaint-mask" => self.inpaint_mask = text(value),
            "audit" => self.audit = of(value),
            "residual-gain" => self.residual_gain = of(value),
            _ => return false,
        }
        true
    }

    /// The value of one of these properties.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        let text = |text: &String| Some(text).filter(|text| !text.is_empty()).to_value();
        Some(match name {
            "strict" => self.strict.to_value(),
            "noise" => self.noise.to_value(),
            "protect-mask" => text(&self.protect_mask),
            "protect-roi" => text(&self.protect_roi),
            "inpaint-mask" => text(&self.inpaint_mask),
            "audit" => self.audit.to_value(),
            "residual-gain" => self.residual_gain.to_value(),
            _ => return None,
        })
    }
}

/// The properties as GObject sees them; defaults come from [`Archival::default`].
pub fn properties() -> Vec<glib::ParamSpec> {
    let d = Archival::default();
    vec![
        glib::ParamSpecBoolean::builder("strict")
            .nick("Strict")
            .blurb(
                "Refuse, with an error that names the field of the caps, instead of guessing: unknown matrix or \
                 range, mixed or changing field order, changing size, frames marked as damaged",
            )
            .default_value(d.strict)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("noise", d.noise)
            .nick("Noise")
            .blurb(
                "Which noise a frame gets, for models and samplers that draw any; by either, a frame has the same \
                 bits whether the file is played whole, from a seek or in parts",
            )
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("protect-mask")
            .nick("Protect mask")
            .blurb("Picture as large as the frames, white where no sample may change: burnt-in time, text, faces")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("protect-roi")
            .nick("Protected regions")
            .blurb("Type of the region-of-interest metas in which no sample may change; empty means none")
            .default_value(Some(d.protect_roi.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("inpaint-mask")
            .nick("Inpainting mask")
            .blurb(
                "Picture as large as the frames, white where the picture is lost (dropouts, scratches, logos): the \
                 white part is filled in from noise by the bridge's masked mode, all else stays as it is",
            )
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("audit")
            .nick("Audit")
            .blurb(
                "Compare each frame with what came in: PSNR, SSIM and the largest change in GstI2sbProvenanceMeta",
            )
            .default_value(d.audit)
            .mutable_ready()
            .build(),
        glib::ParamSpecFloat::builder("residual-gain")
            .nick("Residual gain")
            .blurb("Above 0, the pad src_residual appears, with the change of each frame, times this, on grey")
            .minimum(0.0)
            .maximum(MOST_GAIN)
            .default_value(d.residual_gain)
            .mutable_ready()
            .build(),
    ]
}
