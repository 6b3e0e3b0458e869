// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights between two ends of one network: the faithful and the perceptual.
//!
//! Both ends are near each other, one trained on from the other, so that what lies between them in the
//! space of weights lies between them in what it does, too; and it costs no more than either.

use std::path::Path;

use candle_core::{DType, Tensor};

use crate::{Result, checkpoint::SafetensorsFile, net::params::TensorSource};

/// `(1 − share)·from + share·to`, tensor by tensor.
pub(super) struct Between<'a> {
    pub from: &'a SafetensorsFile,
    pub to: &'a SafetensorsFile,
    pub share: f32,
}

impl TensorSource for Between<'_> {
    fn origin(&self) -> &Path {
        self.to.origin()
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.from.shapes()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let (from, to) =
            (self.from.read(name)?.to_dtype(DType::F32)?, self.to.read(name)?.to_dtype(DType::F32)?);
        let share = f64::from(self.share);
        Ok(((from * (1.0 - share))? + (to * share)?)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::Device;

    use super::super::{DETAIL_FILE, Preset, PresetConfig, WEIGHTS_FILE, tiny::CONFIG};
    use super::*;
    use crate::{net::random::RandomWeights, ops::Precision};

    fn tensors(seed: u64) -> BTreeMap<String, Tensor> {
        let config = PresetConfig::parse(CONFIG, "test").unwrap();
        let weights = RandomWeights::new(&config.network, seed).unwrap();
        weights.shapes().into_iter().map(|(name, _)| (name.clone(), weights.read(&name).unwrap())).collect()
    }

    fn answer(preset: &Preset) -> Vec<f32> {
        let network = preset.build(&Device::Cpu, Precision::F32).unwrap();
        let x = Tensor::arange(0f32, 3.0 * 64.0, &Device::Cpu).unwrap().affine(0.01, -1.0).unwrap();
        let x = x.reshape((1, 3, 8, 8)).unwrap();
        let out = network.forward(&x, &[100.0], &crate::Cancel::default()).unwrap();
        out.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn weights_lie_between_the_ends_and_the_hash_tells() {
        let folder = tempfile::tempdir().unwrap();
        let config = PresetConfig::parse(CONFIG, "test").unwrap();
        let (one, two, middle) =
            (folder.path().join("one"), folder.path().join("two"), folder.path().join("middle"));
        let (a, b) = (tensors(1), tensors(2));
        Preset::write(&one, &config, &a, "").unwrap();
        Preset::write(&two, &config, &b, "").unwrap();
        let between = |(name, a): (&String, &Tensor)| {
            (name.clone(), ((a * 0.75).unwrap() + (&b[name] * 0.25).unwrap()).unwrap())
        };
        Preset::write(&middle, &config, &a.iter().map(between).collect(), "").unwrap();

        let alone = Preset::open(&one).unwrap();
        assert!(!alone.has_detail());
        let refused = alone.with_detail(0.5).unwrap_err().to_string();
        assert!(
            refused.contains("detail") && refused.contains("0.5") && refused.contains(DETAIL_FILE),
            "{refused}"
        );

        std::fs::copy(two.join(WEIGHTS_FILE), one.join(DETAIL_FILE)).unwrap();
        let at = |detail| Preset::open(&one).unwrap().with_detail(detail).unwrap();
        assert_eq!(answer(&at(0.0)), answer(&Preset::open(&one).unwrap()));
        assert_eq!(answer(&at(1.0)), answer(&Preset::open(&two).unwrap()));
        assert_eq!(answer(&at(0.25)), answer(&Preset::open(&middle).unwrap()));
        let (faithful, full, half) = (at(0.0).hash, at(1.0).hash, at(0.5).hash);
        assert_eq!(faithful.len(), 64);
        assert!(half == format!("{faithful}+0.5*{}", Preset::open(&two).unwrap().hash) && full != half);
        for wrong in [-0.1, 1.1, f32::NAN] {
            let refused = Preset::open(&one).unwrap().with_detail(wrong).unwrap_err().to_string();
            assert!(refused.contains("0 to 1"), "{refused}");
        }
        // An end of another network is refused when opened.
        let bytes = std::fs::read(one.join(WEIGHTS_FILE)).unwrap();
        std::fs::write(one.join(DETAIL_FILE), &bytes[..bytes.len() - 4]).unwrap();
        assert!(Preset::open(&one).unwrap_err().to_string().contains(DETAIL_FILE));
    }
}
