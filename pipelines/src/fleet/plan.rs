// SPDX-License-Identifier: MIT OR Apache-2.0
//! A job's folder: what is restored how, every frame of it, and where it is cut.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::digest;
use super::source::Source;
use super::survey::survey;
use crate::exit::refused;
use crate::sequence;

/// The plan, written last: a folder without it is no job.
const PLAN: &str = "plan.json";
/// Time in nanoseconds and digest of each frame, a line each.
const FRAMES: &str = "frames.txt";
/// Folder of the restored chunks.
const CHUNKS: &str = "chunks";

/// What somebody asks for.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// What is restored.
    pub source: Source,
    /// Properties of `i2sbrestore`, by name.
    pub properties: BTreeMap<String, String>,
    /// What the frames are kept as.
    pub output: Output,
    /// Frames in each chunk but the last.
    pub chunk_frames: u64,
    /// What is written beside the output; without it, nothing.
    pub proof: Option<Proof>,
}

/// What restored frames are kept as.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// Matroska.
    Video {
        /// Description of the encoder: lossless, each packet a key frame.
        encoder: String,
    },
    /// A folder of pictures.
    Pictures(sequence::Kind),
}

/// What is written beside the output.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// How many of the largest changes are listed and shown.
    pub changes: usize,
}

/// What `plan.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Version of the program that planned; the same must work and join.
    pub version: String,
    /// Length of the source in bytes.
    pub bytes: u64,
    /// Its SHA-256, if there is to be proof: of a sequence, that of the lines that `sha256sum` prints.
    pub sha256: Option<String>,
    /// Caps of its decoded frames.
    pub caps: String,
    /// Number of frames.
    pub frames: u64,
    /// What was asked for.
    pub wish: Wish,
}

/// A frame of the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// When it is shown, in nanoseconds.
    pub time: u64,
    /// Digest of its samples.
    pub digest: String,
    /// Its time code.
    pub timecode: Option<String>,
    /// Its captions: kind and bytes in hexadecimal digits.
    pub captions: Option<String>,
}

/// What stands for nothing in a line.
const NOTHING: &str = "-";

impl std::fmt::Display for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| NOTHING.to_owned());
        write!(f, "{} {} {} {}", self.time, self.digest, or(&self.timecode), or(&self.captions))
    }
}

impl Planned {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [time, digest, timecode, captions] = words[..] else { return None };
        let or = |text: &str| Some(text.to_owned()).filter(|text| text != NOTHING);
        Some(Self {
            time: time.parse().ok()?,
            digest: digest.to_owned(),
            timecode: or(timecode),
            captions: or(captions),
        })
    }
}

/// A job: its folder and what is planned there.
#[derive(Debug)]
pub struct Plan {
    folder: PathBuf,
    /// What is done.
    pub settings: Settings,
    /// To which frames.
    pub frames: Vec<Planned>,
}

