// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that appear whole or not at all: written beside their place, then renamed into it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Error, Result};

/// Writes the file at `path` through `fill`. Until all of it is on the disk, an older file at
/// `path` stays as it was; after an error, nothing is left behind.
///
/// # Errors
/// What `fill` returns, or [`Error::Io`] naming `path` if it cannot be created, flushed or renamed
/// (full disk, no such folder, no permission).
pub fn write(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let (file, beside) = create_beside(path)?;
    let mut writer = BufWriter::new(file);
    let written = fill(&mut writer).and_then(|()| {
        writer.flush().map_err(Error::io(path))?;
        writer.get_ref().sync_all().map_err(Error::io(path))?;
        fs::rename(&beside, path).map_err(Error::io(path))
    });
    if written.is_err() {
        // The first error is the one worth reporting; the rest of the file may be gone already.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// [`write()`] with the content at hand.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// A new file in the folder of `path`, to be renamed to it, and its name: that of `path` with something added or,
/// where this is too long for the file system, a short one.
///
/// # Errors
/// [`Error::Io`] naming `path`, [`Error::File`] if it has no last part.
pub(crate) fn create_beside(path: &Path) -> Result<(File, PathBuf)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().ok_or_else(|| Error::file(path, "is not the name of a file"))?;
    let too_long = |err: &io::Error| err.kind() == io::ErrorKind::InvalidFilename;
    let mut long = true;
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut beside = std::ffi::OsString::from(".");
        if long {
            beside.push(name);
            beside.push(".");
        }
        beside.push(format!("{}-{count}.part", std::process::id()));
        let beside = path.with_file_name(beside);
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Ok(file) => return Ok((file, beside)),
            // Left over by a killed process that had our number: take the next name.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            // Said before the work if the name is too long by itself.
            Err(err) if long && too_long(&err) => match fs::symlink_metadata(path) {
                Err(err) if too_long(&err) => return Err(Error::io(path)(err)),
                _ => long = false,
            },
            Err(err) => return Err(Error::io(path)(err)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_bytes(&path, b"old").unwrap();
        let failed = write(&path, |file| {
            file.write_all(b"half").unwrap();
            Err(Error::Cancelled)
        });
        assert!(matches!(failed, Err(Error::Cancelled)));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        write_bytes(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_may_be_as_long_as_the_file_system_takes() {
        let dir = tempfile::tempdir().unwrap();
        let named = |length: usize| dir.path().join("n".repeat(length));
        write_bytes(&named(255), b"whole").unwrap();
        assert_eq!(fs::read(named(255)).unwrap(), b"whole");
        assert!(write_bytes(&named(256), b"").unwrap_err().to_string().contains("nnn"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let err = write_bytes(Path::new("/nowhere-at-all/x.bin"), b"").unwrap_err().to_string();
        assert!(err.contains("/nowhere-at-all/x.bin"), "{err}");
    }
}
