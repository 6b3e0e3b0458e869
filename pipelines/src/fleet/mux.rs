// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets of all chunks, one after another, and every other stream of the input as it is, into one Matroska file.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;

use super::chunk::Record;
use super::ebml;
use super::feed;
use super::parse;
use super::plan::Plan;
use crate::interrupt;
use crate::progress::told;
use crate::sound::Sound;

/// Most compressed data of one stream that may wait for the video, in bytes.
const WAITING_BYTES: u32 = 512 << 20;
/// How long the input may take to name its streams.
const STREAMS_WITHIN: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// Writes `output`, and counts the packets of sound.
pub fn write(plan: &Plan, records: &[Record], output: &Path) -> Result<Sound> {
    let pipeline = gst::Pipeline::new();
    let sound = Sound::default();
    let result = run(&pipeline, plan, records, output, &sound);
    // Only a pipeline that cannot be stopped fails here, and the first error tells more.
    let stopped = pipeline.set_state(gst::State::Null);
    result.and(stopped.map(drop).map_err(Into::into)).map(|()| sound)
}

fn run(
    pipeline: &gst::Pipeline,
    plan: &Plan,
    records: &[Record],
    output: &Path,
    sound: &Sound,
) -> Result<()> {
    let location = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
    let input = location(&plan.settings.wish.source.input)?;
    let caps: gst::Caps = records.first().context("no chunks")?.packets.parse().context("caps of packets")?;
    let video = feed::source(&caps);
    // The file's own time, not the clock's: equal inputs give equal files.
    let first = plan.settings.wish.source.files()?.into_iter().next().context("a source without files")?;
    let made =
        std::fs::metadata(first)?.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let made = gst::glib::DateTime::from_unix_utc(made.as_secs() as i64)?;
    let muxer = gst::ElementFactory::make("matroskamux").property("creation-time", made).build()?;
    let sink = gst::ElementFactory::make("filesink").property("location", location(output)?).build()?;
    pipeline.add_many([video.upcast_ref(), &muxer, &sink])?;
    gst::Element::link_many([video.upcast_ref(), &muxer, &sink])?;
    if let Some(timecode) = plan.frames.first().and_then(|frame| frame.timecode.as_deref()) {
        let mut tags = gst::TagList::new();
        tags.make_mut()
            .add::<gst::tags::Composer>(&ebml::lent(timecode).as_str(), gst::TagMergeMode::Replace);
        // On its way once the source has begun its stream.
        video.send_event(gst::event::Tag::new(tags));
    }
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let error = || bus.pop_filtered(&[gst::MessageType::Error]).map(|message| told(&message));
    let others = if plan.settings.wish.source.stills() {
        None
    } else {
        Some(others(pipeline, &muxer, &input, sound)?)
    };
    pipeline
        .set_state(gst::State::Playing)
        .map_err(|_| error().unwrap_or_else(|| anyhow::anyhow!("it does not start")))?;
    if let Some(streams) = &others {
        all_there(&bus, streams).with_context(|| input.clone())?;
    }
    for (chunk, record) in records.iter().enumerate() {
        packets(pipeline, &video, plan, chunk as u64, record).map_err(|failed| error().unwrap_or(failed))?;
    }
    video.end_of_stream()?;
    loop {
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        match bus.timed_pop_filtered(200 * gst::ClockTime::MSECOND, &kinds) {
            Some(message) if message.type_() == gst::MessageType::Eos => return Ok(()),
            Some(message) => return Err(told(&message)),
            None => ensure!(!interrupt::asked(), "interrupted"),
        }
    }
}

/// Everything of the input beside its video, on its way into `muxer`; a word comes for each stream.
fn others(
    pipeline: &gst::Pipeline,
    muxer: &gst::Element,
    input: &str,
    sound: &Sound,
) -> Result<mpsc::Receiver<()>> {
    let source = gst::ElementFactory::make("filesrc").property("location", input).build()?;
    let parse = parse::bin()?;
    pipeline.add_many([&source, &parse])?;
    source.link(&parse)?;
    let (weak, weak_muxer) = (pipeline.downgrade(), muxer.downgrade());
    let (linked, streams) = mpsc::channel();
    let (seen, sound) = (AtomicBool::new(false), sound.clone());
    parse.connect_pad_added(move |parse, pad| {
        let (Some(pipeline), Some(muxer)) = (weak.upgrade(), weak_muxer.upgrade()) else { return };
        match stream(&pipeline, &muxer, pad, &seen, &sound) {
            // Nobody counts any more once all are there.
            Ok(()) => linked.send(()).unwrap_or_default(),
            Err(error) => gst::element_error!(parse, gst::StreamError::Failed, ("{error:#}"), ["{error:#}"]),
        }
    });
    Ok(streams)
}

