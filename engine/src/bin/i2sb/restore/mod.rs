// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb restore`.

mod compare;
pub mod jobs;
pub mod progress;

use std::{path::PathBuf, time::Instant};

use i2sb::{
    Cancel, Error,
    picture::{Picture, SaveOptions},
    restore::{Request, RestoreOptions, Restorer},
};

use self::{jobs::Job, progress::Progress};
use crate::{
    engine_args::{EngineArgs, ModelArgs},
    values,
};

/// Restore pictures: files and folders in, files or a folder out.
///
/// A picture that cannot be read or written costs one line on standard error; the others are restored
/// all the same, and the command ends with 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(required = true, value_name = "INPUT", help = jobs::inputs())]
    inputs: Vec<PathBuf>,
    /// File or folder to write; without it, NAME-restored.png beside each input
    #[arg(short, long, value_name = "PATH", value_parser = jobs::output())]
    output: Option<PathBuf>,
    /// Format of pictures written into a folder
    #[arg(long, default_value = "png", value_parser = jobs::formats())]
    format: String,
    /// Quality of JPEG files that are written, 1 to 100
    #[arg(long, value_name = "Q", default_value_t = SaveOptions::default().jpeg_quality, value_parser = values::quality)]
    quality: u8,
    /// Also write NAME-compare.png: input and result side by side
    #[arg(long)]
    compare: bool,
    /// Overwrite files that exist
    #[arg(short, long)]
    force: bool,
    /// From 0, the input, to 1, fully restored
    #[arg(long, value_name = "0..1", default_value_t = RestoreOptions::default().strength, value_parser = values::strength)]
    strength: f32,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

pub fn run(args: Args, cancel: &Cancel) -> anyhow::Result<()> {
    args.engine.advise();
    let preset = args.model.open()?;
    let options = RestoreOptions { strength: args.strength, ..args.engine.options() };
    let restorer = Restorer::new(&preset, options)?;
    let (jobs, problems) = jobs::plan(&args.inputs, args.output.as_deref(), &args.format, args.compare);

    let progress = Progress::new(jobs.len());
    let mut failed = problems.len();
    problems.iter().for_each(|problem| progress.line(problem));
    let begin = Instant::now();
    let (mut done, mut pixels, mut last) = (0, 0, None);
    for (number, job) in jobs.iter().enumerate() {
        match one(&args, &restorer, job, number as u64, &progress, cancel) {
            Ok(count) => (done, pixels, last) = (done + 1, pixels + count, Some(job)),
            Err(Error::Cancelled) => return Err(Error::Cancelled.into()),
            Err(error) => {
                progress.line(&error.to_string());
                failed += 1;
            }
        }
    }
    progress.finish();
    if let Some(last) = last {
        let (mpx, seconds) = (pixels as f64 / 1e6, begin.elapsed().as_secs_f64());
        let rate = mpx / seconds.max(1e-9);
        let what = if done == 1 { last.output.display().to_string() } else { format!("{done} pictures") };
        eprintln!("{what}: {mpx:.2} Mpx in {seconds:.1} s, {rate:.2} Mpx/s, by {}", restorer.about());
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} pictures failed", failed + done);
    }
    Ok(())
}

/// Restores one picture and returns how many pixels it has.
fn one(
    args: &Args,
    restorer: &Restorer,
    job: &Job,
    number: u64,
    progress: &Progress,
    cancel: &Cancel,
) -> i2sb::Result<usize> {
    cancel.check()?;
    for path in job.files() {
        if path.exists() && !args.force {
            return Err(Error::file(path, "is there already; --force overwrites it"));
        }
    }
    let input = Picture::load(&job.input)?;
    let (width, height) = (input.width, input.height);
    let report = |share: f32| progress.picture(share, width * height);
    // Every picture is frame 0, so that it is restored alone as it is among others.
    let request = Request { progress: Some(&report), ..Request::default() };
    let rgb = restorer.restore(&input.rgb, width, height, &request, cancel)?;
    let output = Picture { rgb, ..input.clone() };
    if let Some(folder) = job.output.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let options = SaveOptions { jpeg_quality: args.quality };
    output.save(&job.output, options)?;
    if let Some(path) = &job.compared {
        compare::side_by_side(&input, &output, &restorer.about())?.save(path, options)?;
    }
    progress.finished(number + 1);
    Ok(width * height)
}
