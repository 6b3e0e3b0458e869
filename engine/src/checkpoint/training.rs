// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the original software saves: training checkpoints and plain state dicts (SPEC section 9.1).

use std::path::Path;

use candle_core::Tensor;

use super::{
    pickle::{Id, Value},
    torch::{TorchFile, TorchTensor},
    zip::Archive,
};
use crate::{
    Result,
    net::{adm::AdmConfig, params::TensorSource},
};

/// The end of a name by which an ADM network is known; what stands before it is the prefix.
const FIRST_NAME: &str = "time_embed.0.weight";

/// An opened `.pt` file: a training checkpoint, or a dict of nothing but tensors.
pub struct TorchCheckpoint {
    file: TorchFile,
    net: Vec<(String, TorchTensor)>,
    prefix: String,
    ema: Option<Ema>,
    others: Vec<(String, usize)>,
}

/// The moving average of a training checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Ema {
    /// Decay that it tends to.
    pub decay: Option<f64>,
    /// Updates so far.
    pub num_updates: Option<u64>,
    shadow: Vec<TorchTensor>,
}

impl Ema {
    /// Number of averaged parameters.
    pub fn len(&self) -> usize {
        self.shadow.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.shadow.is_empty()
    }
}

/// Which of a training checkpoint's two sets of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightSet {
    /// The moving average, meant for use; the only set there is in a plain state dict.
    #[default]
    Ema,
    /// The weights that training went on from.
    Net,
}

impl TorchCheckpoint {
    /// Opens a file and reads everything but the weights.
    ///
    /// # Errors
    /// [`crate::Error::Io`], or [`crate::Error::File`] if it is neither a training checkpoint nor a state dict.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(TorchFile::open(path)?)
    }

    /// The same from memory; `name` stands for the path in errors.
    ///
    /// # Errors
    /// As [`TorchCheckpoint::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Result<Self> {
        let bytes = Box::new(std::io::Cursor::new(bytes.into()));
        Self::new(TorchFile::new(Archive::new(Path::new(name), bytes)?)?)
    }

    fn new(file: TorchFile) -> Result<Self> {
        let pickle = &file.pickle;
        let root = pickle.root();
        let entries = pickle.dict(root).ok_or_else(|| file.wrong("holds no dictionary"))?;
        let (net, ema, others) = match pickle.get(root, "net") {
            None => (tensors(&file, root)?, None, Vec::new()),
            Some(net) => {
                let net = tensors(&file, net)?;
                let ema = pickle.get(root, "ema").map(|ema| read_ema(&file, ema)).transpose()?;
                let size = |id: Id| match pickle.get(id, "state") {
                    Some(state) => pickle.dict(state).map_or(0, <[_]>::len),
                    None => pickle.dict(id).map_or(0, <[_]>::len),
                };
                let other = |(key, value): &(Id, Id)| {
                    let name = pickle.text(*key).filter(|name| !["net", "ema"].contains(name))?;
                    Some((name.to_owned(), size(*value)))
                };
                let others = entries.iter().filter_map(other).collect();
                (net, ema.flatten(), others)
            }
        };
        let prefix = net.iter().find_map(|(name, _)| name.strip_suffix(FIRST_NAME)).unwrap_or("").to_owned();
        if net.is_empty() {
            return Err(file.wrong("holds no tensors"));
        }
        Ok(Self { file, net, prefix, ema, others })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Names, with their prefix, and shapes of the network's weights, in the order of the file.
    pub fn net(&self) -> &[(String, TorchTensor)] {
        &self.net
    }

    /// What stands before the network's own names, e.g. `diffusion_model.`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The moving average, if there is one.
    pub fn ema(&self) -> Option<&Ema> {
        self.ema.as_ref()
    }

    /// The other parts of a training checkpoint, with the number of their entries.
    pub fn others(&self) -> &[(String, usize)] {
        &self.others
    }

    /// The network that the weights belong to, as far as names and shapes tell; see
    /// [`AdmConfig::infer`].
    ///
    /// # Errors
    /// [`crate::Error::File`] if it is no ADM network.
    pub fn infer(&self) -> Result<AdmConfig> {
        AdmConfig::infer(&self.named()?).map_err(|e| self.file.wrong(e))
    }

    /// One set of weights under the names of SPEC section 7. The moving average has no names: entry
    /// k belongs to the k-th parameter of the network that `config` describes.
    ///
    /// # Errors
    /// [`crate::Error::File`] if the moving average is asked for and absent, or does not fit `config`.
    pub fn weights(&self, set: WeightSet, config: &AdmConfig) -> Result<TorchWeights<'_>> {
        let named = match (set, &self.ema) {
            (WeightSet::Net, _) => self.stripped()?,
            (WeightSet::Ema, None) if self.others.is_empty() => self.stripped()?,
            (WeightSet::Ema, None) => return Err(self.file.wrong("holds no moving average")),
            (WeightSet::Ema, Some(ema)) => {
                let names = config.plan()?.tensors();
                if names.len() != ema.shadow.len() {
                    let (found, needed) = (ema.shadow.len(), names.len());
                    let reason = format!("the moving average has {found} tensors, but the network {needed}");
                    return Err(self.file.wrong(reason));
                }
                let pairs = names.into_iter().zip(&ema.shadow).enumerate();
                let fit = |(k, ((name, shape), tensor)): (usize, ((String, Vec<usize>), &TorchTensor))| {
                    if shape != tensor.shape {
                        let found = &tensor.shape;
                        let reason =
                            format!("tensor {k} of the moving average, {name:?}, has shape {found:?}");
                        return Err(self.file.wrong(format!("{reason}, {shape:?} expected")));
                    }
                    Ok((name, tensor.clone()))
                };
                pairs.map(fit).collect::<Result<_>>()?
            }
        };
        Ok(TorchWeights { file: &self.file, tensors: named })
    }

    fn named(&self) -> Result<Vec<(String, Vec<usize>)>> {
        Ok(self.stripped()?.into_iter().map(|(name, tensor)| (name, tensor.shape)).collect())
    }

    fn stripped(&self) -> Result<Vec<(String, TorchTensor)>> {
        let strip = |(name, tensor): &(String, TorchTensor)| match name.strip_prefix(&self.prefix) {
            Some(rest) => Ok((rest.to_owned(), tensor.clone())),
            None => Err(self.file.wrong(format!("tensor {name:?} does not begin with {:?}", self.prefix))),
        };
        self.net.iter().map(strip).collect()
    }
}

