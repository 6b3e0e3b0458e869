// SPDX-License-Identifier: MIT OR Apache-2.0
//! One entry per parser: any bytes in, no panic and no unbounded memory.

use i2sb::{
    checkpoint::{SafetensorsFile, TorchCheckpoint, WeightSet, parse_options},
    net::params::TensorSource,
    preset::{Preset, PresetConfig},
};

/// Name and entry of every parser.
pub const TARGETS: &[(&str, fn(&[u8]))] =
    &[("torch", torch), ("options", options), ("preset", preset), ("config", config)];

/// Runs one entry by its name.
pub fn run(name: &str, data: &[u8]) {
    if let Some((_, entry)) = TARGETS.iter().find(|(n, _)| *n == name) {
        entry(data);
    }
}

/// A torch archive: zip, pickle, views of storages, every weight.
fn torch(data: &[u8]) {
    let Ok(checkpoint) = TorchCheckpoint::from_bytes("fuzz.pt", data) else { return };
    let config = checkpoint.infer();
    let sets =
        config.iter().flat_map(|c| [WeightSet::Ema, WeightSet::Net].map(|set| checkpoint.weights(set, c)));
    for weights in sets.flatten() {
        weights.shapes().iter().for_each(|(name, _)| drop(weights.read(name)));
    }
    // Whatever the names are, the weights can be read one by one.
    if let Ok(weights) = checkpoint.weights(WeightSet::Net, &i2sb::net::adm::AdmConfig::released_256()) {
        weights.shapes().iter().for_each(|(name, _)| drop(weights.read(name)));
    }
}

/// A pickled namespace.
fn options(data: &[u8]) {
    let _ = parse_options("fuzz.pkl", data.to_vec());
}

/// A safetensors file, alone and as a preset's weights.
fn preset(data: &[u8]) {
    if let Ok(file) = SafetensorsFile::from_bytes("fuzz.safetensors", data.to_vec()) {
        file.entries().iter().for_each(|e| drop(file.read(&e.name)));
    }
    let config = include_str!("../seeds/config/bridge.toml");
    if let Ok(preset) = Preset::from_bytes(config, data.to_vec()) {
        let _ = i2sb::device::DeviceName::Cpu
            .open()
            .and_then(|device| preset.build(&device, i2sb::ops::Precision::F32));
    }
}

/// A preset's configuration.
fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(config) = PresetConfig::parse(text, "fuzz.toml") {
        let _ = config.network.tensors();
        let again = config.to_toml().expect("what was read can be written");
        assert_eq!(PresetConfig::parse(&again, "again.toml").expect("and read again"), config);
    }
}
