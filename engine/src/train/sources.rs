// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where samples come from: photographs that are spoiled on the way, and ready-made pairs beside them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    dataset::{Dataset, DatasetOptions},
    manifest::{Condition, Weight},
    recipe::TrainConfig,
};
use crate::{Cancel, Error, Result};

/// Folder of the clean pictures of pairs, and of their manifest.
pub const CLEAN: &str = "clean";
/// Folder of the degraded pictures of pairs, under the names of the clean ones.
pub const DEGRADED: &str = "degraded";

/// One `[[train.pairs]]`: pictures with ready-made degraded twins, such as frames that a video codec has been
/// through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairConfig {
    /// Folder with the folders `clean` and `degraded`.
    pub folder: PathBuf,
    /// Share of the samples that are cut from these pairs, above 0, at most 1.
    pub share: f32,
    /// Only pairs whose row in `clean/MANIFEST.csv` meets all of these, such as `codec=x264`.
    #[serde(default)]
    pub only: Vec<Condition>,
    /// How often some of them are drawn; factors multiply.
    #[serde(default)]
    pub weights: Vec<Weight>,
}

/// Pictures in memory, of all kinds that a recipe asks for.
pub struct Sources {
    /// What is spoiled on the way.
    pub photographs: Dataset,
    /// For each `[[train.pairs]]` its share and pictures.
    pub pairs: Vec<(f32, Dataset)>,
}

impl From<Dataset> for Sources {
    fn from(photographs: Dataset) -> Self {
        Self { photographs, pairs: Vec::new() }
    }
}

impl Sources {
    /// Reads the photographs of `folder` and all pairs of the recipe. Pictures held out for evaluation are
    /// refused, see [`super::held_out_list`]. `skipped` is told each file that cannot be used, and why.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open(
        folder: &Path,
        config: &TrainConfig,
        cancel: &Cancel,
        mut skipped: impl FnMut(&Path, &str),
    ) -> Result<Self> {
        let options = DatasetOptions { refuse_held_out: true, ..config.data.clone() };
        let photographs = Dataset::open(folder, None, &options, cancel, &mut skipped, |_, _| ())?;
        let mut pairs = Vec::new();
        for source in &config.pairs {
            let options = DatasetOptions {
                // Pairs are never enlarged or mirrored to fit.
                min_side: config.crop.width.max(config.crop.height),
                only: source.only.clone(),
                weights: source.weights.clone(),
                ..options.clone()
            };
            let data = open_pairs(&source.folder, &options, cancel, &mut skipped)?;
            pairs.push((source.share, data));
        }
        Ok(Self { photographs, pairs })
    }

    /// Checks that these are the sources of a recipe.
    pub(super) fn check(&self, config: &TrainConfig) -> Result<()> {
        let (here, asked) = (self.pairs.len(), config.pairs.len());
        if here != asked {
            return Err(Error::setting(
                "train.pairs",
                format!("{asked} folders"),
                format!("read: {here} are"),
            ));
        }
        Ok(())
    }
}

/// Reads a folder of pairs, laid out as [`CLEAN`] and [`DEGRADED`].
///
/// # Errors
/// As [`Dataset::open`].
pub fn open_pairs(
    folder: &Path,
    options: &DatasetOptions,
    cancel: &Cancel,
    skipped: impl FnMut(&Path, &str),
) -> Result<Dataset> {
    Dataset::open(&folder.join(CLEAN), Some(&folder.join(DEGRADED)), options, cancel, skipped, |_, _| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        degrade,
        picture::{Picture, SaveOptions},
        train::crop::{CropOptions, Samples},
    };

    /// Pairs whose degraded picture is the negative of the clean one, which is the same nowhere.
    fn negatives(folder: &Path, side: usize) {
        for part in [CLEAN, DEGRADED] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        let rgb: Vec<u8> = (0..3 * side * side).map(|i| (i * 37 % 251) as u8).collect();
        let negative: Vec<u8> = rgb.iter().map(|v| 255 - v).collect();
        for (part, rgb) in [(CLEAN, rgb), (DEGRADED, negative)] {
            let picture = Picture::from_rgb8(side, side, &rgb).unwrap();
            picture.save(folder.join(part).join("a.webp"), SaveOptions::default()).unwrap();
        }
    }

    fn open(folder: &Path, share: f32) -> (Sources, Vec<String>) {
        let config = TrainConfig {
            pairs: vec![PairConfig { folder: folder.into(), share, only: vec![], weights: vec![] }],
            crop: CropOptions { width: 24, height: 16, ..Default::default() },
            ..Default::default()
        };
        let photographs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/photo");
        let mut lines = Vec::new();
        let skipped = |path: &Path, reason: &str| lines.push(format!("{}: {reason}", path.display()));
        let sources = Sources::open(&photographs, &config, &Cancel::default(), skipped).unwrap();
        (sources, lines)
    }

    #[test]
    fn pairs_have_their_share_and_both_pictures_are_cut_alike() {
        let folder = tempfile::tempdir().unwrap();
        negatives(folder.path(), 40);
        std::fs::write(folder.path().join(CLEAN).join("broken.png"), b"no picture").unwrap();
        let (sources, lines) = open(folder.path(), 0.6);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let crop = CropOptions { width: 24, height: 16, synthetic: 0.1, ..Default::default() };
        let samples = Samples::new(sources, degrade::parse("none").unwrap(), crop, 1).unwrap();
        let mut pairs = 0;
        let mut different = std::collections::HashSet::new();
        for index in 0..400 {
            let sample = samples.sample(index).unwrap();
            assert_eq!(sample, samples.sample(index).unwrap());
            assert_eq!((sample.x0.len(), sample.x1.len()), (3 * 24 * 16, 3 * 24 * 16));
            if sample.x0 != sample.x1 {
                pairs += 1;
                assert!(sample.x0.iter().zip(&sample.x1).all(|(a, b)| (a + b).abs() < 1e-6), "{index}");
                different.insert(sample.x0.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            }
        }
        assert!((200..280).contains(&pairs), "{pairs} of 400");
        assert!(different.len() > 150, "places and poses differ: {}", different.len());
    }

    #[test]
    fn ready_made_pairs_are_no_degradation_and_need_their_twins() {
        let folder = tempfile::tempdir().unwrap();
        negatives(folder.path(), 40);
        let error = |sources: Sources, spec: &str| {
            let made = Samples::new(sources, degrade::parse(spec).unwrap(), CropOptions::default(), 1);
            made.err().unwrap().to_string()
        };
        assert!(error(open(folder.path(), 0.5).0, "pairs:x").contains("[[train.pairs]]"));
        let (mut sources, _) = open(folder.path(), 0.5);
        sources.pairs = vec![(0.5, open(folder.path(), 0.5).0.photographs)];
        assert!(error(sources, "none").contains("without degraded twins"));
    }
}
