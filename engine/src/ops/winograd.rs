// SPDX-License-Identifier: MIT OR Apache-2.0
//! Winograd's minimal filtering F(2×2, 3×3) (Lavin and Gray 2016): 16 products for 4 sums instead of 36.
//!
//! A square of 4×4 inputs gives 2×2 sums: `Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`. Squares lie on even rows and
//! columns of the map, so a pixel has the same bits in every window that begins on even ones. Over
//! channels the 16 products are 16 matrix products, which [`Kernel::products`] computes.

use std::ops::Range;

use super::{
    Cpu,
    finish::Finish,
    isa::Isa,
    lanes::{Lanes, Plain},
    map::Map,
    rows::for_each_isa,
    same3::Kernel,
    transform::transform,
};

/// Points of the transformed square.
pub(super) const POINTS: usize = 16;
/// Channels that any register divides.
pub(super) const LANES: usize = 16;

/// Weights of the 16 points.
#[derive(Debug, Clone)]
pub(crate) struct Packed<T: Kernel> {
    points: T::Points,
    /// Output channels, padded.
    pub cout: usize,
    /// Those computed at a time.
    block: usize,
}

/// Memory for some squares; kept between calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch<T> {
    inputs: Vec<T>,
    products: Vec<f32>,
    sums: Vec<f32>,
}

impl<T: Kernel> Packed<T> {
    /// `w`: `[ky][kx][cin][cout]`, cin a multiple of 16.
    pub fn new(cout: usize, w: &[f32]) -> Self {
        let isa = Cpu::detect().isa;
        let mut points = vec![vec![0.0; w.len() / 9]; POINTS];
        for (i, dense) in points.iter_mut().enumerate() {
            filter(isa, &G[i / 4], &G[i % 4], w, dense);
        }
        let points = T::points(cout, &points);
        let (cout, block) = T::blocks(&points);
        Self { points, cout, block }
    }
}

/// Turns three values of a kernel into four.
const G: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

for_each_isa! {
    /// One point of `G g Gᵀ` for kernels `[ky][kx][…]`.
    fn filter(down: &[f32; 3], across: &[f32; 3], w: &[f32], out: &mut [f32]) {
        let n = out.len();
        let taps: [&[f32]; 9] = std::array::from_fn(|t| &w[t * n..][..n]);
        let factors: [f32; 9] = std::array::from_fn(|t| down[t / 3] * across[t % 3]);
        for (i, out) in out.iter_mut().enumerate() {
            let mut sum = 0.0;
            for (tap, factor) in taps.iter().zip(factors) {
                sum += tap[i] * factor;
            }
            *out = sum;
        }
    }
}

/// Squares of `c` input channels computed before their sums are handed on, a multiple of every block's rows. Few
/// stay in a near cache with all that they need; many channels have matrices that do not, and are worth reading only
/// for many squares.
const fn together(c: usize) -> usize {
    if c < 256 { 24 } else { 96 }
}

/// Values from one point to the next of all these squares, a little more than they are: powers of two would lie in
/// the same places of a cache.
const fn spread(squares: usize, c: usize) -> usize {
    squares * c + 16
}

/// Values from one point of `c` input channels to the next.
pub(super) const fn apart(c: usize) -> usize {
    spread(together(c), c)
}

/// Some transformed squares of `c` channels: the matrices of their points, [`apart`] values from one to the next.
pub(crate) struct Squares<'a, T> {
    pub x: &'a [T],
    pub c: usize,
    pub n: usize,
}

/// Products of some neighbouring squares, as [`Kernel::products`] leaves them: `point` values from one to the next.
struct Products<'a> {
    m: &'a [f32],
    point: usize,
    /// The first channel, and how many.
    first: usize,
    channels: usize,
    /// Squares side by side, and pixels of a row of theirs that are in the picture.
    n: usize,
    pixels: usize,
    /// First row and column.
    y: usize,
    x: usize,
    /// Squares that were computed together before these.
    at: usize,
}

