// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the command prints: that it could be printed, or need not be, and that it is true.

use std::{fs, path::Path, process::Command};

use super::{Done, Room};

fn fixtures() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/i2sb").to_str().unwrap().into()
}

/// Every command that prints ends with 1 where standard output is full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_no_panic() {
    let room = Room::new();
    room.picture("in/a.png", 16, 16, false, false);
    for line in [
        "inspect tiny",
        "inspect tiny --json",
        &format!("verify {}", fixtures()),
        "bench --model tiny --size 16x16 --runs 1 --threads 1",
        "eval in --degrade none --no-lpips --model tiny",
        "convert tiny out/b-v1",
        "calibrate in --degrade none --model tiny --threads 1",
        "completions bash",
        "man",
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_i2sb"))
            .args(line.split_whitespace())
            .current_dir(room.path("."))
            .stdout(full)
            .output()
            .unwrap();
        let done = Done::new(output).ends_with(1);
        assert!(done.err.contains("cannot print: No space left"), "{line}: {}", done.err);
    }
}

/// Nobody reads the messages then; the pictures are restored all the same, and so is the exit code.
#[cfg(target_os = "linux")]
#[test]
fn messages_that_nobody_takes_stop_no_work() {
    let room = Room::new();
    room.picture("in/a.png", 16, 16, false, false);
    fs::write(room.path("in/broken.png"), b"").unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_i2sb"))
        .args(["restore", "in", "-o", "out", "--model", "tiny"])
        .current_dir(room.path("."))
        .stderr(full)
        .status()
        .unwrap();
    assert_eq!(ended.code(), Some(1), "one of two is broken");
    assert!(room.path("out/a.png").exists());
}

#[test]
fn a_single_result_is_named_and_no_other() {
    let room = Room::new();
    fs::write(room.path("zero.png"), b"").unwrap();
    room.picture("good.png", 8, 8, false, false);
    let done = room.i2sb("restore zero.png good.png -o out --model tiny").ends_with(1);
    assert!(done.err.contains("out/good.png: ") && !done.err.contains("out/zero.png"), "{}", done.err);
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_told() {
    let room = Room::new();
    room.picture("in/a.png", 8, 8, false, false);
    std::os::unix::fs::symlink("absent.png", room.path("in/link.png")).unwrap();
    let done = room.i2sb("restore in -o out --model tiny").ends_with(1);
    assert!(done.err.contains("in/link.png: ") && done.err.contains("1 of 2 pictures"), "{}", done.err);
}

#[test]
fn originals_have_no_gain_and_make_no_mean() {
    let room = Room::new();
    room.picture("in/a.png", 16, 16, false, false);
    let done = room.i2sb("eval in --degrade none --no-lpips --model tiny").ends_with(0);
    for name in ["a.png", "mean"] {
        let line = done.out.lines().find(|line| line.starts_with(name)).unwrap();
        let fields: Vec<_> = line.split_whitespace().collect();
        assert_eq!((fields[1], fields[3]), ("inf", "–"), "{}", done.out);
    }
    assert!(!done.out.contains("-inf"), "{}", done.out);
}

#[test]
fn kinds_without_a_case_are_named() {
    let room = Room::new();
    let whole = room.i2sb(&format!("verify -q {}", fixtures())).ends_with(0);
    assert!(whole.out.ends_with(", 0 failed\n"), "{}", whole.out);
    let (from, to) = (Path::new(&fixtures()).join("schedule"), room.path("part/schedule"));
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let part = room.i2sb("verify -q part").ends_with(0);
    let absent = "; no case of sampling, samplers, training, checkpoint, unet, corruption\n";
    assert!(part.out.ends_with(absent), "{}", part.out);
}

#[test]
fn names_as_long_as_they_may_be_are_written() {
    let room = Room::new();
    room.picture("a.png", 8, 8, false, false);
    let name = format!("{}.png", "n".repeat(246));
    room.i2sb(&format!("restore a.png -o {name} --model tiny")).ends_with(0);
    assert_eq!(room.load(&name).width, 8);
    let name = format!("{}.safetensors", "n".repeat(238));
    room.i2sb(&format!("convert tiny {name}")).ends_with(0);
    assert!(room.path(name).exists());
}

#[test]
fn help_tells_all_that_is_read() {
    let room = Room::new();
    for command in ["restore", "degrade"] {
        let help = room.i2sb(&format!("help {command}")).ends_with(0).out;
        assert!(help.contains("(PNG, JPEG, WebP, AVIF)"), "{help}");
    }
    assert!(room.i2sb("help degrade").out.contains('|'));
}
