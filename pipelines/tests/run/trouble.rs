// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a broadcast may meet: each has one outcome.

use std::path::Path;

use crate::air::{BOTTOM_FIRST, Kind, TOP_FIRST, command, look, make, run, timecode};
use crate::onair::{Job, Playing, assert_all, assert_steady, frames_of, port, send};
use crate::rig::{make_file, text, until};

#[test]
fn a_source_that_goes_and_comes_back_leaves_no_hole() {
    let folder = tempfile::tempdir().unwrap();
    let [file, record] = ["in.ts", "record.ts"].map(|name| folder.path().join(name));
    let (kind, frames) = (Kind::h264("", 25), 50);
    make(kind, frames, (64, 48), &file);
    let (a, b) = (port(), port());
    let recorder = Playing::new(&format!("udpsrc port={b} ! filesink location={}", record.display()));
    let job =
        Job::start(folder.path(), &format!("udp://127.0.0.1:{a}"), &format!("udp://127.0.0.1:{b}"), &[]);
    let sink = format!("udpsink host=127.0.0.1 port={a}");
    let first = send(&file, &sink);
    until(&mut || first.has_ended());
    drop(first);
    until(&mut || job.told("warning", "no frame comes"));
    // The same again: its clock has jumped back.
    let second = send(&file, &sink);
    until(&mut || job.told("news", "is there again"));
    until(&mut || second.has_ended());
    let so_far = job.most("frames");
    until(&mut || job.most("frames") > so_far + 50);
    let counted = job.end();
    recorder.end();
    let (shown, seen) = frames_of(kind, frames, &record);
    let back = shown.windows(2).position(|pair| pair[1] < pair[0]).expect("it came back") + 1;
    for part in [&shown[..back], &shown[back..]] {
        assert_all(part, frames);
    }
    assert_steady(&seen, 25);
    assert!(counted["frames-filled"].as_u64() > Some(30), "{counted}");
    assert!(counted["input-reconnects"].as_u64() >= Some(1), "{counted}");
}

#[test]
fn who_is_not_there_is_waited_for_no_longer_than_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.ts");
    make(Kind::h264("", 25), 25, (64, 48), &file);
    let [a, b] = [port(), port()];
    let udp = format!("udp://127.0.0.1:{a}");
    let srt = format!("srt://127.0.0.1:{b}?mode=caller");
    let file = file.to_str().unwrap();
    for (input, output, words) in
        [(udp.as_str(), udp.as_str(), "nothing for 1 s"), (file, srt.as_str(), "nobody takes it for 1 s")]
    {
        let done = run(&[input, output, "--wait", "1"]);
        assert_eq!(done.status.code(), Some(1), "{}", text(&done));
        assert!(text(&done).contains(words), "{}", text(&done));
    }
}

