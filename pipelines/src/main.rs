// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb-run`: a recipe, an input and an output, and everything between.

mod closeup;
mod interrupt;
mod pictures;
mod preview;
mod progress;
mod recipe;
mod restore;
mod video;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use recipe::Recipe;

/// Runs a recipe of `pipelines/` on a file or a folder of pictures.
#[derive(Parser, Debug)]
#[command(name = "i2sb-run", version, about)]
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
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("i2sb-run: {error:#}");
            if interrupt::asked() { interrupt::EXIT_CODE.into() } else { ExitCode::FAILURE }
        }
    }
}

fn run(args: &Args) -> Result<()> {
    interrupt::watch().context("Ctrl-C cannot be watched")?;
    let recipe = Recipe::read(&args.recipe)?;
    gst::init().context("GStreamer does not start")?;
    find_plugin()?;
    if !args.input.exists() {
        bail!("{} does not exist", args.input.display());
    }
    if same_file(args) {
        bail!("IN and OUT are the same; {} would be lost", args.input.display());
    }
    eprintln!("{}: {} -> {}", recipe.about, args.input.display(), args.output.display());
    if args.input.is_dir() { pictures::run(args, &recipe) } else { video::run(args, &recipe) }
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
