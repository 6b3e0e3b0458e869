// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks of the `bridge` family: tiles give the bits of the whole frame, whatever their size and
//! however many threads there are.

use candle_core::Device;
use i2sb::{
    Cancel,
    net::{
        Network, NetworkConfig,
        bridge::{BridgeNet, BridgeNetConfig, Layout, activations},
        random::RandomWeights,
    },
    noise::{self, NoiseKey},
    ops::{Cpu, Precision},
    preset::{BridgeConfig, PresetConfig, SamplingConfig},
    restore::{Request, RestoreOptions, Restorer},
};

/// Two levels behind a 4×4 stem, all layers random: about 3 kMAC per pixel.
fn config() -> PresetConfig {
    let network = BridgeNetConfig {
        in_channels: 3,
        unshuffle: 4,
        widths: vec![32, 48],
        encoder: vec![1],
        middle: 1,
        decoder: vec![1],
        time_features: 16,
    };
    PresetConfig {
        name: "random-v1".into(),
        task: "test".into(),
        description: "Random weights.".into(),
        sampling: SamplingConfig { sampler: "i2sb".into(), nfe: 1 },
        bridge: BridgeConfig::default(),
        network: NetworkConfig::Bridge(network),
    }
}

fn restorer(options: RestoreOptions) -> Restorer {
    let config = config();
    let weights = RandomWeights::new(&config.network, 3).unwrap();
    let network = match (&config.network, options.precision) {
        (NetworkConfig::Bridge(network), Precision::Int8) => in_bytes(network, &weights),
        _ => config.network.build(&weights, &Device::Cpu, options.precision).unwrap(),
    };
    Restorer::from_network(network, Device::Cpu, config, options).unwrap()
}

/// Zero lies elsewhere in each channel's bytes, so that a border of other bytes would show.
fn in_bytes(config: &BridgeNetConfig, weights: &RandomWeights) -> Box<dyn Network> {
    let range = |channel: usize| [-0.5 - channel as f32 / 16.0, 4.0];
    let ranges =
        activations(config).unwrap().into_iter().map(|(_, shape)| (0..shape[0]).map(range).collect());
    let layout = Layout::new(config).unwrap();
    let params = layout.gather(weights).unwrap();
    Box::new(BridgeNet::in_bytes(layout, params, &ranges.collect::<Vec<_>>()).unwrap())
}

fn bits(restorer: &Restorer, width: usize, height: usize) -> Vec<u32> {
    let key = NoiseKey { seed: 5, frame: 0, draw: 0 };
    let mut rgb = noise::normal(key, 3, 0..height, 0..width);
    rgb.iter_mut().for_each(|v| *v = (*v * 0.4).clamp(-1.0, 1.0));
    let restored = restorer.restore(&rgb, width, height, &Request::default(), &Cancel::default()).unwrap();
    assert!(restored.iter().all(|v| v.is_finite()) && restored != rgb);
    restored.iter().map(|v| v.to_bits()).collect()
}

fn precisions() -> Vec<Precision> {
    let bf16 = Cpu::detect().bf16.map(|_| Precision::Bf16);
    [Precision::F32, Precision::Int8].into_iter().chain(bf16).collect()
}

#[test]
fn every_tile_size_gives_the_bits_of_the_whole_frame() {
    for precision in precisions() {
        for (width, height, nfe) in [(1, 1, 1), (17, 13, 3), (641, 481, 2), (1920, 1080, 1)] {
            let options = RestoreOptions { precision, nfe: Some(nfe), ..RestoreOptions::default() };
            let one = restorer(RestoreOptions { tile: 1 << 20, ..options.clone() });
            let whole = bits(&one, width, height);
            for tile in [0, 64, 96, 128, 257] {
                let tiled = one.with_options(RestoreOptions { tile, ..one.options().clone() }).unwrap();
                assert!(bits(&tiled, width, height) == whole, "{width}×{height}, {precision:?}, tile {tile}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    for precision in precisions() {
        let with =
            |threads: usize| restorer(RestoreOptions { precision, threads, ..RestoreOptions::default() });
        let one = bits(&with(1), 333, 222);
        for threads in [0, 2, 3, 7] {
            assert!(bits(&with(threads), 333, 222) == one, "{threads} threads, {precision:?}");
        }
    }
}
