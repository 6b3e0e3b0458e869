// SPDX-License-Identifier: MIT OR Apache-2.0
//! A job's folder: what is restored how, every frame of it, and where it is cut.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use serde::{Deserialize, Serialize};

use super::digest;
use super::frames::Frames;
use crate::exit::refused;

/// The plan, written last: a folder without it is no job.
const PLAN: &str = "plan.json";
/// Time in nanoseconds and digest of each frame, a line each.
const FRAMES: &str = "frames.txt";
/// Folder of the restored chunks.
const CHUNKS: &str = "chunks";

/// What `plan.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Version of the program that planned; the same must work and join.
    pub version: String,
    /// The video, as an absolute path that every machine sees.
    pub input: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Caps of its decoded frames.
    pub caps: String,
    /// Properties of `i2sbrestore`, by name.
    pub properties: BTreeMap<String, String>,
    /// Number of frames.
    pub frames: u64,
    /// Frames in each chunk but the last.
    pub chunk_frames: u64,
}

/// A frame of the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// When it is shown, in nanoseconds.
    pub time: u64,
    /// Digest of its samples.
    pub digest: String,
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
    pub fn make(
        input: &Path,
        folder: &Path,
        properties: BTreeMap<String, String>,
        chunk_frames: u64,
    ) -> Result<Self> {
        let input = input.canonicalize().with_context(|| input.display().to_string())?;
        fs::create_dir_all(folder.join(CHUNKS)).with_context(|| folder.display().to_string())?;
        // Made anew or not at all: two plans in one folder cannot both win.
        let list = OpenOptions::new().write(true).create_new(true).open(folder.join(FRAMES));
        let list = list.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                refused(format!("{} is a job already; name another folder, or remove it", folder.display()))
            }
            _ => anyhow::Error::new(error).context(folder.display().to_string()),
        })?;
        let planned = survey(&input, list);
        if planned.is_err() {
            // So that the same folder can be used once the cause is gone.
            let _ = fs::remove_file(folder.join(FRAMES));
        }
        let (caps, frames) = planned.with_context(|| input.display().to_string())?;
        let settings = Settings {
            version: env!("CARGO_PKG_VERSION").into(),
            bytes: fs::metadata(&input)?.len(),
            input,
            caps,
            properties,
            frames: frames.len() as u64,
            chunk_frames,
        };
        write_whole(&folder.join(PLAN), serde_json::to_string_pretty(&settings)?.as_bytes())?;
        Ok(Self { folder: folder.to_owned(), settings, frames })
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
        ensure!(settings.chunk_frames > 0, "{}: chunk_frames is 0", path.display());
        let path = folder.join(FRAMES);
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let mut frames = Vec::new();
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let line = line.with_context(|| path.display().to_string())?;
            let frame = line.split_once(' ').and_then(|(time, digest)| {
                Some(Planned { time: time.parse().ok()?, digest: digest.to_owned() })
            });
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
        self.settings.frames.div_ceil(self.settings.chunk_frames)
    }

    /// The frames of a chunk.
    pub fn range(&self, chunk: u64) -> Range<usize> {
        let first = chunk * self.settings.chunk_frames;
        first as usize..(first + self.settings.chunk_frames).min(self.settings.frames) as usize
    }

    /// A file of a chunk.
    pub fn file(&self, chunk: u64, ending: &str) -> PathBuf {
        self.folder.join(CHUNKS).join(format!("{chunk:06}.{ending}"))
    }
}

/// Caps, and all frames, which are written into `list` as they come.
fn survey(input: &Path, list: File) -> Result<(String, Vec<Planned>)> {
    let source = Frames::open(input)?;
    let mut list = BufWriter::new(list);
    let mut caps: Option<gst::Caps> = None;
    let mut frames: Vec<Planned> = Vec::new();
    while let Some(frame) = source.next().with_context(|| format!("frame {}", frames.len()))? {
        let index = frames.len();
        match &caps {
            Some(caps) if *caps != frame.caps => {
                bail!(
                    "frame {index}: the video changes from {caps} to {}; cut the file there first",
                    frame.caps
                )
            }
            Some(_) => {}
            None => {
                let encoder = gst::parse::bin_from_description(super::work::ENCODER, true)?;
                let takes = encoder.static_pad("sink").map(|pad| pad.query_caps(None));
                if !takes.is_some_and(|takes| takes.can_intersect(&frame.caps)) {
                    bail!("the lossless encoder ({}) cannot hold {}", super::work::ENCODER, frame.caps);
                }
                caps = Some(frame.caps.clone());
            }
        }
        let planned =
            Planned { time: frame.time.nseconds(), digest: digest::frame(&frame.buffer, &frame.caps)? };
        if frames.last().is_some_and(|last| last.time >= planned.time) {
            bail!("frame {index} at {} is not later than the one before it", frame.time);
        }
        writeln!(list, "{} {}", planned.time, planned.digest)?;
        frames.push(planned);
    }
    list.into_inner()?.sync_all()?;
    Ok((caps.context("it holds no video that can be decoded")?.to_string(), frames))
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
        let settings = Settings {
            version: String::new(),
            input: PathBuf::new(),
            bytes: 0,
            caps: String::new(),
            properties: BTreeMap::new(),
            frames,
            chunk_frames,
        };
        Plan { folder: PathBuf::new(), settings, frames: Vec::new() }
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
