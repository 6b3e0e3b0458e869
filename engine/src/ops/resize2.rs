// SPDX-License-Identifier: MIT OR Apache-2.0
//! Halving by a 2×2 convolution with stride 2, doubling by its transpose, and the gradients of
//! their weights, on plain channels-last pictures in f32.
//!
//! Each is the gradient of the other with respect to the input.

use super::{
    gemm::{self, Packed, Run},
    isa::Isa,
};

/// `out[y][x][o] = Σ x[2y+i][2x+j][c] · w(i, j·c + c, o)`; `h` and `w` are the input's, even.
pub(crate) fn halve(isa: Isa, x: &[f32], (h, w, c): (usize, usize, usize), packed: &Packed, out: &mut [f32]) {
    let taps = [0, w * c];
    let row = w / 2 * packed.cout;
    for y in 0..h / 2 {
        let run = Run { x, start: 2 * y * w * c, step: 2 * c, taps: &taps, k: 2 * c, n: w / 2 };
        gemm::forward(isa, run, packed, &mut out[y * row..(y + 1) * row]);
    }
}

/// `out[2y+i][2x+j][o] = Σ x[y][x][c] · w_i(c, j·o + o)`; `h` and `w` are the input's.
pub(crate) fn double(
    isa: Isa,
    x: &[f32],
    (h, w, c): (usize, usize, usize),
    packed: &[Packed; 2],
    out: &mut [f32],
) {
    let row = w * packed[0].cout;
    for y in 0..h {
        let run = Run { x, start: y * w * c, step: c, taps: &[0], k: c, n: w };
        for (i, packed) in packed.iter().enumerate() {
            let at = (2 * y + i) * row;
            gemm::forward(isa, run, packed, &mut out[at..at + row]);
        }
    }
}

/// Adds the gradient of [`halve`]'s weights, `[i][j·c + c][cout]`.
pub(crate) fn halve_grad(
    isa: Isa,
    x: &[f32],
    (h, w, c): (usize, usize, usize),
    dy: &[f32],
    cout: usize,
    grad: &mut [f32],
) {
    let taps = [0, w * c];
    let rows: Vec<_> = (0..h / 2).map(|y| (2 * y * w * c, y * (w / 2) * cout)).collect();
    let run = Run { x, start: 0, step: 2 * c, taps: &taps, k: 2 * c, n: w / 2 };
    gemm::weight_grad(isa, run, &rows, dy, cout, grad);
}

/// Adds the gradient of [`double`]'s weights, `[i][c][j·cout + o]`; `h` and `w` are the input's.
pub(crate) fn double_grad(
    isa: Isa,
    x: &[f32],
    (h, w, c): (usize, usize, usize),
    dy: &[f32],
    cout: usize,
    grad: &mut [f32],
) {
    let run = Run { x, start: 0, step: c, taps: &[0], k: c, n: w };
    for (i, grad) in grad.chunks_exact_mut(c * 2 * cout).enumerate() {
        let rows: Vec<_> = (0..h).map(|y| (y * w * c, (2 * y + i) * w * 2 * cout)).collect();
        gemm::weight_grad(isa, run, &rows, dy, 2 * cout, grad);
    }
}
