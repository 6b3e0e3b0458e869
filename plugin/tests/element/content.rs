// SPDX-License-Identifier: MIT OR Apache-2.0
//! Content of every kind: fields, mixed, HDR, gaps, what lies outside of the segment.

use gst_video::VideoInterlaceMode;
use gst_video::prelude::*;

use crate::rig::{bus, bytes, count, flat, harness, mean, message, playing, pull};

fn interlaced(properties: &str, mode: VideoInterlaceMode) -> (gst_check::Harness, gst_video::VideoInfo) {
    let mut h = harness(properties);
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 64, 40)
        .fps(gst::Fraction::new(25, 1))
        .interlace_mode(mode)
        .build()
        .expect("caps");
    h.play();
    h.set_src_caps(info.to_caps().expect("caps"));
    (h, info)
}

/// How much `null:height` added to a flat frame, in steps of full range.
fn added(h: &mut gst_check::Harness, info: &gst_video::VideoInfo, frame: gst::Buffer) -> f64 {
    h.push(frame).unwrap();
    (mean(info, &pull(h)) - 100.0) * 255.0 / 219.0
}

#[test]
fn fields_are_pictures_of_half_the_height() {
    for (property, want) in [("fields", 20.0), ("frame", 40.0), ("pass-through", 0.0)] {
        let (mut h, info) =
            interlaced(&format!("model=null:height interlaced={property}"), VideoInterlaceMode::Interleaved);
        let got = added(&mut h, &info, flat(&info, 100, 0));
        assert!((got - want).abs() < 1.0, "{property}: {got}");
    }
    let (mut h, info) = interlaced("model=null:height interlaced=error", VideoInterlaceMode::Interleaved);
    let bus = bus(&h);
    assert_eq!(h.push(flat(&info, 100, 0)), Err(gst::FlowError::Error));
    message(&bus, gst::MessageType::Error);
}

#[test]
fn mixed_content_is_judged_buffer_by_buffer() {
    let (mut h, info) = interlaced("model=null:height", VideoInterlaceMode::Mixed);
    for (index, woven) in [false, true, false, true].into_iter().enumerate() {
        let mut frame = flat(&info, 100, index as u64);
        let flags = gst_video::VideoBufferFlags::INTERLACED | gst_video::VideoBufferFlags::TFF;
        if woven {
            frame.get_mut().unwrap().set_video_flags(flags);
        }
        let before = frame.video_flags();
        h.push(frame).unwrap();
        let out = pull(&mut h);
        let got = (mean(&info, &out) - 100.0) * 255.0 / 219.0;
        assert!((got - if woven { 20.0 } else { 40.0 }).abs() < 1.0, "{index}: {got}");
        assert_eq!(out.video_flags(), before);
    }
}

#[test]
fn fields_in_buffers_of_their_own_are_pictures() {
    let mut h = harness("model=null:height");
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 64, 40)
        .fps(gst::Fraction::new(25, 1))
        .interlace_mode(VideoInterlaceMode::Alternate)
        .build()
        .unwrap();
    h.play();
    h.set_src_caps(info.to_caps().unwrap());
    let frame = flat(&info, 100, 0);
    assert_eq!(frame.size(), 64 * 20 * 3 / 2);
    h.push(frame).unwrap();
    let out = bytes(&pull(&mut h));
    assert!((f64::from(out[0]) - 100.0 - 20.0 * 219.0 / 255.0).abs() < 1.0, "{}", out[0]);
}

#[test]
fn fields_in_frames_of_their_own_are_interlaced_too() {
    for (policy, restored) in [("pass-through", Some(0)), ("error", None), ("frame", Some(1))] {
        let mut h = harness(&format!("model=null:add interlaced={policy}"));
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 64, 40)
            .fps(gst::Fraction::new(25, 1))
            .interlace_mode(VideoInterlaceMode::Fields)
            .build()
            .unwrap();
        h.play();
        h.set_src_caps(info.to_caps().unwrap());
        let pushed = h.push(flat(&info, 100, 0));
        assert_eq!(pushed.is_ok(), restored.is_some(), "{policy}");
        if let Some(restored) = restored {
            pull(&mut h);
            assert_eq!(count(&h, "restored"), restored, "{policy}");
        }
    }
}

