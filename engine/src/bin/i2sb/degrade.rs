// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb degrade`.

use std::path::PathBuf;

use i2sb::{
    Cancel, Error,
    degrade::{self, DEGRADATIONS, Degradation},
    noise::Stream,
    picture::{Picture, SaveOptions},
    train::dataset::twin,
};

use crate::{
    restore::{
        jobs::{self, Job},
        progress::Progress,
    },
    values,
};

/// Degrade pictures, as networks are trained on and measured with.
///
/// SPEC is one of the degradations below, or several joined by +; a number may be a range low-high,
/// drawn anew for each picture: jpeg:10, jpeg:5-95:any:unaligned, blur-gauss:0.5-2+jpeg:30-80. Between alternatives
/// stands |, each picture meets one of them, all equally often: 'jpeg:1-100|blur-gauss:0.5-2+jpeg:30-80|none'.
#[derive(Debug, clap::Args)]
#[command(after_help = list())]
pub struct Args {
    /// What to do to the pictures
    #[arg(value_name = "SPEC", value_parser = spec)]
    spec: String,
    #[arg(required = true, value_name = "INPUT", help = jobs::inputs())]
    inputs: Vec<PathBuf>,
    /// File or folder to write
    #[arg(short, long, value_name = "PATH", value_parser = jobs::output())]
    output: PathBuf,
    /// Format of pictures written into a folder
    #[arg(long, default_value = "png", value_parser = jobs::formats())]
    format: String,
    /// Quality of JPEG files that are written, 1 to 100
    #[arg(long, value_name = "Q", default_value_t = SaveOptions::default().jpeg_quality, value_parser = values::quality)]
    quality: u8,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Overwrite files that exist
    #[arg(short, long)]
    force: bool,
}

pub fn run(args: Args, cancel: &Cancel) -> anyhow::Result<()> {
    let degradation = degrade::parse(&args.spec)?;
    let (jobs, problems) = jobs::plan(&args.inputs, Some(&args.output), &args.format, false);
    let progress = Progress::new(jobs.len());
    problems.iter().for_each(|problem| progress.line(problem));
    let mut failed = problems.len();
    for (number, job) in jobs.iter().enumerate() {
        cancel.check()?;
        if let Err(error) = one(&args, degradation.as_ref(), job, number as u64) {
            progress.line(&error.to_string());
            failed += 1;
        }
        progress.finished(number as u64 + 1);
    }
    progress.finish();
    if failed > 0 {
        anyhow::bail!("{failed} of {} pictures failed", jobs.len() + problems.len());
    }
    Ok(())
}

fn one(args: &Args, degradation: &dyn Degradation, job: &Job, number: u64) -> i2sb::Result<()> {
    if job.output.exists() && !args.force {
        return Err(Error::file(&job.output, "is there already; --force overwrites it"));
    }
    let clean = Picture::load(&job.input)?;
    let source = source(degradation, &clean, &job.input)?;
    let mut rng = Stream::new(args.seed, number);
    let x1 = degradation.apply(&source, clean.width, clean.height, &mut rng)?;
    if let Some(folder) = job.output.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    Picture { rgb: x1, ..clean }.save(&job.output, SaveOptions { jpeg_quality: args.quality })
}

/// What a degradation starts from: the clean picture, or the ready-made one of the same name.
pub fn source(
    degradation: &dyn Degradation,
    clean: &Picture,
    path: &std::path::Path,
) -> i2sb::Result<Vec<f32>> {
    let Some(folder) = degradation.pairs() else { return Ok(clean.rgb.clone()) };
    let name = path.file_name().unwrap_or_default();
    let twin = twin(folder, name)
        .ok_or_else(|| Error::file(folder.join(name), "no degraded picture of this name"))?;
    let ready = Picture::load(&twin)?;
    if (ready.width, ready.height) != (clean.width, clean.height) {
        let found = format!("{}×{} pixels", ready.width, ready.height);
        return Err(Error::file(&twin, format!("{found}, but clean {}×{}", clean.width, clean.height)));
    }
    Ok(ready.rgb)
}

/// Checks a specification and gives it back.
pub fn spec(text: &str) -> i2sb::Result<String> {
    degrade::parse(text).map(|_| text.to_string())
}

/// The table of degradations for the help.
pub fn list() -> String {
    let rows = DEGRADATIONS
        .iter()
        .map(|entry| format!("  {}{}\n          {}\n", entry.name, entry.arguments, entry.about));
    format!("Degradations:\n{}", rows.collect::<String>())
}
