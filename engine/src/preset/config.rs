// SPDX-License-Identifier: MIT OR Apache-2.0
//! `config.toml` to types: whatever parses is complete and in range.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{Error, Result, net::NetworkConfig, sampler};

/// Longest `config.toml` that is read, in bytes.
pub(super) const CONFIG_LIMIT: u64 = 64 << 10;
/// Longest name, task or description, in bytes.
const TEXT_LIMIT: usize = 4096;
/// Most steps that a bridge may have.
const INTERVAL_LIMIT: usize = 100_000;

/// All of `config.toml`. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetConfig {
    /// Name of the preset's folder, e.g. `jpeg-small-v1`: lower-case letters, digits, `-`, `.`, `_`.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// What it restores, e.g. `jpeg`.
    #[serde(deserialize_with = "name")]
    pub task: String,
    /// One sentence for the user.
    #[serde(deserialize_with = "text")]
    pub description: String,
    /// How it is sampled unless the user says otherwise.
    pub sampling: SamplingConfig,
    /// The bridge that it was trained on.
    pub bridge: BridgeConfig,
    /// The network.
    pub network: NetworkConfig,
}

/// The defaults of a preset's sampling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Name of the sampler, one of `sampler::SAMPLERS`.
    #[serde(deserialize_with = "name")]
    pub sampler: String,
    /// Network evaluations, 1 … interval − 1.
    pub nfe: usize,
}

/// The bridge: its schedule (SPEC section 2) and the options of section 6.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BridgeConfig {
    /// Steps N of the schedule, even.
    #[serde(deserialize_with = "interval")]
    pub interval: usize,
    /// Upper end of the noise ramp, before it is divided by N.
    #[serde(deserialize_with = "positive")]
    pub beta_max: f64,
    /// First time, told to the network times N.
    #[serde(deserialize_with = "positive")]
    pub t0: f64,
    /// Last time T.
    #[serde(deserialize_with = "positive")]
    pub t_end: f64,
    /// No noise in bridge and posterior (SPEC section 3.3).
    pub ot_ode: bool,
    /// The network also sees x1: 6 input channels.
    pub cond_x1: bool,
    /// Noise of unit deviation is added to the degraded end.
    pub add_x1_noise: bool,
    /// The clean prediction is clamped to [-1, 1] at each step.
    pub clip_denoise: bool,
}

impl Default for BridgeConfig {
    /// The settings of the released JPEG models (SPEC section 10).
    fn default() -> Self {
        Self {
            interval: 1000,
            beta_max: 0.3,
            t0: 1e-4,
            t_end: 1.0,
            ot_ode: false,
            cond_x1: false,
            add_x1_noise: false,
            clip_denoise: false,
        }
    }
}

impl PresetConfig {
    /// Reads the text of a `config.toml`; `path` is for errors.
    ///
    /// # Errors
    /// [`Error::File`] with the key, its value and its range.
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config: Self = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
        let (nfe, most) = (config.sampling.nfe, config.bridge.interval - 1);
        if !(1..=most).contains(&nfe) {
            return Err(Error::file(path, format!("sampling.nfe is {nfe}, but must be 1 to {most}")));
        }
        sampler::find(&config.sampling.sampler).map_err(|e| Error::file(path, e))?;
        if config.bridge.t0 >= config.bridge.t_end {
            let (t0, t_end) = (config.bridge.t0, config.bridge.t_end);
            return Err(Error::file(path, format!("bridge.t0 is {t0}, but must be below t_end = {t_end}")));
        }
        let channels = config.network.in_channels();
        let needed = if config.bridge.cond_x1 { 6 } else { 3 };
        if channels != needed {
            let cond = config.bridge.cond_x1;
            let reason =
                format!("the network takes {channels} channels, {needed} needed as bridge.cond_x1 is {cond}");
            return Err(Error::file(path, reason));
        }
        config.network.check().map_err(|e| Error::file(path, e))?;
        Ok(config)
    }

    /// The text of a `config.toml`.
    ///
    /// # Errors
    /// [`Error::Setting`] if a value has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::setting("config.toml", e, "writable as TOML"))
    }
}

/// Whether `text` may name a preset: it becomes a folder's name, so no separators, no leading dot.
pub(super) fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    (1..=64).contains(&text.len()) && !text.starts_with('.') && text.chars().all(good)
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_name(&text) {
        return Ok(text);
    }
    let shown: String = text.chars().take(80).collect();
    Err(de::Error::custom(format!(
        "{shown:?} is no name: 1 to 64 of a-z, 0-9, - . _ are, not starting with a dot"
    )))
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > TEXT_LIMIT {
        return Err(de::Error::custom(format!(
            "text of {} bytes, at most {TEXT_LIMIT} are read",
            text.len()
        )));
    }
    Ok(text)
}

fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<usize, D::Error> {
    let n = usize::deserialize(deserializer)?;
    if n.is_multiple_of(2) && (2..=INTERVAL_LIMIT).contains(&n) {
        return Ok(n);
    }
    Err(de::Error::custom(format!("interval is {n}, but must be even, 2 to {INTERVAL_LIMIT}")))
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(de::Error::custom(format!("{value}, but must be a finite number above 0")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::net::adm::AdmConfig;

    pub(crate) fn example() -> PresetConfig {
        PresetConfig {
            name: "jpeg-tiny-v1".into(),
            task: "jpeg".into(),
            description: "For tests.".into(),
            sampling: SamplingConfig { sampler: "i2sb".into(), nfe: 1 },
            bridge: BridgeConfig::default(),
            network: NetworkConfig::Adm(AdmConfig::released_256()),
        }
    }

    #[test]
    fn written_and_read_again_is_equal() {
        let text = example().to_toml().unwrap();
        assert!(text.contains("family = \"adm\""), "{text}");
        assert_eq!(PresetConfig::parse(&text, "config.toml").unwrap(), example());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let text = example().to_toml().unwrap();
        for (from, to, expected) in [
            ("interval = 1000", "interval = 999", "even"),
            ("interval = 1000", "interval = -2", "interval"),
            ("nfe = 1", "nfe = 1000", "1 to 999"),
            ("nfe = 1", "nfe = 0", "nfe is 0"),
            ("sampler = \"i2sb\"", "sampler = \"i2sbb\"", "i2sbb"),
            ("beta_max = 0.3", "beta_max = nan", "finite"),
            ("beta_max = 0.3", "beta_max = -1.0", "above 0"),
            ("t0 = 0.0001", "t0 = 1.0", "below t_end"),
            ("name = \"jpeg-tiny-v1\"", "name = \"../up\"", "no name"),
            ("cond_x1 = false", "cond_x1 = true", "6 needed"),
            ("nfe = 1", "nfe = 1\nnef = 2", "nef"),
            ("model_channels = 256", "model_channels = 256\nmodel_chanels = 2", "model_chanels"),
            ("ot_ode = false", "ot_odd = false", "ot_odd"),
            ("family = \"adm\"", "family = \"unet\"", "unet"),
            ("family = \"adm\"\n", "", "family"),
        ] {
            assert!(text.contains(from), "{from} not in {text}");
            let err = PresetConfig::parse(&text.replace(from, to), "c.toml").unwrap_err().to_string();
            assert!(err.starts_with("c.toml") && err.contains(expected), "{to}: {err}");
        }
    }
}