/// As [`super::same3::forward`]; `rows` begins on an even row and ends on one or with the picture.
#[inline(always)]
pub(crate) fn forward<T: Kernel>(
    isa: Isa,
    x: &Map<T>,
    packed: &Packed<T>,
    rows: Range<usize>,
    scratch: &mut Scratch<T>,
    mut sink: impl FnMut(usize, usize, &[f32]),
) {
    let (cout, row) = (packed.cout, 2 * together(x.c) * packed.cout);
    let mut sums = std::mem::take(&mut scratch.sums);
    sums.resize(2 * row, 0.0);
    squares(isa, x, packed, rows.clone(), scratch, |p| {
        let (y, x, count, place) = (p.y, p.x, (rows.end - p.y).min(2), 2 * p.at);
        let (top, bottom) = sums.split_at_mut(row);
        let mut kept = Kept { rows: [top, bottom], c: cout };
        leave::<T, _>(isa, &Products { x: place, ..p }, cout, count, &mut kept);
        if p.first + p.channels < cout {
            return;
        }
        for (row, sums) in kept.rows.iter().take(count).enumerate() {
            sink(y + row, x, &sums[place * cout..][..p.pixels * cout]);
        }
    });
    scratch.sums = sums;
}

/// Keeps sums as they are, pixel by pixel.
struct Kept<'a> {
    rows: [&'a mut [f32]; 2],
    c: usize,
}

impl Finish for Kept<'_> {
    fn fits(&self, rows: usize, w: usize, c: usize) -> bool {
        rows <= 2 && c == self.c && self.rows.iter().all(|row| row.len() >= w * c)
    }

    #[inline(always)]
    unsafe fn take<L: Lanes>(&mut self, sums: L, row: usize, x: usize, channel: usize) {
        // SAFETY: the caller's contract.
        unsafe { sums.store(self.rows[row].as_mut_ptr().add(x * self.c + channel)) }
    }
}

/// As [`super::same3::finish`], with the same rows as [`forward`].
#[inline(always)]
pub(crate) fn finish<T: Kernel, F: Finish>(
    isa: Isa,
    x: &Map<T>,
    packed: &Packed<T>,
    rows: Range<usize>,
    scratch: &mut Scratch<T>,
    finish: &mut F,
) {
    let (cout, count) = (packed.cout, rows.len());
    assert!(count <= 2);
    squares(isa, x, packed, rows, scratch, |p| leave::<T, _>(isa, &p, cout, count, finish));
}

/// `Aᵀ m A` of some squares, whose pixels `finish` takes.
fn leave<T: Kernel, F: Finish>(isa: Isa, p: &Products<'_>, cout: usize, rows: usize, finish: &mut F) {
    let sums = if T::ROUNDED { POINTS / 2 } else { POINTS };
    assert!(p.channels % LANES == 0 && p.first + p.channels <= cout);
    assert!(p.n * p.channels <= p.point && p.m.len() >= (sums - 1) * p.point + p.n * p.channels);
    assert!(p.pixels <= 2 * p.n && finish.fits(rows, p.x + p.pixels, cout));
    match isa {
        // SAFETY: `Isa` says that the processor has it; bounds were checked above; kernels of rounded numbers exist
        // only with AVX512_BF16.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if T::ROUNDED => unsafe { x86::leave_bf16(p, rows, finish) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::leave_avx512(p, rows, finish) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if !T::ROUNDED => unsafe { x86::leave_avx2(p, rows, finish) },
        _ if T::ROUNDED => unreachable!("Cpu::bf16 is none here"),
        // SAFETY: plain Rust on checked bounds.
        _ => unsafe { leave_lanes::<Plain, F, 4>(p, rows, finish) },
    }
}

/// Neighbouring squares of one pair of rows.
struct Strip {
    y: usize,
    /// The first square, and how many.
    first: usize,
    n: usize,
}

