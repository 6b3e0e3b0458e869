// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each frame and the stream tell of what was done, and the pad that shows it.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

use crate::rig::{buffer, bytes, harness, playing, pull};

fn told(buffer: &gst::BufferRef) -> gst::Structure {
    gst::meta::CustomMeta::from_buffer(buffer, gsti2sb::i2sbrestore::META)
        .expect("the meta")
        .structure()
        .to_owned()
}

/// RGB of 16×16, all samples the same.
fn grey(h: &mut gst_check::Harness, value: u8, index: u64) -> gst::Buffer {
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 16, 16)
        .fps(gst::Fraction::new(25, 1))
        .build()
        .unwrap();
    if index == 0 {
        h.play();
        h.set_src_caps(info.to_caps().unwrap());
    }
    crate::rig::flat(&info, value, index)
}

#[test]
fn each_frame_tells_what_was_done_to_it() {
    let mut h = harness("model=null:add audit=true seed=5 strength=0.5");
    for (index, value) in [(0, 100), (1, 100), (2, 90), (3, 90)] {
        let frame = grey(&mut h, value, index);
        h.element().unwrap().set_property("enabled", index != 3);
        h.push(frame).unwrap();
    }
    let all: Vec<_> = (0..4).map(|_| told(&pull(&mut h))).collect();
    let status: Vec<_> = all.iter().map(|fields| fields.get::<String>("status").unwrap()).collect();
    assert_eq!(status, ["restored", "reused", "restored", "bypassed"]);
    for (index, fields) in all.iter().enumerate() {
        assert_eq!(fields.get::<u64>("frame").unwrap(), index as u64);
        assert_eq!(fields.get::<u64>("seed").unwrap(), 5);
        assert_eq!(fields.get::<f32>("strength").unwrap(), 0.5);
        assert_eq!(fields.get::<String>("model").unwrap(), "null-add");
        assert_eq!(fields.get::<String>("version").unwrap(), env!("CARGO_PKG_VERSION"));
        let (psnr, largest) = (fields.get::<f64>("psnr").unwrap(), fields.get::<f64>("largest").unwrap());
        // Half of ten steps of 8 bits.
        let change = if index == 3 { 0.0 } else { 5.0 / 255.0 };
        assert!((largest - change).abs() < 1e-6, "{fields:?}");
        assert!(if index == 3 { psnr.is_infinite() } else { (psnr + 20.0 * change.log10()).abs() < 1e-4 });
        assert!((0.9..=1.0).contains(&fields.get::<f64>("ssim").unwrap()), "{fields:?}");
    }
    let (mut h, info) = playing("model=null:oom:1 on-error=pass-through");
    h.push(buffer(&info, 0)).unwrap();
    let fields = told(&pull(&mut h));
    assert_eq!(fields.get::<String>("status").unwrap(), "failed");
    assert!(!fields.has_field("psnr"));
}

#[test]
fn the_stream_tells_it_once_beside_its_own_tags() {
    let (mut h, info) = playing("model=null:add");
    let mut tags = gst::TagList::new();
    tags.get_mut().unwrap().add::<gst::tags::Comment>(&"tape 7", gst::TagMergeMode::Append);
    h.push_event(gst::event::Tag::new(tags.clone()));
    for index in 0..3 {
        h.push(buffer(&info, index)).unwrap();
        pull(&mut h);
    }
    h.push_event(gst::event::Tag::new(tags));
    h.push(buffer(&info, 3)).unwrap();
    pull(&mut h);
    let mut seen = Vec::new();
    while let Some(event) = h.try_pull_event() {
        if let gst::EventView::Tag(tag) = event.view() {
            let comments = tag.tag().iter_tag::<gst::tags::Comment>().map(|c| c.get().to_owned());
            seen.push(comments.collect::<Vec<_>>());
        }
    }
    assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 2], "{seen:?}");
    assert!(seen.iter().all(|comments| comments[0] == "tape 7"));
    assert!(seen[2][1].contains("restored with i2sb") && seen[2][1].contains("null-add"), "{seen:?}");
}

#[test]
fn the_residual_is_the_change_on_grey() {
    crate::null::init();
    // A description links a pad that appears once: each time another pipeline.
    for enabled in [true, false] {
        residual(enabled);
    }
}

fn residual(enabled: bool) {
    let pipeline = gst::parse::launch(
        "videotestsrc pattern=white num-buffers=4 ! videobalance brightness=-0.5 ! video/x-raw,format=RGB,width=32,height=16 \
         ! i2sbrestore name=r model=null:add residual-gain=3 enabled=true r.src ! queue ! fakesink name=main sync=false \
         async=false r.src_residual ! queue ! fakesink name=beside sync=false async=false",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let frames = |name: &str| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (pad, to) = (pipeline.by_name(name).unwrap().static_pad("sink").unwrap(), seen.clone());
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let buffer = info.buffer().unwrap();
            to.lock().unwrap().push((buffer.pts(), bytes(buffer)));
            gst::PadProbeReturn::Ok
        });
        seen
    };
    let (main, beside) = (frames("main"), frames("beside"));
    pipeline.by_name("r").unwrap().set_property("enabled", enabled);
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(20 * gst::ClockTime::SECOND, &[gst::MessageType::Eos, gst::MessageType::Error]);
    assert_eq!(end.as_ref().map(|m| m.type_()), Some(gst::MessageType::Eos), "{end:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    let (main, beside) =
        (std::mem::take(&mut *main.lock().unwrap()), std::mem::take(&mut *beside.lock().unwrap()));
    assert_eq!((main.len(), beside.len()), (4, 4));
    for ((time, _), (shown, picture)) in main.iter().zip(&beside) {
        assert_eq!(time, shown);
        // Ten steps, three times, on the middle of 0 … 255.
        let wanted = if enabled { 127.5 + 30.0 } else { 127.5f64 };
        let wrong = picture.iter().find(|&&v| (f64::from(v) - wanted).abs() > 1.0);
        assert_eq!(wrong, None, "{wanted}");
    }
}

#[test]
fn there_is_no_residual_unless_it_is_asked_for() {
    let (h, _) = playing("model=null:add");
    assert!(h.element().unwrap().static_pad("src_residual").is_none());
}
