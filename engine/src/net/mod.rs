// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks: tensors in, tensor out; they know neither schedule nor sampler.

pub mod adm;
pub mod bridge;
pub mod params;
pub mod random;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use self::params::TensorSource;
use crate::{
    Cancel, Result,
    combine::{Term, weighted_sum},
    ops::Precision,
};

/// A network that estimates `(x_n − x0)/σ_n` (SPEC section 4) from the state `x_n`.
pub trait Network: Send + Sync {
    /// One evaluation.
    ///
    /// - `x`: `(B, in_channels, H, W)`, f32, nominal range [-1, 1]; H and W are multiples of
    ///   [`Network::stride`].
    /// - `noise_level`: one float per batch item (SPEC 2.1: 0.1 … 1000), `B` long.
    /// - `cancel`: checked between blocks.
    ///
    /// Returns `(B, out_channels, H, W)`, f32.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if `x` does not fit, [`crate::Error::Cancelled`] if asked to stop.
    fn forward(&self, x: &Tensor, noise_level: &[f32], cancel: &Cancel) -> Result<Tensor>;

    /// `state + weight·forward(x)`, the state being the first channels of `x`, as many as the network answers: in one
    /// pass through memory where a network can.
    ///
    /// # Errors
    /// As [`Network::forward`].
    fn added(&self, x: &Tensor, noise_level: &[f32], weight: f32, cancel: &Cancel) -> Result<Tensor> {
        added(self, x, noise_level, weight, cancel)
    }

    /// Channels of the input: 3, or 6 with `cond_x1`.
    fn in_channels(&self) -> usize;

    /// Height and width must be multiples of this many pixels.
    fn stride(&self) -> usize;

    /// How far, in pixels, an output pixel looks; a tile with this margin (cut on multiples of
    /// [`Network::stride`]) gives exactly the pixels of the whole frame. `None`: the network has
    /// global operations and must see the whole picture.
    fn halo(&self) -> Option<usize>;

    /// Multiply-accumulates per pixel of a picture of `height` × `width`.
    fn macs_per_pixel(&self, height: usize, width: usize) -> f64;
}

/// [`Network::added`], one after the other.
fn added<N: Network + ?Sized>(
    network: &N,
    x: &Tensor,
    noise_level: &[f32],
    weight: f32,
    cancel: &Cancel,
) -> Result<Tensor> {
    let output = network.forward(x, noise_level, cancel)?;
    let state = x.narrow(1, 0, output.dim(1)?)?;
    let terms = [Term { weights: &[1.0], tensor: &state }, Term { weights: &[weight], tensor: &output }];
    weighted_sum(&terms, None)
}

/// Shared: for those who want to ask the network something afterwards.
impl<N: Network + ?Sized> Network for Arc<N> {
    fn forward(&self, x: &Tensor, noise_level: &[f32], cancel: &Cancel) -> Result<Tensor> {
        (**self).forward(x, noise_level, cancel)
    }

    fn added(&self, x: &Tensor, noise_level: &[f32], weight: f32, cancel: &Cancel) -> Result<Tensor> {
        (**self).added(x, noise_level, weight, cancel)
    }

    fn in_channels(&self) -> usize {
        (**self).in_channels()
    }

    fn stride(&self) -> usize {
        (**self).stride()
    }

    fn halo(&self) -> Option<usize> {
        (**self).halo()
    }

    fn macs_per_pixel(&self, height: usize, width: usize) -> f64 {
        (**self).macs_per_pixel(height, width)
    }
}

/// What a network is built from, by family; the table `[network]` of a preset's `config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
#[non_exhaustive]
pub enum NetworkConfig {
    /// The guided-diffusion UNet of the original software.
    Adm(adm::AdmConfig),
    /// Our own U-Net, exact in tiles.
    Bridge(bridge::BridgeNetConfig),
}

impl NetworkConfig {
    /// Whether such a network can be built: every value in range, and they fit together.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] naming the value and its range.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Adm(config) => config.plan().map(drop),
            Self::Bridge(config) => config.check(),
        }
    }

    /// Channels of the input: 3, or 6 with `cond_x1`.
    pub fn in_channels(&self) -> usize {
        match self {
            Self::Adm(config) => config.in_channels,
            Self::Bridge(config) => config.in_channels,
        }
    }

    /// Names and shapes of all weights, in the order of the modules.
    ///
    /// # Errors
    /// As [`NetworkConfig::check`].
    pub fn tensors(&self) -> Result<Vec<(String, Vec<usize>)>> {
        match self {
            Self::Adm(config) => Ok(config.plan()?.tensors()),
            Self::Bridge(config) => {
                let layout = bridge::Layout::new(config)?;
                Ok(layout.entries().iter().map(|e| (e.name.clone(), e.shape.clone())).collect())
            }
        }
    }

    /// Builds the network, taking every tensor of `source` and needing no other.
    ///
    /// # Errors
    /// As [`NetworkConfig::check`], and [`crate::Error::File`] if the weights do not fit.
    pub fn build(
        &self,
        source: &dyn TensorSource,
        device: &Device,
        precision: Precision,
    ) -> Result<Box<dyn Network>> {
        match self {
            Self::Adm(config) => Ok(Box::new(adm::AdmNet::build(config, source, device, precision)?)),
            Self::Bridge(config) => {
                Ok(Box::new(bridge::BridgeNet::build(config, source, device, precision)?))
            }
        }
    }
}
