// SPDX-License-Identifier: MIT OR Apache-2.0
//! The restorer's promises, held by a network that is easy to predict: a 5×5 box filter and the mean
//! of the stride's cell, both of which show at once where a tile was cut too tight or off the grid.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use candle_core::{Device, Tensor};
use i2sb::{
    Cancel, Error, Result,
    net::{Network, NetworkConfig, adm::AdmConfig},
    noise::{self, NoiseKey},
    preset::{BridgeConfig, PresetConfig, SamplingConfig},
    restore::{Request, RestoreOptions, Restorer, is_grey},
    sampler::SAMPLERS,
    tile::Window,
};
use proptest::prelude::*;

/// `(x_n − x0)/σ_n` of a made-up network: see the file's head.
struct BoxFilter {
    stride: usize,
    in_channels: usize,
    global: bool,
    calls: Arc<AtomicUsize>,
}

impl Network for BoxFilter {
    fn forward(&self, x: &Tensor, noise_level: &[f32], cancel: &Cancel) -> Result<Tensor> {
        cancel.check()?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let (_, channels, h, w) = x.dims4()?;
        assert_eq!((channels, h % self.stride, w % self.stride), (self.in_channels, 0, 0));
        let x = x.flatten_all()?.to_vec1::<f32>()?;
        let mut y = vec![0f32; 3 * h * w];
        for (at, out) in y.iter_mut().enumerate() {
            let (plane, row, col) = (at / (h * w), at / w % h, at % w);
            let value = |r: usize, c: usize| x[(plane * h + r) * w + c];
            let mut sum = 0f32;
            for r in row.saturating_sub(2)..(row + 3).min(h) {
                for c in col.saturating_sub(2)..(col + 3).min(w) {
                    sum += value(r, c);
                }
            }
            let (top, left) = (row / self.stride * self.stride, col / self.stride * self.stride);
            *out = sum / 25.0 + value(top, left) * 0.1 + noise_level[0] * 1e-4;
        }
        Ok(Tensor::from_vec(y, (1, 3, h, w), &Device::Cpu)?)
    }

    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn stride(&self) -> usize {
        self.stride
    }

    fn halo(&self) -> Option<usize> {
        (!self.global).then_some(2.max(self.stride - 1))
    }

    fn macs_per_pixel(&self, _: usize, _: usize) -> f64 {
        75.0
    }
}

fn config(cond_x1: bool) -> PresetConfig {
    PresetConfig {
        name: "box-v1".into(),
        task: "test".into(),
        description: "A box filter.".into(),
        sampling: SamplingConfig { sampler: "i2sb".into(), nfe: 1 },
        bridge: BridgeConfig { cond_x1, ..BridgeConfig::default() },
        network: NetworkConfig::Adm(AdmConfig::released_256()),
    }
}

fn options(tile: usize, nfe: usize) -> RestoreOptions {
    RestoreOptions { tile, nfe: Some(nfe), ..RestoreOptions::default() }
}

fn restorer(stride: usize, options: RestoreOptions) -> (Restorer, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let net = BoxFilter { stride, in_channels: 3, global: false, calls: calls.clone() };
    (Restorer::from_network(Box::new(net), Device::Cpu, config(false), options).unwrap(), calls)
}

