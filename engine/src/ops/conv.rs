// SPDX-License-Identifier: MIT OR Apache-2.0
//! 2-D convolution, channels-last: our own kernels on the CPU, candle's elsewhere and where a
//! gradient is asked for.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::conv_cpu::CpuConv;
#[cfg(feature = "cudnn")]
use super::cuda::{Bias, Convolution, Gpu};
use crate::{Error, Result};

/// A convolution with its weights: zero padding of `kernel/2` on each side, stride 1 or 2.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weights: Weights,
    stride: usize,
}

#[derive(Debug, Clone)]
enum Weights {
    /// f32 on the CPU: packed once, nothing else kept.
    Packed(Arc<CpuConv>),
    /// As they came: other devices, strides and kernels; variables of a training; and half types on the
    /// CPU, which are widened and packed for each call, because two copies would not fit in memory.
    Plain { weight: Tensor, bias: Option<Tensor> },
    /// On a CUDA device, for inference: `(out, k, k, in)` and f32, outputs padded to what the kernels take.
    #[cfg(feature = "cudnn")]
    Cuda { gpu: Arc<Gpu>, weight: Tensor, bias: Tensor, out: usize },
}

impl Conv2d {
    /// - `weight`: `(out, in, k, k)`, k odd.
    /// - `bias`: `(out)`.
    /// - `stride`: 1 or 2; the output is `⌈H/stride⌉ × ⌈W/stride⌉`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the weight is not `(out, in, k, k)` with odd k, or the bias not `(out)`.
    pub fn new(weight: Tensor, bias: Option<Tensor>, stride: usize) -> Result<Self> {
        match *weight.dims() {
            [out, _, kh, kw] if kh == kw && kh % 2 == 1 => {
                if let Some(b) = &bias
                    && b.dims() != [out]
                {
                    return Err(Error::shape("convolution bias", b.dims(), format!("({out})")));
                }
            }
            _ => return Err(Error::shape("convolution weight", weight.dims(), "(out, in, k, k) with odd k")),
        }
        let weights = if serves(&weight, stride) && weight.dtype() == DType::F32 {
            Weights::Packed(Arc::new(CpuConv::new(&weight, bias.as_ref())?))
        } else {
            Weights::Plain { weight, bias }
        };
        #[cfg(feature = "cudnn")]
        let weights = match weights {
            Weights::Plain { weight, bias } if weight.device().is_cuda() && !weight.track_op() => {
                on_cuda(&weight, bias.as_ref())?
            }
            other => other,
        };
        Ok(Self { weights, stride })
    }

    /// `x`: `(B, H, W, in)` → `(B, ⌈H/stride⌉, ⌈W/stride⌉, out)`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the channels do not fit, or a gradient is asked for through weights that
    /// are no variables.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weights {
            Weights::Packed(_) if x.track_op() => Err(candle_core::Error::Msg(
                "no gradient through packed weights: make them variables".into(),
            ))?,
            Weights::Packed(conv) => conv.forward(x),
            Weights::Plain { weight, bias } if serves(weight, self.stride) && !x.track_op() => {
                let conv = CpuConv::new(weight, bias.as_ref())?;
                // Sums are f32; the result is rounded once.
                Ok(conv.forward(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())?)
            }
            #[cfg(feature = "cudnn")]
            Weights::Cuda { gpu, weight, bias, out } => {
                let (padding, stride) = (weight.dim(1)? / 2, self.stride);
                let op = Convolution { gpu: gpu.clone(), padding, stride };
                let y = x.contiguous()?.apply_op3_no_bwd(weight, bias, &op)?;
                if y.dim(3)? == *out { Ok(y) } else { Ok(y.narrow(3, 0, *out)?.contiguous()?) }
            }
            #[cfg(feature = "cudnn")]
            Weights::Plain { weight, bias } if x.device().is_cuda() => {
                tracked_on_cuda(x, weight, bias.as_ref(), self.stride)
            }
            Weights::Plain { weight, bias } => plain(x, weight, bias.as_ref(), self.stride),
        }
    }
}

#[cfg(feature = "cudnn")]
fn on_cuda(weight: &Tensor, bias: Option<&Tensor>) -> Result<Weights> {
    let out = weight.dim(0)?;
    let missing = out.next_multiple_of(8) - out;
    let bias = match bias {
        Some(bias) => bias.to_dtype(DType::F32)?,
        None => Tensor::zeros(out, DType::F32, weight.device())?,
    };
    Ok(Weights::Cuda {
        gpu: Gpu::of(weight.device())?,
        weight: weight.permute((0, 2, 3, 1))?.contiguous()?.pad_with_zeros(0, 0, missing)?,
        bias: bias.pad_with_zeros(0, 0, missing)?,
        out,
    })
}

