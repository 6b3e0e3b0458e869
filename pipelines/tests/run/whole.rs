// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that end before their container does are refused, and every packet beside the video comes out.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::archive::{Archive, scene};
use crate::rig::{run, text};

/// Tags that say what colours are.
const BT709: &str = "-color_range tv -colorspace bt709 -color_primaries bt709 -color_trc bt709";

/// The first half of a file under another name, filled with zeros to its whole length if so asked for.
fn half(place: &Archive, from: &str, to: &str, zeros: bool) -> String {
    let mut bytes = fs::read(from).unwrap();
    let length = bytes.len();
    bytes.truncate(length / 2);
    bytes.resize(if zeros { length } else { length / 2 }, 0);
    fs::write(place.at(to), bytes).unwrap();
    place.at(to)
}

#[test]
fn half_a_video_is_not_taken_for_a_whole_one() {
    let place = Archive::new();
    let made = format!("{} -c:v ffv1 -g 1 {BT709}", scene("96x64", 4.0, "25"));
    let ffv1 = place.ffmpeg("in.mkv", &made);
    let made = format!("{} -c:v libx264 -g 5 -movflags +faststart {BT709}", scene("96x64", 4.0, "25"));
    let h264 = place.ffmpeg("in.mp4", &made);
    let (out, cut) = (place.at("out.mkv"), ["half.mkv", "half.mp4"]);
    for (from, to) in [(&ffv1, cut[0]), (&h264, cut[1])] {
        let source = half(&place, from, to, false);
        let there = format!("{} are there", fs::metadata(&source).unwrap().len());
        place.bad(3, &[&source, &out, "--strength", "0"], &there);
        let told = run(&[&source, &out, "--strength", "0"]);
        assert_eq!(told.status.code(), Some(3), "{}", text(&told));
        assert!(text(&told).contains("it is cut off") && text(&told).contains(&there), "{}", text(&told));
    }
    let zeros = half(&place, &ffv1, "zeros.mkv", true);
    place.bad(3, &[&zeros, &out, "--strength", "0"], "the container declares 0:00:04");
    assert!(!Path::new(&out).exists() && !Path::new(&format!("{out}.job")).exists());
    // Who knows that it is half, says so.
    let said = place.good(&[&place.at(cut[0]), &out, "--strength", "0", "--set", "strict=false"]);
    assert!(said.contains("warning") && said.contains("is cut off"), "{said}");
    let told = run(&[&place.at(cut[1]), &place.at("some.mp4"), "--strength", "0", "--set", "strict=false"]);
    assert!(told.status.success() && text(&told).contains("warning"), "{}", text(&told));
}

#[test]
fn whole_videos_are_taken_for_whole_ones() {
    let place = Archive::new();
    let small = scene("96x64", 0.4, "25");
    for (name, made) in [
        // Sound that goes on after the pictures, and pictures after the sound.
        ("longer.mkv", format!("{small} -f lavfi -i sine=d=3 -c:v ffv1 -c:a flac {BT709}")),
        (
            "shorter.mov",
            format!("{} -f lavfi -i sine=d=1 -c:v mpeg4 -c:a aac {BT709}", scene("96x64", 3.0, "25")),
        ),
        ("slow.mkv", format!("{} -c:v ffv1 {BT709}", scene("96x64", 4.0, "1"))),
        ("parts.mp4", format!("{small} -c:v libx264 -movflags frag_keyframe+empty_moov {BT709}")),
        ("in.avi", format!("{small} -c:v ffv1")),
        ("live.mkv", format!("{small} -c:v ffv1 -live 1 {BT709}")),
    ] {
        let (source, out) = (place.ffmpeg(name, &made), place.at(&format!("{name}.out.mkv")));
        place.good(&[&source, &out, "--strength", "0", "--colorimetry", "bt709"]);
    }
}

#[test]
fn what_holds_no_picture_is_told_so() {
    let place = Archive::new();
    let sound = place.ffmpeg("sound.mkv", "-f lavfi -i sine=d=0.2 -c:a flac");
    fs::write(place.at("empty.mkv"), "").unwrap();
    for source in [sound, place.at("empty.mkv")] {
        place.bad(1, &[&source, &place.at("out.mkv")], "it holds no video");
    }
}

