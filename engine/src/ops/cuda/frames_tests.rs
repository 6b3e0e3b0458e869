// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames on the device against [`crate::pixel`] on the CPU, bit for bit.

use candle_core::{Device, Tensor};

use super::{Gpu, frames::Seen};
use crate::{
    device::emulated::{device, in_any_order},
    noise::Stream,
    pixel::{Color, PIXEL_FORMATS, Raw, View, add_difference, to_rgb},
};

/// Frames of random bytes: every format that crosses as it is, odd sizes, both ranges, every siting, fields.
fn frames() -> Vec<Raw> {
    let mut frames = Vec::new();
    for format in PIXEL_FORMATS.iter().filter(|format| Raw::takes(format)) {
        for (i, (width, height)) in [(1, 1), (13, 6), (8, 7), (18, 9)].into_iter().enumerate() {
            let mut draw = Stream::new(frames.len() as u64, 0);
            let bytes: Vec<u8> = (0..8192).map(|_| (draw.next_f32() * 256.0) as u8).collect();
            let whole =
                View::new(format, (width, height), [0, 2048, 4096, 6144], [160; 4], bytes.len()).unwrap();
            let color = Color::new(format, (0.2126, 0.0722), i % 2 == 0, (i < 2, i % 3 == 0));
            frames.push(Raw::cut(&whole, &color, &bytes).unwrap());
            for parity in 0..2 {
                if let Some(field) = whole.field(parity) {
                    frames.push(Raw::cut(&field, &color.of_field(parity, format), &bytes).unwrap());
                }
            }
        }
    }
    frames
}

/// Planes `(3, h, w)` with the last column and row repeated.
fn padded(planes: &[f32], view: &View, (h, w): (usize, usize)) -> Vec<f32> {
    let at = |plane: usize, y: usize, x: usize| {
        planes[plane * view.pixels() + y.min(view.height - 1) * view.width + x.min(view.width - 1)]
    };
    let rows = (0..3).flat_map(|plane| (0..h).map(move |y| (plane, y)));
    rows.flat_map(|(plane, y)| (0..w).map(move |x| at(plane, y, x))).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn frames_have_the_bits_of_the_cpu_both_ways() {
    let Some(device) = device() else { return };
    let gpu = Gpu::of(&device).unwrap();
    for (i, raw) in frames().into_iter().enumerate() {
        let (view, color) = (raw.view, raw.color);
        let case = format!("{} {}x{} {color:?}", view.format.name, view.width, view.height);
        let size = (view.height.next_multiple_of(8), view.width.next_multiple_of(8));
        let mut rgb = vec![0.0; 3 * view.pixels()];
        to_rgb(&view, &color, &raw.bytes, &mut rgb);
        let (there, x1) = gpu.frame_up(&raw, size).unwrap();
        let got: Vec<f32> = x1.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(bits(&got), bits(&padded(&rgb, &view, size)), "{case}");

        let mut draw = Stream::new(i as u64, 1);
        let mut restored: Vec<f32> = rgb.iter().map(|v| v + (draw.next_f32() - 0.5) * 0.3).collect();
        let wrong = [0.0, f32::NAN, 9.0][i % 3];
        if wrong != 0.0 {
            restored[view.pixels() / 2] = wrong;
        }
        let planes =
            Tensor::from_vec(padded(&restored, &view, size), (1, 3, size.0, size.1), &Device::Cpu).unwrap();
        let (bytes, seen) = gpu.frame_down(there, &x1, &planes.to_device(&device).unwrap(), 0.7).unwrap();
        let (r, rest) = rgb.split_at(view.pixels());
        let (g, b) = rest.split_at(view.pixels());
        if r == g && r == b {
            // Without colour its change has none, as the restorer has it.
            let mean = |i: usize| {
                let at = |plane: usize| restored[plane * view.pixels() + i];
                at(0) + ((at(1) - at(0)) + (at(2) - at(0))) / 3.0
            };
            let grey: Vec<f32> = (0..view.pixels()).map(mean).collect();
            restored = grey.repeat(3);
        }
        let mut want = raw.bytes.clone();
        let broken = add_difference(&view, &color, &mut want, &rgb, &restored, 0.7);
        assert_eq!(bytes, want, "{case}");
        assert_eq!(seen, Seen { broken, infinite: wrong.is_nan() }, "{case}");
    }
}

/// Two frames under way at once, whatever order the device works in.
#[test]
fn frames_of_two_do_not_meet_on_a_cuda_device() {
    let Some(device) = device() else { return };
    let frames = frames();
    in_any_order(|| {
        let gpu = Gpu::of(&device).unwrap();
        for pair in frames.chunks_exact(2).step_by(17) {
            let size = (16, 24);
            let up: Vec<_> = pair.iter().map(|raw| gpu.frame_up(raw, size).unwrap()).collect();
            for ((there, x1), raw) in up.into_iter().zip(pair).rev() {
                let (bytes, seen) = gpu.frame_down(there, &x1, &x1, 1.0).unwrap();
                assert_eq!(bytes, raw.bytes, "nothing was restored, and no bit changes");
                assert_eq!(seen, Seen { broken: false, infinite: false });
            }
        }
    });
}

#[test]
fn planes_of_another_size_are_refused() {
    let Some(device) = device() else { return };
    let gpu = Gpu::of(&device).unwrap();
    let raw = frames().remove(1);
    let (there, _) = gpu.frame_up(&raw, (8, 16)).unwrap();
    let other = Tensor::zeros((1, 3, 8, 8), candle_core::DType::F32, &device).unwrap();
    assert!(gpu.frame_down(there, &other, &other, 1.0).is_err());
    let mut short = raw.clone();
    short.bytes.pop();
    assert!(gpu.frame_up(&short, (8, 16)).is_err());
}