#[test]
fn a_stream_that_begins_in_the_middle_begins_at_its_next_key_frame() {
    let folder = tempfile::tempdir().unwrap();
    let [file, target] = ["in.ts", "out.ts"].map(|name| folder.path().join(name));
    let kind = Kind::h264("", 25);
    make(kind, 48, (64, 48), &file);
    let whole = std::fs::read(&file).unwrap();
    // Packets of 188 bytes, from somewhere behind the first key frame.
    std::fs::write(&file, &whole[whole.len() / 188 / 4 * 188..]).unwrap();
    let done = run(&[file.to_str().unwrap(), target.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let (shown, seen) = frames_of(kind, 48, &target);
    assert_eq!((shown[0] % 12, shown.len()), (0, seen.len()), "{shown:?}");
    assert!(shown[0] > 0 && shown.windows(2).all(|pair| pair[1] == pair[0] + 1), "{shown:?}");
    assert_eq!(shown.last(), Some(&47));
}

/// Streams one after the other in a file.
fn joined(parts: &[&Path], path: &Path) {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| std::fs::read(part).unwrap()).collect();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn size_field_order_and_time_may_change_and_no_frame_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, file, target] = ["1.ts", "2.ts", "in.ts", "out.ts"].map(|name| folder.path().join(name));
    for (encoder, to) in [("h264", "h264parse"), ("mpeg2", "mpegvideoparse")] {
        let kinds = [Kind::h264(TOP_FIRST, 25), Kind::h264(BOTTOM_FIRST, 25)];
        make(kinds[0], 24, (64, 48), &one);
        make(kinds[1], 24, (96, 64), &two);
        joined(&[&one, &two], &file);
        let args = [file.to_str().unwrap(), target.to_str().unwrap(), "--encoder", encoder, "--force"];
        let done = run(&args);
        assert_eq!(done.status.code(), Some(0), "{encoder}: {}", text(&done));
        let (seen, last, sizes) = look(to, &target);
        assert_eq!(seen.len(), 48, "{encoder}: {}", text(&done));
        assert_steady(&seen, 25);
        let codes: Vec<_> = seen.iter().map(|seen| seen.code.clone().unwrap()).collect();
        let meant: Vec<_> = (0..48).map(|frame| timecode(kinds[0], frame % 24).to_string()).collect();
        assert_eq!(codes, meant, "{encoder}");
        assert_eq!(
            (last.as_str(), sizes[0], sizes[47]),
            ("bottom-field-first", (64, 48), (96, 64)),
            "{encoder}"
        );
        assert!(text(&done).contains("the picture changes"), "{}", text(&done));
    }
}

#[test]
fn what_cannot_be_is_said_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let [file, target] = ["in.ts", "out.ts"].map(|name| folder.path().join(name));
    make(Kind::h264(TOP_FIRST, 25), 12, (64, 48), &file);
    let sound = folder.path().join("sound.ts");
    make_file(&format!(
        "audiotestsrc num-buffers=20 ! avenc_mp2 ! mpegtsmux ! filesink location={}",
        sound.display()
    ));
    let noise = folder.path().join("noise.ts");
    std::fs::write(&noise, vec![7; 100_000]).unwrap();
    let (file, target_text) = (file.to_str().unwrap(), target.to_str().unwrap());
    let cases: [(&[&str], i32, &str); 8] = [
        (&["absent.ts", target_text], 1, "absent.ts"),
        (&[sound.to_str().unwrap(), target_text], 1, "no video"),
        (&[file, file], 3, "same"),
        (&[file, target_text, "--encoder", "av2"], 2, "mpeg2"),
        (&[file, target_text, "--encoder", "hevc"], 3, "no interlaced"),
        (&[file, "http://x:1"], 2, "srt://"),
        (&[noise.to_str().unwrap(), target_text], 1, "noise.ts"),
        (&[file, target_text, "--set", "colour=red"], 2, "colour"),
    ];
    for (args, exit, word) in cases {
        let done = run(args);
        assert_eq!(done.status.code(), Some(exit), "{args:?}: {}", text(&done));
        assert!(text(&done).contains(word), "{args:?}: {}", text(&done));
        assert!(!target.exists(), "{args:?}");
    }
    std::fs::write(&target, "precious").unwrap();
    assert_eq!(run(&[file, target_text]).status.code(), Some(3));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
}

/// A service whose log, standard output and standard error lie on one full disk goes on to the end, and says only there
/// that it could not print.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_its_messages_stops_no_broadcast() {
    let folder = tempfile::tempdir().unwrap();
    let [file, out] = ["in.ts", "out.ts"].map(|name| folder.path().join(name));
    let (kind, frames) = (Kind::h264("", 25), 25);
    make(kind, frames, (64, 48), &file);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let [file, out] = [&file, &out].map(|path| path.to_str().unwrap());
    let mut job = command();
    job.args([file, out, "--log", "/dev/full"]);
    let ended = job.stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(ended.code(), Some(1), "printing its result fails, and nothing else");
    let (shown, _) = frames_of(kind, frames, Path::new(out));
    assert_all(&shown, frames);
}
