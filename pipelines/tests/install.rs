// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `meson setup` and `ninja install` put into a prefix works from there, and from there alone.

use std::path::{Path, PathBuf};
use std::process::Command;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a program that is killed if it takes too long, without what would lead it to the build tree.
fn run(program: &Path, args: &[&str], vars: &[(&str, &Path)]) -> String {
    let mut command = Command::new("timeout");
    // Long enough for a build from nothing.
    command.args(["--kill-after=10", "1200"]).arg(program).args(args).current_dir("/");
    for name in ["GST_PLUGIN_PATH", "I2SB_MODEL_PATH"] {
        command.env_remove(name);
    }
    let output = command.envs(vars.iter().copied()).output().expect("timeout of coreutils");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} {args:?}: {text}", program.display());
    text
}

/// The file of this name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) }
    })
}

#[test]
fn what_is_installed_into_a_prefix_works_there() {
    for tool in ["meson", "ninja"] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("skipped: no {tool}");
            return;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let [build, prefix, registry] = ["build", "prefix", "registry.bin"].map(|name| folder.path().join(name));
    let source = Path::new(HERE).parent().expect("in the workspace");
    // Where cargo built this test: nothing that is there is compiled again.
    let target = Path::new(env!("CARGO_BIN_EXE_i2sb-run")).ancestors().nth(2).expect("in a target folder");
    let setup = [
        "setup",
        build.to_str().unwrap(),
        source.to_str().unwrap(),
        &format!("--prefix={}", prefix.display()),
        &format!("-Dtarget_dir={}", target.display()),
    ];
    run(Path::new("meson"), &setup, &[]);
    run(Path::new("ninja"), &["-C", build.to_str().unwrap(), "install"], &[]);
    run(Path::new("meson"), &["test", "-C", build.to_str().unwrap(), "--no-rebuild"], &[]);

    // Seen by GStreamer's own tools.
    let plugin = find(&prefix, "libgsti2sb.so").expect("the plugin");
    let plugins = plugin.parent().expect("in a folder");
    assert!(plugins.ends_with("gstreamer-1.0"), "{}", plugin.display());
    let vars = [("GST_PLUGIN_PATH", plugins), ("GST_REGISTRY", registry.as_path())];
    let shown = run(Path::new("gst-inspect-1.0"), &["i2sbrestore"], &vars);
    assert!(shown.contains(plugin.to_str().unwrap()), "another plugin than the installed one:\n{shown}");

    // The installed recipe, told nothing of where it lies.
    let script = prefix.join("share/i2sb/pipelines/run.sh");
    let clip = Path::new(HERE).join("../tests/fixtures/clips/cockatoo.mp4");
    let target = folder.path().join("out.mp4");
    let weights = prefix.join("share/i2sb/weights");
    let args = ["compressed-video", clip.to_str().unwrap(), target.to_str().unwrap(), "--strength", "0"];
    let args = [&args[..], &["--model", "jpeg-small"]].concat();
    let vars = [("I2SB_MODEL_PATH", weights.as_path()), ("GST_REGISTRY", registry.as_path())];
    let told = run(&script, &args, &vars);
    assert!(told.contains("42 frames") && target.exists(), "{told}");

    let of_each = |command: &str| {
        let pages = [
            format!("{command}.bash"),
            format!("_{command}"),
            format!("{command}.fish"),
            format!("{command}.1"),
        ];
        [&[command.to_string()], &pages[..]].concat()
    };
    let others = [
        "i2sb-restore.1",
        "i2sb-run-fleet-plan.1",
        "i2sb-run-control.1",
        "pipeline.toml",
        "GstI2sbRestore.prs",
    ];
    let names = ["i2sb", "i2sb-run"].iter().flat_map(|command| of_each(command));
    for name in names.chain(others.map(String::from)) {
        assert!(find(&prefix, &name).is_some(), "{name} is not installed");
    }
    assert!(
        find(&prefix, "run.rs").is_none() && find(&prefix, "Cargo.toml").is_none(),
        "sources are installed"
    );
}
