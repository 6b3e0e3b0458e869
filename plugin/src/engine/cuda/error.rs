// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why CUDA cannot be used: each with what is missing and what to do next.

use std::path::PathBuf;

use i2sb_cuda_abi::Code;

/// Why the CUDA library could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The library is nowhere.
    #[error("{} is not there; searched: {}; install it there, set {variable} to its path, or use device=cpu", names.join(" or "), list(searched))]
    NotFound {
        /// Names of its file.
        names: Vec<String>,
        /// Every place, in order.
        searched: Vec<PathBuf>,
        /// The environment variable that names the file.
        variable: &'static str,
    },
    /// The library is there, but not NVIDIA's driver.
    #[error("{}: NVIDIA's driver is missing ({reason}); install driver 580 or newer", path.display())]
    NoDriver {
        /// The library.
        path: PathBuf,
        /// What the system's loader said.
        reason: String,
    },
    /// The library is there, but something that it needs is not.
    #[error("{}: {reason}; CUDA 13 and cuDNN 9 must be on the loader's path (LD_LIBRARY_PATH)", path.display())]
    Unloadable {
        /// The library.
        path: PathBuf,
        /// What the system's loader said.
        reason: String,
    },
    /// The library belongs to another version of the plugin.
    #[error("{}: its interface has version {found}, {needed} is needed; install the library of this plugin's version", path.display())]
    Version {
        /// The library.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The plugin's.
        needed: u32,
    },
    /// The library said no.
    #[error("{reason}")]
    Refused {
        /// The kind of refusal.
        code: Code,
        /// Its words.
        reason: String,
    },
}

fn list(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}
