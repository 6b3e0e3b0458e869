// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb-run`: a recipe, an input and an output, and everything between.

mod archive;
mod broadcast;
mod closeup;
mod control;
mod ending;
mod exit;
mod fleet;
mod interrupt;
mod log;
mod metrics;
mod output;
mod own;
mod pictures;
mod preview;
mod progress;
mod recipe;
mod restore;
mod sequence;
mod video;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;

use control::Control;
use log::{Event, Log};
use metrics::Exporter;
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

/// Runs a recipe of `pipelines/`, or a pipeline of your own, with `i2sbrestore` in it.
#[derive(Parser, Debug)]
#[command(name = "i2sb-run", version, about, after_help = AFTER_HELP.as_str())]
pub struct Args {
    /// The recipe: a pipeline.toml
    #[arg(long, value_name = "FILE", required_unless_present = "pipeline")]
    recipe: Option<PathBuf>,
    /// Instead of a recipe: elements and links as for gst-launch-1.0, with i2sbrestore among them
    #[arg(long, value_name = "DESCRIPTION", conflicts_with_all = ["recipe", "input", "output"])]
    pipeline: Option<String>,
    /// The video, or a folder of pictures
    #[arg(value_name = "IN", required_unless_present = "pipeline")]
    input: Option<PathBuf>,
    /// The video to write, its ending names the container; or a folder for pictures
    #[arg(value_name = "OUT", required_unless_present = "pipeline")]
    output: Option<PathBuf>,
    /// Network: a short name or a path; without it, the embedded one
    #[arg(long)]
    model: Option<String>,
    /// Network evaluations per frame; 0: as the model advises
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// From 0, the most faithful picture, to 1, the one that looks least damaged
    #[arg(long, value_name = "0..1")]
    detail: Option<f32>,
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
    /// Another property of i2sbrestore, NAME=VALUE; any number of them
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Archive recipes: colours of the source, as in bt601 or bt709, where it does not say them or says them wrong
    #[arg(long, value_name = "COLOURS")]
    colorimetry: Option<String>,
    /// Archive recipes: frames a second of a sequence of pictures, as in 24 or 30000/1001
    #[arg(long, value_name = "RATE")]
    framerate: Option<String>,
    /// Write over what is there already
    #[arg(long)]
    force: bool,
    /// Append what happens to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Answer Prometheus at http://HOST:PORT/metrics while the run goes on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = metrics::address)]
    metrics: Option<SocketAddr>,
    /// Let other machines read the metrics, at an address that is not this machine's own
    #[arg(long, requires = "metrics")]
    metrics_public: bool,
    /// Be told what to change while playing, through this socket: `i2sb-run control SOCKET strength=0.5`
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Of a stream: how it is encoded again, by a name of the recipe
    #[arg(long, value_name = "NAME")]
    encoder: Option<String>,
    /// Of a stream: how long source or receiver may be gone before the run gives up; 0: for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

impl Args {
    /// What is read. The command line has one whenever a recipe is run.
    fn input(&self) -> &Path {
        self.input.as_deref().unwrap_or(Path::new(""))
    }

    /// What is written. The command line has one whenever a recipe is run.
    fn output(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new(""))
    }
}

fn main() -> ExitCode {
    // There the first word belongs to the program's name.
    let words = || std::env::args_os().skip(1);
    let special = match words().next() {
        Some(word) if word == fleet::WORD => {
            let args = fleet::Args::parse_from(words());
            Some(prepare().and_then(|()| fleet::run(&args)))
        }
        Some(word) if word == control::WORD => Some(control::ask(&control::Args::parse_from(words()))),
        _ => None,
    };
    if let Some(result) = special {
        return match result {
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
    let recipe = args.recipe.as_deref().map(Recipe::read).transpose()?;
    let metrics = Exporter::start(args.metrics, args.metrics_public)?;
    let reach = Reach { metrics, control: Control::start(args.control.as_deref())? };
    prepare()?;
    let start = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "recipe": args.recipe,
        "pipeline": args.pipeline,
        "input": args.input,
        "output": args.output,
    });
    log.write(Event::Start, start);
    if let Some(recipe) = &recipe {
        eprintln!("{}: {} -> {}", recipe.about(), args.input().display(), args.output().display());
    }
    match (recipe, &args.pipeline) {
        (Some(Recipe::File(job)), _) => file_job(args, &job, log, &reach),
        (Some(Recipe::Archive(job)), _) => archive::run(args, &job, log),
        (Some(Recipe::Stream(job)), _) => broadcast::run(args, &Arc::new(*job), log, &reach),
        (None, Some(description)) => own::run(args, description, log, &reach),
        (None, None) => Err(exit::usage("--recipe or --pipeline is missing")),
    }
}

/// How a run is reached from outside while it goes on.
struct Reach {
    metrics: Exporter,
    control: Control,
}

impl Reach {
    /// It is about this element.
    fn watch(&self, element: &gst::Element) {
        self.metrics.watch(element);
        self.control.watch(element);
    }
}

fn file_job(args: &Args, job: &FileJob, log: &Log, reach: &Reach) -> Result<Done> {
    for (name, value) in [("--colorimetry", &args.colorimetry), ("--framerate", &args.framerate)] {
        if value.is_some() {
            return Err(exit::usage(format!("{name} is for archive recipes")));
        }
    }
    let input = args.input();
    if !input.exists() {
        bail!("{} does not exist", input.display());
    }
    if same_file(args) {
        return Err(exit::refused(format!("IN and OUT are the same; {} would be lost", input.display())));
    }
    if input.is_dir() { pictures::run(args, job, reach) } else { video::run(args, job, log, reach) }
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
    let (input, output) = (args.input().canonicalize(), args.output().canonicalize());
    matches!((input, output), (Ok(input), Ok(output)) if input == output)
}
