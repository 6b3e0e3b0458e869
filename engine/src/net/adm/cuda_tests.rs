// SPDX-License-Identifier: MIT OR Apache-2.0
//! The network on a CUDA device against the same on the CPU, where there is a device (or the emulated
//! one of `cargo xtask cuda-check`).

use candle_core::{DType, Device, Tensor};

use super::AdmConfig;
use crate::{
    Cancel,
    device::emulated::{counter, device},
    net::{NetworkConfig, random::RandomWeights},
    ops::Precision,
};

/// The emulated device's counter of questions to cuDNN.
const QUESTIONS: u32 = 5;

fn config(resblock_updown: bool, use_scale_shift_norm: bool) -> NetworkConfig {
    NetworkConfig::Adm(AdmConfig {
        model_channels: 32,
        num_res_blocks: 1,
        channel_mult: vec![1.0, 2.0],
        attention_resolutions: vec![2],
        num_head_channels: Some(16),
        resblock_updown,
        use_scale_shift_norm,
        ..AdmConfig::released_256()
    })
}

/// What cuDNN was asked for is kept as long as the network is, and not asked for again.
#[test]
fn the_second_picture_asks_cudnn_nothing() {
    let Some(device) = device() else { return };
    let Some(_) = counter(QUESTIONS) else { return println!("SKIPPED: only the emulated device counts") };
    let config = config(true, true);
    let net = config.build(&RandomWeights::new(&config, 3).unwrap(), &device, Precision::Bf16).unwrap();
    let x = Tensor::zeros((1, 3, 8, 8), DType::F32, &device).unwrap();
    let asked = || {
        let before = counter(QUESTIONS);
        drop(net.forward(&x, &[0.5], &Cancel::default()).unwrap());
        counter(QUESTIONS).zip(before).map_or(0, |(after, before)| after - before)
    };
    assert!(asked() > 0);
    assert_eq!(asked(), 0);
}

#[test]
fn agrees_with_the_cpu() {
    let Some(device) = device() else { return };
    for (resblock_updown, use_scale_shift_norm) in [(true, true), (false, false)] {
        let config = config(resblock_updown, use_scale_shift_norm);
        let weights = RandomWeights::new(&config, 3).unwrap();
        let (b, h, w) = (2, 8, 6);
        let values: Vec<f32> = (0..b * 3 * h * w).map(|i| (i * 7919 % 211) as f32 / 105.0 - 1.0).collect();
        let x = Tensor::from_vec(values, (b, 3, h, w), &Device::Cpu).unwrap();
        let run = |device: &Device, precision| -> Vec<f32> {
            let net = config.build(&weights, device, precision).unwrap();
            let y = net.forward(&x.to_device(device).unwrap(), &[0.5, 700.0], &Cancel::default()).unwrap();
            y.to_device(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let want = run(&Device::Cpu, Precision::F32);
        let size = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (precision, limit) in [(Precision::F32, 1e-3), (Precision::F16, 1e-2), (Precision::Bf16, 6e-2)] {
            let got = run(&device, precision);
            let far = |m: f32, d: f32| if d <= m { m } else { d };
            let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, far) / size;
            assert!(worst < limit, "{precision:?}, {resblock_updown}, {use_scale_shift_norm}: {worst}");
        }
    }
}
