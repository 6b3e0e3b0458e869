// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recipes on real files, through the program that users run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

/// Longest that a helper's pipeline may take.
const LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(60);
const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn clip() -> PathBuf {
    Path::new(HERE).join("../tests/fixtures/clips/cockatoo.mp4")
}

/// A program that is killed if it takes too long. In the foreground, `timeout` hands a signal on once; else
/// the program gets it a second time through its process group, and a second Ctrl-C ends it at once.
fn limited(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=10", "300"]).arg(program);
    command
}

/// Runs the recipe with the plugin of this tree, which is built first if need be.
fn run(args: &[&str]) -> Output {
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--release", "--quiet", "-p", "gst-plugin-i2sb"]).current_dir(HERE);
        assert!(build.status().expect("cargo runs").success());
    });
    let exe = Path::new(env!("CARGO_BIN_EXE_i2sb-run"));
    let folder = exe.parent().expect("a program is in a folder");
    let recipe = Path::new(HERE).join("compressed-video/pipeline.toml");
    let mut command = limited(exe);
    command.env("GST_PLUGIN_PATH", folder).arg("--recipe").arg(recipe).args(args);
    command.output().expect("i2sb-run runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Times of the video's frames and all bytes of the audio. What lies outside the segment, an encoder's
/// priming before the start of an MP4's edit list, is never shown or heard, and muxers leave it out.
fn streams(file: &Path) -> (Vec<gst::ClockTime>, Vec<u8>) {
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
        let video = caps.structure(0).unwrap().name().starts_with("video/");
        let found = found.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let buffer = info.buffer().expect("asked for buffers");
            let segment = pad.sticky_event::<gst::event::Segment>(0).expect("a segment before buffers");
            let segment = segment.segment().downcast_ref::<gst::ClockTime>().expect("in time").clone();
            if segment.to_running_time(buffer.pts()).is_none() {
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

#[test]
fn a_video_keeps_its_frames_times_and_sound() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.mkv");
    let output = run(&[clip().to_str().unwrap(), target.to_str().unwrap(), "--strength", "0"]);
    assert!(output.status.success(), "{}", text(&output));
    let (before, sound) = streams(&clip());
    let (after, copied) = streams(&target);
    assert_eq!(before.len(), after.len());
    // Matroska counts milliseconds.
    let start = |times: &[gst::ClockTime]| times[0].mseconds();
    for (a, b) in before.iter().zip(&after) {
        let (a, b) = (a.mseconds() - start(&before), b.mseconds() - start(&after));
        assert!(a.abs_diff(b) <= 1, "{a} {b}");
    }
    assert!(!sound.is_empty() && sound == copied, "{} {}", sound.len(), copied.len());
    let picture = folder.path().join("out.mkv.before-after.png");
    // Both frames, and below them a strip of each.
    let picture = image::open(picture).unwrap();
    assert_eq!((picture.width(), picture.height()), (2 * 1280 + 4, 720 + 4 + 4 * 96));
    assert!(text(&output).contains("42 passed through"), "{}", text(&output));
}

#[test]
fn every_container_of_the_recipe_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    // A source without sound, which not every container could hold.
    let source = folder.path().join("in.mkv");
    gst::init().unwrap();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=10 ! video/x-raw,width=64,height=48 ! jpegenc ! matroskamux ! filesink location={}",
        source.display()
    ))
    .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    pipeline.bus().unwrap().timed_pop_filtered(LIMIT, &[gst::MessageType::Eos]).expect("an end");
    pipeline.set_state(gst::State::Null).unwrap();
    for ending in ["mp4", "m4v", "mov", "mkv", "ts", "avi", "webm", "ogv"] {
        let target = folder.path().join(format!("out.{ending}"));
        let output = run(&[source.to_str().unwrap(), target.to_str().unwrap(), "--compare", "split"]);
        assert!(output.status.success(), "{ending}: {}", text(&output));
        assert!(text(&output).contains("10 restored of 10 frames"), "{ending}: {}", text(&output));
    }
}

#[test]
fn pictures_of_odd_width_and_height_find_an_encoder_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in.mkv");
    let pipeline = gst_pipeline(&format!(
        "videotestsrc num-buffers=3 ! video/x-raw,format=I420,width=65,height=47 ! jpegenc ! matroskamux \
         ! filesink location={}",
        source.display()
    ));
    pipeline.set_state(gst::State::Playing).unwrap();
    pipeline.bus().unwrap().timed_pop_filtered(LIMIT, &[gst::MessageType::Eos]).expect("an end");
    pipeline.set_state(gst::State::Null).unwrap();
    for ending in ["mp4", "mov", "mkv", "ts", "avi", "webm", "ogv"] {
        // Into a folder that is not there yet.
        let target = folder.path().join(ending).join(format!("out.{ending}"));
        let output = run(&[source.to_str().unwrap(), target.to_str().unwrap()]);
        assert!(text(&output).contains("3 restored of 3 frames"), "{ending}: {}", text(&output));
        let picture = image::open(format!("{}.before-after.png", target.display())).unwrap();
        assert_eq!((picture.width(), picture.height()), (2 * 65 + 4, 47), "{ending}");
    }
}

