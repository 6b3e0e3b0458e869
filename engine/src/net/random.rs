// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights drawn from a seed, for benchmarks and tests: made one tensor at a time, never all at once.

use std::path::Path;

use candle_core::{Device, Tensor};

use super::{NetworkConfig, params::TensorSource};
use crate::{Error, Result, noise};

/// Normal weights of deviation `1/√fan_in`; the first dimension counts as outputs, and tensors of one
/// dimension are close to 1 if their name ends in `weight` (norms), else close to 0 (biases).
pub struct RandomWeights {
    shapes: Vec<(String, Vec<usize>)>,
    seed: u64,
}

impl RandomWeights {
    /// Weights for `config`; equal seeds give equal weights.
    ///
    /// # Errors
    /// As [`NetworkConfig::tensors`].
    pub fn new(config: &NetworkConfig, seed: u64) -> Result<Self> {
        Ok(Self { shapes: config.tensors()?, seed })
    }
}

impl TensorSource for RandomWeights {
    fn origin(&self) -> &Path {
        Path::new("random weights")
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.shapes.clone()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let found = self.shapes.iter().position(|(n, _)| n == name);
        let at = found.ok_or_else(|| Error::file(self.origin(), format!("no tensor {name:?}")))?;
        let shape = &self.shapes[at].1;
        let (outputs, inputs) = match shape.as_slice() {
            [] => (1, 1),
            [only] => (1, *only),
            [first, rest @ ..] => (*first, rest.iter().product()),
        };
        let key = noise::NoiseKey { seed: self.seed, frame: at as u64, draw: 0 };
        let mut values = noise::normal(key, 1, 0..outputs, 0..inputs);
        let (mean, deviation) = match shape.len() {
            0 | 1 if name.ends_with("weight") => (1.0, 0.05),
            0 | 1 => (0.0, 0.05),
            _ => (0.0, 1.0 / (inputs.max(1) as f32).sqrt()),
        };
        values.iter_mut().for_each(|v| *v = mean + deviation * *v);
        Ok(Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?)
    }
}
