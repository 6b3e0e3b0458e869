// SPDX-License-Identifier: MIT OR Apache-2.0
//! What packagers install beside the command: shell completions and manual pages, both generated
//! from the command tree.

use std::{io::Write, path::PathBuf};

use anyhow::Context;
use clap::CommandFactory;

use crate::Cli;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell to complete in
    shell: clap_complete::Shell,
}

/// Print the manual page, or write those of all subcommands into a folder.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Folder that receives i2sb.1, i2sb-restore.1, …; without it, i2sb.1 goes to standard output
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub fn completions(args: CompletionsArgs) -> anyhow::Result<()> {
    let mut page = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "i2sb", &mut page);
    std::io::stdout().write_all(&page).context("cannot print")
}

pub fn man(args: ManArgs) -> anyhow::Result<()> {
    match args.folder {
        Some(folder) => {
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            clap_mangen::generate_to(Cli::command(), &folder).with_context(|| folder.display().to_string())
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            std::io::stdout().write_all(&page).context("cannot print")
        }
    }
}
