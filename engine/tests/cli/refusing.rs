// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the command refuses before it works, and what it says then.

use std::fs;

use super::Room;

#[test]
fn values_out_of_range_are_wrong_usage() {
    let room = Room::new();
    for (line, says) in [
        ("restore a.png --quality 0", "quality is 0, but must be 1 to 100"),
        ("degrade none a.png -o b.png --quality 101", "quality is 101, but must be 1 to 100"),
        ("restore a.png --strength 2", "strength is 2, but must be 0 to 1"),
        ("eval in --degrade none --strength nan", "strength is NaN, but must be 0 to 1"),
        ("restore a.png --tta 3", "tta is 3, but must be 1, 2, 4 or 8"),
        ("restore a.png --detail 2", "detail is 2, but must be 0 to 1"),
        ("restore a.png --steps 0", "steps is 0, but must be at least 1"),
        ("restore a.png --threads 1025", "threads is 1025, but must be at most 1024"),
        ("bench --threads 1025", "threads is 1025, but must be at most 1024"),
        (
            "calibrate in --degrade none --model tiny --threads 1025",
            "threads is 1025, but must be at most 1024",
        ),
        (
            "train --data in --recipe r.toml --out o --threads 1025",
            "threads is 1025, but must be at most 1024",
        ),
        ("calibrate in --degrade none --model tiny --pictures 0", "pictures is 0, but must be at least 1"),
        ("convert tiny out/b-v1 --nfe 0", "at least 1"),
        ("restore a.png -o b.tiff", "must end in one of png, jpg, jpeg, webp"),
        ("restore a.png -o b.avif", "must end in one of png, jpg, jpeg, webp"),
        ("degrade none a.png -o b.TIF", "must end in one of png, jpg, jpeg, webp"),
    ] {
        let done = room.i2sb(line).ends_with(2);
        assert!(done.err.contains(says), "{line}: {}", done.err);
    }
    assert!(!room.path("b.tiff").exists());
}

#[test]
fn evaluations_are_called_as_the_option_is() {
    let room = Room::new();
    room.picture("a.png", 8, 8, false, false);
    for line in ["--steps 5000", "--steps 1 --sampler dbim"] {
        let done = room.i2sb(&format!("restore a.png --model tiny {line}")).ends_with(1);
        assert!(done.err.contains("steps is ") && !done.err.contains("nfe"), "{}", done.err);
    }
}

#[test]
fn a_comparison_never_replaces_a_result() {
    let room = Room::new();
    for name in ["in/a.png", "in/a-compare.png"] {
        room.picture(name, 8, 8, false, false);
    }
    let line = "restore in -o out --compare --force --model tiny";
    let done = room.i2sb(line).ends_with(1);
    for named in ["in/a.png", "in/a-compare.png", "out/a-compare.png"] {
        assert!(done.err.contains(named), "{}", done.err);
    }
    assert_eq!(room.load("out/a-compare.png").width, 8);
    assert!(!room.path("out/a.png").exists());
}

#[test]
fn what_there_is_to_calibrate_with_is_told() {
    let room = Room::new();
    room.picture("in/a.png", 8, 8, false, false);
    fs::write(room.path("in/MANIFEST.csv"), "file,tier\na.png,A\n").unwrap();
    let line = "calibrate in --degrade none --model tiny";
    let done = room.i2sb(&format!("{line} --only tier=ZZ")).ends_with(1);
    assert!(done.err.contains("none of 1 pictures meets --only tier=ZZ"), "{}", done.err);
    room.i2sb(&format!("{line} --only tier=A --threads 1")).ends_with(0);
}
