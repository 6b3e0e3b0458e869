// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every command of the book runs: the fenced blocks of each page, in order, in a folder as `docs/begin.md`
//! describes it.

use std::path::{Path, PathBuf};
use std::process::Command;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// What stands after the three back ticks, and who runs such blocks.
const KINDS: &[(&str, Runner)] = &[
    ("sh", Runner::Here { in_source: false, succeeds: true }),
    ("sh fails", Runner::Here { in_source: false, succeeds: false }),
    ("sh source", Runner::Here { in_source: true, succeeds: true }),
    ("sh debian", Runner::Script("packaging/bare.sh")),
    ("sh dist", Runner::Script("packaging/bare.sh")),
    ("sh meson", Runner::Script("pipelines/tests/install.rs")),
    ("sh slurm", Runner::Script("pipelines/fleet/slurm-test.sh")),
];

#[derive(Clone, Copy)]
enum Runner {
    /// This test: in the reader's folder, or with the source tree's `docs` and `tests` in it too.
    Here { in_source: bool, succeeds: bool },
    /// This file, which must be there.
    Script(&'static str),
}

/// A fenced block of commands.
struct Block {
    line: usize,
    kind: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for (index, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(kind) => {
                open = true;
                found.push(Block { line: index + 1, kind: kind.to_owned(), text: String::new() });
            }
            None if open => {
                let text = &mut found.last_mut().expect("a block is open").text;
                *text += line;
                *text += "\n";
            }
            None => {}
        }
    }
    assert!(!open, "a block is not closed");
    found.retain(|block| block.kind.starts_with("sh"));
    found
}

/// The programs and the plugin of this tree, built if need be; the folder they are in.
fn programs() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--quiet", "-p", "gst-plugin-i2sb", "-p", "i2sb"]).current_dir(HERE);
    assert!(build.status().expect("cargo runs").success());
    Path::new(env!("CARGO_BIN_EXE_i2sb-run")).parent().expect("a program is in a folder").to_owned()
}

fn launch(folder: &Path, pipeline: &str) {
    let mut launch = Command::new("gst-launch-1.0");
    let done = launch.arg("-q").args(pipeline.split_whitespace()).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Lays out what `docs/begin.md` promises.
fn readers_folder(folder: &Path, root: &Path) {
    std::fs::create_dir(folder.join("photos")).unwrap();
    let photo = root.join("tests/fixtures/photo/generator.jpg");
    for (name, left, encoder) in
        [("photo.jpg", 400, "jpegenc"), ("photos/a.png", 100, "pngenc"), ("photos/b.png", 500, "pngenc")]
    {
        let (right, bottom) = (1280 - left - 96, 868 - 280 - 64);
        launch(
            folder,
            &format!(
                "filesrc location={} ! jpegdec ! videoconvert ! videocrop left={left} top=280 right={right} \
             bottom={bottom} ! {encoder} ! filesink location={name}",
                photo.display()
            ),
        );
    }
    let checkpoint = root.join("tests/fixtures/i2sb/checkpoint/jpeg-tiny");
    std::os::unix::fs::symlink(checkpoint, folder.join("checkpoint")).unwrap();
    std::os::unix::fs::symlink(root.join("pipelines"), folder.join("pipelines")).unwrap();
    let clip = "videotestsrc num-buffers=12 ! video/x-raw,width=64,height=48,framerate=25/1 ! x264enc bframes=0 \
        ! h264parse ! mp4mux name=m ! filesink location=in.mp4 audiotestsrc num-buffers=20 ! avenc_aac ! m.";
    launch(folder, clip);
    std::fs::create_dir(folder.join("out")).unwrap();
}

#[test]
fn every_command_of_the_book_runs() {
    let root = Path::new(HERE).parent().expect("in the workspace").canonicalize().unwrap();
    let programs = programs();
    let shared = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut pages: Vec<PathBuf> =
        std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|ending| ending == "md"));
    pages.sort();
    let (mut ran, mut wrong) = (0, Vec::new());
    for page in pages {
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        let blocks = blocks(&std::fs::read_to_string(&page).unwrap());
        let folder = tempfile::tempdir().unwrap();
        for (index, block) in blocks.iter().enumerate() {
            if index == 0 {
                readers_folder(folder.path(), &root);
            }
            let at = format!("docs/{name}:{}", block.line);
            let known = KINDS.iter().find(|(kind, _)| *kind == block.kind);
            let (_, runner) = known.unwrap_or_else(|| panic!("{at}: nobody runs `{}`", block.kind));
            let (in_source, succeeds) = match *runner {
                Runner::Script(script) => {
                    assert!(root.join(script).is_file(), "{at}: {script} is not there");
                    continue;
                }
                Runner::Here { in_source, succeeds } => (in_source, succeeds),
            };
            for tree in ["docs", "tests"].iter().filter(|_| in_source) {
                std::os::unix::fs::symlink(root.join(tree), folder.path().join(tree)).unwrap();
            }
            let mut shell = Command::new("timeout");
            shell.args(["--kill-after=10", "120", "bash", "-euo", "pipefail", "-c", &block.text]);
            shell.current_dir(folder.path()).env("PATH", &path).env("HOME", folder.path());
            shell.env("GST_PLUGIN_PATH", &programs).env("GST_REGISTRY", shared.path().join("registry.bin"));
            let done = shell.env_remove("I2SB_MODEL_PATH").output().expect("timeout of coreutils");
            if done.status.success() != succeeds || done.status.code().is_none_or(|code| code >= 124) {
                let told =
                    [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
                wrong.push(format!("{at}: {} {}", done.status, told.join("")));
            }
            ran += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran > 20, "only {ran} blocks ran");
}

#[test]
fn the_table_of_contents_has_every_page() {
    let docs = Path::new(HERE).join("../docs");
    let contents = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let mut count = 0;
    for folder in [docs.clone(), docs.join("record")] {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let page = path.strip_prefix(&docs).unwrap().display().to_string();
            if page.ends_with(".md") && page != "SUMMARY.md" {
                assert!(contents.contains(&format!("]({page})")), "docs/SUMMARY.md does not name {page}");
                count += 1;
            }
        }
    }
    assert!(count > 8);
}
