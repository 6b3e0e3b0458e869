// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb-run`: a recipe, an input and an output, and everything between.

#[macro_use]
#[path = "../../engine/src/bin/i2sb/print.rs"]
mod print;

mod archive;
mod broadcast;
mod cli;
mod closeup;
mod control;
mod cut_off;
mod ending;
mod exit;
mod fleet;
mod interrupt;
mod log;
mod metrics;
mod output;
mod own;
#[path = "../../engine/src/bin/i2sb/pages.rs"]
mod pages;
mod pictures;
mod preview;
mod progress;
mod recipe;
mod restore;
mod sequence;
mod sound;
mod video;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, Parser};

use cli::{Args, Cli, Word};
use control::Control;
use log::{Event, Log};
use metrics::Exporter;
use recipe::{FileJob, Recipe};
use serde_json::json;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let other = match cli.word {
        None => None,
        Some(Word::Fleet(args)) => Some(prepare().and_then(|()| fleet::run(&args))),
        Some(Word::Control(args)) => Some(control::ask(&args)),
        Some(Word::Completions(args)) => Some(pages::completions(args, Cli::command())),
        Some(Word::Man(args)) => Some(pages::man(args, Cli::command())),
    };
    if let Some(result) = other {
        return match result {
            Ok(()) => exit::DONE.0.into(),
            Err(error) => {
                eprintln!("i2sb-run: {error:#}");
                exit::of(&error).into()
            }
        };
    }
    let args = cli.args;
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
    fits(args, recipe.as_ref())?;
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

/// That no option is given that means nothing in this kind of run.
fn fits(args: &Args, recipe: Option<&Recipe>) -> Result<()> {
    let archive = matches!(recipe, Some(Recipe::Archive(_)));
    let stream = matches!(recipe, Some(Recipe::Stream(_)));
    let options = [
        ("--colorimetry", &args.source.colorimetry, archive, "archive"),
        ("--framerate", &args.source.framerate, archive, "archive"),
        ("--encoder", &args.encoder, stream, "stream"),
    ];
    match options.iter().find(|(_, value, meant, _)| value.is_some() && !meant) {
        Some((name, value, _, kind)) => {
            let value = value.as_deref().unwrap_or_default();
            Err(exit::usage(format!("{name} {value}: it is for recipes of kind {kind}")))
        }
        None => Ok(()),
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
