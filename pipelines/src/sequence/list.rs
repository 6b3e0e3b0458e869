// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files are a sequence, and that none is missing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::exit::refused;

/// Endings of the pictures that can be read, lower case.
pub const READABLE: &[&str] = &["dpx", "tif", "tiff", "png"];

/// A file of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Numbered {
    /// What stands before the number, and after it.
    around: (String, String),
    number: u64,
    path: PathBuf,
}

/// Whether this is a sequence: a folder, or a name with `%06d` or the like in place of the number.
pub fn is(input: &Path) -> bool {
    input.is_dir() || pattern(input).is_some()
}

/// What stands before and after `%0Nd` or `%d` in a file's name.
pub fn pattern(input: &Path) -> Option<(String, String)> {
    let name = input.file_name()?.to_str()?;
    let (before, rest) = name.split_once('%')?;
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix('d')?;
    Some((before.to_owned(), after.to_owned()))
}

/// The files of a sequence, in order.
///
/// # Errors
/// If there are none, if a number is missing or there twice, or if files of several sequences are there.
pub fn files(input: &Path) -> Result<Vec<PathBuf>> {
    let wanted = pattern(input);
    let folder = match &wanted {
        None => input,
        Some(_) => input.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
        if !READABLE.contains(&ending.as_str()) {
            continue;
        }
        match numbered(&path) {
            Some(file) if wanted.as_ref().is_none_or(|around| *around == file.around) => found.push(file),
            Some(_) => {}
            None if wanted.is_none() => {
                return Err(refused(format!("{}: a picture without a number", path.display())));
            }
            None => {}
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("{}: no picture of a sequence ends in {}", input.display(), READABLE.join(", "));
    }
    for pair in found.windows(2) {
        let [a, b] = pair else { continue };
        let (first, second) = (a.path.display(), b.path.display());
        if a.around != b.around {
            return Err(refused(format!(
                "{first} and {second} are of two sequences; name one, as in {}%06d{}",
                a.around.0, a.around.1
            )));
        }
        match b.number - a.number {
            1 => {}
            0 => return Err(refused(format!("number {} is there twice: {first} and {second}", a.number))),
            2 => {
                return Err(refused(format!(
                    "number {} is missing between {first} and {second}",
                    a.number + 1
                )));
            }
            _ => {
                return Err(refused(format!(
                    "numbers {} to {} are missing between {first} and {second}",
                    a.number + 1,
                    b.number - 1
                )));
            }
        }
    }
    Ok(found.into_iter().map(|file| file.path).collect())
}

/// The last run of digits before the ending is the number.
fn numbered(path: &Path) -> Option<Numbered> {
    let name = path.file_name()?.to_str()?;
    let dot = name.rfind('.')?;
    let end = name[..dot].rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = name[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
    let around = (name[..start].to_owned(), name[end..].to_owned());
    Some(Numbered { around, number: name[start..end].parse().ok()?, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        folder
    }

    #[test]
    fn numbers_order_the_files_and_their_width_does_not_matter() {
        let place = folder(&["a_v2_10.png", "a_v2_9.png", "a_v2_11.png", "notes.txt"]);
        let names: Vec<_> =
            files(place.path()).unwrap().iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a_v2_9.png", "a_v2_10.png", "a_v2_11.png"]);
        let place = folder(&["x0001.dpx", "x0002.dpx", "y0001.dpx"]);
        assert_eq!(files(&place.path().join("x%04d.dpx")).unwrap().len(), 2);
        assert!(is(Path::new("a/%06d.tif")) && !is(Path::new("a/100%.mkv")));
    }

    #[test]
    fn gaps_doubles_and_mixtures_are_refused() {
        for (names, word) in [
            (&["a1.png", "a2.png", "a4.png"][..], "number 3 is missing"),
            (&["a1.png", "a5.png"], "numbers 2 to 4 are missing"),
            (&["a1.png", "a01.png"], "there twice"),
            (&["a1.png", "b2.png"], "two sequences"),
            (&["a1.png", "cover.png"], "without a number"),
        ] {
            let place = folder(names);
            let error = files(place.path()).unwrap_err();
            assert!(error.to_string().contains(word) && crate::exit::of(&error) == 3, "{names:?}: {error}");
        }
        assert!(files(folder(&["a.txt"]).path()).unwrap_err().to_string().contains("dpx, tif"));
    }
}
