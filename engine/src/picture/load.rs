// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading a picture: format by content, size checked before anything is decoded.

use std::{
    fs::File,
    io::{Cursor, Read},
    path::Path,
};

use image::{
    DynamicImage, GrayImage, ImageDecoder, RgbImage,
    codecs::{png::PngDecoder, webp::WebPDecoder},
    metadata::Orientation,
};

use super::{Picture, decode_jpeg};
use crate::{Error, Result};

/// What may be read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest number of pixels, width times height.
    pub max_pixels: usize,
    /// Largest file in bytes.
    pub max_bytes: u64,
}

impl Default for Limits {
    /// 2²⁷ pixels (134 megapixels: 1.6 GB as f32) and files of 1 GiB.
    fn default() -> Self {
        Self { max_pixels: 1 << 27, max_bytes: 1 << 30 }
    }
}

/// One kind of picture file that can be read.
pub struct Readable {
    /// Name as users write it.
    pub name: &'static str,
    /// File name extensions, lower case: they decide what a walk through a folder picks up.
    pub extensions: &'static [&'static str],
    matches: fn(&[u8]) -> bool,
    decode: fn(&[u8], Limits) -> std::result::Result<Decoded, String>,
}

/// Every kind of picture that can be read, told apart by content alone.
pub const READABLE: &[Readable] = &[
    Readable {
        name: "PNG",
        extensions: &["png"],
        matches: |bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
        decode: png,
    },
    Readable {
        name: "JPEG",
        extensions: &["jpg", "jpeg"],
        matches: |bytes| bytes.starts_with(&[0xff, 0xd8, 0xff]),
        decode: jpeg,
    },
    Readable {
        name: "WebP",
        extensions: &["webp"],
        matches: |bytes| bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
        decode: webp,
    },
    Readable {
        name: "AVIF",
        extensions: &["avif"],
        matches: |bytes| matches!(bytes.get(4..12), Some(b"ftypavif")),
        decode: super::avif::decode,
    },
];

/// True if the name of the file ends like a picture that can be read.
pub fn is_picture(path: &Path) -> bool {
    let Some(extension) = path.extension().and_then(|e| e.to_str()) else { return false };
    let extension = extension.to_ascii_lowercase();
    READABLE.iter().any(|kind| kind.extensions.contains(&extension.as_str()))
}

/// Extensions of pictures that can be neither read nor written.
const FOREIGN: &[&str] =
    &["gif", "bmp", "tif", "tiff", "heic", "heif", "jxl", "jp2", "tga", "ppm", "exr", "raw", "dng"];

/// True if the name of the file ends like a picture of a kind that is not known here.
pub fn is_foreign(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|e| FOREIGN.contains(&e.as_str()))
}

/// A picture as decoded, before it is turned upright and made f32.
pub(crate) struct Decoded {
    pub(crate) image: DynamicImage,
    pub(crate) icc: Option<Vec<u8>>,
}

impl Picture {
    /// Reads a picture file of any kind in [`READABLE`], whatever its name says, turned upright as
    /// its EXIF orientation asks. Of an animation, the first frame.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::File`] with the reason if it is no
    /// picture, is damaged or truncated, or exceeds the default [`Limits`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_within(path, Limits::default())
    }

    /// [`Picture::load`] with other limits.
    ///
    /// # Errors
    /// As [`Picture::load`].
    pub fn load_within(path: impl AsRef<Path>, limits: Limits) -> Result<Self> {
        let path = path.as_ref();
        decode(path, limits).and_then(|decoded| from_decoded(decoded, path))
    }

    /// [`Picture::load_within`] of a file already in memory; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::File`] as [`Picture::load`]; `limits.max_bytes` is the caller's to keep.
    pub fn from_bytes(path: impl AsRef<Path>, bytes: &[u8], limits: Limits) -> Result<Self> {
        let path = path.as_ref();
        decode_bytes(path, bytes, limits).and_then(|decoded| from_decoded(decoded, path))
    }
}

/// Reads and decodes `path`, turned upright.
pub(crate) fn decode(path: &Path, limits: Limits) -> Result<Decoded> {
    decode_bytes(path, &read(path, limits.max_bytes)?, limits)
}

fn decode_bytes(path: &Path, bytes: &[u8], limits: Limits) -> Result<Decoded> {
    let Some(kind) = READABLE.iter().find(|kind| (kind.matches)(bytes)) else {
        let known: Vec<_> = READABLE.iter().map(|kind| kind.name).collect();
        return Err(Error::file(path, format!("is not a picture of a known kind ({})", known.join(", "))));
    };
    (kind.decode)(bytes, limits).map_err(|reason| Error::file(path, format!("{}: {reason}", kind.name)))
}

