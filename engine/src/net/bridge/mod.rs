// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `bridge` family: fully convolutional U-Nets made for video.
//!
//! No operation looks at the whole frame, so a tile with a margin of [`Network::halo`] pixels gives
//! exactly the pixels of the frame. The same sums are added in the same order whatever the tile,
//! the thread or the instruction set.

mod bytes;
mod calibration;
mod config;
#[cfg(feature = "cudnn")]
mod cuda;
mod flow;
mod fold;
mod layout;
mod learn;
mod packed;
mod reference;
mod run;
mod squares;
#[cfg(feature = "cudnn")]
mod tape;
mod time;
mod train;
mod trained;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use half::bf16;

pub use self::{
    calibration::{Calibration, activations, is_range},
    config::BridgeNetConfig,
    layout::{Entry, Layout},
    train::{Example, Learner, OutputLoss},
};
use super::{
    Network, added,
    params::{Params, TensorSource},
};
use crate::{
    Cancel, Error, Result,
    ops::{Cpu, Precision},
};

/// A `bridge` network with its weights, ready to run on one device in one precision.
pub struct BridgeNet {
    layout: Arc<Layout>,
    back_end: BackEnd,
}

enum BackEnd {
    CpuF32(run::Runner<f32>),
    CpuBf16(run::Runner<bf16>),
    CpuInt8(bytes::Runner),
    #[cfg(feature = "cudnn")]
    Cuda(cuda::Runner),
    Candle(Tensor),
}

impl BridgeNet {
    /// - `params`: every tensor of [`Layout::entries`], one after the other.
    /// - `precision`: [`Precision::F32`] everywhere; [`Precision::Bf16`] on processors that multiply it (AVX512_BF16,
    ///   AMX); each floating-point one on CUDA devices, with the feature `cudnn`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `params` has another length, [`Error::NotFinite`] if it holds NaN or
    /// infinity, [`Error::Setting`] if the device has no kernels in that precision.
    pub fn new(layout: Layout, params: Vec<f32>, device: &Device, precision: Precision) -> Result<Self> {
        check(&layout, &params)?;
        let layout = Arc::new(layout);
        let cpu = Cpu::detect();
        let back_end = match (device, precision) {
            (Device::Cpu, Precision::F32) => {
                BackEnd::CpuF32(run::Runner::new(layout.clone(), Arc::new(params), cpu.isa))
            }
            (Device::Cpu, Precision::Bf16) if cpu.bf16.is_some() => {
                BackEnd::CpuBf16(run::Runner::new(layout.clone(), Arc::new(params), cpu.isa))
            }
            (Device::Cpu, Precision::Bf16) => {
                let limit = "f32: this processor has no bfloat16 products (AVX512_BF16 or AMX)";
                return Err(Error::setting("precision", "bf16", limit));
            }
            #[cfg(feature = "cudnn")]
            (Device::Cuda(_), precision) => {
                BackEnd::Cuda(cuda::Runner::new(layout.clone(), params, device, precision.try_into()?)?)
            }
            (Device::Cpu, precision) => {
                let limit = "f32, bf16 or, if the preset was calibrated, int8 on a CPU";
                return Err(Error::setting("precision", precision.name(), limit));
            }
            (_, Precision::F32) => BackEnd::Candle(Tensor::from_vec(params, layout.len(), device)?),
            (_, precision) => {
                let limit = "f32 for bridge networks on this device";
                return Err(Error::setting("precision", precision.name(), limit));
            }
        };
        Ok(Self { layout, back_end })
    }

    /// The network in [`Precision::Int8`], on the CPU.
    ///
    /// - `ranges`: for each of [`activations`] its channels' least and greatest values, each an [`is_range`].
    ///
    /// # Errors
    /// As [`BridgeNet::new`]; [`Error::Shape`] and [`Error::Setting`] if the ranges are not such.
    pub fn in_bytes(layout: Layout, params: Vec<f32>, ranges: &[Vec<[f32; 2]>]) -> Result<Self> {
        check(&layout, &params)?;
        calibration::check(&layout, ranges)?;
        let layout = Arc::new(layout);
        let back_end = BackEnd::CpuInt8(bytes::Runner::new(layout.clone(), params, ranges, Cpu::detect()));
        Ok(Self { layout, back_end })
    }

