// SPDX-License-Identifier: MIT OR Apache-2.0
//! Winograd's minimal filtering F(2×2, 3×3) (Lavin and Gray 2016): 16 products for 4 sums instead of 36.
//!
//! A square of 4×4 inputs gives 2×2 sums: `Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`. Squares lie on even rows and
//! columns of the map, so a pixel has the same bits in every window that begins on even ones. Over
//! channels the 16 products are 16 matrix products, which the kernels of [`Kernel::run`] compute.

use super::{
    Cpu,
    gemm::Run,
    isa::Isa,
    map::{Map, Value},
    rows::for_each_isa,
    same3::Kernel,
};

/// Points of the transformed square.
const POINTS: usize = 16;
/// Channels that are transformed at once.
const LANES: usize = 16;

type Lane = [f32; LANES];

/// Weights of the 16 points.
#[derive(Debug, Clone)]
pub(crate) struct Packed<T: Kernel> {
    points: Vec<T::Packed>,
    /// Output channels, padded.
    pub cout: usize,
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
        let mut points = vec![T::Packed::default(); POINTS];
        let mut dense = vec![0.0; w.len() / 9];
        for (i, packed) in points.iter_mut().enumerate() {
            filter(isa, &G[i / 4], &G[i % 4], w, &mut dense);
            T::pack(packed, 1, cout, &dense);
        }
        Self { cout: T::cout(&points[0]), points }
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

/// Squares computed before their sums are handed on, a multiple of every block's rows: what they need
/// stays in the second-level cache.
const SQUARES: usize = 24;

/// As [`super::same3::forward`]; `rows` begins on an even row and ends on one or with the picture.
#[inline(always)]
pub(crate) fn forward<T: Kernel>(
    isa: Isa,
    x: &Map<T>,
    packed: &Packed<T>,
    rows: std::ops::Range<usize>,
    scratch: &mut Scratch<T>,
    mut sink: impl FnMut(usize, usize, &[f32]),
) {
    let (c, cout) = (x.c, packed.cout);
    let (input, product) = (SQUARES * c, SQUARES.next_multiple_of(32) * cout);
    // Products may read up to 32 squares and 32 values too far (ops::amx).
    scratch.inputs.resize(POINTS * input + 34 * c + 64, T::default());
    scratch.products.resize(POINTS * product, 0.0);
    scratch.sums.resize(4 * SQUARES * cout, 0.0);
    let across = x.w.div_ceil(2);
    for y in rows.clone().step_by(2) {
        let lines = [0, 1, 2, 3].map(|i| x.above(y + i));
        for first in (0..across).step_by(SQUARES) {
            let n = (across - first).min(SQUARES);
            let pixels = (2 * n).min(x.w - 2 * first);
            transform(isa, &x.data, lines.map(|line| line + 2 * first * c), c, &mut scratch.inputs, input, n);
            for (i, weights) in packed.points.iter().enumerate() {
                let run = Run { x: &scratch.inputs, start: i * input, step: c, taps: &[0], k: c, n };
                T::run(isa, run, weights, &mut scratch.products[i * product..][..product]);
            }
            let (top, bottom) = scratch.sums.split_at_mut(2 * SQUARES * cout);
            gather(isa, &scratch.products, product, cout, n, top, bottom);
            sink(y, 2 * first, &top[..pixels * cout]);
            if y + 1 < rows.end {
                sink(y + 1, 2 * first, &bottom[..pixels * cout]);
            }
        }
    }
}

#[inline(always)]
fn add(a: Lane, b: Lane) -> Lane {
    std::array::from_fn(|i| a[i] + b[i])
}

#[inline(always)]
fn sub(a: Lane, b: Lane) -> Lane {
    std::array::from_fn(|i| a[i] - b[i])
}

/// `Bᵀ d`.
#[inline(always)]
fn differences(d: [Lane; 4]) -> [Lane; 4] {
    [sub(d[0], d[2]), add(d[1], d[2]), sub(d[2], d[1]), sub(d[1], d[3])]
}

for_each_isa! {
    /// `out[point][square][c] = Bᵀ d B` for `n` squares, two pixels apart, `lines` the offsets of their
    /// four rows; `point` values from one point to the next.
    fn transform<T>(x: &[T], lines: [usize; 4], c: usize, out: &mut [T], point: usize, n: usize) {
        assert!(c % LANES == 0 && n * c <= point && out.len() >= POINTS * point);
        let lines = lines.map(|line| x[line..][..(2 * n + 2) * c].as_ptr());
        for at in (0..n * c).step_by(LANES) {
            // Pixels of a square are c values apart, squares 2c.
            let from = at / c * c + at;
            let columns: [[Lane; 4]; 4] = std::array::from_fn(|column| {
                let read = |line: *const T| {
                    // SAFETY: four lines of 2n + 2 pixels were cut above; `from` begins one of the first 2n − 1.
                    unsafe { line.add(from + column * c).cast::<[T; LANES]>().read() }.map(T::to_f32)
                };
                differences(lines.map(read))
            });
            let mut to = out[at..].as_mut_ptr();
            for i in 0..4 {
                for v in differences(columns.map(|column| column[i])) {
                    // SAFETY: `at` lies inside a point's n·c values, and there are sixteen points.
                    unsafe { to.cast::<[T; LANES]>().write(v.map(T::from_f32)) };
                    to = to.wrapping_add(point);
                }
            }
        }
    }
}

for_each_isa! {
    /// `Aᵀ m A` for `n` squares, `point` values from one point to the next: two pixels each of the rows
    /// `top` and `bottom`.
    fn gather(m: &[f32], point: usize, cout: usize, n: usize, top: &mut [f32], bottom: &mut [f32]) {
        assert!(cout % LANES == 0 && n * cout <= point && m.len() >= POINTS * point);
        assert!(top.len() >= 2 * n * cout && bottom.len() >= 2 * n * cout);
        for at in (0..n * cout).step_by(LANES) {
            let mut from = m[at..].as_ptr();
            let half: [[Lane; 2]; 4] = std::array::from_fn(|_| {
                let m: [Lane; 4] = std::array::from_fn(|_| {
                    // SAFETY: `at` lies inside a point's n·cout values, and there are sixteen points.
                    let v = unsafe { from.cast::<Lane>().read() };
                    from = from.wrapping_add(point);
                    v
                });
                [add(add(m[0], m[1]), m[2]), sub(sub(m[1], m[2]), m[3])]
            });
            for j in 0..2 {
                let m = half.map(|half| half[j]);
                let to = at / cout * cout + at + j * cout;
                top[to..][..LANES].copy_from_slice(&add(add(m[0], m[1]), m[2]));
                bottom[to..][..LANES].copy_from_slice(&sub(sub(m[1], m[2]), m[3]));
            }
        }
    }
}
