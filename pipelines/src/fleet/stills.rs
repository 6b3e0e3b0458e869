// SPDX-License-Identifier: MIT OR Apache-2.0
//! The frames of a sequence of pictures.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use super::source::Frame;
use crate::{interrupt, sequence};

/// Pictures that are read one after another.
pub struct Stills {
    files: Vec<PathBuf>,
    rate: gst::Fraction,
    colorimetry: Option<String>,
    /// Bits of the frames, where the files have more.
    bits: Option<u32>,
    next: usize,
}

impl Stills {
    /// From the first of these files.
    pub fn new(files: Vec<PathBuf>, rate: gst::Fraction, colorimetry: Option<String>) -> Self {
        Self { files, rate, colorimetry, bits: None, next: 0 }
    }

    /// The same with so many bits.
    pub fn at(self, bits: u32) -> Self {
        Self { bits: Some(bits), ..self }
    }

    /// Goes to the picture that is shown at this time.
    pub fn seek(&mut self, time: gst::ClockTime) {
        // Rounded: times are whole nanoseconds.
        let half = self.time(1) / 2;
        let at = (time + half).mul_div_floor(self.rate.numer() as u64, self.rate.denom() as u64);
        self.next = at.unwrap_or_default().seconds() as usize;
    }

    /// The next frame.
    pub fn next(&mut self) -> Result<Option<Frame>> {
        if interrupt::asked() {
            bail!("interrupted");
        }
        let Some(path) = self.files.get(self.next) else { return Ok(None) };
        let (mut picture, timecode) = sequence::read(path)?;
        if let Some(bits) = self.bits {
            picture = picture.at(bits);
        }
        let mut caps = picture.caps(self.rate)?;
        if let Some(colorimetry) = &self.colorimetry {
            caps.make_mut().set("colorimetry", colorimetry);
        }
        let (time, end) = (self.time(self.next), self.time(self.next + 1));
        let mut buffer = picture.buffer()?;
        let target = buffer.get_mut().context("a new frame is ours alone")?;
        target.set_pts(time);
        target.set_duration(end - time);
        self.next += 1;
        Ok(Some(Frame { buffer, caps, time, damaged: false, timecode }))
    }

    fn time(&self, index: usize) -> gst::ClockTime {
        let seconds = gst::ClockTime::from_seconds(index as u64);
        let (numer, denom) = (self.rate.numer() as u64, self.rate.denom() as u64);
        seconds.mul_div_round(denom, numer).unwrap_or(gst::ClockTime::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seek_finds_every_frame_by_its_time() {
        for rate in [gst::Fraction::new(24, 1), gst::Fraction::new(30000, 1001), gst::Fraction::new(1, 2)] {
            let mut stills = Stills::new(Vec::new(), rate, None);
            for index in [0, 1, 2, 3, 7, 1000, 107_892] {
                stills.seek(stills.time(index));
                assert_eq!(stills.next, index);
            }
        }
    }
}
