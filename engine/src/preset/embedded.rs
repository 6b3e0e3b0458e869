// SPDX-License-Identifier: MIT OR Apache-2.0
//! The preset inside the program, used when the user names none.

use super::Preset;
use crate::Result;

/// The text of its `config.toml`.
const CONFIG: &str = include_str!("../../../weights/jpeg-small-v5/config.toml");
/// Its weights.
const WEIGHTS: &[u8] = include_bytes!("../../../weights/jpeg-small-v5/model.safetensors");
/// Those of its perceptual end.
const DETAIL: &[u8] = include_bytes!("../../../weights/jpeg-small-v5/detail.safetensors");

impl Preset {
    /// The preset that programs use when the user names none; it needs no file.
    ///
    /// # Errors
    /// As [`Preset::from_bytes`]; a test sees to it that the preset in this build opens.
    pub fn default_embedded() -> Result<Self> {
        Self::from_bytes(CONFIG, WEIGHTS, Some(DETAIL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Precision;

    #[test]
    fn opens_and_builds_within_eight_megabytes() {
        let bytes = WEIGHTS.len() + DETAIL.len();
        assert!(bytes < 8 << 20, "{bytes} bytes");
        for detail in [0.0, 0.5, 1.0] {
            let preset = Preset::default_embedded().unwrap().with_detail(detail).unwrap();
            preset.build(&candle_core::Device::Cpu, Precision::F32).unwrap();
        }
    }
}
