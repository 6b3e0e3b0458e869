// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file of torch: a zip archive of one pickle and of storages with plain numbers (SPEC section 9.3).

use std::{io::Read, path::Path};

use candle_core::{DType, Tensor};

use super::{
    globals::Class,
    pickle::{Id, PICKLE_LIMIT, Pickle, Value},
    values::read_tensor,
    zip::{Archive, Entry},
};
use crate::{Error, Result};

/// Most dimensions that a tensor may have.
const DIMS_LIMIT: usize = 8;
/// Longest small text entry of an archive.
const NOTE_LIMIT: u64 = 1 << 10;

/// An opened file of torch; only its pickle is in memory.
pub struct TorchFile {
    archive: Archive,
    folder: String,
    /// The pickle with the tree of values.
    pub pickle: Pickle,
}

/// A tensor of the file: a view of a storage.
#[derive(Debug, Clone, PartialEq)]
pub struct TorchTensor {
    /// Number type; `None` if it is none that a weight may have.
    pub dtype: Option<DType>,
    /// Shape.
    pub shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    storage: String,
    storage_len: usize,
}

impl TorchFile {
    /// Opens a file and reads its pickle.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] if it is no such archive or its pickle is not understood.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(Archive::open(path)?)
    }

    /// Reads the pickle of an archive.
    ///
    /// # Errors
    /// As [`TorchFile::open`].
    pub fn new(archive: Archive) -> Result<Self> {
        let path = archive.path().to_path_buf();
        let wrong = |reason: String| Error::file(&path, reason);
        let mut pickles = archive
            .names()
            .filter_map(|n| n.strip_suffix("data.pkl"))
            .filter(|f| f.ends_with('/') || f.is_empty());
        let Some(folder) = pickles.next().map(str::to_owned) else {
            return Err(wrong("a zip archive, but without a data.pkl as torch writes it".into()));
        };
        drop(pickles);
        let order = format!("{folder}byteorder");
        if archive.entry(&order).is_some() && archive.bytes(&order, NOTE_LIMIT)? != b"little" {
            return Err(wrong("its numbers are not little-endian".into()));
        }
        let pickle = archive.bytes(&format!("{folder}data.pkl"), PICKLE_LIMIT)?;
        let pickle = Pickle::read(pickle).map_err(|reason| wrong(format!("data.pkl: {reason}")))?;
        Ok(Self { archive, folder, pickle })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.archive.path()
    }

    /// The tensor that a value of the pickle stands for, if it is one; `name` is for errors.
    ///
    /// # Errors
    /// [`Error::File`] if it reaches outside its storage.
    pub fn tensor(&self, id: Id, name: &str) -> Result<Option<TorchTensor>> {
        let Value::Object { class, arguments, .. } = self.pickle.value(id) else { return Ok(None) };
        let arguments = self.pickle.list(*arguments).unwrap_or_default();
        match class {
            // A parameter holds a tensor, never another parameter.
            Class::Parameter => match arguments.first().map(|inner| (inner, self.pickle.value(*inner))) {
                Some((inner, Value::Object { class: Class::Tensor, .. })) => self.tensor(*inner, name),
                _ => Ok(None),
            },
            Class::Tensor => {
                let wrong = || self.wrong(format!("tensor {name:?} is not described as torch does"));
                let tensor = self.described(arguments).ok_or_else(wrong)?;
                self.check(&tensor, name)?;
                Ok(Some(tensor))
            }
            _ => Ok(None),
        }
    }

    /// Reads a tensor's values; they must be finite.
    ///
    /// # Errors
    /// [`Error::File`] for a type that no weight has, a missing or damaged storage, NaN or infinity.
    pub fn read(&self, tensor: &TorchTensor, name: &str) -> Result<Tensor> {
        let Some(dtype) = tensor.dtype else {
            return Err(self.wrong(format!("tensor {name:?} is no float32, float16 or bfloat16")));
        };
        let entry = self.storage(tensor, name)?;
        let size = dtype.size_in_bytes();
        // Only what the view covers is read; a whole storage's checksum is compared on the way.
        let (first, count) = (tensor.offset, tensor.span().unwrap_or(0));
        let range = (first * size) as u64..((first + count) * size) as u64;
        let path = self.path();
        let flat = |stream: &mut dyn Read| {
            if tensor.is_contiguous() {
                return read_tensor(stream, dtype, &tensor.shape, path, name);
            }
            let values = read_tensor(stream, dtype, &[count], path, name)?;
            Ok(values.index_select(&tensor.indices()?, 0)?.reshape(tensor.shape.as_slice())?)
        };
        self.archive.read(entry, range, flat)
    }

    fn described(&self, arguments: &[Id]) -> Option<TorchTensor> {
        let [storage, offset, shape, strides, ..] = arguments else { return None };
        let Value::Persistent(named) = self.pickle.value(*storage) else { return None };
        let [_, class, key, _, length, ..] = self.pickle.list(*named)? else { return None };
        let Value::Class(Class::Storage(dtype)) = self.pickle.value(*class) else { return None };
        let whole = |id: &Id| self.pickle.count(*id).and_then(|n| usize::try_from(n).ok());
        let list = |id: &Id| self.pickle.list(*id)?.iter().map(whole).collect::<Option<Vec<_>>>();
        let tensor = TorchTensor {
            dtype: *dtype,
            shape: list(shape)?,
            strides: list(strides)?,
            offset: whole(offset)?,
            storage: self.pickle.text(*key)?.to_owned(),
            storage_len: whole(length)?,
        };
        (tensor.shape.len() == tensor.strides.len()).then_some(tensor)
    }

    /// Whether the view lies inside its storage and is not larger than it.
    fn check(&self, tensor: &TorchTensor, name: &str) -> Result<()> {
        let wrong =
            |reason: String| Err(self.wrong(format!("tensor {name:?} of shape {:?} {reason}", tensor.shape)));
        if tensor.shape.len() > DIMS_LIMIT {
            return wrong(format!("has {} dimensions, at most {DIMS_LIMIT} are read", tensor.shape.len()));
        }
        if tensor.shape.contains(&0) {
            return wrong("has no values".into());
        }
        let count = tensor.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let end = tensor.span().and_then(|span| span.checked_add(tensor.offset));
        let held = tensor.storage_len;
        match (count, end) {
            (Some(count), Some(end)) if count <= held && end <= held => Ok(()),
            _ => wrong(format!("from value {} on does not fit its storage of {held} values", tensor.offset)),
        }
    }

    fn storage(&self, tensor: &TorchTensor, name: &str) -> Result<Entry> {
        let entry = format!("{}data/{}", self.folder, tensor.storage);
        let Some(found) = self.archive.entry(&entry) else {
            return Err(self.wrong(format!("tensor {name:?} lies in the entry {entry:?}, which is missing")));
        };
        let size = tensor.dtype.map_or(0, |d| d.size_in_bytes());
        let needed = tensor.storage_len.checked_mul(size);
        if needed.map(|n| n as u64) != Some(found.size()) {
            let reason = format!("entry {entry:?} is {} bytes long", found.size());
            return Err(
                self.wrong(format!("{reason}, but stands for {} values of {size} bytes", tensor.storage_len))
            );
        }
        Ok(found)
    }

    /// An error that names this file.
    pub fn wrong(&self, reason: impl ToString) -> Error {
        Error::file(self.path(), reason)
    }
}

