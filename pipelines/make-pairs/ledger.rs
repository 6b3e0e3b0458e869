// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is on the disk: pictures, one file of rows for each finished sequence, and the manifest made of them. A
//! sequence counts only once its rows are there, so a run that was killed goes on where it was.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use i2sb::{
    atomic,
    picture::{Picture, SaveOptions},
    train::manifest::MANIFEST,
};

/// Columns of the manifest.
pub const COLUMNS: &[&str] = &[
    "file",
    "tier",
    "licence",
    "author",
    "kind",
    "package",
    "version",
    "path",
    "pictures",
    "codec",
    "frame_type",
    "format",
    "matrix",
    "settings",
    "before",
    "target",
    "bits_per_pixel",
    "psnr",
    "sequence",
    "frame",
    "seed",
];

/// Clean pictures and the manifest.
const CLEAN: &str = "clean";
/// Their twins, under the same names.
const DEGRADED: &str = "degraded";
/// A file for each finished sequence.
const ROWS: &str = ".rows";
/// What the folder was made with.
const SETTINGS: &str = ".settings";

/// An output folder.
pub struct Ledger(PathBuf);

impl Ledger {
    /// Opens or makes the folder; one that was begun with other settings is an error.
    pub fn open(folder: &Path, settings: &str) -> Result<Self> {
        for part in [CLEAN, DEGRADED, ROWS] {
            let path = folder.join(part);
            fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
            remove_unfinished(&path)?;
        }
        let path = folder.join(SETTINGS);
        match fs::read_to_string(&path) {
            Ok(old) => ensure!(
                old == settings,
                "{} was begun with other settings; take another folder, or these:\n{old}",
                folder.display()
            ),
            Err(_) => atomic::write_bytes(&path, settings.as_bytes())?,
        }
        Ok(Self(folder.to_path_buf()))
    }

    /// How many pairs this sequence has; nothing if it is not finished.
    pub fn pairs_of(&self, sequence: u64) -> Option<usize> {
        let rows = fs::read_to_string(self.rows(sequence)).ok()?;
        Some(rows.lines().count())
    }

    /// Writes a pair.
    pub fn pair(&self, name: &str, side: usize, clean: &[f32], degraded: &[f32]) -> Result<()> {
        for (folder, planes) in [(CLEAN, clean), (DEGRADED, degraded)] {
            let picture = Picture::new(side, side, planes.to_vec())?;
            picture.save(self.0.join(folder).join(name), SaveOptions::default())?;
        }
        Ok(())
    }

    /// Marks a sequence as finished; each row has a field for each of [`COLUMNS`].
    pub fn finish(&self, sequence: u64, rows: &[Vec<String>]) -> Result<()> {
        let mut text = String::new();
        for row in rows {
            ensure!(row.len() == COLUMNS.len(), "a row of {} fields", row.len());
            let fields: Vec<String> = row.iter().map(|field| quoted(field)).collect();
            writeln!(text, "{}", fields.join(","))?;
        }
        atomic::write_bytes(&self.rows(sequence), text.as_bytes())?;
        Ok(())
    }

    /// Writes the manifest of sequences `0..end`; gives the number of pairs.
    pub fn manifest(&self, end: u64) -> Result<usize> {
        let mut text = format!("{}\n", COLUMNS.join(","));
        let mut pairs = 0;
        for sequence in 0..end {
            let Ok(rows) = fs::read_to_string(self.rows(sequence)) else { continue };
            pairs += rows.lines().count();
            text.push_str(&rows);
        }
        atomic::write_bytes(&self.0.join(CLEAN).join(MANIFEST), text.as_bytes())?;
        Ok(pairs)
    }

    fn rows(&self, sequence: u64) -> PathBuf {
        self.0.join(ROWS).join(format!("{sequence:06}.csv"))
    }
}

/// Removes what a killed run left half written.
fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "part") {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// A field as CSV has it; line ends become spaces, so that a row is a line.
fn quoted(field: &str) -> String {
    let field = field.replace(['\n', '\r'], " ");
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;
    use i2sb::train::manifest::Manifest;

    #[test]
    fn only_finished_sequences_count_and_fields_survive() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path(), "seed 1").unwrap();
        let row = |name: &str| -> Vec<String> {
            COLUMNS
                .iter()
                .map(|column| match *column {
                    "file" => name.to_string(),
                    "author" => "A, \"B\"\nC".to_string(),
                    column => column.to_string(),
                })
                .collect()
        };
        ledger.pair("a.webp", 2, &[0.0; 12], &[0.5; 12]).unwrap();
        ledger.finish(3, &[row("a.webp"), row("b.webp")]).unwrap();
        fs::write(folder.path().join(CLEAN).join(".x.webp.1-0.part"), b"half").unwrap();
        let ledger = Ledger::open(folder.path(), "seed 1").unwrap();
        assert_eq!((ledger.pairs_of(3), ledger.pairs_of(2)), (Some(2), None));
        assert_eq!(ledger.manifest(9).unwrap(), 2);
        let manifest = Manifest::read(&folder.path().join(CLEAN)).unwrap();
        assert_eq!(manifest.value("b.webp", "author"), Some("A, \"B\" C"));
        assert_eq!(fs::read_dir(folder.path().join(CLEAN)).unwrap().count(), 2);
        let other = Ledger::open(folder.path(), "seed 2").err().unwrap().to_string();
        assert!(other.contains("other settings") && other.contains("seed 1"), "{other}");
    }
}
