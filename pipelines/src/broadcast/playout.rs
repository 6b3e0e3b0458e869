// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes out: restored, encoded with all that rode on the frames, and multiplexed.

use anyhow::{Context, Result};
use gst::prelude::*;

use super::coding::Coding;
use super::intake::Found;
use super::streams::{Encoder, StreamJob};

/// Frames that may wait between source and element where the source can wait.
const WAITING_FRAMES: u64 = 4;

/// The output's pipeline.
pub struct Playout {
    /// To be started by whoever has built it.
    pub pipeline: gst::Pipeline,
    /// Video first.
    pub sources: Vec<gst_app::AppSrc>,
    /// Where its packets come out.
    pub end: gst::Element,
}

/// What the output is built for.
pub struct Plan<'a> {
    /// The recipe.
    pub job: &'a StreamJob,
    /// The chosen encoder.
    pub encoder: &'a Encoder,
    /// What is in the source.
    pub found: &'a Found,
    /// Whether the source is live.
    pub live: bool,
    /// The sink.
    pub end: gst::Element,
}

impl Playout {
    /// Builds it around the restoring element.
    pub fn build(plan: Plan<'_>, restore: &gst::Element) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let video = plan.found.video.as_ref().context("no video")?;
        let mux = gst::parse::bin_from_description(&plan.job.muxer, false).context(plan.job.muxer.clone())?;
        let mux = mux.by_name("mux").context("the muxer's name is not mux")?;
        if let Some(bin) = mux.parent().and_then(|parent| parent.downcast::<gst::Bin>().ok()) {
            bin.remove(&mux)?;
        }
        pipeline.add_many([&mux, &plan.end])?;
        let mut sources = vec![source(&plan, video)?];
        let queue = waiting()?;
        pipeline.add_many([sources[0].upcast_ref(), restore, &queue])?;
        sources[0].link(restore)?;
        Coding::start(&pipeline, restore, &queue, plan.encoder, video)?;
        queue.link(&mux).context("the container cannot hold the encoder's output")?;
        for caps in &plan.found.carried {
            let source = source(&plan, caps)?;
            let text = plan.job.carrier(caps).context("nobody carries it")?;
            let parser = gst::parse::bin_from_description(text, true).context(text.to_owned())?;
            let queue = waiting()?;
            let all = [source.upcast_ref(), parser.upcast_ref(), &queue];
            pipeline.add_many(all)?;
            gst::Element::link_many(all)?;
            queue.link(&mux).with_context(|| format!("the container cannot hold {caps}"))?;
            sources.push(source);
        }
        mux.link(&plan.end)?;
        Ok(Self { pipeline, sources, end: plan.end })
    }
}

fn source(plan: &Plan<'_>, caps: &gst::Caps) -> Result<gst_app::AppSrc> {
    let source = gst_app::AppSrc::builder().caps(caps).format(gst::Format::Time).is_live(plan.live).build();
    source.set_max_bytes(0);
    if plan.live {
        let input = i64::try_from(plan.job.live.input().as_nanos())?;
        source.set_property("min-latency", input);
    } else {
        source.set_max_buffers(WAITING_FRAMES);
        source.set_block(true);
    }
    Ok(source)
}

/// A queue without bounds before the muxer, which takes what it needs of each stream.
fn waiting() -> Result<gst::Element> {
    let queue = gst::ElementFactory::make("queue").property("max-size-bytes", 0u32);
    Ok(queue.property("max-size-buffers", 0u32).property("max-size-time", 0u64).build()?)
}
