// SPDX-License-Identifier: MIT OR Apache-2.0
//! The GroupNorm of `norm.rs` on a CUDA device, for inference.

use candle_core::Tensor;

use super::{
    norm::{Affine, EPS},
    plan::GROUPS,
};
use crate::{
    Result,
    ops::cuda::{Gpu, group_norm},
};

/// As [`Affine::norm`], or with an embedding as [`Affine::norm_modulated`].
pub(super) fn norm(affine: &Affine, x: &Tensor, embedding: Option<&Tensor>, silu: bool) -> Result<Tensor> {
    let gpu = Gpu::of(x.device())?;
    Ok(group_norm(&gpu, x, (&affine.weight, &affine.bias), embedding, (GROUPS, EPS as f32), silu)?)
}
