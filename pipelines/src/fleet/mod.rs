// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb-run fleet`: one long video, cut at exact frames, restored by any number of workers, joined losslessly.
//!
//! The job is a folder that all machines see. `plan` writes every frame's time and digest there; `work` restores
//! chunks that nobody has; `join` proves each frame and writes the file. A chunk is done when its record is there,
//! and only then: whatever is killed, the rest is missing, and is worked on again.

pub mod chunk;
mod decoder_log;
mod digest;
mod ebml;
mod feed;
mod framemd5;
mod frames;
pub mod join;
mod line;
mod markup;
mod mux;
pub mod parse;
mod pictures;
pub mod plan;
mod proof;
pub mod quicktime;
mod scc;
mod sheet;
mod sidecar;
pub mod source;
mod status;
mod stills;
mod survey;
pub mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::cli::SourceArgs;
use crate::exit::{self, refused, usage};
use crate::recipe::Recipe;
use crate::sequence::Kind;
use plan::{Output, Plan, Wish};
use source::Source;

/// FFV1 with every frame a key frame: a packet depends on its frame alone, so chunks join packet by packet.
const ENCODER: &str = "avenc_ffv1 gop-size=1 slicecrc=true";
/// Frames in a chunk, where neither the user nor a recipe says how many.
const CHUNK: u64 = 250;

/// Restore one long video with many workers, into FFV1 in Matroska.
#[derive(clap::Args, Debug)]
#[command(after_help = exit::help())]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Read a video, and write into a new folder which frames there are and where it is cut
    Plan {
        /// The video; with an archive recipe also a folder of numbered pictures, or their name with %06d
        input: PathBuf,
        /// The job's folder, on a file system that all workers see
        job: PathBuf,
        /// An archive recipe: its properties, its encoder, and its proof beside the output
        #[arg(long, value_name = "FILE")]
        recipe: Option<PathBuf>,
        /// Frames in a chunk [default: as the recipe says, else 250]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        chunk: Option<u64>,
        /// A property of i2sbrestore, NAME=VALUE; any number of them
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
        #[command(flatten)]
        source: SourceArgs,
        /// Keep the frames as pictures; the output is then a folder
        #[arg(long)]
        pictures: Option<Kind>,
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
        /// The file to write, which ends in .mkv; of a job with --pictures, the folder
        output: PathBuf,
        /// Replace what is there already
        #[arg(long)]
        force: bool,
    },
}

/// Runs one of the commands.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Plan { input, job, recipe, chunk, set, source, pictures } => {
            let recipe = recipe.as_deref().map(Recipe::read).transpose()?;
            let archive = match recipe {
                Some(Recipe::Archive(archive)) => Some(archive),
                Some(Recipe::File(_) | Recipe::Stream(_)) => {
                    return Err(usage("--recipe: only recipes of kind archive are for fleets"));
                }
                None => None,
            };
            let source = Source::new(input, source.colorimetry.as_deref(), source.framerate.as_deref())?;
            let given = archive.as_ref().map(|archive| archive.properties()).unwrap_or_default();
            let output = match (pictures, &archive) {
                (Some(kind), _) => Output::Pictures(*kind),
                (None, Some(archive)) => Output::Video { encoder: archive.encoder.clone() },
                (None, None) => Output::Video { encoder: ENCODER.into() },
            };
            let wish = Wish {
                source,
                // A frame that fails would be found only when all is done; the element's default is to stop there.
                properties: properties(given, set)?,
                output,
                chunk_frames: chunk.or(archive.as_ref().map(|archive| archive.chunk)).unwrap_or(CHUNK),
                proof: archive.map(|archive| plan::Proof { changes: archive.changes }),
            };
            let plan = Plan::make(wish, job, &|_| {})?;
            println!("{}: {} frames in {} chunks", job.display(), plan.settings.frames, plan.chunks());
            Ok(())
        }
        Command::Work { job, chunk } => work(&Plan::read(job)?, *chunk),
        Command::Status { job, missing } => status::print(&Plan::read(job)?, *missing),
        Command::Join { job, output, force } => {
            let output: PathBuf = output.components().collect();
            let joined = join::join(&Plan::read(job)?, &output, *force)?;
            println!("{}: joined, every frame as it was restored", output.display());
            for path in &joined.beside {
                println!("beside it: {}", path.display());
            }
            Ok(())
        }
    }
}

/// What a recipe sets and, above it, the user; names and values are checked.
pub fn properties(given: BTreeMap<String, String>, set: &[String]) -> Result<BTreeMap<String, String>> {
    let element = gst::ElementFactory::make("i2sbrestore").build()?;
    let mut own = BTreeMap::new();
    for text in set {
        let pair = text.split_once('=');
        let (name, value) = pair.ok_or_else(|| usage(format!("--set {text}: no NAME=VALUE")))?;
        if own.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(usage(format!("--set {text}: {name} is set twice")));
        }
    }
    let all: BTreeMap<_, _> = given.into_iter().chain(own).collect();
    for (name, value) in &all {
        crate::restore::set(&element, name, value)?;
    }
    Ok(all)
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
        let record = work::restore(plan, chunk, &|_| {}).with_context(|| format!("chunk {chunk}"))?;
        let (frames, seconds) = (record.digests.len(), record.seconds);
        let (model, device) = (&record.network.model, &record.network.device);
        println!(
            "chunk {chunk}: {} of {frames} frames restored in {seconds:.1} s ({:.2} frames/s) with {model} on {device}",
            record.restored,
            frames as f64 / seconds.max(1e-9)
        );
    }
    Ok(())
}
