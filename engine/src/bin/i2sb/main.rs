// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `i2sb`: one file per subcommand, each with its `Args` and its `run`.
//!
//! Exit codes: 0 done, 1 failed (one line on standard error says why), 2 wrong usage,
//! 130 interrupted by Ctrl-C or SIGTERM.

#[macro_use]
mod print;

mod bench;
mod calibrate;
mod closeup;
mod convert;
mod degrade;
mod engine_args;
mod eval;
mod inspect;
mod interrupt;
mod pages;
mod restore;
mod train;
mod values;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use i2sb::{Cancel, Error, memory::KeepsLarge};

/// A frame's tensors lie where those of the one before lay.
#[global_allocator]
static MEMORY: KeepsLarge = KeepsLarge;

/// Restores pictures with Image-to-Image Schrödinger Bridges, and trains the networks that do it.
#[derive(Debug, Parser)]
#[command(name = "i2sb", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Restore(restore::Args),
    Train(train::Args),
    Degrade(degrade::Args),
    Eval(eval::Args),
    Verify(verify::Args),
    Convert(convert::Args),
    Calibrate(calibrate::Args),
    Inspect(inspect::Args),
    Bench(bench::Args),
    Completions(pages::CompletionsArgs),
    Man(pages::ManArgs),
}

fn main() -> ExitCode {
    let cancel = Cancel::default();
    let cli = Cli::parse();
    let outcome = interrupt::listen(cancel.clone()).and_then(|()| run(cli.command, &cancel));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if matches!(error.downcast_ref(), Some(Error::Cancelled)) => {
            eprintln!("i2sb: interrupted");
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => {
            eprintln!("i2sb: {}", line(&in_options(error)));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, cancel: &Cancel) -> anyhow::Result<()> {
    match command {
        Command::Restore(args) => restore::run(args, cancel),
        Command::Train(args) => train::run(args, cancel),
        Command::Degrade(args) => degrade::run(args, cancel),
        Command::Eval(args) => eval::run(args, cancel),
        Command::Verify(args) => verify::run(args, cancel),
        Command::Convert(args) => convert::run(args, cancel),
        Command::Calibrate(args) => calibrate::run(args, cancel),
        Command::Inspect(args) => inspect::run(args, cancel),
        Command::Bench(args) => bench::run(args, cancel),
        Command::Completions(args) => pages::completions(args, Cli::command()),
        Command::Man(args) => pages::man(args, Cli::command()),
    }
}

/// The error in the words of the command line: the library's `nfe` is its `--steps`.
fn in_options(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(Error::Setting { name: "nfe", value, limit }) => Error::setting("steps", value, limit).into(),
        _ => error,
    }
}

/// An error with its causes on one line. A cause that is told already is not told again.
fn line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(|cause| cause.to_string().replace('\n', " ")) {
        if !text.contains(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.push_str(&format!("{colon}{cause}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_is_told_once() {
        let missing = std::fs::File::open("/nonexistent").map_err(Error::io("/nonexistent"));
        let error = missing.context("cannot restore").unwrap_err();
        assert_eq!(line(&error), "cannot restore: /nonexistent: No such file or directory (os error 2)");
    }

    #[test]
    fn every_subcommand_says_what_it_does() {
        for sub in Cli::command().get_subcommands() {
            assert!(sub.get_about().is_some(), "{} has no description", sub.get_name());
        }
    }
}
