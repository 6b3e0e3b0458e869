// SPDX-License-Identifier: MIT OR Apache-2.0
//! The built library as GStreamer's own tools find and load it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library that cargo built beside this test.
fn library() -> PathBuf {
    let exe = std::env::current_exe().expect("a program has a path");
    let folder = exe.parent().expect("a program is in a folder");
    [folder.join("libgsti2sb.so"), folder.join("../libgsti2sb.so")]
        .into_iter()
        .find(|path| path.exists())
        .expect("cargo builds the cdylib with the tests")
}

/// A command that sees only this plugin and GStreamer's own, with a registry of its own.
pub fn tool(name: &str, folder: &Path) -> Command {
    let plugins = folder.join("plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    let link = plugins.join("libgsti2sb.so");
    if !link.exists() {
        std::os::unix::fs::symlink(library(), link).unwrap();
    }
    let mut command = crate::limit::command(name);
    command.env("GST_PLUGIN_PATH", &plugins).env("GST_REGISTRY", folder.join("registry.bin"));
    command
}

pub fn run(mut command: Command) -> String {
    let output = command.output().expect("GStreamer's tools are installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What users see of the element; `BLESS=1` writes it anew.
#[test]
fn gst_inspect_shows_the_agreed_interface() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tool("gst-inspect-1.0", folder.path());
    command.arg("--no-colors").arg("i2sbrestore").env("LC_ALL", "C.UTF-8");
    // So that the property `cuda` says the same on every machine.
    command.env("I2SB_CUDA_LIBRARY", "/nowhere/libi2sb-cuda.so");
    let changing = ["Filename", "Version", "Source release date"];
    let shown: String = run(command)
        .lines()
        .filter(|line| !changing.iter().any(|name| line.trim_start().starts_with(name)))
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden/gst-inspect.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &shown).unwrap();
    }
    let agreed = std::fs::read_to_string(&golden).expect("tests/fixtures/golden/gst-inspect.txt");
    assert!(shown == agreed, "gst-inspect shows another interface; BLESS=1 accepts it:\n{shown}");
}

#[test]
fn gst_launch_restores_with_a_preset_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let preset = crate::preset::write(folder.path());
    let mut command = tool("gst-launch-1.0", folder.path());
    command.args(["-e", "videotestsrc", "num-buffers=3", "!", "video/x-raw,width=64,height=48", "!"]);
    command.args(["i2sbrestore", &format!("model={}", preset.display()), "!", "fakesink"]);
    let text = run(command);
    assert!(text.contains("Got EOS"), "{text}");
    // By its short name, along the documented search path.
    let mut command = tool("gst-launch-1.0", folder.path());
    command.env("I2SB_MODEL_PATH", folder.path());
    command.args(["videotestsrc", "num-buffers=2", "!", "video/x-raw,width=33,height=17,format=v210", "!"]);
    command.args(["i2sbrestore", "model=test-nano", "precision=f32", "steps=2", "!", "fakesink"]);
    run(command);
}

#[test]
fn presets_of_the_element_load_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("presets");
    let mut command = tool("gst-launch-1.0", folder.path());
    command.env("GST_PRESET_PATH", &data);
    command.args(["videotestsrc", "num-buffers=1", "!", "i2sbrestore", "@preset=judge", "enabled=false"]);
    command.arg(format!("model={}", crate::preset::write(folder.path()).display()));
    command.args(["!", "fakesink"]);
    run(command);
}

#[test]
fn the_library_needs_nothing_that_a_machine_without_gpu_lacks() {
    let Ok(output) = Command::new("readelf").arg("-d").arg(library()).output() else {
        println!("skipped: no readelf");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines().filter(|line| line.contains("NEEDED")) {
        assert!(!line.contains("cuda") && !line.contains("nv"), "{line}");
    }
}
