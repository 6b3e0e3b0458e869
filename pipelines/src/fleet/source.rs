// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where frames come from: a video or a sequence of pictures, and what the user said about it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::frames::Video;
use super::stills::Stills;
use crate::exit::usage;
use crate::sequence;

/// What is read, and what it does not say itself.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A video, a folder of numbered pictures, or their name with `%06d`; absolute, as every machine sees it.
    pub input: PathBuf,
    /// Colours, as GStreamer's caps name them, instead of what the file says.
    pub colorimetry: Option<String>,
    /// Frames a second of a sequence, as `24` or `30000/1001`.
    pub framerate: Option<String>,
}

/// A frame as it left the decoder.
pub struct Frame {
    /// Its samples and metas.
    pub buffer: gst::Buffer,
    /// What the samples mean.
    pub caps: gst::Caps,
    /// When it is shown, counted from the start of the file's presentation.
    pub time: gst::ClockTime,
    /// The decoder marked it as damaged.
    pub damaged: bool,
    /// The time code that a picture's file holds; that of a video is a meta.
    pub timecode: Option<String>,
}

/// Decoded frames, one after another.
pub enum Frames {
    /// Of a video.
    Video(Video),
    /// Of a sequence.
    Stills(Stills),
}

impl Source {
    /// A file or sequence without more to say.
    pub fn plain(input: &Path) -> Self {
        Self { input: input.to_owned(), colorimetry: None, framerate: None }
    }

    /// Checks what the user said; the path becomes absolute.
    ///
    /// # Errors
    /// If it is not there; if colours or rate cannot be, or are said where they mean nothing.
    pub fn new(input: &Path, colorimetry: Option<&str>, framerate: Option<&str>) -> Result<Self> {
        let absolute = match sequence::pattern(input).and(input.file_name()) {
            Some(name) => {
                let folder = input.parent().filter(|folder| !folder.as_os_str().is_empty());
                folder.unwrap_or(Path::new(".")).canonicalize().map(|folder| folder.join(name))
            }
            None => input.canonicalize(),
        };
        let input = absolute.with_context(|| input.display().to_string())?;
        if let Some(text) = colorimetry
            && gst_video::VideoColorimetry::from_str(text).is_err()
        {
            return Err(usage(format!(
                "--colorimetry {text}: no colours that GStreamer knows; bt601, bt709, bt2020 or range:matrix:transfer:primaries"
            )));
        }
        let stills = sequence::is(&input);
        match framerate {
            Some(_) if !stills => {
                return Err(usage("--framerate is for sequences of pictures; a video has its own"));
            }
            Some(text) => drop(rate(text)?),
            None if stills => {
                return Err(usage(format!(
                    "{}: pictures do not say how fast they follow each other; say it with --framerate, as in 24 or 30000/1001",
                    input.display()
                )));
            }
            None => {}
        }
        Ok(Self { input, colorimetry: colorimetry.map(Into::into), framerate: framerate.map(Into::into) })
    }

    /// Whether it is a sequence of pictures.
    pub fn stills(&self) -> bool {
        sequence::is(&self.input)
    }

    /// The files that it is made of.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        if self.stills() { sequence::files(&self.input) } else { Ok(vec![self.input.clone()]) }
    }

    /// Their length together, in bytes.
    pub fn bytes(&self) -> Result<u64> {
        let length = |path: &PathBuf| {
            std::fs::metadata(path).map(|file| file.len()).with_context(|| path.display().to_string())
        };
        self.files()?.iter().map(length).sum()
    }

    /// Opens it at its start.
    pub fn open(&self) -> Result<Frames> {
        if self.stills() {
            let rate = rate(self.framerate.as_deref().context("a sequence without a frame rate")?)?;
            return Ok(Frames::Stills(Stills::new(self.files()?, rate, self.colorimetry.clone())));
        }
        Ok(Frames::Video(Video::open(&self.input, self.colorimetry.clone())?))
    }
}

fn rate(text: &str) -> Result<gst::Fraction> {
    let wrong = || usage(format!("--framerate {text}: frames a second, as in 24 or 30000/1001"));
    let (numer, denom) = text.split_once('/').unwrap_or((text, "1"));
    let part = |text: &str| text.parse::<i32>().ok().filter(|&n| n > 0).ok_or_else(wrong);
    Ok(gst::Fraction::new(part(numer)?, part(denom)?))
}

impl Frames {
    /// Goes to the frame that is shown at this time, or a little before it.
    pub fn seek(&mut self, time: gst::ClockTime) -> Result<()> {
        match self {
            Self::Video(video) => video.seek(time),
            Self::Stills(stills) => {
                stills.seek(time);
                Ok(())
            }
        }
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub fn next(&mut self) -> Result<Option<Frame>> {
        match self {
            Self::Video(video) => video.next(),
            Self::Stills(stills) => stills.next(),
        }
    }
}
