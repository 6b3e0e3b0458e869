// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time's scale and shift with SiLU as an operation on tensors, and the sums that its gradients need.

use std::sync::Arc;

use candle_core::{CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor, bail};

use super::{
    Gpu, Number,
    custom::{Done, not_here, rows},
    launch::{Affine, Rows},
    number::{place, same_device},
};

/// `silu(x·gain + offset)`: `x` `(B, …, C)`, gain and offset `(B, C)`, f32, all contiguous.
/// Differentiable in all three.
#[derive(Clone)]
pub(crate) struct Modulate {
    pub gpu: Arc<Gpu>,
}

fn affine(
    rows: Rows,
    gain: (&CudaStorage, &Layout),
    offset: (&CudaStorage, &Layout),
) -> candle_core::Result<Affine> {
    let wanted = [rows.items, rows.channels];
    if gain.1.dims() != wanted || offset.1.dims() != wanted {
        bail!("scales {:?} and shifts {:?}, but {wanted:?} are needed", gain.1.dims(), offset.1.dims());
    }
    let ((of_gain, gain), (of_offset, offset)) = (place(gain.0, gain.1)?, place(offset.0, offset.1)?);
    if (of_gain, of_offset) != (Number::F32, Number::F32) {
        bail!("scales and shifts must be f32");
    }
    Ok(Affine { gain: Some(gain), offset, per_item: true })
}

impl CustomOp3 for Modulate {
    fn name(&self) -> &'static str {
        "i2sb-modulate"
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
        not_here(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        gain: &CudaStorage,
        lg: &Layout,
        offset: &CudaStorage,
        lo: &Layout,
    ) -> Done {
        same_device(&self.gpu, x)?;
        let (rows, (number, x)) = (rows(lx)?, place(x, lx)?);
        let by = affine(rows, (gain, lg), (offset, lo))?;
        let (y, to) = number.empty(self.gpu.device(), lx.shape().elem_count())?;
        self.gpu.modulate(number, x, to, rows, by, true)?;
        Ok((y, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        offset: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        // Both gradients in one tensor, (2, …): dz, then dx.
        let back = ModulateBack { gpu: self.gpu.clone(), dy: dy.contiguous()? };
        let both = x.apply_op3_no_bwd(gain, offset, &back)?;
        let (dz, dx) = (both.get(0)?, both.get(1)?);
        let sums = dz.apply_op2_no_bwd(x, &Sums { gpu: self.gpu.clone() })?.sum(1)?;
        Ok((Some(dx), Some(sums.get_on_dim(1, 1)?.contiguous()?), Some(sums.get_on_dim(1, 0)?.contiguous()?)))
    }
}

struct ModulateBack {
    gpu: Arc<Gpu>,
    dy: Tensor,
}

impl CustomOp3 for ModulateBack {
    fn name(&self) -> &'static str {
        "i2sb-modulate-back"
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
        not_here(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        gain: &CudaStorage,
        lg: &Layout,
        offset: &CudaStorage,
        lo: &Layout,
    ) -> Done {
        let (rows, (number, x)) = (rows(lx)?, place(x, lx)?);
        let by = affine(rows, (gain, lg), (offset, lo))?;
        let (storage, layout) = self.dy.storage_and_layout();
        let candle_core::Storage::Cuda(storage) = &*storage else { bail!("a gradient on another device") };
        let (of_dy, dy) = place(storage, layout)?;
        if of_dy != number || layout.dims() != lx.dims() {
            bail!("gradient {:?} of {:?}", layout.dims(), lx.dims());
        }
        let n = lx.shape().elem_count();
        let (out, dz) = number.empty(self.gpu.device(), 2 * n)?;
        self.gpu.modulate_back(number, dy, x, dz, dz + (n * number.bytes()) as u64, rows, by)?;
        let shape: Vec<usize> = std::iter::once(2).chain(lx.dims().iter().copied()).collect();
        Ok((out, Shape::from(shape)))
    }
}

/// `(B, …, C)` twice → `(B, chunks, 2, C)`, f32: sums over pixels of a and of a·b, to be added up.
pub(super) struct Sums {
    pub gpu: Arc<Gpu>,
}

impl CustomOp2 for Sums {
    fn name(&self) -> &'static str {
        "i2sb-sums"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        not_here(self.name())
    }

    fn cuda_fwd(&self, a: &CudaStorage, la: &Layout, b: &CudaStorage, lb: &Layout) -> Done {
        let (rows, (number, a), (of_b, b)) = (rows(la)?, place(a, la)?, place(b, lb)?);
        if of_b != number || la.dims() != lb.dims() {
            bail!("sums of {:?} and {:?}", la.dims(), lb.dims());
        }
        let shape = Shape::from((rows.items, rows.chunks().1, 2, rows.channels));
        let (out, to) = Number::F32.empty(self.gpu.device(), shape.elem_count())?;
        self.gpu.sums(number, a, Some(b), to, rows)?;
        Ok((out, shape))
    }
}
