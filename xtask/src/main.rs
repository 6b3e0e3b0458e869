// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask COMMAND`: what developers and CI run. One file per command, no dependencies.

mod bundle_cuda;
mod check;
mod cuda_check;
mod deny;
mod dist;
mod layers;
mod notices;
mod pages;
mod rules;
mod source;

use std::{path::PathBuf, process::ExitCode};

/// A developer command: its name, what it does, and the function that does it with the arguments
/// that follow the name. It returns what is wrong, one line per finding; none means well.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Vec<String>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "check",
        about: "everything CI checks, stage by stage (names of stages: only those)",
        run: check::run,
    },
    Command {
        name: "layers",
        about: "modules of the engine import only from lower layers",
        run: layers::run,
    },
    Command { name: "pages", about: "links, files and commands named in pages exist", run: pages::run },
    Command { name: "rules", about: "house rules that a program can check", run: rules::run },
    Command {
        name: "bundle-cuda",
        about: "a folder that checks, measures and trains on a machine with a GPU and no network",
        run: bundle_cuda::run,
    },
    Command {
        name: "cuda-check",
        about: "the CUDA code over an emulated device (words: only tests with them in their names)",
        run: cuda_check::run,
    },
    Command {
        name: "deny",
        about: "licences, bans and sources of all dependencies, by deny.toml",
        run: deny::run,
    },
    Command { name: "dist", about: "the Debian package, into target/dist", run: dist::run },
    Command {
        name: "notices",
        about: "licences and notices of all libraries that are linked, as one text",
        run: notices::run,
    },
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        eprintln!("usage: cargo xtask COMMAND");
        for Command { name, about, .. } in COMMANDS {
            eprintln!("  {name:10} {about}");
        }
        return ExitCode::from(2);
    };
    let findings = (command.run)(&rest);
    for finding in &findings {
        eprintln!("{name}: {finding}");
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The workspace's root.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}
