// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pair of files: configuration in JSON, tensors in safetensors.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};

use super::json::Json;
use crate::{Error, Result};

/// `NAME.json` and, if the JSON names one, its safetensors file. Remembers which tensors were used.
pub struct Fixture {
    /// The configuration.
    pub json: Json,
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    used: RefCell<BTreeSet<String>>,
    device: Device,
}

impl Fixture {
    /// Opens `folder/stem.json` and the file that its entry `file` names in the same folder.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] if a file is broken or the JSON's list of tensors is not
    /// what the file holds.
    pub fn open(folder: &Path, stem: &str, device: &Device) -> Result<Self> {
        let json = Json::read(folder.join(format!("{stem}.json")))?;
        let path = match json.find("/file") {
            Some(_) => folder.join(plain_name(&json, json.text("/file")?)?),
            None => json.path().to_path_buf(),
        };
        let tensors = if json.find("/file").is_some() { read_tensors(&path)? } else { BTreeMap::new() };
        let fixture = Self { json, path, tensors, used: RefCell::default(), device: device.clone() };
        fixture.check_listing()?;
        Ok(fixture)
    }

    /// The safetensors file, or the JSON if there is none.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if there is a tensor of this name. Does not count as use.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor of floating-point numbers as f32 on the device.
    ///
    /// # Errors
    /// [`Error::File`] if it is missing or no f32.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        Ok(self.typed(name, DType::F32)?.to_device(&self.device)?)
    }

    /// The tensor if the file has it.
    ///
    /// # Errors
    /// [`Error::File`] if it is no f32.
    pub fn tensor_if_any(&self, name: &str) -> Result<Option<Tensor>> {
        self.has(name).then(|| self.tensor(name)).transpose()
    }

    /// All f32 tensors whose names start with `prefix`, under the rest of their names, on the device.
    ///
    /// # Errors
    /// [`Error::File`] if there is none, or one is no f32.
    pub fn state(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
        let inside = self.names().filter_map(|name| name.strip_prefix(prefix).map(|rest| (name, rest)));
        let state: BTreeMap<_, _> =
            inside.map(|(name, rest)| Ok((rest.to_owned(), self.tensor(name)?))).collect::<Result<_>>()?;
        if state.is_empty() {
            return Err(self.error(format!("no tensor {prefix}*")));
        }
        Ok(state)
    }

    /// An f32 or f64 tensor as a flat list.
    ///
    /// # Errors
    /// [`Error::File`] if it is missing or holds whole numbers.
    pub fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        let dtype = self.stored(name)?.dtype();
        let dtype = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        Ok(self.typed(name, dtype)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
    }

    /// An i64 tensor of indices as a flat list.
    ///
    /// # Errors
    /// [`Error::File`] if it is missing, no i64, or has a negative entry.
    pub fn indices(&self, name: &str) -> Result<Vec<usize>> {
        let values: Vec<i64> = self.typed(name, DType::I64)?.flatten_all()?.to_vec1()?;
        let index = |v: i64| {
            usize::try_from(v).map_err(|_| self.error(format!("{name} holds {v}, but must not be negative")))
        };
        values.into_iter().map(index).collect()
    }

    /// A tolerance that the JSON may state under `/tolerance/<key>`; `standard` if it does not.
    ///
    /// # Errors
    /// [`Error::File`] if the stated number is negative or not finite.
    pub fn tolerance(&self, key: &str, standard: f64) -> Result<f64> {
        let stated = self.json.find(&format!("/tolerance/{key}")).and_then(|value| value.as_f64());
        match stated {
            None => Ok(standard),
            Some(limit) if limit.is_finite() && limit >= 0.0 => Ok(limit),
            Some(limit) => Err(self.json.error(format!("tolerance.{key} is {limit}, but must be 0 or more"))),
        }
    }

    /// An error that names the tensors' file.
    pub fn error(&self, reason: impl ToString) -> Error {
        Error::file(&self.path, reason)
    }

    /// Tensors that nothing has asked for.
    pub(super) fn unused(&self) -> Vec<&str> {
        self.names().filter(|name| !self.used.borrow().contains(*name)).collect()
    }

    /// The JSON lists shape and type of its tensors (network states may be left out).
    fn check_listing(&self) -> Result<()> {
        if self.json.find("/tensors").is_none() {
            return Ok(());
        }
        for name in self.json.keys("/tensors")? {
            let at = format!("/tensors/{}", name.replace('~', "~0").replace('/', "~1"));
            let shape = self.json.counts(&format!("{at}/shape"))?;
            let dtype = self.json.text(&format!("{at}/dtype"))?;
            let tensor = self.stored(name)?;
            let found = match tensor.dtype() {
                DType::F32 => "float32",
                DType::F64 => "float64",
                _ => "int64",
            };
            if tensor.dims() != shape || found != dtype {
                let reason =
                    format!("{name} is {found} {:?}, but listed as {dtype} {shape:?}", tensor.dims());
                return Err(self.error(reason));
            }
        }
        Ok(())
    }

    fn stored(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| self.error(format!("tensor {name} is missing")))
    }

    fn typed(&self, name: &str, dtype: DType) -> Result<&Tensor> {
        let tensor = self.stored(name)?;
        if tensor.dtype() != dtype {
            return Err(self.error(format!("{name} is {:?}, but must be {dtype:?}", tensor.dtype())));
        }
        self.used.borrow_mut().insert(name.to_owned());
        Ok(tensor)
    }
}

/// A file name without folders, so that a fixture cannot point outside its own folder.
fn plain_name<'a>(json: &Json, name: &'a str) -> Result<&'a str> {
    let plain = Path::new(name).file_name().is_some_and(|last| last == name);
    plain
        .then_some(name)
        .ok_or_else(|| json.error(format!("file is {name:?}, but must be a plain file name")))
}

/// Reads a safetensors file of f32, f64 and i64 tensors onto the CPU.
fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let broken = |e: safetensors::SafeTensorError| Error::file(path, format!("no safetensors file: {e}"));
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(broken)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let dtype = match view.dtype() {
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F64 => DType::F64,
            safetensors::Dtype::I64 => DType::I64,
            other => {
                let reason = format!("{name} is {other:?}, but must be F32, F64 or I64");
                return Err(Error::file(path, reason));
            }
        };
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}
