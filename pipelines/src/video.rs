// SPDX-License-Identifier: MIT OR Apache-2.0
//! A video file: its first video stream is restored, all else is copied.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use crate::cut_off;
use crate::ending::Ending;
use crate::exit::refused;
use crate::fleet::parse;
use crate::log::Log;
use crate::output::{self, Part};
use crate::preview::{self, Preview};
use crate::progress::{self, Watch};
use crate::recipe::{Container, FileJob};
use crate::restore;
use crate::sound::Sound;
use crate::{Args, Done, Reach};

/// Most compressed data that may wait for slow video, in bytes per stream.
const WAITING_BYTES: u32 = 512 << 20;

/// The muxer that holds most.
const MATROSKA: &str = "matroskamux";

/// Restores `args.input()` into `args.output()`.
pub fn run(args: &Args, job: &FileJob, log: &Log, reach: &Reach) -> Result<Done> {
    let container = job.container(args.output())?;
    let shown = preview::place(args.output());
    output::free(&[args.output(), &shown], args.force)?;
    whole(args)?;
    let part = Part::claim(args.output(), args.force)?;
    let restore = restore::element(args, &job.properties)?;
    reach.watch(&restore);
    let preview = Preview::default();
    let sink = restore.static_pad("sink").context("i2sbrestore has no sink pad")?;
    preview.watch(&restore);
    let ending = Ending::new(&restore)?;
    let (pipeline, graph) = build(args, part.path(), container, &restore, ending.clone())?;
    aim(&preview, &pipeline, &sink);

    let (started, watch) = (Instant::now(), Watch::new(&pipeline, &restore, log)?);
    let stopped = progress::run(&pipeline, &watch, &|| {
        eprintln!("ending in order; once more ends at once");
        ending.begin(&pipeline);
    })
    .with_context(|| args.output().display().to_string())?;
    let frames = watch.frames();
    if stopped && frames == 0 {
        bail!("interrupted before the first frame was finished");
    }
    if frames == 0 || (!stopped && frames != watch.taken()) {
        bail!("{}: {} frames of video went in, {frames} came out", args.input().display(), watch.taken());
    }
    part.publish()?;
    let copied = graph.copied.lock().unwrap_or_else(PoisonError::into_inner).join(", ");
    let copied = if copied.is_empty() { copied } else { format!("; copied: {copied}") };
    let early = if stopped { "interrupted; " } else { "" };
    println!("{}: {early}{}{copied}", args.output().display(), restore::summary(&restore, started.elapsed()));
    if let Some(note) = graph.sound.left_out(args.input()).filter(|_| !stopped) {
        eprintln!("note: {note}");
    }
    if let Some(path) = preview.write(args.output())? {
        println!("before and after: {}", path.display());
    }
    Ok(Done { stopped, counted: restore::counted(&restore) })
}

/// Refuses a file that ends before its container does, unless the user says that this is known.
fn whole(args: &Args) -> Result<()> {
    let Some(what) = cut_off::missing(args.input())? else { return Ok(()) };
    let what = format!("{}: {what}", args.input().display());
    if restore::given(args)?.get("strict").is_some_and(|strict| strict == "false") {
        eprintln!("warning: {what}");
        return Ok(());
    }
    Err(refused(format!("{what}; get the whole file, or restore what is there with --set strict=false")))
}

/// Takes the preview from the middle, as soon as the length is known.
fn aim(preview: &Preview, pipeline: &gst::Pipeline, sink: &gst::Pad) {
    let (preview, weak) = (preview.clone(), pipeline.downgrade());
    sink.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let segment = info.event().is_some_and(|event| event.type_() == gst::EventType::Segment);
        let length = weak.upgrade().filter(|_| segment).and_then(|p| p.query_duration::<gst::ClockTime>());
        if let Some(length) = length {
            preview.aim(length / 2);
        }
        gst::PadProbeReturn::Ok
    });
}

fn build(
    args: &Args,
    target: &Path,
    container: &Container,
    restore: &gst::Element,
    ending: Ending,
) -> Result<(gst::Pipeline, Arc<Graph>)> {
    let pipeline = gst::Pipeline::new();
    let name = |path: &Path| path.to_str().map(str::to_owned).context("a file's name is not UTF-8");
    let source = gst::ElementFactory::make("filesrc").property("location", name(args.input())?).build()?;
    let parse = parse::bin()?;
    let muxer = gst::ElementFactory::make(&container.muxer).build()?;
    let sink = gst::ElementFactory::make("filesink").property("location", name(target)?).build()?;
    pipeline.add_many([&source, &parse, &muxer, &sink])?;
    source.link(&parse)?;
    muxer.link(&sink)?;
    let graph = Arc::new(Graph {
        pipeline: pipeline.downgrade(),
        muxer: muxer.downgrade(),
        encoder: container.encoder.clone(),
        odd: container.odd.as_deref().map(str::parse).transpose().context("odd is no caps")?,
        restore: restore.clone(),
        ending,
        has_video: AtomicBool::new(false),
        copied: Mutex::default(),
        sound: Sound::default(),
    });
    let added = graph.clone();
    parse.connect_pad_added(move |parse, pad| {
        if let Err(error) = added.stream(pad) {
            gst::element_error!(parse, gst::StreamError::Failed, ("{error:#}"), ["{error:#}"]);
        }
    });
    Ok((pipeline, graph))
}

