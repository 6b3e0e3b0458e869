// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder of compressed pictures: one pipeline, started for each picture.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use crate::exit::refused;
use crate::interrupt;
use crate::output;
use crate::preview::{self, Preview};
use crate::progress;
use crate::recipe::{FileJob, Pictures};
use crate::restore;
use crate::{Args, Done, Reach};

/// Restores every picture in the folder `args.input()` into the folder `args.output()`.
pub fn run(args: &Args, job: &FileJob, reach: &Reach) -> Result<Done> {
    let Some(recipe) = &job.pictures else {
        return Err(refused(format!("{} is a folder, and this job takes none", args.input().display())));
    };
    let files = files(args, recipe)?;
    let target =
        |file: &Path| args.output().join(file.file_stem().unwrap_or_default()).with_extension(&recipe.suffix);
    let targets: Vec<_> = files.iter().map(|file| target(file)).collect();
    let shown = args.output().join("pictures");
    let places = targets.iter().map(PathBuf::as_path);
    output::free(&places.chain([preview::place(&shown).as_path()]).collect::<Vec<_>>(), args.force)?;
    fs::create_dir_all(args.output()).with_context(|| args.output().display().to_string())?;
    let restore = restore::element(args, &job.properties)?;
    reach.watch(&restore);
    let preview = Preview::default();
    preview.watch(&restore);
    let mut line = Line::new(recipe, &restore)?;
    let (started, bar) = (Instant::now(), progress::bar(Some(files.len() as u64)));
    let mut failed = 0;
    for (index, (file, target)) in files.iter().zip(&targets).enumerate() {
        // The last one taken is kept: that of the middle, or the first that succeeds.
        if index <= files.len() / 2 {
            preview.clear();
        }
        if let Err(error) = line.picture(file, target) {
            if interrupt::asked() {
                line.stop();
                return Err(error);
            }
            failed += 1;
            bar.suspend(|| eprintln!("{}: {error:#}", file.display()));
        }
        bar.set_position(index as u64 + 1);
        let speed = (index + 1) as f64 / started.elapsed().as_secs_f64().max(1e-3);
        bar.set_message(format!("{} pictures, {speed:.2} pictures/s", index + 1));
    }
    bar.finish_and_clear();
    let (good, seconds) = (files.len() - failed, started.elapsed().as_secs_f64());
    println!("{}: {good} of {} pictures restored in {seconds:.1} s", args.output().display(), files.len());
    let picture = preview.write(&shown)?;
    line.stop();
    if let Some(path) = picture {
        println!("before and after: {}", path.display());
    }
    if failed > 0 {
        bail!("{failed} of {} pictures could not be restored", files.len());
    }
    Ok(Done { stopped: false, counted: restore::counted(&restore) })
}

fn files(args: &Args, recipe: &Pictures) -> Result<Vec<PathBuf>> {
    let wanted = |path: &PathBuf| {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        recipe.extensions.contains(&ending)
    };
    let entries = fs::read_dir(args.input()).with_context(|| args.input().display().to_string())?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(wanted).collect();
    files.sort();
    if files.is_empty() {
        bail!("{}: no picture ends in {}", args.input().display(), recipe.extensions.join(" or "));
    }
    Ok(files)
}

fn bin(description: &str) -> Result<gst::Bin> {
    gst::parse::bin_from_description(description, true).with_context(|| description.to_owned())
}

/// `filesrc ! decode ! i2sbrestore ! encode ! filesink`, started anew for every picture. Between
/// pictures it is in READY, where the element keeps its loaded network.
struct Line {
    pipeline: gst::Pipeline,
    source: gst::Element,
    /// Description of the decoder.
    description: String,
    /// The last picture's decoder.
    decode: Option<gst::Element>,
    convert: gst::Element,
    sink: gst::Element,
}

impl Line {
    fn new(recipe: &Pictures, restore: &gst::Element) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let make = |factory: &str| gst::ElementFactory::make(factory).build();
        let (source, sink) = (make("filesrc")?, make("filesink")?);
        let encode = bin(&recipe.encode)?;
        let (convert, back) = (make("videoconvert")?, make("videoconvert")?);
        let all = [&convert, restore, &back, encode.upcast_ref(), &sink];
        pipeline.add(&source)?;
        pipeline.add_many(all)?;
        gst::Element::link_many(all)?;
        Ok(Self { pipeline, source, description: recipe.decode.clone(), decode: None, convert, sink })
    }

    /// A decoder that has seen no picture yet: one keeps, from picture to picture, how a camera was held.
    fn renew(&mut self) -> Result<()> {
        if let Some(old) = self.decode.take() {
            old.set_state(gst::State::Null)?;
            self.pipeline.remove(&old)?;
        }
        let decode = bin(&self.description)?.upcast();
        self.pipeline.add(&decode)?;
        gst::Element::link_many([&self.source, &decode, &self.convert])?;
        self.decode = Some(decode);
        Ok(())
    }

    /// Restores one picture; writes beside the place and renames, so that no half picture is left.
    fn picture(&mut self, file: &Path, target: &Path) -> Result<()> {
        self.renew()?;
        let part = target.with_extension("part");
        let half = interrupt::Half::new(&part);
        let name = |path: &Path| path.to_str().map(str::to_owned).context("a file's name is not UTF-8");
        self.source.set_property("location", name(file)?);
        self.sink.set_property("location", name(&part)?);
        let result = progress::wait(&self.pipeline, |_| {}, None).map(drop);
        // The file is closed only in NULL; the restoring element stays in READY and loaded.
        let stopped =
            self.pipeline.set_state(gst::State::Ready).and_then(|_| self.sink.set_state(gst::State::Null));
        if let Err(error) = result.and(stopped.map(drop).map_err(Into::into)) {
            // What was written of it so far is no picture.
            let _ = fs::remove_file(&part);
            return Err(error);
        }
        if fs::metadata(&part)?.len() == 0 {
            fs::remove_file(&part)?;
            bail!("holds no picture that can be decoded");
        }
        half.place(|| fs::rename(&part, target)).with_context(|| target.display().to_string())
    }

    fn stop(&self) {
        // Only a pipeline that cannot be stopped fails here, and we are leaving.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
