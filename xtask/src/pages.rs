// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text for people is true where a program can tell: links and files exist, commands are there.

use std::{fs, path::Path};

use crate::source;

/// Where a path in a page may begin: beside the page, at the root, or where pages about the engine
/// leave the first folders out.
const BASES: &[&str] = &["", "engine/src", "engine", "plugin/src"];

/// README says what the project is on one page.
const MOST_LINES: &[(&str, usize)] = &[("README.md", 120), ("ARCHITECTURE.md", 200)];

pub fn run(_: &[String]) -> Vec<String> {
    let root = crate::root();
    let pages = source::files(&root).into_iter().filter(|file| file.extension().is_some_and(|e| e == "md"));
    pages.flat_map(|page| one_page(&root, &page)).collect()
}

fn one_page(root: &Path, page: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join(page)).unwrap_or_default();
    let beside = page.parent().unwrap_or(Path::new(""));
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        root.join(beside).join(path).exists() || BASES.iter().any(|base| root.join(base).join(path).exists())
    };
    let mut wrong = Vec::new();
    if let Some((_, most)) = MOST_LINES.iter().find(|(name, _)| Path::new(name) == page)
        && text.lines().count() > *most
    {
        wrong.push(format!("{} lines, at most {most} are allowed", text.lines().count()));
    }
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            wrong.extend(command(line.trim(), root));
        } else {
            // A path whose first folder is not ours belongs to another project.
            let ours =
                paths(line).into_iter().filter(|path| exists(path.split('/').next().unwrap_or_default()));
            let missing = links(line).into_iter().chain(ours).filter(|path| !exists(path));
            wrong.extend(missing.map(|path| format!("{path} does not exist")));
        }
    }
    wrong.into_iter().map(|what| format!("{}: {what}", page.display())).collect()
}

/// Targets of `[text](target)` that are files.
fn links(line: &str) -> Vec<String> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    files.map(|target| target.split('#').next().unwrap_or_default().to_string()).collect()
}

/// Words in backticks that are plainly paths of this project: a slash, and nothing but file names.
fn paths(line: &str) -> Vec<String> {
    let quoted = line.split('`').skip(1).step_by(2);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let is_path = |word: &&str| {
        let ends_like_one =
            word.ends_with('/') || word.rsplit('/').next().is_some_and(|name| name.contains('.'));
        word.contains('/') && word.chars().all(plain) && ends_like_one && !word.starts_with(['/', '.'])
    };
    // `target/` and `build/` exist only after a build, the others after a run.
    let made = |word: &&str| {
        ["target/", "build/", "out/", "tests/peers/.venv", "tests/peers/.cache"]
            .iter()
            .any(|made| word.starts_with(made))
    };
    quoted.filter(is_path).filter(|word| !made(word)).map(String::from).collect()
}

/// What is wrong with a line of a code block, if it is a command of this project.
fn command(line: &str, root: &Path) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [script, ..] if script.starts_with("./") => {
            (!root.join(script).is_file()).then(|| format!("{script} does not exist"))
        }
        ["cargo", "xtask", name, ..] if !name.starts_with('#') => {
            let known = crate::COMMANDS.iter().any(|command| command.name == *name);
            (!known).then(|| format!("there is no `cargo xtask {name}`"))
        }
        ["i2sb", name, ..] if name.starts_with(|c: char| c.is_ascii_lowercase()) => {
            unknown_subcommand(name, root)
        }
        ["cargo", "run", rest @ ..] => {
            let at = rest.iter().position(|word| *word == "--")?;
            unknown_subcommand(rest.get(at + 1)?, root)
        }
        _ => None,
    }
}

fn unknown_subcommand(name: &str, root: &Path) -> Option<String> {
    let tree = fs::read_to_string(root.join("engine/src/bin/i2sb/main.rs")).unwrap_or_default();
    let mut variant = name.to_string();
    variant[..1.min(name.len())].make_ascii_uppercase();
    (!tree.contains(&format!("    {variant}("))).then(|| format!("there is no `i2sb {name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_are_found() {
        assert_eq!(links("see [a](docs/a.md#x) and [b](https://b.org)"), ["docs/a.md"]);
        assert_eq!(
            paths("`engine/src/tile.rs`, `a/b`, `net/adm/`, `https://x.y/z`, `a/<b>.rs`"),
            ["engine/src/tile.rs", "net/adm/"]
        );
    }

    #[test]
    fn commands_that_are_not_there_are_found() {
        let root = crate::root();
        for good in [
            "cargo xtask layers",
            "i2sb restore a.jpg",
            "cargo run --release -- verify x",
            "./tests/run.sh",
            "ls",
        ] {
            assert_eq!(command(good, &root), None, "{good}");
        }
        for bad in ["cargo xtask nosuch", "i2sb nosuch", "cargo run -p i2sb -- nosuch", "./nosuch.sh"] {
            assert!(command(bad, &root).is_some(), "{bad}");
        }
    }

    #[test]
    fn the_pages_are_true() {
        assert_eq!(run(&[]), Vec::<String>::new());
    }
}
