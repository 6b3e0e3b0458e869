// SPDX-License-Identifier: MIT OR Apache-2.0
//! The job `archive`: what goes in comes out, sample by sample, and what is written beside it is true.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::rig::{HERE, runner, text};

/// A folder and the job in it.
pub struct Archive(pub tempfile::TempDir);

impl Archive {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A file by ffmpeg: `{}` is its place.
    pub fn ffmpeg(&self, name: &str, args: &str) -> String {
        let place = self.at(name);
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-y"]).args(args.split_whitespace()).arg(&place);
        let done = command.output().expect("ffmpeg is installed");
        assert!(done.status.success(), "{args}: {}", text(&done));
        place
    }

    /// The job with the small network.
    pub fn job(&self, args: &[&str]) -> Command {
        let mut command = runner("archive");
        command.args(args).env("I2SB_MODEL_PATH", Path::new(HERE).join("../weights"));
        command.args(["--model", "jpeg-nano", "--device", "cpu"]);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.job(args).output().expect("i2sb-run runs")
    }

    pub fn good(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert!(done.status.success(), "{args:?}: {}", text(&done));
        text(&done)
    }

    pub fn bad(&self, code: i32, args: &[&str], word: &str) {
        let done = self.run(args);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {}", text(&done));
        assert!(text(&done).contains(word), "{args:?}: no {word:?} in {}", text(&done));
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The lines of a sidecar.
    pub fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// What ffmpeg itself says of a file or a sequence, without the line that names the program.
pub fn framemd5(before: &[&str], input: &str, after: &[&str]) -> String {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error"]).args(before).args(["-i", input, "-map", "0:v:0"]);
    let done = command.args(after).args(["-f", "framemd5", "-"]).output().expect("ffmpeg is installed");
    assert!(done.status.success(), "{input}: {}", text(&done));
    without_program(&String::from_utf8(done.stdout).unwrap())
}

pub fn without_program(text: &str) -> String {
    // A picture that does not say how wide its pixels are has square ones.
    let text = text.replace("#sar 0: 0/1", "#sar 0: 1/1");
    text.lines().filter(|line| !line.starts_with("#software")).map(|line| format!("{line}\n")).collect()
}

/// Moving colours, `size` large, and so long.
pub fn scene(size: &str, seconds: f64, rate: &str) -> String {
    format!("-f lavfi -i testsrc2=s={size}:d={seconds}:r={rate}")
}

#[test]
fn every_format_of_archives_comes_out_sample_by_sample() {
    let place = Archive::new();
    let small = scene("96x64", 0.2, "25");
    let large = scene("256x128", 0.16, "25");
    let sd = scene("720x576", 0.12, "25");
    let bt601 = "-color_range tv -colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m";
    for (name, made, pixels) in [
        (
            "ffv1.mkv",
            format!("{small} -c:v ffv1 -level 3 -slicecrc 1 -pix_fmt yuv422p10le {bt601}"),
            "yuv422p10le",
        ),
        ("twelve.mkv", format!("{small} -c:v ffv1 -pix_fmt yuv444p12le {bt601}"), "yuv444p12le"),
        ("grey.mkv", format!("{small} -c:v ffv1 -pix_fmt gray16le"), "gray16le"),
        ("prores.mov", format!("{small} -c:v prores_ks -profile:v 3 -pix_fmt yuv422p10le"), "yuv422p10le"),
        ("dnxhr.mov", format!("{large} -c:v dnxhd -profile:v dnxhr_hqx -pix_fmt yuv422p10le"), "yuv422p10le"),
        ("dnxhr.mxf", format!("{large} -c:v dnxhd -profile:v dnxhr_hqx -pix_fmt yuv422p10le"), "yuv422p10le"),
        ("v210.avi", format!("{small} -c:v v210"), "yuv422p10le"),
        ("v210.mov", format!("{small} -c:v v210"), "yuv422p10le"),
        ("mpeg2.mpg", format!("{small} -c:v mpeg2video -g 3 -bf 1"), "yuv420p"),
        ("fields.ts", format!("{small} -c:v mpeg2video -flags +ildct+ilme -top 1"), "yuv420p"),
        (
            "tape.dv",
            format!("{sd} -f lavfi -i sine=d=0.12:r=48000 -ac 2 -c:v dvvideo -pix_fmt yuv420p"),
            "yuv420p",
        ),
    ] {
        let (source, out) = (place.ffmpeg(name, &made), place.at(&format!("{name}.mkv")));
        let said = place.good(&[&source, &out, "--strength", "0", "--colorimetry", "bt601"]);
        assert!(said.contains(" 0 of "), "{name}: {said}");
        let theirs = framemd5(&[], &source, &[]);
        for side in ["in", "out"] {
            let ours = without_program(&place.read(&format!("{name}.mkv.{side}.framemd5")));
            assert_eq!(ours, theirs, "{name} {side}");
        }
        assert_eq!(framemd5(&[], &out, &["-pix_fmt", pixels]), theirs, "{name}: what was written");
        let header = &place.lines(&format!("{name}.mkv.jsonl"))[0];
        assert_eq!(header["pixels"], *pixels, "{name}");
        assert!(!Path::new(&format!("{out}.job")).exists());
    }
    // Interlaced stays interlaced, in a stream that left it open.
    let caps = place.lines("fields.ts.mkv.jsonl")[0]["source"]["caps"].as_str().unwrap().to_owned();
    assert!(caps.contains("interleaved") && caps.contains("top-field-first"), "{caps}");
}

#[test]
fn sequences_keep_ten_to_sixteen_bits() {
    let place = Archive::new();
    let scene = scene("130x72", 0.125, "24");
    for (kind, format, ending, video) in [
        ("ten", "gbrp10le", "dpx", true),
        ("twelve", "gbrp12le", "dpx", true),
        ("sixteen", "rgb48le", "dpx", false),
        ("wide", "rgb48le", "tif", false),
        ("deep", "rgb48be", "png", false),
        ("grey", "gray16le", "tif", true),
        ("eight", "rgb24", "tif", true),
    ] {
        std::fs::create_dir(place.at(kind)).unwrap();
        let pattern = place.ffmpeg(&format!("{kind}/a_%03d.{ending}"), &format!("{scene} -pix_fmt {format}"));
        let canonical = if format.starts_with("rgb48") { "rgb48le" } else { format };
        let theirs = framemd5(&["-framerate", "24"], &pattern, &["-pix_fmt", canonical]);
        let (folder, tifs) = (place.at(&format!("{kind}-png")), place.at(&format!("{kind}-tif/%06d.tif")));
        for (input, out, name) in
            [(place.at(kind), folder, format!("{kind}-png")), (pattern, tifs, format!("{kind}-tif"))]
        {
            let said = place.good(&[&input, &out, "--framerate", "24"]);
            assert!(said.contains("3 of 3 frames changed"), "{kind}: {said}");
            assert_eq!(without_program(&place.read(&format!("{name}.in.framemd5"))), theirs, "{name}");
            // What ffmpeg reads of the pictures, at as many bits, is what came out of the element.
            let written = place.at(&format!("{name}/a_%03d.{}", &name[name.len() - 3..]));
            if canonical == "rgb48le" || canonical == "gray16le" || canonical == "rgb24" {
                let read = framemd5(&["-framerate", "24"], &written, &["-pix_fmt", canonical]);
                assert_eq!(read, without_program(&place.read(&format!("{name}.out.framemd5"))), "{name}");
            }
            assert_eq!(place.lines(&format!("{name}.jsonl"))[0]["pixels"], *canonical);
        }
        let out = place.at(&format!("{kind}.mkv"));
        if video {
            place.good(&[&place.at(kind), &out, "--framerate", "24"]);
            let of_video = place.read(&format!("{kind}.mkv.out.framemd5"));
            assert_eq!(of_video, place.read(&format!("{kind}-png.out.framemd5")), "{kind}");
        } else {
            place.bad(
                3,
                &[&place.at(kind), &out, "--framerate", "24"],
                "a sequence of pictures holds 16 bits",
            );
        }
    }
}

#[test]
fn what_stands_beside_the_output_is_true() {
    let place = Archive::new();
    // Six frames, each twice.
    let made = format!(
        "{} -f lavfi -i sine=d=0.48 -vf fps=25 -c:v ffv1 -pix_fmt yuv420p10le -colorspace bt709 -color_range tv \
         -color_primaries bt709 -color_trc bt709 -c:a pcm_s24le",
        scene("96x64", 0.48, "12.5")
    );
    let (source, out) = (place.ffmpeg("in.mkv", &made), place.at("out.mkv"));
    let said = place.good(&[&source, &out, "--set", "seed=7"]);
    assert!(said.contains("12 of 12 frames changed") && said.contains("out.mkv.changes.png"), "{said}");
    let lines = place.lines("out.mkv.jsonl");
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == *kind).collect::<Vec<_>>();
    let (header, frames, changes, footer) = (&lines[0], of("frame"), of("change"), lines.last().unwrap());
    assert_eq!(header["model"], "jpeg-nano-v6");
    assert_eq!(header["model_sha256"].as_str().map(str::len), Some(64));
    assert_eq!((&header["steps"], &header["seed"], &header["strength"]), (&1.into(), &7.into(), &1.0.into()));
    assert_eq!((&header["device"], &header["precision"]), (&"cpu".into(), &"f32".into()));
    let sum = Command::new("sha256sum").arg(&source).output().unwrap();
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(header["source"]["sha256"].as_str().unwrap()));
    let sum = Command::new("sha256sum").arg(&out).output().unwrap();
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(footer["output"]["sha256"].as_str().unwrap()));
    assert_eq!((frames.len(), changes.len()), (12, 8));
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(frame["frame"], index);
        assert_eq!(frame["pts"], format!("0.{:03}000000", 40 * index));
        assert_eq!(frame["status"], if index % 2 == 0 { "restored" } else { "reused" }, "{frame}");
        let (psnr, ssim) = (frame["psnr"].as_f64().unwrap(), frame["ssim"].as_f64().unwrap());
        assert!((20.0..90.0).contains(&psnr) && (0.5..1.0).contains(&ssim), "{frame}");
        for (side, file) in [("in", "out.mkv.in.framemd5"), ("out", "out.mkv.out.framemd5")] {
            let line = place.read(file).lines().nth(10 + index).unwrap().to_owned();
            assert!(line.ends_with(frame[side].as_str().unwrap()), "{line}");
        }
    }
    assert_eq!(
        (&footer["restored"], &footer["reused"], &footer["changed"]),
        (&6.into(), &6.into(), &12.into())
    );
    let largest: Vec<f64> = changes.iter().map(|change| change["largest"].as_f64().unwrap()).collect();
    assert!(largest.is_sorted_by(|a, b| a >= b), "{largest:?}");
    let most = frames.iter().map(|frame| frame["largest"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(largest[0], most);
    let sheet = image::open(place.at("out.mkv.changes.png")).unwrap().to_rgb8();
    // Eight rows of pictures that are 64 high, and words above them.
    assert!(sheet.height() > 8 * 64 && sheet.width() > 3 * 96, "{:?}", sheet.dimensions());
    // The sound is the source's, bit by bit.
    let sound = |file: &str| {
        let done = Command::new("ffmpeg")
            .args(["-v", "error", "-i", file, "-map", "0:a", "-f", "md5", "-"])
            .output();
        String::from_utf8(done.unwrap().stdout).unwrap()
    };
    assert!(sound(&source).starts_with("MD5=") && sound(&source) == sound(&out));
}

#[test]
fn time_codes_go_along() {
    let place = Archive::new();
    let dnxhr = "-c:v dnxhd -profile:v dnxhr_hqx -pix_fmt yuv422p10le";
    for (name, made, first, third) in [
        (
            "in.mxf",
            format!("{} -timecode 10:11:12:13 {dnxhr}", scene("256x128", 0.12, "25")),
            "10:11:12:13",
            "10:11:12:15",
        ),
        (
            "in.mov",
            format!("{} -timecode 00:00:59;28 -c:v v210", scene("96x64", 0.1, "30000/1001")),
            "00:00:59;28",
            "00:01:00;02",
        ),
    ] {
        let (source, out) = (place.ffmpeg(name, &made), place.at(&format!("{name}.mkv")));
        place.good(&[&source, &out, "--strength", "0", "--colorimetry", "bt709"]);
        let lines = place.lines(&format!("{name}.mkv.jsonl"));
        assert_eq!((&lines[1]["timecode"], &lines[3]["timecode"]), (&first.into(), &third.into()), "{name}");
        let mut probe = Command::new("ffprobe");
        probe.args(["-v", "error", "-select_streams", "v", "-show_entries", "stream_tags=timecode"]);
        let told = probe.args(["-of", "csv=p=0", &out]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), first, "{}", text(&told));
    }
}