fn picture(width: usize, height: usize) -> Vec<f32> {
    let key = NoiseKey { seed: 5, frame: 0, draw: 0 };
    noise::normal(key, 3, 0..height, 0..width).iter().map(|v| (v * 0.4).clamp(-1.0, 1.0)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn run(restorer: &Restorer, rgb: &[f32], width: usize, height: usize) -> Vec<f32> {
    restorer.restore(rgb, width, height, &Request::default(), &Cancel::default()).unwrap()
}

/// Larger than any picture here: one tile.
const WHOLE: usize = 1 << 20;

#[test]
fn every_tile_size_gives_the_bits_of_the_whole_frame() {
    for (width, height, nfe) in [(1, 1, 1), (17, 13, 3), (641, 481, 2), (1920, 1080, 1)] {
        let rgb = picture(width, height);
        for stride in [1, 8] {
            let (one, _) = restorer(stride, options(WHOLE, nfe));
            let whole = bits(&run(&one, &rgb, width, height));
            for tile in [0, 64, 96, 128, 257] {
                let tiled = one.with_options(options(tile, nfe)).unwrap();
                let got = bits(&run(&tiled, &rgb, width, height));
                assert!(got == whole, "{width}×{height}, stride {stride}, tile {tile}");
            }
        }
    }
}

#[test]
fn every_sampler_gives_the_same_bits_tiled() {
    let rgb = picture(90, 70);
    for entry in SAMPLERS {
        let nfe = entry.min_nfe.max(3);
        let with = |tile: usize| RestoreOptions { sampler: Some(entry.name.into()), ..options(tile, nfe) };
        let (one, _) = restorer(4, with(WHOLE));
        let tiled = one.with_options(with(24)).unwrap();
        assert_eq!(bits(&run(&one, &rgb, 90, 70)), bits(&run(&tiled, &rgb, 90, 70)), "{}", entry.name);
    }
}

/// Without noise in the bridge, what the mask calls known comes back as it was.
#[test]
fn known_pixels_come_back() {
    let (width, height) = (30, 22);
    let rgb = picture(width, height);
    let mask: Vec<f32> = (0..width * height).map(|at| f32::from(at % 3 == 0)).collect();
    let (one, _) = restorer(4, RestoreOptions { sampler: Some("ot-ode".into()), ..options(16, 2) });
    let request = Request { mask: Some(&mask), ..Request::default() };
    let filled = one.restore(&rgb, width, height, &request, &Cancel::default()).unwrap();
    for (at, (x, y)) in rgb.iter().zip(&filled).enumerate() {
        let hole = mask[at % (width * height)] == 1.0;
        assert_eq!(x.to_bits() == y.to_bits(), !hole, "at {at}");
    }
}

/// A network that has never seen noise refuses samplers that add it.
#[test]
fn noisy_samplers_are_refused_where_the_bridge_has_no_noise() {
    let mut config = config(false);
    config.bridge.ot_ode = true;
    let net = || BoxFilter { stride: 1, in_channels: 3, global: false, calls: Arc::default() };
    let build = |sampler: &str| {
        let options = RestoreOptions { sampler: Some(sampler.into()), ..options(0, 1) };
        Restorer::from_network(Box::new(net()), Device::Cpu, config.clone(), options)
    };
    for entry in SAMPLERS {
        assert_eq!(
            build(entry.name).is_ok() || entry.min_nfe > 1,
            !entry.noisy || entry.min_nfe > 1,
            "{}",
            entry.name
        );
    }
    assert!(build("nosuch").err().unwrap().to_string().contains("ot-ode"));
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let rgb = picture(200, 100);
    let result = |threads: usize| {
        let (restorer, _) = restorer(4, RestoreOptions { threads, ..options(64, 2) });
        bits(&run(&restorer, &rgb, 200, 100))
    };
    assert_eq!(result(1), result(0));
    assert_eq!(result(1), result(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_size_and_tile(
        width in 1usize..90, height in 1usize..90, stride in 1usize..9, tile in 1usize..100, nfe in 1usize..4,
    ) {
        let rgb = picture(width, height);
        let (one, _) = restorer(stride, options(WHOLE, nfe));
        let tiled = one.with_options(options(tile, nfe)).unwrap();
        prop_assert_eq!(bits(&run(&one, &rgb, width, height)), bits(&run(&tiled, &rgb, width, height)));
    }

    /// A part is cut out of the same bits as the whole.
    #[test]
    fn any_part(
        top in 0usize..60, left in 0usize..60, rows in 1usize..40, cols in 1usize..40,
        stride in 1usize..9, nfe in 1usize..4, orientations in 0usize..4,
    ) {
        let (width, height) = (101, 103);
        let rgb = picture(width, height);
        let tta = RestoreOptions::TTA[orientations];
        let (one, _) = restorer(stride, RestoreOptions { tta, ..options(48, nfe) });
        let whole = run(&one, &rgb, width, height);
        let window = Window { rows: top..top + rows, cols: left..left + cols };
        let part = one.restore_part(&rgb, width, height, &window, &Request::default(), &Cancel::default()).unwrap();
        let mut want = Vec::new();
        for plane in 0..3 {
            for row in window.rows.clone() {
                let from = (plane * height + row) * width;
                want.extend_from_slice(&whole[from + left..from + left + cols]);
            }
        }
        prop_assert_eq!(bits(&part), bits(&want));
    }
}

/// The mean of both ways of looking, by hand; each orientation is a run of its own.
#[test]
fn two_orientations_are_averaged() {
    let (width, height) = (33, 21);
    let rgb = picture(width, height);
    let mirror = |rgb: &[f32]| -> Vec<f32> {
        rgb.chunks_exact(width).flat_map(|row| row.iter().rev().copied().collect::<Vec<_>>()).collect()
    };
    let (one, calls) = restorer(4, options(0, 1));
    let straight = run(&one, &rgb, width, height);
    let mirrored = mirror(&run(&one, &mirror(&rgb), width, height));
    assert_ne!(straight, mirrored);
    let before = calls.load(Ordering::Relaxed);
    let two = one.with_options(RestoreOptions { tta: 2, ..options(0, 1) }).unwrap();
    let got = run(&two, &rgb, width, height);
    assert_eq!(calls.load(Ordering::Relaxed) - before, 2);
    for ((got, a), b) in got.iter().zip(&straight).zip(&mirrored) {
        assert!((got - 0.5 * (a + b)).abs() < 1e-6);
    }
    assert!(two.about().ends_with("tta 2") && two.macs(width, height) == 2.0 * one.macs(width, height));
    let refused = one.with_options(RestoreOptions { tta: 3, ..options(0, 1) }).err().unwrap().to_string();
    assert!(refused.contains("tta") && refused.contains("1, 2, 4 or 8"), "{refused}");
}

#[test]
fn strength_goes_from_the_input_to_the_result() {
    let rgb = picture(33, 21);
    let (full, calls) = restorer(4, options(0, 1));
    let at = |strength: f32| {
        let restorer = full.with_options(RestoreOptions { strength, ..options(0, 1) }).unwrap();
        run(&restorer, &rgb, 33, 21)
    };
    assert_eq!(bits(&at(0.0)), bits(&rgb));
    assert_eq!(calls.load(Ordering::Relaxed), 0, "strength 0 runs no network");
    let (one, half) = (at(1.0), at(0.5));
    assert_eq!(bits(&one), bits(&run(&full, &rgb, 33, 21)));
    for ((x, full), half) in rgb.iter().zip(&one).zip(&half) {
        assert!((0.5 * (x + full) - half).abs() < 1e-6);
    }
}

/// The noise of a stochastic sampler has colour; a grey picture's result, and any part of it, has none.
#[test]
fn a_picture_without_colour_stays_without_colour() {
    let (width, height) = (70, 50);
    let (one, _) = restorer(4, options(48, 3));
    let mut rgb = picture(width, height);
    let (grey, rest) = rgb.split_at_mut(width * height);
    rest.chunks_exact_mut(width * height).for_each(|plane| plane.copy_from_slice(grey));
    let whole = run(&one, &rgb, width, height);
    assert!(is_grey(&whole));
    let window = Window { rows: 7..31, cols: 20..63 };
    let part =
        one.restore_part(&rgb, width, height, &window, &Request::default(), &Cancel::default()).unwrap();
    let want = window.rows.clone().flat_map(|row| whole[row * width..][window.cols.clone()].to_vec());
    assert_eq!(bits(&part[..24 * 43]), bits(&want.collect::<Vec<_>>()));
    assert!(is_grey(&part));
    rgb[0] += 1e-3;
    assert!(!is_grey(&run(&one, &rgb, width, height)), "one pixel's colour, and noise of all colours");
}

#[test]
fn noise_depends_on_seed_and_frame_alone() {
    let rgb = picture(40, 30);
    let (one, _) = restorer(4, options(0, 3));
    let frame = |restorer: &Restorer, frame: u64| {
        let request = Request { frame, ..Request::default() };
        bits(&restorer.restore(&rgb, 40, 30, &request, &Cancel::default()).unwrap())
    };
    let other = one.with_options(RestoreOptions { seed: 1, ..options(0, 3) }).unwrap();
    assert_eq!(frame(&one, 7), frame(&one, 7));
    assert_ne!(frame(&one, 7), frame(&one, 8));
    assert_ne!(frame(&one, 7), frame(&other, 7));
}

#[test]
fn a_network_with_global_operations_sees_the_whole_padded_frame() {
    let calls = Arc::new(AtomicUsize::new(0));
    let net = BoxFilter { stride: 32, in_channels: 6, global: true, calls: calls.clone() };
    let one = Restorer::from_network(Box::new(net), Device::Cpu, config(true), options(16, 2)).unwrap();
    assert_eq!((one.halo(), run(&one, &picture(70, 50), 70, 50).len()), (None, 3 * 70 * 50));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[test]
fn cancelling_stops_before_the_next_tile() {
    let rgb = picture(256, 256);
    let (one, calls) = restorer(4, options(32, 1));
    let cancel = Cancel::default();
    let stop = |share: f32| {
        if share > 0.1 {
            cancel.cancel();
        }
    };
    let request = Request { progress: Some(&stop), ..Request::default() };
    let result = one.restore(&rgb, 256, 256, &request, &cancel);
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(calls.load(Ordering::Relaxed), 7, "of 64 tiles, 7 are more than a tenth");
}

#[test]
fn progress_ends_at_one() {
    let seen = std::sync::Mutex::new(Vec::new());
    let note = |share: f32| seen.lock().unwrap().push(share);
    let request = Request { progress: Some(&note), ..Request::default() };
    let (one, _) = restorer(4, options(32, 3));
    one.restore(&picture(100, 70), 100, 70, &request, &Cancel::default()).unwrap();
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), 3 * 4 * 3);
    assert!(seen.is_sorted() && seen[0] > 0.0 && seen[seen.len() - 1] == 1.0);
}

#[test]
fn wrong_settings_and_sizes_are_told_with_their_limits() {
    let (one, _) = restorer(4, options(0, 1));
    let refused = |options: RestoreOptions| one.with_options(options).err().unwrap().to_string();
    let with = |change: fn(&mut RestoreOptions)| {
        let mut changed = options(0, 1);
        change(&mut changed);
        refused(changed)
    };
    assert_eq!(with(|o| o.strength = 1.5), "strength is 1.5, but must be 0 to 1");
    assert_eq!(with(|o| o.strength = f32::NAN), "strength is NaN, but must be 0 to 1");
    assert!(with(|o| o.threads = 5000).contains("at most 1024"));
    assert!(with(|o| o.nfe = Some(0)).starts_with("nfe is 0, but must be at least 1"));
    assert!(with(|o| o.nfe = Some(1000)).contains("999"));
    let restore = |len: usize, width: usize, height: usize| {
        let error = one.restore(&vec![0.0; len], width, height, &Request::default(), &Cancel::default());
        error.unwrap_err().to_string()
    };
    assert!(restore(0, 0, 4).contains("pixels"));
    assert!(restore(11, 2, 2).contains("12 values"));
    assert!(restore(3, usize::MAX, 2).contains("pixels"));
    let mask = [0.0; 3];
    let request = Request { mask: Some(&mask), ..Request::default() };
    let error = one.restore(&[0.0; 12], 2, 2, &request, &Cancel::default()).unwrap_err().to_string();
    assert!(error.contains("mask") && error.contains("4 values"), "{error}");
}
