// SPDX-License-Identifier: MIT OR Apache-2.0
//! GroupNorm over 32 groups with scale, shift and SiLU in the same two passes (SPEC section 7.2).

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Shape, Tensor, WithDType};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;

use super::{norm_grad, plan::GROUPS};
use crate::{
    Error, Result,
    ops::{Cpu, rows, storage::contiguous},
};

/// Added to the variance.
pub const EPS: f64 = 1e-5;
/// Values that one thread takes at a time.
const PIECE: usize = 1 << 15;

/// `y = (x − mean)/√(var + 1e-5) · scale + shift`, then SiLU if asked; mean and biased variance over
/// the pixels and channels of each group, in f32 or better; the result has the type of `x`.
///
/// - `x`: `(B, …, C)`, channels-last, contiguous, C a multiple of 32.
/// - `scale`, `shift`: `(B, C)`, f32.
///
/// Differentiable in all three. The same bits for any number of threads.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit.
pub fn group_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, silu: bool) -> Result<Tensor> {
    let dims = x.dims();
    let (b, c) = match dims {
        [b, .., c] if dims.len() > 2 && c % GROUPS == 0 && x.elem_count() > 0 => (*b, *c),
        _ => return Err(Error::shape("group norm", dims, format!("(B, …, C), C a multiple of {GROUPS}"))),
    };
    for side in [scale, shift] {
        if side.dims() != [b, c] {
            return Err(Error::shape("scale or shift of group norm", side.dims(), format!("({b}, {c})")));
        }
    }
    if x.device().is_cpu() {
        let x = x.contiguous()?;
        return Ok(x.apply_op3(&scale.contiguous()?, &shift.contiguous()?, GroupNorm { silu })?);
    }
    composed(x, scale, shift, silu)
}

/// The same from candle's own operations: for devices other than the CPU, and the twin of the tests.
fn composed(x: &Tensor, scale: &Tensor, shift: &Tensor, silu: bool) -> Result<Tensor> {
    let (b, c) = scale.dims2()?;
    let flat = x.to_dtype(DType::F32)?.reshape((b, (), GROUPS, c / GROUPS))?;
    let mean = flat.mean_keepdim((1, 3))?;
    let centred = flat.broadcast_sub(&mean)?;
    let deviation = (centred.sqr()?.mean_keepdim((1, 3))? + EPS)?.sqrt()?;
    let y = centred.broadcast_div(&deviation)?.reshape((b, (), c))?;
    let y = y.broadcast_mul(&scale.unsqueeze(1)?)?.broadcast_add(&shift.unsqueeze(1)?)?;
    let y = if silu { y.silu()? } else { y };
    Ok(y.reshape(x.shape())?.to_dtype(x.dtype())?)
}

/// A value of an activation, to and from f32.
pub(super) trait Value: WithDType {
    fn load(from: &[Self], to: &mut [f32]);
    fn store(from: &[f32], to: &mut [Self]);
}

