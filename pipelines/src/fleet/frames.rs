// SPDX-License-Identifier: MIT OR Apache-2.0
//! The decoded frames of a file's first video stream, one after another, from the start or from a time.

use std::path::Path;

use anyhow::{Context, Result, bail};
use gst::prelude::*;

/// Formats that the lossless encoder does not take, and the one that holds the same samples in another order.
const REORDERED: &[(&str, &str)] = &[
    ("NV12", "I420"),
    ("NV21", "I420"),
    ("YV12", "I420"),
    ("YUY2", "Y42B"),
    ("UYVY", "Y42B"),
    ("P010_10LE", "I420_10LE"),
    ("v210", "I422_10LE"),
];

/// A frame as it left the decoder.
pub struct Frame {
    /// Its samples and metas.
    pub buffer: gst::Buffer,
    /// What the samples mean.
    pub caps: gst::Caps,
    /// When it is shown, counted from the start of the file's presentation.
    pub time: gst::ClockTime,
}

/// A file that is being decoded.
pub struct Frames {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
}

impl Frames {
    /// Opens a file and decodes its first frame.
    pub fn open(input: &Path) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let location = input.to_str().with_context(|| format!("{}: not UTF-8", input.display()))?;
        let make = |factory: &str| gst::ElementFactory::make(factory).build();
        let source = gst::ElementFactory::make("filesrc").property("location", location).build()?;
        let (parse, queue, decode) = (make("parsebin")?, make("queue")?, make("decodebin")?);
        let (convert, filter) = (make("videoconvert")?, make("capsfilter")?);
        let sink = gst_app::AppSink::builder().sync(false).max_buffers(2).build();
        let all = [&source, &parse, &queue, &decode, &convert, &filter, sink.upcast_ref()];
        pipeline.add_many(all)?;
        source.link(&parse)?;
        queue.link(&decode)?;
        gst::Element::link_many([&convert, &filter, sink.upcast_ref()])?;
        let target = queue.static_pad("sink").context("queue has no sink pad")?;
        parse.connect_pad_added(move |_, pad| {
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let video = caps.structure(0).is_some_and(|s| s.name().starts_with("video/"));
            if video && !target.is_linked() {
                // What cannot be linked ends as an error of the demuxer, which nobody listens to.
                let _ = pad.link(&target);
            }
        });
        let target = convert.static_pad("sink").context("videoconvert has no sink pad")?;
        decode.connect_pad_added(move |_, pad| {
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let format = caps.structure(0).and_then(|s| s.get::<String>("format").ok()).unwrap_or_default();
            let same =
                REORDERED.iter().find(|(from, _)| *from == format).map_or(format.as_str(), |(_, to)| to);
            filter.set_property("caps", gst::Caps::builder("video/x-raw").field("format", same).build());
            let _ = pad.link(&target);
        });
        let frames = Self { pipeline, sink };
        frames.pipeline.set_state(gst::State::Paused).map_err(|_| frames.failed())?;
        frames.settle()?;
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
    /// If the file cannot be decoded; if the decoder marks a frame as damaged.
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
        let caps = sample.caps_owned().context("a frame without caps")?;
        let buffer = sample.buffer_owned().context("a sample without a frame")?;
        let segment =
            sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>()).context("no time segment")?;
        let time = segment.to_stream_time(buffer.pts()).context("a frame without a time")?;
        if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
            bail!("the frame at {time} is damaged: the decoder could not read all of it");
        }
        Ok(Some(Frame { buffer, caps, time }))
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

impl Drop for Frames {
    fn drop(&mut self) {
        // Only a pipeline that cannot be stopped fails here, and nobody waits for it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The text of an error message.
pub fn told(message: &gst::Message) -> anyhow::Error {
    match message.view() {
        gst::MessageView::Error(error) => {
            let detail = error.debug().map(|debug| debug.lines().next_back().unwrap_or_default().to_owned());
            anyhow::anyhow!("{} ({})", error.error(), detail.unwrap_or_default())
        }
        _ => anyhow::anyhow!("the pipeline failed"),
    }
}
