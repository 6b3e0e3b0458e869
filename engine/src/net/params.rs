// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights by name: where a network takes its tensors from while it is built.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
};

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// Named tensors, read one at a time so that a large file is never held twice.
pub trait TensorSource {
    /// The file that errors name, or a word such as `memory`.
    fn origin(&self) -> &Path;

    /// Name and shape of every tensor, in the source's own order.
    fn shapes(&self) -> Vec<(String, Vec<usize>)>;

    /// One tensor as stored: f32, f16 or bf16 on the CPU, or (from memory) where it lives already.
    ///
    /// # Errors
    /// [`Error::File`] if the name is absent, or its bytes cannot be read or are not finite.
    fn read(&self, name: &str) -> Result<Tensor>;
}

/// Tensors in memory, e.g. the variables of a training run: handed out as they are, so that
/// gradients find their way back to them.
impl TensorSource for BTreeMap<String, Tensor> {
    fn origin(&self) -> &Path {
        Path::new("memory")
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.iter().map(|(name, t)| (name.clone(), t.dims().to_vec())).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        self.get(name).cloned().ok_or_else(|| Error::file(self.origin(), format!("no tensor {name:?}")))
    }
}

/// A place in the tree of names below which a block finds its tensors.
#[derive(Clone)]
pub struct Params<'a> {
    source: &'a dyn TensorSource,
    device: &'a Device,
    shapes: Rc<BTreeMap<String, Vec<usize>>>,
    used: Rc<RefCell<BTreeSet<String>>>,
    prefix: String,
}

impl<'a> Params<'a> {
    /// The root: names are used as the source gives them, tensors go to `device`.
    pub fn new(source: &'a dyn TensorSource, device: &'a Device) -> Self {
        let shapes = Rc::new(source.shapes().into_iter().collect());
        Self { source, device, shapes, used: Rc::default(), prefix: String::new() }
    }

    /// The place `name` below this one; names are joined by dots.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        let dot = if self.prefix.is_empty() { "" } else { "." };
        Self { prefix: format!("{}{dot}{name}", self.prefix), ..self.clone() }
    }

    /// The device that the tensors go to.
    pub fn device(&self) -> &Device {
        self.device
    }

    /// The tensor `name` at this place as f32, if it has exactly `shape`.
    ///
    /// # Errors
    /// [`Error::File`] naming the tensor, and the shape found and expected.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.tensor_as(name, shape, DType::F32)
    }

    /// Like [`Params::tensor`] in another number type.
    ///
    /// # Errors
    /// As [`Params::tensor`].
    pub fn tensor_as(&self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let name = self.at(name).prefix;
        match self.shapes.get(&name) {
            None => {
                let reason = format!("tensor {name:?} is missing, shape {shape:?} expected");
                return Err(Error::file(self.source.origin(), reason));
            }
            Some(found) if found != shape => {
                let reason = format!("tensor {name:?} has shape {found:?}, {shape:?} expected");
                return Err(Error::file(self.source.origin(), reason));
            }
            Some(_) => {}
        }
        let tensor = self.source.read(&name)?.to_dtype(dtype)?.to_device(self.device)?;
        self.used.borrow_mut().insert(name);
        Ok(tensor)
    }

    /// Checks, once the network stands, that no tensor of the source is left over.
    ///
    /// # Errors
    /// [`Error::File`] naming the first few tensors that nothing asked for.
    pub fn finish(self) -> Result<()> {
        let used = self.used.borrow();
        let left: Vec<&String> = self.shapes.keys().filter(|name| !used.contains(*name)).collect();
        if left.is_empty() {
            return Ok(());
        }
        let some = left.iter().take(4).map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ");
        let reason = format!("{} of {} tensors belong to no layer: {some}", left.len(), self.shapes.len());
        Err(Error::file(self.source.origin(), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> BTreeMap<String, Tensor> {
        let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        BTreeMap::from([("a.0.weight".to_string(), t.clone()), ("b".to_string(), t)])
    }

    #[test]
    fn finds_by_joined_name_and_reports_what_is_left() {
        let source = source();
        let root = Params::new(&source, &Device::Cpu);
        assert_eq!(root.at("a").at(0).tensor("weight", &[2, 3]).unwrap().dims(), [2, 3]);
        let err = root.clone().finish().unwrap_err().to_string();
        assert!(err.contains("1 of 2") && err.contains("\"b\""), "{err}");
        root.tensor("b", &[2, 3]).unwrap();
        root.finish().unwrap();
    }

    #[test]
    fn names_tensor_and_both_shapes() {
        let source = source();
        let root = Params::new(&source, &Device::Cpu);
        let err = root.tensor("b", &[3, 2]).unwrap_err().to_string();
        assert!(err.contains("\"b\"") && err.contains("[2, 3]") && err.contains("[3, 2]"), "{err}");
        let err = root.at("a").tensor("weight", &[1]).unwrap_err().to_string();
        assert!(err.contains("\"a.weight\" is missing"), "{err}");
    }
}
