// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzz targets on a stable compiler: mutated seeds, always the same ones, for a few seconds.
//!
//! `I2SB_FUZZ_ROUNDS` sets the mutations of each target; with `cargo fuzz` the same entries run for as
//! long as one likes (fuzz/Cargo.toml).

#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};
use i2sb::{
    degrade::DEGRADATIONS,
    noise::Stream,
    preset::{Preset, PresetConfig},
};

/// Mutations of each target, unless the environment says otherwise.
const ROUNDS: u64 = 20_000;
const SEED: u64 = 20_230_205;

/// Seeds from the folder, and those that are made here.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    if target == "preset" {
        let text = std::fs::read_to_string(folder.join("config/bridge.toml")).unwrap();
        let config = PresetConfig::parse(&text, "bridge.toml").unwrap();
        let zeros = |(name, shape): (String, Vec<usize>)| {
            (name, Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap())
        };
        let tensors: BTreeMap<_, _> = config.network.tensors().unwrap().into_iter().map(zeros).collect();
        let dir = tempfile::tempdir().unwrap();
        Preset::write(dir.path(), &config, &tensors, "").unwrap();
        return vec![std::fs::read(dir.path().join("model.safetensors")).unwrap()];
    }
    if target == "degradation" {
        return DEGRADATIONS.iter().map(|entry| entry.example.into()).collect();
    }
    // Pictures and recipes are at hand elsewhere.
    let folder = match target {
        "picture" => folder.join("../../tests/fixtures/pictures"),
        "recipe" => folder.join("../../engine/recipes"),
        _ => folder.join(target),
    };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.is_file() && path.extension().is_none_or(|e| e != "py"));
    files.sort();
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One to eight small changes: bits, bytes, numbers at the edge, pieces cut, repeated or moved.
fn mutate(data: &mut Vec<u8>, stream: &mut Stream) {
    const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
    for _ in 0..=stream.below(8) {
        if data.is_empty() {
            return data.push(stream.next_u32() as u8);
        }
        // Headers and directories stand at the ends: half of the changes go there.
        let length = data.len() as u64;
        let near = length.min(200);
        let at = match stream.below(4) {
            0 => stream.below(near),
            1 => length - 1 - stream.below(near),
            _ => stream.below(length),
        } as usize;
        match stream.below(7) {
            0 => data[at] ^= 1 << stream.below(8),
            1 => data[at] = stream.next_u32() as u8,
            2 => {
                let width = (1 << stream.below(4)) as usize;
                let edge = EDGES[stream.below(8) as usize].to_le_bytes();
                let end = (at + width).min(data.len());
                data[at..end].copy_from_slice(&edge[..end - at]);
            }
            3 => data.truncate(at),
            4 => drop(data.drain(at..(at + 1 + stream.below(16) as usize).min(data.len()))),
            5 => {
                let end = (at + 1 + stream.below(64) as usize).min(data.len());
                let piece = data[at..end].to_vec();
                data.splice(at..at, piece);
            }
            _ => {
                let to = stream.below(length) as usize;
                data.swap(at, to);
            }
        }
    }
}

#[test]
fn mutated_files_are_errors_and_nothing_worse() {
    let rounds = std::env::var("I2SB_FUZZ_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(ROUNDS);
    for (id, (name, entry)) in targets::TARGETS.iter().enumerate() {
        let started = std::time::Instant::now();
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let mut stream = Stream::new(SEED, id as u64);
        seeds.iter().for_each(|seed| entry(seed));
        for round in 0..rounds {
            let mut data = seeds[stream.below(seeds.len() as u64) as usize].clone();
            mutate(&mut data, &mut stream);
            let outcome = std::panic::catch_unwind(|| targets::run(name, &data));
            assert!(outcome.is_ok(), "{name}, round {round}: {:?}", String::from_utf8_lossy(&data));
        }
        println!("{name}: {rounds} mutations of {} seeds in {:.1?}", seeds.len(), started.elapsed());
    }
}
