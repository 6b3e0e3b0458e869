// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weighted sums and masked choices of equally shaped tensors, each in one pass over memory.
//!
//! A video frame's tensors are far larger than the caches, so every pass costs as much as a small
//! network layer. On the CPU the sums below run block by block on all cores; on other devices, and
//! for other types than f32, they are made of the tensor library's operations. The order of
//! summation is the order of the terms, in either case. No gradient flows through them.

use candle_core::{DType, Device, Storage, Tensor};
use rayon::prelude::*;

use crate::{Error, Result, memory::filled};

/// Elements that one thread handles at a time: the blocks of all terms stay in its first cache.
const BLOCK: usize = 2048;

/// One summand: a tensor and its weight.
#[derive(Debug, Clone, Copy)]
pub struct Term<'a> {
    /// One weight for all items of the batch, or one for each.
    pub weights: &'a [f32],
    /// `(B, …)`, f32.
    pub tensor: &'a Tensor,
}

/// `Σ weightᵢ·tensorᵢ`, then clamped to `bounds` if there are any.
///
/// # Errors
/// [`Error::Shape`] if there is no term, the shapes differ, or a term has neither one weight nor one
/// per batch item.
pub fn weighted_sum(terms: &[Term], bounds: Option<(f32, f32)>) -> Result<Tensor> {
    let Some(first) = terms.first() else {
        return Err(Error::shape("weighted sum", &[], "at least one term"));
    };
    let shape = first.tensor.dims();
    let batch = shape.first().copied().unwrap_or(1);
    for term in terms {
        if term.tensor.dims() != shape {
            return Err(Error::shape("weighted sum", term.tensor.dims(), format!("{shape:?}")));
        }
        if term.weights.len() != 1 && term.weights.len() != batch {
            return Err(Error::shape("weights", &[term.weights.len()], format!("1 or {batch} (batch)")));
        }
    }
    let tensors =
        terms.iter().map(|term| term.tensor.contiguous()).collect::<candle_core::Result<Vec<_>>>()?;
    if !tensors.iter().all(on_cpu) {
        return by_tensor_ops(terms, bounds);
    }
    if let ([Term { weights: [1.0], .. }], None) = (terms, bounds) {
        // Itself: nothing to compute, and tensors are not written to.
        return Ok(tensors[0].clone());
    }
    let count = first.tensor.elem_count();
    let item_len = (count / batch.max(1)).max(1);
    let out = with_slices(&tensors, |slices| {
        filled(count, BLOCK, |mut from, mut out| {
            while !out.is_empty() {
                let item = from / item_len;
                let (now, rest) = out.split_at_mut(out.len().min((item + 1) * item_len - from));
                for (which, (term, slice)) in terms.iter().zip(slices).enumerate() {
                    let weight = term.weights[if term.weights.len() == 1 { 0 } else { item }];
                    let part = &slice[from..from + now.len()];
                    if which == 0 {
                        now.iter_mut().zip(part).for_each(|(o, v)| *o = weight * v);
                    } else {
                        now.iter_mut().zip(part).for_each(|(o, v)| *o += weight * v);
                    }
                }
                if let Some((low, high)) = bounds {
                    now.iter_mut().for_each(|o| *o = o.clamp(low, high));
                }
                (from, out) = (from + now.len(), rest);
            }
        })
    });
    Ok(Tensor::from_vec(out, shape, &Device::Cpu)?)
}

/// `(1 − mask)·outside + mask·inside`.
///
/// - `mask`: `(B or 1, 1, H, W)`, 1 = hole.
/// - `outside`, `inside`: `(B, C, H, W)`.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit.
pub fn paste(mask: &Tensor, outside: &Tensor, inside: &Tensor) -> Result<Tensor> {
    let dims = inside.dims();
    let &[batch, channels, height, width] = dims else {
        return Err(Error::shape("masked picture", dims, "(B, C, H, W)"));
    };
    if outside.dims() != dims {
        return Err(Error::shape("masked picture", outside.dims(), format!("{dims:?}")));
    }
    let masks = match *mask.dims() {
        [masks, 1, h, w] if (h, w) == (height, width) && (masks == 1 || masks == batch) => masks,
        _ => {
            let expected = format!("(1 or {batch}, 1, {height}, {width})");
            return Err(Error::shape("mask", mask.dims(), expected));
        }
    };
    let tensors = [mask.contiguous()?, outside.contiguous()?, inside.contiguous()?];
    if !tensors.iter().all(on_cpu) {
        let kept = outside.broadcast_mul(&mask.affine(-1.0, 1.0)?)?;
        return Ok((kept + inside.broadcast_mul(mask)?)?);
    }
    let mut out = vec![0f32; inside.elem_count()];
    let plane = (height * width).max(1);
    with_slices(&tensors, |slices| {
        let [mask, outside, inside] = slices else { return };
        out.par_chunks_mut(plane).enumerate().for_each(|(at, out)| {
            let item = if masks == 1 { 0 } else { at / channels };
            let (mask, from) = (&mask[item * plane..], at * plane);
            let pictures = outside[from..].iter().zip(&inside[from..]);
            for ((o, m), (kept, new)) in out.iter_mut().zip(mask).zip(pictures) {
                *o = (1.0 - m) * kept + m * new;
            }
        });
    });
    Ok(Tensor::from_vec(out, dims, &Device::Cpu)?)
}

