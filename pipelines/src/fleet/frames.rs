// SPDX-License-Identifier: MIT OR Apache-2.0
//! The decoded frames of a file's first video stream, one after another, from the start or from a time.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use super::decoder_log;
use super::parse;
use super::source::Frame;
use crate::progress::told;

/// Formats that the lossless encoder does not take, and the one that holds the same samples in another order.
const REORDERED: &[(&str, &str)] = &[
    ("NV12", "I420"),
    ("NV21", "I420"),
    ("YV12", "I420"),
    ("YUY2", "Y42B"),
    ("UYVY", "Y42B"),
    ("P010_10LE", "I420_10LE"),
    ("v210", "I422_10LE"),
    ("RGB", "BGRx"),
    ("BGR", "BGRx"),
    ("GBR", "BGRx"),
];

/// Why no first frame comes where there is no packet of video.
const NOTHING: &str = "it holds no video";
/// And where there are some.
const UNDECODED: &str = "it cannot be decoded; pictures may hold more bits than GStreamer's decoders know (12 for colour, 16 for grey)";

/// A file that is being decoded.
pub struct Video {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    colorimetry: Option<String>,
    seen: Arc<Mutex<Seen>>,
}

/// What was seen before the decoder.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Caps of the streams beside the video.
    pub others: Vec<gst::Caps>,
    /// Caps of the video's packets.
    pub packed: Option<gst::Caps>,
    /// Packets of the video so far.
    pub packets: u64,
    /// The first packet needs others before it.
    pub begins_inside: bool,
    /// Not every packet of the video has a time, so that those between are worked out by the decoder.
    pub sparse: bool,
    /// Time of the first packet that reached a parser of the video.
    pub begins: Option<gst::ClockTime>,
}

impl Video {
    /// Opens a file and decodes its first frame.
    pub fn open(input: &Path, colorimetry: Option<String>) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let location = input.to_str().with_context(|| format!("{}: not UTF-8", input.display()))?;
        let make = |factory: &str| gst::ElementFactory::make(factory).build();
        let source = gst::ElementFactory::make("filesrc").property("location", location).build()?;
        let (parse, queue, decode) = (parse::bin()?, make("queue")?, make("decodebin")?);
        let (convert, filter) = (exact(&make("videoconvert")?), make("capsfilter")?);
        let sink = gst_app::AppSink::builder().sync(false).max_buffers(2).build();
        let all = [&source, &parse, &queue, &decode, &convert, &filter, sink.upcast_ref()];
        pipeline.add_many(all)?;
        source.link(&parse)?;
        queue.link(&decode)?;
        gst::Element::link_many([&convert, &filter, sink.upcast_ref()])?;
        let seen = Arc::<Mutex<Seen>>::default();
        watch(&parse, &queue, &seen)?;
        let target = queue.static_pad("sink").context("queue has no sink pad")?;
        let others = seen.clone();
        parse.connect_pad_added(move |_, pad| {
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let video = caps.structure(0).is_some_and(|s| s.name().starts_with("video/"));
            if video && !target.is_linked() {
                // What cannot be linked ends as an error of the demuxer, which nobody listens to.
                let _ = pad.link(&target);
            } else {
                others.lock().unwrap_or_else(PoisonError::into_inner).others.push(caps);
            }
        });
        decode.downcast_ref::<gst::Bin>().context("decodebin is a bin")?.connect_deep_element_added(in_step);
        let target = convert.static_pad("sink").context("videoconvert has no sink pad")?;
        decode.connect_pad_added(move |_, pad| {
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let format = caps.structure(0).and_then(|s| s.get::<String>("format").ok()).unwrap_or_default();
            let same =
                REORDERED.iter().find(|(from, _)| *from == format).map_or(format.as_str(), |(_, to)| to);
            filter.set_property("caps", gst::Caps::builder("video/x-raw").field("format", same).build());
            pad.add_probe(gst::PadProbeType::BUFFER, |_, _| {
                decoder_log::decoded();
                gst::PadProbeReturn::Ok
            });
            let _ = pad.link(&target);
        });
        let frames = Self { pipeline, sink, colorimetry, seen };
        frames.pipeline.set_state(gst::State::Paused).map_err(|_| frames.failed())?;
        frames.settle().with_context(|| if frames.seen().packets == 0 { NOTHING } else { UNDECODED })?;
        Ok(frames)
    }

    /// Goes to the frame that is shown at this time, or a little before it.
    pub fn seek(&self, time: gst::ClockTime) -> Result<()> {
        self.pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, time)?;
        self.settle()
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be decoded.
    pub fn next(&self) -> Result<Option<Frame>> {
        self.pipeline.set_state(gst::State::Playing).map_err(|_| self.failed())?;
        let sample = loop {
            if let Some(sample) = self.sink.try_pull_sample(200 * gst::ClockTime::MSECOND) {
                break sample;
            }
            if crate::interrupt::asked() {
                bail!("interrupted");
            }
            self.no_error()?;
            if self.sink.is_eos() {
                return Ok(None);
            }
        };
        let mut caps = sample.caps_owned().context("a frame without caps")?;
        if let Some(colorimetry) = &self.colorimetry {
            caps.make_mut().set("colorimetry", colorimetry);
        }
        let buffer = sample.buffer_owned().context("a sample without a frame")?;
        let segment =
            sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>()).context("no time segment")?;
        let time = segment.to_stream_time(buffer.pts()).context("a frame without a time")?;
        let damaged = buffer.flags().contains(gst::BufferFlags::CORRUPTED);
        Ok(Some(Frame { buffer, caps, time, damaged, timecode: None }))
    }

    /// How long the file plays, as its container says.
    pub fn duration(&self) -> Option<gst::ClockTime> {
        self.pipeline.query_duration()
    }

    /// What was seen before the decoder.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the pipeline is where it was sent.
    fn settle(&self) -> Result<()> {
        loop {
            match self.pipeline.state(200 * gst::ClockTime::MSECOND).0 {
                Ok(gst::StateChangeSuccess::Async) => self.no_error()?,
                Ok(_) => return Ok(()),
                Err(_) => return Err(self.failed()),
            }
            if crate::interrupt::asked() {
                bail!("interrupted");
            }
        }
    }

    fn no_error(&self) -> Result<()> {
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        match bus.pop_filtered(&[gst::MessageType::Error]) {
            None => Ok(()),
            Some(message) => Err(told(&message)),
        }
    }

    fn failed(&self) -> anyhow::Error {
        let message = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        message.map_or_else(|| anyhow::anyhow!("the file cannot be decoded"), |message| told(&message))
    }
}

