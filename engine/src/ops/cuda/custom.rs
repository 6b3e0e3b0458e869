// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernels as operations on the tensor library's tensors, with gradients where training needs them.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Shape, Tensor, bail,
};

use super::{
    Gpu,
    convolution::{Geometry, Pass},
    launch::{Affine, Rows},
    modulate::Sums,
    number::{Number, place, same_device},
};

pub(super) type Done = candle_core::Result<(CudaStorage, Shape)>;

pub(super) fn not_here<T>(name: &str) -> candle_core::Result<T> {
    bail!("{name} runs on CUDA devices only")
}

/// Pictures, pixels and channels of a `(B, …, C)` tensor.
pub(super) fn rows(layout: &Layout) -> candle_core::Result<Rows> {
    match layout.dims() {
        [b, between @ .., c] if !between.is_empty() => {
            Ok(Rows { items: *b, pixels: between.iter().product(), channels: *c })
        }
        other => bail!("(B, …, C) needed, not {other:?}"),
    }
}

/// `x` `(B, H, W, cin)` with weights `(cout, k, k, cin)` of the same type, both contiguous →
/// `(B, H', W', cout)`. Differentiable in both.
#[derive(Clone)]
pub(crate) struct Convolution {
    pub gpu: Arc<Gpu>,
    pub padding: usize,
    pub stride: usize,
}

impl Convolution {
    fn geometry(&self, x: &[usize], w: &[usize], number: Number) -> candle_core::Result<Geometry> {
        let ([batch, height, width, cin], [cout, kernel, across, channels]) = (x, w) else {
            bail!("convolution of {x:?} with {w:?}: four dimensions each are needed")
        };
        if channels != cin
            || kernel != across
            || height + 2 * self.padding < *kernel
            || width + 2 * self.padding < *kernel
        {
            bail!(
                "convolution of {x:?} with {w:?}: the channels must be equal, the kernel square and inside"
            );
        }
        let [batch, height, width, cin, cout, kernel] = [*batch, *height, *width, *cin, *cout, *kernel];
        let (padding, stride) = (self.padding, self.stride);
        Ok(Geometry { batch, height, width, cin, cout, kernel, padding, stride, number })
    }
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "i2sb-convolution"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        not_here(CustomOp2::name(self))
    }

    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout, w: &CudaStorage, lw: &Layout) -> Done {
        same_device(&self.gpu, x)?;
        let ((number, x), (of_w, w)) = (place(x, lx)?, place(w, lw)?);
        if number != of_w {
            bail!("activations are {number:?}, weights {of_w:?}");
        }
        let g = self.geometry(lx.dims(), lw.dims(), number)?;
        let (h, wide) = g.out();
        let shape = Shape::from((g.batch, h, wide, g.cout));
        let (y, to) = number.empty(self.gpu.device(), shape.elem_count())?;
        // SAFETY: `place` has checked that both are contiguous in their shapes; `y` has its shape.
        unsafe { self.gpu.convolve(&g, Pass::Forward, x, w, to) }?;
        Ok((y, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let g = self.geometry(x.dims(), w.dims(), Number::of(x.dtype())?)?;
        let back = |pass| Back { gpu: self.gpu.clone(), geometry: g, pass };
        let dx = x.track_op().then(|| w.apply_op2_no_bwd(&dy, &back(Pass::Data))).transpose()?;
        let dw = w.track_op().then(|| x.apply_op2_no_bwd(&dy, &back(Pass::Filter))).transpose()?;
        Ok((dx, dw))
    }
}

/// [`Convolution`] and a bias `(cout)`, f32, added in place; cout a multiple of 8. No gradient.
impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "i2sb-convolution-bias"
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
        not_here(CustomOp3::name(self))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        w: &CudaStorage,
        lw: &Layout,
        bias: &CudaStorage,
        lb: &Layout,
    ) -> Done {
        let (y, shape) = CustomOp2::cuda_fwd(self, x, lx, w, lw)?;
        let (layout, (of_bias, bias)) = (Layout::contiguous(&shape), place(bias, lb)?);
        let (rows, (number, to)) = (rows(&layout)?, place(&y, &layout)?);
        if of_bias != Number::F32 || lb.dims() != [rows.channels] {
            bail!("bias {:?}, but ({}) f32 are needed", lb.dims(), rows.channels);
        }
        self.gpu.settle(number, to, None, bias, rows)?;
        Ok((y, shape))
    }
}

