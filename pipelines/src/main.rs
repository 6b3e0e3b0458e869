// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb-run`: a recipe, an input and an output, and everything between.

mod closeup;
mod ending;
mod exit;
mod fleet;
mod interrupt;
mod log;
mod output;
mod pictures;
mod preview;
mod progress;
mod recipe;
mod restore;
mod video;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;

use log::{Event, Log};
use recipe::{FileJob, Recipe};
use serde_json::json;

/// What `--help` ends with.
static AFTER_HELP: LazyLock<String> = LazyLock::new(|| {
    format!(
        "The first Ctrl-C (SIGINT, or SIGTERM) ends a video in order: the frames that are being worked on are \
         finished, and OUT is playable and ends there; of a folder, the finished pictures stay. The second \
         ends at once, and OUT is not touched.\n\n{}",
        exit::help()
    )
});

/// Runs a recipe of `pipelines/` on a file or a folder of pictures.
#[derive(Parser, Debug)]
#[command(name = "i2sb-run", version, about, after_help = AFTER_HELP.as_str())]
pub struct Args {
    /// The recipe: a pipeline.toml
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// The video, or a folder of pictures
    input: PathBuf,
    /// The video to write, its ending names the container; or a folder for pictures
    output: PathBuf,
    /// Network: a short name or a path; without it, the embedded one
    #[arg(long)]
    model: Option<String>,
    /// Network evaluations per frame; 0: as the model advises
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// How much of the restoration is applied
    #[arg(long, value_name = "0..1")]
    strength: Option<f32>,
    /// Show before and after in each frame
    #[arg(long, value_parser = ["off", "split", "side"])]
    compare: Option<String>,
    /// Where the network runs: auto, cpu or cuda:N
    #[arg(long)]
    device: Option<String>,
    /// Numbers the network multiplies with: auto, f32, f16 or bf16
    #[arg(long)]
    precision: Option<String>,
    /// Write over what is there already
    #[arg(long)]
    force: bool,
    /// Append what happens to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == fleet::WORD) {
        // There the word belongs to the program's name.
        let args = fleet::Args::parse_from(std::env::args_os().skip(1));
        return match prepare().and_then(|()| fleet::run(&args)) {
            Ok(()) => exit::DONE.0.into(),
            Err(error) => {
                eprintln!("i2sb-run: {error:#}");
                exit::of(&error).into()
            }
        };
    }
    let args = Args::parse();
    let log = match Log::open(args.log.as_deref()) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("i2sb-run: the log: {error:#}");
            return exit::USAGE.0.into();
        }
    };
    let started = Instant::now();
    let result = run(&args, &log);
    let code = match &result {
        Ok(Done { stopped: true, .. }) => exit::INTERRUPTED.0,
        Ok(_) => exit::DONE.0,
        Err(error) => {
            eprintln!("i2sb-run: {error:#}");
            log.write(Event::Error, json!({"text": format!("{error:#}")}));
            exit::of(error)
        }
    };
    let counted = result.map(|done| done.counted).unwrap_or_default();
    let seconds = started.elapsed().as_secs_f64();
    log.write(Event::End, json!({"exit": code, "seconds": seconds, "counted": counted}));
    code.into()
}

/// What a run that did not fail leaves behind.
#[derive(Default)]
struct Done {
    /// A signal ended it before its end.
    stopped: bool,
    /// What was counted, for the log.
    counted: serde_json::Value,
}

/// What every job needs first.
fn prepare() -> Result<()> {
    interrupt::watch().context("Ctrl-C cannot be watched")?;
    gst::init().context("GStreamer does not start")?;
    find_plugin()
}

fn run(args: &Args, log: &Log) -> Result<Done> {
    let recipe = Recipe::read(&args.recipe)?;
    prepare()?;
    let start = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "recipe": args.recipe,
        "input": args.input,
        "output": args.output,
    });
    log.write(Event::Start, start);
    eprintln!("{}: {} -> {}", recipe.about(), args.input.display(), args.output.display());
    match &recipe {
        Recipe::File(job) => file_job(args, job, log),
    }
}

fn file_job(args: &Args, job: &FileJob, log: &Log) -> Result<Done> {
    if !args.input.exists() {
        bail!("{} does not exist", args.input.display());
    }
    if same_file(args) {
        return Err(exit::refused(format!(
            "IN and OUT are the same; {} would be lost",
            args.input.display()
        )));
    }
    if args.input.is_dir() { pictures::run(args, job) } else { video::run(args, job, log) }
}

/// The plugin that was built or installed with this program, else the one that GStreamer finds.
fn find_plugin() -> Result<()> {
    if let Some(path) = std::env::current_exe().ok().and_then(|exe| own_plugin(&exe)) {
        let plugin =
            gst::Plugin::load_file(&path).with_context(|| format!("{} cannot be loaded", path.display()))?;
        gst::Registry::get().add_plugin(&plugin)?;
    }
    if gst::ElementFactory::find("i2sbrestore").is_none() {
        bail!(
            "GStreamer has no element i2sbrestore; install the plugin or set GST_PLUGIN_PATH to its folder"
        );
    }
    Ok(())
}

/// Beside the program in a build tree; `lib/…/gstreamer-1.0` beside its `bin` where it is installed.
fn own_plugin(exe: &Path) -> Option<PathBuf> {
    const NAME: &str = "libgsti2sb.so";
    let folder = exe.parent()?;
    let prefix = folder.parent()?;
    let libs = ["lib", "lib64"].map(|name| prefix.join(name));
    // Debian has a folder for each architecture below lib.
    let below = libs.iter().filter_map(|lib| std::fs::read_dir(lib).ok()).flatten().flatten();
    let places = libs.iter().cloned().chain(below.map(|entry| entry.path()));
    let installed = places.map(|lib| lib.join("gstreamer-1.0").join(NAME));
    std::iter::once(folder.join(NAME)).chain(installed).find(|path| path.exists())
}

fn same_file(args: &Args) -> bool {
    let (input, output) = (args.input.canonicalize(), args.output.canonicalize());
    matches!((input, output), (Ok(input), Ok(output)) if input == output)
}