/// Waits until every stream is there: the muxer waits for the first packet of each stream that it knows, and must
/// know all before it gets one.
fn all_there(bus: &gst::Bus, streams: &mpsc::Receiver<()>) -> Result<()> {
    let kinds = [gst::MessageType::StreamCollection, gst::MessageType::Error];
    let count = match bus.timed_pop_filtered(STREAMS_WITHIN, &kinds) {
        Some(message) => match message.view() {
            gst::MessageView::StreamCollection(found) => found.stream_collection().len(),
            _ => return Err(told(&message)),
        },
        None => bail!("its streams are not known after {STREAMS_WITHIN}"),
    };
    for _ in 0..count {
        if streams.recv_timeout(STREAMS_WITHIN.into()).is_err() {
            let error = bus.pop_filtered(&[gst::MessageType::Error]).map(|message| told(&message));
            return Err(error.unwrap_or_else(|| anyhow::anyhow!("not all of {count} streams came")));
        }
    }
    Ok(())
}

/// `queue ! muxer` for what is copied; the first video stream is what the chunks replace.
fn stream(
    pipeline: &gst::Pipeline,
    muxer: &gst::Element,
    pad: &gst::Pad,
    seen: &AtomicBool,
    sound: &Sound,
) -> Result<()> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let video = caps.structure(0).is_some_and(|s| s.name().starts_with("video/"));
    let end = if video && !seen.swap(true, Ordering::SeqCst) {
        gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build()?
    } else {
        gst::ElementFactory::make("queue")
            .property("max-size-bytes", WAITING_BYTES)
            .property("max-size-buffers", 0u32)
            .property("max-size-time", 0u64)
            .build()?
    };
    pipeline.add(&end)?;
    if let Some(source) = end.static_pad("src") {
        let held = muxer.factory().and_then(|factory| parse::held(&factory, &caps));
        let target = held.and_then(|held| muxer.compatible_pad(&source, Some(&held)));
        source.link(&target.with_context(|| format!("Matroska cannot hold a stream of {caps}"))?)?;
        sound.keep(&source, false);
    }
    end.sync_state_with_parent()?;
    parse::link(pad, &end.static_pad("sink").context("an element without a sink pad")?)
}

/// Pushes the packets of one chunk, with the planned times.
fn packets(
    into: &gst::Pipeline,
    video: &gst_app::AppSrc,
    plan: &Plan,
    chunk: u64,
    record: &Record,
) -> Result<()> {
    let path = plan.file(chunk, "mkv");
    let description = "filesrc name=source ! matroskademux ! appsink name=sink sync=false max-buffers=4";
    let pipeline = gst::parse::launch(description)?.downcast::<gst::Pipeline>().ok().context("a pipeline")?;
    let source = pipeline.by_name("source").context("the source")?;
    source.set_property("location", path.to_str().context("the job's folder is not UTF-8")?);
    let sink = pipeline.by_name("sink").and_then(|sink| sink.downcast::<gst_app::AppSink>().ok());
    let sink = sink.context("the sink")?;
    let result = pipeline.set_state(gst::State::Playing).map_err(Into::into).and_then(|_| {
        let first = record.first as usize;
        let mut count = 0;
        while let Ok(sample) = sink.pull_sample() {
            let Some(planned) = plan.frames.get(first + count) else { bail!("more packets than frames") };
            let mut packet = sample.buffer_owned().context("a sample without a packet")?;
            let data = packet.make_mut();
            data.set_pts(gst::ClockTime::from_nseconds(planned.time));
            data.set_dts(gst::ClockTime::NONE);
            let next = plan.frames.get(first + count + 1).map(|next| next.time - planned.time);
            data.set_duration(next.map(gst::ClockTime::from_nseconds));
            feed::push(into, video, packet)?;
            count += 1;
            ensure!(!interrupt::asked(), "interrupted");
        }
        ensure!(count == record.digests.len(), "{count} packets, but {} frames", record.digests.len());
        Ok(())
    });
    let stopped = pipeline.set_state(gst::State::Null);
    result.and(stopped.map(drop).map_err(Into::into)).with_context(|| path.display().to_string())
}