fn on_cpu(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// Hands out the values of contiguous f32 tensors on the CPU.
pub(crate) fn with_slices<T>(tensors: &[Tensor], work: impl FnOnce(&[&[f32]]) -> T) -> T {
    let guards: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let slices: Vec<&[f32]> = guards
        .iter()
        .map(|(storage, layout)| {
            let values = match &**storage {
                Storage::Cpu(storage) => storage.as_slice::<f32>().unwrap_or(&[]),
                _ => &[],
            };
            &values[layout.start_offset()..layout.start_offset() + layout.shape().elem_count()]
        })
        .collect();
    work(&slices)
}

fn by_tensor_ops(terms: &[Term], bounds: Option<(f32, f32)>) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for Term { weights, tensor } in terms {
        let part = match weights {
            [weight] => tensor.affine(f64::from(*weight), 0.0)?,
            _ => tensor.broadcast_mul(&per_item(weights, tensor)?)?,
        };
        sum = Some(match sum {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    let sum = sum.ok_or_else(|| Error::shape("weighted sum", &[], "at least one term"))?;
    Ok(match bounds {
        Some((low, high)) => sum.clamp(low, high)?,
        None => sum,
    })
}

/// Numbers, one per batch item, shaped to broadcast over `like`: `(B, 1, …)`.
pub(crate) fn per_item(values: &[f32], like: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; like.rank().max(1)];
    shape[0] = values.len();
    Ok(Tensor::from_slice(values, shape, like.device())?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::noise::{NoiseKey, normal};

    fn picture(draw: u32, dims: (usize, usize, usize, usize)) -> Tensor {
        let (b, c, h, w) = dims;
        let key = NoiseKey { seed: 1, frame: 0, draw };
        Tensor::from_vec(normal(key, b * c, 0..h, 0..w), dims, &Device::Cpu).unwrap()
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
    }

    proptest! {
        /// One pass on slices gives the bits of one tensor operation after the other, for transposed
        /// input too.
        #[test]
        fn sums_equal_tensor_ops(
            b in 1usize..4, h in 1usize..40, w in 1usize..40, weight in -2f32..2.0, clip: bool, turned: bool,
        ) {
            let turn = |t: Tensor| if turned { t.transpose(2, 3).unwrap() } else { t };
            let [x, y, z] = [0, 1, 2].map(|draw| turn(picture(draw, (b, 3, h, w))));
            let each: Vec<f32> = (0..b).map(|item| weight + item as f32).collect();
            let terms = [
                Term { weights: &[weight], tensor: &x },
                Term { weights: &each, tensor: &y },
                Term { weights: &[0.3], tensor: &z },
            ];
            let bounds = clip.then_some((-1.0, 1.0));
            let fast = weighted_sum(&terms, bounds).unwrap();
            let slow = by_tensor_ops(&terms, bounds).unwrap();
            prop_assert_eq!(bits(&fast), bits(&slow));
        }

        #[test]
        fn paste_chooses_by_mask(b in 1usize..4, h in 1usize..9, w in 1usize..9, shared: bool) {
            let (kept, new) = (picture(0, (b, 3, h, w)), picture(1, (b, 3, h, w)));
            let masks = if shared { 1 } else { b };
            let mask = picture(2, (masks, 1, h, w)).ge(0f32).unwrap().to_dtype(DType::F32).unwrap();
            let got = paste(&mask, &kept, &new).unwrap();
            let choice = mask.broadcast_as((b, 3, h, w)).unwrap().ne(0f32).unwrap();
            prop_assert_eq!(bits(&got), bits(&choice.where_cond(&new, &kept).unwrap()));
        }
    }

    #[test]
    fn misfits_are_named() {
        let (x, y) = (picture(0, (2, 3, 4, 5)), picture(0, (2, 3, 5, 4)));
        let sum = |terms: &[Term]| weighted_sum(terms, None).unwrap_err().to_string();
        assert!(sum(&[]).contains("at least one term"));
        assert!(sum(&[Term { weights: &[1.0; 3], tensor: &x }]).contains("1 or 2"));
        let two = [Term { weights: &[1.0], tensor: &x }, Term { weights: &[1.0], tensor: &y }];
        assert!(sum(&two).contains("[2, 3, 5, 4]"));
        let mask = picture(0, (3, 1, 4, 5));
        assert!(paste(&mask, &x, &x).unwrap_err().to_string().contains("(1 or 2, 1, 4, 5)"));
    }
}
