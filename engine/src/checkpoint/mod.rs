// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files of weights: read tensor by tensor with nothing in them trusted, written whole or not at all.

mod adapted;
mod globals;
mod machine;
mod options;
mod pickle;
mod replace;
mod safetensors;
#[cfg(test)]
mod tests;
mod torch;
mod training;
mod values;
mod write;
mod zip;

pub use adapted::Adapted;
pub use options::{parse_options, read_options};
pub use replace::{Replacement, replace_file};
pub use safetensors::{Entry, SafetensorsFile};
pub use torch::{TorchTensor, is_archive};
pub use training::{Ema, TorchCheckpoint, TorchWeights, WeightSet};
pub use write::write_safetensors;
