// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking a file apart into its streams, also where GStreamer does not know a stream by its name.

use anyhow::Result;
use gst::prelude::*;

/// Caps that the demuxer gives codes it does not know, and the codec that they are.
const RENAMED: &[(&str, &str)] = &[
    // DNxHR in QuickTime.
    ("video/x-gst-fourcc-AVdh", "video/x-dnxhd"),
];

/// A `parsebin` that gives every stream its known name.
pub fn bin() -> Result<gst::Element> {
    let parse = gst::ElementFactory::make("parsebin").build()?;
    parse.connect("autoplug-continue", false, |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        // What has another name here is ready as it is.
        Some(caps.as_ref().and_then(known).is_none().to_value())
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
    });
    Ok(parse)
}

/// The same caps under the name that decoders know.
fn known(caps: &gst::Caps) -> Option<gst::Caps> {
    let stream = caps.structure(0)?;
    let (_, name) = RENAMED.iter().find(|(name, _)| *name == stream.name())?;
    let mut stream = stream.to_owned();
    stream.set_name(*name);
    Some(gst::Caps::builder_full().structure(stream).build())
}