/// Through our own operations, with gradients of weights and bias.
#[cfg(feature = "cudnn")]
fn tracked_on_cuda(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize) -> Result<Tensor> {
    let (gpu, out, padding) = (Gpu::of(x.device())?, weight.dim(0)?, weight.dim(2)? / 2);
    let missing = out.next_multiple_of(8) - out;
    let weight = weight.permute((0, 2, 3, 1))?.pad_with_zeros(0, 0, missing)?.contiguous()?;
    let op = Convolution { gpu: gpu.clone(), padding, stride };
    let mut y = x.contiguous()?.apply_op2(&weight, op)?;
    if let Some(bias) = bias {
        let bias = bias.to_dtype(DType::F32)?.pad_with_zeros(0, 0, missing)?.contiguous()?;
        y = y.apply_op2(&bias, Bias { gpu })?;
    }
    if missing == 0 { Ok(y) } else { Ok(y.narrow(3, 0, out)?.contiguous()?) }
}

/// True if our own kernels compute it, and no gradient of the weights can be asked for.
fn serves(weight: &Tensor, stride: usize) -> bool {
    let kernel = weight.dims().last().copied().unwrap_or(0);
    weight.device().is_cpu() && !weight.track_op() && CpuConv::serves(kernel, stride)
}

/// candle's convolution, which has gradients and runs on every device.
fn plain(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize) -> Result<Tensor> {
    let k = weight.dim(2)?;
    let outer = x.dtype();
    // On the CPU half types are widened: sums are f32 there, and candle has no bf16 products.
    let half = matches!(outer, DType::F16 | DType::BF16) && x.device().is_cpu();
    let inner = if half { DType::F32 } else { outer };
    let x = x.to_dtype(inner)?.permute((0, 3, 1, 2))?.contiguous()?;
    let y = x.conv2d(&weight.to_dtype(inner)?, k / 2, stride, 1, 1)?;
    let y = y.permute((0, 2, 3, 1))?.contiguous()?;
    let y = match bias {
        Some(b) => y.broadcast_add(&b.to_dtype(inner)?)?,
        None => y,
    };
    Ok(y.to_dtype(outer)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::noise::Stream;

    fn values(shape: &[usize], seed: u64) -> Tensor {
        let mut s = Stream::new(seed, 0);
        let n = shape.iter().product();
        let v: Vec<f32> = (0..n).map(|_| s.next_f32() * 2.0 - 1.0).collect();
        Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn equals_candles_convolution() {
        for (b, h, w) in [(1, 1, 1), (2, 5, 7), (1, 3, 130), (1, 40, 2)] {
            for (cin, cout, k) in [(3, 20, 3), (16, 3, 3), (40, 48, 1), (7, 1, 1), (32, 32, 3), (4, 4, 5)] {
                for (bias, stride) in [(true, 1), (false, 1), (true, 2)] {
                    let weight = values(&[cout, cin, k, k], 1);
                    let bias = bias.then(|| values(&[cout], 2));
                    let x = values(&[b, h, w, cin], 3);
                    let want = plain(&x, &weight, bias.as_ref(), stride).unwrap();
                    for dtype in [DType::F32, DType::F16, DType::BF16] {
                        let to = |t: &Tensor| t.to_dtype(dtype).unwrap();
                        let conv = Conv2d::new(to(&weight), bias.as_ref().map(to), stride).unwrap();
                        let got = conv.forward(&to(&x)).unwrap();
                        assert_eq!((got.dims(), got.dtype()), (want.dims(), dtype));
                        let far = (got.to_dtype(DType::F32).unwrap() - &want).unwrap();
                        let far = far.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
                        let far = far.to_scalar::<f32>().unwrap();
                        let limit = match dtype {
                            DType::F32 => 1e-4,
                            DType::F16 => 0.03,
                            _ => 0.3,
                        };
                        assert!(far <= limit, "{b}x{h}x{w} {cin}->{cout} k{k} s{stride} {dtype:?}: {far}");
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_pass_where_weights_are_variables() {
        let weight = Var::from_tensor(&values(&[4, 3, 3, 3], 1)).unwrap();
        let conv = Conv2d::new(weight.as_tensor().clone(), None, 1).unwrap();
        let y = conv.forward(&values(&[1, 5, 4, 3], 2)).unwrap();
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&weight).unwrap().dims(), [4, 3, 3, 3]);
    }

    #[test]
    fn channels_that_do_not_fit_are_an_error() {
        let conv = Conv2d::new(values(&[4, 3, 3, 3], 1), None, 1).unwrap();
        assert!(conv.forward(&values(&[1, 5, 4, 2], 2)).is_err());
        let tracked = Var::from_tensor(&values(&[1, 5, 4, 3], 2)).unwrap();
        assert!(conv.forward(&tracked).is_err());
    }
}
