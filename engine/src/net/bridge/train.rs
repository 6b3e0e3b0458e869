// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss and gradient of a `bridge` network over a batch, on the CPU's kernels or on candle's tape.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use half::bf16;
use rayon::prelude::*;

use super::{layout::Layout, learn, reference, trained};
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
    /// σ_n: the network's estimate of x0 is `x_n − σ_n·net`.
    pub std: f32,
    /// Weight of this example's squared error.
    pub weight: f32,
}

/// A loss beside the squares: of an example and the network's output for it, `(3, h, w)`. Its gradient by the
/// output is added to the last argument.
pub type OutputLoss<'a> = &'a (dyn Fn(&Example, &[f32], &mut [f32]) -> Result<f64> + Sync);

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
                BackEnd::Cuda(super::tape::Tape::new(device, p.try_into()?)?)
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

    /// Mean over all elements of `weight·(net − target)²` (SPEC section 4), plus the mean over the examples of
    /// `further`; its gradient is added to `grad`.
    ///
    /// # Errors
    /// [`Error::Shape`] if an example does not have `h`×`w` pixels; what `further` returns.
    pub fn loss_and_grad(
        &mut self,
        params: &[f32],
        batch: &[Example],
        (h, w): (usize, usize),
        further: Option<OutputLoss>,
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
            BackEnd::CpuF32(workers) => native(&self.layout, workers, params, batch, (h, w), further, grad),
            BackEnd::CpuBf16(workers) => native(&self.layout, workers, params, batch, (h, w), further, grad),
            BackEnd::Candle(device) => tape(&self.layout, device, params, batch, (h, w), further, grad),
            #[cfg(feature = "cudnn")]
            BackEnd::Cuda(tape) => tape.loss_and_grad(&self.layout, params, batch, (h, w), further, grad),
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
    further: Option<OutputLoss>,
    grad: &mut [f32],
) -> Result<f64> {
    let convs = trained::pack::<T>(layout, params);
    let (u, count) = (layout.config.unshuffle, batch.len() as f32);
    let share = batch.len().div_ceil(workers.len());
    let losses: Result<Vec<f64>> = workers
        .par_iter_mut()
        .zip(batch.par_chunks(share))
        .map(|(worker, examples)| {
            let mut loss = 0.0;
            for e in examples {
                let (mut out, time) = worker.forward(layout, params, &convs, &e.xt, (h, w), e.noise_level);
                let net = shuffled(&out, (h, w), u);
                let (of_example, mut d_net) = squares(&net, e);
                loss += of_example;
                if let Some(further) = further {
                    loss += further(e, &net, &mut d_net)?;
                }
                d_net.iter_mut().for_each(|d| *d /= count);
                unshuffle_into(&d_net, (h, w), u, &mut out);
                worker.backward(layout, params, &convs, out, &time);
            }
            Ok(loss)
        })
        .collect();
    let losses = losses?;
    learn::drain(workers, layout, grad);
    Ok(losses.iter().sum::<f64>() / f64::from(count))
}

/// Mean of `weight·(net − target)²` over one example's elements, and its gradient by `net`.
fn squares(net: &[f32], e: &Example) -> (f64, Vec<f32>) {
    let scale = e.weight / net.len() as f32;
    let mut sum = 0.0;
    let off = |(v, t): (&f32, &f32)| {
        sum += f64::from((v - t) * (v - t));
        2.0 * scale * (v - t)
    };
    let d_net = net.iter().zip(&e.target).map(off).collect();
    (sum * f64::from(scale), d_net)
}

/// Of each line of three planes, where it begins and where, in a head's map, the first `u` values that belong to it: each
/// pixel of that row of the map has such values, [`head`] from one to the next.
fn lines((h, w): (usize, usize), u: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..3 * h).map(move |line| {
        let (plane, y) = (line / h, line % h);
        (line * w, y / u * (w / u) * head(u) + (plane * u + y % u) * u)
    })
}

/// Channels of a head's map, padded.
fn head(u: usize) -> usize {
    (3 * u * u).next_multiple_of(16)
}

/// A head's map as planes.
fn shuffled(map: &[f32], (h, w): (usize, usize), u: usize) -> Vec<f32> {
    let mut planes = vec![0.0; 3 * h * w];
    for (to, from) in lines((h, w), u) {
        for (square, pixel) in planes[to..][..w].chunks_exact_mut(u).zip(map[from..].chunks(head(u))) {
            square.iter_mut().zip(pixel).for_each(|(to, from)| *to = *from);
        }
    }
    planes
}

/// Planes as a head's map; padding becomes 0.
fn unshuffle_into(planes: &[f32], (h, w): (usize, usize), u: usize, map: &mut [f32]) {
    map.fill(0.0);
    for (from, to) in lines((h, w), u) {
        for (square, pixel) in planes[from..][..w].chunks_exact(u).zip(map[to..].chunks_mut(head(u))) {
            pixel.iter_mut().zip(square).for_each(|(to, from)| *to = *from);
        }
    }
}

/// `squares` with `further` of every example: something that a tape can follow, whose gradient is that of the loss,
/// and the loss.
pub(super) fn beside(
    squares: Tensor,
    further: Option<OutputLoss>,
    batch: &[Example],
    out: &Tensor,
) -> Result<(Tensor, f64)> {
    let value = f64::from(squares.to_scalar::<f32>()?);
    let Some(further) = further else { return Ok((squares, value)) };
    let values = out.flatten_all()?.to_vec1::<f32>()?;
    let mut grads = vec![0.0; values.len()];
    let len = values.len() / batch.len();
    let of_each = batch.par_iter().zip(values.par_chunks(len)).zip(grads.par_chunks_mut(len));
    let losses: Result<Vec<f64>> = of_each.map(|((e, net), d)| further(e, net, d)).collect();
    let count = batch.len() as f64;
    let grads = Tensor::from_vec(grads, out.shape(), out.device())?;
    Ok(((squares + ((out * grads)?.sum_all()? / count)?)?, value + losses?.iter().sum::<f64>() / count))
}

pub(super) fn tape(
    layout: &Layout,
    device: &Device,
    params: &[f32],
    batch: &[Example],
    (h, w): (usize, usize),
    further: Option<OutputLoss>,
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
    let squares = (&out - target)?.sqr()?.broadcast_mul(&weights)?.mean_all()?;
    let (loss, value) = beside(squares, further, batch, &out)?;
    let grads = loss.backward()?;
    let g = grads.get(&params).map(|g| g.to_vec1::<f32>()).transpose()?.unwrap_or_default();
    grad.iter_mut().zip(g).for_each(|(t, g)| *t += g);
    Ok(value)
}
