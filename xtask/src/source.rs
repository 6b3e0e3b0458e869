// SPDX-License-Identifier: MIT OR Apache-2.0
//! The workspace's own files, and what Rust source says once comments and tests are taken away.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Every file that git tracks or would track, relative to `root`, sorted.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    let Ok(listed) = listed else { return Vec::new() };
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut files: Vec<PathBuf> = names.split('\0').filter(|n| !n.is_empty()).map(PathBuf::from).collect();
    files.retain(|file| root.join(file).is_file());
    files.sort();
    files.dedup();
    files
}

/// A Rust file without line comments and without what follows `#[cfg(test)]` on a line of its own
/// before a `mod` (tests stand last).
pub fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    without_tests(&text)
}

fn without_tests(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens_module =
            |next: &&str| next.trim_start().starts_with("mod ") && next.trim_end().ends_with('{');
        if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(opens_module) {
            break;
        }
        kept.push_str(line.split("//").next().unwrap_or_default());
        kept.push('\n');
    }
    kept
}

/// The first name after each `prefix` (such as `crate::`), groups in braces taken apart.
pub fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let joined =
            code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        if joined {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group)),
            None => names.push(identifier(rest)),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0usize;
    let mut heads = Vec::new();
    let mut item = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(std::mem::take(&mut item)),
            _ if depth == 0 => item.push(c),
            _ => {}
        }
    }
    heads.push(item);
    heads.iter().map(|head| identifier(head.trim())).collect()
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_paths_and_groups() {
        let code =
            "use crate::{Error, ops::{Conv2d, gemm}, net};\nlet a = crate::noise::normal(key);\nxcrate::no";
        assert_eq!(names_after(code, "crate::"), ["Error", "ops", "net", "noise"]);
    }

    #[test]
    fn comments_and_tests_are_left_out() {
        let text = "use a; // crate::b\n#[cfg(test)]\nuse t;\n#[cfg(test)]\nmod tests {\nuse crate::c;\n}\n";
        assert_eq!(without_tests(text), "use a; \n#[cfg(test)]\nuse t;\n");
    }
}