/// The whole file, if it has at most `max_bytes`.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > max_bytes {
        return Err(Error::file(path, format!("is larger than the limit of {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// Refuses a picture before a byte is spent on it.
pub(crate) fn check_size(width: usize, height: usize, max_pixels: usize) -> std::result::Result<(), String> {
    match width.checked_mul(height) {
        Some(0) => Err(format!("is {width}×{height} pixels")),
        Some(pixels) if pixels <= max_pixels => Ok(()),
        _ => Err(format!("{width}×{height} pixels are more than the limit of {max_pixels} pixels")),
    }
}

fn png(bytes: &[u8], limits: Limits) -> std::result::Result<Decoded, String> {
    // The decoder's own limit guards against compressed text and profiles that explode.
    let mut inner = image::Limits::no_limits();
    inner.max_alloc = Some(16 * limits.max_pixels as u64);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), inner).map_err(words)?;
    from_decoder(decoder, limits)
}

fn webp(bytes: &[u8], limits: Limits) -> std::result::Result<Decoded, String> {
    from_decoder(WebPDecoder::new(Cursor::new(bytes)).map_err(words)?, limits)
}

fn from_decoder(mut decoder: impl ImageDecoder, limits: Limits) -> std::result::Result<Decoded, String> {
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize, limits.max_pixels)?;
    let icc = decoder.icc_profile().unwrap_or_default();
    // A broken EXIF block is no reason to lose the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(words)?;
    image.apply_orientation(orientation);
    Ok(Decoded { image, icc })
}

fn jpeg(bytes: &[u8], limits: Limits) -> std::result::Result<Decoded, String> {
    let decoded = decode_jpeg(bytes, limits.max_pixels)?;
    // Both sides are below 2¹⁶: the format cannot say more.
    let (width, height) = (decoded.width as u32, decoded.height as u32);
    let image = match decoded.channels {
        1 => GrayImage::from_raw(width, height, decoded.pixels).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, decoded.pixels).map(DynamicImage::from),
    };
    let mut image = image.ok_or("pixels are missing")?;
    let orientation = decoded.exif.as_deref().and_then(Orientation::from_exif_chunk);
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(Decoded { image, icc: decoded.icc })
}

fn words(err: image::ImageError) -> String {
    match err {
        image::ImageError::IoError(err) if err.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file ends too early".into()
        }
        err => err.to_string(),
    }
}

fn from_decoded(Decoded { image, icc }: Decoded, path: &Path) -> Result<Picture> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let plane = width * height;
    let deep = !matches!(
        image,
        DynamicImage::ImageLuma8(_)
            | DynamicImage::ImageLumaA8(_)
            | DynamicImage::ImageRgb8(_)
            | DynamicImage::ImageRgba8(_)
    );
    let mut rgb = vec![0.0; 3 * plane];
    let mut alpha = image.color().has_alpha().then(|| vec![1.0; plane]);
    let mut put = |at: usize, pixel: [f32; 4]| {
        for c in 0..3 {
            rgb[c * plane + at] = 2.0 * pixel[c] - 1.0;
        }
        if let Some(alpha) = &mut alpha {
            alpha[at] = pixel[3];
        }
    };
    if deep {
        let image = image.into_rgba16();
        for (at, pixel) in image.pixels().enumerate() {
            put(at, pixel.0.map(|v| f32::from(v) / 65535.0));
        }
    } else {
        let image = image.into_rgba8();
        for (at, pixel) in image.pixels().enumerate() {
            put(at, pixel.0.map(|v| f32::from(v) / 255.0));
        }
    }
    let alpha = alpha.filter(|alpha| alpha.iter().any(|&a| a < 1.0));
    // Bytes 16..20 of a profile name the colours it describes; ours are RGB now, whatever they were.
    let icc = icc.filter(|icc| icc.get(16..20) == Some(b"RGB "));
    let picture = Picture::new(width, height, rgb).map_err(|err| Error::file(path, err))?;
    Ok(Picture { alpha, deep, icc, ..picture })
}

/// Width, height and interleaved 8-bit pixels `(height, width, 3)` of a picture file, upright;
/// transparent pixels on white.
///
/// # Errors
/// As [`Picture::load_within`].
pub fn read_rgb8(path: &Path, limits: Limits) -> Result<(usize, usize, Vec<u8>)> {
    let Decoded { image, .. } = decode(path, limits)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    if !image.color().has_alpha() {
        return Ok((width, height, image.into_rgb8().into_raw()));
    }
    let shown = |c: u8, a: u8| {
        let (c, a) = (u16::from(c), u16::from(a));
        ((c * a + 255 * (255 - a) + 127) / 255) as u8
    };
    let rgba = image.into_rgba8();
    let rgb = rgba.pixels().flat_map(|p| [0, 1, 2].map(|c| shown(p.0[c], p.0[3]))).collect();
    Ok((width, height, rgb))
}
