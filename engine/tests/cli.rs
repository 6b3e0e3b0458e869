// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command as people and scripts use it: what it prints, what it writes, how it ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use candle_core::DType;
use i2sb::{
    net::random::RandomWeights,
    picture::{Picture, SaveOptions},
    preset::{Preset, PresetConfig},
};

#[path = "cli/companions.rs"]
mod companions;
#[path = "cli/refusing.rs"]
mod refusing;
#[path = "cli/telling.rs"]
mod telling;

const TINY: &str = r#"
name = "tiny-v1"
task = "test"
description = "Random weights."
sampling = { sampler = "i2sb", nfe = 1 }
bridge = { interval = 1000, beta_max = 0.3 }

[network]
family = "bridge"
in_channels = 3
unshuffle = 2
widths = [16, 32]
encoder = [1]
middle = 1
decoder = [1]
time_features = 8
"#;

/// A folder with a preset `tiny-v1`, in which commands run.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        let config = PresetConfig::parse(TINY, "tiny").unwrap();
        let weights = RandomWeights::new(&config.network, 1).unwrap();
        Preset::write_from(room.path("weights/tiny-v1"), &config, &weights, "# tiny", DType::F32).unwrap();
        room
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn picture(&self, name: &str, width: usize, height: usize, deep: bool, alpha: bool) -> Picture {
        let value = |at: usize| (at * 37 % 256) as f32 / 127.5 - 1.0;
        let mut picture = Picture::new(width, height, (0..3 * width * height).map(value).collect()).unwrap();
        picture.deep = deep;
        picture.alpha = alpha.then(|| (0..width * height).map(|at| (at % 5) as f32 / 4.0).collect());
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        picture.save(self.path(name), SaveOptions::default()).unwrap();
        Picture::load(self.path(name)).unwrap()
    }

    fn i2sb(&self, line: &str) -> Done {
        let output = Command::new(env!("CARGO_BIN_EXE_i2sb"))
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env_remove("I2SB_MODEL_PATH")
            .output()
            .unwrap();
        Done::new(output)
    }

    fn load(&self, name: &str) -> Picture {
        Picture::load(self.path(name)).unwrap()
    }
}

struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    fn new(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Checks the exit code, and that no panic was behind it.
    fn ends_with(self, code: i32) -> Self {
        assert!(
            self.code == code && !self.err.contains("panicked"),
            "{}: {}{}",
            self.code,
            self.out,
            self.err
        );
        self
    }
}

#[test]
fn exit_codes_follow_the_page() {
    let room = Room::new();
    assert!(room.i2sb("--version").ends_with(0).out.starts_with("i2sb "));
    room.i2sb("").ends_with(2);
    room.i2sb("restore").ends_with(2);
    room.i2sb("restore x.png --steps many").ends_with(2);
    room.i2sb("restore x.png --sampler nosuch").ends_with(2);
    room.i2sb("restore x.png --device gpu").ends_with(2);
    let absent = room.i2sb("restore x.png --model nosuch").ends_with(1);
    assert!(absent.err.contains("nosuch") && absent.err.contains("weights"), "{}", absent.err);
    assert_eq!(absent.err.lines().count(), 1);
}

#[test]
fn a_picture_keeps_its_size_depth_and_opacity() {
    let room = Room::new();
    for (name, width, height, deep, alpha) in
        [("a.png", 1, 1, false, false), ("b.png", 37, 21, true, true), ("c.webp", 16, 40, false, true)]
    {
        let input = room.picture(name, width, height, deep, alpha);
        let out = format!("out/{name}");
        room.i2sb(&format!("restore {name} -o {out} --model tiny --tile 16")).ends_with(0);
        let output = room.load(&out);
        assert_eq!((output.width, output.height, output.deep), (width, height, input.deep));
        assert_eq!(output.alpha, input.alpha, "{name}");
        assert_ne!(output.rgb, input.rgb, "{name}");
        room.i2sb(&format!("restore {name} -o {out} --model tiny --strength 0 --force")).ends_with(0);
        assert_eq!(room.load(&out).rgb, input.rgb, "{name}: strength 0 changes nothing");
    }
}

#[test]
fn results_do_not_depend_on_threads_or_company() {
    let room = Room::new();
    room.picture("in/a.png", 30, 20, false, false);
    room.picture("in/b.png", 20, 30, false, false);
    room.i2sb("restore in -o all --model tiny --steps 3 --threads 1").ends_with(0);
    room.i2sb("restore in/b.png -o b.png --model tiny --steps 3 --threads 2").ends_with(0);
    assert_eq!(room.load("all/b.png").rgb, room.load("b.png").rgb);
}

