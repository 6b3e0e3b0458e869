// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPU kernels against candle's operations, against differences, and against themselves.

use super::*;
use crate::noise::Stream;

pub(super) fn config() -> BridgeNetConfig {
    BridgeNetConfig {
        in_channels: 3,
        unshuffle: 2,
        widths: vec![16, 32, 48],
        encoder: vec![1, 1],
        middle: 2,
        decoder: vec![1, 1],
        time_features: 8,
    }
}

/// Every parameter away from zero, so that no path is trivially dead.
pub(super) fn params(layout: &Layout, seed: u64) -> Vec<f32> {
    let mut s = Stream::new(seed, 1);
    layout.init(seed).iter().map(|v| v + 0.05 * s.next_normal()).collect()
}

pub(super) fn picture(n: usize, seed: u64) -> Vec<f32> {
    let mut s = Stream::new(seed, 2);
    (0..n).map(|_| s.next_f32() * 2.0 - 1.0).collect()
}

fn batch(n: usize, h: usize, w: usize) -> Vec<Example> {
    (0..n as u64)
        .map(|i| Example {
            xt: picture(3 * h * w, 10 + i),
            target: picture(3 * h * w, 20 + i),
            noise_level: 0.1 + 333.0 * i as f32,
            std: 1.0,
            weight: 1.0 + i as f32,
        })
        .collect()
}

pub(super) fn net(params: &[f32], device: &Device, precision: Precision) -> BridgeNet {
    BridgeNet::new(Layout::new(&config()).unwrap(), params.to_vec(), device, precision).unwrap()
}

pub(super) fn run(net: &BridgeNet, x: &[f32], h: usize, w: usize, level: f32) -> Vec<f32> {
    let x = Tensor::from_slice(x, (1, 3, h, w), &Device::Cpu).unwrap();
    net.forward(&x, &[level], &Cancel::default()).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

pub(super) fn largest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m, (a, b)| if (a - b).abs() <= m { m } else { (a - b).abs() })
}

#[test]
fn untrained_network_outputs_zero() {
    let layout = Layout::new(&config()).unwrap();
    let net = net(&layout.init(3), &Device::Cpu, Precision::F32);
    assert!(run(&net, &picture(3 * 16 * 24, 1), 16, 24, 1000.0).iter().all(|v| *v == 0.0));
}

#[test]
fn kernels_agree_with_candle() {
    let layout = Layout::new(&config()).unwrap();
    let p = params(&layout, 5);
    let fast = net(&p, &Device::Cpu, Precision::F32);
    let flat = Tensor::new(&p[..], &Device::Cpu).unwrap();
    for (h, w) in [(8, 8), (16, 40), (64, 8), (104, 72)] {
        let x = picture(3 * h * w, 7);
        let t = Tensor::from_slice(&x, (1, 3, h, w), &Device::Cpu).unwrap();
        let level = Tensor::new(&[321.5f32], &Device::Cpu).unwrap();
        let slow = reference::forward(&layout, &flat, &t, &level).unwrap().flatten_all().unwrap();
        let got = run(&fast, &x, h, w, 321.5);
        let gap = largest(&got, &slow.to_vec1().unwrap());
        assert!(gap < 2e-5, "{h}x{w}: {gap}");
        if Cpu::detect().bf16.is_some() {
            let half = run(&net(&p, &Device::Cpu, Precision::Bf16), &x, h, w, 321.5);
            // Of the largest number that the network says.
            let gap = largest(&got, &half) / largest(&got, &vec![0.0; got.len()]);
            assert!(gap < 0.02 && gap > 0.0, "bf16 {h}x{w}: {gap}");
        }
    }
}

