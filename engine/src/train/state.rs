// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that a run needs to go on as if it had never stopped.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};

use super::{
    ema::Ema,
    optim::{AdamW, AdamWConfig},
};
use crate::{
    Error, Result,
    checkpoint::{SafetensorsFile, write_safetensors},
};

/// Version of the file's layout.
const FORMAT: &str = "i2sb-train-1";

/// The state between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Running mean of the gradient's norm.
    pub norm: f64,
    /// The weights.
    pub params: Vec<f32>,
    /// The optimiser.
    pub adam: AdamW,
    /// The averaged weights.
    pub ema: Ema,
}

impl State {
    /// The state before the first step.
    pub fn new(params: Vec<f32>, config: AdamWConfig, ema_decay: f64) -> Self {
        let adam = AdamW::new(config, params.len());
        Self { step: 0, norm: 0.0, adam, ema: Ema::new(ema_decay, &params), params }
    }

    /// Writes the state beside `path` and renames it; `recipe` is kept with it.
    ///
    /// # Errors
    /// [`Error::Io`] if writing fails; what was there before then stays.
    pub fn save(&self, path: &Path, recipe: &str) -> Result<()> {
        let n = self.params.len();
        let all = [&self.params, &self.adam.mean, &self.adam.square, &self.ema.shadow];
        let names = ["params", "adam.mean", "adam.square", "ema"];
        let tensors: Vec<_> = names.iter().map(|name| (name.to_string(), vec![n])).collect();
        let meta = BTreeMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("step".to_string(), self.step.to_string()),
            ("norm".to_string(), self.norm.to_bits().to_string()),
            ("adam.steps".to_string(), self.adam.steps.to_string()),
            ("ema.updates".to_string(), self.ema.updates.to_string()),
            ("recipe".to_string(), recipe.to_string()),
        ]);
        write_safetensors(path, &tensors, DType::F32, &meta, |name| {
            let i = names.iter().position(|n| *n == name).expect("only these names are asked for");
            Ok(Tensor::from_slice(all[i].as_slice(), n, &Device::Cpu)?)
        })
    }

    /// Goes on from a file. Decay and optimiser settings come from `fresh`, the state before the first step.
    ///
    /// # Errors
    /// [`Error::File`] if the file is not a state of this network and this recipe.
    pub fn load(path: &Path, recipe: &str, fresh: Self) -> Result<Self> {
        let file = SafetensorsFile::open(path)?;
        let meta = |name: &str| {
            let value = file.metadata().get(name);
            value.ok_or_else(|| Error::file(path, format!("is no training state: no {name:?} in its header")))
        };
        let number = |name: &str| -> Result<u64> {
            meta(name)?
                .parse()
                .map_err(|_| Error::file(path, format!("{name} is {:?}, not a number", meta(name))))
        };
        if meta("format")? != FORMAT {
            return Err(Error::file(path, format!("has format {:?}, not {FORMAT:?}", meta("format")?)));
        }
        if meta("recipe")? != recipe {
            let reason = "belongs to another recipe; train into another folder, or give this recipe back its old values";
            return Err(Error::file(path, reason));
        }
        let n = fresh.params.len();
        let read = |name: &str| -> Result<Vec<f32>> {
            let values =
                crate::net::params::TensorSource::read(&file, name)?.flatten_all()?.to_vec1::<f32>()?;
            if values.len() != n {
                return Err(Error::file(
                    path,
                    format!("{name} has {} values, the network {n}", values.len()),
                ));
            }
            Ok(values)
        };
        Ok(Self {
            step: number("step")?,
            norm: f64::from_bits(number("norm")?),
            params: read("params")?,
            adam: AdamW {
                mean: read("adam.mean")?,
                square: read("adam.square")?,
                steps: number("adam.steps")?,
                ..fresh.adam
            },
            ema: Ema { shadow: read("ema")?, updates: number("ema.updates")?, ..fresh.ema },
        })
    }
}
