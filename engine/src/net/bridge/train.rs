// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss and gradient of a `bridge` network over a batch, on the CPU's kernels or on candle's tape.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use half::bf16;
use rayon::prelude::*;

use super::{layout::Layout, learn, packed, reference};
use crate::{
    Error, Result,
    ops::{Cpu, Isa, Precision, same3::Kernel},
};

/// Pictures of a batch go to this many workers, each adding its own gradients; their sums are added
/// in order, so the result does not depend on the number of threads.
const WORKERS: usize = 4;

/// One training example, channels first.
pub struct Example {
    /// The state `x_n`, `(in_channels, h, w)`.
    pub xt: Vec<f32>,
    /// What the network should say, `(3, h, w)`.
    pub target: Vec<f32>,
    /// The noise level of step n.
    pub noise_level: f32,
    /// Weight of this example's squared error.
    pub weight: f32,
}

/// Computes losses and gradients for one network.
pub struct Learner {
    layout: Arc<Layout>,
    back_end: BackEnd,
}

enum BackEnd {
    CpuF32(Vec<learn::Worker<f32>>),
    CpuBf16(Vec<learn::Worker<bf16>>),
    Candle(Device),
    #[cfg(feature = "cudnn")]
    Cuda(super::tape::Tape),
}

impl Learner {
    /// # Errors
    /// [`Error::Setting`] if the device cannot train in that precision.
    pub fn new(layout: Layout, device: &Device, precision: Precision) -> Result<Self> {
        let layout = Arc::new(layout);
        let cpu = Cpu::detect();
        let back_end = match (device, precision) {
            (Device::Cpu, Precision::F32) => BackEnd::CpuF32(workers(&layout, cpu.isa)),
            (Device::Cpu, Precision::Bf16) if cpu.bf16.is_some() => {
                BackEnd::CpuBf16(workers(&layout, cpu.isa))
            }
            (Device::Cpu, p) => {
                let limit = "f32, or bf16 on a processor that multiplies it (AVX512_BF16 or AMX)";
                return Err(Error::setting("precision", p.name(), limit));
            }
            #[cfg(feature = "cudnn")]
            (Device::Cuda(_), p @ (Precision::F32 | Precision::Bf16)) => {
                BackEnd::Cuda(super::tape::Tape::new(device, p.into())?)
            }
            #[cfg(feature = "cudnn")]
            (Device::Cuda(_), p) => {
                return Err(Error::setting("precision", p.name(), "f32 or bf16 for training on this device"));
            }
            (device, Precision::F32) => BackEnd::Candle(device.clone()),
            (_, p) => return Err(Error::setting("precision", p.name(), "f32 for training on this device")),
        };
        Ok(Self { layout, back_end })
    }

    /// What the network is made of.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Mean over all elements of `weight·(net − target)²` (SPEC section 4); its gradient is added to `grad`.
    ///
    /// # Errors
    /// [`Error::Shape`] if an example does not have `h`×`w` pixels.
    pub fn loss_and_grad(
        &mut self,
        params: &[f32],
        batch: &[Example],
        (h, w): (usize, usize),
        grad: &mut [f32],
    ) -> Result<f64> {
        let (channels, stride) = (self.layout.config.in_channels, self.layout.config.stride());
        for e in batch {
            if e.xt.len() != channels * h * w
                || e.target.len() != 3 * h * w
                || h % stride != 0
                || w % stride != 0
            {
                let expected = format!("({channels}, {h}, {w}), multiples of {stride}");
                return Err(Error::shape("training example", &[e.xt.len(), e.target.len()], expected));
            }
        }
        match &mut self.back_end {
            BackEnd::CpuF32(workers) => Ok(native(&self.layout, workers, params, batch, (h, w), grad)),
            BackEnd::CpuBf16(workers) => Ok(native(&self.layout, workers, params, batch, (h, w), grad)),
            BackEnd::Candle(device) => tape(&self.layout, device, params, batch, (h, w), grad),
            #[cfg(feature = "cudnn")]
            BackEnd::Cuda(tape) => tape.loss_and_grad(&self.layout, params, batch, (h, w), grad),
        }
    }
}

