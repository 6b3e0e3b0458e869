// SPDX-License-Identifier: MIT OR Apache-2.0
//! CUDA without needing it: the engine for GPUs is a library of its own, loaded where `device` asks.

mod error;
mod library;
mod remote;
mod search;

pub use error::CudaError;
pub use library::Library;
pub use remote::{Choice, Remote};
pub use search::{LIBRARY_VARIABLE, places};

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What was found the first time; a library stays loaded for the life of the process.
static LOADED: LazyLock<Mutex<Option<Result<Arc<Library>, CudaError>>>> = LazyLock::new(Mutex::default);

/// The library, searched for and loaded once in a process.
///
/// # Errors
/// [`CudaError`] with every place that was searched, or what the library lacks.
pub fn library() -> Result<Arc<Library>, CudaError> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.get_or_insert_with(|| Library::find(&places()).map(Arc::new)).clone()
}

/// Whether CUDA can be used here, in words for people.
pub fn status() -> String {
    let asked = library().and_then(|library| library.status("cuda:0").map(|words| (library, words)));
    match asked {
        Ok((library, words)) => format!("{words} ({})", library.path().display()),
        Err(error) => format!("not available: {error}"),
    }
}
