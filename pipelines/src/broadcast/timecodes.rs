// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time codes that the parsers of GStreamer do not read, or read wrongly, put on their frames before the decoder.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use gst::buffer::BufferMetaForeachAction;
use gst::prelude::*;
use gst_video::{ValidVideoTimeCode, VideoTimeCode, VideoTimeCodeFlags, VideoTimeCodeMeta};

use super::{mpeg2, nal};

/// Has each coded picture that leaves a parser in this bin carry the time code that is in it.
pub fn watch(bin: &gst::Bin) {
    for element in bin.iterate_elements().into_iter().flatten() {
        let name = element.factory().map(|factory| factory.name().to_string()).unwrap_or_default();
        let reader = Mutex::new(mpeg2::Reader::default());
        let read: Box<dyn Fn(&[u8]) -> Option<(bool, [u32; 4], u32)> + Send + Sync> = match name.as_str() {
            "mpegvideoparse" => {
                Box::new(move |unit| reader.lock().unwrap_or_else(PoisonError::into_inner).read(unit))
            }
            "h265parse" => {
                Box::new(|unit| nal::read_time_code(unit).map(|(dropping, parts)| (dropping, parts, 0)))
            }
            _ => continue,
        };
        let Some(pad) = element.static_pad("src") else { continue };
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let caps = pad.current_caps();
            let fps = caps.and_then(|caps| caps.structure(0)?.get::<gst::Fraction>("framerate").ok());
            let Some(buffer) = info.buffer_mut() else { return gst::PadProbeReturn::Ok };
            let found = buffer.map_readable().ok().and_then(|data| read(&data));
            if let Some(code) = fps.zip(found).and_then(|(fps, found)| valid(fps, found)) {
                replace(buffer.make_mut(), &code);
            }
            gst::PadProbeReturn::Ok
        });
    }
}

fn valid(fps: gst::Fraction, (dropping, parts, later): (bool, [u32; 4], u32)) -> Option<ValidVideoTimeCode> {
    let flags = if dropping { VideoTimeCodeFlags::DROP_FRAME } else { VideoTimeCodeFlags::empty() };
    let [hours, minutes, seconds, frames] = parts;
    let code = VideoTimeCode::new(fps, None, flags, hours, minutes, seconds, frames, 0);
    let mut code = ValidVideoTimeCode::try_from(code).ok()?;
    code.add_frames(later.into());
    Some(code)
}

fn replace(buffer: &mut gst::BufferRef, code: &ValidVideoTimeCode) {
    buffer.foreach_meta_mut(|mut meta| {
        let is_code = meta.downcast_ref::<VideoTimeCodeMeta>().is_some();
        ControlFlow::Continue(if is_code {
            BufferMetaForeachAction::Remove
        } else {
            BufferMetaForeachAction::Keep
        })
    });
    VideoTimeCodeMeta::add(buffer, code);
}
