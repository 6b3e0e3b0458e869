// SPDX-License-Identifier: MIT OR Apache-2.0
//! The job `archive`: bad input, full disks and two at once; each ends in one way, and nothing half is left.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::archive::{Archive, scene};
use crate::rig::{HERE, text, until};

/// That a run left nothing beside the input.
fn nothing(place: &Archive, out: &str) {
    let names: Vec<_> =
        fs::read_dir(place.0.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let left = names.iter().filter(|name| name.to_string_lossy().starts_with(out)).collect::<Vec<_>>();
    assert!(left.is_empty(), "{left:?}");
}

/// Tags that say what colours are.
const BT709: &str = "-color_range tv -colorspace bt709 -color_primaries bt709 -color_trc bt709";

#[test]
fn what_could_only_be_guessed_is_refused() {
    let place = Archive::new();
    let small = scene("96x64", 0.2, "25");
    let fields = |name: &str, top: u8| {
        place.ffmpeg(name, &format!("{small} -c:v mpeg2video -g 1 -flags +ildct+ilme -top {top} {BT709}"))
    };
    let concat = |name: &str, parts: &[&str]| {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| fs::read(part).unwrap()).collect();
        fs::write(place.at(name), bytes).unwrap();
        place.at(name)
    };
    let (top, bottom) = (fields("top.m2v", 1), fields("bottom.m2v", 0));
    let wide =
        place.ffmpeg("wide.m2v", &format!("{} -c:v mpeg2video -g 1 {BT709}", scene("112x64", 0.2, "25")));
    let plain = place.ffmpeg("plain.m2v", &format!("{small} -c:v mpeg2video -g 1 {BT709}"));
    let long = place.ffmpeg("long.ts", &format!("{} -c:v libx264 -g 12 {BT709}", scene("96x64", 1.2, "25")));
    let mut inside = fs::read(&long).unwrap();
    inside.drain(..188 * (inside.len() / 188 / 4));
    fs::write(place.at("inside.ts"), inside).unwrap();
    let cases = [
        (concat("order.m2v", &[&top, &bottom]), "frame 5 is interlaced, bottom field first"),
        (concat("scan.m2v", &[&top, &plain]), "frame 5"),
        (concat("size.m2v", &[&plain, &wide]), "frame 5: the video changes from"),
        (place.at("inside.ts"), "starts without a key frame"),
        (
            place.ffmpeg(
                "jump.mkv",
                &format!(
                    "{} -vf select='not(between(n,3,6))' -fps_mode vfr -c:v ffv1 {BT709}",
                    scene("96x64", 0.5, "25")
                ),
            ),
            "frame 3 is due at 0:00:00.120000000 and comes at 0:00:00.280000000",
        ),
        (place.ffmpeg("unknown.mkv", &format!("{small} -c:v ffv1")), "--colorimetry bt601"),
        (
            place.ffmpeg(
                "curtailed.mov",
                &format!("{small} -c:v prores_ks -profile:v 4 -pix_fmt yuv444p10le {BT709}"),
            ),
            "12 bits",
        ),
        (
            place.ffmpeg(
                "captions.mov",
                &format!(
                    "{small} -f lavfi -i sine=d=0.2 -c:v prores_ks {BT709} -c:a ac3 -metadata:s:a:0 x=y"
                ),
            ),
            "",
        ),
    ];
    for (source, word) in cases.iter().filter(|(_, word)| !word.is_empty()) {
        place.bad(3, &[source, &place.at("out.mkv")], word);
        nothing(&place, "out.mkv");
    }
    // Sound beside pictures has no place.
    let sound = "-f lavfi -i sine=d=0.2 -c:v ffv1 -pix_fmt gray16le -color_range pc -c:a pcm_s16le";
    let sound = place.ffmpeg("sound.mkv", &format!("{small} {sound}"));
    place.bad(3, &[&sound, &place.at("out")], "a sequence of pictures cannot hold the stream");
    // With less strictness, the same are restored as they are.
    place.good(&[&cases[0].0, &place.at("out.mkv"), "--set", "strict=false"]);
}

#[test]
fn a_damaged_frame_is_named() {
    let place = Archive::new();
    let made = format!("{} -c:v ffv1 -level 3 -slicecrc 1 -slices 4 {BT709}", scene("160x120", 0.4, "25"));
    let source = place.ffmpeg("in.mkv", &made);
    let mut bytes = fs::read(&source).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&source, bytes).unwrap();
    // What ffmpeg's own check says: the number of the frame whose checksum is wrong.
    let packets = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "packet=pos,size", "-of", "csv=p=0", &source])
        .output()
        .unwrap();
    let packets = String::from_utf8(packets.stdout).unwrap();
    let hit = packets.lines().position(|line| {
        let numbers: Vec<usize> = line.split(',').filter_map(|word| word.parse().ok()).collect();
        let (size, at) = (numbers[0], numbers[1]);
        (at..at + size).contains(&middle)
    });
    let word = format!("frame {} is damaged", hit.expect("a packet in the middle"));
    place.bad(3, &[&source, &place.at("out.mkv")], &word);
    nothing(&place, "out.mkv");
}

