// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss and gradient of a `bridge` network on a CUDA device: the tensor library's tape over our own
//! operations, channels-last. Weights are f32 and rounded for each step; sums are f32.

use std::{collections::HashMap, sync::Arc};

use candle_core::{D, DType, Device, Tensor, Var};

use super::{
    layout::{Conv, Kind, Layout, Linear, Step},
    train::{Example, OutputLoss, beside},
};
use crate::{
    Result,
    ops::cuda::{Bias, Convolution, Gpu, Modulate, Number},
};

/// Channels come in multiples of this.
const PACK: usize = 8;

/// A device that trains.
pub(super) struct Tape {
    gpu: Arc<Gpu>,
    device: Device,
    number: Number,
}

impl Tape {
    /// # Errors
    /// [`crate::Error::Device`] if the device cannot be used.
    pub fn new(device: &Device, number: Number) -> Result<Self> {
        Ok(Self { gpu: Gpu::of(device)?, device: device.clone(), number })
    }

    /// As [`super::Learner::loss_and_grad`].
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if the device fails.
    pub fn loss_and_grad(
        &self,
        layout: &Layout,
        params: &[f32],
        batch: &[Example],
        (h, w): (usize, usize),
        further: Option<OutputLoss>,
        grad: &mut [f32],
    ) -> Result<f64> {
        let n = batch.len();
        let upload = |values: Vec<f32>, shape: &[usize]| Tensor::from_vec(values, shape, &self.device);
        let mut vars = HashMap::new();
        for e in layout.entries() {
            let values = Tensor::from_slice(&params[e.offset..][..e.len()], &e.shape[..], &self.device)?;
            vars.insert(e.offset, Var::from_tensor(&values)?);
        }
        let channels = layout.config.in_channels;
        let xt = upload(batch.iter().flat_map(|e| e.xt.iter().copied()).collect(), &[n, channels, h, w])?;
        let target = upload(batch.iter().flat_map(|e| e.target.iter().copied()).collect(), &[n, 3, h, w])?;
        let weights = upload(batch.iter().map(|e| e.weight).collect(), &[n, 1, 1, 1])?;
        let levels: Vec<f32> = batch.iter().map(|e| e.noise_level).collect();
        let out = Forward { tape: self, layout, vars: &vars }.network(&xt, &levels)?;
        let squares = (&out - target)?.sqr()?.broadcast_mul(&weights)?.mean_all()?;
        let (loss, value) = beside(squares, further, batch, &out)?;
        let grads = loss.backward()?;
        for e in layout.entries() {
            if let Some(g) = grads.get(&vars[&e.offset]) {
                let g = g.flatten_all()?.to_vec1::<f32>()?;
                grad[e.offset..][..e.len()].iter_mut().zip(g).for_each(|(t, g)| *t += g);
            }
        }
        Ok(value)
    }
}

struct Forward<'a> {
    tape: &'a Tape,
    layout: &'a Layout,
    vars: &'a HashMap<usize, Var>,
}

