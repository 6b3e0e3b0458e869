// SPDX-License-Identifier: MIT OR Apache-2.0
//! Backward of the GroupNorm in `norm.rs`, f32 on the CPU.

use rayon::prelude::*;

use super::{
    norm::{Moments, piece},
    plan::GROUPS,
};
use crate::ops::silu::silu_slope;

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
    /// The normalised value and the gradient before SiLU, of channel `c`.
    #[inline(always)]
    fn at(&self, x: f32, grad: f32, c: usize) -> (f32, f32) {
        let n = (x - self.moments.mean[c]) * self.moments.inverse[c];
        let slope = if self.silu { silu_slope(n * self.scale[c] + self.shift[c]) } else { 1.0 };
        (n, grad * slope)
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
                for (x, grad) in x.chunks_exact(channels).zip(grad.chunks_exact(channels)) {
                    for c in 0..channels {
                        let (n, g) = self.at(x[c], grad[c], c);
                        sum[c] += g;
                        product[c] += g * n;
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
            let pixels = x.chunks_exact(channels).zip(grad.chunks_exact(channels));
            for ((x, grad), dx) in pixels.zip(dx.chunks_exact_mut(channels)) {
                for c in 0..channels {
                    let (n, g) = self.at(x[c], grad[c], c);
                    dx[c] = self.moments.inverse[c] * (g * self.scale[c] - mean[c] - n * mean_product[c]);
                }
            }
        });
    }
}
