// SPDX-License-Identifier: MIT OR Apache-2.0
//! Little-endian numbers of a file to a tensor: read in pieces, each value checked to be finite.

use std::{io::Read, path::Path};

use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};

use crate::{Error, Result};

/// Bytes read at once while a tensor is filled.
const PIECE: usize = 1 << 20;

/// Number types that a weight may have, with their names in safetensors and as torch storages.
pub const WEIGHT_TYPES: &[(DType, &str, &str)] = &[
    (DType::F32, "F32", "FloatStorage"),
    (DType::F16, "F16", "HalfStorage"),
    (DType::BF16, "BF16", "BFloat16Storage"),
];

/// Reads `shape` values of type `dtype` from `from`.
///
/// The caller has checked that so many bytes are there; `path` and `name` are for errors.
///
/// # Errors
/// [`Error::Io`] if reading fails, [`Error::File`] for NaN or infinity or a type that is no weight's.
pub fn read_tensor(
    from: &mut dyn Read,
    dtype: DType,
    shape: &[usize],
    path: &Path,
    name: &str,
) -> Result<Tensor> {
    match dtype {
        DType::F32 => fill(from, shape, path, name, f32::from_le_bytes, f32::is_finite),
        DType::F16 => fill(from, shape, path, name, f16::from_le_bytes, f16::is_finite),
        DType::BF16 => fill(from, shape, path, name, bf16::from_le_bytes, bf16::is_finite),
        other => {
            Err(Error::file(path, format!("tensor {name:?} is {other:?}, but weights are f32, f16 or bf16")))
        }
    }
}

fn fill<T: WithDType, const N: usize>(
    from: &mut dyn Read,
    shape: &[usize],
    path: &Path,
    name: &str,
    decode: fn([u8; N]) -> T,
    finite: fn(T) -> bool,
) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let mut values: Vec<T> = Vec::with_capacity(count);
    let mut piece = vec![0u8; PIECE.min(count * N)];
    while values.len() < count {
        let bytes = &mut piece[..PIECE.min((count - values.len()) * N)];
        from.read_exact(bytes).map_err(Error::io(path))?;
        let (numbers, _) = bytes.as_chunks::<N>();
        values.extend(numbers.iter().map(|b| decode(*b)));
    }
    if let Some(at) = values.iter().position(|v| !finite(*v)) {
        let reason = format!(
            "tensor {name:?} holds {} at index {at}, but weights must be finite",
            values[at].to_f64()
        );
        return Err(Error::file(path, reason));
    }
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_across_pieces() {
        let numbers: Vec<f32> = (0..PIECE / 4 + 3).map(|i| i as f32).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        let t = read_tensor(&mut &bytes[..], DType::F32, &[numbers.len()], Path::new("x"), "a").unwrap();
        assert_eq!(t.to_vec1::<f32>().unwrap(), numbers);
    }

    #[test]
    fn refuses_nan_infinity_and_integers() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bytes: Vec<u8> = [1.0, bad].iter().flat_map(|v| v.to_le_bytes()).collect();
            let err = read_tensor(&mut &bytes[..], DType::F32, &[2], Path::new("w"), "a.b")
                .unwrap_err()
                .to_string();
            assert!(err.contains("\"a.b\"") && err.contains("index 1"), "{err}");
        }
        let half: Vec<u8> = f16::NAN.to_le_bytes().to_vec();
        assert!(read_tensor(&mut &half[..], DType::F16, &[1], Path::new("w"), "a").is_err());
        assert!(read_tensor(&mut &[0u8; 8][..], DType::I64, &[1], Path::new("w"), "a").is_err());
    }
}
