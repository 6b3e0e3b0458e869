// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures that are never trained on, degraded once or ready-made, to measure the gain during training.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::{
    dataset::{Dataset, DatasetOptions, Stored},
    manifest::{MANIFEST, Manifest},
    sources::{self, CLEAN},
};
use crate::{
    Cancel, Error, Result, degrade,
    net::Network,
    noise::Stream,
    picture::{planar, to_u8},
    preset::PresetConfig,
    schedule::{Schedule, ScheduleConfig},
};

/// Pictures are cut to at most this many pixels a side, from their middle.
const SIDE: usize = 384;
/// Sides are multiples of this, a multiple of every network's stride.
const GRID: usize = 64;

struct Pair {
    x0: Vec<f32>,
    x1: Vec<f32>,
    size: (usize, usize),
}

/// Column of the manifest of ready-made pairs that they are told apart by.
const GROUP: &str = "codec";

/// The pictures of a folder under one degradation, or some ready-made pairs.
struct Set {
    name: String,
    /// Name of the mean over several sets, if this set is a part of one.
    whole: Option<String>,
    pairs: Vec<Pair>,
}

/// The pictures of a folder under each degradation, and ready-made pairs.
pub struct HeldOut {
    sets: Vec<Set>,
}

impl HeldOut {
    /// Reads all pictures of `folder` and degrades them in each of these ways; reads the ready-made pairs of the
    /// folders `ready`, in groups by the column `codec` of their manifests.
    ///
    /// # Errors
    /// As [`Dataset::open`], and [`Error::Setting`] for a degradation that does not parse.
    pub fn open(
        folder: Option<&Path>,
        degradations: &[String],
        ready: &[PathBuf],
        cancel: &Cancel,
    ) -> Result<Self> {
        let mut sets = vec![];
        if let Some(folder) = folder {
            sets.extend(degraded(folder, degradations, cancel)?);
        }
        for folder in ready {
            sets.extend(ready_made(folder, cancel)?);
        }
        Ok(Self { sets })
    }

    /// Mean gain in RGB PSNR (dB) of one evaluation (NFE 1) over the degraded pictures, a degradation each, then
    /// ready-made pairs, a group each, and the means of their folders. `device`: the network's.
    ///
    /// # Errors
    /// What the network returns.
    pub fn gains(
        &self,
        network: &dyn Network,
        device: &Device,
        preset: &PresetConfig,
        cancel: &Cancel,
    ) -> Result<Vec<(String, f64)>> {
        let b = &preset.bridge;
        let (interval, beta_max, t0, t_end) = (b.interval, b.beta_max, b.t0, b.t_end);
        let schedule = Schedule::new(ScheduleConfig { interval, beta_max, t0, t_end })?;
        let last = interval - 1;
        let (std, level) = (schedule.std_fwd[last], schedule.noise_levels[last]);
        let mut gains = vec![];
        let mut wholes: Vec<(&String, f64, usize)> = vec![];
        for set in &self.sets {
            let mut sum = 0.0;
            for p in &set.pairs {
                let mut x = p.x1.clone();
                if b.cond_x1 {
                    x.extend_from_slice(&p.x1);
                }
                let channels = x.len() / (p.size.0 * p.size.1);
                let x = Tensor::from_vec(x, (1, channels, p.size.0, p.size.1), device)?;
                let out = network.forward(&x, &[level], cancel)?.flatten_all()?.to_vec1::<f32>()?;
                let restored: Vec<f32> = p.x1.iter().zip(&out).map(|(x, o)| x - std * o).collect();
                sum += psnr(&p.x0, &restored) - psnr(&p.x0, &p.x1);
            }
            gains.push((set.name.clone(), sum / set.pairs.len() as f64));
            if let Some(name) = &set.whole {
                match wholes.iter_mut().find(|(whole, ..)| *whole == name) {
                    Some(whole) => *whole = (name, whole.1 + sum, whole.2 + set.pairs.len()),
                    None => wholes.push((name, sum, set.pairs.len())),
                }
            }
        }
        gains.extend(wholes.into_iter().map(|(name, sum, count)| (name.clone(), sum / count as f64)));
        Ok(gains)
    }
}

