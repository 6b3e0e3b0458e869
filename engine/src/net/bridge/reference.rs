// SPDX-License-Identifier: MIT OR Apache-2.0
//! The network in candle's own operations: the slow twin of the CPU kernels, and the way to run and
//! train on every other device. Gradients come from candle's tape.

use candle_core::{D, Tensor};

use super::layout::{Conv, Kind, Layout, Linear, Step};
use crate::Result;

/// `params`: the flat vector, on any device. `x`: `(B, C, H, W)`; `noise_level`: `(B)`.
pub(super) fn forward(layout: &Layout, params: &Tensor, x: &Tensor, noise_level: &Tensor) -> Result<Tensor> {
    let u = layout.config.unshuffle;
    let time = embed(layout, params, noise_level)?;
    let mut kept = vec![];
    let mut x = candle_nn::ops::pixel_unshuffle(x, u)?;
    for step in &layout.steps {
        x = match *step {
            Step::Stem(c) => conv(&layout.convs[c], params, &x)?,
            Step::Head(c) => candle_nn::ops::pixel_shuffle(&conv(&layout.convs[c], params, &x)?, u)?,
            Step::Down(c) => {
                let y = conv(&layout.convs[c], params, &x)?;
                kept.push(x);
                y
            }
            Step::Up(c) => (conv(&layout.convs[c], params, &x)? + kept.pop().expect("a Down for every Up"))?,
            Step::Block(b) => {
                let block = &layout.blocks[b];
                let modulation =
                    linear(&block.time, params, &time)?.unsqueeze(D::Minus1)?.unsqueeze(D::Minus1)?;
                let half = modulation.chunk(2, 1)?;
                let y = conv(&layout.convs[block.conv1], params, &x)?;
                let y = y.broadcast_mul(&(&half[0] + 1.0)?)?.broadcast_add(&half[1])?.silu()?;
                (x + conv(&layout.convs[block.conv2], params, &y)?)?
            }
        };
    }
    Ok(x)
}

fn embed(layout: &Layout, params: &Tensor, noise_level: &Tensor) -> Result<Tensor> {
    let half = layout.config.time_features / 2;
    let f: Vec<f32> = (0..half).map(|i| (-(10_000f32.ln()) * i as f32 / half as f32).exp()).collect();
    let f = Tensor::from_vec(f, (1, half), params.device())?;
    let angle = noise_level.unsqueeze(1)?.broadcast_mul(&f)?;
    let features = Tensor::cat(&[angle.cos()?, angle.sin()?], 1)?;
    Ok(linear(&layout.time, params, &features)?.silu()?)
}

fn linear(l: &Linear, params: &Tensor, x: &Tensor) -> Result<Tensor> {
    let w = params.narrow(0, l.weight, l.cin * l.cout)?.reshape((l.cout, l.cin))?;
    Ok(x.matmul(&w.t()?)?.broadcast_add(&params.narrow(0, l.bias, l.cout)?)?)
}

fn conv(c: &Conv, params: &Tensor, x: &Tensor) -> Result<Tensor> {
    let side = c.side();
    let w = params.narrow(0, c.weight, c.weights())?.reshape((c.cout, c.cin, side, side))?;
    let bias = params.narrow(0, c.bias, c.cout)?.reshape((1, c.cout, 1, 1))?;
    let y = match c.kind {
        Kind::Same => x.conv2d(&w, 1, 1, 1, 1)?,
        Kind::Down => x.conv2d(&w, 0, 2, 1, 1)?,
        Kind::Up => {
            // A 1×1 convolution to (cout, 2, 2) channels whose squares become pixels.
            let w = w.permute((0, 2, 3, 1))?.reshape((c.cout * 4, c.cin, 1, 1))?;
            candle_nn::ops::pixel_shuffle(&x.conv2d(&w.contiguous()?, 0, 1, 1, 1)?, 2)?
        }
    };
    Ok(y.broadcast_add(&bias)?)
}
