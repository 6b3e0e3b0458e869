// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values of options whose limits the library knows: one out of range is wrong usage.

use std::error;

use i2sb::{Error, picture::SaveOptions, preset::Preset, restore::RestoreOptions};

/// What a parser of the command line may return.
type Parsed<T> = Result<T, Box<dyn error::Error + Send + Sync>>;

/// For `--threads`.
pub fn threads(text: &str) -> Parsed<usize> {
    let threads = text.parse()?;
    RestoreOptions { threads, ..RestoreOptions::default() }.check()?;
    Ok(threads)
}

/// For `--strength`.
pub fn strength(text: &str) -> Parsed<f32> {
    let strength = text.parse()?;
    RestoreOptions { strength, ..RestoreOptions::default() }.check()?;
    Ok(strength)
}

/// For `--tta`.
pub fn tta(text: &str) -> Parsed<usize> {
    let tta = text.parse()?;
    RestoreOptions { tta, ..RestoreOptions::default() }.check()?;
    Ok(tta)
}

/// For `--detail`.
pub fn detail(text: &str) -> Parsed<f32> {
    let detail = text.parse()?;
    Preset::check_detail(detail)?;
    Ok(detail)
}

/// For `--quality`.
pub fn quality(text: &str) -> Parsed<u8> {
    let jpeg_quality = text.parse()?;
    SaveOptions { jpeg_quality }.check()?;
    Ok(jpeg_quality)
}

/// For `--steps`, whose upper end is the preset's.
pub fn steps(text: &str) -> Parsed<usize> {
    at_least_one("steps", text)
}

/// For `--pictures`.
pub fn pictures(text: &str) -> Parsed<usize> {
    at_least_one("pictures", text)
}

fn at_least_one(name: &'static str, text: &str) -> Parsed<usize> {
    match text.parse()? {
        0 => Err(Error::setting(name, 0, "at least 1").into()),
        count => Ok(count),
    }
}