fn workers<T: Kernel>(layout: &Layout, isa: Isa) -> Vec<learn::Worker<T>> {
    (0..WORKERS).map(|_| learn::Worker::new(layout, isa)).collect()
}

fn native<T: Kernel>(
    layout: &Layout,
    workers: &mut [learn::Worker<T>],
    params: &[f32],
    batch: &[Example],
    (h, w): (usize, usize),
    grad: &mut [f32],
) -> f64 {
    let convs = packed::pack::<T>(layout, params, true);
    let scale = 1.0 / (batch.len() * 3 * h * w) as f32;
    let share = batch.len().div_ceil(workers.len());
    let losses: Vec<f64> = workers
        .par_iter_mut()
        .zip(batch.par_chunks(share))
        .map(|(worker, examples)| {
            let mut loss = 0.0;
            for e in examples {
                let (mut out, time) = worker.forward(layout, params, &convs, &e.xt, (h, w), e.noise_level);
                loss += residual(&mut out, &e.target, (h, w), layout.config.unshuffle, e.weight, scale);
                worker.backward(layout, params, &convs, out, &time);
            }
            loss
        })
        .collect();
    let (first, others) = workers.split_first_mut().expect("there are always workers");
    others.iter_mut().for_each(|other| first.absorb(other));
    first.drain_into(layout, grad);
    losses.iter().sum::<f64>() * f64::from(scale)
}

/// Turns the head's map into the gradient of the loss; returns the weighted sum of squares.
fn residual(
    out: &mut [f32],
    target: &[f32],
    (h, w): (usize, usize),
    u: usize,
    weight: f32,
    scale: f32,
) -> f64 {
    let channels = 3 * u * u;
    let n = channels.next_multiple_of(16);
    let mut sum = 0.0;
    for (i, pixel) in out.chunks_exact_mut(n).enumerate() {
        let (oy, ox) = (i / (w / u), i % (w / u));
        let mut square = 0.0;
        for (k, v) in pixel.iter_mut().enumerate() {
            if k < channels {
                let (plane, dy, dx) = (k / (u * u), k / u % u, k % u);
                let d = *v - target[(plane * h + oy * u + dy) * w + ox * u + dx];
                square += d * d;
                *v = 2.0 * weight * scale * d;
            } else {
                *v = 0.0;
            }
        }
        sum += f64::from(square);
    }
    sum * f64::from(weight)
}

pub(super) fn tape(
    layout: &Layout,
    device: &Device,
    params: &[f32],
    batch: &[Example],
    (h, w): (usize, usize),
    grad: &mut [f32],
) -> Result<f64> {
    let n = batch.len();
    let params = Var::from_tensor(&Tensor::new(params, device)?)?;
    let stack = |f: fn(&Example) -> &[f32], c: usize| {
        let all: Vec<f32> = batch.iter().flat_map(|e| f(e).iter().copied()).collect();
        Tensor::from_vec(all, (n, c, h, w), device)
    };
    let xt = stack(|e| &e.xt, layout.config.in_channels)?;
    let target = stack(|e| &e.target, 3)?;
    let levels: Vec<f32> = batch.iter().map(|e| e.noise_level).collect();
    let weights: Vec<f32> = batch.iter().map(|e| e.weight).collect();
    let weights = Tensor::from_vec(weights, (n, 1, 1, 1), device)?;
    let out = reference::forward(layout, params.as_tensor(), &xt, &Tensor::new(levels, device)?)?;
    let loss = (out - target)?.sqr()?.broadcast_mul(&weights)?.mean_all()?;
    let grads = loss.backward()?;
    let g = grads.get(&params).map(|g| g.to_vec1::<f32>()).transpose()?.unwrap_or_default();
    grad.iter_mut().zip(g).for_each(|(t, g)| *t += g);
    Ok(f64::from(loss.to_scalar::<f32>()?))
}
