// SPDX-License-Identifier: MIT OR Apache-2.0
//! House rules that a program can check: licence lines, file length, names, fixtures' size.

use std::{fs, path::Path};

use crate::source;

const LICENCE_LINE: &str = "SPDX-License-Identifier: MIT OR Apache-2.0";
/// Files that carry the licence line, by ending.
const LICENSED: &[&str] = &["rs", "py", "sh"];
/// One idea per file.
const MOST_LINES: usize = 400;
/// Rooms without an idea.
const FORBIDDEN_NAMES: &[&str] = &["util", "utils", "common", "helpers", "misc", "core", "manager"];
/// All of `tests/fixtures`, in bytes.
const MOST_FIXTURE_BYTES: u64 = 15 << 20;

pub fn run(_: &[String]) -> Vec<String> {
    let root = crate::root();
    let files = source::files(&root);
    let mut findings: Vec<String> = files.iter().flat_map(|file| one_file(&root, file)).collect();
    let fixtures = files.iter().filter(|file| file.starts_with("tests/fixtures"));
    let bytes: u64 = fixtures.filter_map(|file| fs::metadata(root.join(file)).ok()).map(|m| m.len()).sum();
    if bytes > MOST_FIXTURE_BYTES {
        findings
            .push(format!("tests/fixtures holds {bytes} bytes, at most {MOST_FIXTURE_BYTES} are allowed"));
    }
    findings
}

fn one_file(root: &Path, file: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let ending = file.extension().unwrap_or_default().to_string_lossy();
    if ending == "rs" && FORBIDDEN_NAMES.contains(&stem.as_ref()) {
        wrong.push("name the idea, not the room".to_string());
    }
    if LICENSED.contains(&ending.as_ref()) {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        if !text.lines().take(2).any(|line| line.contains(LICENCE_LINE)) {
            wrong.push(format!("the first line must be `{LICENCE_LINE}` in a comment"));
        }
        let lines = text.lines().count();
        if ending == "rs" && lines > MOST_LINES {
            wrong.push(format!("{lines} lines, at most {MOST_LINES} are allowed; split it by idea"));
        }
    }
    wrong.into_iter().map(|what| format!("{}: {what}", file.display())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_its_rules() {
        assert_eq!(run(&[]), Vec::<String>::new());
    }
}
