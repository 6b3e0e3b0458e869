// SPDX-License-Identifier: MIT OR Apache-2.0
//! The released 256×256 network: 2.06 GiB of weights loaded in at most 1.3 times that.
//!
//! Ignored by default, as it needs 2.7 GiB of memory:
//! `cargo test --release -p i2sb --test adm256 -- --ignored --nocapture`. With `I2SB_EVALUATE=1` one
//! evaluation at 256×256 follows, which takes a while. The files are holes: all weights are zero.

#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::Instant,
};

use candle_core::{DType, Device, Tensor};
use i2sb::{
    Cancel,
    checkpoint::{TorchCheckpoint, WeightSet},
    net::{NetworkConfig, adm::AdmConfig},
    ops::Precision,
    preset::{BridgeConfig, Preset, PresetConfig, SamplingConfig},
};

/// Peak memory of this process in bytes; asking for it again after [`reset_peak`] starts anew.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn reset_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn tensors() -> Vec<(String, Vec<usize>)> {
    NetworkConfig::Adm(AdmConfig::released_256()).tensors().unwrap()
}

fn bytes(shape: &[usize]) -> u64 {
    4 * shape.iter().product::<usize>() as u64
}

/// A preset's folder whose weights are a hole.
fn preset(folder: &Path) -> u64 {
    let config = PresetConfig {
        name: "adm256-v1".into(),
        task: "test".into(),
        description: "All weights are zero.".into(),
        sampling: SamplingConfig { sampler: "i2sb".into(), nfe: 1 },
        bridge: BridgeConfig::default(),
        network: NetworkConfig::Adm(AdmConfig::released_256()),
    };
    fs::write(folder.join("config.toml"), config.to_toml().unwrap()).unwrap();
    let mut entries = Vec::new();
    let mut at = 0;
    for (name, shape) in tensors() {
        let end = at + bytes(&shape);
        entries.push(format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{at},{end}]}}"#));
        at = end;
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + at).unwrap();
    at
}

/// A torch archive with the same weights, as a plain state dict; its storages are holes.
fn archive(path: &Path) -> u64 {
    let text = |s: &str| [b"X".as_slice(), &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat();
    let int = |v: u64| [[b'\x8a', 8].as_slice(), &v.to_le_bytes()].concat();
    let mut pickle = b"\x80\x02}(".to_vec();
    let mut entries = Vec::new();
    for (k, (name, shape)) in tensors().iter().enumerate() {
        let mut strides = vec![1u64];
        shape.iter().skip(1).rev().for_each(|d| strides.insert(0, strides[0] * *d as u64));
        pickle.extend(text(name));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend(text("storage"));
        pickle.extend(b"ctorch\nFloatStorage\n");
        pickle.extend(
            [text(&k.to_string()), text("cpu"), int(bytes(shape) / 4), b"tQK\x00(".to_vec()].concat(),
        );
        shape.iter().for_each(|d| pickle.extend(int(*d as u64)));
        pickle.extend(b"t(");
        strides.iter().for_each(|s| pickle.extend(int(*s)));
        pickle.extend(b"t\x89}tR");
        entries.push((format!("a/data/{k}"), bytes(shape)));
    }
    pickle.extend(b"u.");
    entries.insert(0, ("a/data.pkl".into(), pickle.len() as u64));

    let mut file = File::create(path).unwrap();
    let (mut directory, mut at) = (Vec::new(), 0u64);
    for (name, size) in &entries {
        let mut local = b"PK\x03\x04".to_vec();
        local.extend([0; 22]);
        local.extend([name.len() as u8, 0, 0, 0]);
        local.extend(name.as_bytes());
        if *size == pickle.len() as u64 && name.ends_with("pkl") {
            local.extend(&pickle);
        }
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&local).unwrap();
        directory.extend(b"PK\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        directory.extend((*size as u32).to_le_bytes().repeat(2));
        directory.extend([name.len() as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        directory.extend((at as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        at += 30 + name.len() as u64 + size;
    }
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&directory).unwrap();
    let count = (entries.len() as u16).to_le_bytes();
    let end =
        [b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count, &(directory.len() as u32).to_le_bytes()].concat();
    file.write_all(&[end, (at as u32).to_le_bytes().to_vec(), vec![0, 0]].concat()).unwrap();
    at
}

#[test]
#[ignore = "needs 2.7 GiB of memory"]
fn loads_within_one_and_a_third_of_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let size = preset(dir.path());
    let start = Instant::now();
    let preset = Preset::open(dir.path()).unwrap();
    let opened = start.elapsed();
    let net = preset.build(&Device::Cpu, Precision::F32).unwrap();
    let share = peak() as f64 / size as f64;
    println!("safetensors: opened and hashed in {opened:.1?}, built in {:.1?}", start.elapsed() - opened);
    println!("safetensors: {size} bytes, peak memory {share:.3} of it");
    assert!(share <= 1.3, "{share}");

    if std::env::var_os("I2SB_EVALUATE").is_some() {
        reset_peak();
        let x = Tensor::zeros((1, 3, 256, 256), DType::F32, &Device::Cpu).unwrap();
        let start = Instant::now();
        let y = net.forward(&x, &[500.0], &Cancel::default()).unwrap();
        assert_eq!(y.dims(), [1, 3, 256, 256]);
        let seconds = start.elapsed().as_secs_f64();
        let rate = net.macs_per_pixel(256, 256) * 65536.0 / seconds / 1e9;
        println!("one evaluation: {seconds:.1} s, {rate:.0} GMAC/s, peak memory {} MB", peak() / 1_000_000);
    }
    drop(net);

    let path = dir.path().join("latest.pt");
    let size = archive(&path);
    reset_peak();
    let start = Instant::now();
    let checkpoint = TorchCheckpoint::open(&path).unwrap();
    let config = checkpoint.infer().unwrap();
    assert_eq!(config, AdmConfig::released_256());
    let weights = checkpoint.weights(WeightSet::Ema, &config).unwrap();
    let net = NetworkConfig::Adm(config).build(&weights, &Device::Cpu, Precision::F16).unwrap();
    let share = peak() as f64 / size as f64;
    println!("torch archive as f16: {:.1?}, peak memory {share:.3} of its size", start.elapsed());
    assert!(share <= 1.3, "{share}");
    drop(net);
    reset_peak();
    let net =
        NetworkConfig::Adm(AdmConfig::released_256()).build(&weights, &Device::Cpu, Precision::F32).unwrap();
    let share = peak() as f64 / size as f64;
    println!("torch archive as f32: peak memory {share:.3} of its size");
    assert!(share <= 1.3, "{share}");
    assert_eq!(net.stride(), 32);
}
