// SPDX-License-Identifier: MIT OR Apache-2.0
//! Engines that take frames in their own format: the same bits as with decoded pictures, and whatever needs those gets
//! them.

use gst::prelude::*;
use i2sb::pixel::{PixelFormat, Raw};

use crate::formats::{MODES, SIZES, info};
use crate::rig::{
    buffer, bus, bytes, count, flat, harness, i420, known_formats, mean, message, padded, playing, pull,
};

/// Frames of every format, size and kind of stride through an element; what came out, and how many crossed as they were.
fn through(properties: &str, mode: gst_video::VideoInterlaceMode) -> (Vec<Vec<u8>>, u64) {
    let mut h = harness(properties);
    h.play();
    // Frames that come before the engine is there are decoded.
    h.set_src_caps(i420(16, 16).to_caps().unwrap());
    h.push(flat(&i420(16, 16), 50, 0)).unwrap();
    pull(&mut h);
    let mut out = Vec::new();
    let mut seed = 1;
    for format in known_formats() {
        for (width, height) in SIZES {
            let info = info(format.name, width, height, mode);
            h.set_src_caps(info.to_caps().unwrap());
            for make in [buffer, padded] {
                h.push(make(&info, seed)).unwrap();
                seed += 1;
            }
        }
        while let Some(frame) = h.try_pull() {
            out.push(bytes(&frame));
        }
    }
    h.push_event(gst::event::Eos::new());
    while (out.len() as u64) < seed - 1 {
        out.push(bytes(&pull(&mut h)));
    }
    (out, count(&h, "recomputed"))
}

#[test]
fn frames_in_their_own_format_have_the_bits_of_decoded_ones() {
    for mode in MODES {
        let (want, none) = through("model=null:add strength=0.7", mode);
        let (got, raw) = through("model=null:raw:add strength=0.7", mode);
        assert_eq!(none, 0);
        assert!(got == want, "{mode:?}");
        // Two pictures to a frame of two fields, but for frames of one row of luma or chroma; a few of one pixel are by
        // chance as the one before.
        let taken = known_formats().filter(|format| Raw::takes(format)).count() as u64;
        let frames = 2 * SIZES.len() as u64 * taken;
        assert!(
            taken > 90 && (frames * 99 / 100..=2 * frames).contains(&raw),
            "{mode:?}: {raw} of {frames} frames"
        );
    }
}

/// What needs decoded pictures: comparing, protecting, and formats that are streams of bits.
#[test]
fn what_needs_decoded_pictures_gets_them() {
    assert!(!Raw::takes(PixelFormat::named("v210").unwrap()));
    let info = info("v210", 64, 48, gst_video::VideoInterlaceMode::Progressive);
    for (properties, caps) in [("compare=split", None), ("", Some(&info))] {
        let results = ["null:add", "null:raw:add"].map(|model| {
            let (mut h, i420) = playing(&format!("model={model} {properties}"));
            let info = caps.unwrap_or(&i420);
            h.set_src_caps(info.to_caps().unwrap());
            h.push(buffer(info, 3)).unwrap();
            let out = bytes(&pull(&mut h));
            assert_eq!(count(&h, "recomputed"), 0, "{model} {properties}");
            out
        });
        assert!(results[0] == results[1], "{properties}");
    }
    let (mut h, info) = playing("model=null:raw:add");
    let mut frame = flat(&info, 100, 0);
    let area = (8, 8, 16, 16);
    gst_video::video_meta::VideoRegionOfInterestMeta::add(frame.get_mut().unwrap(), "i2sb-protect", area);
    h.push(frame).unwrap();
    let out = bytes(&pull(&mut h));
    assert_eq!((out[12 * 64 + 12], out[0]), (100, 109));
    assert_eq!(count(&h, "recomputed"), 0);
}

#[test]
fn equal_frames_are_restored_once_unless_strength_moves() {
    let (mut h, info) = playing("model=null:raw:add");
    // Decoded, unless the engine was there already.
    h.push(flat(&info, 50, 0)).unwrap();
    pull(&mut h);
    let raw = count(&h, "recomputed");
    for index in 0..3 {
        h.push(flat(&info, 100, index)).unwrap();
        assert!((mean(&info, &pull(&mut h)) - 109.0).abs() < 0.5);
    }
    assert_eq!((count(&h, "restored"), count(&h, "repeated"), count(&h, "recomputed") - raw), (4, 2, 1));
    h.element().unwrap().set_property("strength", 0.5f32);
    for index in 3..5 {
        h.push(flat(&info, 100, index)).unwrap();
        assert!((mean(&info, &pull(&mut h)) - 104.0).abs() < 0.6);
    }
    assert_eq!((count(&h, "repeated"), count(&h, "recomputed") - raw), (3, 2));
}

#[test]
fn a_frame_that_fails_goes_out_as_it_came() {
    let (mut h, info) = playing("model=null:raw:panic:0 on-error=pass-through");
    let bus = bus(&h);
    h.push(flat(&info, 77, 0)).unwrap();
    assert!(bytes(&pull(&mut h)).iter().all(|byte| *byte == 77));
    assert_eq!(count(&h, "failed"), 1);
    message(&bus, gst::MessageType::Warning);
}

#[test]
fn broken_samples_are_told_and_left_as_they_were() {
    let (mut h, info) = playing("model=null:raw:nan");
    let bus = bus(&h);
    h.push(flat(&info, 77, 0)).unwrap();
    assert!(bytes(&pull(&mut h)).iter().all(|byte| *byte == 77));
    assert_eq!(count(&h, "failed"), 1);
    let told = message(&bus, gst::MessageType::Warning);
    let gst::MessageView::Warning(told) = told.view() else { unreachable!() };
    assert!(told.error().to_string().contains("precision=f32"), "{told:?}");
}

#[test]
fn short_memory_is_tried_once_more_with_a_smaller_tile() {
    let (mut h, info) = playing("model=null:raw:oom:300");
    h.push(flat(&info, 77, 0)).unwrap();
    pull(&mut h);
    assert_eq!((count(&h, "retried"), count(&h, "restored"), count(&h, "failed")), (1, 1, 0));
}
