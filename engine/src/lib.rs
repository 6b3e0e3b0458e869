// SPDX-License-Identifier: MIT OR Apache-2.0
//! Image-to-Image Schrödinger Bridges (I²SB, arXiv 2302.05872) on candle.
//!
//! A bridge is a diffusion between two pictures: `x0`, the clean one, and `x1`, the degraded one.
//! This crate holds the whole of it: the noise schedule, the bridge's kernels, the samplers, the
//! networks, the degradations they are trained on, the trainer, and the file formats.

pub mod atomic;
pub mod bridge;
pub mod cancel;
pub mod checkpoint;
pub mod combine;
pub mod degrade;
pub mod denoiser;
pub mod device;
pub mod drawing;
pub mod error;
pub mod memory;
pub mod metric;
pub mod net;
pub mod noise;
pub mod ops;
pub mod picture;
pub mod pixel;
pub mod preset;
pub mod restore;
pub mod sampler;
pub mod schedule;
pub mod tile;
pub mod train;
pub mod verify;

pub use cancel::Cancel;
pub use error::{Error, Result};
