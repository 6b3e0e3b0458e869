// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values of a JSON file by their path, with errors that name file, path and value.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Error, Result};

/// Largest JSON file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A parsed JSON file. Paths are JSON pointers, such as `/config/beta_max`.
#[derive(Debug, Clone)]
pub struct Json {
    path: PathBuf,
    root: Value,
}

impl Json {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::File`] if it is too large or no JSON.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let bytes = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
        if bytes > MAX_BYTES {
            return Err(Error::file(&path, format!("is {bytes} bytes long, at most {MAX_BYTES} are read")));
        }
        let text = std::fs::read(&path).map_err(Error::io(&path))?;
        let root = serde_json::from_slice(&text).map_err(|e| Error::file(&path, format!("no JSON: {e}")))?;
        Ok(Self { path, root })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value at a pointer, if there is one other than `null`.
    pub fn find(&self, pointer: &str) -> Option<&Value> {
        self.root.pointer(pointer).filter(|value| !value.is_null())
    }

    /// The value at a pointer.
    ///
    /// # Errors
    /// [`Error::File`] if it is absent.
    pub fn value(&self, pointer: &str) -> Result<&Value> {
        self.find(pointer).ok_or_else(|| Error::file(&self.path, format!("{} is missing", named(pointer))))
    }

    /// A number.
    ///
    /// # Errors
    /// [`Error::File`] if it is absent or no number.
    pub fn number(&self, pointer: &str) -> Result<f64> {
        self.typed(pointer, "a number", Value::as_f64)
    }

    /// A whole number that is not negative.
    ///
    /// # Errors
    /// [`Error::File`] if it is absent or something else.
    pub fn count(&self, pointer: &str) -> Result<usize> {
        self.typed(pointer, "a whole number, not negative", |v| v.as_u64()?.try_into().ok())
    }

    /// True or false.
    ///
    /// # Errors
    /// [`Error::File`] if it is absent or something else.
    pub fn flag(&self, pointer: &str) -> Result<bool> {
        self.typed(pointer, "true or false", Value::as_bool)
    }

    /// A string.
    ///
    /// # Errors
    /// [`Error::File`] if it is absent or something else.
    pub fn text(&self, pointer: &str) -> Result<&str> {
        self.typed(pointer, "a string", Value::as_str)
    }

    /// A list.
    ///
    /// # Errors
    /// [`Error::File`] if it is absent or something else.
    pub fn list(&self, pointer: &str) -> Result<&[Value]> {
        self.typed(pointer, "a list", |v| v.as_array().map(Vec::as_slice))
    }

    /// A list of whole numbers that are not negative.
    ///
    /// # Errors
    /// [`Error::File`] if it is absent or something else.
    pub fn counts(&self, pointer: &str) -> Result<Vec<usize>> {
        self.typed(pointer, "a list of whole numbers, not negative", |v| {
            v.as_array()?.iter().map(|entry| entry.as_u64()?.try_into().ok()).collect()
        })
    }

    /// The names inside an object, sorted.
    ///
    /// # Errors
    /// [`Error::File`] if it is absent or no object.
    pub fn keys(&self, pointer: &str) -> Result<Vec<&str>> {
        self.typed(pointer, "an object", |v| Some(v.as_object()?.keys().map(String::as_str).collect()))
    }

    /// An error that names this file.
    pub fn error(&self, reason: impl ToString) -> Error {
        Error::file(&self.path, reason)
    }

    fn typed<'a, T>(
        &'a self,
        pointer: &str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.value(pointer)?;
        read(value)
            .ok_or_else(|| self.error(format!("{} is {}, but must be {kind}", named(pointer), short(value))))
    }
}

fn named(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// The value's text, cut so that a message stays one line.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}
