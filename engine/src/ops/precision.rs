// SPDX-License-Identifier: MIT OR Apache-2.0
//! The number type of the networks' multiplications.

use candle_core::DType;

use super::isa::{Cpu, Int8};

/// Arithmetic of the networks' multiplications; sums are f32, or those of bytes exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// Weights and activations of convolutions in IEEE half precision.
    F16,
    /// Weights and activations of convolutions in bfloat16.
    Bf16,
    /// Weights and activations of convolutions in bytes, stem and head in f32 (`bridge` networks that were calibrated).
    /// Fast on processors with VNNI; the same bits on every one.
    Int8,
}

/// A precision, the name that users write, and what to say of it.
pub struct Entry {
    /// Such as `bf16`.
    pub name: &'static str,
    /// The precision.
    pub precision: Precision,
    /// One line for help pages.
    pub about: &'static str,
}

/// Every precision.
pub const PRECISIONS: &[Entry] = &[
    Entry { name: "f32", precision: Precision::F32, about: "F32: the same bits on every processor" },
    Entry { name: "f16", precision: Precision::F16, about: "F16: for GPUs" },
    Entry {
        name: "bf16",
        precision: Precision::Bf16,
        about: "Bf16: fast with AVX512_BF16 or AMX, and on GPUs",
    },
    Entry {
        name: "int8",
        precision: Precision::Int8,
        about: "Int8: fast with VNNI, the same bits on every processor; for models that were calibrated",
    },
];

impl Precision {
    /// The type that weights are stored in, if it is one of floating-point numbers.
    pub fn dtype(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::F16 => Some(DType::F16),
            Self::Bf16 => Some(DType::BF16),
            Self::Int8 => None,
        }
    }

    /// What to tell who asks for it on a processor that multiplies f32 faster.
    ///
    /// ```
    /// use i2sb::ops::{Cpu, Precision};
    /// assert_eq!(Precision::F32.advice(Cpu::detect()), None);
    /// ```
    pub fn advice(self, cpu: Cpu) -> Option<&'static str> {
        (self == Self::Int8 && cpu.int8 == Int8::Portable).then_some(
            "this processor has no instructions for products of bytes (AVX-VNNI, AVX512_VNNI or AMX): precision int8 is slower \
             here than f32",
        )
    }

    /// The name that users write.
    pub fn name(self) -> &'static str {
        PRECISIONS.iter().find(|entry| entry.precision == self).map_or("f32", |entry| entry.name)
    }
}

impl std::str::FromStr for Precision {
    type Err = crate::Error;

    fn from_str(s: &str) -> crate::Result<Self> {
        PRECISIONS.iter().find(|entry| entry.name == s).map(|entry| entry.precision).ok_or_else(|| {
            let names: Vec<_> = PRECISIONS.iter().map(|entry| entry.name).collect();
            crate::Error::setting("precision", s, format!("one of {}", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_advised_against_where_nothing_multiplies_them() {
        let with = |int8| Cpu { int8, ..Cpu::detect() };
        for Entry { name, precision, .. } in PRECISIONS {
            let advice = precision.advice(with(Int8::Portable));
            assert_eq!(advice.is_some_and(|advice| advice.contains(name)), *name == "int8", "{name}");
            assert_eq!(precision.advice(with(Int8::AvxVnni)), None, "{name}");
        }
    }
}
