// SPDX-License-Identifier: MIT OR Apache-2.0
//! Backward of the GroupNorm in `norm.rs`, f32 on the CPU.

use rayon::prelude::*;

use super::{
    norm::{Moments, piece},
    plan::GROUPS,
};
use crate::ops::{Cpu, rows};

/// What the forward pass saw, and the gradient of its result.
pub(super) struct Given<'a> {
    pub x: &'a [f32],
    /// `(batch, C)`.
    pub scale: &'a [f32],
    /// `(batch, C)`.
    pub shift: &'a [f32],
    pub grad: &'a [f32],
    pub batch: usize,
    pub silu: bool,
}

impl Given<'_> {
    /// Gradients of `x`, `scale` and `shift`.
    ///
    /// With `n = (x − mean)·inverse`, `z = n·scale + shift` and `g` the gradient of z: shift takes
    /// Σg, scale takes Σg·n, and x takes `inverse·(g·scale − ⟨g·scale⟩ − n·⟨g·scale·n⟩)`, the means
    /// over the group.
    pub fn gradients(&self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let channels = self.scale.len() / self.batch;
        let item = self.x.len() / self.batch;
        let mut dx = vec![0f32; self.x.len()];
        let (mut dscale, mut dshift) = (Vec::new(), Vec::new());
        for (i, dx) in dx.chunks_exact_mut(item).enumerate() {
            let side = i * channels..(i + 1) * channels;
            let one = Item {
                x: &self.x[i * item..(i + 1) * item],
                grad: &self.grad[i * item..(i + 1) * item],
                scale: &self.scale[side.clone()],
                shift: &self.shift[side],
                moments: Moments::of(&self.x[i * item..(i + 1) * item], channels),
                silu: self.silu,
            };
            let (sum, product) = one.sums();
            one.input_gradient(&sum, &product, dx);
            dshift.extend(sum.iter().map(|v| *v as f32));
            dscale.extend(product.iter().map(|v| *v as f32));
        }
        (dx, dscale, dshift)
    }
}

struct Item<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    moments: Moments,
    silu: bool,
}

impl Item<'_> {
    /// The normalised values and the gradient before SiLU, of one pixel.
    fn pixel(&self, x: &[f32], grad: &[f32], n: &mut [f32], g: &mut [f32]) {
        let Moments { mean, inverse } = &self.moments;
        g.copy_from_slice(grad);
        rows::normalise_back(Cpu::detect().isa, x, mean, inverse, self.scale, self.shift, self.silu, n, g);
    }

    /// Per channel: Σg and Σg·n.
    fn sums(&self) -> (Vec<f64>, Vec<f64>) {
        let channels = self.scale.len();
        let length = piece(channels);
        let pieces: Vec<Vec<f32>> = self
            .x
            .par_chunks(length)
            .zip(self.grad.par_chunks(length))
            .map(|(x, grad)| {
                let mut sums = vec![0f32; 2 * channels];
                let (sum, product) = sums.split_at_mut(channels);
                let (mut n, mut g) = (vec![0f32; channels], vec![0f32; channels]);
                for (x, grad) in x.chunks_exact(channels).zip(grad.chunks_exact(channels)) {
                    self.pixel(x, grad, &mut n, &mut g);
                    for c in 0..channels {
                        sum[c] += g[c];
                        product[c] += g[c] * n[c];
                    }
                }
                sums
            })
            .collect();
        let total =
            |from: usize| (from..from + channels).map(|c| pieces.iter().map(|p| p[c] as f64).sum()).collect();
        (total(0), total(channels))
    }

    fn input_gradient(&self, sum: &[f64], product: &[f64], dx: &mut [f32]) {
        let channels = self.scale.len();
        let width = channels / GROUPS;
        let count = (self.x.len() / GROUPS) as f64;
        let group_mean = |values: &[f64]| -> Vec<f32> {
            let of_group =
                |g: usize| (g..g + width).map(|c| values[c] * self.scale[c] as f64).sum::<f64>() / count;
            (0..channels).map(|c| of_group(c / width * width) as f32).collect()
        };
        let (mean, mean_product) = (group_mean(sum), group_mean(product));
        let length = piece(channels);
        let pieces =
            self.x.par_chunks(length).zip(self.grad.par_chunks(length)).zip(dx.par_chunks_mut(length));
        pieces.for_each(|((x, grad), dx)| {
            let (mut n, mut g) = (vec![0f32; channels], vec![0f32; channels]);
            let pixels = x.chunks_exact(channels).zip(grad.chunks_exact(channels));
            for ((x, grad), dx) in pixels.zip(dx.chunks_exact_mut(channels)) {
                self.pixel(x, grad, &mut n, &mut g);
                for c in 0..channels {
                    dx[c] =
                        self.moments.inverse[c] * (g[c] * self.scale[c] - mean[c] - n[c] * mean_product[c]);
                }
            }
        });
    }
}
