// SPDX-License-Identifier: MIT OR Apache-2.0
//! `strict` refuses rather than guesses, and says what.

use gst::prelude::*;

use crate::rig::{buffer, bus, harness, message, playing, pull};

const HD: &str = "video/x-raw,format=I420,width=64,height=48,framerate=25/1";

/// Plays a frame of each caps; the refused field and the whole text, if any.
fn refused(strict: bool, all: &[&str], flags: &[gst::BufferFlags]) -> Option<(String, String)> {
    let mut h = harness(&format!("model=null:identity strict={strict}"));
    let bus = bus(&h);
    h.play();
    for (index, caps) in all.iter().enumerate() {
        let caps: gst::Caps = caps.parse().unwrap();
        h.set_src_caps(caps.clone());
        let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
        let mut frame = buffer(&info, index as u64);
        frame.get_mut().unwrap().set_flags(flags.get(index).copied().unwrap_or(gst::BufferFlags::empty()));
        if h.push(frame).is_err() {
            let message = message(&bus, gst::MessageType::Error);
            let gst::MessageView::Error(error) = message.view() else { unreachable!() };
            let details = error.details().expect("details").to_owned();
            assert_eq!(details.name(), "i2sb-refused");
            return Some((details.get("field").unwrap(), error.error().to_string()));
        }
        pull(&mut h);
    }
    None
}

#[test]
fn what_could_only_be_guessed_is_refused_by_name() {
    let known = format!("{HD},colorimetry=bt709,interlace-mode=progressive");
    let fields = format!("{HD},colorimetry=bt601,interlace-mode=interleaved");
    let wide = known.replace("width=64", "width=80");
    let cases: [(&[&str], &str); 7] = [
        (&[HD], "colorimetry"),
        // A range and no matrix; a matrix and no range.
        (&[&format!("{HD},colorimetry=2:0:0:0")], "colorimetry"),
        (&[&format!("{HD},colorimetry=0:4:0:0")], "colorimetry"),
        (&[&format!("{HD},colorimetry=1:1:5:1")], "colorimetry"),
        (&[&format!("{HD},colorimetry=bt709,interlace-mode=mixed")], "interlace-mode"),
        (&[&known, &wide], "width"),
        (&[&known, &known.replace("bt709", "bt601")], "colorimetry"),
    ];
    for (caps, field) in cases {
        let (found, text) = refused(true, caps, &[]).unwrap_or_else(|| panic!("{caps:?} is not refused"));
        assert_eq!(found, field, "{caps:?}");
        assert!(text.contains(field) && text.contains("strict=false"), "{text}");
        assert_eq!(refused(false, caps, &[]), None, "{caps:?}");
    }
    for good in [&known[..], &fields, "video/x-raw,format=RGB,width=8,height=8,framerate=25/1"] {
        assert_eq!(refused(true, &[good, good], &[]), None, "{good}");
    }
    let corrupted = [gst::BufferFlags::empty(), gst::BufferFlags::CORRUPTED];
    let (field, text) = refused(true, &[&known, &known], &corrupted).unwrap();
    assert!(field == "a frame" && text.contains("damaged") && text.contains("frame 1"), "{text}");
    // The flag of the top field, as video buffers have it.
    let top = gst::BufferFlags::from_bits_retain(gst_video::VideoBufferFlags::TFF.bits());
    assert_eq!(refused(true, &[&fields, &fields], &[top, top]), None);
    assert_eq!(refused(true, &[&fields, &fields], &[top]).unwrap().0, "field-order");
}

#[test]
fn these_properties_count_at_the_next_start() {
    let (h, _) = playing("model=null:identity");
    let element = h.element().unwrap();
    let bus = bus(&h);
    element.set_property("strict", true);
    message(&bus, gst::MessageType::Warning);
    assert!(!element.property::<bool>("strict"));
}
