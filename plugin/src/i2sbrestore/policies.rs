// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do in cases that users judge differently: the element's enumerations.

use gst::glib;

/// What happens to a frame that downstream will find too late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstI2sbLateFrames")]
pub enum LateFrames {
    /// Lateness is ignored.
    #[default]
    #[enum_value(name = "Process: restore every frame, ignore QOS", nick = "process")]
    Process,
    /// Late frames go out as they came in.
    #[enum_value(name = "Pass through: let late frames out unrestored", nick = "pass-through")]
    PassThrough,
    /// Late frames do not go out.
    #[enum_value(name = "Drop: drop late frames and tell upstream", nick = "drop")]
    Drop,
}

/// What happens to interlaced content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstI2sbInterlaced")]
pub enum Interlaced {
    /// Each field is a picture.
    #[default]
    #[enum_value(name = "Fields: restore each field by itself and weave them again", nick = "fields")]
    Fields,
    /// The woven frame is a picture.
    #[enum_value(name = "Frame: restore the woven frame as if it were progressive", nick = "frame")]
    Frame,
    /// Not restored.
    #[enum_value(name = "Pass through: leave interlaced frames as they are", nick = "pass-through")]
    PassThrough,
    /// An error.
    #[enum_value(name = "Error: stop with an error", nick = "error")]
    Error,
}

/// What happens to content with an HDR transfer function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstI2sbHdr")]
pub enum Hdr {
    /// Not restored, with one warning.
    #[default]
    #[enum_value(name = "Pass through: leave HDR video as it is, with one warning", nick = "pass-through")]
    PassThrough,
    /// Restored as if it were SDR, with one warning.
    #[enum_value(name = "Process: restore it as if it were SDR, with one warning", nick = "process")]
    Process,
    /// An error.
    #[enum_value(name = "Error: stop with an error", nick = "error")]
    Error,
}

/// What happens when a frame cannot be restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstI2sbOnError")]
pub enum OnError {
    /// The stream ends with an error.
    #[default]
    #[enum_value(name = "Error: post an error and stop", nick = "error")]
    Error,
    /// The stream goes on unrestored.
    #[enum_value(name = "Pass through: warn and let frames out unrestored", nick = "pass-through")]
    PassThrough,
}

/// Before and after in one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstI2sbCompare")]
pub enum Compare {
    /// The restored frame.
    #[default]
    #[enum_value(name = "Off: the restored frame", nick = "off")]
    Off,
    /// Left half before, right half after.
    #[enum_value(name = "Split: left half before, right half after", nick = "split")]
    Split,
    /// The middle of the frame twice.
    #[enum_value(name = "Side: the middle of the frame twice, before and after", nick = "side")]
    Side,
}
