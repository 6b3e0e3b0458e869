// SPDX-License-Identifier: MIT OR Apache-2.0
//! The preset inside the program, used when the user names none.

use super::Preset;
use crate::Result;

/// The text of its `config.toml`.
const CONFIG: &str = include_str!("../../../weights/jpeg-small-v2/config.toml");
/// Its weights.
const WEIGHTS: &[u8] = include_bytes!("../../../weights/jpeg-small-v2/model.safetensors");

impl Preset {
    /// The preset that programs use when the user names none; it needs no file.
    ///
    /// # Errors
    /// As [`Preset::from_bytes`]; a test sees to it that the preset in this build opens.
    pub fn default_embedded() -> Result<Self> {
        Self::from_bytes(CONFIG, WEIGHTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Precision;

    #[test]
    fn opens_and_builds_within_four_megabytes() {
        assert!(WEIGHTS.len() < 4 << 20, "{} bytes", WEIGHTS.len());
        let preset = Preset::default_embedded().unwrap();
        preset.build(&candle_core::Device::Cpu, Precision::F32).unwrap();
    }
}
