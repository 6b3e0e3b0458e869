// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layers of a block (SPEC section 7.2): residual, attention and resampling.

use candle_core::{DType, Tensor};

use super::{
    attention::{Order, SCORES_LIMIT, attention},
    norm::Affine,
    plan::{Layer, Resample},
    resample::resample,
    trace::Trace,
};
use crate::{Cancel, Result, net::params::Params, ops::Conv2d};

/// What a layer is given besides the state.
pub struct Given<'a> {
    /// SiLU of the time MLP's output, `(B, 4·model_channels)`, f32.
    pub time: &'a Tensor,
    /// Checked between blocks of attention.
    pub cancel: &'a Cancel,
}

/// Choices that all layers of a network share.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Width of the time embedding.
    pub time: usize,
    /// Time enters by scale and shift.
    pub scale_shift: bool,
    /// Channel layout of attention.
    pub order: Order,
    /// Number type of convolutions and activations.
    pub dtype: DType,
}

/// A layer with its weights, ready to run on `(B, H, W, C)`.
pub enum Module {
    /// Plain convolution.
    Conv(Conv2d),
    /// Residual block.
    Res(Res),
    /// Attention block.
    Attention(Attention),
    /// Plain resampling, and the convolution that belongs to it.
    Resample(Resample, Option<Conv2d>),
}

impl Module {
    /// Takes the layer's weights at `at`.
    ///
    /// # Errors
    /// [`crate::Error::File`] for a tensor that is missing or has another shape.
    pub fn build(layer: &Layer, style: Style, at: &Params) -> Result<Self> {
        Ok(match *layer {
            Layer::Conv { input, output } => Self::Conv(conv(at, &[output, input, 3, 3], 1, style.dtype)?),
            Layer::Res { input, output, resample } => {
                Self::Res(Res::build(input, output, resample, style, at)?)
            }
            Layer::Attention { channels, heads } => {
                Self::Attention(Attention::build(channels, heads, style, at)?)
            }
            Layer::Resample { resample, conv: false, .. } => Self::Resample(resample, None),
            Layer::Resample { channels, resample, .. } => {
                let (name, stride) = if resample == Resample::Down { ("op", 2) } else { ("conv", 1) };
                let weights = conv(&at.at(name), &[channels, channels, 3, 3], stride, style.dtype)?;
                Self::Resample(resample, Some(weights))
            }
        })
    }

    /// `(B, H, W, in)` to `(B, H', W', out)`, same number type.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`], [`crate::Error::Shape`].
    pub fn forward(&self, x: &Tensor, given: &Given, trace: &mut Trace) -> Result<Tensor> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Res(block) => block.forward(x, given, trace),
            Self::Attention(block) => block.forward(x, given, trace),
            Self::Resample(Resample::Down, Some(conv)) => {
                let x = conv.forward(x)?;
                trace.see("op", &x);
                Ok(x)
            }
            Self::Resample(how, conv) => {
                let x = resample(x, *how)?;
                let Some(conv) = conv else { return Ok(x) };
                let x = conv.forward(&x)?;
                trace.see("conv", &x);
                Ok(x)
            }
        }
    }
}

/// A residual block.
pub struct Res {
    in_norm: Affine,
    in_conv: Conv2d,
    emb: Linear,
    out_norm: Affine,
    out_conv: Conv2d,
    skip: Option<Conv2d>,
    resample: Resample,
    scale_shift: bool,
}

impl Res {
    fn build(input: usize, output: usize, resample: Resample, style: Style, at: &Params) -> Result<Self> {
        let rows = if style.scale_shift { 2 * output } else { output };
        let skip = || conv(&at.at("skip_connection"), &[output, input, 1, 1], 1, style.dtype);
        Ok(Self {
            in_norm: affine(&at.at("in_layers.0"), input)?,
            in_conv: conv(&at.at("in_layers.2"), &[output, input, 3, 3], 1, style.dtype)?,
            emb: Linear::build(&at.at("emb_layers.1"), rows, style.time)?,
            out_norm: affine(&at.at("out_layers.0"), output)?,
            out_conv: conv(&at.at("out_layers.3"), &[output, output, 3, 3], 1, style.dtype)?,
            skip: if input == output { None } else { Some(skip()?) },
            resample,
            scale_shift: style.scale_shift,
        })
    }

