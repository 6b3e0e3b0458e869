// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture as whole numbers, grey or red-green-blue, between files and frames.

use anyhow::{Context, Result, bail, ensure};

/// Format of a frame for so many channels and bits; formats with a fourth component hold it unused.
const FORMATS: &[(usize, u32, gst_video::VideoFormat)] = &[
    (1, 8, gst_video::VideoFormat::Gray8),
    (1, 16, gst_video::VideoFormat::Gray16Le),
    (3, 8, gst_video::VideoFormat::Bgrx),
    (3, 10, gst_video::VideoFormat::Gbr10le),
    (3, 12, gst_video::VideoFormat::Gbr12le),
    (3, 16, gst_video::VideoFormat::Rgba64Le),
];

/// Colours of pictures: all values from black to white, as sRGB has them.
const COLORIMETRY: &[(usize, &str)] = &[(1, "1:0:7:1"), (3, "sRGB")];

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1: grey; 3: red, green, blue.
    pub channels: usize,
    /// 8, 10, 12 or 16.
    pub bits: u32,
    /// Row by row, the channels of a pixel beside each other.
    pub data: Vec<u16>,
}

impl Samples {
    /// Checks that all fits together.
    pub fn new(width: usize, height: usize, channels: usize, bits: u32, data: Vec<u16>) -> Result<Self> {
        let fits = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
        ensure!(
            fits == Some(data.len()) && fits != Some(0),
            "{width}x{height} pixels of {channels} channels, but {} samples",
            data.len()
        );
        ensure!(
            FORMATS.iter().any(|&(c, b, _)| (c, b) == (channels, bits)),
            "{channels} channels of {bits} bits; 1 of 8 or 16, or 3 of 8, 10, 12 or 16 can be read"
        );
        Ok(Self { width, height, channels, bits, data })
    }

    fn info(&self) -> Result<gst_video::VideoInfo> {
        let row = FORMATS.iter().find(|&&(c, b, _)| (c, b) == (self.channels, self.bits));
        let &(.., format) = row.context("no format for these samples")?;
        let (width, height) = (self.width.try_into()?, self.height.try_into()?);
        Ok(gst_video::VideoInfo::builder(format, width, height).build()?)
    }

    /// Caps of the frame.
    pub fn caps(&self, rate: gst::Fraction) -> Result<gst::Caps> {
        let mut caps = self.info()?.to_caps()?;
        let color = COLORIMETRY.iter().find(|(channels, _)| *channels == self.channels);
        let target = caps.make_mut();
        target.set("framerate", rate);
        target.set("colorimetry", color.context("colours")?.1);
        Ok(caps)
    }

    /// The frame.
    pub fn buffer(&self) -> Result<gst::Buffer> {
        let info = self.info()?;
        // What is no sample is opaque, or nothing.
        let mut bytes = vec![0xFF; info.size()];
        let wide = self.bits > 8;
        for channel in 0..self.channels {
            for (at, value) in
                places(&info, channel).zip(self.data.iter().skip(channel).step_by(self.channels))
            {
                if wide {
                    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
                } else {
                    bytes[at] = *value as u8;
                }
            }
        }
        Ok(gst::Buffer::from_mut_slice(bytes))
    }

    /// The picture in a frame of one of the formats that [`Samples::buffer`] makes.
    pub fn of(buffer: &gst::BufferRef, caps: &gst::CapsRef) -> Result<Self> {
        let info = gst_video::VideoInfo::from_caps(caps).context("no caps of raw video")?;
        let Some(&(channels, bits, _)) = FORMATS.iter().find(|(.., format)| *format == info.format()) else {
            bail!("pictures cannot hold {} as it is", info.format());
        };
        let map = buffer.map_readable()?;
        // Elements keep the layout that the frame came with; another size is another layout.
        ensure!(map.len() >= info.size(), "a frame of {} bytes, {} are due", map.len(), info.size());
        let (width, height) = (info.width() as usize, info.height() as usize);
        let mut data = vec![0; width * height * channels];
        for channel in 0..channels {
            for (at, value) in places(&info, channel).zip(data.iter_mut().skip(channel).step_by(channels)) {
                *value = if bits > 8 { u16::from_le_bytes([map[at], map[at + 1]]) } else { map[at].into() };
            }
        }
        Self::new(width, height, channels, bits, data)
    }

    /// With other bits: upwards the high bits are repeated below, downwards the low bits are left out, so that
    /// down after up is the same again.
    pub fn at(mut self, bits: u32) -> Self {
        let from = self.bits;
        for value in &mut self.data {
            *value = match bits.cmp(&from) {
                std::cmp::Ordering::Greater => (*value << (bits - from)) | (*value >> (2 * from - bits)),
                std::cmp::Ordering::Less => *value >> (from - bits),
                std::cmp::Ordering::Equal => *value,
            };
        }
        self.bits = bits;
        self
    }
}

/// Where each sample of a channel stands, row by row.
fn places(info: &gst_video::VideoInfo, channel: usize) -> impl Iterator<Item = usize> + use<> {
    let stride = info.comp_stride(channel as u8) as usize;
    let (start, step) = (info.comp_offset(channel as u8), info.comp_pstride(channel as u8) as usize);
    let (width, height) = (info.width() as usize, info.height() as usize);
    (0..height).flat_map(move |row| (0..width).map(move |x| start + row * stride + x * step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_hold_every_picture_as_it_is() {
        gst::init().unwrap();
        for &(channels, bits, format) in FORMATS {
            // Odd, so that rows are padded.
            let data = (0..7 * 3 * channels).map(|n| ((n * 40_503) % (1 << bits)) as u16).collect();
            let picture = Samples::new(7, 3, channels, bits, data).unwrap();
            let caps = picture.caps(gst::Fraction::new(24, 1)).unwrap();
            let again = Samples::of(picture.buffer().unwrap().as_ref(), &caps).unwrap();
            assert_eq!(again, picture, "{format}");
        }
        assert!(Samples::new(2, 2, 3, 14, vec![0; 12]).is_err());
        assert!(Samples::new(2, 2, 3, 8, vec![0; 11]).is_err());
    }

    #[test]
    fn more_bits_and_back_is_the_same() {
        for bits in [10, 12] {
            let data: Vec<u16> = (0..1 << bits).collect();
            let picture = Samples::new(1 << bits, 1, 1, 16, data.clone());
            let mut picture = picture.unwrap();
            picture.bits = bits;
            let wide = picture.clone().at(16);
            assert_eq!((wide.data[0], wide.data.last()), (0, Some(&65535)));
            assert_eq!(wide.at(bits), picture);
        }
    }
}
