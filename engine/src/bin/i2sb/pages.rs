// SPDX-License-Identifier: MIT OR Apache-2.0
//! What packagers install beside the command: shell completions and manual pages, both generated
//! from the command tree. `i2sb-run` takes this file, too.

use std::{io::Write, path::PathBuf};

use anyhow::Context;
use clap::Command;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell to complete in
    shell: clap_complete::Shell,
}

/// Print the manual page, or write those of all subcommands into a folder.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Folder that receives a page for each command; without it, the first goes to standard output
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub fn completions(args: CompletionsArgs, mut command: Command) -> anyhow::Result<()> {
    let (mut page, name) = (Vec::new(), command.get_name().to_string());
    clap_complete::generate(args.shell, &mut command, name, &mut page);
    std::io::stdout().write_all(&page).context("cannot print")
}

pub fn man(args: ManArgs, command: Command) -> anyhow::Result<()> {
    match args.folder {
        Some(folder) => {
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            clap_mangen::generate_to(command, &folder).with_context(|| folder.display().to_string())
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            std::io::stdout().write_all(&page).context("cannot print")
        }
    }
}
