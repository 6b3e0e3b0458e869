// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files beside a preset's weights go with these weights, never with others.

use std::fs;

use i2sb::preset::{DETAIL_FILE, INT8_FILE, Preset, WEIGHTS_FILE};

use super::{Room, TINY};

const FOLDER: &str = "weights/tiny-v1";

/// A room whose preset has both ends and ranges.
fn calibrated() -> Room {
    let room = Room::new();
    room.picture("photos/a.png", 96, 80, false, false);
    let at = |name| room.path(FOLDER).join(name);
    fs::copy(at(WEIGHTS_FILE), at(DETAIL_FILE)).unwrap();
    room.i2sb(&format!("calibrate photos --degrade none --threads 1 --model {FOLDER}")).ends_with(0);
    room
}

#[test]
fn a_converted_preset_keeps_what_lies_beside_its_weights() {
    let room = calibrated();
    let done = room.i2sb(&format!("convert {FOLDER} out/same-v1")).ends_with(0);
    assert!(done.out.contains("same-v1/detail.safetensors") && done.out.contains("same-v1/int8.safetensors"));
    room.i2sb("restore photos/a.png -o a.png --model out/same-v1 --detail 0.5 --precision int8").ends_with(0);
    room.i2sb(&format!("restore photos/a.png -o b.png --model {FOLDER} --detail 0.5 --precision int8"))
        .ends_with(0);
    assert_eq!(room.load("a.png").rgb, room.load("b.png").rgb);
    // Rounded weights are others.
    let done = room.i2sb(&format!("convert {FOLDER} out/half-v1 --dtype f16")).ends_with(0);
    assert!(done.out.contains("left out") && done.out.contains("`i2sb calibrate`"), "{}", done.out);
    let half = Preset::open(room.path("out/half-v1")).unwrap();
    assert!(half.has_detail() && !half.has_int8());
    // Back to f32 they are what they were in f16: nothing is left out, and a folder may be its own source.
    room.i2sb("calibrate photos --degrade none --threads 1 --model out/half-v1").ends_with(0);
    room.i2sb("convert out/half-v1 out/half-v1 --force").ends_with(0);
    room.i2sb("restore photos/a.png -o c.png --model out/half-v1 --precision int8").ends_with(0);
}

#[test]
fn converting_over_a_preset_removes_what_belonged_to_it() {
    let room = calibrated();
    room.i2sb(&format!("convert {FOLDER} plain-v1 --dtype f16")).ends_with(0);
    for name in [DETAIL_FILE, INT8_FILE] {
        let _ = fs::remove_file(room.path("plain-v1").join(name));
    }
    let refused = room.i2sb(&format!("convert plain-v1 {FOLDER}")).ends_with(1);
    assert!(refused.err.contains("--force"), "{}", refused.err);
    let done = room.i2sb(&format!("convert plain-v1 {FOLDER} --force")).ends_with(0);
    for name in [DETAIL_FILE, INT8_FILE] {
        assert!(done.out.contains(&format!("removed {FOLDER}/{name}")), "{}", done.out);
        assert!(!room.path(FOLDER).join(name).exists());
    }
}

#[test]
fn ranges_of_other_weights_are_refused_in_bytes_alone() {
    let room = calibrated();
    let other = Room::new();
    fs::create_dir_all(room.path("out")).unwrap();
    other.i2sb(&format!("convert {FOLDER} half-v1 --dtype f16")).ends_with(0);
    fs::copy(other.path("half-v1").join(WEIGHTS_FILE), room.path(FOLDER).join(WEIGHTS_FILE)).unwrap();
    room.i2sb(&format!("restore photos/a.png -o a.png --model {FOLDER}")).ends_with(0);
    let line = format!("restore photos/a.png -o b.png --precision int8 --model {FOLDER}");
    let done = room.i2sb(&line).ends_with(1);
    assert!(done.err.contains(INT8_FILE) && done.err.contains("`i2sb calibrate` again"), "{}", done.err);
    room.i2sb(&format!("calibrate photos --degrade none --threads 1 --model {FOLDER}")).ends_with(0);
    room.i2sb(&line).ends_with(0);
}

#[test]
fn training_never_leaves_ranges_of_older_weights() {
    const TRAIN: &str = "[train]\ndegrade = 'jpeg:10-90'\nsteps = 4\nbatch = 2\nevery = 2\nwarmup = 2\n[train.crop]\nwidth = 32\nheight = 32\n";
    let room = Room::new();
    fs::write(room.path("recipe.toml"), format!("{TINY}\n{TRAIN}")).unwrap();
    room.picture("photos/a.png", 96, 80, false, false);
    let line = "train --data photos --recipe recipe.toml --threads 1 --out out/t-v1";
    let half = room.i2sb(&format!("{line} --until 2")).ends_with(0);
    assert!(half.err.lines().last().unwrap() == "out/t-v1: 2 of 4 steps", "{}", half.err);
    room.i2sb("calibrate photos --degrade none --threads 1 --model out/t-v1").ends_with(0);
    let weights = || fs::read(room.path("out/t-v1").join(WEIGHTS_FILE)).unwrap();
    let before = weights();
    let refused = room.i2sb(line).ends_with(1);
    assert!(refused.err.contains("out/t-v1/int8.safetensors") && refused.err.contains("--force"));
    assert!(weights() == before);
    // A run that is over replaces nothing, so it refuses nothing.
    room.i2sb(&format!("{line} --until 2")).ends_with(0);
    let done = room.i2sb(&format!("{line} --force")).ends_with(0);
    assert!(done.err.contains("removed out/t-v1/int8.safetensors"), "{}", done.err);
    assert!(weights() != before && !room.path("out/t-v1").join(INT8_FILE).exists());
}
