// SPDX-License-Identifier: MIT OR Apache-2.0
//! One entry per parser: any bytes in, no panic and no unbounded memory.

use i2sb::{
    checkpoint::{SafetensorsFile, TorchCheckpoint, WeightSet, parse_options},
    degrade,
    net::params::TensorSource,
    noise::Stream,
    picture::{Limits, Picture},
    preset::{Preset, PresetConfig},
    train::{
        manifest::{Condition, Manifest, Weight},
        recipe::Recipe,
    },
};

/// Name and entry of every parser.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("torch", torch),
    ("options", options),
    ("preset", preset),
    ("config", config),
    ("picture", picture),
    ("recipe", recipe),
    ("manifest", manifest),
    ("degradation", degradation),
];

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
    if let Ok(preset) = Preset::from_bytes(config, data.to_vec(), None) {
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

/// A picture of any kind.
fn picture(data: &[u8]) {
    let limits = Limits { max_pixels: 1 << 14, max_bytes: 1 << 20 };
    if let Ok(picture) = Picture::from_bytes("fuzz", data, limits) {
        let pixels = picture.width * picture.height;
        assert!((1..=limits.max_pixels).contains(&pixels) && picture.rgb.len() == 3 * pixels);
        assert!(picture.alpha.is_none_or(|alpha| alpha.len() == pixels));
    }
}

/// A training recipe.
fn recipe(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(recipe) = Recipe::parse(text, "fuzz.toml") {
        assert!(recipe.lr(0).is_finite() && recipe.lr(recipe.train.steps).is_finite());
    }
}

/// A table of pictures, and conditions in the words of its last line.
fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let words = text.lines().last().unwrap_or_default();
    let condition = Condition::try_from(words.to_string());
    let _ = Weight::try_from(words.to_string());
    if let (Ok(manifest), Ok(condition)) = (Manifest::parse(text, "MANIFEST.csv"), condition) {
        assert!(!manifest.meets("a.png", &condition) || manifest.has("a.png"));
    }
}

/// A specification of a degradation, and what it makes of a small picture.
fn degradation(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Each step costs time, and chains are as long as the text.
    if text.matches(['+', '|']).count() > 8 {
        return;
    }
    let Ok(degradation) = degrade::parse(text) else { return };
    let (width, height) = (9, 5);
    if let Ok(degraded) = degradation.degrade(&[0.5; 3 * 9 * 5], width, height, &mut Stream::new(1, 0)) {
        assert_eq!(degraded.x1.len(), 3 * width * height);
    }
}
