// SPDX-License-Identifier: MIT OR Apache-2.0
//! The flat parameters in the order in which the kernels read them, and kernel gradients back.

use rayon::prelude::*;

use super::layout::{Conv, Kind, Layout};
use crate::ops::{
    gemm,
    same3::{Algorithm, Conv as Conv3, Kernel},
};

/// One convolution, for its output and, in a training, for the gradient of its input.
#[derive(Clone)]
pub(super) enum PackedConv<T: Kernel> {
    Same {
        forward: Conv3<T>,
        backward: Option<Conv3<T>>,
    },
    Halve(T::Packed),
    /// Even rows and odd ones.
    Double([T::Packed; 2]),
    /// In a training, whose sums are not rounded between levels.
    Down {
        forward: gemm::Packed,
        backward: [gemm::Packed; 2],
    },
    Up {
        forward: [gemm::Packed; 2],
        backward: gemm::Packed,
    },
}

impl<T: Kernel> PackedConv<T> {
    /// Forward, and for a training back.
    pub fn same(&self) -> (&Conv3<T>, Option<&Conv3<T>>) {
        match self {
            Self::Same { forward, backward } => (forward, backward.as_ref()),
            _ => unreachable!("the layout gives blocks, stem and head 3×3 kernels"),
        }
    }
    /// Down, outside a training.
    pub fn halve(&self) -> &T::Packed {
        match self {
            Self::Halve(packed) => packed,
            _ => unreachable!("the layout gives `Down` steps 2×2 kernels"),
        }
    }
    /// Up, outside a training.
    pub fn double(&self) -> &[T::Packed; 2] {
        match self {
            Self::Double(packed) => packed,
            _ => unreachable!("the layout gives `Up` steps transposed 2×2 kernels"),
        }
    }
    pub fn down(&self) -> (&gemm::Packed, &[gemm::Packed; 2]) {
        match self {
            Self::Down { forward, backward } => (forward, backward),
            _ => unreachable!("the layout gives `Down` steps 2×2 kernels"),
        }
    }
    pub fn up(&self) -> (&[gemm::Packed; 2], &gemm::Packed) {
        match self {
            Self::Up { forward, backward } => (forward, backward),
            _ => unreachable!("the layout gives `Up` steps transposed 2×2 kernels"),
        }
    }
}

/// Packs every convolution of `params`, with 3×3 kernels for the way back if it is `trained`.
pub(super) fn pack<T: Kernel>(layout: &Layout, params: &[f32], trained: bool) -> Vec<PackedConv<T>> {
    let one = |c: &Conv| pack_one(c, &params[c.weight..c.weight + c.weights()], trained);
    layout.convs.par_iter().map(one).collect()
}

/// A 3×3 kernel `[ky][kx][cin][cout]`, cin a multiple of 16, for the faster algorithm.
pub(super) fn same3<T: Kernel>(cin: usize, cout: usize, w: &[f32]) -> Conv3<T> {
    Conv3::new(Algorithm::fastest::<T>(cin, cout), cout, w)
}

/// The weights in the order of the sums: `[ky][kx][cin][cout]`, cin padded to a multiple of 16 where the kernel is 3×3;
/// for `Up` `[ky][cin][kx][cout]`, the kernels of even rows and those of odd ones.
pub(super) fn straight(c: &Conv, w: &[f32]) -> Vec<f32> {
    let (cin, cout) = (c.cin, c.cout);
    match c.kind {
        Kind::Same => {
            let ci = cin.next_multiple_of(16);
            dense(c, w, [3, 3, ci, cout], |o, i, y, x| ((y * 3 + x) * ci + i) * cout + o)
        }
        Kind::Down => dense(c, w, [2, 2, cin, cout], |o, i, y, x| ((y * 2 + x) * cin + i) * cout + o),
        Kind::Up => dense(c, w, [2, cin, 2, cout], |o, i, y, x| ((y * cin + i) * 2 + x) * cout + o),
    }
}

