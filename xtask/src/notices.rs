// SPDX-License-Identifier: MIT OR Apache-2.0
//! Licences and copyright notices of every library that is linked into what is shipped, as their licences
//! ask: read from the sources that cargo built from, printed as one text.

use std::{collections::BTreeMap, env, fs, io::Write, path::PathBuf, process::Command};

/// How files with licences and notices are called, lower case.
const NAMES: &[&str] = &["licen", "copying", "copyright", "notice", "unlicense"];

pub fn run(_: &[String]) -> Vec<String> {
    match text() {
        Err(reason) => vec![reason],
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => Vec::new(),
            Err(error) => vec![format!("cannot print: {error}")],
        },
    }
}

fn text() -> Result<String, String> {
    // A text that many libraries share stands once, with all that carry it.
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut list = String::new();
    for (package, licence) in linked()? {
        list += &format!("{package}: {licence}\n");
        let folder = folder(&package).ok_or_else(|| format!("the sources of {package} are not there"))?;
        let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            file.is_file() && NAMES.iter().any(|start| name.starts_with(start))
        });
        files.sort();
        for file in files {
            let bytes = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            let carriers = texts.entry(text).or_default();
            if carriers.last() != Some(&package) {
                carriers.push(package.clone());
            }
        }
    }
    let mut whole = format!("Libraries that are linked into the programs, and their licences.\n\n{list}");
    for (text, carriers) in texts {
        whole += &format!("\n{}\n{}:\n\n{text}\n", "-".repeat(78), carriers.join(", "));
    }
    Ok(whole)
}

/// Name and version, and licence, of what the workspace links from other sources.
fn linked() -> Result<Vec<(String, String)>, String> {
    let args = ["tree", "--workspace", "--edges", "normal", "--prefix", "none", "--no-dedupe", "--locked"];
    let output = Command::new("cargo")
        .args(args)
        .args(["--format", "{p}|{l}"])
        .current_dir(crate::root())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((package, licence)) = line.split_once('|') else { continue };
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        // Ours are followed by their path.
        if words.next().is_none_or(|word| word == "(proc-macro)" || word == "(*)") {
            found.push((format!("{name} {}", version.trim_start_matches('v')), licence.to_owned()));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Where cargo keeps the sources of a package.
fn folder(package: &str) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/src")).ok()?;
    let name = package.replace(' ', "-");
    registries.flatten().map(|registry| registry.path().join(&name)).find(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linked_library_is_named_with_its_notice() {
        let text = text().unwrap();
        for word in ["candle-core ", "clap ", "Permission is hereby granted", "Apache License"] {
            assert!(text.contains(word), "{word}");
        }
        assert!(!text.contains("xtask") && !text.contains("proptest "), "more than what is linked");
        let folders = linked().unwrap().into_iter().map(|(package, _)| folder(&package));
        assert!(folders.flatten().count() > 50);
    }
}
