// SPDX-License-Identifier: MIT OR Apache-2.0
//! 2-D convolution, channels-last.

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// A convolution with its weights: zero padding of `kernel/2` on each side, stride 1 or 2.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: usize,
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
        Ok(Self { weight, bias, stride })
    }

    /// `x`: `(B, H, W, in)` → `(B, ⌈H/stride⌉, ⌈W/stride⌉, out)`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the channels do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let k = self.weight.dim(2)?;
        let outer = x.dtype();
        // On the CPU half types are widened: sums are f32 there, and candle has no bf16 products.
        let half = matches!(outer, DType::F16 | DType::BF16) && x.device().is_cpu();
        let inner = if half { DType::F32 } else { outer };
        let x = x.to_dtype(inner)?.permute((0, 3, 1, 2))?.contiguous()?;
        let y = x.conv2d(&self.weight.to_dtype(inner)?, k / 2, self.stride, 1, 1)?;
        let y = y.permute((0, 2, 3, 1))?.contiguous()?;
        let y = match &self.bias {
            Some(b) => y.broadcast_add(&b.to_dtype(inner)?)?,
            None => y,
        };
        Ok(y.to_dtype(outer)?)
    }
}
