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
    let read = |(name, _): (String, _)| (name.clone(), weights.read(&name).unwrap());
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
