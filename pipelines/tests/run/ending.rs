// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals: the first ends a video in order, the second at once.

use std::path::Path;
use std::process::{Child, Command};

use crate::rig::{clip, log_lines, make_file, runner, streams, until};

pub fn signal(child: &Child, name: &str) {
    // What gets the signal, `timeout`, hands it on.
    let killed = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(killed.expect("kill of coreutils").success());
}

pub fn code(child: &mut Child) -> Option<i32> {
    let mut status = None;
    until(&mut || {
        status = child.try_wait().expect("our child");
        status.is_some()
    });
    status.and_then(|status| status.code())
}

fn most(log: &Path, field: &str) -> u64 {
    log_lines(log).iter().filter_map(|line| line[field].as_u64()).max().unwrap_or_default()
}

#[test]
fn the_first_signal_ends_in_order_with_a_playable_file() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in.mkv");
    make_file(&format!(
        "videotestsrc num-buffers=3000 ! video/x-raw,width=64,height=48,framerate=25/1 ! jpegenc ! queue ! m. \
         audiotestsrc samplesperbuffer=1920 num-buffers=3000 ! audio/x-raw,rate=48000 ! opusenc ! queue ! m. \
         matroskamux name=m ! filesink location={}",
        source.display()
    ));
    for (name, ending) in [("-INT", "mkv"), ("-TERM", "mp4")] {
        let target = folder.path().join("out").with_extension(ending);
        let log = folder.path().join(name);
        let mut command = runner("compressed-video");
        command.arg(&source).arg(&target).arg("--log").arg(&log);
        let mut child = command.args(["--device", "cpu", "--steps", "3"]).spawn().expect("i2sb-run runs");
        until(&mut || most(&log, "frames") > 50);
        signal(&child, name);
        assert_eq!(code(&mut child), Some(130));
        let end = log_lines(&log).pop().unwrap();
        let (times, sound) = streams(&target);
        assert_eq!((&end["event"], &end["exit"]), (&"end".into(), &130.into()));
        assert_eq!(end["counted"]["frames-out"].as_u64(), Some(times.len() as u64));
        assert!((1..3000).contains(&times.len()) && !sound.is_empty(), "{} {}", times.len(), sound.len());
        // Sound ends with the pictures.
        let whole = streams(&source).1.len();
        let share = sound.len() as f64 / whole as f64;
        let shown = times.len() as f64 / 3000.0;
        assert!((share - shown).abs() < 0.005, "{ending}: {share} of the sound, {shown} of the pictures");
    }
}

#[test]
fn the_second_signal_ends_at_once_and_leaves_the_place_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [target, log] = ["out.mp4", "log"].map(|name| folder.path().join(name));
    let mut command = runner("compressed-video");
    // So many steps that nobody waits for the first frame.
    command.arg(clip()).arg(&target).args(["--steps", "999", "--device", "cpu", "--log"]).arg(&log);
    let mut child = command.spawn().expect("i2sb-run runs");
    until(&mut || most(&log, "taken") > 0);
    signal(&child, "-INT");
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal(&child, "-INT");
    assert_eq!(code(&mut child), Some(130));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["log"]);
}
