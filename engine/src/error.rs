// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong, grouped by who can mend it: the user, the file, the picture, the machine.

use std::path::{Path, PathBuf};

/// The engine's error: each variant names the thing, its value and the limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting has a value outside its range; the user can change it.
    #[error("{name} is {value}, but must be {limit}")]
    Setting {
        /// Name of the setting as the user writes it.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// What would have been accepted, with its unit.
        limit: String,
    },
    /// A file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file was read, but what it holds cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, with the value found and the value allowed.
        reason: String,
    },
    /// Tensors whose shapes do not fit an operation.
    #[error("{what}: shape {found:?}, but {expected} is needed")]
    Shape {
        /// The operation or the tensor's name.
        what: String,
        /// The shape that was given.
        found: Vec<usize>,
        /// The shape or rule that was expected.
        expected: String,
    },
    /// A device that was asked for cannot be used.
    #[error("device {device}: {reason}")]
    Device {
        /// The device as the user wrote it.
        device: String,
        /// Why not, and what to do next.
        reason: String,
    },
    /// A value that must be finite is not.
    #[error("{what}: {value} is not a finite number")]
    NotFinite {
        /// The tensor, loss or weight.
        what: String,
        /// The value found.
        value: f32,
    },
    /// The work was stopped from outside through a [`crate::Cancel`] token.
    #[error("cancelled")]
    Cancelled,
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Result with the engine's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// [`Error::Setting`] in one call.
    pub fn setting(name: &'static str, value: impl ToString, limit: impl ToString) -> Self {
        Self::Setting { name, value: value.to_string(), limit: limit.to_string() }
    }

    /// [`Error::Io`] in one call: `.map_err(Error::io(path))`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// [`Error::File`] in one call.
    pub fn file(path: impl AsRef<Path>, reason: impl ToString) -> Self {
        Self::File { path: path.as_ref().to_path_buf(), reason: reason.to_string() }
    }

    /// [`Error::Shape`] in one call.
    pub fn shape(what: impl ToString, found: &[usize], expected: impl ToString) -> Self {
        Self::Shape { what: what.to_string(), found: found.to_vec(), expected: expected.to_string() }
    }
}
