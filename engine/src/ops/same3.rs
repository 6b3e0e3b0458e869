// SPDX-License-Identifier: MIT OR Apache-2.0
//! The 3×3 convolution on bordered maps: forward, and the gradient of its weights.
//!
//! The gradient of its input is the same convolution with the kernel turned round.

use half::bf16;

use super::{
    Bf16, Cpu, amx, dot,
    gemm::{self, Run},
    isa::Isa,
    map::{Map, Value},
};

/// Pixels computed before their results are handed on; a multiple of every block's rows.
const CHUNK: usize = 96;

/// A number type with its convolution kernels.
pub(crate) trait Kernel: Value {
    /// Weights as the kernel reads them.
    type Packed: Default + Clone + Send + Sync;

    /// Packs weights `[ky][kx][cin][cout]`, cin a multiple of 16.
    fn pack(packed: &mut Self::Packed, cout: usize, w: &[f32]);
    /// Output channels, padded.
    fn cout(packed: &Self::Packed) -> usize;
    /// Sums of a run.
    fn run(isa: Isa, run: Run<'_, Self>, packed: &Self::Packed, out: &mut [f32]);
    /// Adds the gradient of the weights, `[ky][kx][cin][cout]`; `scratch` is kept between calls.
    fn weight_grad(isa: Isa, x: &Map<Self>, dy: &Map<Self>, grad: &mut [f32], scratch: &mut Vec<Self>);
}

impl Kernel for f32 {
    type Packed = gemm::Packed;

    fn pack(packed: &mut Self::Packed, cout: usize, w: &[f32]) {
        packed.pack(cout, w);
    }
    fn cout(packed: &Self::Packed) -> usize {
        packed.cout
    }
    #[inline(always)]
    fn run(isa: Isa, run: Run<'_, Self>, packed: &Self::Packed, out: &mut [f32]) {
        gemm::forward(isa, run, packed, out);
    }
    fn weight_grad(isa: Isa, x: &Map<Self>, dy: &Map<Self>, grad: &mut [f32], _: &mut Vec<Self>) {
        let taps = [0, x.pitch(), 2 * x.pitch()];
        let run = Run { x: &x.data, start: 0, step: x.c, taps: &taps, k: 3 * x.c, n: x.w };
        let rows: Vec<_> = (0..x.h).map(|y| (y * x.pitch(), dy.at(y, 0))).collect();
        gemm::weight_grad(isa, run, &rows, &dy.data, dy.c, grad);
    }
}

/// Weights in bfloat16 as this processor's instructions want them.
#[derive(Debug, Clone)]
pub(crate) enum PackedBf16 {
    Dot(dot::Packed),
    Amx(amx::Packed),
}

impl Default for PackedBf16 {
    /// Only networks on processors with such products reach this (`Cpu::bf16`).
    fn default() -> Self {
        match Cpu::detect().bf16 {
            Some(Bf16::Amx) => Self::Amx(amx::Packed::default()),
            _ => Self::Dot(dot::Packed::default()),
        }
    }
}

impl Kernel for bf16 {
    type Packed = PackedBf16;

