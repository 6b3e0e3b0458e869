// SPDX-License-Identifier: MIT OR Apache-2.0
//! The number type of the networks' multiplications.

use candle_core::DType;

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

/// Every precision with the name that users write.
pub const PRECISIONS: &[(&str, Precision)] =
    &[("f32", Precision::F32), ("f16", Precision::F16), ("bf16", Precision::Bf16), ("int8", Precision::Int8)];

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

    /// The name that users write.
    pub fn name(self) -> &'static str {
        PRECISIONS.iter().find(|(_, p)| *p == self).map_or("f32", |(n, _)| n)
    }
}

impl std::str::FromStr for Precision {
    type Err = crate::Error;

    fn from_str(s: &str) -> crate::Result<Self> {
        PRECISIONS.iter().find(|(n, _)| *n == s).map(|(_, p)| *p).ok_or_else(|| {
            let names: Vec<_> = PRECISIONS.iter().map(|(n, _)| *n).collect();
            crate::Error::setting("precision", s, format!("one of {}", names.join(", ")))
        })
    }
}
