// SPDX-License-Identifier: MIT OR Apache-2.0
//! The flat parameters in the order in which the kernels read them.

use rayon::prelude::*;

use super::layout::{Conv, Kind, Layout};
use crate::ops::same3::{Algorithm, Conv as Conv3, Kernel};

/// One convolution of a network that restores.
#[derive(Clone)]
pub(super) enum PackedConv<T: Kernel> {
    Same(Conv3<T>),
    Halve(T::Packed),
    /// Even rows and odd ones.
    Double([T::Packed; 2]),
}

impl<T: Kernel> PackedConv<T> {
    pub fn same(&self) -> &Conv3<T> {
        match self {
            Self::Same(packed) => packed,
            _ => unreachable!("the layout gives blocks, stem and head 3×3 kernels"),
        }
    }
    pub fn halve(&self) -> &T::Packed {
        match self {
            Self::Halve(packed) => packed,
            _ => unreachable!("the layout gives `Down` steps 2×2 kernels"),
        }
    }
    pub fn double(&self) -> &[T::Packed; 2] {
        match self {
            Self::Double(packed) => packed,
            _ => unreachable!("the layout gives `Up` steps transposed 2×2 kernels"),
        }
    }
}

/// Packs every convolution of `params`.
pub(super) fn pack<T: Kernel>(layout: &Layout, params: &[f32]) -> Vec<PackedConv<T>> {
    let one = |c: &Conv| {
        let (cout, w) = (c.cout, straight(c, &params[c.weight..c.weight + c.weights()]));
        match c.kind {
            Kind::Same => PackedConv::Same(same3(c.cin.next_multiple_of(16), cout, &w)),
            Kind::Down => PackedConv::Halve(T::pack(2, cout, &w)),
            Kind::Up => {
                let (even, odd) = w.split_at(w.len() / 2);
                PackedConv::Double([even, odd].map(|w| T::pack(1, 2 * cout, w)))
            }
        }
    };
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

/// The weights `(cout, cin, side, side)` in another order: that of output o, input i, row y, column x goes to place
/// `at(o, i, y, x)` of `shape`; the rest is 0. A training does this in every step.
pub(super) fn dense(
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