/// The products of all squares of these rows, some at a time; all channels of some before the next.
#[inline(always)]
fn squares<T: Kernel>(
    isa: Isa,
    x: &Map<T>,
    packed: &Packed<T>,
    rows: Range<usize>,
    scratch: &mut Scratch<T>,
    mut take: impl FnMut(Products<'_>),
) {
    let (c, most) = (x.c, together(x.c));
    let (input, product) = (apart(c), spread(most, packed.block));
    scratch.inputs.resize(POINTS * input, T::default());
    scratch.products.resize(POINTS * product, 0.0);
    let across = x.w.div_ceil(2);
    let all = rows.len().div_ceil(2) * across;
    for start in (0..all).step_by(most) {
        let end = (start + most).min(all);
        let strips = || {
            (start / across..end.div_ceil(across)).map(|row| {
                let (first, last) = (start.max(row * across), end.min((row + 1) * across));
                Strip { y: rows.start + 2 * row, first: first - row * across, n: last - first }
            })
        };
        let mut done = 0;
        for Strip { y, first, n } in strips() {
            let lines = [0, 1, 2, 3].map(|i| x.above(y + i) + 2 * first * c);
            transform(isa, &x.data, lines, c, &mut scratch.inputs[done * c..], input, n);
            done += n;
        }
        for channel in (0..packed.cout).step_by(packed.block) {
            let squares = Squares { x: &scratch.inputs, c, n: done };
            T::products(isa, squares, &packed.points, channel, &mut scratch.products, product);
            let mut at = 0;
            for Strip { y, first, n } in strips() {
                let (m, channels, x0) = (&scratch.products[at * packed.block..], packed.block, 2 * first);
                let pixels = (2 * n).min(x.w - x0);
                take(Products { m, point: product, first: channel, channels, n, pixels, y, x: x0, at });
                at += n;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{Finish, Products, leave_lanes};

    macro_rules! compile {
        ($leave:ident, $lanes:ty, $left:literal, $features:literal) => {
            #[target_feature(enable = $features)]
            pub unsafe fn $leave<F: Finish>(p: &Products<'_>, rows: usize, finish: &mut F) {
                // SAFETY: same contract.
                unsafe { leave_lanes::<$lanes, F, $left>(p, rows, finish) }
            }
        };
    }
    compile!(leave_avx512, __m512, 4, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
    compile!(leave_bf16, __m512, 2, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma");
    compile!(leave_avx2, __m256, 4, "avx2,fma");
}

/// A row of `Aᵀ m`.
///
/// # Safety
/// The caller has the instruction set of `L`.
#[inline(always)]
unsafe fn sums<L: Lanes>(m: [L; 4]) -> [L; 2] {
    // SAFETY: the caller's contract.
    unsafe { [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).sub(m[3])] }
}

/// `m A` of one row of points, from the points, or where two are `LEFT` of each row, from memory.
///
/// # Safety
/// That many must be good for a register each; the caller has the instruction set of `L`.
#[inline(always)]
unsafe fn half<L: Lanes, const LEFT: usize>(m: *const f32, point: usize) -> [L; 2] {
    // SAFETY: the caller's contract.
    unsafe {
        if LEFT == 2 {
            return [L::load(m), L::load(m.add(point))];
        }
        sums([L::load(m), L::load(m.add(point)), L::load(m.add(2 * point)), L::load(m.add(3 * point))])
    }
}

/// # Safety
/// As [`leave`] checks.
#[inline(always)]
unsafe fn leave_lanes<L: Lanes, F: Finish, const LEFT: usize>(p: &Products<'_>, rows: usize, finish: &mut F) {
    for square in 0..p.n {
        for i in (0..p.channels).step_by(L::N) {
            // SAFETY: `m` holds `LEFT` times four sums of at least n·channels values; pixels and rows are in the picture.
            unsafe {
                let from = p.m.as_ptr().add(square * p.channels + i);
                let row = |r: usize| half::<L, LEFT>(from.add(r * LEFT * p.point), p.point);
                let ([a, b], [c, d]) = ([row(0), row(1)], [row(2), row(3)]);
                for j in 0..2 {
                    let ([top, bottom], x) = (sums([a[j], b[j], c[j], d[j]]), 2 * square + j);
                    if x < p.pixels {
                        finish.take(top, 0, p.x + x, p.first + i);
                        if rows == 2 {
                            finish.take(bottom, 1, p.x + x, p.first + i);
                        }
                    }
                }
            }
        }
    }
}
