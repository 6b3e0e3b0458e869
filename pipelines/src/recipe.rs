// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pipeline.toml`: what a job is made of, as data.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use crate::broadcast::streams::StreamJob;
use crate::exit::usage;
use crate::sequence::Kind;

/// A whole recipe; the key `kind` tells which.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Recipe {
    /// A job that ends: files in, files out.
    File(FileJob),
    /// A job whose every frame is proved: a video or a sequence in, a lossless one out.
    Archive(ArchiveJob),
    /// A job that may never end: streams in, streams out.
    Stream(Box<StreamJob>),
}

/// A job for archives. Unknown keys are errors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveJob {
    /// One sentence, shown when the job starts.
    pub about: String,
    /// Description of the encoder: lossless, each packet a key frame.
    pub encoder: String,
    /// What pictures are written as, where the output is no video and its name does not say.
    pub pictures: Kind,
    /// Frames after which a job that is killed can go on.
    pub chunk: u64,
    /// How many of the largest changes are listed and shown.
    pub changes: usize,
    /// Properties of `i2sbrestore`.
    #[serde(default)]
    properties: BTreeMap<String, toml::Value>,
}

/// A job on files. Unknown keys are errors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileJob {
    /// One sentence, shown when the job starts.
    pub about: String,
    /// Properties of `i2sbrestore`.
    #[serde(default)]
    pub properties: BTreeMap<String, toml::Value>,
    /// What file endings mean.
    pub containers: Vec<Container>,
    /// How folders of pictures are treated; without it they are refused.
    pub pictures: Option<Pictures>,
}

/// A container and the encoder it gets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Endings of file names, lower case.
    pub extensions: Vec<String>,
    /// Factory of the muxer.
    pub muxer: String,
    /// Description of the encoder, raw video in, what the muxer takes out.
    pub encoder: String,
    /// Caps that the encoder needs for pictures of odd width or height, where it refuses what it takes else.
    pub odd: Option<String>,
}

/// How pictures are read and written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pictures {
    /// Endings of the pictures that are read, lower case.
    pub extensions: Vec<String>,
    /// Description of the decoder.
    pub decode: String,
    /// Description of the encoder.
    pub encode: String,
    /// Ending of the pictures that are written.
    pub suffix: String,
}

impl Recipe {
    /// Reads a recipe.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        let recipe = text.and_then(|text| toml::from_str(&text).map_err(|error| error.to_string()));
        recipe.map_err(|reason| usage(format!("{}: {reason}", path.display())))
    }

    /// What the job does, in one sentence.
    pub fn about(&self) -> &str {
        match self {
            Self::File(job) => &job.about,
            Self::Archive(job) => &job.about,
            Self::Stream(job) => &job.about,
        }
    }
}

impl ArchiveJob {
    /// Properties of `i2sbrestore`, as text.
    pub fn properties(&self) -> BTreeMap<String, String> {
        let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.properties.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }
}

impl FileJob {
    /// The container that the ending of a file's name asks for.
    pub fn container(&self, path: &Path) -> Result<&Container> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        match self.containers.iter().find(|container| container.extensions.contains(&ending)) {
            Some(container) => Ok(container),
            None => {
                let known: Vec<_> =
                    self.containers.iter().flat_map(|c| &c.extensions).map(String::as_str).collect();
                let known = known.join(", ");
                Err(usage(format!("{}: the ending must be one of {known}", path.display())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_of_this_folder_parses() {
        let mut count = 0;
        for entry in std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap().flatten() {
            let path = entry.path().join("pipeline.toml");
            if path.exists() {
                match Recipe::read(&path).unwrap() {
                    Recipe::Archive(job) => assert!(job.chunk > 0 && job.properties()["strict"] == "true"),
                    Recipe::File(job) => {
                        assert!(job.container(Path::new("a/b.MKV")).is_ok());
                        let wrong = job.container(Path::new("a/b.txt")).unwrap_err();
                        assert!(wrong.to_string().contains("mkv") && crate::exit::of(&wrong) == 2);
                    }
                    Recipe::Stream(job) => {
                        assert_eq!(job.encoder(None).unwrap().name, "h264");
                        let wrong = job.encoder(Some("av2")).unwrap_err();
                        assert!(wrong.to_string().contains("mpeg2") && crate::exit::of(&wrong) == 2);
                    }
                }
                count += 1;
            }
        }
        assert!(count > 0);
    }

    #[test]
    fn what_is_no_recipe_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipeline.toml");
        for (text, word) in [("kind = \"tape\"", "tape"), ("kind = \"file\"\nabuot = 1", "abuot"), ("x", "=")]
        {
            std::fs::write(&path, text).unwrap();
            let error = Recipe::read(&path).unwrap_err();
            assert!(error.to_string().contains(word) && crate::exit::of(&error) == 2, "{error}");
        }
    }
}
