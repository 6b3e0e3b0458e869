// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a preset needs for [`Precision::Int8`]: over which values the bytes of each channel reach.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};

use super::{DETAIL_FILE, INT8_FILE, Preset, PresetConfig, WEIGHTS_FILE, check_shapes};
use crate::{
    Error, Result,
    checkpoint::{SafetensorsFile, write_safetensors},
    net::{
        NetworkConfig,
        bridge::{BridgeNetConfig, Calibration, activations, is_range},
        params::TensorSource,
    },
    ops::Precision,
};

/// What the names of the perceptual end's ranges begin with.
const DETAIL: &str = "detail.";

impl Preset {
    /// The preset with ranges of activations from memory: the bytes of `int8.safetensors`.
    ///
    /// # Errors
    /// As [`Preset::open`]; the file is called `embedded int8.safetensors`.
    pub fn with_ranges(mut self, ranges: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        let ranges = SafetensorsFile::from_bytes(&format!("embedded {INT8_FILE}"), ranges)?;
        check_ranges(&self.config, self.has_detail(), &ranges)?;
        self.ranges = Some(ranges);
        Ok(self)
    }

    /// Whether the preset was calibrated.
    pub fn has_int8(&self) -> bool {
        self.ranges.is_some()
    }

    /// What watches the values inside the preset's network, for [`Precision::Int8`].
    ///
    /// # Errors
    /// [`Error::Setting`] if the network is not of the `bridge` family, and as [`Preset::build`].
    pub fn calibration(&self) -> Result<Calibration> {
        let config = bridge(&self.config)?;
        self.with_source(|weights| Calibration::new(config, weights))
    }

    /// [`Preset::hash`]; in [`Precision::Int8`] with `+int8*` and the SHA-256 of `int8.safetensors` behind it.
    ///
    /// # Errors
    /// [`Error::Setting`] if int8 is asked for and the preset is not prepared for it, [`Error::File`] if its ranges belong
    /// to other weights.
    pub fn hash_in(&self, precision: Precision) -> Result<String> {
        match precision {
            Precision::Int8 => Ok(format!("{}+int8*{}", self.hash, self.int8()?.sha256()?)),
            _ => Ok(self.hash.clone()),
        }
    }

    /// Writes ranges of activations to `path`, beside its place and renamed, with the SHA-256 of the weights that they
    /// belong to.
    ///
    /// - `ends`: as [`Calibration::ranges`] gives them for this preset's faithful end, and, if it has one, for its
    ///   perceptual end.
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not fit the network, [`Error::Io`] if writing fails.
    pub fn write_ranges(&self, path: &Path, ends: &[Vec<Vec<[f32; 2]>>]) -> Result<()> {
        let tensors = expected(&self.config, self.has_detail())?;
        let rows: Vec<usize> = tensors.iter().map(|(_, shape)| shape[0]).collect();
        let found: Vec<usize> = ends.iter().flatten().map(Vec::len).collect();
        if found != rows {
            return Err(Error::shape("channels of the ranges", &found, format!("{rows:?}")));
        }
        let names = tensors.iter().map(|(name, _)| name.as_str());
        let of: BTreeMap<&str, &Vec<[f32; 2]>> = names.zip(ends.iter().flatten()).collect();
        let read = |name: &str| Ok(Tensor::from_vec(of[name].concat(), (of[name].len(), 2), &Device::Cpu)?);
        write_safetensors(path, &tensors, DType::F32, &self.hashes()?, read)
    }

    /// The SHA-256 of each file of weights, by its name: what ranges belong to.
    pub(super) fn hashes(&self) -> Result<BTreeMap<String, String>> {
        let files = [(WEIGHTS_FILE, Some(&self.weights)), (DETAIL_FILE, self.perceptual.as_ref())];
        let present = files.into_iter().filter_map(|(name, file)| Some((name.to_string(), file?)));
        present.map(|(name, file)| Ok((name, file.sha256()?))).collect()
    }

    /// The ranges of this preset's weights. Files of before they named their weights are taken as they are.
    pub(super) fn int8(&self) -> Result<&SafetensorsFile> {
        let ranges = self.ranges.as_ref().ok_or_else(|| {
            let limit = format!(
                "f32, f16 or bf16: {} has no {INT8_FILE}; `i2sb calibrate` makes it from pictures",
                self.config.name
            );
            Error::setting("precision", "int8", limit)
        })?;
        for (name, hash) in self.hashes()? {
            if let Some(other) = ranges.metadata().get(&name).filter(|other| **other != hash) {
                let reason = format!(
                    "belongs to a {name} of SHA-256 {other}, not {hash}; `i2sb calibrate` again makes it for these weights"
                );
                return Err(Error::file(ranges.origin(), reason));
            }
        }
        Ok(ranges)
    }
}

