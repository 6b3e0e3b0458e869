// SPDX-License-Identifier: MIT OR Apache-2.0
//! The 3×3 convolution on bordered maps: forward, and the gradient of its weights.
//!
//! The gradient of its input is the same convolution with the kernel turned round. Forward has two
//! algorithms, chosen once per convolution: sums over taps, and [`super::winograd`].

use half::bf16;

use super::{
    Bf16, Cpu, amx, dot,
    finish::{self, Finish, Sums},
    gemm::{self, Run},
    isa::Isa,
    map::{Map, Value},
    points,
    winograd::{self, Squares},
};

/// Pixels computed before their results are handed on; a multiple of every block's rows.
const CHUNK: usize = 96;

/// A number type with its convolution kernels.
pub(crate) trait Kernel: Value {
    /// Weights as the kernel reads them.
    type Packed: Clone + Send + Sync;

    /// Packs weights `[tap][k][cout]`, k a multiple of 16.
    fn pack(taps: usize, cout: usize, w: &[f32]) -> Self::Packed;
    /// Output channels, padded.
    fn cout(packed: &Self::Packed) -> usize;
    /// Sums of a run.
    fn run(isa: Isa, run: Run<'_, Self>, packed: &Self::Packed, out: &mut [f32]);
    /// Hands the sums of a run to `finish`: `per` pixels of row `row` (0 or 1) for each of the run's, one after the other in
    /// its channels.
    #[inline(always)]
    fn finish<F: Finish>(
        isa: Isa,
        run: Run<'_, Self>,
        packed: &Self::Packed,
        (row, per): (usize, usize),
        scratch: &mut Scratch<Self>,
        finish: &mut F,
    ) {
        finish_pieces(isa, run, packed, (row, per), scratch, finish);
    }
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
    fn pack(_: usize, cout: usize, w: &[f32]) -> Self::Packed {
        gemm::Packed::new(cout, w)
    }
    fn cout(packed: &Self::Packed) -> usize {
        packed.cout
    }
    #[inline(always)]
    fn run(isa: Isa, run: Run<'_, Self>, packed: &Self::Packed, out: &mut [f32]) {
        gemm::forward(isa, run, packed, out);
    }
    fn points(cout: usize, points: &[Vec<f32>]) -> Self::Points {
        points.iter().map(|w| gemm::Packed::new(cout, w)).collect()
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
    Amx(amx::Packed<bf16>),
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
    fn pack(taps: usize, cout: usize, w: &[f32]) -> Self::Packed {
        let rounded: Vec<bf16> = w.iter().map(|w| <bf16 as Value>::from_f32(*w)).collect();
        match Cpu::detect().bf16 {
            Some(Bf16::Amx) => PackedBf16::Amx(amx::Packed::bf16(w.len() / (taps * cout), cout, &rounded)),
            _ => PackedBf16::Dot(dot::Packed::new(cout, &rounded)),
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
            PackedBf16::Amx(p) => amx::finish(run, p, (0, 1), &mut Sums { out, c: p.cout }),
        }
    }
    #[inline(always)]
    fn finish<F: Finish>(
        isa: Isa,
        run: Run<'_, Self>,
        packed: &Self::Packed,
        (row, per): (usize, usize),
        scratch: &mut Scratch<Self>,
        finish: &mut F,
    ) {
        match packed {
            PackedBf16::Amx(p) => amx::finish(run, p, (row, per), finish),
            PackedBf16::Dot(_) => finish_pieces(isa, run, packed, (row, per), scratch, finish),
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
        match Cpu::detect().bf16 {
            Some(Bf16::Amx) => amx::weight_grad(x, dy, grad, scratch),
            _ => dot::weight_grad(x, dy, grad, scratch),
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
            Algorithm::Taps => Self::Taps(T::pack(3, cout, w)),
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
        in_pieces(isa, beside(x, &around(x, y)), packed, scratch, |first, sums| sink(y, first, sums));
    }
}

/// Where the three rows begin that a 3×3 kernel on row y reads.
pub(crate) fn around<T: Copy + Default + Send + Sync>(x: &Map<T>, y: usize) -> [usize; 3] {
    [0, 1, 2].map(|i| x.above(y + i))
}

/// The run of a 3×3 kernel over those rows.
pub(crate) fn beside<'a, T>(x: &'a Map<T>, rows: &'a [usize; 3]) -> Run<'a, T> {
    Run { x: &x.data, start: 0, step: x.c, taps: rows, k: 3 * x.c, n: x.w }
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
    match conv {
        Conv::Winograd(packed) => winograd::finish(isa, x, packed, rows, &mut scratch.squares, finish),
        Conv::Taps(packed) => {
            for (row, y) in rows.enumerate() {
                T::finish(isa, beside(x, &around(x, y)), packed, (row, 1), scratch, finish);
            }
        }
    }
}

/// As [`Kernel::finish`], by way of sums in memory.
#[inline(always)]
fn finish_pieces<T: Kernel, F: Finish>(
    isa: Isa,
    run: Run<'_, T>,
    packed: &T::Packed,
    (row, per): (usize, usize),
    scratch: &mut Scratch<T>,
    finish: &mut F,
) {
    let c = T::cout(packed) / per;
    in_pieces(isa, run, packed, scratch, |p, sums| {
        finish::give::<T, F>(isa, sums, c, row, p * per, finish);
    });
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
#[path = "same3_tests.rs"]
mod tests;
