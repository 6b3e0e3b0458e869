// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb-run fleet`: one long video, cut at exact frames, restored by any number of workers, joined losslessly.
//!
//! The job is a folder that all machines see. `plan` writes every frame's time and digest there; `work` restores
//! chunks that nobody has; `join` proves each frame and writes the file. A chunk is done when its record is there,
//! and only then: whatever is killed, the rest is missing, and is worked on again.

mod chunk;
mod digest;
mod ebml;
mod frames;
mod join;
mod mux;
mod plan;
mod status;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::exit::{self, refused, usage};
use plan::Plan;

/// The first word of the command line that leads here.
pub const WORD: &str = "fleet";

/// Restores one long video with many workers, into FFV1 in Matroska.
#[derive(Parser, Debug)]
#[command(name = "i2sb-run fleet", version, about, after_help = exit::help())]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Read a video, and write into a new folder which frames there are and where it is cut
    Plan {
        /// The video
        input: PathBuf,
        /// The job's folder, on a file system that all workers see
        job: PathBuf,
        /// Frames in a chunk
        #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..))]
        chunk: u64,
        /// A property of i2sbrestore, NAME=VALUE; any number of them
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
    },
    /// Restore chunks that are missing, until none is left that no other worker has
    Work {
        /// The job's folder
        job: PathBuf,
        /// Only this chunk
        #[arg(long, value_name = "N")]
        chunk: Option<u64>,
    },
    /// Say which chunks are done, in work and missing
    Status {
        /// The job's folder
        job: PathBuf,
        /// Print the numbers of the chunks that are not done, one a line, and nothing else
        #[arg(long)]
        missing: bool,
    },
    /// Prove every frame of every chunk and write them as one file, with all other streams of the video
    Join {
        /// The job's folder
        job: PathBuf,
        /// The file to write; it ends in .mkv
        output: PathBuf,
        /// Replace what is there already
        #[arg(long)]
        force: bool,
    },
}

/// Runs one of the commands.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Plan { input, job, chunk, set } => plan(input, job, *chunk, set),
        Command::Work { job, chunk } => work(&Plan::read(job)?, *chunk),
        Command::Status { job, missing } => status::print(&Plan::read(job)?, *missing),
        Command::Join { job, output, force } => {
            join::join(&Plan::read(job)?, output, *force)?;
            println!("{}: joined, every frame as it was restored", output.display());
            Ok(())
        }
    }
}

fn plan(input: &Path, job: &Path, chunk: u64, set: &[String]) -> Result<()> {
    // A frame that fails would be found only when all is done; the element's default is to stop there, too.
    let mut properties = BTreeMap::new();
    let element = gst::ElementFactory::make("i2sbrestore").build()?;
    for text in set {
        let pair = text.split_once('=');
        let (name, value) = pair.ok_or_else(|| usage(format!("--set {text}: no NAME=VALUE")))?;
        crate::restore::set(&element, name, value)?;
        if properties.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(usage(format!("--set {text}: {name} is set twice")));
        }
    }
    let plan = Plan::make(input, job, properties, chunk)?;
    println!("{}: {} frames in {} chunks", job.display(), plan.settings.frames, plan.chunks());
    Ok(())
}

fn work(plan: &Plan, only: Option<u64>) -> Result<()> {
    if let Some(chunk) = only.filter(|&chunk| chunk >= plan.chunks()) {
        return Err(usage(format!(
            "there is no chunk {chunk}: the job has {}, counted from 0",
            plan.chunks()
        )));
    }
    let chunks = only.map_or(0..plan.chunks(), |chunk| chunk..chunk + 1);
    for chunk in chunks {
        if chunk::record(plan, chunk)?.is_some() {
            continue;
        }
        let claim = chunk::claim(plan, chunk)?;
        // Another may have finished it between the two looks.
        if claim.is_none() || chunk::record(plan, chunk)?.is_some() {
            if only.is_some() && claim.is_none() {
                return Err(refused(format!("chunk {chunk} is being worked on by another")));
            }
            continue;
        }
        let record = work::restore(plan, chunk).with_context(|| format!("chunk {chunk}"))?;
        let (frames, seconds) = (record.digests.len(), record.seconds);
        let [model, _, device, _] = &record.network;
        println!(
            "chunk {chunk}: {} of {frames} frames restored in {seconds:.1} s ({:.2} frames/s) with {model} on {device}",
            record.restored,
            frames as f64 / seconds.max(1e-9)
        );
    }
    Ok(())
}