impl TorchTensor {
    /// Values from the first to the last that the view touches; `None` if that overflows.
    fn span(&self) -> Option<usize> {
        let reach = |n: usize, (d, s): (&usize, &usize)| n.checked_add(d.checked_sub(1)?.checked_mul(*s)?);
        self.shape.iter().zip(&self.strides).try_fold(0, reach)?.checked_add(1)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(d, s)| {
            let fits = *d == 1 || *s == expected;
            expected *= d;
            fits
        })
    }

    /// Where in the span each value lies, in the order of the shape.
    fn indices(&self) -> Result<Tensor> {
        let mut at = vec![0i64];
        for (d, s) in self.shape.iter().zip(&self.strides) {
            at = at.iter().flat_map(|base| (0..*d).map(move |i| base + (i * s) as i64)).collect();
        }
        let count = at.len();
        Ok(Tensor::from_vec(at, count, &candle_core::Device::Cpu)?)
    }
}

/// Whether the file begins like a zip archive.
///
/// # Errors
/// [`Error::Io`] if it cannot be read.
pub fn is_archive(path: &Path) -> Result<bool> {
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut start = [0; 4];
    let mut n = 0;
    while n < 4 {
        match file.read(&mut start[n..]).map_err(Error::io(path))? {
            0 => break,
            more => n += more,
        }
    }
    Ok(start == *b"PK\x03\x04")
}
