// SPDX-License-Identifier: MIT OR Apache-2.0
//! JPEG between bytes and pixels. Encoder and decoder are those of libjpeg-turbo to the bit, so a
//! degraded picture is what users' programs would have made and shown: Annex K tables, chroma
//! averaged when encoding and interpolated when decoding.

use libjpeg_turbo_rs::{DecodeLimits, Decoder, Encoder, PixelFormat, Subsampling};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// How many chroma samples a JPEG keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// One for each pixel (4:4:4).
    S444,
    /// One for two pixels of a row (4:2:2).
    S422,
    /// One for 2×2 pixels (4:2:0).
    S420,
}

/// The pixels of a JPEG file, and what else it says about them.
pub struct DecodedJpeg {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 for grey, 3 for RGB (CMYK is converted).
    pub channels: usize,
    /// Interleaved, `(height, width, channels)`.
    pub pixels: Vec<u8>,
    /// EXIF block, if any.
    pub exif: Option<Vec<u8>>,
    /// ICC profile, if any.
    pub icc: Option<Vec<u8>>,
}

/// Encodes interleaved 8-bit RGB, `(height, width, 3)`, at `quality` 1..=100 of the usual scale,
/// with an ICC profile if given.
///
/// # Errors
/// The encoder's: a side of 0 or above 65535 pixels, or an ICC profile too large for the format.
pub fn encode_jpeg(
    rgb: &[u8],
    (width, height): (usize, usize),
    quality: u8,
    sampling: Sampling,
    icc: Option<&[u8]>,
) -> Result<Vec<u8>, String> {
    let largest = usize::from(u16::MAX);
    if !(1..=largest).contains(&width) || !(1..=largest).contains(&height) {
        return Err(format!("JPEG cannot hold {width}×{height} pixels"));
    }
    // Quantisers end at 255, as they do in every baseline file.
    let encoder = Encoder::new(rgb, width, height, PixelFormat::Rgb).quality(quality).force_baseline(true);
    let encoder = encoder.subsampling(match sampling {
        Sampling::S444 => Subsampling::S444,
        Sampling::S422 => Subsampling::S422,
        Sampling::S420 => Subsampling::S420,
    });
    let encoder = match icc {
        Some(icc) => encoder.icc_profile(icc),
        None => encoder,
    };
    encoder.encode().map_err(|err| err.to_string())
}

/// Decodes a JPEG file of at most `max_pixels`, whole or not at all: truncation, which other decoders
/// paint grey, is an error here.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn decode_jpeg(bytes: &[u8], max_pixels: usize) -> Result<DecodedJpeg, String> {
    // More scans than any encoder writes make a small file expensive.
    let limits = DecodeLimits { max_scans: 1000, ..Default::default() };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(|err| err.to_string())?;
    let header = decoder.header();
    super::load::check_size(header.width.into(), header.height.into(), max_pixels)?;
    let sampling: Vec<_> =
        header.components.iter().map(|c| (c.horizontal_sampling, c.vertical_sampling)).collect();
    let common = match sampling[..] {
        [_] => true,
        [luma, (1, 1), (1, 1)] => [(1, 1), (2, 1), (1, 2), (2, 2)].contains(&luma),
        _ => false,
    };
    if !common || header.precision != 8 || header.is_lossless || decoder.is_arithmetic() {
        return decode_uncommon(bytes, max_pixels);
    }
    let channels = sampling.len();
    decoder.set_output_format(if channels == 1 { PixelFormat::Grayscale } else { PixelFormat::Rgb });
    let image = decoder.decode_image().map_err(|err| err.to_string())?;
    let (width, height) = (image.width, image.height);
    checked(DecodedJpeg {
        width,
        height,
        channels,
        pixels: image.data,
        exif: image.exif_data,
        icc: image.icc_profile,
    })
}

/// CMYK, odd samplings and the like, by a decoder that has seen more hostile files.
fn decode_uncommon(bytes: &[u8], max_pixels: usize) -> Result<DecodedJpeg, String> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|err| err.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("no picture in the file")?;
    super::load::check_size(width, height, max_pixels)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (colours, channels) = if grey { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    decoder.set_options(options.jpeg_set_out_colorspace(colours));
    let pixels = decoder.decode().map_err(|err| err.to_string())?;
    let (exif, icc) = (decoder.exif().cloned(), decoder.icc_profile());
    checked(DecodedJpeg { width, height, channels, pixels, exif, icc })
}

fn checked(decoded: DecodedJpeg) -> Result<DecodedJpeg, String> {
    let DecodedJpeg { width, height, channels, ref pixels, .. } = decoded;
    if pixels.len() != width * height * channels {
        return Err(format!("{} bytes of pixels for {width}×{height}", pixels.len()));
    }
    Ok(decoded)
}
