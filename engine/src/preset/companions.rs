// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files beside a preset's weights that are made for these weights, and may be absent.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::DType;

use super::{DETAIL_FILE, INT8_FILE, Preset};
use crate::{
    Cancel, Error, Result,
    checkpoint::{SafetensorsFile, write_safetensors},
    net::params::TensorSource,
};

/// Their names.
const COMPANIONS: [&str; 2] = [DETAIL_FILE, INT8_FILE];

/// Those that lie in a folder: other weights make them wrong.
pub fn companions(folder: &Path) -> Vec<PathBuf> {
    COMPANIONS.iter().map(|name| folder.join(name)).filter(|path| path.exists()).collect()
}

/// Removes them, and says which there were.
///
/// # Errors
/// [`Error::Io`] naming the one that cannot be removed.
pub fn remove_companions(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = companions(folder);
    for path in &found {
        fs::remove_file(path).map_err(Error::io(path))?;
    }
    Ok(found)
}

impl Preset {
    /// Writes the files beside this preset's weights into `folder`, which holds the same weights stored as `dtype`.
    /// Each file of this preset, and why it was left out, if it was: ranges of activations belong to the exact weights.
    ///
    /// # Errors
    /// [`Error::Cancelled`] between two tensors, [`Error::Io`] if writing fails, and as [`Preset::open`].
    pub fn write_companions(
        &self,
        folder: &Path,
        dtype: DType,
        cancel: &Cancel,
    ) -> Result<Vec<(PathBuf, Option<String>)>> {
        let write = |path: &Path, from: &SafetensorsFile, dtype, metadata: &BTreeMap<_, _>| {
            let read = |name: &str| cancel.check().and_then(|()| from.read(name));
            write_safetensors(path, &from.shapes(), dtype, metadata, read)
        };
        let mut told = Vec::new();
        if let Some(end) = &self.perceptual {
            let path = folder.join(DETAIL_FILE);
            write(&path, end, dtype, &BTreeMap::new())?;
            told.push((path, None));
        }
        if let Some(ranges) = &self.ranges {
            let path = folder.join(INT8_FILE);
            let left_out = match self.int8() {
                Err(error) => Some(error.to_string()),
                Ok(_) if !self.exact_in(dtype) => {
                    let reason =
                        "was made for weights that are rounded here; `i2sb calibrate` makes it again";
                    Some(reason.to_string())
                }
                Ok(_) => None,
            };
            if left_out.is_none() {
                let stored = |name: String| {
                    let hash = SafetensorsFile::open(folder.join(&name))?.sha256()?;
                    Ok((name, hash))
                };
                let hashes = self.hashes()?.into_keys().map(stored).collect::<Result<_>>()?;
                write(&path, ranges, DType::F32, &hashes)?;
            }
            told.push((path, left_out));
        }
        Ok(told)
    }

    /// True if no weight changes when stored as `dtype`.
    fn exact_in(&self, dtype: DType) -> bool {
        let stored = std::iter::once(&self.weights).chain(&self.perceptual).flat_map(|file| file.entries());
        let same = match dtype {
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            _ => return true,
        };
        stored.into_iter().all(|entry| entry.dtype == same)
    }
}