/// A processor that is slow with denormals meets none: pictures and weights that are tiny are as good as zero,
/// and so is what comes of them.
#[test]
fn what_is_tiny_counts_as_zero() {
    let layout = Layout::new(&config()).unwrap();
    let (h, w) = (16, 24);
    let mut p = params(&layout, 9);
    // Nothing but the picture itself makes a number: all that is added is zero.
    for e in layout.entries().iter().filter(|e| e.shape.len() < 4) {
        p[e.offset..][..e.len()].fill(0.0);
    }
    let picture = picture(3 * h * w, 1);
    let times = |factor: f32| picture.iter().map(|v| v * factor).collect::<Vec<_>>();
    let network = net(&p, &Device::Cpu, Precision::F32);
    assert!(run(&network, &picture, h, w, 10.0).iter().any(|v| v.abs() > 1e-3));
    assert!(run(&network, &times(1e-39), h, w, 10.0).iter().all(|v| v.to_bits() << 1 == 0));
    // Maps on the way that would be denormal: each of two convolutions makes the numbers smaller.
    let weights = |factor: f32| {
        let mut p = p.clone();
        for e in layout.entries().iter().filter(|e| e.shape.len() == 4) {
            p[e.offset..][..e.len()].iter_mut().for_each(|v| *v *= factor);
        }
        p
    };
    for (weight, brightness) in [(1e-39, 1.0), (1e-7, 1e-7)] {
        let network = net(&weights(weight), &Device::Cpu, Precision::F32);
        let out = run(&network, &times(brightness), h, w, 10.0);
        assert!(out.iter().all(|v| v.to_bits() << 1 == 0), "weights times {weight:e}");
    }
}

#[test]
fn gradients_agree_with_candles_tape() {
    let layout = Layout::new(&config()).unwrap();
    let p = params(&layout, 6);
    let examples = batch(5, 16, 24);
    let mut want = vec![0.0; layout.len()];
    let slow = tape(&layout, &p, &examples, &mut want);
    for precision in [Precision::F32, Precision::Bf16] {
        if precision == Precision::Bf16 && Cpu::detect().bf16.is_none() {
            continue;
        }
        let mut learner = Learner::new(layout.clone(), &Device::Cpu, precision).unwrap();
        for _ in 0..2 {
            let mut got = vec![0.0; layout.len()];
            let loss =
                learner.loss_and_grad(&p, &examples, (16, 24), Some(&fourth_powers), &mut got).unwrap();
            let limit = if precision == Precision::F32 { 1e-4 } else { 0.05 };
            assert!((loss - slow).abs() < limit * slow, "{precision:?}: loss {loss}, candle {slow}");
            for e in layout.entries() {
                let (a, b) = (&got[e.offset..][..e.len()], &want[e.offset..][..e.len()]);
                let size = b.iter().fold(0f32, |m, v| m.max(v.abs()));
                let gap = largest(a, b);
                assert!(gap <= limit as f32 * size, "{precision:?} {}: {gap} of {size}", e.name);
            }
        }
    }
}

fn tape(layout: &Layout, p: &[f32], examples: &[Example], grad: &mut [f32]) -> f64 {
    train::tape(layout, &Device::Cpu, p, examples, (16, 24), Some(&fourth_powers), grad).unwrap()
}

/// A loss beside the squares that depends on the example and on every element.
fn fourth_powers(e: &Example, out: &[f32], d_out: &mut [f32]) -> crate::Result<f64> {
    let share = e.weight / out.len() as f32;
    d_out.iter_mut().zip(out).for_each(|(d, v)| *d += 4.0 * share * v * v * v);
    Ok(out.iter().map(|v| f64::from(share * v * v * v * v)).sum())
}

