// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that CI checks, stage by stage, each with its time. The tests come last, so that the
//! test runner has the last word.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{cuda_check, deny, layers, pages, rules};

/// One stage: a name, and what runs.
struct Stage {
    name: &'static str,
    run: Run,
}

enum Run {
    /// A program with its arguments, and environment variables; run in the root. If the program that
    /// stands first is a cargo subcommand that is not installed, the stage is skipped, and says so.
    Program(&'static [&'static str], &'static [(&'static str, &'static str)]),
    /// Checks inside this program.
    Findings(fn(&[String]) -> Vec<String>),
    /// `i2sb verify` on every folder of fixtures that is there.
    Verify,
}

/// One profile (`--release`) throughout: dependencies are compiled once for tests and once, without
/// code generation, for clippy and rustdoc together.
const STAGES: &[Stage] = &[
    Stage { name: "format", run: Run::Program(&["cargo", "fmt", "--all", "--check"], &[]) },
    Stage { name: "layers", run: Run::Findings(layers::run) },
    Stage { name: "rules", run: Run::Findings(rules::run) },
    Stage { name: "pages", run: Run::Findings(pages::run) },
    Stage { name: "deny", run: Run::Findings(deny::run) },
    Stage {
        name: "clippy",
        run: Run::Program(
            &["cargo", "clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"],
            &[],
        ),
    },
    Stage {
        name: "docs",
        run: Run::Program(
            &["cargo", "doc", "--release", "--workspace", "--no-deps"],
            &[("RUSTDOCFLAGS", "-D warnings")],
        ),
    },
    Stage {
        name: "build",
        run: Run::Program(&["cargo", "test", "--release", "--workspace", "--no-run"], &[]),
    },
    Stage { name: "verify", run: Run::Verify },
    Stage { name: "cuda", run: Run::Findings(cuda_check::run) },
    Stage {
        name: "test",
        run: Run::Program(
            &["timeout", "--verbose", "2400", "cargo", "test", "--release", "--workspace"],
            &[],
        ),
    },
];

/// Fixtures for `verify`: the compact copy that the project carries, and the full set where the
/// checkout has one beside it.
const FIXTURES: &[&str] = &["tests/fixtures/i2sb", "../shared/i2sb/fixtures"];

pub fn run(only: &[String]) -> Vec<String> {
    if let Some(unknown) = only.iter().find(|name| !STAGES.iter().any(|stage| stage.name == **name)) {
        let names: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
        return vec![format!("no stage is called {unknown}; there are {}", names.join(", "))];
    }
    let root = crate::root();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for stage in STAGES.iter().filter(|stage| only.is_empty() || only.iter().any(|name| name == stage.name)) {
        if stage.name == "test" {
            print_times(&times);
        }
        eprintln!("== {}", stage.name);
        let begin = Instant::now();
        let findings = match stage.run {
            Run::Program(line, vars) => program(&root, line, vars),
            Run::Findings(check) => check(&[]),
            Run::Verify => FIXTURES.iter().flat_map(|folder| verify(&root, folder)).collect(),
        };
        times.push((stage.name, begin.elapsed()));
        if !findings.is_empty() {
            return findings.into_iter().map(|what| format!("{}: {what}", stage.name)).collect();
        }
    }
    Vec::new()
}

fn program(root: &Path, line: &[&str], vars: &[(&str, &str)]) -> Vec<String> {
    let [name, args @ ..] = line else { return Vec::new() };
    let status = Command::new(name).args(args).envs(vars.iter().copied()).current_dir(root).status();
    match status {
        Ok(status) if status.success() => Vec::new(),
        Ok(status) => vec![format!("`{}` ended with {status}", line.join(" "))],
        Err(error) => vec![format!("cannot start {name}: {error}")],
    }
}

fn verify(root: &Path, folder: &str) -> Vec<String> {
    if !root.join(folder).is_dir() {
        eprintln!("{folder} is not here: skipped");
        return Vec::new();
    }
    program(root, &["target/release/i2sb", "verify", folder], &[])
}

fn print_times(times: &[(&str, Duration)]) {
    for (name, time) in times {
        eprintln!("{name:10} {:8.1} s", time.as_secs_f64());
    }
}
