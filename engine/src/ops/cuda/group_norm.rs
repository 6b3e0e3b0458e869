// SPDX-License-Identifier: MIT OR Apache-2.0
//! Group norm with scale, shift, the time's scale and shift, and SiLU: three launches.

use std::sync::Arc;

use candle_core::{CpuStorage, CudaStorage, CustomOp3, Layout, Shape, Tensor, bail};

use super::{
    Gpu, Number,
    custom::{f32_of, rows},
    launch::Affine,
    number::{place, same_device},
};

struct GroupNorm {
    gpu: Arc<Gpu>,
    embed: Option<Tensor>,
    groups: usize,
    eps: f32,
    silu: bool,
}

/// `x`: `(B, …, C)`; weight, bias: `(C)`; embed: `(B, 2·C)`, scales s and then shifts t of `·(1 + s) + t`. The result has the type of `x`; no gradient.
///
/// # Errors
/// If shapes do not fit, or C is no multiple of 8 and of `groups`.
pub(crate) fn group_norm(
    gpu: &Arc<Gpu>,
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    embed: Option<&Tensor>,
    (groups, eps): (usize, f32),
    silu: bool,
) -> candle_core::Result<Tensor> {
    let embed = embed.map(f32_of).transpose()?;
    let op = GroupNorm { gpu: gpu.clone(), embed, groups, eps, silu };
    x.contiguous()?.apply_op3_no_bwd(&f32_of(weight)?, &f32_of(bias)?, &op)
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "i2sb-group-norm"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        bail!("{} runs on CUDA devices only", self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        weight: &CudaStorage,
        lw: &Layout,
        bias: &CudaStorage,
        lb: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        same_device(&self.gpu, x)?;
        let (rows, (number, x)) = (rows(lx)?, place(x, lx)?);
        let ((of_weight, weight), (of_bias, bias)) = (place(weight, lw)?, place(bias, lb)?);
        let c = rows.channels;
        if c % self.groups != 0 || lw.dims() != [c] || lb.dims() != [c] {
            bail!("group norm of {:?} with {:?} and {:?}", lx.dims(), lw.dims(), lb.dims());
        }
        if (of_weight, of_bias) != (Number::F32, Number::F32) {
            bail!("weight and bias of a norm must be f32");
        }
        let embed = self.embed.as_ref().map(Tensor::storage_and_layout);
        let embed = match &embed {
            None => None,
            Some((storage, layout)) => {
                let candle_core::Storage::Cuda(storage) = &**storage else { bail!("an embedding elsewhere") };
                if layout.dims() != [rows.items, 2 * c] {
                    bail!("embedding {:?}, but ({}, {}) is needed", layout.dims(), rows.items, 2 * c);
                }
                Some(place(storage, layout)?.1)
            }
        };
        // Sums, then one row of scales and one of shifts for each picture.
        let sums = rows.items * rows.chunks().1 * 2 * c;
        let row = rows.items * c;
        let scratch = self.gpu.bytes((sums + 2 * row) * size_of::<f32>())?;
        let at = |values: usize| self.gpu.address(&scratch) + (values * size_of::<f32>()) as u64;
        let (gain, offset) = (at(sums), at(sums + row));
        self.gpu.sums(number, x, None, at(0), rows)?;
        self.gpu.moments(
            number,
            at(0),
            x,
            (weight, bias),
            embed,
            (gain, offset),
            rows,
            (self.groups, self.eps),
        )?;
        let (y, to) = number.empty(self.gpu.device(), lx.shape().elem_count())?;
        let by = Affine { gain: Some(gain), offset, per_item: true };
        self.gpu.modulate(number, x, to, rows, by, self.silu)?;
        Ok((y, lx.shape().clone()))
    }
}
