// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each operation against the tensor library's own on the CPU, where there is a device (or the emulated
//! one of `cargo xtask cuda-check`).

use candle_core::{D, DType, Device, Tensor, Var};

use super::*;
use crate::{
    device::emulated::{device, in_any_order},
    noise::Stream,
};

fn values(shape: &[usize], seed: u64) -> Tensor {
    let mut s = Stream::new(seed, 0);
    let n = shape.iter().product();
    let v: Vec<f32> = (0..n).map(|_| s.next_f32() * 2.0 - 1.0).collect();
    Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
}

/// Largest distance over largest value.
fn far(a: &Tensor, b: &Tensor) -> f32 {
    let flat = |t: &Tensor| -> Vec<f32> {
        t.to_device(&Device::Cpu)
            .unwrap()
            .to_dtype(DType::F32)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    };
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (flat(a), flat(b));
    let size = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    let worst = a.iter().zip(&b).fold(0f32, |m, (a, b)| if (a - b).abs() <= m { m } else { (a - b).abs() });
    worst / size
}

const NUMBERS: [(DType, f32); 3] = [(DType::F32, 1e-4), (DType::F16, 5e-3), (DType::BF16, 2e-2)];

/// Channels-last convolution by the tensor library.
fn twin(x: &Tensor, w: &Tensor, padding: usize, stride: usize) -> Tensor {
    let x = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    let w = w.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    x.conv2d(&w, padding, stride, 1, 1).unwrap().permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

#[test]
fn convolutions_and_their_gradients() {
    let Some(device) = device() else { return };
    let gpu = Gpu::of(&device).unwrap();
    for (dtype, limit) in NUMBERS {
        for (b, h, w, cin, cout, k, padding, stride) in [
            (1, 1, 1, 8, 8, 3, 1, 1),
            (2, 5, 7, 16, 24, 3, 1, 1),
            (1, 6, 4, 16, 8, 2, 0, 2),
            (1, 9, 3, 8, 32, 1, 0, 1),
            (1, 7, 5, 3, 8, 3, 1, 2),
        ] {
            let round = |t: Tensor| t.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
            let (x, weight) = (round(values(&[b, h, w, cin], 1)), round(values(&[cout, k, k, cin], 2)));
            let vars = |to: &Device, dtype| {
                let var = |t: &Tensor| {
                    Var::from_tensor(&t.to_device(to).unwrap().to_dtype(dtype).unwrap()).unwrap()
                };
                (var(&x), var(&weight))
            };
            let (xc, wc) = vars(&Device::Cpu, DType::F32);
            let (xg, wg) = vars(&device, dtype);
            let want = twin(&xc, &wc, padding, stride);
            let op = Convolution { gpu: gpu.clone(), padding, stride };
            let got = xg.apply_op2(&wg, op).unwrap();
            let case = format!("{dtype:?} {b}x{h}x{w}x{cin} to {cout}, {k}x{k}, stride {stride}");
            assert!(far(&got, &want) < limit, "{case}: {}", far(&got, &want));
            let pull = round(values(want.dims(), 3));
            let grads = (want * &pull).unwrap().sum_all().unwrap().backward().unwrap();
            let pulled = (got * pull.to_device(&device).unwrap().to_dtype(dtype).unwrap()).unwrap();
            let found = pulled.to_dtype(DType::F32).unwrap().sum_all().unwrap().backward().unwrap();
            for (name, g, c) in [("dx", &xg, &xc), ("dw", &wg, &wc)] {
                let gap = far(found.get(g).unwrap(), grads.get(c).unwrap());
                assert!(gap < limit, "{case}, {name}: {gap}");
            }
        }
    }
}

/// What [`Modulate`] computes.
fn modulated(x: &Tensor, gain: &Tensor, offset: &Tensor) -> Tensor {
    let row = |t: &Tensor| t.unsqueeze(1).unwrap();
    x.broadcast_mul(&row(gain)).unwrap().broadcast_add(&row(offset)).unwrap().silu().unwrap()
}

#[test]
fn modulation_bias_and_their_gradients() {
    let Some(device) = device() else { return };
    let gpu = Gpu::of(&device).unwrap();
    for (dtype, limit) in NUMBERS {
        for (b, pixels, c) in [(1, 1, 8), (2, 77, 40), (1, 1300, 16)] {
            let round = |t: Tensor| t.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
            let parts =
                [round(values(&[b, pixels, c], 1)), values(&[b, c], 2), values(&[b, c], 3), values(&[c], 4)];
            let cpu = parts.each_ref().map(|t| Var::from_tensor(t).unwrap());
            let there = |t: &Tensor, dtype| t.to_device(&device).unwrap().to_dtype(dtype).unwrap();
            let kinds = [dtype, DType::F32, DType::F32, DType::F32];
            let on: [Var; 4] =
                std::array::from_fn(|i| Var::from_tensor(&there(&parts[i], kinds[i])).unwrap());
            let want = modulated(&cpu[0], &cpu[1], &cpu[2]).broadcast_add(&cpu[3]).unwrap();
            let got = on[0].apply_op3(&on[1], &on[2], Modulate { gpu: gpu.clone() }).unwrap();
            let got = got.apply_op2(&on[3], Bias { gpu: gpu.clone() }).unwrap();
            let case = format!("{dtype:?} {b}x{pixels}x{c}");
            assert!(far(&got, &want) < limit, "{case}: {}", far(&got, &want));
            let pull = round(values(&[b, pixels, c], 5));
            let grads = (want * &pull).unwrap().sum_all().unwrap().backward().unwrap();
            let pulled = (got * there(&pull, dtype)).unwrap().to_dtype(DType::F32).unwrap();
            let found = pulled.sum_all().unwrap().backward().unwrap();
            for i in 0..4 {
                let gap = far(found.get(&on[i]).unwrap(), grads.get(&cpu[i]).unwrap());
                assert!(gap < limit, "{case}, gradient {i}: {gap}");
            }
        }
    }
}

#[test]
fn group_norm_with_and_without_time() {
    let Some(device) = device() else { return };
    let gpu = Gpu::of(&device).unwrap();
    for (dtype, limit) in NUMBERS {
        for (b, pixels, c, groups) in [(1, 1, 64, 32), (2, 700, 64, 32), (1, 1500, 96, 32)] {
            let x = (values(&[b, pixels, c], 1) + 2.0).unwrap().to_dtype(dtype).unwrap();
            let (weight, bias, embed) = (values(&[c], 2), values(&[c], 3), values(&[b, 2 * c], 4));
            for (with, silu) in [(true, true), (false, true), (false, false)] {
                let wide = x.to_dtype(DType::F32).unwrap().reshape((b, pixels, groups, c / groups)).unwrap();
                let mean = wide.mean_keepdim((1, 3)).unwrap();
                let centred = wide.broadcast_sub(&mean).unwrap();
                let spread =
                    (centred.sqr().unwrap().mean_keepdim((1, 3)).unwrap() + 1e-5).unwrap().sqrt().unwrap();
                let y = centred.broadcast_div(&spread).unwrap().reshape((b, pixels, c)).unwrap();
                let mut y = y.broadcast_mul(&weight).unwrap().broadcast_add(&bias).unwrap();
                if with {
                    let half = embed.chunk(2, D::Minus1).unwrap();
                    let row = |t: &Tensor| t.unsqueeze(1).unwrap();
                    y = y.broadcast_mul(&row(&(&half[0] + 1.0).unwrap())).unwrap();
                    y = y.broadcast_add(&row(&half[1])).unwrap();
                }
                let want = if silu { y.silu().unwrap() } else { y };
                let there = |t: &Tensor| t.to_device(&device).unwrap();
                let embed = with.then(|| there(&embed));
                let sides = (&there(&weight), &there(&bias));
                let got = group_norm(&gpu, &there(&x), sides, embed.as_ref(), (groups, 1e-5), silu).unwrap();
                assert_eq!(got.dtype(), dtype);
                let gap = far(&got, &want);
                assert!(gap < limit, "{dtype:?} {b}x{pixels}x{c} {with} {silu}: {gap}");
            }
        }
    }
}

#[test]
fn halves_and_repeats() {
    let Some(device) = device() else { return };
    let x = values(&[2, 4, 6, 16], 1);
    let cells = x.reshape((4, 2, 3, 2, 16)).unwrap().mean(3).unwrap().mean(1).unwrap();
    let there = x.to_device(&device).unwrap();
    assert!(far(&halve(&there).unwrap(), &cells.reshape((2, 2, 3, 16)).unwrap()) < 1e-6);
    let twice = repeat(&there).unwrap();
    assert_eq!(twice.dims(), [2, 8, 12, 16]);
    assert!(far(&halve(&twice).unwrap(), &x) < 1e-6);
    let corner = twice.narrow(1, 6, 1).unwrap().narrow(2, 11, 1).unwrap();
    let last = x.narrow(1, 3, 1).unwrap().narrow(2, 5, 1).unwrap();
    assert!(far(&corner.contiguous().unwrap(), &last.contiguous().unwrap()) < 1e-6);
    assert!(halve(&there.narrow(1, 0, 3).unwrap()).is_err());
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(device) = device() else { return };
    let gpu = Gpu::of(&device).unwrap();
    let there = |shape: &[usize]| values(shape, 1).to_device(&device).unwrap();
    let op = Convolution { gpu: gpu.clone(), padding: 1, stride: 1 };
    let x = there(&[1, 4, 4, 8]);
    assert!(x.apply_op2(&there(&[8, 3, 3, 16]), op.clone()).is_err());
    assert!(x.apply_op2(&there(&[8, 3, 3, 8]).to_dtype(DType::BF16).unwrap(), op).is_err());
    assert!(x.apply_op2(&there(&[4]), Bias { gpu: gpu.clone() }).is_err());
    let row = there(&[2, 8]);
    assert!(x.apply_op3(&row, &row, Modulate { gpu: gpu.clone() }).is_err());
    let twelve = there(&[1, 4, 4, 12]);
    assert!(twelve.apply_op2(&there(&[12]), Bias { gpu }).is_err());
    assert!(Gpu::of(&Device::Cpu).is_err());
}

/// Pictures of less than a band, of exactly two, and of several and a bit; two under way at once; lanes used again
/// for larger and smaller ones.
#[test]
fn pictures_come_back_as_they_went() {
    let Some(device) = device() else { return };
    let gpu = Gpu::of(&device).unwrap();
    let picture = |count: usize, seed: u64| -> Vec<f32> {
        let mut rng = crate::noise::Stream::new(seed, 0);
        (0..count).map(|_| rng.next_f32()).collect()
    };
    in_any_order(|| {
        for counts in [[1, 7], [2 << 20, 3], [(3 << 20) + 5, (1 << 20) + 1], [5, 4]] {
            let pictures = [picture(counts[0], 1), picture(counts[1], 2)];
            let there = [0, 1].map(|i| gpu.upload_picture(&pictures[i], counts[i]).unwrap());
            let doubled = there.each_ref().map(|t| (t * 2.0).unwrap());
            for i in [1, 0] {
                let want: Vec<f32> = pictures[i].iter().map(|v| v * 2.0).collect();
                assert!(gpu.download_picture(&doubled[i]).unwrap() == want, "{counts:?}, {i}");
                assert!(gpu.download_picture(&there[i]).unwrap() == pictures[i], "{counts:?}, {i}");
            }
            let part = doubled[1].narrow(0, 1, counts[1] - 1).unwrap();
            assert!(gpu.download_picture(&part).unwrap() == doubled[1].to_vec1::<f32>().unwrap()[1..]);
        }
    });
}

/// A device whose last user goes while its copies are still to come.
#[test]
fn memory_that_pictures_pass_through_outlives_its_copies() {
    let Some(device) = device() else { return };
    let picture: Vec<f32> = (0..(2 << 20) + 9).map(|i| i as f32).collect();
    in_any_order(|| {
        let there = Gpu::of(&device).unwrap().upload_picture(&picture, picture.len()).unwrap();
        assert!(Gpu::of(&device).unwrap().download_picture(&there).unwrap() == picture);
    });
}
