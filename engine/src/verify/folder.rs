// SPDX-License-Identifier: MIT OR Apache-2.0
//! The folder of one kind of case, and the way results leave it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use candle_core::Device;

use super::{
    case::{Case, CaseReport},
    fixture::Fixture,
    is_page,
};
use crate::{Error, Result};

/// A kind's folder while its runner works on it.
pub struct Folder<'a> {
    name: &'a str,
    path: PathBuf,
    entries: Vec<String>,
    device: &'a Device,
    report: &'a mut dyn FnMut(&CaseReport),
}

impl<'a> Folder<'a> {
    pub(super) fn open(
        dir: &Path,
        name: &'a str,
        device: &'a Device,
        report: &'a mut dyn FnMut(&CaseReport),
    ) -> Result<Self> {
        let path = dir.join(name);
        let entries = entries(&path)?;
        Ok(Self { name, path, entries, device, report })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where tensors and networks shall live.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// Names of the files and folders in it, sorted; without pages for people.
    pub fn entries(&self) -> &[String] {
        &self.entries
    }

    /// Every `NAME` for which there is a `NAME.json`, sorted. A safetensors file that no JSON belongs
    /// to, and any other file or folder, is reported as a failure here.
    pub fn stems(&mut self) -> Vec<String> {
        let stem = |entry: &str, ending: &str| entry.strip_suffix(ending).map(str::to_owned);
        let stems: BTreeSet<_> = self.entries.iter().filter_map(|e| stem(e, ".json")).collect();
        for entry in self.entries.clone() {
            let (json, tensors) = (stem(&entry, ".json"), stem(&entry, ".safetensors"));
            match tensors {
                _ if json.is_some() => {}
                Some(stem) if stems.contains(&stem) => {}
                Some(stem) => self.fail(&entry, format!("not understood: there is no {stem}.json beside it")),
                None => self.fail(&entry, "not understood: neither .json nor .safetensors"),
            }
        }
        stems.into_iter().collect()
    }

    /// Opens a pair of files and runs `body` on it; an error becomes one failed line. When `body`
    /// succeeds, every tensor must have been used.
    pub fn fixture(&mut self, stem: &str, body: impl FnOnce(&mut Self, &Fixture) -> Result<()>) {
        let result = Fixture::open(&self.path, stem, self.device).and_then(|fixture| {
            body(self, &fixture)?;
            let unused = fixture.unused();
            match unused.first() {
                None => Ok(()),
                Some(name) => {
                    let reason = format!("{} tensors are not understood, the first is {name}", unused.len());
                    Err(fixture.error(reason))
                }
            }
        });
        if let Err(error) = result {
            self.fail(stem, error);
        }
    }

    /// Runs one case and reports it; an error inside is a failed case.
    pub fn case(&mut self, stem: &str, what: &str, body: impl FnOnce(&mut Case) -> Result<()>) {
        let mut case = Case::new();
        let result = body(&mut case);
        let name = self.full_name(stem);
        let name = if what.is_empty() { name } else { format!("{name} {what}") };
        (self.report)(&case.finish(name, result));
    }

    /// Reports a failure that is no comparison.
    pub fn fail(&mut self, stem: &str, reason: impl ToString) {
        let failure = Some(reason.to_string());
        let name = self.full_name(stem);
        (self.report)(&CaseReport { name, error: f64::NAN, tolerance: 0.0, failure });
    }

    fn full_name(&self, stem: &str) -> String {
        if stem.is_empty() { self.name.to_owned() } else { format!("{}/{stem}", self.name) }
    }
}

/// The names in a folder, sorted, without pages for people.
pub(super) fn entries(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
        let name = entry.map_err(Error::io(path))?.file_name().to_string_lossy().into_owned();
        if !is_page(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
