// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small preset with weights from a seed: slow enough to be real, fast enough for tests.

use std::path::{Path, PathBuf};

use candle_core::DType;
use i2sb::net::bridge::BridgeNetConfig;
use i2sb::net::{NetworkConfig, random::RandomWeights};
use i2sb::preset::{BridgeConfig, Preset, PresetConfig, SamplingConfig};

/// Writes the preset below `folder` and returns its own folder.
pub fn write(folder: &Path) -> PathBuf {
    write_seeded(folder, 7)
}

/// As [`write`], with weights from this seed.
pub fn write_seeded(folder: &Path, seed: u64) -> PathBuf {
    let network = NetworkConfig::Bridge(BridgeNetConfig {
        in_channels: 3,
        unshuffle: 4,
        widths: vec![16, 32],
        encoder: vec![1],
        middle: 1,
        decoder: vec![1],
        time_features: 16,
    });
    let config = PresetConfig {
        name: "test-nano-v1".into(),
        task: "test".into(),
        description: "Random weights".into(),
        sampling: SamplingConfig { sampler: "ot-ode".into(), nfe: 1 },
        bridge: BridgeConfig { ot_ode: true, ..BridgeConfig::default() },
        network,
    };
    let weights = RandomWeights::new(&config.network, seed).expect("a valid network");
    let path = folder.join(&config.name);
    Preset::write_from(&path, &config, &weights, "Random weights for tests.\n", DType::F32).expect("written");
    path
}
