// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture on its way through the element: decoded, or as it lay in its buffer.

use std::sync::Arc;

use i2sb::pixel::Raw;

use super::Picture;

/// A picture to be restored, or a restored one. Clones share it.
#[derive(Clone, Debug)]
pub enum Image {
    /// Decoded, before `strength` is applied.
    Decoded(Arc<Picture>),
    /// In its own format, for an engine that converts by itself; `strength` is applied.
    Raw {
        /// The frame.
        frame: Arc<Raw>,
        /// The network gave samples that no picture has; they are as they were.
        broken: bool,
    },
}

impl Image {
    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Self::Decoded(picture) => (picture.width, picture.height),
            Self::Raw { frame, .. } => (frame.view.width, frame.view.height),
        }
    }

    /// Whether both are clones of one.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Decoded(a), Self::Decoded(b)) => Arc::ptr_eq(a, b),
            (Self::Raw { frame: a, .. }, Self::Raw { frame: b, .. }) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
