// SPDX-License-Identifier: MIT OR Apache-2.0
//! The convolution of `(B, H, W, C)` tensors on the CPU: candle's storage through the tap products
//! of [`super::gemm`], bias added as each sum leaves.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};

use super::{
    Cpu,
    gemm::{self, Run},
    isa::Isa,
    lease::Shelf,
    map::Map,
    same3::{self, Algorithm},
    storage::contiguous,
};
use crate::{Result, memory::filled};

/// Pixels of 1×1 computed before their results are handed on.
const CHUNK: usize = 96;
/// Pixels of a piece at least, where there are enough for all threads.
const PIECE: usize = 1024;

/// Memory of one piece under way.
#[derive(Debug, Default)]
struct Scratch {
    sums: Vec<f32>,
    window: Map<f32>,
    around: same3::Scratch<f32>,
}

/// Of all convolutions: they run one after the other.
static SCRATCH: Shelf<Scratch> = Shelf::new();

/// Weights of a 1×1 or 3×3 convolution with stride 1, packed once.
#[derive(Debug, Clone)]
pub(super) struct CpuConv {
    weights: Weights,
    bias: Vec<f32>,
    cin: usize,
    isa: Isa,
}

#[derive(Debug, Clone)]
enum Weights {
    Points(gemm::Packed),
    Around(same3::Conv<f32>),
}

impl CpuConv {
    /// True if these kernels compute such a convolution.
    pub fn serves(kernel: usize, stride: usize) -> bool {
        matches!(kernel, 1 | 3) && stride == 1
    }

    /// `weight`: `(out, in, k, k)`; `bias`: `(out)`; any float type, on the CPU.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (cout, cin, kernel, _) = weight.dims4()?;
        let flat = weight.to_dtype(DType::F32)?.permute((2, 3, 1, 0))?.flatten_all()?.to_vec1::<f32>()?;
        let weights = if kernel == 1 {
            Weights::Points(gemm::Packed::new(cout, &flat))
        } else {
            let padded = cin.next_multiple_of(16);
            let mut wide = vec![0.0; 9 * padded * cout];
            for (to, from) in wide.chunks_exact_mut(padded * cout).zip(flat.chunks_exact(cin * cout)) {
                to[..from.len()].copy_from_slice(from);
            }
            Weights::Around(same3::Conv::new(Algorithm::fastest::<f32>(padded, cout), cout, &wide))
        };
        let bias = match bias {
            Some(bias) => bias.to_dtype(DType::F32)?.to_vec1()?,
            None => vec![0.0; cout],
        };
        Ok(Self { weights, bias, cin, isa: Cpu::detect().isa })
    }

    /// `x`: `(B, H, W, in)`, f32 → `(B, H, W, out)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.contiguous()?.apply_op1_no_bwd(self)?)
    }

    /// `(H, W, in)` → `(H, W, out)`.
    fn picture(&self, x: &[f32], (h, w): (usize, usize)) -> Vec<f32> {
        // As many pieces for every thread, in pairs of rows; a pixel has the same bits whatever the piece.
        let threads = rayon::current_num_threads();
        let turns = (h * w / threads / PIECE).max(1);
        let rows = h.div_ceil(threads * turns).next_multiple_of(2);
        let (cin, cout) = (self.cin, self.bias.len());
        filled(h * w * cout, rows * w * cout, |at, out| {
            let mut scratch = SCRATCH.take();
            let Scratch { sums, window, around } = &mut *scratch;
            let (first, pixels) = (at / cout / w, out.len() / cout);
            match &self.weights {
                Weights::Points(packed) => {
                    self.pixels(packed, &x[first * w * cin..][..pixels * cin], out, sums);
                }
                Weights::Around(conv) => {
                    let n = pixels / w;
                    window.window(x, w, cin, first..first + n);
                    same3::forward(self.isa, window, conv, 0..n, around, |y, x, sums| {
                        self.store(conv.cout(), sums, &mut out[(y * w + x) * cout..]);
                    });
                }
            }
        })
    }

    /// 1×1: pixels are independent of where they lie.
    fn pixels(&self, packed: &gemm::Packed, x: &[f32], out: &mut [f32], scratch: &mut Vec<f32>) {
        let cout = self.bias.len();
        scratch.resize(CHUNK * packed.cout, 0.0);
        for (x, out) in x.chunks(CHUNK * self.cin).zip(out.chunks_mut(CHUNK * cout)) {
            let n = out.len() / cout;
            let run = Run { x, start: 0, step: self.cin, taps: &[0], k: self.cin, n };
            gemm::forward(self.isa, run, packed, scratch);
            self.store(packed.cout, &scratch[..n * packed.cout], out);
        }
    }

    /// Sums of some pixels, `padded` channels each, to where they belong.
    fn store(&self, padded: usize, sums: &[f32], out: &mut [f32]) {
        let cout = self.bias.len();
        for (sums, out) in sums.chunks_exact(padded).zip(out.chunks_exact_mut(cout)) {
            out.iter_mut().zip(sums).zip(&self.bias).for_each(|((o, s), b)| *o = s + b);
        }
    }
}

impl CustomOp1 for CpuConv {
    fn name(&self) -> &'static str {
        "i2sb-conv"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = layout.shape().dims4()?;
        if c != self.cin {
            candle_core::bail!("convolution of {c} channels, but the weights have {}", self.cin);
        }
        let x = contiguous::<f32>(x, layout)?;
        let cout = self.bias.len();
        let mut pictures = x.chunks_exact((h * w * c).max(1)).map(|x| self.picture(x, (h, w)));
        let mut out = pictures.next().unwrap_or_default();
        pictures.for_each(|next| out.extend(next));
        Ok((CpuStorage::F32(out), Shape::from((b, h, w, cout))))
    }
}