/// Weights, and ranges of activations beside them: those of the faithful end, or with a share of the perceptual one the
/// wider of both.
pub(super) struct Calibrated<'a> {
    pub weights: &'a dyn TensorSource,
    pub ranges: &'a SafetensorsFile,
    pub detail: f32,
}

impl TensorSource for Calibrated<'_> {
    fn origin(&self) -> &Path {
        self.weights.origin()
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let ranges = self.ranges.shapes().into_iter().filter(|(name, _)| !name.starts_with(DETAIL));
        self.weights.shapes().into_iter().chain(ranges).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        if !self.ranges.shapes().iter().any(|(of_ranges, _)| of_ranges == name) {
            return self.weights.read(name);
        }
        let faithful = self.ranges.read(name)?;
        if self.detail == 0.0 {
            return Ok(faithful);
        }
        let perceptual = self.ranges.read(&format!("{DETAIL}{name}"))?;
        let (low, high) = (faithful.minimum(&perceptual)?, faithful.maximum(&perceptual)?);
        Ok(Tensor::cat(&[low.narrow(1, 0, 1)?, high.narrow(1, 1, 1)?], 1)?)
    }
}

/// Names and shapes of the ranges of a preset's one end or both.
fn expected(config: &PresetConfig, detail: bool) -> Result<Vec<(String, Vec<usize>)>> {
    let faithful = activations(bridge(config)?)?;
    let perceptual = faithful.iter().map(|(name, shape)| (format!("{DETAIL}{name}"), shape.clone()));
    let perceptual: Vec<_> = if detail { perceptual.collect() } else { vec![] };
    Ok(faithful.into_iter().chain(perceptual).collect())
}

fn bridge(config: &PresetConfig) -> Result<&BridgeNetConfig> {
    match &config.network {
        NetworkConfig::Bridge(network) => Ok(network),
        NetworkConfig::Adm(_) => {
            Err(Error::setting("network.family", "adm", "bridge: other networks do not run in int8"))
        }
    }
}

