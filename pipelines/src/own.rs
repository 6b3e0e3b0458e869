// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pipeline of the user's own, as `gst-launch-1.0` would take it, with `i2sbrestore` in it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use gst::prelude::*;

use crate::ending::Ending;
use crate::exit::{refused, usage};
use crate::log::Log;
use crate::progress::{self, Watch};
use crate::restore;
use crate::{Args, Done, Reach};

/// The element that a description must hold.
const FACTORY: &str = "i2sbrestore";

/// Runs the pipeline to its end.
pub fn run(args: &Args, description: &str, log: &Log, reach: &Reach) -> Result<Done> {
    let pipeline = parse(description)?;
    let restores = of_factory(&pipeline, FACTORY);
    let Some(restore) = restores.first() else {
        return Err(usage(format!("--pipeline: there is no {FACTORY} in {description:?}")));
    };
    if !args.force {
        nothing_there(&pipeline)?;
    }
    for element in &restores {
        restore::apply(args, element)?;
    }
    if restores.len() > 1 {
        eprintln!(
            "warning: {} elements {FACTORY}; progress, log and metrics are those of {}",
            restores.len(),
            restore.name()
        );
    }
    let watch = Watch::new(&pipeline, restore, log)?;
    let endings = restores.iter().map(Ending::new).collect::<Result<Vec<_>>>()?;
    reach.watch(restore);
    let started = Instant::now();
    let stopped = progress::run(&pipeline, &watch, &|| {
        eprintln!("ending in order; once more ends at once");
        endings.iter().for_each(|ending| ending.begin(&pipeline));
    })?;
    let frames = watch.frames();
    if stopped && frames == 0 {
        bail!("interrupted before the first frame was finished");
    }
    if frames == 0 {
        bail!("no frame of video reached {}", restore.name());
    }
    let early = if stopped { "interrupted; " } else { "" };
    println!("{early}{}", restore::summary(restore, started.elapsed()));
    Ok(Done { stopped, counted: restore::counted(restore) })
}

fn parse(description: &str) -> Result<gst::Pipeline> {
    let parsed = gst::parse::launch(description)
        .map_err(|error| usage(format!("--pipeline: {}: {description:?}", error.message())))?;
    parsed
        .downcast()
        .map_err(|one| usage(format!("--pipeline: {:?} is one element and no pipeline", one.name())))
}

/// Elements of this factory, however deep.
fn of_factory(pipeline: &gst::Pipeline, factory: &str) -> Vec<gst::Element> {
    let all = pipeline.iterate_recurse().into_iter().flatten();
    let mut found: Vec<_> =
        all.filter(|element| element.factory().is_some_and(|f| f.name() == factory)).collect();
    // The bin gives the last added first.
    found.reverse();
    found
}

/// Refuses if a file that the pipeline writes is there already.
fn nothing_there(pipeline: &gst::Pipeline) -> Result<()> {
    for sink in of_factory(pipeline, "filesink") {
        let place = sink.property::<Option<String>>("location").unwrap_or_default();
        if !sink.property::<bool>("append") && Path::new(&place).is_file() {
            return Err(refused(format!("{place} exists; --force writes over it, or name another")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pipeline_is_said() {
        gst::init().unwrap();
        for (text, word) in [
            ("videotestsrc ! no-such-element ! fakesink", "no-such-element"),
            ("videotestsrc ! ! fakesink", "syntax"),
            ("videotestsrc ! fakesink colour=7", "colour"),
            ("videotestsrc ! absent. identity", "absent"),
            ("identity", "one element"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(word) && crate::exit::of(&error) == 2, "{text}: {error}");
        }
    }

    #[test]
    fn elements_are_found_inside_bins_and_in_order() {
        gst::init().unwrap();
        let pipeline = parse("videotestsrc ! identity name=a ! ( identity name=b ) ! fakesink").unwrap();
        let names: Vec<_> = of_factory(&pipeline, "identity").iter().map(|e| e.name().to_string()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
