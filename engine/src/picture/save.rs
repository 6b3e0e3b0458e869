// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing a picture: format by the name of the file, whole or not at all.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use image::{
    ExtendedColorType, ImageEncoder, ImageResult,
    codecs::{png::PngEncoder, webp::WebPEncoder},
};

use super::{Picture, Sampling, encode_jpeg, to_u8};
use crate::{Error, Result, atomic};

/// Settings of formats that have any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveOptions {
    /// JPEG quality, 1..=100; from 90 on all chroma samples are kept.
    pub jpeg_quality: u8,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { jpeg_quality: 95 }
    }
}

impl SaveOptions {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::Setting`] for a quality outside 1..=100.
    pub fn check(self) -> Result<()> {
        if (1..=100).contains(&self.jpeg_quality) {
            return Ok(());
        }
        Err(Error::setting("quality", self.jpeg_quality, "1 to 100"))
    }
}

/// One kind of picture file that can be written.
pub struct Writable {
    /// Name as users write it.
    pub name: &'static str,
    /// File name extensions, lower case, the usual one first.
    pub extensions: &'static [&'static str],
    /// Largest width and height that the format can say.
    pub max_side: usize,
    encode: fn(&Picture, SaveOptions) -> std::result::Result<Vec<u8>, String>,
}

/// Every kind of picture that can be written, chosen by extension.
pub const WRITABLE: &[Writable] = &[
    Writable { name: "PNG", extensions: &["png"], max_side: (1 << 31) - 1, encode: png },
    Writable { name: "JPEG", extensions: &["jpg", "jpeg"], max_side: 65535, encode: jpeg },
    Writable { name: "WebP", extensions: &["webp"], max_side: 16383, encode: webp },
];

impl Picture {
    /// Writes the picture in the format that the extension of `path` names. PNG keeps 16 bits and
    /// opacity, WebP (lossless) opacity; JPEG shows transparent pixels on white.
    ///
    /// # Errors
    /// [`Error::File`] for an unknown extension or a picture too large for the format,
    /// [`Error::Setting`] for a quality outside 1..=100, [`Error::Io`] if writing fails. In each
    /// case `path` is as it was before.
    pub fn save(&self, path: impl AsRef<Path>, options: SaveOptions) -> Result<()> {
        let path = path.as_ref();
        options.check()?;
        let kind = writable(path)?;
        if self.width.max(self.height) > kind.max_side {
            let (name, side) = (kind.name, kind.max_side);
            let size = format!("{}×{}", self.width, self.height);
            return Err(Error::file(path, format!("{size} pixels: {name} ends at {side} to a side")));
        }
        let bytes = (kind.encode)(self, options).map_err(|reason| Error::file(path, reason))?;
        atomic::write(path, |file: &mut BufWriter<_>| file.write_all(&bytes).map_err(Error::io(path)))
    }
}

/// The kind of file that [`Picture::save`] would write at `path`.
///
/// # Errors
/// [`Error::File`] with the list of extensions if it is none of them.
pub fn writable(path: &Path) -> Result<&'static Writable> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    WRITABLE.iter().find(|kind| kind.extensions.contains(&extension.as_str())).ok_or_else(|| {
        let known: Vec<_> = WRITABLE.iter().flat_map(|kind| kind.extensions).copied().collect();
        let known = known.join(", ");
        Error::file(path, format!("a picture's name must end in one of {known}, not \"{extension}\""))
    })
}

fn png(picture: &Picture, _: SaveOptions) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    put_icc(&mut encoder, picture)?;
    let colour = match (picture.deep, picture.alpha.is_some()) {
        (false, false) => ExtendedColorType::Rgb8,
        (false, true) => ExtendedColorType::Rgba8,
        (true, false) => ExtendedColorType::Rgb16,
        (true, true) => ExtendedColorType::Rgba16,
    };
    let pixels = if picture.deep { packed16(picture) } else { packed8(picture) };
    written(encoder.write_image(&pixels, picture.width as u32, picture.height as u32, colour))?;
    Ok(bytes)
}

fn webp(picture: &Picture, _: SaveOptions) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut bytes);
    put_icc(&mut encoder, picture)?;
    let colour = if picture.alpha.is_some() { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
    written(encoder.write_image(&packed8(picture), picture.width as u32, picture.height as u32, colour))?;
    Ok(bytes)
}

fn jpeg(picture: &Picture, options: SaveOptions) -> std::result::Result<Vec<u8>, String> {
    let sampling = if options.jpeg_quality < 90 { Sampling::S420 } else { Sampling::S444 };
    let size = (picture.width, picture.height);
    let rgb = match &picture.alpha {
        None => picture.to_rgb8(),
        Some(alpha) => {
            let shown = |(i, v): (usize, &f32)| 1.0 + alpha[i % alpha.len()] * (v - 1.0);
            super::interleaved(&picture.rgb.iter().enumerate().map(shown).collect::<Vec<_>>())
        }
    };
    encode_jpeg(&rgb, size, options.jpeg_quality, sampling, picture.icc.as_deref())
}

fn put_icc(encoder: &mut impl ImageEncoder, picture: &Picture) -> std::result::Result<(), String> {
    match &picture.icc {
        Some(icc) => encoder.set_icc_profile(icc.clone()).map_err(|err| err.to_string()),
        None => Ok(()),
    }
}

fn written(result: ImageResult<()>) -> std::result::Result<(), String> {
    result.map_err(|err| err.to_string())
}

fn packed8(picture: &Picture) -> Vec<u8> {
    let Some(alpha) = &picture.alpha else { return picture.to_rgb8() };
    let rgb = picture.to_rgb8();
    let opacity = alpha.iter().map(|&a| to_u8(2.0 * a - 1.0));
    rgb.chunks_exact(3).zip(opacity).flat_map(|(p, a)| [p[0], p[1], p[2], a]).collect()
}

/// 16-bit samples in the machine's byte order, as the encoder wants them.
fn packed16(picture: &Picture) -> Vec<u8> {
    let plane = picture.width * picture.height;
    let to_u16 = |unit: f32| (unit * 65535.0 + 0.5) as u16;
    let channels = if picture.alpha.is_some() { 4 } else { 3 };
    let mut bytes = Vec::with_capacity(plane * channels * 2);
    for at in 0..plane {
        for c in 0..3 {
            let unit = (picture.rgb[c * plane + at] + 1.0) * 0.5;
            bytes.extend_from_slice(&to_u16(unit).to_ne_bytes());
        }
        if let Some(alpha) = &picture.alpha {
            bytes.extend_from_slice(&to_u16(alpha[at]).to_ne_bytes());
        }
    }
    bytes
}
