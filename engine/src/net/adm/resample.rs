// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resampling by two without parameters: mean of 2×2 pixels, and repetition.

use candle_core::{D, DType, IndexOp, Tensor};

use super::{plan::Resample, resample_cpu};
use crate::{Error, Result};

/// `x`: `(B, H, W, C)`. Down needs even H and W; differentiable.
///
/// # Errors
/// [`Error::Shape`] for an odd height or width on the way down.
pub fn resample(x: &Tensor, how: Resample) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    #[cfg(feature = "cudnn")]
    if x.device().is_cuda() && !x.track_op() && c % 8 == 0 {
        match how {
            Resample::Up => return Ok(crate::ops::cuda::repeat(x)?),
            Resample::Down if h % 2 + w % 2 == 0 => return Ok(crate::ops::cuda::halve(x)?),
            _ => {}
        }
    }
    match how {
        Resample::Keep => Ok(x.clone()),
        Resample::Up if resample_cpu::serve(x) => Ok(x.apply_op1_no_bwd(&resample_cpu::Repeat)?),
        Resample::Up => {
            let wide = x.reshape((b, h, 1, w, c))?.broadcast_as((b, h, 2, w, c))?.contiguous()?;
            let wide = wide.reshape((b, 2 * h * w, 1, c))?.broadcast_as((b, 2 * h * w, 2, c))?;
            Ok(wide.contiguous()?.reshape((b, 2 * h, 2 * w, c))?)
        }
        Resample::Down => {
            if h % 2 + w % 2 > 0 {
                return Err(Error::shape("mean of 2×2 pixels", x.dims(), "even height and width"));
            }
            if resample_cpu::serve(x) {
                return Ok(x.apply_op1_no_bwd(&resample_cpu::Halve)?);
            }
            let cells = x.reshape((b * h / 2, 2, w / 2, 2, c))?;
            let pick = |i: usize, j: usize| cells.i((.., i, .., j))?.contiguous()?.to_dtype(DType::F32);
            let sum = (((pick(0, 0)? + pick(0, 1)?)? + pick(1, 0)?)? + pick(1, 1)?)?;
            Ok((sum * 0.25)?.to_dtype(x.dtype())?.reshape((b, h / 2, w / 2, c))?)
        }
    }
}

/// Channels side by side: `(B, H, W, C1)` and `(B, H, W, C2)` to `(B, H, W, C1 + C2)`.
///
/// # Errors
/// [`Error::Shape`] if the two differ in more than their channels.
pub fn concat(x: &Tensor, skip: &Tensor) -> Result<Tensor> {
    if x.dims()[..3] != skip.dims()[..3] {
        return Err(Error::shape("skip connection", skip.dims(), format!("{:?} but for channels", x.dims())));
    }
    if resample_cpu::serve(x) && resample_cpu::serve(skip) {
        return Ok(x.apply_op2_no_bwd(skip, &resample_cpu::Join)?);
    }
    Ok(Tensor::cat(&[x, skip], D::Minus1)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::noise::Stream;

    #[test]
    fn means_and_repeats() {
        let x = Tensor::arange(0f32, 16.0, &Device::Cpu).unwrap().reshape((1, 4, 2, 2)).unwrap();
        let down = resample(&x, Resample::Down).unwrap();
        assert_eq!(down.dims(), [1, 2, 1, 2]);
        assert_eq!(down.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [3.0, 4.0, 11.0, 12.0]);
        let up = resample(&down, Resample::Up).unwrap();
        assert_eq!(up.dims(), [1, 4, 2, 2]);
        let rows = [3.0, 4.0, 3.0, 4.0, 3.0, 4.0, 3.0, 4.0, 11.0, 12.0, 11.0, 12.0, 11.0, 12.0, 11.0, 12.0];
        assert_eq!(up.flatten_all().unwrap().to_vec1::<f32>().unwrap(), rows);
        assert!(resample(&x.narrow(1, 0, 3).unwrap(), Resample::Down).is_err());
    }

    #[test]
    fn one_pass_has_the_bits_of_candles_operations() {
        for shape in [(1, 2, 2, 1), (2, 6, 10, 5), (1, 4, 8, 64)] {
            let some = |shape: (usize, usize, usize, usize)| {
                let mut stream = Stream::new(1, 2);
                let count = shape.0 * shape.1 * shape.2 * shape.3;
                let values: Vec<f32> = (0..count).map(|_| stream.next_normal()).collect();
                Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
            };
            let x = some(shape);
            // A variable takes candle's way.
            let twin = Var::from_tensor(&x).unwrap();
            let bits = |t: &Tensor| -> Vec<u32> {
                t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
            };
            for how in [Resample::Up, Resample::Down] {
                let (a, b) = (resample(&x, how).unwrap(), resample(twin.as_tensor(), how).unwrap());
                assert_eq!((a.dims(), bits(&a)), (b.dims(), bits(&b)), "{how:?} {shape:?}");
            }
            let wide = some((shape.0, shape.1, shape.2, 3));
            let (a, b) = (concat(&x, &wide).unwrap(), concat(twin.as_tensor(), &wide).unwrap());
            assert_eq!((a.dims(), bits(&a)), (b.dims(), bits(&b)), "{shape:?}");
        }
    }

    #[test]
    fn gradients_are_each_others_adjoint() {
        let x = Var::from_tensor(&Tensor::ones((1, 2, 4, 3), DType::F32, &Device::Cpu).unwrap()).unwrap();
        for (how, expected) in [(Resample::Down, 0.25), (Resample::Up, 4.0)] {
            let sum = resample(x.as_tensor(), how).unwrap().sum_all().unwrap();
            let grads = sum.backward().unwrap();
            let g = grads.get(x.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(g.iter().all(|v| *v == expected), "{g:?}");
        }
    }
}
