// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking a file apart into its streams, also where GStreamer does not know a stream by its name or changes it on the
//! way; and which muxer holds what.

use std::sync::Mutex;

use anyhow::Result;
use gst::prelude::*;

use super::markup::Texts;

/// Caps that the demuxer gives codes it does not know, and the codec that they are.
const RENAMED: &[(&str, &str)] = &[
    // DNxHR in QuickTime.
    ("video/x-gst-fourcc-AVdh", "video/x-dnxhd"),
];
/// Streams that a parser would turn into others.
const READY: &[&str] = &["application/x-ass", "application/x-ssa", UNKNOWN];
/// Subtitles whose kind the demuxer does not tell, such as WebVTT: no muxer can name them either.
const UNKNOWN: &str = "application/x-subtitle-unknown";
/// The muxer whose texts may have tags in them.
const TAGGED: &str = "matroskamux";

/// A `parsebin` that gives every stream its known name, and texts as they stand in the file.
pub fn bin() -> Result<gst::Element> {
    let parse = gst::ElementFactory::make("parsebin").build()?;
    parse.connect("autoplug-continue", false, |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        // What has another name here is ready as it is.
        let ready = caps.is_some_and(|caps| known(&caps).is_some() || is(&caps, READY));
        Some((!ready).to_value())
    });
    parse.connect_pad_added(|_, pad| {
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
            let caps = match info.event().map(|event| event.view()) {
                Some(gst::EventView::Caps(event)) => known(&event.caps_owned()),
                _ => None,
            };
            if let Some(caps) = caps {
                info.data = Some(gst::PadProbeData::Event(gst::event::Caps::new(&caps)));
            }
            gst::PadProbeReturn::Ok
        });
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        if is_markup(&caps) {
            let texts = Mutex::<Texts>::default();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                if let Some(plain) = info.buffer().and_then(|buffer| plain(&texts, buffer)) {
                    info.data = Some(gst::PadProbeData::Buffer(plain));
                }
                gst::PadProbeReturn::Ok
            });
        }
    });
    Ok(parse)
}

/// The caps under which `muxer` takes a stream of a [`bin`]; nothing if it cannot hold it.
pub fn held(muxer: &gst::ElementFactory, caps: &gst::Caps) -> Option<gst::Caps> {
    let caps = match known(caps) {
        Some(_) if is_markup(caps) && muxer.name() != TAGGED => None,
        Some(known) => Some(known),
        None => Some(caps.clone()).filter(|caps| !is(caps, &[UNKNOWN])),
    }?;
    let mut templates = muxer.static_pad_templates().into_iter();
    let takes = |template: gst::StaticPadTemplate| {
        template.direction() == gst::PadDirection::Sink && template.caps().can_intersect(&caps)
    };
    templates.any(takes).then_some(caps)
}

/// Links a stream of a [`bin`] to what takes it under the caps that are [`held`], whatever it was called before.
pub fn link(pad: &gst::Pad, target: &gst::Pad) -> Result<()> {
    pad.link_full(target, gst::PadLinkCheck::HIERARCHY)?;
    Ok(())
}

/// The same caps under the name that decoders and muxers know.
fn known(caps: &gst::Caps) -> Option<gst::Caps> {
    let mut stream = caps.structure(0)?.to_owned();
    if is_markup(caps) {
        stream.set("format", "utf8");
    } else {
        let (_, name) = RENAMED.iter().find(|(name, _)| *name == stream.name())?;
        stream.set_name(*name);
    }
    Some(gst::Caps::builder_full().structure(stream).build())
}

fn is(caps: &gst::Caps, names: &[&str]) -> bool {
    caps.structure(0).is_some_and(|stream| names.contains(&stream.name().as_str()))
}

fn is_markup(caps: &gst::Caps) -> bool {
    is(caps, &["text/x-raw"])
        && caps.structure(0).is_some_and(|stream| stream.get::<&str>("format") == Ok("pango-markup"))
}

/// A packet of text as it stands in the file; nothing if it is none.
fn plain(texts: &Mutex<Texts>, buffer: &gst::Buffer) -> Option<gst::Buffer> {
    let map = buffer.map_readable().ok()?;
    let text = std::str::from_utf8(&map).ok()?;
    let text = texts.lock().ok()?.plain(text);
    let mut plain = gst::Buffer::from_slice(text.into_bytes());
    let copied = gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META;
    buffer.copy_into(plain.make_mut(), copied, ..).ok()?;
    Some(plain)
}