#[test]
fn a_folder_of_pictures_becomes_a_folder_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir(&input).unwrap();
    for (name, width, height) in [("a.jpg", 48, 32), ("b.JPEG", 33, 57)] {
        let picture =
            image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 5) as u8, (y * 4) as u8, 99]));
        let caps = format!("video/x-raw,format=RGB,width={width},height={height},framerate=1/1");
        let pipeline = gst_pipeline(&format!(
            "appsrc name=s caps={caps} ! videoconvert ! jpegenc quality=20 ! filesink location={}",
            input.join(name).display()
        ));
        let source = pipeline.by_name("s").unwrap();
        let stride = (3 * width as usize).next_multiple_of(4);
        let mut rows = vec![0; stride * height as usize];
        for (row, pixels) in rows.chunks_mut(stride).zip(picture.as_raw().chunks(3 * width as usize)) {
            row[..pixels.len()].copy_from_slice(pixels);
        }
        pipeline.set_state(gst::State::Playing).unwrap();
        let _: gst::FlowReturn = source.emit_by_name("push-buffer", &[&gst::Buffer::from_mut_slice(rows)]);
        let _: gst::FlowReturn = source.emit_by_name("end-of-stream", &[]);
        pipeline.bus().unwrap().timed_pop_filtered(LIMIT, &[gst::MessageType::Eos]).expect("an end");
        pipeline.set_state(gst::State::Null).unwrap();
    }
    std::fs::write(input.join("broken.jpg"), "no picture").unwrap();
    let done = run(&[input.to_str().unwrap(), output.to_str().unwrap()]);
    assert!(!done.status.success() && text(&done).contains("broken.jpg"), "{}", text(&done));
    for (name, size) in [("a.png", (48, 32)), ("b.png", (33, 57))] {
        let picture = image::open(output.join(name)).unwrap();
        assert_eq!((picture.width(), picture.height()), size);
    }
    assert!(!output.join("broken.png").exists() && !output.join("broken.part").exists());
}

fn gst_pipeline(description: &str) -> gst::Pipeline {
    gst::init().unwrap();
    gst::parse::launch(description).unwrap().downcast().unwrap()
}

#[test]
fn what_cannot_be_is_said_before_anything_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.mkv");
    let clip = clip();
    let (clip, target_text) = (clip.to_str().unwrap(), target.to_str().unwrap());
    let webm = folder.path().join("out.webm");
    let text_file = Path::new(HERE).join("Cargo.toml");
    let cases: [(&[&str], &str); 6] = [
        (&[clip, "out.txt"], "mkv"),
        (&[clip, clip], "same"),
        (&["absent.mp4", target_text], "absent.mp4"),
        (&[clip, target_text, "--model", "no-such"], "no-such"),
        (&[clip, webm.to_str().unwrap(), "--strength", "0"], ".mkv can hold"),
        (&[text_file.to_str().unwrap(), target_text], "text"),
    ];
    for (args, word) in cases {
        let output = run(args);
        assert!(!output.status.success(), "{args:?}");
        assert!(text(&output).contains(word), "{args:?}: {}", text(&output));
    }
    assert!(!target.exists() && !webm.exists());
    let strength = run(&[clip, target_text, "--strength", "7"]);
    assert!(text(&strength).contains("strength"), "{}", text(&strength));
}

#[test]
fn an_interrupted_run_ends_soon_and_leaves_no_half_file() {
    // Builds the plugin beside the program, if need be.
    assert!(!run(&["absent.mp4", "out.mp4"]).status.success());
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.mp4");
    let mut command = limited(Path::new(env!("CARGO_BIN_EXE_i2sb-run")));
    command.arg("--recipe").arg(Path::new(HERE).join("compressed-video/pipeline.toml"));
    // So many steps that nobody waits for the first frame.
    command.arg(clip()).arg(&target).args(["--steps", "999", "--device", "cpu"]);
    // What gets the signal hands it on.
    let mut child = command.spawn().expect("i2sb-run runs");
    let until = |what: &mut dyn FnMut() -> bool| {
        let end = Instant::now() + Duration::from_secs(60);
        while !what() {
            assert!(Instant::now() < end, "it takes too long");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until(&mut || target.exists());
    std::thread::sleep(Duration::from_millis(500));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill of coreutils").success());
    let mut status = None;
    until(&mut || {
        status = child.try_wait().expect("our child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(130));
    assert!(!target.exists());
}