impl Value for f32 {
    fn load(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    fn store(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

impl Value for f16 {
    fn load(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }

    fn store(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Value for bf16 {
    fn load(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }

    fn store(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

/// Mean of each channel's group, and one over the deviation of each channel's group, of one item.
pub(super) struct Moments {
    pub mean: Vec<f32>,
    pub inverse: Vec<f32>,
}

impl Moments {
    /// `x`: one batch item, pixels of `channels` values.
    pub fn of<T: Value>(x: &[T], channels: usize) -> Self {
        // Sums run over differences to the first pixel, so that a large mean costs no digits.
        let mut origin = vec![0f32; channels];
        T::load(&x[..channels], &mut origin);
        let isa = Cpu::detect().isa;
        let pieces: Vec<Vec<f32>> = x
            .par_chunks(piece(channels))
            .map(|piece| {
                let mut sums = vec![0f32; 2 * channels];
                let (sum, squares) = sums.split_at_mut(channels);
                let mut pixel = vec![0f32; channels];
                for values in piece.chunks_exact(channels) {
                    T::load(values, &mut pixel);
                    rows::moments(isa, &pixel, &origin, sum, squares);
                }
                sums
            })
            .collect();
        let mut sums = vec![0f64; 2 * channels];
        for piece in &pieces {
            sums.iter_mut().zip(piece).for_each(|(s, p)| *s += *p as f64);
        }
        let pixels = (x.len() / channels) as f64;
        let mut moments = Self { mean: vec![0.0; channels], inverse: vec![0.0; channels] };
        let width = channels / GROUPS;
        for first in (0..channels).step_by(width) {
            let of_channel = |i: usize| {
                let mean = sums[i] / pixels;
                (origin[i] as f64 + mean, (sums[channels + i] / pixels - mean * mean).max(0.0))
            };
            let group = first..first + width;
            let mean = group.clone().map(|i| of_channel(i).0).sum::<f64>() / width as f64;
            let spread = |i| {
                let (m, variance) = of_channel(i);
                variance + (m - mean) * (m - mean)
            };
            let variance = group.clone().map(spread).sum::<f64>() / width as f64;
            moments.mean[group.clone()].fill(mean as f32);
            moments.inverse[group].fill((1.0 / (variance + EPS).sqrt()) as f32);
        }
        moments
    }
}

/// Values of a piece: whole pixels, about [`PIECE`] of them.
pub(super) fn piece(channels: usize) -> usize {
    (PIECE / channels).max(1) * channels
}

struct GroupNorm {
    silu: bool,
}

impl GroupNorm {
    fn run<T: Value>(&self, x: &[T], scale: &[f32], shift: &[f32], batch: usize) -> Vec<T> {
        let channels = scale.len() / batch;
        let (item, isa) = (x.len() / batch, Cpu::detect().isa);
        let mut y = vec![T::zero(); x.len()];
        for (i, (x, y)) in x.chunks_exact(item).zip(y.chunks_exact_mut(item)).enumerate() {
            let Moments { mean, inverse } = Moments::of(x, channels);
            let here = i * channels..(i + 1) * channels;
            let factor: Vec<f32> = inverse.iter().zip(&scale[here.clone()]).map(|(i, s)| i * s).collect();
            let shift = &shift[here];
            let length = piece(channels);
            x.par_chunks(length).zip(y.par_chunks_mut(length)).for_each(|(x, y)| {
                let mut pixel = vec![0f32; channels];
                for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
                    T::load(x, &mut pixel);
                    rows::normalise(isa, &mut pixel, &mean, &factor, shift, self.silu);
                    T::store(&pixel, y);
                }
            });
        }
        y
    }
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let batch = x_layout.dims()[0];
        let scale = contiguous(scale, scale_layout)?;
        let shift = contiguous(shift, shift_layout)?;
        let y = match x {
            CpuStorage::F32(_) => CpuStorage::F32(self.run(contiguous(x, x_layout)?, scale, shift, batch)),
            CpuStorage::F16(_) => CpuStorage::F16(self.run(contiguous(x, x_layout)?, scale, shift, batch)),
            CpuStorage::BF16(_) => CpuStorage::BF16(self.run(contiguous(x, x_layout)?, scale, shift, batch)),
            _ => candle_core::bail!("group norm needs f32, f16 or bf16"),
        };
        Ok((y, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let flat = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let parts = norm_grad::Given {
            x: &flat(x)?,
            scale: &flat(scale)?,
            shift: &flat(shift)?,
            grad: &flat(grad)?,
            batch: scale.dim(0)?,
            silu: self.silu,
        };
        let (dx, dscale, dshift) = parts.gradients();
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?.to_dtype(x.dtype())?;
        let side = |v| Tensor::from_vec(v, scale.shape(), x.device());
        Ok((Some(dx), Some(side(dscale)?), Some(side(dshift)?)))
    }
}

/// Learned scale and shift of a norm: `(C)` each.
#[derive(Debug, Clone)]
pub struct Affine {
    /// The norm's weight.
    pub weight: Tensor,
    /// The norm's bias.
    pub bias: Tensor,
}

impl Affine {
    /// GroupNorm with the learned scale and shift, then SiLU if asked.
    ///
    /// # Errors
    /// As [`group_norm`].
    pub fn norm(&self, x: &Tensor, silu: bool) -> Result<Tensor> {
        #[cfg(feature = "cudnn")]
        if x.device().is_cuda() && !x.track_op() && !self.weight.track_op() {
            return super::norm_cuda::norm(self, x, None, silu);
        }
        let shape = (x.dim(0)?, self.weight.dim(0)?);
        let spread = |t: &Tensor| t.unsqueeze(0)?.broadcast_as(shape);
        group_norm(x, &spread(&self.weight)?, &spread(&self.bias)?, silu)
    }

    /// The same followed by `·(1 + s) + t`, where `embedding` `(B, 2C)` holds s, then t.
    ///
    /// # Errors
    /// As [`group_norm`].
    pub fn norm_modulated(&self, x: &Tensor, embedding: &Tensor, silu: bool) -> Result<Tensor> {
        #[cfg(feature = "cudnn")]
        if x.device().is_cuda() && !x.track_op() && !self.weight.track_op() {
            return super::norm_cuda::norm(self, x, Some(embedding), silu);
        }
        let parts = embedding.to_dtype(DType::F32)?.chunk(2, D::Minus1)?;
        let one = (&parts[0] + 1.0)?;
        let scale = one.broadcast_mul(&self.weight)?;
        let shift = (one.broadcast_mul(&self.bias)? + &parts[1])?;
        group_norm(x, &scale, &shift, silu)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use proptest::prelude::*;

    use super::*;

    fn tensor(shape: &[usize], seed: usize, size: f32, mean: f32) -> Tensor {
        let count = shape.iter().product();
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 10_007) as f32 / 5003.0 - 1.0;
        let values: Vec<f32> = (0..count).map(|i| value(i) * size + mean).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn values(t: &Tensor) -> Vec<f32> {
        t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn equals_its_composed_twin(
            b in 1usize..3, h in 1usize..40, w in 1usize..40, width in 1usize..4, silu: bool, mean in -3f32..3.0,
        ) {
            let c = GROUPS * width;
            let (x, scale) = (tensor(&[b, h, w, c], 1, 2.0, mean), tensor(&[b, c], 2, 1.0, 0.5));
            let shift = tensor(&[b, c], 3, 1.0, 0.0);
            for (dtype, tolerance) in [(DType::F32, 2e-4), (DType::F16, 2e-2), (DType::BF16, 1e-1)] {
                let x = x.to_dtype(dtype).unwrap();
                let found = group_norm(&x, &scale, &shift, silu).unwrap();
                prop_assert_eq!(found.dtype(), dtype);
                let expected = composed(&x, &scale, &shift, silu).unwrap();
                for (f, e) in values(&found).iter().zip(values(&expected)) {
                    prop_assert!((f - e).abs() <= tolerance * (1.0 + e.abs()), "{dtype:?} {f} {e}");
                }
            }
        }
    }

    #[test]
    fn a_large_mean_costs_no_digits() {
        // Against the same values without the mean: exact in f32, as 1000 is added to multiples of 2^-10.
        let x = ((tensor(&[1, 64, 64, 32], 1, 512.0, 0.0).round().unwrap()) / 1024.0).unwrap();
        let one = Tensor::ones((1, 32), DType::F32, &Device::Cpu).unwrap();
        let zero = one.zeros_like().unwrap();
        let a = values(&group_norm(&x, &one, &zero, false).unwrap());
        let b = values(&group_norm(&(x + 1000.0).unwrap(), &one, &zero, false).unwrap());
        let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-4, "{worst}");
    }

    #[test]
    fn one_thread_gives_the_same_bits() {
        let (x, side) = (tensor(&[2, 33, 57, 64], 1, 1.0, 0.3), tensor(&[2, 64], 2, 1.0, 0.0));
        let many = values(&group_norm(&x, &side, &side, true).unwrap());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let one = pool.install(|| values(&group_norm(&x, &side, &side, true).unwrap()));
        assert_eq!(many, one);
    }

    #[test]
    fn gradients_equal_those_of_the_composed_twin() {
        for silu in [false, true] {
            let vars = [
                Var::from_tensor(&tensor(&[2, 5, 7, 64], 1, 1.0, 0.4)).unwrap(),
                Var::from_tensor(&tensor(&[2, 64], 2, 1.0, 0.7)).unwrap(),
                Var::from_tensor(&tensor(&[2, 64], 3, 1.0, 0.0)).unwrap(),
            ];
            let weight = tensor(&[2, 5, 7, 64], 4, 1.0, 0.0);
            type Norm = fn(&Tensor, &Tensor, &Tensor, bool) -> Result<Tensor>;
            let grads = |norm: Norm| {
                let y = norm(vars[0].as_tensor(), vars[1].as_tensor(), vars[2].as_tensor(), silu).unwrap();
                let grads = (y * &weight).unwrap().sum_all().unwrap().backward().unwrap();
                vars.each_ref().map(|v| values(grads.get(v.as_tensor()).unwrap()))
            };
            for (found, expected) in grads(group_norm).iter().zip(&grads(composed)) {
                assert!(expected.iter().any(|g| g.abs() > 0.1));
                let worst = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
                assert!(worst < 2e-4, "{silu}: {worst}");
            }
        }
    }

    #[test]
    fn misfits_are_errors() {
        let side = tensor(&[1, 64], 1, 1.0, 0.0);
        assert!(group_norm(&tensor(&[1, 2, 2, 48], 1, 1.0, 0.0), &side, &side, true).is_err());
        assert!(group_norm(&tensor(&[1, 2, 2, 32], 1, 1.0, 0.0), &side, &side, true).is_err());
        assert!(group_norm(&tensor(&[1, 0, 2, 64], 1, 1.0, 0.0), &side, &side, true).is_err());
    }
}