/// Lengths of all packets of sound.
fn packets(file: &str) -> Vec<String> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "a"]);
    let done = command.args(["-show_entries", "packet=size", "-of", "csv=p=0", file]).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines().map(|line| line.trim_end_matches(',').to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn every_packet_of_the_presentation_is_copied() {
    let place = Archive::new();
    let source = place.ffmpeg("in.mkv", &with_sound());
    let all = packets(&source);
    for ending in ["mkv", "mp4", "mov"] {
        let out = place.at(&format!("out.{ending}"));
        let told = run(&[&source, &out, "--strength", "0"]);
        assert!(told.status.success(), "{}", text(&told));
        assert_eq!(packets(&out), all, "{ending}");
    }
}

/// Pictures and sound, which begins with a packet that primes the decoder.
fn with_sound() -> String {
    let sound = "-f lavfi -i sine=d=0.4 -c:v libx264 -g 5 -c:a aac";
    format!("{} {sound} {BT709}", scene("96x64", 0.4, "25"))
}

#[test]
fn packets_that_an_edit_list_leaves_out_are_counted() {
    let place = Archive::new();
    // The first packet of MP4 lies before what its edit list plays, and the demuxer gives neither it nor the last.
    let source = place.ffmpeg("in.mp4", &with_sound());
    let out = place.at("mp4.mkv");
    let told = run(&[&source, &out, "--strength", "0"]);
    let left_out = packets(&source).len() - packets(&out).len();
    assert!(told.status.success() && left_out > 0, "{}", text(&told));
    let note = format!("{left_out} packets of sound");
    assert!(text(&told).contains(&note), "{}", text(&told));
    assert!(place.good(&[&source, &place.at("proved.mkv"), "--strength", "0"]).contains(&note));
}

#[test]
fn a_packet_that_begins_a_moment_too_early_is_kept() {
    let place = Archive::new();
    // The first packet of the transport stream primes the decoder before the presentation begins; the second begins
    // some microseconds before it.
    let source = place.ffmpeg("in.ts", &with_sound());
    let out = place.at("ts.mkv");
    let told = run(&[&source, &out, "--strength", "0"]);
    assert!(told.status.success(), "{}", text(&told));
    assert_eq!(packets(&out).len(), packets(&source).len() - 1);
}

/// The texts of a file's subtitles.
fn subtitles(file: &str, format: &str) -> String {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-i", file, "-map", "0:s", "-c", "copy", "-f", format, "-"]);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{file}: {}", text(&done));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn subtitles_of_matroska_stay_as_they_are() {
    let place = Archive::new();
    fs::write(
        place.at("in.srt"),
        "1\n00:00:00,100 --> 00:00:00,200\nTom & \"Jerry\" <3\n\n2\n00:00:00,250 --> 00:00:00,350\n<i>leaning</i> R&D\n\n",
    )
    .unwrap();
    let made = |codec: &str| {
        let small = scene("96x64", 0.4, "25");
        format!("{small} -i {} -map 0 -map 1 -c:v ffv1 -c:s {codec} {BT709}", place.at("in.srt"))
    };
    for (codec, format) in [("srt", "srt"), ("ass", "ass")] {
        let source = place.ffmpeg(&format!("{codec}.mkv"), &made(codec));
        let expected = subtitles(&source, format);
        assert!(expected.contains("Jerry"), "{expected}");
        let [one, two] = ["compressed", "archive"].map(|job| place.at(&format!("{codec}.{job}.mkv")));
        let told = run(&[&source, &one, "--strength", "0"]);
        assert!(told.status.success(), "{codec}: {}", text(&told));
        place.good(&[&source, &two, "--strength", "0"]);
        for out in [&one, &two] {
            assert_eq!(subtitles(out, format), expected, "{out}");
        }
    }
    // WebVTT has no name that the demuxer knows.
    let source = place.ffmpeg("webvtt.mkv", &made("webvtt"));
    let out = place.at("out.mkv");
    for strict in ["strict=true", "strict=false"] {
        place.bad(3, &[&source, &out, "--set", strict], "Matroska cannot hold the stream");
    }
    let told = run(&[&source, &out, "--strength", "0"]);
    assert!(!told.status.success() && text(&told).contains("take it out of the file"), "{}", text(&told));
    assert!(!Path::new(&out).exists() && !Path::new(&format!("{out}.job")).exists());
}

#[test]
fn a_removed_chunk_is_missing() {
    let place = Archive::new();
    let source = place.ffmpeg("in.mkv", &format!("{} -c:v ffv1", scene("64x48", 0.24, "25")));
    let (job, out) = (place.at("job"), place.at("out.mkv"));
    let fleet = |args: &[&str]| {
        let done = crate::rig::bare().arg("fleet").args(args).output().unwrap();
        (done.status.code(), text(&done))
    };
    for args in [&["plan", &source, &job, "--chunk", "3", "--set", "strength=0"][..], &["work", &job]] {
        let (code, told) = fleet(args);
        assert_eq!(code, Some(0), "{told}");
    }
    fs::remove_file(format!("{job}/chunks/000001.mkv")).unwrap();
    let (code, told) = fleet(&["join", &job, &out]);
    assert!(code == Some(1) && told.contains("1 of 2 chunks are missing: 1"), "{told}");
    assert_eq!(fleet(&["status", &job, "--missing"]), (Some(0), "1\n".into()));
    let (_, told) = fleet(&["work", &job]);
    assert!(told.contains("chunk 1: "), "{told}");
    assert_eq!(fleet(&["join", &job, &out]).0, Some(0));
}
