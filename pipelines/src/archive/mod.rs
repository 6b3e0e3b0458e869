// SPDX-License-Identifier: MIT OR Apache-2.0
//! The job of archives: a fleet's job with one worker, in a folder beside the output, which a killed run leaves for
//! the next to go on with.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::exit::{refused, usage};
use crate::fleet::plan::{Output, Plan, Proof, Wish};
use crate::fleet::source::Source;
use crate::fleet::{chunk, join, properties, work};
use crate::log::{Event, Log};
use crate::output::{self, Part};
use crate::recipe::ArchiveJob;
use crate::sequence::Kind;
use crate::{Args, Done, progress, restore, sequence};

/// Folder of the unfinished job, behind the output's name.
const JOB: &str = ".job";
/// Time between two progress lines of the log.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Restores `args.input` into `args.output`, and proves it.
pub fn run(args: &Args, job: &ArchiveJob, log: &Log) -> Result<Done> {
    if args.compare.as_deref().is_some_and(|compare| compare != "off") {
        return Err(usage("--compare draws into the picture; an archive's output is the picture alone"));
    }
    let (target, output) = aim(job, args.output())?;
    join::ending(&output, &target)?;
    let source =
        Source::new(args.input(), args.source.colorimetry.as_deref(), args.source.framerate.as_deref())?;
    if target.canonicalize().is_ok_and(|target| target == source.input) {
        return Err(refused(format!("IN and OUT are the same; {} would be lost", args.input().display())));
    }
    let mut given = job.properties();
    given.extend(restore::given(args)?);
    let wish = Wish {
        source,
        properties: properties(given, &[])?,
        output,
        chunk_frames: job.chunk,
        proof: Some(Proof { changes: job.changes }),
    };
    // Held while the job runs; the join claims the output itself.
    let claim = Part::claim(&output::beside(&target, JOB), true)?;
    join::free(&wish, &target, args.force)?;
    let folder = output::beside(&target, JOB);
    let started = Instant::now();
    let result = restore_all(&wish, &folder, log);
    let plan = match result {
        Ok(plan) => plan,
        Err(error) => {
            // Nothing is kept of a job that no work was done for: a folder that is not empty cannot be removed so.
            let _ =
                std::fs::remove_dir(folder.join("chunks")).and_then(|()| std::fs::remove_dir_all(&folder));
            if folder.exists() {
                eprintln!("{} keeps what is done; the same command goes on with it", folder.display());
            }
            return Err(error);
        }
    };
    eprintln!("proving {}", target.display());
    let joined = join::join(&plan, &target, args.force)?;
    std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    drop(claim);
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{}: {} of {} frames changed, every frame proved, in {seconds:.1} s",
        target.display(),
        joined.changed,
        joined.frames
    );
    for path in &joined.beside {
        println!("beside it: {}", path.display());
    }
    let beside: Vec<_> = joined.beside.iter().map(|path| path.display().to_string()).collect();
    let counted = json!({"frames": joined.frames, "changed": joined.changed, "beside": beside});
    Ok(Done { stopped: false, counted })
}

/// Where the output is and what: `OUT.mkv`, a folder, or a folder and the kind of pictures, as in `out/%06d.tif`.
fn aim(job: &ArchiveJob, output: &Path) -> Result<(PathBuf, Output)> {
    let output: PathBuf = output.components().collect();
    if let Some((before, after)) = sequence::pattern(&output) {
        let kind = after.strip_prefix('.').and_then(Kind::named).filter(|_| before.is_empty());
        let kind = kind.ok_or_else(|| {
            usage(format!(
                "{}: pictures keep their names; OUT can be a folder, or FOLDER/%06d.png or FOLDER/%06d.tif",
                output.display()
            ))
        })?;
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.ok_or_else(|| usage(format!("{}: name a folder, too", output.display())))?;
        return Ok((folder.to_owned(), Output::Pictures(kind)));
    }
    Ok(match output.extension() {
        None => (output, Output::Pictures(job.pictures)),
        Some(_) => (output, Output::Video { encoder: job.encoder.clone() }),
    })
}

/// Plans, and restores every chunk that is not done.
fn restore_all(wish: &Wish, folder: &Path, log: &Log) -> Result<Plan> {
    let bar = progress::bar(None);
    let plan = Plan::resume(wish.clone(), folder, &|frames| {
        bar.set_message(format!("reading, {frames} frames"));
        bar.tick();
    });
    bar.finish_and_clear();
    let plan = plan?;
    let frames = plan.settings.frames;
    let bar = progress::bar(Some(frames));
    let (started, mut before) = (Instant::now(), 0);
    let logged = std::cell::Cell::new(Instant::now());
    for number in 0..plan.chunks() {
        let range = plan.range(number);
        if chunk::record(&plan, number)?.is_none() {
            let claim = chunk::claim(&plan, number)?;
            claim.with_context(|| format!("another works on chunk {number} of {}", folder.display()))?;
            let first = before;
            let see = |done: usize| {
                let speed = (range.start - first + done) as f64 / started.elapsed().as_secs_f64().max(1e-3);
                bar.set_position((range.start + done) as u64);
                bar.set_message(format!("{} frames, {speed:.2} frames/s", range.start + done));
                if logged.get().elapsed() >= LOG_EVERY {
                    logged.set(Instant::now());
                    let now = json!({
                        "taken": range.start + done,
                        "frames": range.start,
                        "of": frames,
                        "frames_per_second": speed,
                        "left_s": bar.eta().as_secs(),
                    });
                    log.write(Event::Progress, now);
                }
            };
            let done = work::restore(&plan, number, &see);
            if done.is_err() {
                bar.finish_and_clear();
            }
            done.with_context(|| wish.source.input.display().to_string())?;
        } else if number == before as u64 / plan.settings.wish.chunk_frames {
            // Those before the first that is missing cost no time.
            before = range.end;
        }
        bar.set_position(range.end as u64);
    }
    bar.finish_and_clear();
    Ok(plan)
}
