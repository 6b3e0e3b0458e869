// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights of one network made to fit a neighbouring one (SPEC section 9.2).

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::{
    Error, Result,
    net::{adm::AdmConfig, params::TensorSource},
    noise::Stream,
};

const ENTRANCE: &str = "input_blocks.0.0.weight";
const HEAD: [&str; 2] = ["out.2.weight", "out.2.bias"];
/// Stream of the random numbers for new input channels.
const STREAM: u64 = 0x61_64_6d;

/// An ADM network's weights with another number of channels at its two ends.
///
/// - Fewer output channels: the first ones are kept. A learned-sigma head holds the means first.
/// - More input channels: new ones are drawn uniformly from ±1/√(9·inputs), as a fresh convolution's.
pub struct Adapted<'a> {
    inner: &'a dyn TensorSource,
    inputs: usize,
    outputs: usize,
    seed: u64,
}

impl<'a> Adapted<'a> {
    /// Makes the weights of `from` fit `to`; `seed` draws what is new.
    ///
    /// # Errors
    /// [`Error::Setting`] if `to` has fewer inputs or more outputs than `from`.
    pub fn new(inner: &'a dyn TensorSource, from: &AdmConfig, to: &AdmConfig, seed: u64) -> Result<Self> {
        if to.in_channels < from.in_channels {
            return Err(Error::setting(
                "in_channels",
                to.in_channels,
                format!("at least {}", from.in_channels),
            ));
        }
        if to.out_channels > from.out_channels {
            return Err(Error::setting(
                "out_channels",
                to.out_channels,
                format!("at most {}", from.out_channels),
            ));
        }
        Ok(Self { inner, inputs: to.in_channels, outputs: to.out_channels, seed })
    }
}

impl TensorSource for Adapted<'_> {
    fn origin(&self) -> &Path {
        self.inner.origin()
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes = self.inner.shapes();
        for (name, shape) in &mut shapes {
            if name == ENTRANCE && shape.len() == 4 {
                shape[1] = self.inputs;
            } else if HEAD.contains(&name.as_str()) && !shape.is_empty() {
                shape[0] = self.outputs;
            }
        }
        shapes
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let tensor = self.inner.read(name)?;
        if HEAD.contains(&name) {
            return Ok(tensor.narrow(0, 0, self.outputs)?.contiguous()?);
        }
        if name != ENTRANCE {
            return Ok(tensor);
        }
        let (out, inputs, kh, kw) = tensor.dims4()?;
        let more = self.inputs - inputs;
        if more == 0 {
            return Ok(tensor);
        }
        let bound = 1.0 / ((self.inputs * kh * kw) as f32).sqrt();
        let mut stream = Stream::new(self.seed, STREAM);
        let drawn = (0..out * more * kh * kw).map(|_| (2.0 * stream.next_f32() - 1.0) * bound).collect();
        let drawn = Tensor::from_vec(drawn, (out, more, kh, kw), &Device::Cpu)?;
        Ok(Tensor::cat(&[tensor.to_dtype(DType::F32)?, drawn], 1)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_head_keeps_means_and_the_entrance_grows() {
        let of = |from: f32, shape: &[usize]| {
            let count: usize = shape.iter().product();
            Tensor::arange(from, from + count as f32, &Device::Cpu).unwrap().reshape(shape).unwrap()
        };
        let source = BTreeMap::from([
            (ENTRANCE.to_string(), of(0.0, &[2, 3, 3, 3])),
            (HEAD[0].to_string(), of(0.0, &[6, 2, 1, 1])),
            (HEAD[1].to_string(), of(0.0, &[6])),
        ]);
        let from = AdmConfig { out_channels: 6, ..AdmConfig::released_256() };
        let to = AdmConfig { in_channels: 6, out_channels: 3, ..from.clone() };
        let adapted = Adapted::new(&source, &from, &to, 7).unwrap();
        for (name, shape) in adapted.shapes() {
            assert_eq!(adapted.read(&name).unwrap().dims(), shape, "{name}");
        }
        assert_eq!(adapted.read(HEAD[1]).unwrap().to_vec1::<f32>().unwrap(), [0.0, 1.0, 2.0]);
        let wide = adapted.read(ENTRANCE).unwrap();
        let old = wide.narrow(1, 0, 3).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(old, source[ENTRANCE].flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let new = wide.narrow(1, 3, 3).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let bound = 1.0 / 54f32.sqrt();
        assert!(new.iter().all(|v| v.abs() <= bound) && new.iter().any(|v| v.abs() > bound / 2.0));
        let again = adapted.read(ENTRANCE).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(wide.flatten_all().unwrap().to_vec1::<f32>().unwrap(), again);
        assert!(Adapted::new(&source, &to, &from, 7).is_err());
    }
}
