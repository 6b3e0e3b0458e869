// SPDX-License-Identifier: MIT OR Apache-2.0
//! What rides on frames of a broadcast is on the same frames after it, whatever the codecs and the scan.

use crate::air::{
    BOTTOM_FIRST, CAPTION, Kind, Seen, TEXT, TOP_FIRST, captions, format, look, make, read_608, run, timecode,
};
use crate::rig::{streams, text};

const SMALL: (u32, u32) = (96, 64);
const FULL: (u32, u32) = (1920, 1080);

fn carried(from: Kind, to: Kind, encoder: &str, scan: &str) {
    carried_at(SMALL, 36, from, to, encoder, scan);
}

fn carried_at(size: (u32, u32), frames: usize, from: Kind, to: Kind, encoder: &str, scan: &str) {
    let folder = tempfile::tempdir().unwrap();
    let [source, target] = ["in.ts", "out.ts"].map(|name| folder.path().join(name));
    make(from, frames, size, &source);
    let done = run(&[source.to_str().unwrap(), target.to_str().unwrap(), "--encoder", encoder]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(text(&done).contains(&format!("{frames} restored of {frames}")), "{}", text(&done));
    let (before, _, _) = look(from.parser, &source);
    let (after, shown, sizes) = look(to.parser, &target);
    assert_eq!((before.len(), after.len()), (frames, frames));
    assert!(sizes.iter().all(|&(w, h)| (w, h) == (size.0 as i32, size.1 as i32)), "{sizes:?}");
    assert_eq!(shown, scan);
    for (frame, (before, after)) in before.iter().zip(&after).enumerate() {
        // What the source carries is what was meant, and it is what comes out.
        assert_eq!(before.captions, captions(frame), "{frame}");
        assert_eq!(before.format, Some(format(frame)), "{frame}");
        assert_eq!(before.code, Some(timecode(from, frame).to_string()), "{frame}");
        assert_eq!(before.captions, after.captions, "{frame}");
        assert_eq!(before.format, after.format, "{frame}");
        assert_eq!(before.code, after.code, "{frame}");
    }
    // Times are those of 90 kHz: a frame's place among the others is kept to a tick.
    let places = |all: &[Seen]| all.iter().map(|seen| (seen.pts - all[0].pts).nseconds()).collect::<Vec<_>>();
    for (a, b) in places(&before).into_iter().zip(places(&after)) {
        assert!(a.abs_diff(b) < 50_000, "{a} {b}");
    }
    let read = read_608(&after.iter().map(|seen| seen.captions.clone()).collect::<Vec<_>>());
    assert_eq!(read, vec![TEXT; frames / CAPTION]);
    // Sound has its bits.
    let (sound, copied) = (streams(&source).1, streams(&target).1);
    assert!(!sound.is_empty() && sound == copied, "{} {}", sound.len(), copied.len());
}

#[test]
fn h264_1080i25_top_first_stays_what_it_is() {
    let kind = Kind::h264(TOP_FIRST, 25);
    carried(kind, kind, "h264", "top-field-first");
}

#[test]
fn h264_bottom_first_becomes_mpeg2() {
    carried(Kind::h264(BOTTOM_FIRST, 25), Kind::mpeg2(BOTTOM_FIRST, 25), "mpeg2", "bottom-field-first");
}

#[test]
fn mpeg2_bottom_first_becomes_h264() {
    carried(Kind::mpeg2(BOTTOM_FIRST, 25), Kind::h264(BOTTOM_FIRST, 25), "h264", "bottom-field-first");
}

#[test]
fn mpeg2_top_first_stays_what_it_is() {
    let kind = Kind::mpeg2(TOP_FIRST, 25);
    carried(kind, kind, "mpeg2", "top-field-first");
}

#[test]
fn hevc_of_50_frames_becomes_h264() {
    carried(Kind::hevc(50), Kind::h264("", 50), "h264", "progressive");
}

#[test]
fn h264_of_50_frames_becomes_hevc() {
    carried(Kind::h264("", 50), Kind::hevc(50), "hevc", "progressive");
}

#[test]
fn a_whole_1080i25_keeps_them_in_h264_and_mpeg2() {
    carried_at(FULL, 16, Kind::h264(TOP_FIRST, 25), Kind::mpeg2(TOP_FIRST, 25), "mpeg2", "top-field-first");
    carried_at(FULL, 16, Kind::mpeg2(TOP_FIRST, 25), Kind::h264(TOP_FIRST, 25), "h264", "top-field-first");
}

#[test]
fn a_whole_1080p50_keeps_them_in_h264_and_hevc() {
    carried_at(FULL, 16, Kind::hevc(50), Kind::h264("", 50), "h264", "progressive");
    carried_at(FULL, 16, Kind::h264("", 50), Kind::hevc(50), "hevc", "progressive");
}