/// Ranges for each map of this network, and no other.
pub(super) fn check_ranges(config: &PresetConfig, detail: bool, ranges: &SafetensorsFile) -> Result<()> {
    let tensors = expected(config, detail)?;
    check_shapes(&tensors, ranges)?;
    for (name, _) in tensors {
        let values = ranges.read(&name)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if let Some(range) = values.as_chunks::<2>().0.iter().find(|range| !is_range(range)) {
            let reason = format!(
                "tensor {name:?} holds {range:?}, but a range is finite, goes around 0 and is not empty"
            );
            return Err(Error::file(ranges.origin(), reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{CONFIG_FILE, tiny::CONFIG};
    use super::*;
    use crate::net::random::RandomWeights;

    fn folder() -> (tempfile::TempDir, Preset) {
        let folder = tempfile::tempdir().unwrap();
        let config = PresetConfig::parse(CONFIG, CONFIG_FILE).unwrap();
        let weights = RandomWeights::new(&config.network, 4).unwrap();
        Preset::write_from(folder.path(), &config, &weights, "", DType::F32).unwrap();
        let preset = Preset::open(folder.path()).unwrap();
        (folder, preset)
    }

    #[test]
    fn a_preset_is_prepared_once_and_says_so_if_it_is_not() {
        let (folder, preset) = folder();
        let error = preset.build(&Device::Cpu, Precision::Int8).err().unwrap().to_string();
        assert!(error.contains("i2sb calibrate") && error.contains(INT8_FILE), "{error}");
        assert!(preset.hash_in(Precision::Int8).is_err());
        let ranges = vec![vec![[-1.0, 2.0]; 16]; 2];
        let path = folder.path().join(INT8_FILE);
        assert!(preset.write_ranges(&path, &[ranges[..1].to_vec()]).is_err());
        preset.write_ranges(&path, &[ranges]).unwrap();
        let preset = Preset::open(folder.path()).unwrap();
        preset.build(&Device::Cpu, Precision::Int8).unwrap();
        preset.build(&Device::Cpu, Precision::F32).unwrap();
        assert_eq!(preset.hash_in(Precision::F32).unwrap(), preset.hash);
        let hash = preset.hash_in(Precision::Int8).unwrap();
        assert!(hash.starts_with(&preset.hash) && hash.contains("+int8*"), "{hash}");
        let embedded = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        let preset = Preset::from_bytes(CONFIG, embedded(WEIGHTS_FILE), None).unwrap();
        let preset = preset.with_ranges(embedded(INT8_FILE)).unwrap();
        assert_eq!(preset.hash_in(Precision::Int8).unwrap(), hash);
    }

    #[test]
    fn both_ends_have_their_ranges_and_what_lies_between_the_wider() {
        let (folder, _) = folder();
        std::fs::copy(folder.path().join(WEIGHTS_FILE), folder.path().join(DETAIL_FILE)).unwrap();
        let preset = Preset::open(folder.path()).unwrap();
        let (one, two) = (vec![vec![[-1.0, 2.0]; 16]; 2], vec![vec![[-3.0, 1.0]; 16]; 2]);
        let path = folder.path().join(INT8_FILE);
        assert!(preset.write_ranges(&path, std::slice::from_ref(&one)).is_err(), "an end is missing");
        preset.write_ranges(&path, &[one, two]).unwrap();
        let preset = Preset::open(folder.path()).unwrap();
        for (detail, want) in [(0.0, [-1.0, 2.0]), (0.5, [-3.0, 2.0]), (1.0, [-3.0, 2.0])] {
            let preset = preset.clone().with_detail(detail).unwrap();
            preset.build(&Device::Cpu, Precision::Int8).unwrap();
            let ranges = preset.int8().unwrap();
            let both = Calibrated { weights: preset.weights(), ranges, detail };
            let got = both.read("activations.1").unwrap().to_vec2::<f32>().unwrap();
            assert!(got.iter().all(|range| range[..] == want), "{detail}: {got:?}");
        }
    }

    #[test]
    fn ranges_of_other_weights_are_refused_when_bytes_are_asked_for() {
        let (folder, preset) = folder();
        let path = folder.path().join(INT8_FILE);
        let ranges = vec![vec![[-1.0, 2.0]; 16]; 2];
        preset.write_ranges(&path, std::slice::from_ref(&ranges)).unwrap();
        let other = RandomWeights::new(&preset.config.network, 5).unwrap();
        Preset::write_from(folder.path(), &preset.config, &other, "", DType::F32).unwrap();
        let stale = Preset::open(folder.path()).unwrap();
        stale.build(&Device::Cpu, Precision::F32).unwrap();
        for error in [
            stale.build(&Device::Cpu, Precision::Int8).err().unwrap(),
            stale.hash_in(Precision::Int8).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains(INT8_FILE) && error.contains("`i2sb calibrate` again"), "{error}");
            assert!(error.contains(&preset.hash) && error.contains(&stale.hash), "{error}");
        }
        stale.write_ranges(&path, &[ranges]).unwrap();
        Preset::open(folder.path()).unwrap().build(&Device::Cpu, Precision::Int8).unwrap();
        // Files that do not name their weights go on working.
        let file = SafetensorsFile::open(&path).unwrap();
        let read = |name: &str| file.read(name);
        let unnamed = folder.path().join("unnamed");
        write_safetensors(&unnamed, &file.shapes(), DType::F32, &BTreeMap::new(), read).unwrap();
        std::fs::rename(unnamed, &path).unwrap();
        Preset::open(folder.path()).unwrap().build(&Device::Cpu, Precision::Int8).unwrap();
    }

    #[test]
    fn ranges_that_are_none_and_files_that_do_not_fit_are_named() {
        let (folder, preset) = folder();
        let path = folder.path().join(INT8_FILE);
        for bad in [[0.5, 1.0], [-1.0, -0.5], [0.0, 0.0]] {
            preset.write_ranges(&path, &[vec![vec![[-1.0, 1.0]; 16], vec![bad; 16]]]).unwrap();
            let error = Preset::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(INT8_FILE) && error.contains("activations.1"), "{error}");
        }
        std::fs::copy(folder.path().join(WEIGHTS_FILE), &path).unwrap();
        let error = Preset::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(INT8_FILE) && error.contains("activations.0"), "{error}");
        std::fs::write(&path, b"cut").unwrap();
        assert!(Preset::open(folder.path()).unwrap_err().to_string().contains(INT8_FILE));
    }
}
