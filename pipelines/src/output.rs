// SPDX-License-Identifier: MIT OR Apache-2.0
//! The place of the output: nothing is overwritten unasked, one run writes at a time, and what stands
//! there is whole.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::exit::refused;
use crate::interrupt::Half;

/// Refuses if something of the run is there already.
pub fn free(paths: &[&Path], force: bool) -> Result<()> {
    match paths.iter().find(|path| !force && path.symlink_metadata().is_ok()) {
        Some(path) => {
            Err(refused(format!("{} exists; --force writes over it, or name another", path.display())))
        }
        None => Ok(()),
    }
}

/// `path` with `ending` behind its whole name.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A file in the making: `OUT.part`, locked until it is put in place or dropped, which removes it.
#[derive(Debug)]
pub struct Part {
    target: PathBuf,
    path: PathBuf,
    force: bool,
    placed: bool,
    half: Half,
    /// Holds the lock.
    _file: File,
}

impl Part {
    /// Claims the place; its folder is made if need be.
    pub fn claim(target: &Path, force: bool) -> Result<Self> {
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let path = beside(target, ".part");
        loop {
            let file = File::options().create(true).write(true).truncate(false).open(&path);
            let file = file.with_context(|| path.display().to_string())?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(refused(format!("another run is writing {}", target.display())));
                }
                Err(fs::TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("{} cannot be locked", path.display()));
                }
            }
            // The one who held the lock may have moved the file away meanwhile.
            let same =
                fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|m| m.ino() == now.ino()));
            if same {
                let half = Half::new(&path);
                let part = Self { target: target.to_owned(), path, force, placed: false, half, _file: file };
                free(&[target], force)?;
                return Ok(part);
            }
        }
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file in its place.
    pub fn publish(mut self) -> Result<()> {
        self.half.place(|| self.put())?;
        self.placed = true;
        Ok(())
    }

    fn put(&self) -> Result<()> {
        let placed = if self.force {
            fs::rename(&self.path, &self.target)
        } else {
            // A link cannot replace what appeared meanwhile; a renaming would.
            match fs::hard_link(&self.path, &self.target) {
                Ok(()) => fs::remove_file(&self.path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    return free(&[&self.target], false);
                }
                // A file system without links.
                Err(_) => free(&[&self.target], false).and(Ok(fs::rename(&self.path, &self.target)))?,
            }
        };
        placed.with_context(|| self.target.display().to_string())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Once it is in place, a file of this name is another run's.
        if !self.placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_at_a_time_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new/out.mkv");
        let part = Part::claim(&target, false).unwrap();
        let second = Part::claim(&target, true).unwrap_err();
        assert!(crate::exit::of(&second) == 3 && second.to_string().contains("another run"), "{second}");
        fs::write(part.path(), "one").unwrap();
        assert!(!target.exists());
        part.publish().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");

        let third = Part::claim(&target, false).unwrap_err();
        assert!(third.to_string().contains("--force"), "{third}");
        // What a killed run left is no obstacle, and a run that gives up leaves what was there.
        fs::write(beside(&target, ".part"), "half").unwrap();
        drop(Part::claim(&target, true).unwrap());
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);

        let part = Part::claim(&target, true).unwrap();
        fs::write(part.path(), "two").unwrap();
        part.publish().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "two");
    }
}
