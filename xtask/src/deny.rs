// SPDX-License-Identifier: MIT OR Apache-2.0
//! Licences, bans and sources of all dependencies, by the lists in `deny.toml`.
//!
//! cargo-deny reads the same file and knows more (advisories), but compiling it takes longer than all
//! else that CI does; this needs nothing but cargo.

use std::{fs, path::Path, process::Command};

const RULES: &str = "deny.toml";
/// How `Cargo.lock` writes crates.io.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub fn run(_: &[String]) -> Vec<String> {
    let root = crate::root();
    let Ok(rules) = fs::read_to_string(root.join(RULES)) else { return vec![format!("cannot read {RULES}")] };
    let (allowed, banned) = (list(&rules, "licenses", "allow"), list(&rules, "bans", "deny"));
    if allowed.is_empty() || banned.is_empty() {
        return vec![format!("{RULES}: licenses.allow or bans.deny is missing")];
    }
    let mut findings = foreign_sources(&root);
    match packages(&root) {
        Err(reason) => findings.push(reason),
        Ok(packages) => {
            for (package, licence) in packages {
                let name = package.split(' ').next().unwrap_or_default();
                if banned.iter().any(|b| b == name) {
                    findings.push(format!("{package}: banned in {RULES}"));
                }
                if !permits(&licence, &allowed) {
                    findings.push(format!("{package}: licence `{licence}` is not allowed in {RULES}"));
                }
            }
        }
    }
    findings
}

/// Every package of the workspace's tree, all features and kinds, with its licence.
fn packages(root: &Path) -> Result<Vec<(String, String)>, String> {
    let kinds = ["tree", "--workspace", "--all-features", "--edges", "normal,build,dev", "--prefix", "none"];
    let output = Command::new("cargo")
        .args(kinds)
        .args(["--no-dedupe", "--format", "{p}|{l}"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut packages: Vec<(String, String)> =
        text.lines().filter_map(|line| line.split_once('|')).map(|(p, l)| (p.into(), l.into())).collect();
    packages.sort();
    packages.dedup();
    Ok(packages)
}

fn foreign_sources(root: &Path) -> Vec<String> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = "));
    let foreign = sources.filter(|source| source.trim_matches('"') != CRATES_IO);
    foreign.map(|source| format!("Cargo.lock: source {source} is not crates.io")).collect()
}

/// The strings of `key = [ … ]` in `[section]`.
fn list(rules: &str, section: &str, key: &str) -> Vec<String> {
    let Some((_, rest)) = rules.split_once(&format!("[{section}]\n")) else { return Vec::new() };
    let body = rest.split("\n[").next().unwrap_or_default();
    let Some((_, array)) = body.split_once(&format!("\n{key} = [")) else { return Vec::new() };
    let array = array.split(']').next().unwrap_or_default();
    array
        .split(',')
        .map(|item| item.trim().trim_matches('"').to_string())
        .filter(|item| !item.is_empty())
        .collect()
}

/// Whether an SPDX expression can be met with the allowed licences. `/` is the old form of OR.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = either(&words, &mut at, allowed);
    met && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= both(words, at, allowed);
    }
    met
}

fn both(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = either(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    let mut licence = word.to_string();
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&licence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(String::from);
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "GPL-3.0/MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(permits(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT", "MIT)", "MIT GPL-3.0", "OR"] {
            assert!(!permits(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn lists_are_read_from_their_section() {
        let rules = "[a]\nallow = [\"x\"]\n[licenses]\nversion = 2\nallow = [\n  \"y\",\n  \"z\",\n]\n[b]\n";
        assert_eq!(list(rules, "licenses", "allow"), ["y", "z"]);
        assert_eq!(list(rules, "a", "deny"), Vec::<String>::new());
    }
}