fn pack_one<T: Kernel>(c: &Conv, w: &[f32], trained: bool) -> PackedConv<T> {
    let halves = |cout: usize, w: &[f32]| {
        let (top, bottom) = w.split_at(w.len() / 2);
        [top, bottom].map(|w| gemm::Packed::new(cout, w))
    };
    let (cin, cout) = (c.cin, c.cout);
    let straight = straight(c, w);
    match c.kind {
        Kind::Same => {
            let (ci, co) = (cin.next_multiple_of(16), cout.next_multiple_of(16));
            let forward = same3(ci, cout, &straight);
            let backward = trained.then(|| {
                let turned =
                    dense(c, w, [3, 3, co, cin], |o, i, y, x| (((2 - y) * 3 + 2 - x) * co + o) * cin + i);
                same3(co, cin, &turned)
            });
            PackedConv::Same { forward, backward }
        }
        Kind::Down => {
            if !trained {
                return PackedConv::Halve(T::pack(2, cout, &straight));
            }
            let turned = dense(c, w, [2, cout, 2, cin], |o, i, y, x| ((y * cout + o) * 2 + x) * cin + i);
            PackedConv::Down {
                forward: gemm::Packed::new(cout, &straight),
                backward: halves(2 * cin, &turned),
            }
        }
        Kind::Up => {
            if !trained {
                let (even, odd) = straight.split_at(straight.len() / 2);
                return PackedConv::Double([even, odd].map(|w| T::pack(1, 2 * cout, w)));
            }
            let turned = dense(c, w, [2, 2, cout, cin], |o, i, y, x| ((y * 2 + x) * cout + o) * cin + i);
            PackedConv::Up { forward: halves(2 * cout, &straight), backward: gemm::Packed::new(cin, &turned) }
        }
    }
}

/// The weights `(cout, cin, side, side)` in another order: that of output o, input i, row y, column x goes to place
/// `at(o, i, y, x)` of `shape`; the rest is 0. A training does this in every step.
fn dense(
    c: &Conv,
    w: &[f32],
    shape: [usize; 4],
    at: impl Fn(usize, usize, usize, usize) -> usize,
) -> Vec<f32> {
    let mut out = vec![0.0; shape.iter().product()];
    let side = c.side();
    for (o, of_output) in w.chunks_exact(c.cin * side * side).enumerate() {
        for (i, square) in of_output.chunks_exact(side * side).enumerate() {
            for (y, row) in square.chunks_exact(side).enumerate() {
                row.iter().enumerate().for_each(|(x, value)| out[at(o, i, y, x)] = *value);
            }
        }
    }
    out
}

/// Length of a convolution's weight gradient in kernel order.
pub(super) fn grad_len(c: &Conv) -> usize {
    match c.kind {
        Kind::Same => 9 * c.cin.next_multiple_of(16) * c.cout.next_multiple_of(16),
        _ => c.weights(),
    }
}

/// Adds a weight gradient in kernel order to the weights', `(cout, cin, side, side)`.
pub(super) fn unpack_grad(c: &Conv, grad: &[f32], flat: &mut [f32]) {
    let side = c.side();
    let (ci, co) = (c.cin.next_multiple_of(16), c.cout.next_multiple_of(16));
    // Input channels first: what is read and what is written then lies beside what the last step touched.
    for i in 0..c.cin {
        for o in 0..c.cout {
            let to = &mut flat[(o * c.cin + i) * side * side..][..side * side];
            for (at, to) in to.iter_mut().enumerate() {
                let (y, x) = (at / side, at % side);
                *to += grad[match c.kind {
                    Kind::Same => ((y * 3 + x) * ci + i) * co + o,
                    Kind::Down => (y * 2 * c.cin + x * c.cin + i) * c.cout + o,
                    Kind::Up => (y * c.cin + i) * 2 * c.cout + x * c.cout + o,
                }];
            }
        }
    }
}
