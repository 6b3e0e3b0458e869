// SPDX-License-Identifier: MIT OR Apache-2.0
//! The networks that fixtures name: `NAME.safetensors` with `state.*`, configured by `NAME.json`.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use candle_core::{Device, Tensor};

use super::{fixture::Fixture, json::Json};
use crate::{
    Result,
    net::adm::{AdmConfig, AdmNet},
    ops::Precision,
};

/// A network's configuration and its weights, on the device.
pub(super) struct Stored {
    /// What the JSON describes.
    pub config: AdmConfig,
    /// Weights by the names of SPEC section 7.
    pub state: BTreeMap<String, Tensor>,
}

impl Stored {
    /// Opens the network that `json` names under `/network`, relative to `folder`.
    pub fn named_by(json: &Json, folder: &Path, device: &Device) -> Result<Self> {
        let name = json.text("/network")?;
        let path = inside(folder, name)
            .ok_or_else(|| json.error(format!("network is {name:?}, but must be a file of these folders")))?;
        let parent = path.parent().unwrap_or(folder);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::read(&Fixture::open(parent, &stem, device)?)
    }

    /// Takes configuration and weights from an open fixture.
    pub fn read(fixture: &Fixture) -> Result<Self> {
        let options = fixture.json.value("/network")?;
        let config = if options.get("model_channels").is_some() {
            AdmConfig::from_constructor(options)?
        } else {
            AdmConfig::from_options(options)?
        };
        Ok(Self { config, state: fixture.state("state.")? })
    }

    /// The network in f32.
    pub fn build(&self, device: &Device) -> Result<AdmNet> {
        AdmNet::build(&self.config, &self.state, device, Precision::F32)
    }
}

/// A file of `folder`, or of a folder beside it (`../NAME/FILE`); nothing else can be named.
fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    let parts: Vec<_> = Path::new(name).components().collect();
    let allowed = matches!(
        parts.as_slice(),
        [Component::Normal(_)] | [Component::ParentDir, Component::Normal(_), Component::Normal(_)]
    );
    allowed.then(|| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_fixtures_are_named() {
        let folder = Path::new("a/training");
        assert!(inside(folder, "net.safetensors").is_some());
        assert!(inside(folder, "../sampling/net.safetensors").is_some());
        for name in ["/etc/passwd", "../../b/net", "../net", "x/../../y", "", ".."] {
            assert!(inside(folder, name).is_none(), "{name}");
        }
    }
}
