// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recipe for streams: decoders and encoders by codec, and the times that a live output holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;

use crate::exit::usage;

/// A job on transport streams that may never end. Unknown keys are errors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamJob {
    /// One sentence, shown when the job starts.
    pub about: String,
    /// Properties of `i2sbrestore` besides its defaults.
    #[serde(default)]
    pub properties: BTreeMap<String, toml::Value>,
    /// Properties of it where the source or the output is live.
    #[serde(default)]
    pub on_air: BTreeMap<String, toml::Value>,
    /// Times of live sources.
    pub live: Live,
    /// How video is decoded.
    pub decoders: Vec<Decoder>,
    /// How it is encoded again; the first is used if none is asked for.
    pub encoders: Vec<Encoder>,
    /// What is carried besides, bit by bit, and what cuts it into its frames.
    pub carried: Vec<Decoder>,
    /// Description of the muxer, whose name is `mux`.
    pub muxer: String,
    /// Endings of files that it writes, lower case; none: any.
    #[serde(default)]
    pub extensions: Vec<String>,
}

/// Times, in milliseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// From a frame's arrival until it has to be decoded: what is spent on jitter and decoding.
    pub input_ms: u64,
    /// Of it, for packets that come out of order.
    pub reorder_ms: u64,
    /// After this long without the next frame the last one is shown again.
    pub repeat_after_ms: u64,
    /// After this long without a frame the source is opened anew.
    pub reopen_after_ms: u64,
}

/// What a kind of stream goes through first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Caps of what it takes.
    pub caps: String,
    /// Its description.
    pub description: String,
}

/// An encoder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoder {
    /// As `--encoder` asks for it.
    pub name: String,
    /// Description for progressive video.
    pub progressive: String,
    /// Description for interlaced video, top field first; none: refused.
    pub interlaced: Option<String>,
    /// The same, bottom field first; none: as the other.
    pub bottom_first: Option<String>,
    /// Whether captions are already in what it writes.
    #[serde(default)]
    pub writes_captions: bool,
    /// Properties that take the place of `{level}` in the descriptions, by the name of the level of MPEG-2 that the
    /// picture's size and rate ask for; one whose level is not here is refused.
    #[serde(default)]
    pub levels: BTreeMap<String, String>,
}

impl Live {
    /// [`Live::input_ms`].
    pub fn input(&self) -> Duration {
        Duration::from_millis(self.input_ms)
    }

    /// [`Live::repeat_after_ms`].
    pub fn repeat_after(&self) -> Duration {
        Duration::from_millis(self.repeat_after_ms)
    }

    /// [`Live::reopen_after_ms`].
    pub fn reopen_after(&self) -> Duration {
        Duration::from_millis(self.reopen_after_ms)
    }
}

impl StreamJob {
    /// The encoder of this name.
    pub fn encoder(&self, name: Option<&str>) -> Result<&Encoder> {
        let found = match name {
            None => self.encoders.first(),
            Some(name) => self.encoders.iter().find(|encoder| encoder.name == name),
        };
        let known: Vec<_> = self.encoders.iter().map(|encoder| encoder.name.as_str()).collect();
        found.ok_or_else(|| {
            usage(format!("--encoder {}: known are {}", name.unwrap_or_default(), known.join(", ")))
        })
    }

    /// Checks what a file to write is called; pipes and devices may have any name.
    pub fn ending(&self, path: &Path) -> Result<()> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
        let other = path.exists() && !path.is_file();
        if other || self.extensions.is_empty() || self.extensions.contains(&ending) {
            return Ok(());
        }
        Err(usage(format!("{}: the ending must be one of {}", path.display(), self.extensions.join(", "))))
    }

    /// The description of the decoder for these caps.
    pub fn decoder(&self, caps: &gst::Caps) -> Option<&str> {
        first(&self.decoders, caps)
    }

    /// The description of what cuts these caps into frames, if they are carried.
    pub fn carrier(&self, caps: &gst::Caps) -> Option<&str> {
        first(&self.carried, caps)
    }
}

fn first<'a>(all: &'a [Decoder], caps: &gst::Caps) -> Option<&'a str> {
    let takes =
        |decoder: &&Decoder| decoder.caps.parse::<gst::Caps>().is_ok_and(|taken| taken.can_intersect(caps));
    all.iter().find(takes).map(|decoder| decoder.description.as_str())
}
