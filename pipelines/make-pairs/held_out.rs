// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb-held-out`: lists perceptual hashes of what results are measured on, pictures and clips.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gst::prelude::*;
use i2sb::picture::{Limits, is_picture, read_rgb8};
use i2sb::train::{dataset::walk, held_out_list::HeldOutList};

/// Endings of clips.
const CLIPS: &[&str] = &["mp4", "mpg", "ogv", "mov", "avi", "mkv", "webm", "ts"];
/// Of a clip, each of so many frames is listed.
const EVERY: usize = 12;

/// Writes a line for each picture, and for every twelfth frame of each clip, of the folders.
#[derive(Parser, Debug)]
#[command(name = "i2sb-held-out", version)]
struct Args {
    /// Folders of pictures and clips
    #[arg(required = true)]
    folders: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("i2sb-held-out: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    let list = HeldOutList::parse("");
    println!("# What results are measured on; pipelines/make-pairs/hash.sh made this list.");
    for folder in &args.folders {
        for name in walk(folder)? {
            let (path, shown) = (folder.join(&name), name.display().to_string());
            let ending = name.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            if is_picture(&name) {
                let (width, height, rgb) = read_rgb8(&path, Limits::default())?;
                println!("{}", list.line((width, height), &rgb, &shown).context("a picture has its pixels")?);
            } else if CLIPS.contains(&ending.as_str()) {
                for (number, (size, rgb)) in frames(&path)?.into_iter().enumerate() {
                    let name = format!("{shown} at frame {}", number * EVERY);
                    println!("{}", list.line(size, &rgb, &name).context("a frame has its pixels")?);
                }
            }
        }
    }
    Ok(())
}

type Frame = ((usize, usize), Vec<u8>);

/// Every twelfth frame of a clip, interleaved RGB.
fn frames(path: &Path) -> Result<Vec<Frame>> {
    let text = "filesrc name=source ! decodebin ! videoconvert ! video/x-raw,format=RGB ! appsink name=sink sync=false";
    let pipeline = gst::parse::launch(text)?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| anyhow::anyhow!("no pipeline"))?;
    let source = pipeline.by_name("source").context("no source")?;
    source.set_property("location", path.to_str().context("the name is no UTF-8")?);
    let sink = pipeline.by_name("sink").and_then(|sink| sink.downcast::<gst_app::AppSink>().ok());
    let sink = sink.context("no sink")?;
    pipeline.set_state(gst::State::Playing)?;
    let (mut frames, mut number) = (Vec::new(), 0);
    while let Ok(sample) = sink.pull_sample() {
        if number % EVERY == 0 {
            let info = gst_video::VideoInfo::from_caps(sample.caps().context("a sample without caps")?)?;
            let buffer = sample.buffer().context("a sample without a buffer")?;
            let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
            let (width, height) = (info.width() as usize, info.height() as usize);
            let rows = frame.plane_data(0)?.chunks(info.stride()[0] as usize).take(height);
            frames.push(((width, height), rows.flat_map(|row| &row[..3 * width]).copied().collect()));
        }
        number += 1;
    }
    pipeline.set_state(gst::State::Null)?;
    ensure!(number > 0, "{}: no frame could be decoded", path.display());
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_clip_that_is_held_out_are_refused() {
        gst::init().unwrap();
        let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/clips/cockatoo.mp4");
        let frames = frames(&clip).unwrap();
        assert!(frames.len() > 1);
        for (size, rgb) in frames {
            let known = HeldOutList::built_in().find(size, &rgb).expect("a frame of an evaluation clip");
            assert!(known.contains("cockatoo"), "{known}");
        }
    }
}
