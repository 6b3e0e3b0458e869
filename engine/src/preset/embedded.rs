// SPDX-License-Identifier: MIT OR Apache-2.0
//! The presets inside the program, used when the user names none: one for pictures, one for video.

use super::Preset;
use crate::Result;

/// The files of a preset.
struct Files {
    config: &'static str,
    weights: &'static [u8],
    /// Those of its perceptual end.
    detail: &'static [u8],
    /// Ranges of activations, if it was calibrated.
    int8: Option<&'static [u8]>,
}

macro_rules! files {
    ($folder:literal, $int8:expr) => {
        Files {
            config: include_str!(concat!("../../../weights/", $folder, "/config.toml")),
            weights: include_bytes!(concat!("../../../weights/", $folder, "/model.safetensors")),
            detail: include_bytes!(concat!("../../../weights/", $folder, "/detail.safetensors")),
            int8: $int8,
        }
    };
}

/// Each goes into those programs alone that use it.
const PICTURES: Files = files!("jpeg-small-v6", None);
const VIDEO: Files =
    files!("video-small-v4", Some(include_bytes!("../../../weights/video-small-v4/int8.safetensors")));

impl Files {
    fn open(&self) -> Result<Preset> {
        let preset = Preset::from_bytes(self.config, self.weights, Some(self.detail))?;
        self.int8.into_iter().try_fold(preset, Preset::with_ranges)
    }
}

impl Preset {
    /// The preset that is used for pictures when the user names none; it needs no file.
    ///
    /// # Errors
    /// As [`Preset::from_bytes`]; a test sees to it that the presets in this build open.
    pub fn default_for_pictures() -> Result<Self> {
        PICTURES.open()
    }

    /// The same for video.
    ///
    /// # Errors
    /// As [`Preset::default_for_pictures`].
    pub fn default_for_video() -> Result<Self> {
        VIDEO.open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Precision;

    #[test]
    fn open_and_build_within_eight_megabytes() {
        for (files, preset) in [
            (PICTURES, Preset::default_for_pictures().unwrap()),
            (VIDEO, Preset::default_for_video().unwrap()),
        ] {
            let bytes = files.weights.len() + files.detail.len() + files.int8.map_or(0, <[u8]>::len);
            assert!(bytes < 8 << 20, "{bytes} bytes");
            for detail in [0.0, 0.5, 1.0] {
                let preset = preset.clone().with_detail(detail).unwrap();
                for precision in
                    [Some(Precision::F32), files.int8.map(|_| Precision::Int8)].into_iter().flatten()
                {
                    preset.build(&candle_core::Device::Cpu, precision).unwrap();
                }
            }
        }
    }
}