/// A gradient of [`Convolution`]: of the input from (weights, dy), or of the weights from (input, dy).
struct Back {
    gpu: Arc<Gpu>,
    geometry: Geometry,
    pass: Pass,
}

impl CustomOp2 for Back {
    fn name(&self) -> &'static str {
        "i2sb-convolution-back"
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

    fn cuda_fwd(&self, a: &CudaStorage, la: &Layout, dy: &CudaStorage, ly: &Layout) -> Done {
        let ((number, a), (of_dy, dy)) = (place(a, la)?, place(dy, ly)?);
        let g = &self.geometry;
        let (oh, ow) = g.out();
        if number != g.number || of_dy != number || ly.dims() != [g.batch, oh, ow, g.cout] {
            bail!("gradient {:?} of a convolution {g:?}", ly.dims());
        }
        let shape = match self.pass {
            Pass::Filter => Shape::from((g.cout, g.kernel, g.kernel, g.cin)),
            _ => Shape::from((g.batch, g.height, g.width, g.cin)),
        };
        let (out, to) = number.empty(self.gpu.device(), shape.elem_count())?;
        // SAFETY: `place` has checked that both are contiguous in the shapes of `g`; `out` has its own.
        unsafe { self.gpu.convolve(g, self.pass, a, dy, to) }?;
        Ok((out, shape))
    }
}

/// `x + bias`: `x` `(B, …, C)`, bias `(C)`, f32. Differentiable in both.
#[derive(Clone)]
pub(crate) struct Bias {
    pub gpu: Arc<Gpu>,
}

impl CustomOp2 for Bias {
    fn name(&self) -> &'static str {
        "i2sb-bias"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        not_here(CustomOp2::name(self))
    }

    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout, bias: &CudaStorage, lb: &Layout) -> Done {
        same_device(&self.gpu, x)?;
        let (rows, (number, x), (of_bias, offset)) = (rows(lx)?, place(x, lx)?, place(bias, lb)?);
        if of_bias != Number::F32 || lb.dims() != [rows.channels] {
            bail!("bias {:?}, but ({}) f32 are needed", lb.dims(), rows.channels);
        }
        let (y, to) = number.empty(self.gpu.device(), lx.shape().elem_count())?;
        self.gpu.modulate(number, x, to, rows, Affine { gain: None, offset, per_item: false }, false)?;
        Ok((y, lx.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let sums = dy.apply_op2_no_bwd(&dy, &Sums { gpu: self.gpu.clone() })?;
        let bias = sums.sum((0, 1))?.get(0)?;
        Ok((Some(dy), Some(bias)))
    }
}

struct Resample {
    gpu: Arc<Gpu>,
    up: bool,
}

impl CustomOp1 for Resample {
    fn name(&self) -> &'static str {
        "i2sb-resample"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        not_here(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Done {
        let (b, h, w, c) = layout.shape().dims4()?;
        if !self.up && h % 2 + w % 2 > 0 {
            bail!("mean of 2×2 pixels of {h}×{w}: even numbers are needed");
        }
        let (number, x) = place(x, layout)?;
        let (h, w) = if self.up { (2 * h, 2 * w) } else { (h / 2, w / 2) };
        let (y, to) = number.empty(self.gpu.device(), b * h * w * c)?;
        self.gpu.resample(number, x, to, Rows { items: b, pixels: h * w, channels: c }, w, self.up)?;
        Ok((y, Shape::from((b, h, w, c))))
    }
}

pub(super) fn resample(x: &Tensor, up: bool) -> candle_core::Result<Tensor> {
    let gpu = Gpu::of(x.device()).map_err(candle_core::Error::wrap)?;
    x.contiguous()?.apply_op1_no_bwd(&Resample { gpu, up })
}

/// f32 of a small tensor, contiguous.
pub(super) fn f32_of(t: &Tensor) -> candle_core::Result<Tensor> {
    t.to_dtype(DType::F32)?.contiguous()
}