#[test]
fn hdr_passes_through_with_one_warning() {
    for (policy, restored) in [("pass-through", 0), ("process", 2)] {
        let mut h = harness(&format!("model=null:add hdr={policy}"));
        let bus = bus(&h);
        h.play();
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420_10LE")
            .field("width", 32i32)
            .field("height", 16i32)
            .field("framerate", gst::Fraction::new(25, 1))
            .field("colorimetry", "bt2100-pq")
            .build();
        h.set_src_caps(caps.clone());
        let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
        for index in 0..2 {
            h.push(flat(&info, 1, index)).unwrap();
            pull(&mut h);
        }
        assert_eq!(count(&h, "restored"), restored);
        message(&bus, gst::MessageType::Warning);
        assert!(bus.pop_filtered(&[gst::MessageType::Warning]).is_none());
    }
}

#[test]
fn what_nobody_sees_is_not_restored() {
    let (mut h, info) = playing("model=null:add");
    let mut gap = flat(&info, 100, 0);
    gap.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
    h.push(gap).unwrap();
    let out = pull(&mut h);
    assert!(out.flags().contains(gst::BufferFlags::GAP) && bytes(&out)[0] == 100);
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::SECOND);
    h.push_event(gst::event::Segment::new(&segment));
    h.push(flat(&info, 100, 1)).unwrap();
    assert_eq!(bytes(&pull(&mut h))[0], 100);
    h.push(flat(&info, 100, 25)).unwrap();
    assert_ne!(bytes(&pull(&mut h))[0], 100);
    assert_eq!((count(&h, "bypassed"), count(&h, "restored")), (2, 1));
}

#[test]
fn what_is_shown_in_passing_is_not_restored() {
    let (mut h, info) = playing("model=null:add");
    let mut unseen = flat(&info, 100, 0);
    unseen.get_mut().unwrap().set_flags(gst::BufferFlags::DECODE_ONLY);
    h.push(unseen).unwrap();
    assert_eq!(bytes(&pull(&mut h))[0], 100);
    for (flags, restored) in [
        (gst::SegmentFlags::TRICKMODE, false),
        (gst::SegmentFlags::TRICKMODE_KEY_UNITS, false),
        (gst::SegmentFlags::empty(), true),
    ] {
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_flags(flags);
        h.push_event(gst::event::Segment::new(&segment));
        h.push(flat(&info, 100, 1)).unwrap();
        assert_eq!(bytes(&pull(&mut h))[0] != 100, restored, "{flags:?}");
    }
    // Backwards is no trick.
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_rate(-1.0);
    segment.set_stop(gst::ClockTime::SECOND);
    h.push_event(gst::event::Segment::new(&segment));
    for index in (2..5).rev() {
        h.push(flat(&info, 90, index)).unwrap();
        let out = pull(&mut h);
        assert!(bytes(&out)[0] != 90 && out.pts() == Some(index * 40 * gst::ClockTime::MSECOND));
    }
}

#[test]
fn alpha_is_not_touched() {
    for (format, at) in [("BGRA", 3), ("ARGB", 0), ("AYUV", 0)] {
        let mut h = harness("model=null:add");
        let info = gst_video::VideoInfo::builder(format.parse().unwrap(), 16, 8)
            .fps(gst::Fraction::new(25, 1))
            .build()
            .unwrap();
        h.play();
        h.set_src_caps(info.to_caps().unwrap());
        h.push(flat(&info, 77, 0)).unwrap();
        let out = bytes(&pull(&mut h));
        assert!(out.chunks(4).all(|pixel| pixel[at] == 77), "{format}");
        assert!(out.iter().any(|&v| v != 77), "{format}");
    }
}
