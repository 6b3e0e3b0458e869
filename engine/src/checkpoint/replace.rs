// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file that appears whole or not at all: written beside its place, then renamed.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{Error, Result, atomic::create_beside};

/// A file being written under a name of its own; dropped without [`Replacement::commit`] it is
/// removed again.
pub struct Replacement {
    place: PathBuf,
    beside: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Replacement {
    /// Starts a file that will stand at `place`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file that could not be created, [`Error::File`] if `place` has no last part.
    pub fn create(place: impl AsRef<Path>) -> Result<Self> {
        let place = place.as_ref().to_path_buf();
        let (file, beside) = create_beside(&place)?;
        Ok(Self { place, beside, file: Some(BufWriter::with_capacity(1 << 20, file)) })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Io`], e.g. on a full disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self.file.as_mut().expect("present until commit, which takes self");
        file.write_all(bytes).map_err(Error::io(&self.place))
    }

    /// Brings everything to the disk and puts the file in its place.
    ///
    /// # Errors
    /// [`Error::Io`]; the old file at that place is then untouched.
    pub fn commit(mut self) -> Result<()> {
        let file = self.file.take().expect("present until commit, which takes self");
        let file = file.into_inner().map_err(|e| Error::io(&self.place)(e.into_error()))?;
        file.sync_all().map_err(Error::io(&self.place))?;
        drop(file);
        fs::rename(&self.beside, &self.place).map_err(Error::io(&self.place))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // After a commit there is nothing at that name; a failure to tidy up has no one to tell.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Writes a whole small file this way.
///
/// # Errors
/// As [`Replacement::create`], [`Replacement::write`] and [`Replacement::commit`].
pub fn replace_file(place: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let mut file = Replacement::create(place)?;
    file.write(bytes)?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_content_stays_until_commit() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a");
        replace_file(&place, b"old").unwrap();
        let mut new = Replacement::create(&place).unwrap();
        new.write(b"new").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"old");
        drop(new);
        assert_eq!(fs::read(&place).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        replace_file(&place, b"new").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"new");
    }
}
