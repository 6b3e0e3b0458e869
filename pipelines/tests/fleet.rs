// SPDX-License-Identifier: MIT OR Apache-2.0
//! A job in chunks: killed, damaged, full, doubled; and always the bits of the whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const EXE: &str = env!("CARGO_BIN_EXE_i2sb-run");
/// Frames of the test's video.
const FRAMES: usize = 20;

/// `i2sb-run fleet` with the plugin of this tree, which is built first if need be.
fn fleet(args: &[&str]) -> Command {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--release", "--quiet", "-p", "gst-plugin-i2sb"]).current_dir(HERE);
        assert!(build.status().expect("cargo runs").success());
    });
    let mut command = Command::new(EXE);
    command.arg("fleet").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn good(args: &[&str]) -> String {
    let output = fleet(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(&output));
    text(&output)
}

fn bad(code: i32, args: &[&str]) -> String {
    let output = fleet(args).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output));
    text(&output)
}

/// A folder with a video of 20 frames and sound, and places in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let video = format!(
            "videotestsrc num-buffers={FRAMES} horizontal-speed=2 ! video/x-raw,format=I420,width=64,height=48,\
             framerate=25/1 ! x264enc key-int-max=6 bframes=2 ! h264parse ! mp4mux name=m ! filesink location={} \
             audiotestsrc num-buffers=34 ! avenc_aac ! m.",
            place.at("in.mp4")
        );
        let mut launch = Command::new("gst-launch-1.0");
        assert!(launch.arg("-q").args(video.split_whitespace()).status().unwrap().success());
        place
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A job of this name in chunks of so many frames.
    fn plan(&self, job: &str, chunk: usize, set: &[&str]) -> String {
        let (input, job, chunk) = (self.at("in.mp4"), self.at(job), chunk.to_string());
        let mut args = vec!["plan", &input, &job, "--chunk", &chunk];
        args.extend(set.iter().flat_map(|set| ["--set", set]));
        good(&args);
        job
    }

    /// The bytes of a job that one worker does in one chunk.
    fn whole(&self, set: &[&str]) -> Vec<u8> {
        let (job, out) = (self.plan("whole", FRAMES, set), self.at("whole.mkv"));
        good(&["work", &job]);
        good(&["join", &job, &out]);
        fs::read(out).unwrap()
    }
}

fn chunk_file(job: &str, chunk: usize, ending: &str) -> PathBuf {
    Path::new(job).join("chunks").join(format!("{chunk:06}.{ending}"))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x55;
    fs::write(path, bytes).unwrap();
}