    fn forward(&self, x: &Tensor, given: &Given, trace: &mut Trace) -> Result<Tensor> {
        let h = resample(&self.in_norm.norm(x, true)?, self.resample)?;
        let h = self.in_conv.forward(&h)?;
        trace.see("in_layers.2", &h);
        if self.resample == Resample::Keep {
            trace.see("in_layers", &h);
        }
        // Rounded to the activation's type, as everything that meets the activation is.
        let g = self.emb.forward(given.time)?.to_dtype(x.dtype())?;
        trace.see("emb_layers.1", &g);
        trace.see("emb_layers", &g);
        let h = if self.scale_shift {
            self.out_norm.norm_modulated(&h, &g, true)?
        } else {
            let (b, c) = g.dims2()?;
            self.out_norm.norm(&h.broadcast_add(&g.reshape((b, 1, 1, c))?)?, true)?
        };
        let h = self.out_conv.forward(&h)?;
        trace.see("out_layers.3", &h);
        if !self.scale_shift {
            trace.see("out_layers", &h);
        }
        let x = resample(x, self.resample)?;
        let x = self.skip.as_ref().map_or(Ok(x.clone()), |conv| conv.forward(&x))?;
        trace.see("skip_connection", &x);
        Ok((x + h)?)
    }
}

/// An attention block.
pub struct Attention {
    norm: Affine,
    qkv: Conv2d,
    proj_out: Conv2d,
    heads: usize,
    order: Order,
}

impl Attention {
    fn build(channels: usize, heads: usize, style: Style, at: &Params) -> Result<Self> {
        Ok(Self {
            norm: affine(&at.at("norm"), channels)?,
            qkv: conv(&at.at("qkv"), &[3 * channels, channels, 1], 1, style.dtype)?,
            proj_out: conv(&at.at("proj_out"), &[channels, channels, 1], 1, style.dtype)?,
            heads,
            order: style.order,
        })
    }

    fn forward(&self, x: &Tensor, given: &Given, trace: &mut Trace) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let z = self.norm.norm(x, false)?;
        trace.see("norm", &z);
        let qkv = self.qkv.forward(&z)?;
        trace.see("qkv", &qkv);
        let qkv = qkv.reshape((b, h * w, 3 * c))?;
        let a = attention(&qkv, self.heads, self.order, SCORES_LIMIT, given.cancel)?;
        let a = self.proj_out.forward(&a.reshape((b, h, w, c))?)?;
        trace.see("proj_out", &a);
        Ok((x + a)?)
    }
}

/// `y = x·Wᵀ + b` on `(B, in)`, f32.
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Takes `weight` `(output, input)` and `bias` at `at`.
    ///
    /// # Errors
    /// [`crate::Error::File`] for a tensor that is missing or has another shape.
    pub fn build(at: &Params, output: usize, input: usize) -> Result<Self> {
        Ok(Self { weight: at.tensor("weight", &[output, input])?, bias: at.tensor("bias", &[output])? })
    }

    /// `(B, in)` to `(B, out)`.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if the shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?)
    }
}

/// Takes a norm's learned scale and shift at `at`.
///
/// # Errors
/// [`crate::Error::File`] for a tensor that is missing or has another shape.
pub fn affine(at: &Params, channels: usize) -> Result<Affine> {
    Ok(Affine { weight: at.tensor("weight", &[channels])?, bias: at.tensor("bias", &[channels])? })
}

/// Takes a convolution at `at`; `shape` has three dimensions for the 1×1 ones of attention.
///
/// # Errors
/// [`crate::Error::File`] for a tensor that is missing or has another shape.
pub fn conv(at: &Params, shape: &[usize], stride: usize, dtype: DType) -> Result<Conv2d> {
    let weight = at.tensor_as("weight", shape, dtype)?;
    let weight = if shape.len() == 3 { weight.unsqueeze(3)? } else { weight };
    Conv2d::new(weight, Some(at.tensor_as("bias", &shape[..1], dtype)?), stride)
}
