// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames through the element, one after another, into a lossless file, into pictures, or only through.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use gst::prelude::*;

use super::chunk::{Done, Network};
use super::digest;
use super::feed;
use super::source::Frame;
use crate::interrupt;
use crate::progress::told;
use crate::sequence::{self, Kind, Samples};

/// Name of the meta that the element puts on each frame.
const META: &str = "GstI2sbProvenanceMeta";

/// Where frames go.
pub enum Target<'a> {
    /// Into Matroska.
    Video {
        /// The file.
        part: &'a Path,
        /// Description of the encoder.
        encoder: &'a str,
    },
    /// A file each.
    Pictures {
        /// Their folder.
        part: PathBuf,
        /// What is written.
        kind: Kind,
        /// Number of the first.
        first: usize,
    },
    /// Nowhere.
    Nothing,
}

/// What came out.
#[derive(Default)]
pub struct Made {
    /// Digests of the frames.
    pub digests: Vec<String>,
    /// What was done to each.
    pub done: Vec<Done>,
    /// Caps of the packets, or of the frames.
    pub packets: String,
    /// Frames that were restored.
    pub restored: u64,
    /// With what.
    pub network: Network,
}

/// What the probe behind the element collects.
#[derive(Default)]
struct Seen {
    made: Made,
    failed: Option<anyhow::Error>,
}

/// `appsrc ! i2sbrestore ! (encoder ! matroskamux ! filesink | fakesink)`.
pub struct Line {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    restore: gst::Element,
    /// The last element whose caps are recorded.
    last: gst::Element,
    seen: Arc<Mutex<Seen>>,
}

impl Line {
    /// Starts one; the element's own defaults where `properties` say nothing.
    pub fn new(caps: &gst::Caps, properties: &BTreeMap<String, String>, target: Target) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let source = feed::source(caps);
        let restore = gst::ElementFactory::make("i2sbrestore").build()?;
        for (name, text) in properties {
            crate::restore::set(&restore, name, text)?;
        }
        let mut all = vec![source.clone().upcast::<gst::Element>(), restore.clone()];
        if let Target::Video { part, encoder } = &target {
            all.push(gst::parse::bin_from_description(encoder, true)?.upcast());
            all.push(gst::ElementFactory::make("matroskamux").build()?);
            let location = part.to_str().context("the job's folder is not UTF-8")?;
            all.push(gst::ElementFactory::make("filesink").property("location", location).build()?);
        } else {
            all.push(gst::ElementFactory::make("fakesink").property("sync", false).build()?);
        }
        let last = if matches!(target, Target::Video { .. }) { all[2].clone() } else { restore.clone() };
        pipeline.add_many(&all)?;
        gst::Element::link_many(&all)?;
        let pictures = match target {
            Target::Pictures { part, kind, first } => Some((part, kind, first)),
            _ => None,
        };
        let seen = Arc::<Mutex<Seen>>::default();
        let line = Self { pipeline, source, restore, last, seen };
        line.watch(pictures)?;
        line.pipeline.set_state(gst::State::Playing).map_err(|_| feed::failed(&line.pipeline))?;
        Ok(line)
    }

    fn watch(&self, pictures: Option<(PathBuf, Kind, usize)>) -> Result<()> {
        let seen = self.seen.clone();
        let pad = self.restore.static_pad("src").context("i2sbrestore has no source pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = seen.frame(buffer, &caps, pictures.as_ref()) {
                    seen.failed.get_or_insert(error);
                }
            }
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }

    /// Hands over a frame.
    pub fn push(&mut self, frame: &Frame) -> Result<()> {
        let mut buffer = frame.buffer.clone();
        // As in the whole file: times count from the start of its presentation.
        buffer.make_mut().set_pts(frame.time);
        feed::push(&self.pipeline, &self.source, buffer)?;
        self.no_error()
    }

    /// Waits until all are out.
    pub fn end(self) -> Result<Made> {
        self.source.end_of_stream().map_err(|_| feed::failed(&self.pipeline))?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = loop {
            match bus.timed_pop_filtered(200 * gst::ClockTime::MSECOND, &kinds) {
                Some(message) => break message,
                None => ensure!(!interrupt::asked(), "interrupted"),
            }
        };
        if message.type_() == gst::MessageType::Error {
            return Err(told(&message));
        }
        self.no_error()?;
        let caps = self.last.static_pad("src").and_then(|pad| pad.current_caps()).context("no packets")?;
        let stats: gst::Structure = self.restore.property("stats");
        // The file is whole only once the sink is closed.
        self.pipeline.set_state(gst::State::Null)?;
        let mut made = std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).made);
        let mut caps = caps.copy();
        // The encoder leaves out how frames are scanned, and the container has a place for it.
        let scanned = self.source.caps();
        if let Some(frames) = scanned.as_ref().and_then(|caps| caps.structure(0)) {
            for field in ["interlace-mode", "field-order"] {
                if let Ok(value) = frames.get::<String>(field) {
                    caps.make_mut().set(field, value);
                }
            }
        }
        made.packets = caps.to_string();
        made.restored = stats.get("restored").unwrap_or_default();
        let network = &mut made.network;
        // What no frame told, as nothing was done to any, the element knows all the same.
        let text = |name: &str| stats.get::<String>(name).unwrap_or_default();
        (network.model, network.hash) = (text("model"), text("hash"));
        (network.device, network.precision) = (text("device"), text("precision"));
        network.plugin =
            gst::Registry::get().find_plugin("i2sb").map(|p| p.version().to_string()).unwrap_or_default();
        Ok(made)
    }

    fn no_error(&self) -> Result<()> {
        if let Some(error) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).failed.take() {
            return Err(error);
        }
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        bus.pop_filtered(&[gst::MessageType::Error]).map_or(Ok(()), |message| Err(told(&message)))
    }
}

impl Seen {
    fn frame(
        &mut self,
        buffer: &gst::Buffer,
        caps: &gst::CapsRef,
        pictures: Option<&(PathBuf, Kind, usize)>,
    ) -> Result<()> {
        let index = self.made.digests.len();
        self.made.digests.push(digest::frame(buffer, caps)?);
        let meta = gst::meta::CustomMeta::from_buffer(buffer, META).context("a frame without provenance")?;
        let fields = meta.structure();
        // Not a number, or endless, where nothing changed: JSON has neither.
        let number = |name: &str| fields.get::<f64>(name).ok().filter(|value| value.is_finite());
        self.made.done.push(Done {
            status: fields.get("status").unwrap_or_default(),
            psnr: number("psnr"),
            ssim: number("ssim"),
            largest: number("largest"),
        });
        let network = &mut self.made.network;
        network.sampler = fields.get("sampler").unwrap_or_default();
        network.steps = fields.get::<u32>("steps").unwrap_or_default().into();
        network.seed = fields.get("seed").unwrap_or_default();
        network.strength = fields.get::<f32>("strength").unwrap_or_default().to_string().parse()?;
        if let Some((part, kind, first)) = pictures {
            let picture = Samples::of(buffer, caps)?;
            let bits = if picture.bits > 8 { 16 } else { 8 };
            let path = part.join(format!("{:06}.{}", first + index, kind.ending()));
            sequence::write(&picture.at(bits), *kind, &path)?;
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Only a pipeline that cannot be stopped fails here, and nobody waits for it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
