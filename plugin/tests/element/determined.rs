// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same frame gives the same bits: whole, from a seek, in parts, twice.

use crate::rig::{bytes, flat, harness, i420, noise, pull};

/// Plays these frames, by number, from a segment that starts at the first; each third one is equal to
/// the one before it, so that results are used again.
fn play(properties: &str, numbers: &[u64]) -> Vec<Vec<u8>> {
    let mut h = harness(properties);
    let info = i420(96, 80);
    h.play();
    h.set_src_caps(info.to_caps().unwrap());
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(numbers[0] * 40 * gst::ClockTime::MSECOND);
    segment.set_time(numbers[0] * 40 * gst::ClockTime::MSECOND);
    h.push_event(gst::event::Segment::new(&segment));
    let mut out = Vec::new();
    for &number in numbers {
        let mut frame = flat(&info, 0, number);
        let content = noise(info.size(), number - u64::from(number % 3 == 2));
        // A little noise on grey: what networks make of it stays within the range.
        let raw = frame.get_mut().unwrap();
        let mut map = raw.map_writable().unwrap();
        map.iter_mut().zip(&content).for_each(|(to, from)| *to = 96 + from % 64);
        drop(map);
        h.push(frame).unwrap();
        out.push(bytes(&pull(&mut h)));
    }
    out
}

/// A mask whose left half is a hole: what fills it begins as noise.
fn hole() -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    let plane: Vec<f32> = (0..96 * 80).map(|i| if i % 96 < 48 { 1.0 } else { -1.0 }).collect();
    let picture = i2sb::picture::Picture::new(96, 80, plane.repeat(3)).unwrap();
    picture.save(file.path(), i2sb::picture::SaveOptions::default()).unwrap();
    file
}

#[test]
fn whole_from_a_seek_in_parts_and_twice_are_one() {
    let mask = hole();
    for noise in ["still", "frame"] {
        let properties = format!("device=cpu noise={noise} inpaint-mask={}", mask.path().display());
        let whole = play(&properties, &[0, 1, 2, 3, 4, 5]);
        assert!(play(&properties, &[0, 1, 2, 3, 4, 5]) == whole, "{noise}: twice");
        assert!(play(&properties, &[4, 5]) == whole[4..], "{noise}: from a seek");
        let parts = [play(&properties, &[0, 1]), play(&properties, &[2, 3]), play(&properties, &[4, 5])];
        assert!(parts.concat() == whole, "{noise}: in parts");
        // Cuts in other places: nothing of a frame is in the next one.
        let shuffled = play(&properties, &[0, 5, 4]);
        assert!(shuffled[0] == whole[0] && shuffled[1] == whole[5] && shuffled[2] == whole[4], "{noise}");
        // Frames 1 and 2 are equal: so are their results, unless the noise goes by the frame.
        assert_eq!(whole[1] == whole[2], noise == "still", "{noise}");
        let other = play(&format!("{properties} seed=7"), &[0]);
        assert!(other[0] != whole[0], "{noise}: the seed counts");
    }
}
