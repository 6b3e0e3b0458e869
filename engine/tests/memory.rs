// SPDX-License-Identifier: MIT OR Apache-2.0
//! The most memory that a frame of 1920×1080 takes, in a process of its own.

use std::{path::Path, process::Command};

/// The largest resident memory of `i2sb bench`, which restores the frame twice, in 10⁶ bytes.
fn peak(model: &str, size: &str) -> f64 {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO_BIN_EXE_i2sb"))
        .args(["bench", "--model", model, "--size", size, "--runs", "1"])
        .current_dir(root)
        .output()
        .expect("i2sb starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).expect("figures");
    figures["peak_rss_mb"].as_f64().expect("this system tells the memory")
}

#[test]
fn a_frame_through_nano_takes_less_than_400_megabytes() {
    let memory = peak("weights/jpeg-nano-v6", "1920x1080");
    assert!(memory < 400.0, "{memory} MB");
}

#[test]
#[ignore = "a minute: cargo test --release --workspace --test memory -- --ignored"]
fn a_frame_through_base_takes_less_than_a_gigabyte() {
    let memory = peak("engine/recipes/jpeg-base-v1.toml", "1920x1080");
    assert!(memory < 1000.0, "{memory} MB");
}

/// Maps are bands of rows: what remains is the frame's own tensors, some 70 bytes a pixel.
#[test]
fn memory_grows_with_the_frame_and_not_with_its_maps() {
    let (small, large) = (peak("weights/jpeg-nano-v6", "640x320"), peak("weights/jpeg-nano-v6", "640x3200"));
    let bytes = (large - small) * 1e6 / f64::from(640 * 2880);
    assert!(bytes < 100.0, "{bytes} bytes a pixel");
}
