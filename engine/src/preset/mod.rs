// SPDX-License-Identifier: MIT OR Apache-2.0
//! A preset: a folder `<task>-<size>-v<N>` that holds all of a trained model.
//!
//! | file | content |
//! |---|---|
//! | `config.toml` | [`PresetConfig`]: bridge, sampling and network |
//! | `model.safetensors` | the weights, named after the network's modules |
//! | `detail.safetensors` | optional: weights of the perceptual end, see [`Preset::with_detail`] |
//! | `int8.safetensors` | optional: ranges of activations for [`Precision::Int8`], which `i2sb calibrate` writes |
//! | `card.md` | what it was trained on, how, and how well it does |

mod companions;
mod config;
mod detail;
mod embedded;
mod int8;
mod locate;
#[cfg(test)]
pub(crate) mod tiny;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};

pub use companions::{companions, remove_companions};
pub use config::{BridgeConfig, PresetConfig, SamplingConfig};
pub use locate::{MODEL_PATH_VARIABLE, SearchPath};

use self::int8::{Calibrated, check_ranges};
use crate::{
    Error, Result,
    checkpoint::{SafetensorsFile, replace_file, write_safetensors},
    net::{Network, params::TensorSource},
    ops::Precision,
};

/// Name of the configuration in a preset's folder.
pub const CONFIG_FILE: &str = "config.toml";
/// Name of the weights in a preset's folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Name of the perceptual end's weights in a preset's folder.
pub const DETAIL_FILE: &str = "detail.safetensors";
/// Name of the ranges of activations in a preset's folder.
pub const INT8_FILE: &str = "int8.safetensors";
/// Name of the model card in a preset's folder.
pub const CARD_FILE: &str = "card.md";

/// An opened preset: the configuration, and weights that are read when a network is built.
#[derive(Debug, Clone)]
pub struct Preset {
    /// What `config.toml` says.
    pub config: PresetConfig,
    /// SHA-256 of `model.safetensors`, 64 hexadecimal digits; with a share of detail, `+SHARE*` and that of
    /// `detail.safetensors` behind it.
    pub hash: String,
    /// The folder; `None` for a preset from memory.
    pub folder: Option<PathBuf>,
    weights: SafetensorsFile,
    perceptual: Option<SafetensorsFile>,
    ranges: Option<SafetensorsFile>,
    detail: f32,
}

impl Preset {
    /// Opens a preset's folder, or finds one by name along [`SearchPath::from_env`].
    ///
    /// # Errors
    /// [`Error::Setting`] if there is none, [`Error::Io`] and [`Error::File`] for what is wrong in
    /// its files; tensors that do not fit the configuration are found here, NaN when building.
    pub fn open(model: impl AsRef<Path>) -> Result<Self> {
        Self::open_along(model, &SearchPath::from_env())
    }

    /// Like [`Preset::open`] with a search path of the caller's.
    ///
    /// # Errors
    /// As [`Preset::open`].
    pub fn open_along(model: impl AsRef<Path>, search: &SearchPath) -> Result<Self> {
        let folder = search.find(model)?;
        let path = folder.join(CONFIG_FILE);
        let config = PresetConfig::parse(&read_text(&path, config::CONFIG_LIMIT)?, &path)?;
        let weights = SafetensorsFile::open(folder.join(WEIGHTS_FILE))?;
        let optional = |name: &str| {
            let path = folder.join(name);
            path.exists().then(|| SafetensorsFile::open(path)).transpose()
        };
        let (perceptual, ranges) = (optional(DETAIL_FILE)?, optional(INT8_FILE)?);
        ranges.iter().try_for_each(|ranges| check_ranges(&config, perceptual.is_some(), ranges))?;
        Ok(Self { ranges, ..Self::new(config, weights, perceptual, Some(folder.clone()))? })
    }