impl Forward<'_> {
    fn network(&self, x: &Tensor, levels: &[f32]) -> Result<Tensor> {
        let (layout, u) = (self.layout, self.layout.config.unshuffle);
        let time = self.time(levels)?;
        let x = candle_nn::ops::pixel_unshuffle(x, u)?.permute((0, 2, 3, 1))?;
        let missing = x.dim(3)?.next_multiple_of(PACK) - x.dim(3)?;
        let x = x.pad_with_zeros(3, 0, missing)?.to_dtype(self.tape.number.dtype())?;
        let (mut x, mut kept) = (x.contiguous()?, vec![]);
        for step in &layout.steps {
            x = match *step {
                Step::Stem(c) => self.biased(&self.conv(c, &x)?, c)?,
                Step::Block(b) => {
                    let block = &layout.blocks[b];
                    let half = self.linear(&block.time, &time)?.chunk(2, 1)?;
                    let gain = (&half[0] + 1.0)?;
                    let bias = self.bias(block.conv1)?;
                    let offset = (gain.broadcast_mul(&bias)? + &half[1])?.contiguous()?;
                    let gpu = self.tape.gpu.clone();
                    let y = self.conv(block.conv1, &x)?;
                    let y = y.apply_op3(&gain.contiguous()?, &offset, Modulate { gpu })?;
                    self.biased(&(x + self.conv(block.conv2, &y)?)?, block.conv2)?
                }
                Step::Down(c) => {
                    let y = self.biased(&self.conv(c, &x)?, c)?;
                    kept.push(x);
                    y
                }
                Step::Up(c) => {
                    let (b, h, w, cout) = (x.dim(0)?, x.dim(1)?, x.dim(2)?, layout.convs[c].cout);
                    let y = self.conv(c, &x)?.reshape((b, h, w, 2, 2, cout))?.permute((0, 1, 3, 2, 4, 5))?;
                    let y = y.contiguous()?.reshape((b, 2 * h, 2 * w, cout))?;
                    self.biased(&(y + kept.pop().expect("a Down for every Up"))?, c)?
                }
                Step::Head(c) => {
                    let y = self.biased(&self.conv(c, &x)?, c)?.to_dtype(DType::F32)?;
                    let y = y.narrow(3, 0, layout.convs[c].cout)?.permute((0, 3, 1, 2))?.contiguous()?;
                    candle_nn::ops::pixel_shuffle(&y, u)?
                }
            };
        }
        Ok(x)
    }

    /// Sinusoids (SPEC 7.2, cosines first) and the hidden layer, `(B, time_features)`.
    fn time(&self, levels: &[f32]) -> Result<Tensor> {
        let half = self.layout.config.time_features / 2;
        let mut features = Vec::with_capacity(levels.len() * 2 * half);
        for level in levels {
            let angle = |i: usize| level * (-(10_000f32.ln()) * i as f32 / half as f32).exp();
            features.extend((0..half).map(|i| angle(i).cos()));
            features.extend((0..half).map(|i| angle(i).sin()));
        }
        let features = Tensor::from_vec(features, (levels.len(), 2 * half), &self.tape.device)?;
        Ok(self.linear(&self.layout.time, &features)?.silu()?)
    }

    fn linear(&self, l: &Linear, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (&self.vars[&l.weight], &self.vars[&l.bias]);
        Ok(x.matmul(&weight.t()?)?.broadcast_add(bias)?)
    }

    /// A convolution without its bias; see [`Forward::weights`].
    fn conv(&self, c: usize, x: &Tensor) -> Result<Tensor> {
        let conv = &self.layout.convs[c];
        let (padding, stride) = match conv.kind {
            Kind::Same => (1, 1),
            Kind::Down => (0, 2),
            Kind::Up => (0, 1),
        };
        let op = Convolution { gpu: self.tape.gpu.clone(), padding, stride };
        Ok(x.contiguous()?.apply_op2(&self.weights(conv)?, op)?)
    }

    /// `(cout, k, k, cin)`, channels padded; of an `Up` the 1×1 weights to (row, column, cout).
    fn weights(&self, conv: &Conv) -> Result<Tensor> {
        let w = &self.vars[&conv.weight];
        let w = match conv.kind {
            Kind::Up => w.permute((2, 3, 0, 1))?.reshape((4 * conv.cout, 1, 1, conv.cin))?,
            _ => w.permute((0, 2, 3, 1))?,
        };
        let missing = |d: usize| Ok::<_, candle_core::Error>(w.dim(d)?.next_multiple_of(PACK) - w.dim(d)?);
        let (rows, channels) = (missing(0)?, missing(3)?);
        let w = w.pad_with_zeros(0, 0, rows)?.pad_with_zeros(3, 0, channels)?;
        Ok(w.to_dtype(self.tape.number.dtype())?.contiguous()?)
    }

    fn bias(&self, c: usize) -> Result<Tensor> {
        let bias = &self.vars[&self.layout.convs[c].bias];
        let missing = bias.dim(D::Minus1)?.next_multiple_of(PACK) - bias.dim(D::Minus1)?;
        Ok(bias.pad_with_zeros(0, 0, missing)?.contiguous()?)
    }

    fn biased(&self, x: &Tensor, c: usize) -> Result<Tensor> {
        Ok(x.contiguous()?.apply_op2(&self.bias(c)?, Bias { gpu: self.tape.gpu.clone() })?)
    }
}
