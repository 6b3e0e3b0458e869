// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights for both ways of a training, packed anew in each of its steps, and their gradients back in the flat vector.

use rayon::prelude::*;

use super::{
    layout::{Conv, Kind, Layout},
    packed::{dense, same3, straight},
};
use crate::ops::{
    gemm,
    same3::{Conv as Conv3, Kernel},
};

/// One convolution, for its output and for the gradient of its input. Between levels sums are not rounded.
pub(super) enum TrainedConv<T: Kernel> {
    Same {
        forward: Conv3<T>,
        backward: Conv3<T>,
    },
    Down {
        forward: gemm::Packed,
        /// Even rows and odd ones.
        backward: [gemm::Packed; 2],
    },
    Up {
        /// Even rows and odd ones.
        forward: [gemm::Packed; 2],
        backward: gemm::Packed,
    },
}

impl<T: Kernel> TrainedConv<T> {
    /// Forward and back.
    pub fn same(&self) -> (&Conv3<T>, &Conv3<T>) {
        match self {
            Self::Same { forward, backward } => (forward, backward),
            _ => unreachable!("the layout gives blocks, stem and head 3×3 kernels"),
        }
    }
    /// Forward and back.
    pub fn down(&self) -> (&gemm::Packed, &[gemm::Packed; 2]) {
        match self {
            Self::Down { forward, backward } => (forward, backward),
            _ => unreachable!("the layout gives `Down` steps 2×2 kernels"),
        }
    }
    /// Forward and back.
    pub fn up(&self) -> (&[gemm::Packed; 2], &gemm::Packed) {
        match self {
            Self::Up { forward, backward } => (forward, backward),
            _ => unreachable!("the layout gives `Up` steps transposed 2×2 kernels"),
        }
    }
}

/// Packs every convolution of `params`.
pub(super) fn pack<T: Kernel>(layout: &Layout, params: &[f32]) -> Vec<TrainedConv<T>> {
    layout.convs.par_iter().map(|c| pack_one(c, &params[c.weight..c.weight + c.weights()])).collect()
}

fn pack_one<T: Kernel>(c: &Conv, w: &[f32]) -> TrainedConv<T> {
    let halves = |cout: usize, w: &[f32]| {
        let (top, bottom) = w.split_at(w.len() / 2);
        [top, bottom].map(|w| gemm::Packed::new(cout, w))
    };
    let (cin, cout) = (c.cin, c.cout);
    let straight = straight(c, w);
    match c.kind {
        Kind::Same => {
            let (ci, co) = (cin.next_multiple_of(16), cout.next_multiple_of(16));
            let turned =
                dense(c, w, [3, 3, co, cin], |o, i, y, x| (((2 - y) * 3 + 2 - x) * co + o) * cin + i);
            TrainedConv::Same { forward: same3(ci, cout, &straight), backward: same3(co, cin, &turned) }
        }
        Kind::Down => {
            let turned = dense(c, w, [2, cout, 2, cin], |o, i, y, x| ((y * cout + o) * 2 + x) * cin + i);
            TrainedConv::Down {
                forward: gemm::Packed::new(cout, &straight),
                backward: halves(2 * cin, &turned),
            }
        }
        Kind::Up => {
            let turned = dense(c, w, [2, 2, cout, cin], |o, i, y, x| ((y * 2 + x) * cout + o) * cin + i);
            TrainedConv::Up {
                forward: halves(2 * cout, &straight),
                backward: gemm::Packed::new(cin, &turned),
            }
        }
    }
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
