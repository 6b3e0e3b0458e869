// SPDX-License-Identifier: MIT OR Apache-2.0
//! The 3×3 convolution on bordered maps: forward, and the gradient of its weights.
//!
//! The gradient of its input is the same convolution with the kernel turned round. Forward has two
//! algorithms, chosen once per convolution: sums over taps, and [`super::winograd`].

use half::bf16;

use super::{
    Bf16, Cpu, amx, dot,
    finish::{self, Finish},
    gemm::{self, Run},
    isa::Isa,
    map::{Map, Value},
    planes::{interleave, transpose},
    points,
    winograd::{self, Squares},
};

/// Pixels computed before their results are handed on; a multiple of every block's rows.
const CHUNK: usize = 96;

/// A number type with its convolution kernels.
pub(crate) trait Kernel: Value {
    /// Weights as the kernel reads them.
    type Packed: Default + Clone + Send + Sync;

    /// Packs weights `[tap][k][cout]`, k a multiple of 16.
    fn pack(packed: &mut Self::Packed, taps: usize, cout: usize, w: &[f32]);
    /// Output channels, padded.
    fn cout(packed: &Self::Packed) -> usize;
    /// Sums of a run.
    fn run(isa: Isa, run: Run<'_, Self>, packed: &Self::Packed, out: &mut [f32]);
    /// Weights of the points of [`winograd`].
    type Points: Clone + std::fmt::Debug + Send + Sync;

    /// Packs the weights of each point, `[k][cout]`, k a multiple of 16.
    fn points(cout: usize, points: &[Vec<f32>]) -> Self::Points;
    /// Output channels, padded, and how many of them [`Kernel::products`] computes at a time.
    fn blocks(points: &Self::Points) -> (usize, usize);
    /// The products of some squares for a block of channels from `first` on; `out` gets, `product` values from one to
    /// the next, of each row of points the points themselves, or of [`Kernel::ROUNDED`] numbers the two sums of `m A`.
    fn products(
        isa: Isa,
        squares: Squares<'_, Self>,
        points: &Self::Points,
        first: usize,
        out: &mut [f32],
        product: usize,
    );
    /// Fewest weights of a tap for which [`winograd`] is faster than sums over taps.
    fn smallest() -> usize;
    /// True if maps hold less than the sums.
    const ROUNDED: bool;
    /// Adds the gradient of the weights, `[ky][kx][cin][cout]`; `scratch` is kept between calls.
    fn weight_grad(isa: Isa, x: &Map<Self>, dy: &Map<Self>, grad: &mut [f32], scratch: &mut Vec<Self>);
}

impl Kernel for f32 {
    type Packed = gemm::Packed;
    type Points = Vec<gemm::Packed>;
    const ROUNDED: bool = false;