fn degraded(folder: &Path, degradations: &[String], cancel: &Cancel) -> Result<Vec<Set>> {
    let data = Dataset::open(folder, None, &DatasetOptions::default(), cancel, |_, _| (), |_, _| ())?;
    let mut sets = vec![];
    for spec in degradations {
        let degradation = degrade::parse(spec)?;
        let mut pairs = vec![];
        for (i, picture) in data.pictures().iter().enumerate() {
            let Some(middle) = Middle::of(picture) else { continue };
            let x0 = middle.cut(&picture.rgb);
            let x1 = degradation.apply(&x0, middle.width, middle.height, &mut Stream::new(0, i as u64))?;
            pairs.push(Pair { x0, x1, size: (middle.height, middle.width) });
        }
        if pairs.is_empty() {
            return Err(none_is_large_enough(folder));
        }
        sets.push(Set { name: spec.clone(), whole: None, pairs });
    }
    Ok(sets)
}

fn ready_made(folder: &Path, cancel: &Cancel) -> Result<Vec<Set>> {
    let data = sources::open_pairs(folder, &DatasetOptions::default(), cancel, |_, _| ())?;
    let clean = folder.join(CLEAN);
    let manifest = if clean.join(MANIFEST).exists() { Manifest::read(&clean)? } else { Manifest::default() };
    let whole = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut sets: Vec<Set> = vec![];
    for picture in data.pictures() {
        let (Some(middle), Some(degraded)) = (Middle::of(picture), &picture.degraded) else { continue };
        let pair = Pair {
            x0: middle.cut(&picture.rgb),
            x1: middle.cut(degraded),
            size: (middle.height, middle.width),
        };
        let name = match manifest.value(&picture.name, GROUP) {
            Some(group) => format!("{whole}/{group}"),
            None => format!("{whole}/all"),
        };
        match sets.iter_mut().find(|set| set.name == name) {
            Some(set) => set.pairs.push(pair),
            None => sets.push(Set { name, whole: Some(whole.clone()), pairs: vec![pair] }),
        }
    }
    if sets.is_empty() {
        return Err(none_is_large_enough(&clean));
    }
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sets)
}

fn none_is_large_enough(folder: &Path) -> Error {
    Error::file(folder, format!("holds no picture of at least {GRID}×{GRID} pixels"))
}

/// The middle of a picture that is measured.
struct Middle {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    stride: usize,
}

impl Middle {
    fn of(picture: &Stored) -> Option<Self> {
        let fit = |side: usize| side.min(SIDE) / GRID * GRID;
        let (width, height) = (fit(picture.width), fit(picture.height));
        let (left, top) = ((picture.width - width) / 2, (picture.height - height) / 2);
        (width > 0 && height > 0).then_some(Self { left, top, width, height, stride: picture.width })
    }

    /// Planes `(3, height, width)` of interleaved pixels.
    fn cut(&self, rgb: &[u8]) -> Vec<f32> {
        let rows = (self.top..self.top + self.height)
            .map(|y| &rgb[(y * self.stride + self.left) * 3..][..self.width * 3]);
        planar(&rows.flatten().copied().collect::<Vec<_>>())
    }
}