    /// Builds the network from named tensors, taking every one of `source` and needing no other: those of the layout, and
    /// for [`Precision::Int8`] those of [`activations`].
    ///
    /// # Errors
    /// [`Error::File`] if names or shapes do not fit, and as [`BridgeNet::new`].
    pub fn build(
        config: &BridgeNetConfig,
        source: &dyn TensorSource,
        device: &Device,
        precision: Precision,
    ) -> Result<Self> {
        let layout = Layout::new(config)?;
        let root = Params::new(source, &Device::Cpu);
        let params = layout.values(&root)?;
        let ranges = match (device, precision) {
            (Device::Cpu, Precision::Int8) => Some(calibration::gather(&layout, &root)?),
            _ => None,
        };
        root.finish()?;
        match ranges {
            Some(ranges) => Self::in_bytes(layout, params, &ranges),
            None => Self::new(layout, params, device, precision),
        }
    }

    /// What the network is made of.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// The size of a batch that `net` takes.
///
/// # Errors
/// [`Error::Shape`] if it does not take such.
fn size(net: &impl Network, x: &Tensor, noise_level: &[f32]) -> Result<(usize, usize, usize, usize)> {
    let (b, c, h, w) = x.dims4()?;
    let (channels, stride) = (net.in_channels(), net.stride());
    if c != channels || h % stride != 0 || w % stride != 0 || noise_level.len() != b {
        let expected = format!("(B, {channels}, H, W), H and W multiples of {stride}, B noise levels");
        return Err(Error::shape("bridge network input", x.dims(), expected));
    }
    Ok((b, c, h, w))
}

/// # Errors
/// [`Error::Shape`], [`Error::NotFinite`].
fn check(layout: &Layout, params: &[f32]) -> Result<()> {
    if params.len() != layout.len() {
        return Err(Error::shape("network parameters", &[params.len()], layout.len()));
    }
    if let Some(value) = params.iter().find(|v| !v.is_finite()) {
        return Err(Error::NotFinite { what: "network parameters".into(), value: *value });
    }
    Ok(())
}

impl BridgeNet {
    fn on_cpu(
        &self,
        x: &Tensor,
        noise_level: &[f32],
        weight: Option<f32>,
        cancel: &Cancel,
    ) -> Result<Tensor> {
        // SAFETY: where a runner returns no error, every row of the picture has gone out.
        unsafe {
            run::each(self, x, noise_level, weight, |pictures, level| match &self.back_end {
                BackEnd::CpuF32(runner) => runner.forward(pictures, level, cancel),
                BackEnd::CpuBf16(runner) => runner.forward(pictures, level, cancel),
                BackEnd::CpuInt8(runner) => runner.forward(pictures, level, cancel),
                _ => unreachable!("asked for on the CPU alone"),
            })
        }
    }
}

impl Network for BridgeNet {
    fn forward(&self, x: &Tensor, noise_level: &[f32], cancel: &Cancel) -> Result<Tensor> {
        size(self, x, noise_level)?;
        cancel.check()?;
        match &self.back_end {
            BackEnd::Candle(params) => {
                let levels = Tensor::new(noise_level, x.device())?;
                reference::forward(&self.layout, params, x, &levels)
            }
            #[cfg(feature = "cudnn")]
            BackEnd::Cuda(runner) => runner.forward(x, noise_level),
            _ => self.on_cpu(x, noise_level, None, cancel),
        }
    }

    fn added(&self, x: &Tensor, noise_level: &[f32], weight: f32, cancel: &Cancel) -> Result<Tensor> {
        match &self.back_end {
            BackEnd::CpuF32(_) | BackEnd::CpuBf16(_) | BackEnd::CpuInt8(_) => {
                self.on_cpu(x, noise_level, Some(weight), cancel)
            }
            _ => added(self, x, noise_level, weight, cancel),
        }
    }

    fn in_channels(&self) -> usize {
        self.layout.config.in_channels
    }

    fn stride(&self) -> usize {
        self.layout.config.stride()
    }

    fn halo(&self) -> Option<usize> {
        Some(self.layout.halo())
    }

    fn macs_per_pixel(&self, _: usize, _: usize) -> f64 {
        self.layout.macs_per_pixel()
    }
}

#[cfg(test)]
mod bytes_tests;
#[cfg(all(test, feature = "cudnn"))]
mod cuda_tests;
#[cfg(test)]
mod tests;