/// One set of weights of a checkpoint, read tensor by tensor.
pub struct TorchWeights<'a> {
    file: &'a TorchFile,
    tensors: Vec<(String, TorchTensor)>,
}

impl TensorSource for TorchWeights<'_> {
    fn origin(&self) -> &Path {
        self.file.path()
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        match self.tensors.iter().find(|(n, _)| n == name) {
            Some((_, tensor)) => self.file.read(tensor, name),
            None => Err(self.file.wrong(format!("no tensor {name:?}"))),
        }
    }
}

/// The entries of a dictionary of tensors.
fn tensors(file: &TorchFile, dict: Id) -> Result<Vec<(String, TorchTensor)>> {
    let entries = file.pickle.dict(dict).ok_or_else(|| file.wrong("the weights are no dictionary"))?;
    let mut tensors: Vec<(String, TorchTensor)> = Vec::with_capacity(entries.len());
    let mut seen = std::collections::HashSet::new();
    for (key, value) in entries {
        let name = file.pickle.text(*key).ok_or_else(|| file.wrong("a weight's name is no text"))?;
        let Some(tensor) = file.tensor(*value, name)? else {
            return Err(file.wrong(format!("entry {name:?} is no tensor")));
        };
        if !seen.insert(name) {
            return Err(file.wrong(format!("tensor {name:?} stands there twice")));
        }
        tensors.push((name.to_owned(), tensor));
    }
    Ok(tensors)
}

fn read_ema(file: &TorchFile, ema: Id) -> Result<Option<Ema>> {
    let pickle = &file.pickle;
    if *pickle.value(ema) == Value::None {
        return Ok(None);
    }
    let shadow = pickle.get(ema, "shadow_params").and_then(|id| pickle.list(id));
    let shadow = shadow.ok_or_else(|| file.wrong("its \"ema\" holds no list \"shadow_params\""))?;
    let tensor = |(k, id): (usize, &Id)| {
        let name = format!("ema.shadow_params[{k}]");
        file.tensor(*id, &name)?.ok_or_else(|| file.wrong(format!("{name} is no tensor")))
    };
    Ok(Some(Ema {
        decay: pickle.get(ema, "decay").and_then(|id| match pickle.value(id) {
            Value::Float(decay) => Some(*decay),
            _ => None,
        }),
        num_updates: pickle.get(ema, "num_updates").and_then(|id| pickle.count(id)),
        shadow: shadow.iter().enumerate().map(tensor).collect::<Result<_>>()?,
    }))
}

impl TorchTensor {
    /// The number type's name, or `other`.
    pub fn dtype_name(&self) -> &'static str {
        self.dtype.map_or("other", |d| d.as_str())
    }
}
