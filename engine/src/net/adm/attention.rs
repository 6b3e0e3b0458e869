// SPDX-License-Identifier: MIT OR Apache-2.0
//! Self-attention over all pixels (SPEC section 7.2), a bounded block of scores at a time.

use candle_core::{D, DType, IndexOp, Tensor};

use crate::{Cancel, Error, Result};

/// Most scores that stand in memory at once: 64 MiB of f64.
pub const SCORES_LIMIT: usize = 8 << 20;

/// How the 3C channels of `qkv` are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Heads outermost: `q k v` of head 0, then of head 1, … (released weights).
    Legacy,
    /// `q`, `k`, `v` outermost, heads inside.
    New,
}

/// `softmax(q·kᵀ/√D)·v` for each head.
///
/// - `qkv`: `(B, T, 3C)`, f32, f16 or bf16; head width `D = C/heads`.
/// - `limit`: most scores at once, see [`SCORES_LIMIT`]; one query's scores always are.
///
/// Returns `(B, T, C)`, head after head. q and k are each scaled by D^(−1/4); the softmax is f32 or
/// better; in f16 its weights are rounded to f16. Differentiable.
///
/// # Errors
/// [`Error::Shape`] if 3C does not divide into the heads, [`Error::Cancelled`].
pub fn attention(qkv: &Tensor, heads: usize, order: Order, limit: usize, cancel: &Cancel) -> Result<Tensor> {
    let (b, t, channels) = qkv.dims3()?;
    if heads == 0 || !channels.is_multiple_of(3 * heads) {
        return Err(Error::shape("attention", qkv.dims(), format!("channels a multiple of 3·{heads} heads")));
    }
    let d = channels / 3 / heads;
    // (q|k|v, B·heads, T, D)
    let split = match order {
        Order::Legacy => qkv.reshape((b, t, heads, 3, d))?.permute((3, 0, 2, 1, 4))?,
        Order::New => qkv.reshape((b, t, 3, heads, d))?.permute((2, 0, 3, 1, 4))?,
    };
    let part = |i: usize| split.i(i)?.contiguous()?.reshape((b * heads, t, d));
    let scale = (d as f64).powf(-0.25);
    let inner = inner_type(qkv);
    let q = (part(0)?.to_dtype(inner)? * scale)?;
    let k = (part(1)?.to_dtype(inner)? * scale)?.transpose(1, 2)?;
    let v = part(2)?.to_dtype(inner)?;

    let rows = (limit / t).clamp(1, t);
    let together = (limit / (t * t)).clamp(1, b * heads);
    let mut done = Vec::new();
    for head in (0..b * heads).step_by(together) {
        let heads = together.min(b * heads - head);
        let (q, k, v) = (q.narrow(0, head, heads)?, k.narrow(0, head, heads)?, v.narrow(0, head, heads)?);
        let mut blocks = Vec::new();
        for row in (0..t).step_by(rows) {
            cancel.check()?;
            let scores = q.narrow(1, row, rows.min(t - row))?.matmul(&k)?;
            let weights = softmax(&scores)?;
            blocks.push(weights.matmul(&v)?);
        }
        done.push(if blocks.len() == 1 { blocks.remove(0) } else { Tensor::cat(&blocks, 1)? });
    }
    let a = if done.len() == 1 { done.remove(0) } else { Tensor::cat(&done, 0)? };
    let a = a.to_dtype(qkv.dtype())?.reshape((b, heads, t, d))?;
    Ok(a.transpose(1, 2)?.contiguous()?.reshape((b, t, heads * d))?)
}

/// Softmax over the last dimension in f32 or f64: candle's one-pass kernel, unless gradients are wanted.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    let inner = scores.dtype();
    let scores = if inner == DType::F64 { scores.clone() } else { scores.to_dtype(DType::F32)? };
    let weights = if scores.track_op() {
        candle_nn::ops::softmax(&scores, D::Minus1)?
    } else {
        candle_nn::ops::softmax_last_dim(&scores)?
    };
    Ok(weights.to_dtype(inner)?)
}

