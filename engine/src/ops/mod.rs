// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one door to the operations that networks are made of.
//!
//! Activations are channels-last, `(B, H, W, C)`, contiguous. Weights keep the order of the
//! checkpoints, `(out, in, kh, kw)`.

mod amx;
mod conv;
mod conv_cpu;
#[cfg(feature = "cudnn")]
pub(crate) mod cuda;
mod dot;
pub(crate) mod finish;
pub(crate) mod gemm;
pub(crate) mod int8;
mod isa;
mod lanes;
pub(crate) mod lease;
pub(crate) mod map;
mod planes;
mod points;
mod precision;
pub(crate) mod resize2;
pub(crate) mod rows;
pub(crate) mod same3;
pub(crate) mod scales;
pub(crate) mod silu;
pub(crate) mod storage;
mod taps;
pub(crate) mod tiny;
pub(crate) mod transfer;
mod transform;
mod winograd;

pub use conv::Conv2d;
pub use isa::{Bf16, Cpu, Int8, Isa};
pub use precision::{PRECISIONS, Precision};