    fn smallest() -> usize {
        0
    }
    fn pack(packed: &mut Self::Packed, _: usize, cout: usize, w: &[f32]) {
        packed.pack(cout, w);
    }
    fn cout(packed: &Self::Packed) -> usize {
        packed.cout
    }
    #[inline(always)]
    fn run(isa: Isa, run: Run<'_, Self>, packed: &Self::Packed, out: &mut [f32]) {
        gemm::forward(isa, run, packed, out);
    }
    fn points(cout: usize, points: &[Vec<f32>]) -> Self::Points {
        let pack = |w: &Vec<f32>| {
            let mut packed = gemm::Packed::default();
            packed.pack(cout, w);
            packed
        };
        points.iter().map(pack).collect()
    }
    fn blocks(points: &Self::Points) -> (usize, usize) {
        (points[0].cout, points[0].cout)
    }
    fn products(
        isa: Isa,
        s: Squares<'_, Self>,
        points: &Self::Points,
        _: usize,
        out: &mut [f32],
        product: usize,
    ) {
        let run = Run { x: s.x, start: 0, step: s.c, taps: &[0], k: s.c, n: s.n };
        gemm::forward_each(isa, run, winograd::apart(s.c), points, out, product);
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
    /// Those of `vdpbf16ps`, which every processor with bfloat16 has: with AMX nothing but tests come here.
    type Points = points::Points;
    const ROUNDED: bool = true;

    /// Tiles multiply so fast that turning squares would cost more than it saves.
    fn smallest() -> usize {
        if Cpu::detect().bf16 == Some(Bf16::Amx) { usize::MAX } else { 0 }
    }
    fn pack(packed: &mut Self::Packed, taps: usize, cout: usize, w: &[f32]) {
        match packed {
            PackedBf16::Dot(p) => p.pack(cout, w),
            PackedBf16::Amx(p) => p.pack(w.len() / (taps * cout), cout, w),
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
    fn points(cout: usize, points: &[Vec<f32>]) -> Self::Points {
        points::Points::new(cout, points)
    }
    fn blocks(points: &Self::Points) -> (usize, usize) {
        (points.cout, points::BLOCK)
    }
    fn products(
        _: Isa,
        s: Squares<'_, Self>,
        points: &Self::Points,
        first: usize,
        out: &mut [f32],
        product: usize,
    ) {
        points::halves(s.x, s.n, points, first, out, product);
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

/// Weights of one 3×3 convolution, ready for one of the two algorithms.
#[derive(Debug, Clone)]
pub(crate) enum Conv<T: Kernel> {
    Taps(T::Packed),
    Winograd(winograd::Packed<T>),
}

/// The algorithm of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Taps,
    Winograd,
}

/// Memory that a convolution works in; kept between calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch<T> {
    sums: Vec<f32>,
    squares: winograd::Scratch<T>,
}

impl Algorithm {
    /// Most weights of a tap for which [`winograd`] was measured to be the faster, down to maps of 8×8: its sixteen
    /// matrices do not stay in a cache then, but serve many squares.
    const LARGEST: usize = 1 << 21;

    /// The faster one for these channels.
    pub fn fastest<T: Kernel>(cin: usize, cout: usize) -> Self {
        if (T::smallest()..=Self::LARGEST).contains(&(cin * cout)) { Self::Winograd } else { Self::Taps }
    }
}

impl<T: Kernel> Conv<T> {
    /// `w`: `[ky][kx][cin][cout]`, cin a multiple of 16.
    pub fn new(algorithm: Algorithm, cout: usize, w: &[f32]) -> Self {
        match algorithm {
            Algorithm::Winograd => Self::Winograd(winograd::Packed::new(cout, w)),
            Algorithm::Taps => {
                let mut packed = T::Packed::default();
                T::pack(&mut packed, 3, cout, w);
                Self::Taps(packed)
            }
        }
    }

    /// Output channels, padded to 16.
    pub fn cout(&self) -> usize {
        match self {
            Self::Taps(packed) => T::cout(packed),
            Self::Winograd(packed) => packed.cout,
        }
    }
}

/// Convolves rows `rows` of `x`, an even first one and an even number of them except at the picture's
/// end, and hands each finished piece to `sink(y, x, sums)`, `sums` holding `cout` floats for each of
/// some neighbouring pixels of row y from column x on.
#[inline(always)]
pub(crate) fn forward<T: Kernel>(
    isa: Isa,
    x: &Map<T>,
    conv: &Conv<T>,
    rows: std::ops::Range<usize>,
    scratch: &mut Scratch<T>,
    mut sink: impl FnMut(usize, usize, &[f32]),
) {
    debug_assert!(rows.start % 2 == 0 && (rows.end % 2 == 0 || rows.end == x.h));
    let packed = match conv {
        Conv::Taps(packed) => packed,
        Conv::Winograd(packed) => return winograd::forward(isa, x, packed, rows, &mut scratch.squares, sink),
    };
    for y in rows {
        let taps = [0, 1, 2].map(|i| x.above(y + i));
        let run = Run { x: &x.data, start: 0, step: x.c, taps: &taps, k: 3 * x.c, n: x.w };
        in_pieces(isa, run, packed, scratch, |first, sums| sink(y, first, sums));
    }
}

/// As [`forward`] for one row or two, the first of them even; `finish` was made for them.
#[inline(always)]
pub(crate) fn finish<T: Kernel, F: Finish>(
    isa: Isa,
    x: &Map<T>,
    conv: &Conv<T>,
    rows: std::ops::Range<usize>,
    scratch: &mut Scratch<T>,
    finish: &mut F,
) {
    let first = rows.start;
    match conv {
        Conv::Winograd(packed) => winograd::finish(isa, x, packed, rows, &mut scratch.squares, finish),
        Conv::Taps(_) => forward(isa, x, conv, rows, scratch, |y, x, sums| {
            finish::give::<T, F>(isa, sums, conv.cout(), y - first, x, finish);
        }),
    }
}

/// Sums of a run, handed to `sink(p, sums)` as soon as some pixels from p on are finished.
#[inline(always)]
pub(crate) fn in_pieces<T: Kernel>(
    isa: Isa,
    run: Run<'_, T>,
    packed: &T::Packed,
    scratch: &mut Scratch<T>,
    mut sink: impl FnMut(usize, &[f32]),
) {
    let cout = T::cout(packed);
    scratch.sums.resize(CHUNK * cout, 0.0);
    for first in (0..run.n).step_by(CHUNK) {
        let n = (run.n - first).min(CHUNK);
        T::run(isa, Run { start: run.start + first * run.step, n, ..run }, packed, &mut scratch.sums);
        sink(first, &scratch.sums[..n * cout]);
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

    fn both<T: Kernel>(algorithm: Algorithm, [h, w, cin, cout]: [usize; 4]) -> (Vec<f32>, Vec<f32>) {
        let isa = Cpu::detect().isa;
        let (mut x, mut dy) = (Map::<T>::default(), Map::<T>::default());
        x.reset(h, w, cin);
        x.fill(isa, &values(h * w * cin, 1));
        dy.reset(h, w, cout);
        dy.fill(isa, &values(h * w * cout, 2));
        let conv = Conv::new(algorithm, cout, &values(9 * cin * cout, 3));
        let mut out = vec![f32::NAN; h * w * cout];
        forward(isa, &x, &conv, 0..h, &mut Scratch::default(), |y, x, sums| {
            out[(y * w + x) * cout..][..sums.len()].copy_from_slice(sums);
        });
        let mut grad = vec![0.0; 9 * cin * cout];
        T::weight_grad(isa, &x, &dy, &mut grad, &mut vec![]);
        (out, grad)
    }

    #[test]
    fn f32_equals_the_plain_sum() {
        for (shape, algorithm) in
            [[1, 1, 16, 16], [5, 7, 16, 48], [3, 130, 32, 16], [6, 251, 48, 32], [21, 23, 256, 16]]
                .into_iter()
                .flat_map(|shape| [(shape, Algorithm::Taps), (shape, Algorithm::Winograd)])
        {
            let [h, w, cin, cout] = shape;
            let (out, grad) = both::<f32>(algorithm, shape);
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
                assert!(
                    (f64::from(*got) - sum).abs() < 1e-3,
                    "{algorithm:?} {h}x{w}x{cin}x{cout} at {at}: {got} {sum}"
                );
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
        for shape in [[1, 1, 16, 16], [5, 7, 16, 32], [13, 9, 48, 48], [33, 40, 64, 16], [2, 97, 32, 80]] {
            let (a, ga) = both::<f32>(Algorithm::Taps, shape);
            let (b, gb) = both::<bf16>(Algorithm::Taps, shape);
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3), "{shape:?}");
            assert!(ga.iter().zip(&gb).all(|(a, b)| (a - b).abs() < 1e-3 * (1.0 + a.abs())), "{shape:?}");
            // Winograd rounds what it transforms: half a unit in the ninth place of each of 9·cin terms.
            let (b, _) = both::<bf16>(Algorithm::Winograd, shape);
            let far = a.iter().zip(&b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(far < 0.02 * ((9 * shape[2]) as f32).sqrt(), "{shape:?}: {far}");
        }
    }
}
