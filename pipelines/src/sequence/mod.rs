// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sequences: one picture file a frame, 8 to 16 bits.

mod dpx;
mod list;
mod samples;
mod still;

use std::path::Path;

use anyhow::{Context, Result, bail};

pub use list::{files, is, pattern};
pub use samples::Samples;
pub use still::{Kind, write};

/// A file's picture, and the time code in it.
///
/// # Errors
/// If its content, whatever its name, is no DPX, TIFF or PNG that can be read sample by sample.
pub fn read(path: &Path) -> Result<(Samples, Option<String>)> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    decode(&bytes).with_context(|| path.display().to_string())
}

fn decode(bytes: &[u8]) -> Result<(Samples, Option<String>)> {
    if dpx::is(bytes) {
        let read = dpx::read(bytes)?;
        return Ok((read.picture, read.timecode));
    }
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Ok((still::png(bytes)?, None)),
        [b'I', b'I', ..] | [b'M', b'M', ..] => Ok((still::tif(bytes)?, None)),
        _ => bail!("neither DPX nor TIFF nor PNG"),
    }
}
