// SPDX-License-Identifier: MIT OR Apache-2.0
//! PNG and TIFF files, in and out, with the samples that they hold and no others.

use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tiff::ColorType as Tiff;
use tiff::decoder::DecodingResult;
use tiff::encoder::{TiffEncoder, colortype};

use super::samples::Samples;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// PNG
    Png,
    /// TIFF, not compressed
    Tif,
}

impl Kind {
    /// Ending of the files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Tif => "tif",
        }
    }

    /// The kind that an ending asks for.
    pub fn named(ending: &str) -> Option<Self> {
        match ending.to_lowercase().as_str() {
            "png" => Some(Self::Png),
            "tif" | "tiff" => Some(Self::Tif),
            _ => None,
        }
    }
}

/// Reads a PNG.
///
/// # Errors
/// If it is damaged, animated, has a palette or an alpha channel.
pub fn png(bytes: &[u8]) -> Result<Samples> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info()?;
    let info = reader.info();
    ensure!(!info.is_animated(), "it is animated; a picture of a sequence is one frame");
    ensure!(info.trns.is_none(), "it has transparent parts; only opaque pictures can be read");
    let (width, height) = (info.width as usize, info.height as usize);
    let (color, depth) = (info.color_type, info.bit_depth);
    let channels = match color {
        png::ColorType::Grayscale => 1,
        png::ColorType::Rgb => 3,
        other => bail!("its colours are {other:?}; only grey and RGB can be read"),
    };
    let mut data = vec![0; reader.output_buffer_size().context("it is too large")?];
    reader.next_frame(&mut data)?;
    let (bits, data) = match depth {
        png::BitDepth::Eight => (8, data.into_iter().map(u16::from).collect()),
        png::BitDepth::Sixteen => {
            (16, data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
        }
        other => bail!("its bit depth is {other:?}; 8 and 16 can be read"),
    };
    Samples::new(width, height, channels, bits, data)
}

/// Reads a TIFF.
///
/// # Errors
/// If it is damaged, holds several pictures, or anything but grey or RGB of 8 or 16 bits.
pub fn tif(bytes: &[u8]) -> Result<Samples> {
    let mut decoder = tiff::decoder::Decoder::new(Cursor::new(bytes))?;
    ensure!(!decoder.more_images(), "it holds several pictures; a picture of a sequence is one frame");
    let (width, height) = decoder.dimensions()?;
    let channels = match decoder.colortype()? {
        Tiff::Gray(8 | 16) => 1,
        Tiff::RGB(8 | 16) => 3,
        other => bail!("its colours are {other:?}; only grey and RGB of 8 and 16 bits can be read"),
    };
    let (bits, data) = match decoder.read_image()? {
        DecodingResult::U8(data) => (8, data.into_iter().map(u16::from).collect()),
        DecodingResult::U16(data) => (16, data),
        _ => bail!("its samples are no whole numbers of 8 or 16 bits"),
    };
    Samples::new(width as usize, height as usize, channels, bits, data)
}

/// Writes a picture of 8 or 16 bits, and has it on the disk.
pub fn write(picture: &Samples, kind: Kind, path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut file = BufWriter::new(file);
    encode(picture, kind, &mut file).with_context(|| path.display().to_string())?;
    let file = file.into_inner().map_err(|error| error.into_error());
    file.and_then(|file| file.sync_all()).with_context(|| path.display().to_string())
}

fn encode(picture: &Samples, kind: Kind, file: &mut (impl Write + std::io::Seek)) -> Result<()> {
    let (width, height) = (u32::try_from(picture.width)?, u32::try_from(picture.height)?);
    let narrow = || picture.data.iter().map(|&value| value as u8).collect::<Vec<u8>>();
    match kind {
        Kind::Png => {
            let mut encoder = png::Encoder::new(file, width, height);
            encoder.set_color(if picture.channels == 1 {
                png::ColorType::Grayscale
            } else {
                png::ColorType::Rgb
            });
            let wide = picture.bits == 16;
            encoder.set_depth(if wide { png::BitDepth::Sixteen } else { png::BitDepth::Eight });
            let data =
                if wide { picture.data.iter().flat_map(|v| v.to_be_bytes()).collect() } else { narrow() };
            let mut writer = encoder.write_header()?;
            writer.write_image_data(&data)?;
            writer.finish()?;
        }
        Kind::Tif => {
            let mut encoder = TiffEncoder::new(file)?;
            match (picture.channels, picture.bits) {
                (1, 8) => encoder.write_image::<colortype::Gray8>(width, height, &narrow())?,
                (1, 16) => encoder.write_image::<colortype::Gray16>(width, height, &picture.data)?,
                (3, 8) => encoder.write_image::<colortype::RGB8>(width, height, &narrow())?,
                (3, 16) => encoder.write_image::<colortype::RGB16>(width, height, &picture.data)?,
                (channels, bits) => bail!("{channels} channels of {bits} bits"),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        for kind in [Kind::Png, Kind::Tif] {
            for (channels, bits) in [(1, 8), (1, 16), (3, 8), (3, 16)] {
                let data = (0..5 * 3 * channels).map(|n| ((n * 40_503) % (1 << bits)) as u16).collect();
                let picture = Samples::new(5, 3, channels, bits, data).unwrap();
                let path = folder.path().join("a");
                write(&picture, kind, &path).unwrap();
                let bytes = std::fs::read(&path).unwrap();
                let again = if kind == Kind::Png { png(&bytes) } else { tif(&bytes) };
                assert_eq!(again.unwrap(), picture, "{kind:?} {channels} {bits}");
                // Cut off anywhere it is an error, no panic and no other picture.
                for end in [0, 3, 9, bytes.len() / 2] {
                    assert!(png(&bytes[..end]).is_err() && tif(&bytes[..end]).is_err(), "{end}");
                }
            }
        }
    }

    #[test]
    fn what_a_sequence_cannot_hold_is_named() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pictures");
        for (name, word) in [
            ("animated.png", "animated"),
            ("rgba8.png", "Rgba"),
            ("palette.png", "Indexed"),
            ("bilevel.png", "depth"),
        ] {
            let error = png(&std::fs::read(fixtures.join(name)).unwrap()).unwrap_err().to_string();
            assert!(error.contains(word), "{name}: {error}");
        }
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        encoder.write_image::<colortype::CMYK8>(2, 1, &[0; 8]).unwrap();
        assert!(tif(file.get_ref()).unwrap_err().to_string().contains("CMYK"));
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        for _ in 0..2 {
            encoder.write_image::<colortype::Gray8>(2, 1, &[0; 2]).unwrap();
        }
        assert!(tif(file.get_ref()).unwrap_err().to_string().contains("several"));
    }
}