/// What grows as streams are found.
struct Graph {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    muxer: gst::glib::WeakRef<gst::Element>,
    encoder: String,
    odd: Option<gst::Caps>,
    restore: gst::Element,
    ending: Ending,
    has_video: AtomicBool,
    copied: Mutex<Vec<String>>,
    sound: Sound,
}

impl Graph {
    /// A parsed stream was found.
    fn stream(self: &Arc<Self>, pad: &gst::Pad) -> Result<()> {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let media = caps.structure(0).context("a stream without caps")?.name().to_string();
        let picture = media.starts_with("video/") || media.starts_with("image/");
        if picture && !self.has_video.swap(true, Ordering::SeqCst) {
            return self.video(pad, &caps).with_context(|| format!("the video stream ({media})"));
        }
        self.copy(pad, &caps).with_context(|| format!("a stream of {media}"))?;
        self.copied.lock().unwrap_or_else(PoisonError::into_inner).push(media);
        Ok(())
    }

    /// `queue ! decodebin ! videoconvert ! i2sbrestore ! videoconvert ! capsfilter ! encoder ! muxer`.
    fn video(self: &Arc<Self>, pad: &gst::Pad, caps: &gst::Caps) -> Result<()> {
        let pipeline = self.pipeline.upgrade().context("the pipeline is gone")?;
        let muxer = self.muxer.upgrade().context("the muxer is gone")?;
        let make = |factory: &str| gst::ElementFactory::make(factory).build();
        let (queue, decode) = (make("queue")?, make("decodebin")?);
        let (convert, back, filter) = (make("videoconvert")?, make("videoconvert")?, make("capsfilter")?);
        let encoder = gst::parse::bin_from_description(&self.encoder, true).context(self.encoder.clone())?;
        let interlaced = caps.structure(0).and_then(|s| s.get::<String>("interlace-mode").ok());
        if interlaced.is_some_and(|mode| mode != "progressive")
            && let Some(encoder) = encoder.by_name("encoder").filter(|e| e.has_property("interlaced"))
        {
            encoder.set_property("interlaced", true);
        }
        let encoder: gst::Element = encoder.upcast();
        let all = [&queue, &decode, &convert, &self.restore, &back, &filter, &encoder];
        pipeline.add_many(all)?;
        queue.link(&decode)?;
        gst::Element::link_many([&convert, &self.restore, &back, &filter, &encoder])?;
        encoder.link(&muxer).context("the container cannot hold the encoder's output")?;
        let target = convert.static_pad("sink").context("videoconvert has no sink pad")?;
        let (odd, filter) = (self.odd.clone(), filter.clone());
        decode.connect_pad_added(move |decode, pad| {
            if let Some(odd) = odd.as_ref().filter(|_| is_odd(pad)) {
                filter.set_property("caps", odd);
            }
            if !target.is_linked()
                && let Err(error) = pad.link(&target)
            {
                gst::element_error!(
                    decode,
                    gst::StreamError::Decode,
                    ("the decoder's output: {error}"),
                    ["link"]
                );
            }
        });
        for element in all {
            element.sync_state_with_parent()?;
        }
        pad.link(&queue.static_pad("sink").context("queue has no sink pad")?)?;
        Ok(())
    }

    /// `queue ! muxer`, bit by bit.
    fn copy(&self, pad: &gst::Pad, caps: &gst::Caps) -> Result<()> {
        let pipeline = self.pipeline.upgrade().context("the pipeline is gone")?;
        let muxer = self.muxer.upgrade().context("the muxer is gone")?;
        let queue = gst::ElementFactory::make("queue")
            .property("max-size-bytes", WAITING_BYTES)
            .property("max-size-buffers", 0u32)
            .property("max-size-time", 0u64)
            .build()?;
        pipeline.add(&queue)?;
        let source = queue.static_pad("src").context("queue has no source pad")?;
        let factory = muxer.factory().context("a muxer without a factory")?;
        let held = parse::held(&factory, caps).and_then(|held| muxer.compatible_pad(&source, Some(&held)));
        let target = held.with_context(|| match factory.name().as_str() {
            MATROSKA => format!("{MATROSKA} cannot hold it; take it out of the file first"),
            name => format!("{name} cannot hold it; an output that ends in .mkv can hold nearly everything"),
        })?;
        self.ending.cut(&source);
        // Matroska writes no lengths.
        self.sound.keep(&source, factory.name() != MATROSKA);
        source.link(&target)?;
        queue.sync_state_with_parent()?;
        parse::link(pad, &queue.static_pad("sink").context("queue has no sink pad")?)
    }
}

/// Whether the pictures at this pad have an odd width or height.
fn is_odd(pad: &gst::Pad) -> bool {
    let caps = pad.current_caps();
    let picture = caps.as_ref().and_then(|caps| caps.structure(0));
    picture
        .is_some_and(|s| ["width", "height"].iter().any(|side| s.get::<i32>(*side).is_ok_and(|n| n % 2 != 0)))
}
