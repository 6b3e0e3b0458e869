// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ADM ("guided diffusion") UNet, SPEC sections 7 and 8.

pub(crate) mod attention;
mod config;
#[cfg(all(test, feature = "cudnn"))]
mod cuda_tests;
pub(crate) mod embedding;
mod infer;
pub(crate) mod layers;
pub(crate) mod norm;
#[cfg(feature = "cudnn")]
mod norm_cuda;
mod norm_grad;
mod original;
pub(crate) mod plan;
mod resample;
mod resample_cpu;
mod trace;
mod unet;

pub use config::AdmConfig;
pub use trace::Trace;
pub use unet::AdmNet;