#[test]
fn a_bad_file_costs_one_line_and_the_others_go_on() {
    let room = Room::new();
    room.picture("in/good.png", 20, 20, false, false);
    fs::write(room.path("in/broken.png"), b"\x89PNG\r\n\x1a\nnothing").unwrap();
    fs::write(room.path("in/notes.txt"), b"no picture").unwrap();
    let done = room.i2sb("restore in absent.png -o out --model tiny").ends_with(1);
    let told: Vec<_> = done.err.lines().filter(|line| line.starts_with("i2sb: ")).collect();
    assert_eq!(told.len(), 3, "{}", done.err);
    assert!(told[0].contains("broken.png") && told[1].contains("absent.png"), "{}", done.err);
    assert_eq!(told[2], "i2sb: 2 of 3 pictures failed");
    assert_eq!(room.load("out/good.png").width, 20);
    assert!(!room.path("out/broken.png").exists());
}

#[test]
fn nothing_is_overwritten_unless_asked_for() {
    let room = Room::new();
    room.picture("a.png", 8, 8, false, false);
    fs::write(room.path("a-restored.png"), b"precious").unwrap();
    let done = room.i2sb("restore a.png --model tiny").ends_with(1);
    assert!(done.err.contains("a-restored.png") && done.err.contains("--force"), "{}", done.err);
    assert_eq!(fs::read(room.path("a-restored.png")).unwrap(), b"precious");
    room.i2sb("restore a.png --model tiny --force --compare").ends_with(0);
    assert_eq!(room.load("a-restored.png").width, 8);
    assert!(room.load("a-restored-compare.png").width > 2 * 8);
}