#[test]
fn gradients_agree_with_differences() {
    let layout = Layout::new(&config()).unwrap();
    let p = params(&layout, 8);
    let examples = batch(2, 8, 8);
    let mut learner = Learner::new(layout.clone(), &Device::Cpu, Precision::F32).unwrap();
    let mut grad = vec![0.0; layout.len()];
    learner.loss_and_grad(&p, &examples, (8, 8), Some(&fourth_powers), &mut grad).unwrap();
    let mut draw = Stream::new(9, 9);
    for e in layout.entries() {
        // A random direction through one tensor: the slope along it is the gradient's product with it.
        let direction: Vec<f32> = (0..e.len()).map(|_| draw.next_normal()).collect();
        let norm = direction.iter().map(|v| v * v).sum::<f32>().sqrt();
        let h = 5e-3 / norm;
        let mut loss = |sign: f32| {
            let mut moved = p.clone();
            for (m, d) in moved[e.offset..][..e.len()].iter_mut().zip(&direction) {
                *m += sign * h * d;
            }
            let mut unused = vec![0.0; layout.len()];
            learner.loss_and_grad(&moved, &examples, (8, 8), Some(&fourth_powers), &mut unused).unwrap()
        };
        let slope = (loss(1.0) - loss(-1.0)) / (2.0 * f64::from(h));
        let want: f64 = grad[e.offset..][..e.len()]
            .iter()
            .zip(&direction)
            .map(|(g, d)| f64::from(*g) * f64::from(*d))
            .sum();
        let size: f64 = grad[e.offset..][..e.len()].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!((slope - want).abs() < 0.02 * size * f64::from(norm) + 1e-4, "{}: {slope} {want}", e.name);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let layout = Layout::new(&config()).unwrap();
    let p = params(&layout, 11);
    let examples = batch(6, 16, 16);
    let x = picture(3 * 72 * 56, 3);
    let results: Vec<_> = [1, 2, 5]
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let out = run(&net(&p, &Device::Cpu, Precision::F32), &x, 72, 56, 5.0);
                let mut grad = vec![0.0; layout.len()];
                let mut learner = Learner::new(layout.clone(), &Device::Cpu, Precision::F32).unwrap();
                learner.loss_and_grad(&p, &examples, (16, 16), None, &mut grad).unwrap();
                (out, grad)
            })
        })
        .into();
    assert!(results[0] == results[1] && results[0] == results[2]);
}

#[test]
fn a_tile_with_halo_equals_the_frame() {
    let layout = Layout::new(&config()).unwrap();
    let stride = 2 * layout.config.stride();
    let halo = layout.halo().next_multiple_of(stride);
    let p = params(&layout, 12);
    let (h, w) = (2 * halo + 5 * stride, 2 * halo + 7 * stride);
    let x = picture(3 * h * w, 4);
    let mut precisions = vec![Precision::F32];
    precisions.extend(Cpu::detect().bf16.map(|_| Precision::Bf16));
    for precision in precisions {
        let net = net(&p, &Device::Cpu, precision);
        let whole = run(&net, &x, h, w, 900.0);
        // The lower right tile, its halo cut at the frame's edge.
        let (y0, x0) = (h - stride, w - 2 * stride);
        let (ty, tx) = (y0 - halo, x0 - halo);
        let (th, tw) = (h - ty, w - tx);
        let tile: Vec<f32> =
            (0..3 * th).flat_map(|r| x[((r / th) * h + ty + r % th) * w + tx..][..tw].to_vec()).collect();
        let part = run(&net, &tile, th, tw, 900.0);
        for c in 0..3 {
            for y in y0..h {
                for xx in x0..w {
                    let (a, b) = (whole[(c * h + y) * w + xx], part[(c * th + y - ty) * tw + xx - tx]);
                    assert_eq!(a.to_bits(), b.to_bits(), "{precision:?} {c} {y} {xx}");
                }
            }
        }
    }
}

#[test]
fn wrong_input_is_an_error_that_says_what_fits() {
    let layout = Layout::new(&config()).unwrap();
    let net = net(&layout.init(1), &Device::Cpu, Precision::F32);
    let x = Tensor::zeros((1, 3, 8, 12), candle_core::DType::F32, &Device::Cpu).unwrap();
    let message = net.forward(&x, &[1.0], &Cancel::default()).unwrap_err().to_string();
    assert!(message.contains("multiples of 8"), "{message}");
    let cancel = Cancel::default();
    cancel.cancel();
    let x = Tensor::zeros((1, 3, 8, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(matches!(net.forward(&x, &[1.0], &cancel), Err(Error::Cancelled)));
    let mut bad = layout.init(1);
    bad[7] = f32::NAN;
    let broken = BridgeNet::new(layout, bad, &Device::Cpu, Precision::F32);
    assert!(matches!(broken, Err(Error::NotFinite { .. })));
}
