// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resampling and joining in f32 on the CPU, without gradients: on all threads, in one pass over memory.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor};

use crate::{memory::filled, ops::storage::contiguous};

/// True if these operations may stand for candle's.
pub(super) fn serve(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && !x.track_op() && x.is_contiguous() && x.elem_count() > 0
}

/// Repeats each pixel of `(B, H, W, C)` twice in both directions.
pub(super) struct Repeat;
/// Mean of 2×2 pixels of `(B, H, W, C)`, H and W even.
pub(super) struct Halve;
/// `(B, H, W, C1)` and `(B, H, W, C2)` to `(B, H, W, C1 + C2)`.
pub(super) struct Join;

impl CustomOp1 for Repeat {
    fn name(&self) -> &'static str {
        "repeat"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((b, h, w, c), x) = (layout.shape().dims4()?, contiguous::<f32>(x, layout)?);
        let line = 2 * w * c;
        let out = filled(4 * x.len(), line, |at, out| {
            let from = &x[at / line / 2 * w * c..];
            for (pair, pixel) in out.chunks_exact_mut(2 * c).zip(from.chunks_exact(c)) {
                let (left, right) = pair.split_at_mut(c);
                left.copy_from_slice(pixel);
                right.copy_from_slice(pixel);
            }
        });
        Ok((CpuStorage::F32(out), (b, 2 * h, 2 * w, c).into()))
    }
}

impl CustomOp1 for Halve {
    fn name(&self) -> &'static str {
        "halve"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((b, h, w, c), x) = (layout.shape().dims4()?, contiguous::<f32>(x, layout)?);
        let line = w / 2 * c;
        let out = filled(x.len() / 4, line, |at, out| {
            let (top, bottom) = x[at / line * 4 * line..][..4 * line].split_at(2 * line);
            let cells = top.chunks_exact(2 * c).zip(bottom.chunks_exact(2 * c));
            for (mean, (top, bottom)) in out.chunks_exact_mut(c).zip(cells) {
                for (i, mean) in mean.iter_mut().enumerate() {
                    *mean = (top[i] + top[c + i] + bottom[i] + bottom[c + i]) * 0.25;
                }
            }
        });
        Ok((CpuStorage::F32(out), (b, h / 2, w / 2, c).into()))
    }
}

impl CustomOp2 for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((b, h, w, c1), (.., c2)) = (x_layout.shape().dims4()?, y_layout.shape().dims4()?);
        let (x, y, c) = (contiguous::<f32>(x, x_layout)?, contiguous::<f32>(y, y_layout)?, c1 + c2);
        let out = filled(x.len() + y.len(), w * c, |at, out| {
            let pixel = at / c;
            let pixels = x[pixel * c1..].chunks_exact(c1).zip(y[pixel * c2..].chunks_exact(c2));
            for (out, (x, y)) in out.chunks_exact_mut(c).zip(pixels) {
                out[..c1].copy_from_slice(x);
                out[c1..].copy_from_slice(y);
            }
        });
        Ok((CpuStorage::F32(out), (b, h, w, c).into()))
    }
}
