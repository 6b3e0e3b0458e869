// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the program that users run, makes files for it and looks into what it made.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

/// Longest that a helper's pipeline may take.
pub const LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(60);
pub const HERE: &str = env!("CARGO_MANIFEST_DIR");

pub fn clip() -> PathBuf {
    Path::new(HERE).join("../tests/fixtures/clips/cockatoo.mp4")
}

/// How long the soak on air takes.
pub fn soak_seconds() -> u64 {
    std::env::var("I2SB_SOAK_SECONDS").map_or(12, |text| text.parse().expect("I2SB_SOAK_SECONDS is a number"))
}

/// A program that is killed if it takes too long. In the foreground, `timeout` hands a signal on once; else
/// the program gets it a second time through its process group, and a second Ctrl-C ends it at once.
pub fn limited(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    let limit = (300 + soak_seconds()).to_string();
    command.args(["--foreground", "--kill-after=10", &limit]).arg(program);
    // What GStreamer complains about is a bug of ours.
    command.env("G_DEBUG", "fatal-criticals");
    command
}

/// The program with a recipe of this tree.
pub fn runner(job: &str) -> Command {
    let mut command = bare();
    command.arg("--recipe").arg(Path::new(HERE).join(job).join("pipeline.toml"));
    command
}

/// The program, whose plugin is built first if need be.
pub fn bare() -> Command {
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--release", "--quiet", "-p", "gst-plugin-i2sb"]).current_dir(HERE);
        assert!(build.status().expect("cargo runs").success());
    });
    let exe = Path::new(env!("CARGO_BIN_EXE_i2sb-run"));
    let folder = exe.parent().expect("a program is in a folder");
    let mut command = limited(exe);
    command.env("GST_PLUGIN_PATH", folder);
    command
}

/// Runs the recipe `compressed-video`.
pub fn run(args: &[&str]) -> Output {
    runner("compressed-video").args(args).output().expect("i2sb-run runs")
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Times of the video's frames and all bytes of the audio. What lies outside the segment, an encoder's
/// priming before the start of an MP4's edit list, is never shown or heard, and muxers leave it out.
pub fn streams(file: &Path) -> (Vec<gst::ClockTime>, Vec<u8>) {
    gst::init().expect("GStreamer starts");
    let pipeline = gst::Pipeline::new();
    let make = |factory: &str| gst::ElementFactory::make(factory).build().expect(factory);
    let (source, parse) = (make("filesrc"), make("parsebin"));
    source.set_property("location", file.to_str().expect("UTF-8"));
    pipeline.add_many([&source, &parse]).unwrap();
    source.link(&parse).unwrap();
    let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let (found, weak) = (seen.clone(), pipeline.downgrade());
    parse.connect_pad_added(move |_, pad| {
        let pipeline = weak.upgrade().expect("running");
        // One thread feeds both sinks: neither may wait for the other's first buffer.
        let sink = gst::ElementFactory::make("fakesink")
            .property("sync", false)
            .property("async", false)
            .build()
            .expect("fakesink");
        pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let media = caps.structure(0).unwrap().name();
        let video = media.starts_with("video/") || media.starts_with("image/");
        let found = found.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let buffer = info.buffer().expect("asked for buffers");
            let segment = pad.sticky_event::<gst::event::Segment>(0).expect("a segment before buffers");
            let segment = segment.segment().downcast_ref::<gst::ClockTime>().expect("in time").clone();
            let end = buffer.pts().map(|pts| pts + buffer.duration().unwrap_or_default());
            if segment.clip(buffer.pts(), end).is_none() {
                return gst::PadProbeReturn::Ok;
            }
            let mut found = found.lock().unwrap();
            match (video, buffer.pts()) {
                (true, pts) => found.0.extend(pts),
                (false, _) => found.1.extend_from_slice(&buffer.map_readable().unwrap()),
            }
            gst::PadProbeReturn::Ok
        });
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(LIMIT, &kinds);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(end.as_ref().map(|end| end.type_()), Some(gst::MessageType::Eos), "{end:?}");
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.0.sort();
    seen
}

/// A pipeline as gst-launch would make it.
pub fn gst_pipeline(description: &str) -> gst::Pipeline {
    gst::init().unwrap();
    gst::parse::launch(description).unwrap().downcast().unwrap()
}

/// Runs a pipeline that writes a file to its end.
pub fn make_file(description: &str) {
    let pipeline = gst_pipeline(description);
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(LIMIT, &kinds);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(end.as_ref().map(|end| end.type_()), Some(gst::MessageType::Eos), "{description}: {end:?}");
}

/// Waits for something, a minute at most.
pub fn until(what: &mut dyn FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < end, "it takes too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The lines of a log that are whole.
pub fn log_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}
