// SPDX-License-Identifier: MIT OR Apache-2.0
//! The overrides of GObject and GStreamer; each one delegates.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::caps::{Format, template};
use super::evidence;
use super::masks::Masks;
use super::provenance::Trail;
use super::settings::{CUDA, Settings, properties};
use super::source::Source;
use super::stats;
use super::stream::Stream;

/// Log category of the element.
pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "i2sbrestore",
        gst::DebugColorFlags::empty(),
        Some("Schrödinger bridge restoration"),
    )
});

/// What the sink pad's thread knows about the stream.
#[derive(Default)]
pub struct Input {
    /// From the last CAPS event.
    pub format: Option<Arc<Format>>,
    /// From the last SEGMENT event.
    pub segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    /// Whether upstream is live, as it answered after that event.
    pub live: Option<bool>,
    /// Field order of the last frame, for `strict`.
    pub top_first: Option<bool>,
}

/// Warnings that are given once per start.
#[derive(Default)]
pub struct Told {
    /// About a transfer function the networks do not know.
    pub hdr: bool,
    /// About samples that were not finite.
    pub broken: bool,
    /// About frames that are all late.
    pub late: bool,
    /// About an event that cannot be taken.
    pub refused: Option<(gst::EventType, gst::Seqnum)>,
}

/// The element's private part. Locks cover field access only and are never held together.
pub struct I2sbRestore {
    /// The pad that takes frames.
    pub sinkpad: gst::Pad,
    /// The pad whose task pushes them.
    pub srcpad: gst::Pad,
    /// What the user asked for.
    pub settings: Mutex<Settings>,
    /// The models that the settings ask for, from NULL→READY.
    pub sources: Mutex<Vec<Source>>,
    /// One that is loaded to replace the first of them.
    pub candidate: Mutex<Option<Source>>,
    /// See [`Input`].
    pub input: Mutex<Input>,
    /// See [`Told`].
    pub told: Mutex<Told>,
    /// See [`Masks`].
    pub masks: Mutex<Arc<Masks>>,
    /// See [`Trail`].
    pub trail: Mutex<Trail>,
    /// The pad `src_residual` while it is there.
    pub residual: Mutex<Option<gst::Pad>>,
    /// Everything between the pads.
    pub stream: Arc<Stream>,
}

/// Takes a lock; a panic elsewhere does not make its fields wrong.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[glib::object_subclass]
impl ObjectSubclass for I2sbRestore {
    const NAME: &'static str = "GstI2sbRestore";
    type Type = super::I2sbRestore;
    type ParentType = gst::Element;
    type Interfaces = (gst::Preset,);

    fn with_class(class: &Self::Class) -> Self {
        let template = |name| class.pad_template(name).expect("made in pad_templates");
        let flags = gst::PadFlags::PROXY_CAPS | gst::PadFlags::PROXY_SCHEDULING;
        let sinkpad = gst::Pad::builder_from_template(&template("sink"))
            .chain_function(|pad, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.sink_chain(pad, buffer),
                )
            })
            .event_full_function(|pad, parent, event| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.sink_event(pad, event),
                )
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_query(pad, query))
            })
            .activatemode_function(|_, parent, mode, active| {
                let fail = || Err(gst::loggable_error!(CAT, "panic in activation"));
                Self::catch_panic_pad_function(parent, fail, |this| this.sink_activate(mode, active))
            })
            .flags(flags)
            .build();
        let srcpad = gst::Pad::builder_from_template(&template("src"))
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_query(pad, query))
            })
            .activatemode_function(|pad, parent, mode, active| {
                let fail = || Err(gst::loggable_error!(CAT, "panic in activation"));
                Self::catch_panic_pad_function(parent, fail, |this| this.src_activate(pad, mode, active))
            })
            .flags(flags | gst::PadFlags::FIXED_CAPS)
            .build();
        let settings = Settings::default();
        Self {
            sinkpad,
            srcpad,
            stream: Arc::new(Stream::new(settings.limits())),
            settings: Mutex::new(settings),
            sources: Mutex::default(),
            candidate: Mutex::default(),
            input: Mutex::default(),
            told: Mutex::default(),
            masks: Mutex::default(),
            trail: Mutex::default(),
            residual: Mutex::default(),
        }
    }
}

impl ObjectImpl for I2sbRestore {
    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.add_pad(&self.sinkpad).expect("a new element has no pads");
        obj.add_pad(&self.srcpad).expect("a new element has no pads");
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(properties);
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.set(value, pspec);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => {
                let state = self.stream.lock();
                stats::structure(&state).to_value()
            }
            CUDA => crate::engine::cuda::status().to_value(),
            name => lock(&self.settings).get(name),
        }
    }
}

impl GstObjectImpl for I2sbRestore {}
impl PresetImpl for I2sbRestore {}

impl ElementImpl for I2sbRestore {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Schrödinger bridge restorer",
                "Filter/Effect/Video",
                "Removes the traces of compression and other damage from video with an Image-to-Image Schrödinger \
                 Bridge",
                "The i2sb authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let pad = |name, direction, presence| {
                gst::PadTemplate::new(name, direction, presence, &template())
                    .expect("a name, a direction and caps make a template")
            };
            vec![
                pad("sink", gst::PadDirection::Sink, gst::PadPresence::Always),
                pad("src", gst::PadDirection::Src, gst::PadPresence::Always),
                pad(evidence::PAD, gst::PadDirection::Src, gst::PadPresence::Sometimes),
            ]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => self.resolve()?,
            gst::StateChange::ReadyToPaused => self.start()?,
            // Before the parent deactivates the pads, so that nobody is waited for.
            gst::StateChange::PausedToReady => drop(self.stream.stop()),
            _ => {}
        }
        let success = self.parent_change_state(transition)?;
        match transition {
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToNull => lock(&self.sources).clear(),
            _ => {}
        }
        Ok(success)
    }
}
