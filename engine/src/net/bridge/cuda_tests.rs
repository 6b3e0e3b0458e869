// SPDX-License-Identifier: MIT OR Apache-2.0
//! The network on a CUDA device against the same on the CPU, where there is a device (or the emulated
//! one of `cargo xtask cuda-check`, which also counts).

use super::*;
use crate::{device::DeviceName, noise::Stream};

/// Launches of a residual block: two convolutions, and one kernel after each.
const LAUNCHES_PER_BLOCK: u64 = 4;
/// Stem: squares to channels, convolution, bias. Head: convolution, bias and channels to squares.
const LAUNCHES_OF_ENDS: u64 = 5;
/// Down or up: a convolution and one kernel.
const LAUNCHES_PER_RESIZE: u64 = 2;

fn device() -> Option<Device> {
    match DeviceName::Cuda(0).open() {
        Ok(device) => Some(device),
        Err(error) => {
            println!("SKIPPED: {error}");
            None
        }
    }
}

fn config(unshuffle: usize, in_channels: usize) -> BridgeNetConfig {
    BridgeNetConfig {
        in_channels,
        unshuffle,
        widths: vec![16, 32, 48],
        encoder: vec![1, 1],
        middle: 1,
        decoder: vec![1, 2],
        time_features: 8,
    }
}

fn draw(n: usize, seed: u64) -> Vec<f32> {
    let mut s = Stream::new(seed, 2);
    (0..n).map(|_| s.next_f32() * 2.0 - 1.0).collect()
}

/// Every parameter away from zero, so that no path is trivially dead.
fn params(layout: &Layout) -> Vec<f32> {
    let mut s = Stream::new(5, 1);
    layout.init(5).iter().map(|v| v + 0.05 * s.next_normal()).collect()
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let size = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0f32, |m, (a, b)| if (a - b).abs() <= m { m } else { (a - b).abs() }) / size
}

fn run(net: &BridgeNet, x: &Tensor, levels: &[f32]) -> Vec<f32> {
    let y = net.forward(x, levels, &Cancel::default()).unwrap();
    y.to_device(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn agrees_with_the_cpu() {
    let Some(device) = device() else { return };
    for (u, channels, b, h, w) in [(2, 3, 1, 8, 8), (2, 6, 2, 16, 24), (1, 3, 1, 4, 12), (4, 3, 1, 48, 16)] {
        let layout = Layout::new(&config(u, channels)).unwrap();
        let p = params(&layout);
        let x = Tensor::from_vec(draw(b * channels * h * w, 7), (b, channels, h, w), &Device::Cpu).unwrap();
        let levels = &[321.5, 0.5][..b];
        let slow = BridgeNet::new(layout.clone(), p.clone(), &Device::Cpu, Precision::F32).unwrap();
        let want = run(&slow, &x, levels);
        for (precision, limit) in [(Precision::F32, 1e-3), (Precision::F16, 1e-2), (Precision::Bf16, 4e-2)] {
            let net = BridgeNet::new(layout.clone(), p.clone(), &device, precision).unwrap();
            let x = x.to_device(&device).unwrap();
            let got = run(&net, &x, levels);
            assert!(
                far(&got, &want) < limit,
                "{precision:?} {u} {channels} {b}x{h}x{w}: {}",
                far(&got, &want)
            );
            assert_eq!(got, run(&net, &x, levels), "the second evaluation differs");
        }
    }
}

#[test]
fn a_small_picture_after_a_large_one_is_the_same() {
    let Some(device) = device() else { return };
    let layout = Layout::new(&config(2, 3)).unwrap();
    let net = || BridgeNet::new(layout.clone(), params(&layout), &device, Precision::Bf16).unwrap();
    let x = |h: usize, w: usize| Tensor::from_vec(draw(3 * h * w, 3), (1, 3, h, w), &device).unwrap();
    let (used, fresh) = (net(), net());
    run(&used, &x(32, 40), &[9.0]);
    assert_eq!(run(&used, &x(8, 16), &[9.0]), run(&fresh, &x(8, 16), &[9.0]));
}

#[test]
fn gradients_agree_with_the_cpu() {
    let Some(device) = device() else { return };
    let layout = Layout::new(&config(2, 3)).unwrap();
    let p = params(&layout);
    let example = |i: u64| Example {
        xt: draw(3 * 16 * 16, 10 + i),
        target: draw(3 * 16 * 16, 20 + i),
        noise_level: 0.1 + 333.0 * i as f32,
        std: 1.0,
        weight: 1.0 + i as f32,
    };
    let batch: Vec<_> = (0..2).map(example).collect();
    let grads = |device: &Device, precision| {
        let mut grad = vec![0.0; layout.len()];
        let mut learner = Learner::new(layout.clone(), device, precision).unwrap();
        let loss = learner.loss_and_grad(&p, &batch, (16, 16), None, &mut grad).unwrap();
        (loss, grad)
    };
    let (loss, want) = grads(&Device::Cpu, Precision::F32);
    for (precision, limit) in [(Precision::F32, 1e-3), (Precision::Bf16, 6e-2)] {
        let (found, got) = grads(&device, precision);
        assert!(
            (found / loss - 1.0).abs() < f64::from(limit),
            "{precision:?}: loss {found}, {loss} on the CPU"
        );
        for e in layout.entries() {
            let gap = far(&got[e.offset..][..e.len()], &want[e.offset..][..e.len()]);
            assert!(gap < limit, "{precision:?} {}: {gap}", e.name);
        }
    }
    assert!(Learner::new(layout, &device, Precision::F16).is_err());
}

/// The emulated device's counter, if it is one.
fn counter(which: u32) -> Option<u64> {
    let this = libloading::os::unix::Library::this();
    // SAFETY: the emulated driver's only function of this name has this type.
    let read = unsafe { this.get::<unsafe extern "C" fn(u32) -> u64>(b"emulator_counter\0") };
    // SAFETY: it takes any number.
    read.ok().map(|read| unsafe { read(which) })
}

#[test]
fn a_frame_costs_its_launches_and_nothing_else() {
    let Some(device) = device() else { return };
    let Some(_) = counter(0) else { return println!("SKIPPED: only the emulated device counts") };
    let config = config(2, 3);
    let layout = Layout::new(&config).unwrap();
    let net = BridgeNet::new(layout.clone(), params(&layout), &device, Precision::Bf16).unwrap();
    let x = Tensor::from_vec(draw(3 * 16 * 16, 3), (1, 3, 16, 16), &device).unwrap();
    let go = || net.forward(&x, &[3.0], &Cancel::default()).unwrap();
    drop(go());
    let read = || [0, 1, 2, 4, 5, 6].map(|which| counter(which).unwrap());
    let before = read();
    drop(go());
    let after = read();
    let [launches, allocations, uploads, syncs, heuristics, _] =
        std::array::from_fn(|i| after[i] - before[i]);
    let blocks = layout.blocks.len() as u64;
    let resizes = 2 * (config.widths.len() as u64 - 1);
    let expected = LAUNCHES_PER_BLOCK * blocks + LAUNCHES_PER_RESIZE * resizes + LAUNCHES_OF_ENDS;
    assert_eq!(launches, expected, "launches of {blocks} blocks and {resizes} resizes");
    assert_eq!((allocations, uploads, syncs, heuristics), (1, 0, 0, 0), "the result is the one allocation");
    assert_eq!(before[5], after[5], "bytes in use");
}