impl Drop for Video {
    fn drop(&mut self) {
        // Only a pipeline that cannot be stopped fails here, and nobody waits for it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// A converter that puts samples in another order and does nothing else to them.
fn exact(convert: &gst::Element) -> gst::Element {
    for name in ["dither", "chroma-mode", "matrix-mode", "gamma-mode", "primaries-mode"] {
        convert.set_property_from_str(name, "none");
    }
    convert.clone()
}

/// Has a decoder give out each frame before it takes the next, so that what it says is of that frame.
fn in_step(_: &gst::Bin, _: &gst::Bin, element: &gst::Element) {
    if element.has_property("thread-type") {
        element.set_property_from_str("thread-type", "slice");
    }
}

/// Looks at the packets of the video, where they reach its parser and where they leave for the decoder.
fn watch(parse: &gst::Element, queue: &gst::Element, seen: &Arc<Mutex<Seen>>) -> Result<()> {
    let begins = seen.clone();
    let bin = parse.downcast_ref::<gst::Bin>().context("parsebin is a bin")?;
    bin.connect_element_added(move |_, element| {
        let klass =
            element.factory().and_then(|f| f.metadata("klass").map(str::to_owned)).unwrap_or_default();
        let Some(pad) = element
            .static_pad("sink")
            .filter(|_| klass.starts_with("Codec/Parser") && klass.ends_with("Video"))
        else {
            return;
        };
        let begins = begins.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let pts = info.buffer().and_then(|buffer| buffer.pts());
            let mut seen = begins.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(pts) = pts.filter(|_| seen.begins.is_none()) else {
                seen.sparse |= pts.is_none();
                return gst::PadProbeReturn::Ok;
            };
            let segment = pad.sticky_event::<gst::event::Segment>(0);
            let segment = segment.and_then(|event| event.segment().downcast_ref::<gst::ClockTime>().cloned());
            seen.begins = segment.and_then(|segment| segment.to_stream_time(pts));
            gst::PadProbeReturn::Ok
        });
    });
    let seen = seen.clone();
    let pad = queue.static_pad("src").context("queue has no source pad")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(buffer) = info.buffer() else { return gst::PadProbeReturn::Ok };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.packets == 0 {
            seen.packed = pad.current_caps();
            seen.begins_inside = buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        }
        seen.packets += 1;
        gst::PadProbeReturn::Ok
    });
    Ok(())
}
