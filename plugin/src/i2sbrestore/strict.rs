// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `strict` refuses, and what to do about it.

use std::str::FromStr;

use gst_video::{
    VideoBufferFlags, VideoColorMatrix, VideoColorRange, VideoColorimetry, VideoInterlaceMode, prelude::*,
};

use super::caps::Format;
use i2sb::pixel::Model;

/// Name of the details of the ERROR that a refusal posts; fields `field` and `value`.
pub const DETAILS: &str = "i2sb-refused";

/// Something that could only be guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The field of the caps, or what else says it.
    pub field: &'static str,
    /// What stands there.
    pub value: String,
    /// What to do.
    pub remedy: &'static str,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "strict: {} is {}; {}", self.field, self.value, self.remedy)
    }
}

const COLORIMETRY: &str = "name it with capssetter caps=\"video/x-raw,colorimetry=bt601\" (or bt709, bt2020) \
                           before this element, or set strict=false";
const FIELDS: &str =
    "cut the file where it changes, put a deinterlacer before this element, or set strict=false";
const CHANGE: &str = "cut the file where it changes, or set strict=false";
const DAMAGE: &str = "repair or cut the file there, or set strict=false";

/// Judges caps, given those before them in the stream.
///
/// # Errors
/// What is unknown or changed.
pub fn caps(caps: &gst::CapsRef, format: &Format, before: Option<&Format>) -> Result<(), Refusal> {
    let structure = caps.structure(0);
    let text = |field: &str| {
        let value = structure.and_then(|s| s.value(field).ok()?.serialize().ok());
        value.map_or_else(|| "missing".to_owned(), |value| value.to_string())
    };
    let refuse = |field, remedy| Err(Refusal { field, value: text(field), remedy });
    let info = &format.info;
    // From the caps themselves: the parsed info holds GStreamer's guess where they say nothing.
    let stated = structure.and_then(|s| s.get::<&str>("colorimetry").ok());
    let color = stated.and_then(|text| VideoColorimetry::from_str(text).ok());
    let known = color.is_some_and(|color| {
        let matrix = !matches!(color.matrix(), VideoColorMatrix::Unknown | VideoColorMatrix::Rgb);
        (matrix || format.pixels.model == Model::Gray) && color.range() != VideoColorRange::Unknown
    });
    if format.pixels.model != Model::Rgb && !known {
        return refuse("colorimetry", COLORIMETRY);
    }
    if info.interlace_mode() == VideoInterlaceMode::Mixed {
        return refuse("interlace-mode", FIELDS);
    }
    let Some(before) = before else { return Ok(()) };
    let old = &before.info;
    let changes = [
        ("width", old.width() != info.width()),
        ("height", old.height() != info.height()),
        ("pixel-aspect-ratio", old.par() != info.par()),
        ("format", old.format() != info.format()),
        ("interlace-mode", old.interlace_mode() != info.interlace_mode()),
        ("colorimetry", old.colorimetry() != info.colorimetry()),
    ];
    match changes.into_iter().find(|(_, changed)| *changed) {
        Some((field, _)) => {
            let value = format!("no longer what it was: now {}", text(field));
            Err(Refusal { field, value, remedy: CHANGE })
        }
        None => Ok(()),
    }
}

/// Judges a buffer; `top_first` is the field order of those before it, and becomes that of this one.
///
/// # Errors
/// What is damaged or changed.
pub fn buffer(
    buffer: &gst::BufferRef,
    format: &Format,
    number: u64,
    top_first: &mut Option<bool>,
) -> Result<(), Refusal> {
    if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
        let value = format!("marked as damaged by the decoder (frame {number})");
        return Err(Refusal { field: "a frame", value, remedy: DAMAGE });
    }
    if format.info.interlace_mode() == VideoInterlaceMode::Interleaved {
        let top = buffer.video_flags().contains(VideoBufferFlags::TFF);
        if top_first.replace(top).is_some_and(|before| before != top) {
            let order = if top { "top" } else { "bottom" };
            let value = format!("no longer what it was: {order} field first from frame {number} on");
            return Err(Refusal { field: "field-order", value, remedy: FIELDS });
        }
    }
    Ok(())
}
