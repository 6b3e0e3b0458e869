// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the input to the sampler's result, for the part of a frame that is asked for.

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};

use super::{Request, Restorer, tiled::TiledNetwork};
use crate::{
    Cancel, Result,
    denoiser::BridgeDenoiser,
    memory::copied,
    net::Network,
    ops::transfer::{to_device, to_host},
    sampler::{Run, SeededNoise},
    tile::{CUT, Plan, Window, pad_edges},
};

/// Edge of an automatic tile on a CUDA device, in pixels, halo not counted: a 1080p frame is one tile.
const CUDA_TILE: usize = 2048;

impl Restorer {
    /// The sampler's result for the window, in f32 if it goes beyond the range of the precision.
    pub(super) fn restore_once(
        &self,
        rgb: &[f32],
        (height, width): (usize, usize),
        window: &Window,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<Vec<f32>> {
        let input = Tensor::from_vec(copied(rgb), (1, 3, height, width), &Device::Cpu)?;
        let sample = |network: &dyn Network| to_host(&self.sample(network, &input, window, request, cancel)?);
        let restored = sample(&*self.model.network)?;
        self.model.exact.unless_finite(self.options.precision, restored, &self.recomputed, sample)
    }

    /// Runs the sampler with `network`, the model's or the same in f32, on as much of `input`, `(1, 3, H, W)` on the CPU, as `window` depends on, and
    /// returns the window of the result, `(1, 3, rows, cols)`.
    pub(super) fn sample(
        &self,
        network: &dyn Network,
        input: &Tensor,
        window: &Window,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<Tensor> {
        let model = &*self.model;
        let stride = network.stride().max(1);
        let (_, _, height, width) = input.dims4()?;
        let (padded_height, padded_width) = self.padded(height, width);
        let region = match self.halo() {
            Some(halo) => window.grown(halo, CUT * stride, padded_height, padded_width),
            None => Window { rows: 0..padded_height, cols: 0..padded_width },
        };
        let padded = |x: &Tensor| -> Result<Tensor> {
            let x = region.cut(&pad_edges(x, padded_height, padded_width)?)?;
            to_device(&x, &model.device)
        };
        let x1 = padded(input)?;
        let mask = |mask| padded(&Tensor::from_slice(mask, (1, 1, height, width), &Device::Cpu)?);
        let mask = request.mask.map(mask).transpose()?;
        let restored = self.run_sampler(network, &x1, mask.as_ref(), &region, request, cancel)?;
        window.relative_to(&region).cut(&restored)
    }

    /// The size that the network takes a picture of this size in.
    pub(super) fn padded(&self, height: usize, width: usize) -> (usize, usize) {
        let stride = self.model.network.stride().max(1);
        (height.next_multiple_of(stride), width.next_multiple_of(stride))
    }

    /// Runs the sampler with `network` on `x1` and a mask of its size, which are the window `region` of a padded picture and on the
    /// network's device; returns as much.
    pub(super) fn run_sampler(
        &self,
        network: &dyn Network,
        x1: &Tensor,
        mask: Option<&Tensor>,
        region: &Window,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<Tensor> {
        let model = &*self.model;
        let stride = network.stride().max(1);
        let halo = network.halo();
        let tile = match self.options.tile {
            0 if model.device.is_cuda() => CUDA_TILE,
            tile => tile,
        };
        let plan = Plan::new(region.rows.len(), region.cols.len(), stride, halo, tile)?;
        let (total, done) = (plan.count() * self.nfe(), AtomicUsize::new(0));
        let tick = || {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if let Some(progress) = request.progress {
                progress((done as f32 / total as f32).min(1.0));
            }
        };
        let bridge = &model.config.bridge;
        let denoiser = BridgeDenoiser {
            network: &TiledNetwork { network, plan, tick: &tick },
            schedule: &model.schedule,
            clip: bridge.clip_denoise,
            cond: bridge.cond_x1.then(|| x1.clone()),
        };
        let (seed, frames) = (self.options.seed, vec![request.frame]);
        let run = Run {
            schedule: &model.schedule,
            denoiser: &denoiser,
            x1,
            mask,
            add_x1_noise: bridge.add_x1_noise,
            noise: &SeededNoise { seed, frames, row: region.rows.start, col: region.cols.start },
            cancel,
        };
        self.sampler.sample(&run, &mut |_| {})
    }
}