impl Plan {
    /// Reads the whole input and writes the plan into a new folder.
    ///
    /// # Errors
    /// If the folder is a job already; if the input changes its caps, holds a damaged frame or none, or frames
    /// whose times do not rise.
    pub fn make(wish: Wish, folder: &Path, see: &dyn Fn(usize)) -> Result<Self> {
        fs::create_dir_all(folder.join(CHUNKS)).with_context(|| folder.display().to_string())?;
        // Made anew or not at all: two plans in one folder cannot both win.
        let list = OpenOptions::new().write(true).create_new(true).open(folder.join(FRAMES));
        let list = list.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                refused(format!("{} is a job already; name another folder, or remove it", folder.display()))
            }
            _ => anyhow::Error::new(error).context(folder.display().to_string()),
        })?;
        let planned = survey(&wish, list, see);
        if planned.is_err() {
            // So that the same folder can be used once the cause is gone.
            let _ = fs::remove_file(folder.join(FRAMES));
        }
        let found = planned.with_context(|| wish.source.input.display().to_string())?;
        let settings = Settings {
            version: env!("CARGO_PKG_VERSION").into(),
            bytes: wish.source.bytes()?,
            sha256: wish.proof.as_ref().map(|_| sum(&wish.source)).transpose()?,
            caps: found.caps.to_string(),
            frames: found.frames.len() as u64,
            wish,
        };
        write_whole(&folder.join(PLAN), serde_json::to_string_pretty(&settings)?.as_bytes())?;
        Ok(Self { folder: folder.to_owned(), settings, frames: found.frames })
    }

    /// Goes on with the job in a folder of one's own, or begins it: what is half planned there is planned anew.
    ///
    /// # Errors
    /// Refused if another job is there, or the source is no longer what it was.
    pub fn resume(wish: Wish, folder: &Path, see: &dyn Fn(usize)) -> Result<Self> {
        if !folder.join(PLAN).exists() {
            // It may not be there.
            let _ = fs::remove_file(folder.join(FRAMES));
            return Self::make(wish, folder, see);
        }
        let plan = Self::read(folder)?;
        let then = &plan.settings;
        let changed = if then.wish != wish {
            Some("other settings")
        } else if then.bytes != wish.source.bytes()? || then.sha256 != Some(sum(&wish.source)?) {
            Some("another source of the same name")
        } else {
            None
        };
        match changed {
            Some(what) => Err(refused(format!(
                "{} holds an unfinished job with {what}; finish that one, or remove the folder",
                folder.display()
            ))),
            None => Ok(plan),
        }
    }

    /// Reads a job.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(PLAN);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{}: no job; make one with `i2sb-run fleet plan`", path.display()))?;
        let settings: Settings = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        ensure!(
            settings.version == env!("CARGO_PKG_VERSION"),
            "{}: planned by version {}, this is {}: one job, one version",
            path.display(),
            settings.version,
            env!("CARGO_PKG_VERSION")
        );
        ensure!(settings.wish.chunk_frames > 0, "{}: chunk_frames is 0", path.display());
        let path = folder.join(FRAMES);
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let mut frames = Vec::new();
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let line = line.with_context(|| path.display().to_string())?;
            let frame = Planned::parse(&line);
            frames
                .push(frame.with_context(|| format!("{}: line {} is no frame", path.display(), index + 1))?);
        }
        ensure!(
            frames.len() as u64 == settings.frames,
            "{}: {} frames, planned were {}",
            path.display(),
            frames.len(),
            settings.frames
        );
        Ok(Self { folder: folder.to_owned(), settings, frames })
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u64 {
        self.settings.frames.div_ceil(self.settings.wish.chunk_frames)
    }

    /// The frames of a chunk.
    pub fn range(&self, chunk: u64) -> Range<usize> {
        let first = chunk * self.settings.wish.chunk_frames;
        first as usize..(first + self.settings.wish.chunk_frames).min(self.settings.frames) as usize
    }

    /// A file of a chunk.
    pub fn file(&self, chunk: u64, ending: &str) -> PathBuf {
        self.folder.join(CHUNKS).join(format!("{chunk:06}.{ending}"))
    }
}

/// The SHA-256 of a file, or of the lines that `sha256sum *` prints in a sequence's folder.
fn sum(source: &Source) -> Result<String> {
    if !source.stills() {
        return digest::sha256(&source.input);
    }
    let mut lines = Vec::new();
    for path in source.files()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        lines.push((format!("{}  {name}\n", digest::sha256(&path)?), name));
    }
    // As a shell orders them.
    lines.sort_by(|(_, a), (_, b)| a.cmp(b));
    Ok(digest::sha256_of(lines.into_iter().map(|(line, _)| line).collect::<String>().as_bytes()))
}

/// Writes beside the place and renames, so that the file is there as a whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension(format!("part-{}", std::process::id()));
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(frames: u64, chunk_frames: u64) -> Plan {
        let wish = Wish {
            source: Source::plain(Path::new("")),
            properties: BTreeMap::new(),
            output: Output::Pictures(sequence::Kind::Png),
            chunk_frames,
            proof: None,
        };
        let settings =
            Settings { version: String::new(), bytes: 0, sha256: None, caps: String::new(), frames, wish };
        Plan { folder: PathBuf::new(), settings, frames: Vec::new() }
    }

    #[test]
    fn lines_hold_what_a_frame_has() {
        let frame = |timecode: Option<&str>| Planned {
            time: 40,
            digest: "ab".into(),
            timecode: timecode.map(Into::into),
            captions: Some("cea708-raw:fc".into()),
        };
        for frame in [frame(None), frame(Some("01:00:00;02"))] {
            assert_eq!(Planned::parse(&frame.to_string()), Some(frame));
        }
        assert_eq!(Planned::parse("40 ab"), None);
    }

    #[test]
    fn chunks_cover_every_frame_once() {
        for frames in 1..40 {
            for chunk_frames in 1..45 {
                let plan = plan(frames, chunk_frames);
                let all: Vec<usize> = (0..plan.chunks()).flat_map(|chunk| plan.range(chunk)).collect();
                assert_eq!(all, (0..frames as usize).collect::<Vec<_>>(), "{frames} in {chunk_frames}");
            }
        }
    }
}
