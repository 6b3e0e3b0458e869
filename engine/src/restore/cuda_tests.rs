// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole pictures on a CUDA device (or the emulated one of `cargo xtask cuda-check`): as on the CPU, and alike
//! from several threads at once.

use super::*;
use crate::{
    device::{
        DeviceName,
        emulated::{device, in_any_order},
    },
    net::{params::TensorSource, random::RandomWeights},
    noise::Stream,
};

fn preset() -> Preset {
    preset_of(1.0)
}

/// One whose weights are this much larger.
fn preset_of(gain: f64) -> Preset {
    let toml = r#"
        name = "tiny-v1"
        task = "test"
        description = "Random."
        sampling = { sampler = "i2sb", nfe = 2 }
        bridge = { interval = 1000, beta_max = 0.3 }
        network = { family = "bridge", in_channels = 3, unshuffle = 2, widths = [16, 32],
            encoder = [1], middle = 1, decoder = [1], time_features = 8 }"#;
    let config = PresetConfig::parse(toml, "tiny").unwrap();
    let weights = RandomWeights::new(&config.network, 1).unwrap();
    let read = |(name, _): (String, _)| (name.clone(), (weights.read(&name).unwrap() * gain).unwrap());
    let tensors: Vec<_> = weights.shapes().into_iter().map(read).collect();
    Preset::from_bytes(toml, safetensors::serialize(tensors, None).unwrap(), None).unwrap()
}

#[test]
fn pictures_of_several_threads_are_those_of_the_cpu() {
    let Some(_) = device() else { return };
    let restorer = |device| {
        Restorer::new(&preset(), RestoreOptions { device, tile: 24, ..RestoreOptions::default() }).unwrap()
    };
    let sizes = [(1, 1), (33, 17), (8, 40), (33, 17)];
    let pictures = sizes.map(|(width, height)| {
        let mut rng = Stream::new(width as u64, 0);
        (0..3 * width * height).map(|_| rng.next_f32() * 2.0 - 1.0).collect::<Vec<f32>>()
    });
    let restore = |restorer: &Restorer, i: usize| {
        let request = Request { frame: 3, ..Request::default() };
        restorer.restore(&pictures[i], sizes[i].0, sizes[i].1, &request, &Cancel::default()).unwrap()
    };
    let cpu = restorer(DeviceName::Cpu);
    let want = [0, 1, 2, 3].map(|i| restore(&cpu, i));
    in_any_order(|| {
        let one = restorer(DeviceName::Cuda(0));
        let two = one.twin();
        std::thread::scope(|scope| {
            for (restorer, order) in [(&one, [0, 1, 2, 3, 1]), (&two, [3, 2, 1, 0, 1])] {
                let (restore, want) = (&restore, &want);
                scope.spawn(move || {
                    for i in order {
                        let got = restore(restorer, i);
                        // What is not a number is far from everything.
                        let far = got.iter().zip(&want[i]).map(|(a, b)| (a - b).abs());
                        let far = far.fold(0f32, |far, d| if d <= far { far } else { d });
                        assert!(far < 1e-4, "{:?}: {far}", sizes[i]);
                    }
                });
            }
        });
    });
}

/// A frame in its own format: as from the CPU but for rounding, in two copies.
#[test]
fn frames_on_a_cuda_device_are_those_of_the_cpu() {
    use crate::pixel::{Color, PixelFormat, Raw, View};
    let Some(_) = device() else { return };
    // One step: noise, which later steps would add, is drawn by the host.
    let options = |device| RestoreOptions { device, nfe: Some(1), ..RestoreOptions::default() };
    let restorer = |device| Restorer::new(&preset(), options(device)).unwrap();
    let (cpu, cuda) = (restorer(DeviceName::Cpu), restorer(DeviceName::Cuda(0)));
    for (name, width, height) in [("NV12", 33, 17), ("P010_10LE", 16, 24), ("GRAY8", 9, 9), ("v210", 12, 8)] {
        let format = PixelFormat::named(name).unwrap();
        let Ok(view) = View::packed(format, (width, height), height.div_ceil(1 << format.sub.1)) else {
            assert_eq!(name, "v210");
            continue;
        };
        let mut draw = Stream::new(7, 0);
        let bytes = (0..view.bytes()).map(|_| (draw.next_f32() * 256.0) as u8).collect();
        let raw = Raw { view, color: Color::new(format, (0.299, 0.114), false, (true, false)), bytes };
        let restored = |restorer: &Restorer| {
            let mut raw = raw.clone();
            let broken =
                restorer.restore_raw(&mut raw, 0.9, &Request::default(), &Cancel::default()).unwrap();
            assert!(!broken);
            raw.bytes
        };
        let want = restored(&cpu);
        // Twice: what a size needs is there from then on.
        for _ in 0..2 {
            restored(&cuda);
        }
        let before = counters();
        let got = restored(&cuda);
        if let (Some(before), Some(after)) = (before, counters()) {
            assert_eq!(
                [after[0] - before[0], after[1] - before[1]],
                [1, 1],
                "{name}: a copy up and one down"
            );
        }
        assert_ne!(got, raw.bytes, "nothing was restored");
        let samples = |bytes: &[u8]| {
            let mut rgb = vec![0.0; 3 * view.pixels()];
            crate::pixel::to_rgb(&view, &raw.color, bytes, &mut rgb);
            rgb
        };
        for (got, want) in samples(&got).iter().zip(samples(&want)) {
            assert!((got - want).abs() < 0.02, "{name}: {got} {want}");
        }
    }
}

#[test]
fn a_frame_beyond_f16_is_computed_again_in_f32_on_a_cuda_device() {
    use crate::pixel::{Color, PixelFormat, Raw, View};
    let Some(_) = device() else { return };
    let format = PixelFormat::named("NV12").unwrap();
    let view = View::packed(format, (16, 8), 4).unwrap();
    let bytes = (0..view.bytes()).map(|i| (i * 37 % 251) as u8).collect();
    let raw = Raw { view, color: Color::new(format, (0.299, 0.114), false, (true, false)), bytes };
    let (device, cancel) = (DeviceName::Cuda(0), Cancel::default());
    let restored = |gain: f64, precision: Precision| {
        let options = RestoreOptions { device, precision, nfe: Some(1), ..RestoreOptions::default() };
        let (restorer, mut raw) = (Restorer::new(&preset_of(gain), options).unwrap(), raw.clone());
        let broken = restorer.restore_raw(&mut raw, 1.0, &Request::default(), &cancel).unwrap();
        (raw.bytes, broken, restorer.recomputed())
    };
    let (small, large) = (restored(1.0, Precision::F16), restored(300.0, Precision::F16));
    assert_eq!((small.2, large.2), (0, 1));
    let exact = restored(300.0, Precision::F32);
    assert_eq!((large.0, large.1), (exact.0, exact.1));
}

/// Copies up and down so far, if the device is the emulated one.
fn counters() -> Option<[u64; 2]> {
    Some([crate::device::emulated::counter(2)?, crate::device::emulated::counter(3)?])
}