#[test]
fn a_clip_is_measured_in_time_without_running_the_network() {
    let room = Room::new();
    // A still scene whose decoded frames swing by ±2 steps; the tenth frame sorts behind the ninth by number.
    for (number, step) in [(8, 2.0), (9, -2.0), (10, 2.0), (11, -2.0)] {
        for (folder, value) in [("clean", 0.0), ("decoded", step)] {
            let rgb = vec![(128.0 + value) / 127.5 - 1.0; 3 * 16 * 16];
            let path = room.path(format!("{folder}/f{number}.png"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            Picture::new(16, 16, rgb).unwrap().save(path, SaveOptions::default()).unwrap();
        }
    }
    let line = "eval clean --degrade pairs:decoded --clip --strength 0 --no-lpips --model tiny --csv t.csv";
    let done = room.i2sb(line).ends_with(0);
    assert!(done.out.contains("temporal deviation  2.000 -> 2.000 levels, 1.00 times"), "{}", done.out);
    let csv = fs::read_to_string(room.path("t.csv")).unwrap();
    let lines: Vec<_> = csv.lines().collect();
    assert!(lines[0].ends_with(",deviation_in,deviation_out,warp_original,warp_in,warp_out"), "{csv}");
    let images: Vec<_> = lines[1..5].iter().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(images, ["f8.png", "f9.png", "f10.png", "f11.png"]);
    // Deviation 2 around the mean; along the motion, none, each frame is 4 from the one before.
    assert!(lines[5].ends_with(",2.0000,2.0000,0.0000,4.0000,4.0000"), "{csv}");
    // A missing frame ends the run: its neighbours are no neighbours.
    fs::remove_file(room.path("decoded/f9.png")).unwrap();
    assert!(room.i2sb(line).ends_with(1).err.contains("f9.png"));
}

#[test]
fn bench_writes_its_figures() {
    let room = Room::new();
    let line = "bench --model tiny --size 20x12 --runs 1 --threads 1 --json figures.json";
    let printed = room.i2sb(line).ends_with(0).out;
    let figures: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let written = fs::read_to_string(room.path("figures.json")).unwrap();
    assert_eq!(figures, serde_json::from_str::<serde_json::Value>(&written).unwrap());
    for key in ["ms_median", "mpx_per_s", "gmac_per_s", "gemm_gmac_per_s"] {
        assert!(figures[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!((&figures["device"], &figures["precision"]), (&"cpu".into(), &"f32".into()));
    assert!(cfg!(not(target_os = "linux")) || figures["peak_rss_mb"].as_f64().unwrap() > 1.0);
    room.i2sb("bench --model tiny --size 0x5").ends_with(2);
}

#[test]
fn pages_cover_every_subcommand() {
    let room = Room::new();
    for shell in ["bash", "fish", "zsh"] {
        assert!(room.i2sb(&format!("completions {shell}")).ends_with(0).out.contains("restore"));
    }
    room.i2sb("man pages").ends_with(0);
    assert!(fs::read_to_string(room.path("pages/i2sb-restore.1")).unwrap().contains("strength"));
    assert!(room.i2sb("man").ends_with(0).out.contains(".TH"));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda_says_so() {
    let room = Room::new();
    room.picture("a.png", 8, 8, false, false);
    let done = room.i2sb("restore a.png --model tiny --device cuda:0").ends_with(1);
    assert!(done.err.contains("cuda:0") && done.err.contains("cpu"), "{}", done.err);
}

/// Ctrl-C ends a long run with 130 and leaves no file behind.
#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_half_written() {
    let room = Room::new();
    room.picture("a.png", 700, 700, false, false);
    let child = Command::new(env!("CARGO_BIN_EXE_i2sb"))
        .args(["restore", "a.png", "-o", "out/a.png", "--model", "tiny", "--steps", "900"])
        .current_dir(room.0.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let left = fs::read_dir(room.path("out")).map_or(0, |entries| entries.count());
    assert_eq!(left, 0);
}

/// A training that was killed goes on from its last state to the bits of one that was not.
#[cfg(unix)]
#[test]
fn a_killed_training_goes_on_to_the_same_bits() {
    const TRAIN: &str = "[train]\ndegrade = 'jpeg:10-90|none'\nsteps = 24\nbatch = 4\nevery = 2\nwarmup = 2\n[train.crop]\nwidth = 32\nheight = 32\nsynthetic = 0.3\n";
    let room = Room::new();
    fs::write(room.path("recipe.toml"), format!("{TINY}\n{TRAIN}")).unwrap();
    room.picture("photos/a.png", 160, 120, false, false);
    fs::write(room.path("photos/broken.jpg"), b"no picture").unwrap();
    let line = "train --data photos --recipe recipe.toml --threads 1 --out";
    let whole = room.i2sb(&format!("{line} whole")).ends_with(0);
    assert_eq!(whole.err.matches("skipped: broken.jpg").count(), 1, "{}", whole.err);

    let mut child = Command::new(env!("CARGO_BIN_EXE_i2sb"))
        .args(format!("{line} parts").split_whitespace())
        .current_dir(room.0.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let state = room.path("parts/state.safetensors");
    while !state.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let again = room.i2sb(&format!("{line} parts")).ends_with(0);
    assert!(again.err.contains("going on after step"), "{}", again.err);
    let read = |name: &str| fs::read(room.path(name)).unwrap();
    assert!(read("whole/state.safetensors") == read("parts/state.safetensors"), "the states differ");
    assert_eq!(read("whole/log.csv"), read("parts/log.csv"));
}

#[test]
fn a_preset_is_calibrated_and_then_runs_in_bytes() {
    let room = Room::new();
    let model = "--model weights/tiny-v1";
    for at in 0..3 {
        room.picture(&format!("photos/{at}.png"), 40 + at, 33, false, false);
    }
    let before = room.i2sb(&format!("restore photos/0.png -o a.png --precision int8 {model}")).ends_with(1);
    assert!(before.err.contains("i2sb calibrate"), "{}", before.err);
    room.i2sb(&format!("calibrate photos {model}")).ends_with(2);
    let done = room.i2sb(&format!("calibrate photos --degrade jpeg:20-90 {model}")).ends_with(0);
    assert!(done.out.contains("int8.safetensors") && done.out.contains("i2sb eval"), "{}", done.out);
    let file = || fs::read(room.path("weights/tiny-v1/int8.safetensors")).unwrap();
    let ranges = file();
    room.i2sb(&format!("restore photos/0.png -o a.png --precision int8 {model}")).ends_with(0);
    room.i2sb(&format!("restore photos/0.png -o b.png {model}")).ends_with(0);
    let (bytes, exact) = (room.load("a.png"), room.load("b.png"));
    let psnr = i2sb::metric::psnr_rgb(&exact.rgb, &bytes.rgb).unwrap();
    assert!(bytes.rgb != exact.rgb && psnr > 28.0, "{psnr} dB");
    // The same pictures give the same ranges, on however many threads; a picture that cannot be read stops all.
    room.i2sb(&format!("calibrate photos --degrade jpeg:20-90 --threads 1 {model}")).ends_with(0);
    assert!(file() == ranges);
    fs::write(room.path("photos/1.png"), b"no picture").unwrap();
    let broken = room.i2sb(&format!("calibrate photos --degrade none {model}")).ends_with(1);
    assert!(broken.err.contains("1.png") && broken.err.contains("nothing was written"), "{}", broken.err);
    assert!(file() == ranges);
    let inside = room.i2sb("calibrate photos --degrade none --model nosuch").ends_with(1);
    assert!(inside.err.contains("nosuch"), "{}", inside.err);
}
