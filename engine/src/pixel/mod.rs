// SPDX-License-Identifier: MIT OR Apache-2.0
//! Video planes in every raw format to planar R'G'B' f32 and back; no GStreamer types.

pub mod chroma;
pub mod color;
pub mod decode;
pub mod encode;
pub mod format;
mod isa;
pub mod raw;
pub mod row;
pub mod view;

pub use color::Color;
pub use decode::to_rgb;
pub use encode::add_difference;
pub use format::{Model, PIXEL_FORMATS, PixelFormat};
pub use raw::Raw;
pub use view::{View, ViewError};
