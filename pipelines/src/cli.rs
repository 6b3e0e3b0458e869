// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of `i2sb-run`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

use crate::{control, exit, fleet, metrics, pages};

/// What `--help` ends with.
static AFTER_HELP: LazyLock<String> = LazyLock::new(|| {
    format!(
        "The first Ctrl-C (SIGINT, or SIGTERM) ends a video in order: the frames that are being worked on are \
         finished, and OUT is playable and ends there; of a folder, the finished pictures stay. The second \
         ends at once, and OUT is not touched.\n\n{}",
        exit::help()
    )
});

/// Runs a recipe of `pipelines/`, or a pipeline of your own, with `i2sbrestore` in it.
#[derive(Parser, Debug)]
#[command(name = "i2sb-run", version, after_help = AFTER_HELP.as_str())]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    override_usage = "i2sb-run --recipe FILE [OPTIONS] IN OUT\n       i2sb-run --pipeline DESCRIPTION [OPTIONS]\n       i2sb-run COMMAND …"
)]
pub struct Cli {
    /// Something else than a run.
    #[command(subcommand)]
    pub word: Option<Word>,
    /// A run.
    #[command(flatten)]
    pub args: Args,
}

/// What else this program does.
#[derive(Subcommand, Debug)]
pub enum Word {
    Fleet(fleet::Args),
    Control(control::Args),
    Completions(pages::CompletionsArgs),
    Man(pages::ManArgs),
}

/// How a source is read where it does not say so itself.
#[derive(clap::Args, Debug)]
pub struct SourceArgs {
    /// Archives: colours of the source, as in bt601 or bt709, where it does not say them or says them wrong
    #[arg(long, value_name = "COLOURS")]
    pub colorimetry: Option<String>,
    /// Archives: frames a second of a sequence of pictures, as in 24 or 30000/1001
    #[arg(long, value_name = "RATE")]
    pub framerate: Option<String>,
}

/// A recipe, or a pipeline, and what it is told.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recipe: a pipeline.toml
    #[arg(long, value_name = "FILE", required_unless_present = "pipeline")]
    pub recipe: Option<PathBuf>,
    /// Instead of a recipe: elements and links as for gst-launch-1.0, with i2sbrestore among them
    #[arg(long, value_name = "DESCRIPTION", conflicts_with_all = ["recipe", "input", "output"])]
    pub pipeline: Option<String>,
    /// The video, or a folder of pictures
    #[arg(value_name = "IN", required_unless_present = "pipeline")]
    pub input: Option<PathBuf>,
    /// The video to write, its ending names the container; or a folder for pictures
    #[arg(value_name = "OUT", required_unless_present = "pipeline")]
    pub output: Option<PathBuf>,
    /// Network: a short name or a path; without it, video-small, which is built in
    #[arg(long)]
    pub model: Option<String>,
    /// Network evaluations per frame; 0: as the model advises
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// From 0, the most faithful picture, to 1, the one that looks least damaged
    #[arg(long, value_name = "0..1")]
    pub detail: Option<f32>,
    /// How much of the restoration is applied
    #[arg(long, value_name = "0..1")]
    pub strength: Option<f32>,
    /// Show before and after in each frame
    #[arg(long, value_parser = ["off", "split", "side"])]
    pub compare: Option<String>,
    /// Where the network runs: auto, cpu or cuda:N
    #[arg(long)]
    pub device: Option<String>,
    /// Numbers the network multiplies with: auto, f32, f16, bf16 or int8
    #[arg(long)]
    pub precision: Option<String>,
    /// Another property of i2sbrestore, NAME=VALUE; any number of them
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub source: SourceArgs,
    /// Write over what is there already
    #[arg(long)]
    pub force: bool,
    /// Append what happens to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Answer Prometheus at http://HOST:PORT/metrics while the run goes on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = metrics::address)]
    pub metrics: Option<SocketAddr>,
    /// Let other machines read the metrics, at an address that is not this machine's own
    #[arg(long, requires = "metrics")]
    pub metrics_public: bool,
    /// Be told what to change while playing, through this socket: `i2sb-run control SOCKET strength=0.5`
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// Of a stream: how it is encoded again, by a name of the recipe
    #[arg(long, value_name = "NAME")]
    pub encoder: Option<String>,
    /// Of a stream: how long source or receiver may be gone before the run gives up; 0: for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

impl Args {
    /// What is read. The command line has one whenever a recipe is run.
    pub fn input(&self) -> &Path {
        self.input.as_deref().unwrap_or(Path::new(""))
    }

    /// What is written. The command line has one whenever a recipe is run.
    pub fn output(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new(""))
    }
}
