// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures that are never trained on, degraded once, to measure the gain during training.

use std::path::Path;

use candle_core::{Device, Tensor};

use super::dataset::{Dataset, DatasetOptions};
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

/// The pictures of a folder under each degradation.
pub struct HeldOut {
    sets: Vec<(String, Vec<Pair>)>,
}

impl HeldOut {
    /// Reads and degrades all pictures of `folder`.
    ///
    /// # Errors
    /// As [`Dataset::open`], and [`Error::Setting`] for a degradation that does not parse.
    pub fn open(folder: &Path, degradations: &[String], cancel: &Cancel) -> Result<Self> {
        let data = Dataset::open(folder, None, &DatasetOptions::default(), cancel, |_, _| (), |_, _| ())?;
        let mut sets = vec![];
        for spec in degradations {
            let degradation = degrade::parse(spec)?;
            let mut pairs = vec![];
            for (i, picture) in data.pictures().iter().enumerate() {
                let (w, h) = (picture.width.min(SIDE) / GRID * GRID, picture.height.min(SIDE) / GRID * GRID);
                if w == 0 || h == 0 {
                    continue;
                }
                let (left, top) = ((picture.width - w) / 2, (picture.height - h) / 2);
                let rows = (top..top + h).map(|y| &picture.rgb[(y * picture.width + left) * 3..][..w * 3]);
                let x0 = planar(&rows.flatten().copied().collect::<Vec<_>>());
                let x1 = degradation.apply(&x0, w, h, &mut Stream::new(0, i as u64))?;
                pairs.push(Pair { x0, x1, size: (h, w) });
            }
            if pairs.is_empty() {
                return Err(Error::file(
                    folder,
                    format!("holds no picture of at least {GRID}×{GRID} pixels"),
                ));
            }
            sets.push((spec.clone(), pairs));
        }
        Ok(Self { sets })
    }

    /// Mean gain in RGB PSNR (dB) of one evaluation (NFE 1) over the degraded pictures, a degradation each.
    ///
    /// # Errors
    /// What the network returns.
    pub fn gains(
        &self,
        network: &dyn Network,
        preset: &PresetConfig,
        cancel: &Cancel,
    ) -> Result<Vec<(String, f64)>> {
        let b = &preset.bridge;
        let (interval, beta_max, t0, t_end) = (b.interval, b.beta_max, b.t0, b.t_end);
        let schedule = Schedule::new(ScheduleConfig { interval, beta_max, t0, t_end })?;
        let last = interval - 1;
        let (std, level) = (schedule.std_fwd[last], schedule.noise_levels[last]);
        let mut gains = vec![];
        for (name, pairs) in &self.sets {
            let mut sum = 0.0;
            for p in pairs {
                let mut x = p.x1.clone();
                if b.cond_x1 {
                    x.extend_from_slice(&p.x1);
                }
                let channels = x.len() / (p.size.0 * p.size.1);
                let x = Tensor::from_vec(x, (1, channels, p.size.0, p.size.1), &Device::Cpu)?;
                let out = network.forward(&x, &[level], cancel)?.flatten_all()?.to_vec1::<f32>()?;
                let restored: Vec<f32> = p.x1.iter().zip(&out).map(|(x, o)| x - std * o).collect();
                sum += psnr(&p.x0, &restored) - psnr(&p.x0, &p.x1);
            }
            gains.push((name.clone(), sum / pairs.len() as f64));
        }
        Ok(gains)
    }
}

/// PSNR over all channels after rounding to 8 bits, dB; at most that of half a level.
fn psnr(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (f64::from(to_u8(*a)) - f64::from(to_u8(*b))).powi(2));
    let mse = squares.sum::<f64>() / a.len() as f64;
    10.0 * (255.0 * 255.0 / mse.max(1.0 / 12.0)).log10()
}