/// A stream of MPEG-2 with `cc_data` in each picture's user data, as ATSC A/53 puts it there; and how many pictures it has.
fn with_captions(plain: &[u8], data: impl Fn(usize) -> Vec<u8>) -> (Vec<u8>, usize) {
    let (mut bytes, mut frames) = (Vec::new(), 0);
    for at in 0..plain.len() {
        // Before the first slice.
        if plain[at..].starts_with(&[0, 0, 1, 1]) {
            let data = data(frames);
            let count = 0xc0 | (data.len() / 3) as u8;
            bytes.extend([&b"\0\0\x01\xb2GA94\x03"[..], &[count, 0xff], &data, &[0xff]].concat());
            frames += 1;
        }
        bytes.push(plain[at]);
    }
    (bytes, frames)
}

#[test]
fn captions_stay_on_their_frames() {
    let place = Archive::new();
    let made = format!(
        "{} -c:v mpeg2video -g 1 -color_range tv -colorspace bt709 -color_primaries bt709 -color_trc bt709",
        scene("96x64", 0.2, "25")
    );
    let plain = std::fs::read(place.ffmpeg("plain.m2v", &made)).unwrap();
    // Two bytes of field 1, another pair in each frame.
    let (bytes, frames) = with_captions(&plain, |frame| vec![0xfc, 0x94, 0x20 + frame as u8]);
    assert_eq!(frames, 5);
    let (source, out) = (place.at("in.m2v"), place.at("out.mkv"));
    std::fs::write(&source, bytes).unwrap();
    place.good(&[&source, &out]);
    let lines = place.lines("out.mkv.jsonl");
    for (index, line) in lines[1..6].iter().enumerate() {
        assert_eq!(line["captions"], format!("cea708raw:fc94{:02x}", 0x20 + index), "{line}");
    }
}

#[test]
fn captions_of_line_21_stand_in_a_file_of_their_own() {
    let place = Archive::new();
    let made = format!(
        "{} -c:v mpeg2video -g 1 -color_range tv -colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m",
        scene("96x64", 1.2, "30000/1001")
    );
    let plain = std::fs::read(place.ffmpeg("plain.m2v", &made)).unwrap();
    let (bytes, frames) = with_captions(&plain, crate::air::captions);
    let (source, out) = (place.at("in.m2v"), place.at("out.mkv"));
    std::fs::write(&source, bytes).unwrap();
    let told = place.good(&[&source, &out, "--strength", "0"]);
    assert!(told.contains("out.mkv.scc") && frames > 30, "{told}");
    // As ffmpeg reads it.
    let mut ffmpeg = Command::new("ffmpeg");
    let read =
        ffmpeg.args(["-nostdin", "-v", "error", "-i", &place.at("out.mkv.scc"), "-f", "srt", "-"]).output();
    let read = text(&read.expect("ffmpeg is installed"));
    assert!(read.contains(crate::air::TEXT), "{read} {}", place.read("out.mkv.scc"));
}
