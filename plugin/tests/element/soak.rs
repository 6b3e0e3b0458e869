// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long runs, leaks and memory errors, each in a process of its own: this program, called again.

use std::process::Command;

use crate::play::Pipeline;

/// Growth per frame that is noise, in bytes: a page in four frames.
const GROWTH: usize = 1024;

/// This program, for one test that is called only so.
pub fn again(name: &str) -> Command {
    let mut command = crate::limit::command(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// Runs it to its good end; what it said.
pub fn pass(mut command: Command, what: &str) -> String {
    let output = command.output().expect(what);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{what}: {}",
        text.lines().rev().take(60).collect::<Vec<_>>().join("\n")
    );
    text
}

fn play(description: &str) {
    Pipeline::new(description).run();
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn memory_stays_flat_over_ten_thousand_frames() {
    println!("{}", pass(again("soak::ten_thousand_frames"), "ten thousand frames"));
}

#[test]
#[ignore = "run by memory_stays_flat_over_ten_thousand_frames"]
fn ten_thousand_frames() {
    crate::null::init();
    let caps = "video/x-raw,format=I420,width=320,height=240";
    let run = |frames: u32| {
        play(&format!(
            "videotestsrc pattern=ball num-buffers={frames} ! {caps} ! i2sbrestore model=null:add ! fakesink"
        ));
        resident()
    };
    // What threads and pools keep for good is there after a few lives: the allocator gives each thread an
    // arena, and a queue is seldom as full as it can be.
    let before = (0..5).map(|_| run(400)).max().expect("five");
    let after = run(10_000);
    println!("resident: {} KiB after 2000 frames, {} KiB after 12000", before / 1024, after / 1024);
    assert!(after < before + 10_000 * GROWTH, "{before} {after}");
    // A leaked frame in a hundred would be 11 MB.
    assert!(after < before + (8 << 20), "{before} {after}");
}

#[test]
fn nothing_is_left_alive() {
    let traced = |name| {
        let mut command = again(name);
        command.env("GST_TRACERS", "leaks").env("GST_DEBUG", "GST_TRACER:7").env("GST_DEBUG_NO_COLOR", "1");
        pass(command, "leaks tracer")
    };
    let text = traced("soak::a_life");
    assert!(!text.contains("object-alive, type-name=(string)G"), "{text}");
    // The tracer sees what is there to be seen.
    let text = traced("soak::a_leak");
    assert!(text.contains("object-alive, type-name=(string)GstBuffer"), "{text}");
}

#[test]
#[ignore = "run by nothing_is_left_alive"]
fn a_leak() {
    crate::null::init();
    std::mem::forget(gst::Buffer::new());
    // SAFETY: nothing of GStreamer is in use, and this process makes no other object of it.
    unsafe { gst::deinit() };
}

#[test]
#[ignore = "run by nothing_is_left_alive and valgrind_finds_nothing"]
fn a_life() {
    play(
        "videotestsrc num-buffers=4 ! video/x-raw,format=I420,width=33,height=21 ! i2sbrestore model=null:add ! fakesink",
    );
    play(
        "videotestsrc num-buffers=4 ! video/x-raw,format=v210,width=33,height=21 ! i2sbrestore model=null:add \
         compare=split ! fakesink",
    );
    {
        // A flush with frames, an event and a half-filled batch inside.
        let (mut h, info) = crate::rig::playing("model=null:slow:50 batch-size=3");
        for index in 0..2 {
            h.push(crate::rig::buffer(&info, index)).unwrap();
        }
        h.push_event(gst::event::FlushStart::new());
        h.push_event(gst::event::FlushStop::new(true));
    }
    // The engines' threads end after their last element; then nothing of GStreamer is in use.
    std::thread::sleep(std::time::Duration::from_millis(300));
    // SAFETY: no object of GStreamer is alive, and this process makes no other.
    unsafe { gst::deinit() };
}

#[test]
fn valgrind_finds_nothing() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: no valgrind");
        return;
    }
    let mut command = crate::limit::command("valgrind");
    command.args(["--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
    command.args(["--show-leak-kinds=definite", "--quiet"]);
    let known = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/valgrind.supp");
    command.arg(format!("--suppressions={known}"));
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "soak::a_life", "--ignored", "--test-threads=1"]);
    pass(command, "valgrind");
}