    /// A preset from memory, e.g. embedded in a program: the text of `config.toml` and the bytes
    /// of `model.safetensors` and, where there is one, of `detail.safetensors`.
    ///
    /// # Errors
    /// As [`Preset::open`]; the files are called `embedded config.toml` and so on.
    pub fn from_bytes<B: Into<Cow<'static, [u8]>>>(
        config: &str,
        weights: B,
        perceptual: Option<B>,
    ) -> Result<Self> {
        let config = PresetConfig::parse(config, format!("embedded {CONFIG_FILE}"))?;
        let weights = SafetensorsFile::from_bytes(&format!("embedded {WEIGHTS_FILE}"), weights)?;
        let end = |bytes| SafetensorsFile::from_bytes(&format!("embedded {DETAIL_FILE}"), bytes);
        Self::new(config, weights, perceptual.map(end).transpose()?, None)
    }

    fn new(
        config: PresetConfig,
        weights: SafetensorsFile,
        perceptual: Option<SafetensorsFile>,
        folder: Option<PathBuf>,
    ) -> Result<Self> {
        for file in std::iter::once(&weights).chain(&perceptual) {
            check_shapes(&config.network.tensors()?, file)?;
        }
        Ok(Self { hash: weights.sha256()?, config, folder, weights, perceptual, ranges: None, detail: 0.0 })
    }

    /// Whether the preset has a perceptual end.
    pub fn has_detail(&self) -> bool {
        self.perceptual.is_some()
    }

    /// The share of the perceptual end, 0 as opened.
    pub fn detail(&self) -> f32 {
        self.detail
    }

    /// The network between the faithful end, `detail` 0, which means to be right on average, and the perceptual
    /// end, 1, which means to look like an undamaged picture. Weights in between cost nothing more.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value outside 0 to 1, and for any but 0 if the preset has no perceptual end.
    pub fn with_detail(mut self, detail: f32) -> Result<Self> {
        Self::check_detail(detail)?;
        let faithful = self.weights.sha256()?;
        self.hash = match &self.perceptual {
            _ if detail == 0.0 => faithful,
            Some(end) => format!("{faithful}+{detail}*{}", end.sha256()?),
            None => {
                let limit = format!("0: {} has no {DETAIL_FILE}", self.config.name);
                return Err(Error::setting("detail", detail, limit));
            }
        };
        self.detail = detail;
        Ok(self)
    }

    /// Checks what [`Preset::with_detail`] needs of any preset.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value outside 0 to 1.
    pub fn check_detail(detail: f32) -> Result<()> {
        if (0.0..=1.0).contains(&detail) {
            return Ok(());
        }
        Err(Error::setting("detail", detail, "0 to 1"))
    }

    /// Builds the network on `device`; weights are read, checked and placed one by one.
    ///
    /// # Errors
    /// [`Error::File`] for weights that are not finite or do not fit, [`Error::Setting`] for a precision that the device
    /// does not have or the preset is not prepared for, [`Error::Tensor`] if the device fails.
    pub fn build(&self, device: &Device, precision: Precision) -> Result<Box<dyn Network>> {
        self.with_source(|weights| match (device, precision) {
            (Device::Cpu, Precision::Int8) => {
                let both = Calibrated { weights, ranges: self.int8()?, detail: self.detail };
                self.config.network.build(&both, device, precision)
            }
            _ => self.config.network.build(weights, device, precision),
        })
    }

    fn with_source<T>(&self, take: impl FnOnce(&dyn TensorSource) -> Result<T>) -> Result<T> {
        match &self.perceptual {
            Some(to) if self.detail > 0.0 => {
                take(&detail::Between { from: &self.weights, to, share: self.detail })
            }
            _ => take(&self.weights),
        }
    }

    /// The weights of the faithful end, e.g. to list or to train them further.
    pub fn weights(&self) -> &SafetensorsFile {
        &self.weights
    }

    /// Writes a preset's folder, each file beside its place and renamed, the weights first.
    ///
    /// - `tensors`: by name; exactly those of `config.network`.
    /// - `card`: the text of `card.md`.
    ///
    /// # Errors
    /// [`Error::Setting`] if the configuration is not one that [`Preset::open`] would take,
    /// [`Error::File`] if a tensor is missing, [`Error::Io`] if writing fails.
    pub fn write(
        folder: impl AsRef<Path>,
        config: &PresetConfig,
        tensors: &BTreeMap<String, Tensor>,
        card: &str,
    ) -> Result<()> {
        Self::write_from(folder, config, tensors, card, DType::F32)
    }

    /// Like [`Preset::write`] from any source, tensor by tensor, stored as `dtype`.
    ///
    /// # Errors
    /// As [`Preset::write`].
    pub fn write_from(
        folder: impl AsRef<Path>,
        config: &PresetConfig,
        source: &dyn TensorSource,
        card: &str,
        dtype: DType,
    ) -> Result<()> {
        let folder = folder.as_ref();
        let text = config.to_toml()?;
        PresetConfig::parse(&text, folder.join(CONFIG_FILE))?;
        let tensors = config.network.tensors()?;
        check_shapes(&tensors, source)?;
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let weights = folder.join(WEIGHTS_FILE);
        write_safetensors(weights, &tensors, dtype, &BTreeMap::new(), |name| source.read(name))?;
        replace_file(folder.join(CARD_FILE), card.as_bytes())?;
        replace_file(folder.join(CONFIG_FILE), text.as_bytes())
    }
}

/// Each expected tensor is there in its shape, and no other.
fn check_shapes(expected: &[(String, Vec<usize>)], source: &dyn TensorSource) -> Result<()> {
    let wrong = |reason: String| Err(Error::file(source.origin(), reason));
    let mut found: BTreeMap<_, _> = source.shapes().into_iter().collect();
    for (name, shape) in expected {
        match found.remove(name) {
            None => return wrong(format!("tensor {name:?} is missing, shape {shape:?} expected")),
            Some(s) if s != *shape => {
                return wrong(format!("tensor {name:?} has shape {s:?}, {shape:?} expected"));
            }
            Some(_) => {}
        }
    }
    match found.keys().next() {
        Some(name) => {
            wrong(format!("{} tensors that the network does not have, first {name:?}", found.len()))
        }
        None => Ok(()),
    }
}

fn read_text(path: &Path, limit: u64) -> Result<String> {
    let file = fs::File::open(path).map_err(Error::io(path))?;
    let mut text = Vec::new();
    file.take(limit + 1).read_to_end(&mut text).map_err(Error::io(path))?;
    if text.len() as u64 > limit {
        return Err(Error::file(path, format!("longer than {limit} bytes")));
    }
    String::from_utf8(text).map_err(|e| Error::file(path, e))
}