#[test]
fn sequences_with_something_wrong_are_refused() {
    let place = Archive::new();
    let scene = scene("32x24", 0.25, "24");
    let fresh = |name: &str| {
        fs::create_dir(place.at(name)).unwrap();
        place.ffmpeg(&format!("{name}/a_%03d.png"), &format!("{scene} -pix_fmt rgb24"));
        place.at(name)
    };
    let bad = |input: &str, code: i32, word: &str| {
        place.bad(code, &[input, &place.at("out"), "--framerate", "24"], word);
        nothing(&place, "out");
    };
    let missing = fresh("missing");
    fs::remove_file(place.at("missing/a_003.png")).unwrap();
    bad(&missing, 3, "number 3 is missing");
    let deep = fresh("deep");
    place.ffmpeg("deep/a_004.png", &format!("{scene} -frames:v 1 -pix_fmt rgb48be"));
    bad(&deep, 3, "frame 3: the video changes from");
    let animated = fresh("animated");
    let picture = Path::new(HERE).join("../tests/fixtures/pictures/animated.png");
    fs::copy(picture, place.at("animated/a_002.png")).unwrap();
    bad(&animated, 1, "it is animated");
    let cmyk = fresh("cmyk");
    let mut file = fs::File::create(place.at("cmyk/a_002.png")).unwrap();
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut file).unwrap();
    encoder.write_image::<tiff::encoder::colortype::CMYK8>(32, 24, &[0; 32 * 24 * 4]).unwrap();
    bad(&cmyk, 1, "CMYK");
    let cut = fresh("cut");
    let bytes = fs::read(place.at("cut/a_005.png")).unwrap();
    fs::write(place.at("cut/a_005.png"), &bytes[..bytes.len() / 2]).unwrap();
    bad(&cut, 1, "a_005.png");
    let whole = fresh("whole");
    place.bad(2, &[&whole, &place.at("out")], "--framerate");
    place.bad(2, &[&whole, &place.at("out"), "--framerate", "0"], "--framerate 0");
    place.bad(2, &[&whole, &place.at("out.mp4"), "--framerate", "24"], "mkv");
    place.bad(2, &[&whole, &place.at("out"), "--framerate", "24", "--compare", "split"], "--compare");
    place.bad(
        2,
        &[&whole, &place.at("out"), "--framerate", "24", "--colorimetry", "red"],
        "--colorimetry red",
    );
    place.bad(1, &[&place.at("absent.mkv"), &place.at("out.mkv")], "absent.mkv");
    // Video of YUV does not become pictures of RGB by guessing.
    let yuv = place.ffmpeg("yuv.mkv", &format!("{scene} -c:v ffv1 -pix_fmt yuv420p {BT709}"));
    place.bad(3, &[&yuv, &place.at("out")], "pictures cannot hold I420");
}

#[test]
fn a_full_disk_stops_it_and_it_goes_on_when_there_is_room() {
    let place = Archive::new();
    let source = place.ffmpeg("in.mkv", &format!("{} -c:v ffv1 {BT709}", scene("96x64", 0.4, "25")));
    let out = place.at("out.mkv");
    let job = place.job(&[&source, &out]);
    // Files may have 16 kB and no more: what a full disk is to a program.
    let words: Vec<String> =
        job.get_args().skip(2).map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let shell = format!("trap '' XFSZ; ulimit -f 16; exec {}", words[1..].join(" "));
    let full = Command::new("bash").args(["-c", &shell]).envs(envs(&job)).output().unwrap();
    assert_eq!(full.status.code(), Some(1), "{}", text(&full));
    assert!(text(&full).contains("the same command goes on"), "{}", text(&full));
    assert!(!Path::new(&out).exists() && Path::new(&format!("{out}.job/plan.json")).exists());
    place.good(&[&source, &out]);
    assert!(!Path::new(&format!("{out}.job")).exists());
}

fn envs(command: &Command) -> Vec<(String, String)> {
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect()
}

#[test]
fn nothing_is_written_over_and_one_runs_at_a_time() {
    let place = Archive::new();
    let source = place.ffmpeg("in.mkv", &format!("{} -c:v ffv1 {BT709}", scene("96x64", 0.4, "25")));
    let out = place.at("out.mkv");
    let mut slow = place.job(&[&source, &out, "--steps", "200"]).spawn().unwrap();
    until(&mut || Path::new(&format!("{out}.job/chunks/000000.lock")).exists());
    place.bad(3, &[&source, &out], "another run is writing");
    slow.kill().unwrap();
    slow.wait().unwrap();
    // `timeout` was killed; the program below it ends when its lock is free.
    until(&mut || !text(&place.run(&[&source, &out, "--steps", "200", "--strength", "2"])).is_empty());
    let other = place.run(&[&source, &out]);
    let told = text(&other);
    assert!(other.status.code() == Some(3), "{told}");
    for name in ["out2.mkv", "out2.mkv.jsonl", "out2.mkv.out.framemd5"] {
        fs::write(place.at(name), "mine").unwrap();
        place.bad(3, &[&source, &place.at("out2.mkv")], "--force");
        assert_eq!(place.read(name), "mine");
        fs::remove_file(place.at(name)).unwrap();
    }
    place.bad(3, &[&source, &source, "--force"], "IN and OUT are the same");
    fs::write(place.at("out2.mkv"), "mine").unwrap();
    place.good(&[&source, &place.at("out2.mkv"), "--force"]);
    assert!(fs::metadata(place.at("out2.mkv")).unwrap().len() > 1000);
}
