// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ready-made degraded pictures from disk, such as frames that a video codec has been through.

use std::path::{Path, PathBuf};

use super::{Arguments, Degradation, Degraded, check};
use crate::{Result, noise::Stream};

/// Names the folder; the picture itself is read by whoever reads the clean one.
struct Pairs(PathBuf);

pub(super) fn build(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(Box::new(Pairs(PathBuf::from(arguments.remainder("FOLDER")?))))
}

impl Degradation for Pairs {
    /// `x0` is already the degraded picture here: it comes back as it is.
    fn degrade(&self, x0: &[f32], width: usize, height: usize, _: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        Ok(Degraded { x1: x0.to_vec(), mask: None })
    }

    fn pairs(&self) -> Option<&Path> {
        Some(&self.0)
    }
}