/// PSNR over all channels after rounding to 8 bits, dB; at most that of half a level.
fn psnr(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (f64::from(to_u8(*a)) - f64::from(to_u8(*b))).powi(2));
    let mse = squares.sum::<f64>() / a.len() as f64;
    10.0 * (255.0 * 255.0 / mse.max(1.0 / 12.0)).log10()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Picture, SaveOptions};

    /// A network that says how far every value is from the degraded one: a constant.
    struct Constant(f32);

    impl Network for Constant {
        fn forward(&self, x: &Tensor, _: &[f32], _: &Cancel) -> Result<Tensor> {
            Ok(x.affine(0.0, f64::from(self.0))?)
        }

        fn in_channels(&self) -> usize {
            3
        }

        fn stride(&self) -> usize {
            1
        }

        fn halo(&self) -> Option<usize> {
            Some(0)
        }

        fn macs_per_pixel(&self, _: usize, _: usize) -> f64 {
            0.0
        }
    }

    /// Pairs whose degraded pictures are brighter by 8 levels, of one codec by 16.
    fn held() -> (tempfile::TempDir, HeldOut) {
        let folder = tempfile::tempdir().unwrap();
        for part in [CLEAN, sources::DEGRADED] {
            std::fs::create_dir_all(folder.path().join("held").join(part)).unwrap();
        }
        let mut manifest = "file,codec\n".to_string();
        for (name, codec, error) in [("a.png", "x", 8u8), ("b.png", "x", 8), ("c.png", "y", 16)] {
            for (part, value) in [(CLEAN, 100), (sources::DEGRADED, 100 + error)] {
                let picture = Picture::from_rgb8(70, 130, &vec![value; 3 * 70 * 130]).unwrap();
                let path = folder.path().join("held").join(part).join(name);
                picture.save(path, SaveOptions::default()).unwrap();
            }
            manifest.push_str(&format!("{name},{codec}\n"));
        }
        std::fs::write(folder.path().join("held").join(CLEAN).join(MANIFEST), manifest).unwrap();
        let held_out = HeldOut::open(None, &[], &[folder.path().join("held")], &Cancel::default()).unwrap();
        (folder, held_out)
    }

    fn preset() -> PresetConfig {
        let recipe = include_str!("../../recipes/jpeg-small-v1.toml");
        super::super::recipe::Recipe::parse(recipe, "recipe").unwrap().preset
    }

    /// A network on a CUDA device takes pictures that are there.
    #[cfg(feature = "cudnn")]
    #[test]
    fn gains_on_a_cuda_device_are_those_of_the_cpu() {
        let Some(device) = crate::device::emulated::device() else { return };
        let ((_folder, held_out), preset) = (held(), preset());
        let crate::net::NetworkConfig::Bridge(config) = &preset.network else { panic!("a bridge network") };
        let weights = crate::net::random::RandomWeights::new(&preset.network, 3).unwrap();
        let gains = [device, Device::Cpu].map(|device| {
            let network =
                crate::net::bridge::BridgeNet::build(config, &weights, &device, crate::ops::Precision::F32);
            held_out.gains(&network.unwrap(), &device, &preset, &Cancel::default()).unwrap()
        });
        let [there, here] = gains;
        for ((name, there), (_, here)) in there.iter().zip(&here) {
            assert!((there - here).abs() < 1e-3, "{name}: {there} and {here} dB");
        }
    }

    #[test]
    fn gains_of_pairs_come_by_codec_and_together() {
        let ((_folder, held_out), preset) = (held(), preset());
        let gains =
            |network: Constant| held_out.gains(&network, &Device::Cpu, &preset, &Cancel::default()).unwrap();
        let names: Vec<_> = gains(Constant(0.0)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["held/x", "held/y", "held"]);
        assert!(gains(Constant(0.0)).iter().all(|(_, gain)| *gain == 0.0));
        // Four levels darker: errors of 8 and 16 become 4 and 12.
        let b = &preset.bridge;
        let config = ScheduleConfig { interval: b.interval, beta_max: b.beta_max, t0: b.t0, t_end: b.t_end };
        let std = Schedule::new(config).unwrap().std_fwd[b.interval - 1];
        let found = gains(Constant(4.0 / 127.5 / std));
        let (x, y) = (20.0 * 2f64.log10(), 20.0 * (16f64 / 12.0).log10());
        for ((name, gain), want) in found.iter().zip([x, y, (2.0 * x + y) / 3.0]) {
            assert!((gain - want).abs() < 1e-3, "{name}: {gain}, not {want}");
        }
    }
}