/// The type in which scores are computed. On the CPU f32 is widened: sharp softmaxes amplify rounding
/// more than any other layer, attention is half a percent of the work, and f64 halves the distance to
/// the exact result. candle multiplies no bf16 matrices there, so those are widened to f32.
fn inner_type(qkv: &Tensor) -> DType {
    match qkv.dtype() {
        DType::F32 if qkv.device().is_cpu() => DType::F64,
        DType::BF16 if qkv.device().is_cpu() => DType::F32,
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Per element in f64, straight from the equations.
    fn reference(qkv: &[Vec<f32>], heads: usize, order: Order) -> Vec<Vec<f64>> {
        let c = qkv[0].len() / 3;
        let d = c / heads;
        let at = |token: usize, part: usize, head: usize, i: usize| {
            let channel = match order {
                Order::Legacy => 3 * d * head + d * part + i,
                Order::New => c * part + d * head + i,
            };
            qkv[token][channel] as f64
        };
        let token = |q: usize| {
            (0..c).map(move |channel| {
                let (head, i) = (channel / d, channel % d);
                let score = |k: usize| (0..d).map(|i| at(q, 0, head, i) * at(k, 1, head, i)).sum::<f64>();
                let weights: Vec<f64> =
                    (0..qkv.len()).map(|k| (score(k) / (d as f64).sqrt()).exp()).collect();
                let sum: f64 = weights.iter().sum();
                weights.iter().enumerate().map(|(k, w)| w / sum * at(k, 2, head, i)).sum()
            })
        };
        (0..qkv.len()).map(|q| token(q).collect()).collect()
    }

    fn sample(b: usize, t: usize, c: usize) -> Tensor {
        let values: Vec<f32> =
            (0..b * t * c).map(|i| ((i * 7919 % 1013) as f32 / 506.0 - 1.0) * 1.5).collect();
        Tensor::from_vec(values, (b, t, c), &Device::Cpu).unwrap()
    }

    #[test]
    fn equals_the_reference_for_every_block_size() {
        let qkv = sample(2, 7, 24);
        for order in [Order::Legacy, Order::New] {
            for heads in [1, 2, 4] {
                for limit in [1, 7, 20, 49, 150, SCORES_LIMIT] {
                    let a = attention(&qkv, heads, order, limit, &Cancel::default()).unwrap();
                    let a = a.to_vec3::<f32>().unwrap();
                    for (item, found) in qkv.to_vec3::<f32>().unwrap().iter().zip(&a) {
                        let expected = reference(item, heads, order);
                        for (e, f) in expected.iter().flatten().zip(found.iter().flatten()) {
                            assert!((e - *f as f64).abs() < 1e-5, "{order:?} {heads} {limit}: {e} {f}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn half_types_stay_close_and_keep_their_type() {
        let qkv = sample(1, 9, 12);
        let run = |x: &Tensor| attention(x, 2, Order::Legacy, SCORES_LIMIT, &Cancel::default()).unwrap();
        let exact = run(&qkv).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (dtype, tolerance) in [(DType::F16, 2e-3), (DType::BF16, 2e-2)] {
            let a = run(&qkv.to_dtype(dtype).unwrap());
            assert_eq!(a.dtype(), dtype);
            let a = a.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(a.iter().zip(&exact).all(|(a, e)| (a - e).abs() < tolerance));
        }
    }

    #[test]
    fn gradient_does_not_depend_on_blocks() {
        let grad = |limit| {
            let x = Var::from_tensor(&sample(1, 6, 12)).unwrap();
            let a = attention(x.as_tensor(), 2, Order::New, limit, &Cancel::default()).unwrap();
            let grads = a.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            grads.get(x.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let (whole, pieces) = (grad(SCORES_LIMIT), grad(13));
        assert!(whole.iter().any(|g| g.abs() > 1e-3));
        assert!(whole.iter().zip(&pieces).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn stops_when_asked() {
        let cancel = Cancel::default();
        cancel.cancel();
        assert!(matches!(attention(&sample(1, 2, 6), 1, Order::New, 9, &cancel), Err(Error::Cancelled)));
    }
}