    fn pack(packed: &mut Self::Packed, cout: usize, w: &[f32]) {
        match packed {
            PackedBf16::Dot(p) => p.pack(cout, w),
            PackedBf16::Amx(p) => p.pack(w.len() / (3 * cout), cout, w),
        }
    }
    fn cout(packed: &Self::Packed) -> usize {
        match packed {
            PackedBf16::Dot(p) => p.cout,
            PackedBf16::Amx(p) => p.cout,
        }
    }
    #[inline(always)]
    fn run(_: Isa, run: Run<'_, Self>, packed: &Self::Packed, out: &mut [f32]) {
        match packed {
            PackedBf16::Dot(p) => dot::forward(run, p, out),
            PackedBf16::Amx(p) => amx::forward(run, p, out),
        }
    }
    /// Pixels are the inner dimension of this product, so `x` is turned into channel planes and
    /// pairs of pixels of `dy` are interleaved; border columns of `dy` are zero and add nothing.
    fn weight_grad(_: Isa, x: &Map<Self>, dy: &Map<Self>, grad: &mut [f32], scratch: &mut Vec<Self>) {
        let width = x.w + 2;
        let pixels = (x.h * width).next_multiple_of(32);
        let plane = pixels + 2 * width + 2;
        let (cin, cout) = (x.c, dy.c);
        scratch.clear();
        scratch.resize(cin * plane + pixels * cout, bf16::ZERO);
        let (planes, pairs) = scratch.split_at_mut(cin * plane);
        transpose(&x.data[..(x.h + 2) * width * cin], cin, planes, plane);
        interleave(&dy.data[dy.at(0, 0)..], x.h * width, cout, pairs);
        let shifts: [usize; 9] = std::array::from_fn(|t| t / 3 * width + t % 3);
        match Cpu::detect().bf16 {
            Some(Bf16::Amx) => amx::weight_grad(planes, plane, cin, &shifts, pairs, pixels, cout, grad),
            _ => dot::weight_grad(planes, plane, cin, &shifts, pairs, pixels, cout, grad),
        }
    }
}

/// `planes[c][q] = x[q][c]`, sixteen pixels by sixteen channels at a time.
fn transpose(x: &[bf16], c: usize, planes: &mut [bf16], plane: usize) {
    let n = x.len() / c;
    for q0 in (0..n).step_by(16) {
        let qs = (n - q0).min(16);
        for c0 in (0..c).step_by(16) {
            let mut block = [[bf16::ZERO; 16]; 16];
            for (q, row) in block.iter_mut().enumerate().take(qs) {
                row.copy_from_slice(&x[(q0 + q) * c + c0..][..16]);
            }
            for i in 0..16 {
                let out = &mut planes[(c0 + i) * plane + q0..][..qs];
                for (q, o) in out.iter_mut().enumerate() {
                    *o = block[q][i];
                }
            }
        }
    }
}

/// `pairs[q/2][c][q%2] = dy[q][c]` for the first `n` pixels.
fn interleave(dy: &[bf16], n: usize, c: usize, pairs: &mut [bf16]) {
    for (q, out) in pairs.chunks_exact_mut(2 * c).enumerate() {
        if 2 * q >= n {
            break;
        }
        let a = &dy[2 * q * c..][..c];
        let b = &dy[(2 * q + 1) * c..][..c];
        let odd = 2 * q + 1 < n;
        for ((o, a), b) in out.chunks_exact_mut(2).zip(a).zip(b) {
            o[0] = *a;
            o[1] = if odd { *b } else { bf16::ZERO };
        }
    }
}

/// Convolves rows `rows` of `x` and hands each finished piece to `sink(y, x, sums)`, `sums` holding
/// `cout` floats for each of some neighbouring pixels of row y from column x on.
#[inline(always)]
pub(crate) fn forward<T: Kernel>(
    isa: Isa,
    x: &Map<T>,
    packed: &T::Packed,
    rows: std::ops::Range<usize>,
    scratch: &mut Vec<f32>,
    mut sink: impl FnMut(usize, usize, &[f32]),
) {
    let (width, cout) = (x.w + 2, T::cout(packed));
    let taps = [0, x.pitch(), 2 * x.pitch()];
    scratch.resize(CHUNK * cout, 0.0);
    let end = (rows.end * width).saturating_sub(2);
    let mut q = rows.start * width;
    while q < end {
        let n = (end - q).min(CHUNK);
        let run = Run { x: &x.data, start: q * x.c, step: x.c, taps: &taps, k: 3 * x.c, n };
        T::run(isa, run, packed, scratch);
        let mut i = 0;
        while i < n {
            let (y, column) = ((q + i) / width, (q + i) % width);
            if column < x.w {
                let m = (x.w - column).min(n - i);
                sink(y, column, &scratch[i * cout..(i + m) * cout]);
                i += m;
            } else {
                i += width - column;
            }
        }
        q += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;

    /// Values that bfloat16 holds exactly, so that both precisions should find the same sums.
    fn values(n: usize, seed: u64) -> Vec<f32> {
        let mut s = Stream::new(seed, 0);
        (0..n).map(|_| s.below(64) as f32 / 32.0 - 1.0).collect()
    }

    fn both<T: Kernel>(h: usize, w: usize, cin: usize, cout: usize) -> (Vec<f32>, Vec<f32>) {
        let isa = Cpu::detect().isa;
        let (mut x, mut dy) = (Map::<T>::default(), Map::<T>::default());
        x.reset(h, w, cin);
        x.fill(isa, &values(h * w * cin, 1));
        dy.reset(h, w, cout);
        dy.fill(isa, &values(h * w * cout, 2));
        let mut packed = T::Packed::default();
        T::pack(&mut packed, cout, &values(9 * cin * cout, 3));
        let mut out = vec![f32::NAN; h * w * cout];
        forward(isa, &x, &packed, 0..h, &mut vec![], |y, x, sums| {
            out[(y * w + x) * cout..][..sums.len()].copy_from_slice(sums);
        });
        let mut grad = vec![0.0; 9 * cin * cout];
        T::weight_grad(isa, &x, &dy, &mut grad, &mut vec![]);
        (out, grad)
    }

    #[test]
    fn f32_equals_the_plain_sum() {
        for (h, w, cin, cout) in [(1, 1, 16, 16), (5, 7, 16, 48), (3, 130, 32, 16)] {
            let (out, grad) = both::<f32>(h, w, cin, cout);
            let (x, dy, k) = (values(h * w * cin, 1), values(h * w * cout, 2), values(9 * cin * cout, 3));
            let mut want_grad = vec![0f64; grad.len()];
            for (at, got) in out.iter().enumerate() {
                let (y, xx, o) = (at / cout / w, at / cout % w, at % cout);
                let mut sum = 0f64;
                for tap in 0..9 {
                    let (sy, sx) = ((y + tap / 3).wrapping_sub(1), (xx + tap % 3).wrapping_sub(1));
                    if sy < h && sx < w {
                        for i in 0..cin {
                            let v = f64::from(x[(sy * w + sx) * cin + i]);
                            sum += v * f64::from(k[(tap * cin + i) * cout + o]);
                            want_grad[(tap * cin + i) * cout + o] += v * f64::from(dy[at]);
                        }
                    }
                }
                assert!((f64::from(*got) - sum).abs() < 1e-3, "{h}x{w}x{cin}x{cout} at {at}: {got} {sum}");
            }
            for (g, want) in grad.iter().zip(&want_grad) {
                assert!((f64::from(*g) - want).abs() < 1e-3, "gradient {g} {want}");
            }
        }
    }

    #[test]
    fn bf16_equals_f32_where_values_are_exact() {
        if Cpu::detect().bf16.is_none() {
            println!("skipped: this processor has no bfloat16 products");
            return;
        }
        for (h, w, cin, cout) in
            [(1, 1, 16, 16), (5, 7, 16, 32), (13, 9, 48, 48), (33, 40, 64, 16), (2, 97, 32, 80)]
        {
            let ((a, ga), (b, gb)) = (both::<f32>(h, w, cin, cout), both::<bf16>(h, w, cin, cout));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3), "{h}x{w}x{cin}x{cout}");
            assert!(
                ga.iter().zip(&gb).all(|(a, b)| (a - b).abs() < 1e-3 * (1.0 + a.abs())),
                "{h}x{w}x{cin}x{cout}"
            );
        }
    }
}
