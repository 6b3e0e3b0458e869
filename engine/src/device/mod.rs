// SPDX-License-Identifier: MIT OR Apache-2.0
//! `auto | cpu | cuda:N` → a device of the tensor library.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(all(test, feature = "cuda"))]
pub(crate) mod emulated;

use std::{fmt, str::FromStr};

use candle_core::Device;

use crate::{Error, Result};

/// Where a network runs, as the user names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceName {
    /// The first CUDA device if this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this number, counted from 0 as `nvidia-smi` does.
    Cuda(usize),
}

/// What a [`DeviceName`] may be, in words for help texts and errors.
pub const DEVICE_NAMES: &str = "auto, cpu or cuda:N with N counted from 0";

impl DeviceName {
    /// Opens the device. [`DeviceName::Auto`] never fails: without CUDA it is the CPU.
    ///
    /// # Errors
    /// [`Error::Device`] if a CUDA device is asked for that this build or this machine lacks.
    pub fn open(self) -> Result<Device> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Auto if cuda::count() > 0 => Ok(cuda::open(0).unwrap_or(Device::Cpu)),
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => cuda::open(number).map_err(|reason| {
                self.refused(&format!(
                    "{reason}; `nvidia-smi` tells drivers and devices, device cpu always works"
                ))
            }),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(self.refused(
                "this build runs on the CPU only; use device cpu or auto, or build with --features cuda",
            )),
        }
    }

    fn refused(self, reason: &str) -> Error {
        Error::Device { device: self.to_string(), reason: reason.to_string() }
    }
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let number =
            |digits: &str| digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
        match name {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => name.strip_prefix("cuda:").and_then(number).map(Self::Cuda),
        }
        .ok_or_else(|| Error::setting("device", name, DEVICE_NAMES))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => out.write_str("auto"),
            Self::Cpu => out.write_str("cpu"),
            Self::Cuda(number) => write!(out, "cuda:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for name in ["auto", "cpu", "cuda:0", "cuda:17"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceName>().unwrap(), DeviceName::Cuda(0));
    }

    #[test]
    fn wrong_names_are_told_what_is_right() {
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "CPU", "cuda:99999999999999999999"] {
            let error = name.parse::<DeviceName>().unwrap_err().to_string();
            assert!(error.contains(DEVICE_NAMES), "{error}");
        }
    }

    #[test]
    fn the_cpu_always_opens() {
        assert!(DeviceName::Cpu.open().unwrap().is_cpu());
        assert!(DeviceName::Auto.open().is_ok());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_what_to_do() {
        let error = DeviceName::Cuda(1).open().unwrap_err().to_string();
        assert!(error.starts_with("device cuda:1: ") && error.contains("--features cuda"), "{error}");
    }
}