fn until(what: &mut dyn FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !what() {
        assert!(Instant::now() < end, "it takes too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Half-done files in a job.
fn parts(job: &str) -> usize {
    let entries = fs::read_dir(Path::new(job).join("chunks")).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().contains("part-")).count()
}

fn stop(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn killed_anywhere_it_resumes_with_what_is_missing_to_the_bits_of_the_whole() {
    let place = Place::new();
    // Steps enough to be caught in the middle of a chunk.
    let set = ["steps=12"];
    let job = place.plan("job", 6, &set);
    for killed_in in [0, 2] {
        let child = fleet(&["work", &job]).spawn().unwrap();
        until(&mut || killed_in == 0 || chunk_file(&job, killed_in - 1, "json").exists());
        until(&mut || parts(&job) > 0);
        stop(child);
        assert!(!chunk_file(&job, killed_in, "json").exists(), "killed too late to show anything");
    }
    assert_eq!(good(&["status", &job, "--missing"]), "2\n3\n");
    let told = bad(1, &["join", &job, &place.at("out.mkv")]);
    assert!(told.contains("2 of 4 chunks are missing: 2,3"), "{told}");
    let told = good(&["work", &job]);
    assert!(told.contains("chunk 2: 6 of 6") && told.contains("chunk 3: 2 of 2"), "{told}");
    assert!(!told.contains("chunk 0") && !told.contains("chunk 1"), "done twice: {told}");
    assert_eq!(parts(&job), 0);
    good(&["join", &job, &place.at("out.mkv")]);
    assert_eq!(good(&["work", &job]), "", "nothing was left to do");
    let whole = place.whole(&set);
    assert!(fs::read(place.at("out.mkv")).unwrap() == whole, "the joined file differs from the whole");
    // The sound is there, all of it.
    let count = |file: &str| {
        let pipeline = format!("filesrc location={file} ! parsebin ! audio/mpeg ! fakesink silent=false -v");
        let shown = Command::new("gst-launch-1.0").args(pipeline.split_whitespace()).output().unwrap();
        assert!(shown.status.success(), "{}", text(&shown));
        String::from_utf8_lossy(&shown.stdout).matches("chain").count()
    };
    assert_eq!(count(&place.at("out.mkv")), count(&place.at("in.mp4")));
}

#[test]
fn two_workers_share_the_chunks_and_nothing_is_done_twice() {
    let place = Place::new();
    let job = place.plan("job", 2, &[]);
    let both = [(); 2].map(|()| fleet(&["work", &job]).spawn().unwrap());
    let told: String = both.map(|child| text(&child.wait_with_output().unwrap())).concat();
    for chunk in 0..FRAMES / 2 {
        assert_eq!(told.matches(&format!("chunk {chunk}: 2 of 2")).count(), 1, "chunk {chunk}: {told}");
    }
    good(&["join", &job, &place.at("out.mkv")]);
    assert!(fs::read(place.at("out.mkv")).unwrap() == place.whole(&[]));
    // A chunk that is asked for by number while another has it: refused.
    let job = place.plan("slow", FRAMES, &["steps=100"]);
    let child = fleet(&["work", &job]).spawn().unwrap();
    until(&mut || parts(&job) > 0);
    let told = bad(3, &["work", &job, "--chunk", "0"]);
    assert!(told.contains("chunk 0 is being worked on by another"), "{told}");
    assert!(good(&["status", &job]).contains("in work       1  0"));
    stop(child);
}

#[test]
fn without_strength_the_frames_are_those_of_the_source() {
    let place = Place::new();
    let job = place.plan("job", 7, &["strength=0"]);
    good(&["work", &job]);
    let planned = fs::read_to_string(Path::new(&job).join("frames.txt")).unwrap();
    let planned: Vec<&str> = planned.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    let mut restored = String::new();
    for chunk in 0..3 {
        restored += &fs::read_to_string(chunk_file(&job, chunk, "json")).unwrap();
    }
    assert_eq!(planned.len(), FRAMES);
    assert!(planned.iter().all(|digest| restored.contains(&format!("\"{digest}\""))));
    good(&["join", &job, &place.at("out.mkv")]);
}

#[test]
fn damage_is_named_by_its_frame_and_nothing_is_written() {
    let place = Place::new();
    let (job, out) = (place.plan("job", 8, &["strength=0"]), place.at("out.mkv"));
    good(&["work", &job]);
    let chunk = chunk_file(&job, 1, "mkv");
    let intact = fs::read(&chunk).unwrap();
    flip(&chunk, intact.len() / 2);
    let told = bad(1, &["join", &job, &out]);
    let frame = (8..16).find(|n| told.contains(&format!("frame {n} of")));
    assert!(frame.is_some() && told.contains("remove") && told.contains("000001.json"), "{told}");
    let digests = |place: &Path| -> serde_json::Value {
        let record: serde_json::Value = serde_json::from_str(&fs::read_to_string(place).unwrap()).unwrap();
        record["digests"].clone()
    };
    let record = chunk_file(&job, 1, "json");
    let before = digests(&record);
    fs::remove_file(&record).unwrap();
    assert!(good(&["work", &job]).contains("chunk 1: "));
    // The same frames. What the muxer draws by chance differs, and one of its numbers in 256 is a byte shorter.
    assert!(before.as_array().is_some_and(|all| all.len() == 8) && digests(&record) == before, "{before}");
    assert!(fs::read(&chunk).unwrap().len().abs_diff(intact.len()) <= 1);
    // A record that says something else than what was restored.
    let record = chunk_file(&job, 2, "json");
    let good_record = fs::read_to_string(&record).unwrap();
    let at = good_record.find("\"digests\":[\"").unwrap() + 12;
    let wrong = format!("{}{}{}", &good_record[..at], "0".repeat(32), &good_record[at + 32..]);
    fs::write(&record, wrong).unwrap();
    let told = bad(1, &["join", &job, &out]);
    assert!(told.contains("frame 16 of"), "{told}");
    fs::write(&record, good_record).unwrap();
    assert!(!Path::new(&out).exists());
    // The input changes after it was planned.
    fs::remove_file(chunk_file(&job, 2, "json")).unwrap();
    let input = fs::read(place.at("in.mp4")).unwrap();
    let at = input.windows(4).position(|four| four == b"mdat").unwrap();
    for byte in (at + 4 + (input.len() - at) / 3..input.len() - 4000).step_by(97) {
        flip(Path::new(&place.at("in.mp4")), byte);
    }
    let told = bad(1, &["work", &job]);
    assert!(
        (0..FRAMES).any(|n| told.contains(&format!("frame {n} "))) || told.contains("frame 16:"),
        "{told}"
    );
    fs::write(place.at("in.mp4"), &input[..input.len() - 1]).unwrap();
    let told = bad(1, &["work", &job]);
    assert!(told.contains("it changed since"), "{told}");
    assert_eq!(parts(&job), 0);
}

#[test]
fn a_full_disk_leaves_no_half_chunk_and_the_job_goes_on_later() {
    let place = Place::new();
    let job = place.plan("job", 10, &[]);
    // Files may have 4 kB and no more: what a full disk is to a program.
    let shell = format!("trap '' XFSZ; ulimit -f 4; exec {EXE} fleet work {job}");
    let output = Command::new("bash").args(["-c", &shell]).output().unwrap();
    assert!(!output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("chunk 0"), "{}", text(&output));
    assert_eq!(good(&["status", &job, "--missing"]), "0\n1\n");
    assert_eq!(parts(&job), 0);
    good(&["work", &job]);
    let shell = format!("trap '' XFSZ; ulimit -f 4; exec {EXE} fleet join {job} {}", place.at("out.mkv"));
    let output = Command::new("bash").args(["-c", &shell]).output().unwrap();
    assert!(!output.status.success(), "{}", text(&output));
    let names: Vec<_> = fs::read_dir(place.0.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("mkv")), "{names:?}");
    good(&["join", &job, &place.at("out.mkv")]);
}

#[test]
fn nothing_is_overwritten_and_wrong_words_are_said() {
    let place = Place::new();
    let (job, input, out) = (place.plan("job", 20, &["strength=0"]), place.at("in.mp4"), place.at("out.mkv"));
    assert!(bad(3, &["plan", &input, &job]).contains("is a job already"));
    good(&["work", &job]);
    fs::write(&out, "mine").unwrap();
    assert!(bad(3, &["join", &job, &out]).contains("--force"));
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    good(&["join", &job, &out, "--force"]);
    assert!(fs::read(&out).unwrap().len() > 1000);
    for (code, args, word) in [
        (2, &["work", &job, "--chunk", "1"][..], "no chunk 1"),
        (1, &["work", &place.at("nothing")], "fleet plan"),
        (2, &["join", &job, &place.at("out.mp4")], "mkv"),
        (1, &["plan", &place.at("absent.mp4"), &place.at("new")], "absent.mp4"),
        (2, &["plan", &input, &place.at("new"), "--set", "strength=7"], "strength"),
        (2, &["plan", &input, &place.at("new"), "--set", "nosuch=7"], "nosuch"),
        (1, &["plan", &format!("{HERE}/Cargo.toml"), &place.at("new")], "Cargo.toml"),
    ] {
        let told = bad(code, args);
        assert!(told.contains(word), "{args:?}: {told}");
    }
    // What could not be planned can be planned in the same folder.
    place.plan("new", 5, &[]);
}

#[test]
fn a_real_slurm_loses_a_node_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    good(&["--help"]);
    let script = Path::new(HERE).join("fleet/slurm-test.sh");
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "500"]).arg(script).arg(EXE).arg(folder.path());
    let output = command.output().unwrap();
    match output.status.code() {
        Some(0) => assert!(text(&output).contains("bits of the single worker"), "{}", text(&output)),
        Some(77) => println!("{}", text(&output)),
        _ => panic!("{}", text(&output)),
    }
}
