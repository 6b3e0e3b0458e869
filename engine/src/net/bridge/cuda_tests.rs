// SPDX-License-Identifier: MIT OR Apache-2.0
//! The network on a CUDA device against the same on the CPU, where there is a device (or the emulated
//! one of `cargo xtask cuda-check`, which also counts).

use super::*;
use crate::{
    device::emulated::{counter, device, in_any_order},
    noise::Stream,
};

/// Launches of a residual block: two convolutions, and one kernel after each.
const LAUNCHES_PER_BLOCK: u64 = 4;
/// Stem: squares to channels, convolution, bias. Head: convolution, bias and channels to squares.
const LAUNCHES_OF_ENDS: u64 = 5;
/// Down or up: a convolution and one kernel.
const LAUNCHES_PER_RESIZE: u64 = 2;

/// The picture to where a graph looks for it, and the result from there.
const COPIES_OF_A_PICTURE: u64 = 2;

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

/// How much more the emulated device's counters say after `work`: launches, allocations, uploads, waits,
/// questions to cuDNN, calls that hand work to a stream, graphs.
fn counted(device: &Device, work: impl FnOnce()) -> [u64; 7] {
    let read = || [0, 1, 2, 4, 5, 7, 8].map(|which| counter(which).unwrap());
    let before = read();
    work();
    let mut after = read();
    // Nothing runs there before it is waited for.
    device.synchronize().unwrap();
    after[0] = counter(0).unwrap();
    std::array::from_fn(|i| after[i] - before[i])
}

#[test]
fn a_frame_costs_its_launches_and_nothing_else() {
    let Some(device) = device() else { return };
    let Some(_) = counter(0) else { return println!("SKIPPED: only the emulated device counts") };
    let config = config(2, 3);
    let layout = Layout::new(&config).unwrap();
    let net = BridgeNet::new(layout.clone(), params(&layout), &device, Precision::Bf16).unwrap();
    let x = Tensor::from_vec(draw(3 * 16 * 16, 3), (1, 3, 16, 16), &device).unwrap();
    let go = || drop(net.forward(&x, &[3.0], &Cancel::default()).unwrap());
    device.synchronize().unwrap();
    let blocks = layout.blocks.len() as u64;
    let resizes = 2 * (config.widths.len() as u64 - 1);
    let launches =
        LAUNCHES_PER_BLOCK * blocks + LAUNCHES_PER_RESIZE * resizes + LAUNCHES_OF_ENDS + COPIES_OF_A_PICTURE;
    let first = counted(&device, go);
    assert_eq!((first[0], first[6]), (launches, 0), "launches of {blocks} blocks and {resizes} resizes");
    let live = counter(6);
    for frame in 0..3 {
        let [ran, allocations, uploads, waits, questions, calls, graphs] = counted(&device, go);
        assert_eq!(ran, launches, "frame {frame}");
        assert_eq!(
            (allocations, uploads, waits, questions),
            (1, 0, 0, 0),
            "the result is the one allocation"
        );
        assert_eq!((calls, graphs), (COPIES_OF_A_PICTURE + 1, 1), "the launches are one call");
    }
    assert_eq!(live, counter(6), "bytes in use");
}

/// Sizes in turn, each of them launched, recorded and replayed; memory and workspace that grow in between; many
/// pictures under way, and waited for backwards.
#[test]
fn graphs_of_many_sizes_agree_with_launches() {
    let Some(device) = device() else { return };
    let layout = Layout::new(&config(2, 3)).unwrap();
    let net = || BridgeNet::new(layout.clone(), params(&layout), &device, Precision::F32).unwrap();
    // The last asks for as much memory as the one before, and for a larger workspace.
    let (a, b, c, d) = ((1, 8, 16), (1, 16, 8), (2, 16, 8), (1, 16, 16));
    let order = [a, b, a, c, a, c, c, b, d, c, d, a, d, b, c];
    let x = |i: usize, (n, h, w): (usize, usize, usize)| {
        Tensor::from_vec(draw(3 * n * h * w, i as u64), (n, 3, h, w), &device).unwrap()
    };
    let forward = |net: &BridgeNet, i: usize, size: (usize, usize, usize)| {
        let levels = &[[9.0, 0.5], [0.5, 3.0]][i / 12][..size.0];
        net.forward(&x(i, size), levels, &Cancel::default()).unwrap()
    };
    let values = |y: Tensor| y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let alone = |(i, size): (usize, &(usize, usize, usize))| values(forward(&net(), i, *size));
    let want: Vec<_> = order.iter().enumerate().map(alone).collect();
    in_any_order(|| {
        let used = net();
        let under_way: Vec<_> = order.iter().enumerate().map(|(i, s)| forward(&used, i, *s)).collect();
        for (i, y) in under_way.into_iter().enumerate().rev() {
            assert!(values(y) == want[i], "{i}: {:?}", order[i]);
        }
    });
}
