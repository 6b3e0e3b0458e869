// SPDX-License-Identifier: MIT OR Apache-2.0
//! What rides on a frame stays on its frame.

use gst_video::video_meta::{
    VideoAFDMeta, VideoBarMeta, VideoCaptionMeta, VideoCropMeta, VideoRegionOfInterestMeta,
};

use crate::rig::{buffer, bytes, playing, pull};

#[test]
fn captions_crops_bars_regions_timecodes_and_flags_stay_on_their_frame() {
    let (mut h, info) = playing("model=null:add max-in-flight=8 batch-size=3");
    for index in 0..5u64 {
        let mut frame = buffer(&info, index);
        let raw = frame.get_mut().unwrap();
        raw.set_offset(index * 10);
        raw.set_dts(index * 40 * gst::ClockTime::MSECOND);
        if index == 2 {
            raw.set_flags(gst::BufferFlags::CORRUPTED | gst::BufferFlags::MARKER);
        }
        VideoCaptionMeta::add(raw, gst_video::VideoCaptionType::Cea708Raw, &[index as u8; 6]);
        VideoRegionOfInterestMeta::add(raw, "face", (index as u32, 2, 8, 8));
        VideoCropMeta::add(raw, (0, 0, 32, index as u32 + 1));
        let afd = gst_video::VideoAFDValue::_169TopAligned;
        VideoAFDMeta::add(raw, (index % 2) as u8, gst_video::VideoAFDSpec::AtscA53, afd);
        VideoBarMeta::add(raw, (index % 2) as u8, true, 3, index as u32);
        let flags = gst_video::VideoTimeCodeFlags::empty();
        let code =
            gst_video::VideoTimeCode::new(gst::Fraction::new(25, 1), None, flags, 1, 2, 3, index as u32, 0);
        let code: gst_video::ValidVideoTimeCode = code.try_into().unwrap();
        gst_video::VideoTimeCodeMeta::add(raw, &code);
        let reference = gst::Caps::new_empty_simple("timestamp/x-unix");
        gst::ReferenceTimestampMeta::add(
            raw,
            &reference,
            index * gst::ClockTime::SECOND,
            gst::ClockTime::NONE,
        );
        h.push(frame).unwrap();
    }
    h.push_event(gst::event::Eos::new());
    for index in 0..5u64 {
        let out = pull(&mut h);
        assert_eq!(out.pts(), Some(index * 40 * gst::ClockTime::MSECOND));
        assert_eq!((out.dts(), out.offset()), (out.pts(), index * 10));
        assert_eq!(out.duration(), Some(40 * gst::ClockTime::MSECOND));
        let marked = gst::BufferFlags::CORRUPTED | gst::BufferFlags::MARKER;
        assert_eq!(out.flags().contains(marked), index == 2);
        assert_eq!(out.meta::<VideoCaptionMeta>().unwrap().data(), &[index as u8; 6]);
        assert_eq!(out.meta::<VideoRegionOfInterestMeta>().unwrap().rect().0, index as u32);
        assert_eq!(out.meta::<VideoCropMeta>().unwrap().rect().3, index as u32 + 1);
        assert_eq!(out.meta::<VideoAFDMeta>().unwrap().field(), (index % 2) as u8);
        assert_eq!(out.meta::<VideoBarMeta>().unwrap().bar_data2(), index as u32);
        assert_eq!(out.meta::<gst_video::VideoTimeCodeMeta>().unwrap().tc().frames(), index as u32);
        assert_eq!(
            out.meta::<gst::ReferenceTimestampMeta>().unwrap().timestamp(),
            index * gst::ClockTime::SECOND
        );
    }
}

#[test]
fn a_buffer_that_somebody_holds_is_not_written_to() {
    let (mut h, info) = playing("model=null:add");
    let frame = buffer(&info, 1);
    let (held, input) = (frame.clone(), bytes(&frame));
    h.push(frame).unwrap();
    assert!(bytes(&pull(&mut h)) != input);
    assert!(bytes(&held) == input);
}
