// SPDX-License-Identifier: MIT OR Apache-2.0
//! Safetensors, written tensor by tensor in the order given.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use candle_core::{DType, Tensor};

use super::{replace::Replacement, values::WEIGHT_TYPES};
use crate::{Error, Result};

/// Writes `tensors` (name, shape; in this order) to `path`; `read` delivers each one in turn.
///
/// All tensors are stored as `dtype`. `metadata` is free text for the header.
///
/// # Errors
/// [`Error::Io`] if writing fails, [`Error::Shape`] if `read` delivers another shape, and what
/// `read` returns; in each case nothing is left at `path` that was not there before.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: &[(String, Vec<usize>)],
    dtype: DType,
    metadata: &BTreeMap<String, String>,
    mut read: impl FnMut(&str) -> Result<Tensor>,
) -> Result<()> {
    let mut file = Replacement::create(path)?;
    let header = header(tensors, dtype, metadata)?;
    file.write(&(header.len() as u64).to_le_bytes())?;
    file.write(header.as_bytes())?;
    for (name, shape) in tensors {
        let tensor = read(name)?;
        if tensor.dims() != shape {
            return Err(Error::shape(name, tensor.dims(), format!("{shape:?}")));
        }
        let flat = tensor.detach().to_dtype(dtype)?.to_device(&candle_core::Device::Cpu)?.flatten_all()?;
        match dtype {
            DType::F16 => write_values(&mut file, &flat.to_vec1::<half::f16>()?, |v| v.to_le_bytes())?,
            DType::BF16 => write_values(&mut file, &flat.to_vec1::<half::bf16>()?, |v| v.to_le_bytes())?,
            _ => write_values(&mut file, &flat.to_vec1::<f32>()?, |v| v.to_le_bytes())?,
        }
    }
    file.commit()
}

fn write_values<T: Copy, const N: usize>(
    file: &mut Replacement,
    values: &[T],
    encode: fn(T) -> [u8; N],
) -> Result<()> {
    values.chunks(1 << 16).try_for_each(|piece| {
        let bytes: Vec<u8> = piece.iter().flat_map(|v| encode(*v)).collect();
        file.write(&bytes)
    })
}

fn header(
    tensors: &[(String, Vec<usize>)],
    dtype: DType,
    metadata: &BTreeMap<String, String>,
) -> Result<String> {
    let Some((_, type_name, _)) = WEIGHT_TYPES.iter().find(|(d, ..)| *d == dtype) else {
        return Err(Error::setting("dtype", format!("{dtype:?}"), "f32, f16 or bf16"));
    };
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut json = String::from("{");
    if !metadata.is_empty() {
        let pairs: Vec<_> = metadata.iter().map(|(k, v)| format!("{}:{}", quoted(k), quoted(v))).collect();
        write!(json, "\"__metadata__\":{{{}}},", pairs.join(",")).expect("a String takes all");
    }
    let mut start = 0;
    for (name, shape) in tensors {
        let end = start + shape.iter().product::<usize>() * dtype.size_in_bytes();
        write!(
            json,
            "{}:{{\"dtype\":\"{type_name}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}},",
            quoted(name)
        )
        .expect("a String takes all");
        start = end;
    }
    if json.ends_with(',') {
        json.pop();
    }
    json.push('}');
    while json.len() % 8 != 0 {
        json.push(' ');
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::{checkpoint::SafetensorsFile, net::params::TensorSource};

    #[test]
    fn what_is_written_is_read_and_other_readers_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let a = Tensor::arange(0f32, 6.0, &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
        let tensors = [("z.\"odd\"".to_string(), vec![2, 3]), ("a".to_string(), vec![3, 2])];
        let meta = BTreeMap::from([("k".to_string(), "line\nbreak".to_string())]);
        let read = |name: &str| Ok(if name == "a" { a.t()?.contiguous()? } else { a.clone() });
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            write_safetensors(&path, &tensors, dtype, &meta, read).unwrap();
            let file = SafetensorsFile::open(&path).unwrap();
            assert_eq!(file.shapes(), tensors);
            assert_eq!(file.metadata(), &meta);
            let back = file.read("a").unwrap();
            assert_eq!(back.dtype(), dtype);
            let back: Vec<f32> = back.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(back, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
            let theirs = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
            assert_eq!(theirs["z.\"odd\""].dims(), [2, 3]);
        }
    }

    #[test]
    fn a_failure_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        std::fs::write(&path, b"old").unwrap();
        let tensors = [("a".to_string(), vec![2])];
        let wrong = |_: &str| Ok(Tensor::zeros(3, DType::F32, &Device::Cpu)?);
        assert!(write_safetensors(&path, &tensors, DType::F32, &BTreeMap::new(), wrong).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
