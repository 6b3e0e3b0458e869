// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bad input: one message that says what and what to do, and a pipeline that can be stopped.

use gst::prelude::*;

use crate::rig::{buffer, bus, bytes, count, flat, harness, i420, message, playing, pull};

fn text(message: &gst::Message) -> (String, gst::glib::Error) {
    match message.view() {
        gst::MessageView::Error(error) => (error.error().message().to_owned(), error.error()),
        gst::MessageView::Warning(warning) => (warning.error().message().to_owned(), warning.error()),
        _ => unreachable!("asked for errors and warnings"),
    }
}

/// Sets READY and returns the error that must come.
pub fn refused(properties: &str) -> (String, gst::glib::Error) {
    crate::null::init();
    let element = gst::parse::launch(&format!("i2sbrestore {properties}")).unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Ready).is_err(), "{properties}");
    let told = text(&message(&bus, gst::MessageType::Error));
    assert!(bus.pop_filtered(&[gst::MessageType::Error]).is_none(), "one error only");
    element.set_state(gst::State::Null).unwrap();
    told
}

#[test]
fn a_missing_model_names_every_place_that_was_searched() {
    let (message, error) = refused("model=no-such-model");
    assert_eq!(error.kind::<gst::ResourceError>(), Some(gst::ResourceError::NotFound), "{message}");
    assert!(message.contains("no-such-model") && message.contains("/usr/share/i2sb/weights"), "{message}");
}

#[test]
fn a_broken_model_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let preset = crate::preset::write(folder.path());
    let weights = preset.join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let (message, _) = refused(&format!("model={}", preset.display()));
    assert!(message.contains("model.safetensors"), "{message}");
}

#[test]
fn an_unknown_or_absent_device_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let preset = crate::preset::write(folder.path());
    for (device, advice) in [("vulkan", "auto"), ("cuda:x", "auto"), ("cuda:77", "cpu")] {
        let (message, _) = refused(&format!("model={} device={device}", preset.display()));
        assert!(message.contains(device) && message.contains(advice), "{device}: {message}");
    }
}

#[test]
fn a_buffer_shorter_than_its_caps_is_an_error_and_not_a_read_outside() {
    let (mut h, _) = playing("model=null:identity");
    let bus = bus(&h);
    let short = gst::Buffer::from_mut_slice(vec![0u8; 100]);
    assert_eq!(h.push(short), Err(gst::FlowError::Error));
    let (message, error) = text(&message(&bus, gst::MessageType::Error));
    assert!(error.is::<gst::StreamError>() && message.contains("100"), "{message}");
}

#[test]
fn a_meta_that_points_outside_is_an_error() {
    let (mut h, info) = playing("model=null:identity");
    let bus = bus(&h);
    // GStreamer itself refuses a meta that does not fit, but nobody checks again when memory goes.
    let mut frame = crate::rig::padded(&info, 0);
    frame.get_mut().unwrap().set_size(info.size() / 2);
    assert!(frame.meta::<gst_video::VideoMeta>().is_some());
    assert_eq!(h.push(frame), Err(gst::FlowError::Error));
    let (text, error) = text(&message(&bus, gst::MessageType::Error));
    assert!(error.is::<gst::StreamError>() && text.contains("caps"), "{text}");
    assert_eq!(count(&h, "frames-out"), 0, "nothing unwritten goes out");
}

#[test]
fn a_panic_becomes_an_error_and_the_next_start_works() {
    let (mut h, info) = playing("model=null:panic:1:told");
    let bus = bus(&h);
    h.push(buffer(&info, 0)).unwrap();
    pull(&mut h);
    let _ = h.push(buffer(&info, 1));
    let (message, error) = text(&message(&bus, gst::MessageType::Error));
    assert_eq!(error.kind::<gst::LibraryError>(), Some(gst::LibraryError::Failed), "{message}");
    assert!(message.contains("on purpose"), "{message}");
    // Upstream learns of it by the return of its next push.
    while h.push(buffer(&info, 2)).is_ok() {}
    let element = h.element().unwrap();
    element.set_state(gst::State::Null).unwrap();
    let (mut again, info) = playing("model=null:panic:1:told");
    again.push(buffer(&info, 0)).unwrap();
    pull(&mut again);
}

#[test]
fn errors_may_pass_frames_through() {
    let (mut h, info) = playing("model=null:panic:1:passed on-error=pass-through");
    let bus = bus(&h);
    for index in 0..4 {
        let frame = buffer(&info, index);
        let input = bytes(&frame);
        h.push(frame).unwrap();
        let out = pull(&mut h);
        assert!(index == 0 || bytes(&out) == input);
    }
    assert_eq!(count(&h, "failed"), 3);
    message(&bus, gst::MessageType::Warning);
    assert!(bus.pop_filtered(&[gst::MessageType::Warning, gst::MessageType::Error]).is_none());
}

#[test]
fn out_of_memory_is_tried_again_with_a_smaller_tile() {
    let (mut h, info) = playing("model=null:oom:256");
    h.push(buffer(&info, 0)).unwrap();
    pull(&mut h);
    assert_eq!(count(&h, "retried"), 1);
    let (mut h, info) = playing("model=null:oom:16");
    let bus = bus(&h);
    let _ = h.push(buffer(&info, 0));
    let (message, error) = text(&message(&bus, gst::MessageType::Error));
    assert_eq!(error.kind::<gst::ResourceError>(), Some(gst::ResourceError::NoSpaceLeft), "{message}");
    assert!(message.contains("tile-size"), "{message}");
}

#[test]
fn pictures_beyond_the_range_of_a_precision_are_counted() {
    let (mut h, info) = playing("model=null:overflow");
    for index in 0..5 {
        h.push(buffer(&info, index)).unwrap();
        pull(&mut h);
    }
    assert_eq!((count(&h, "recomputed"), count(&h, "failed")), (2, 0));
}

#[test]
fn samples_that_are_no_numbers_change_nothing() {
    let (mut h, info) = playing("model=null:nan");
    let bus = bus(&h);
    let input = flat(&info, 100, 0);
    let before = bytes(&input);
    h.push(input).unwrap();
    assert!(bytes(&pull(&mut h)) == before);
    assert_eq!(count(&h, "failed"), 1);
    message(&bus, gst::MessageType::Warning);
}

#[test]
fn a_load_that_fails_wakes_who_waits() {
    let (mut h, info) = playing("model=null:broken");
    while h.push(buffer(&info, 0)).is_ok() {}
    assert_eq!(h.push(buffer(&info, 0)), Err(gst::FlowError::Error));

    crate::null::init();
    let element = gst::parse::launch("i2sbrestore model=null:broken").unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    element.set_state(gst::State::Paused).unwrap();
    let (message, _) = text(&message(&bus, gst::MessageType::Error));
    assert!(message.contains("the file ends early"), "{message}");
    element.set_state(gst::State::Null).unwrap();

    let (mut h, info) = playing("model=null:broken on-error=pass-through");
    let frame = buffer(&info, 0);
    let input = bytes(&frame);
    h.push(frame).unwrap();
    assert!(bytes(&pull(&mut h)) == input);
}

#[test]
fn caps_after_a_load_that_failed_are_told_of_the_load() {
    let mut h = harness("model=null:broken");
    h.play();
    let event = || gst::event::CustomDownstream::new(gst::Structure::new_empty("anything"));
    // Refused as soon as the load has failed, unless that was before the pads were ready.
    for _ in 0..200 {
        if !h.push_event(event()) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let info = i420(64, 48);
    h.set_src_caps(info.to_caps().unwrap());
    assert_eq!(h.push(buffer(&info, 0)), Err(gst::FlowError::Error));
}

#[test]
fn loading_is_told_by_progress_and_can_be_stopped() {
    crate::null::init();
    let element = gst::parse::launch("i2sbrestore model=null:slow-load:300").unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    element.set_state(gst::State::Paused).unwrap();
    let kind = |message: gst::Message| match message.view() {
        gst::MessageView::Progress(progress) => progress.get().0,
        _ => unreachable!("asked for progress"),
    };
    assert_eq!(kind(message(&bus, gst::MessageType::Progress)), gst::ProgressType::Start);
    let start = std::time::Instant::now();
    element.set_state(gst::State::Null).unwrap();
    assert!(start.elapsed().as_millis() < 200);
    assert_eq!(kind(message(&bus, gst::MessageType::Progress)), gst::ProgressType::Canceled);
    element.set_state(gst::State::Paused).unwrap();
    assert_eq!(kind(message(&bus, gst::MessageType::Progress)), gst::ProgressType::Start);
    assert_eq!(kind(message(&bus, gst::MessageType::Progress)), gst::ProgressType::Complete);
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn caps_that_cannot_be_are_an_error() {
    let mut h = harness("model=null:identity");
    let bus = bus(&h);
    h.play();
    let pad = h.element().unwrap().static_pad("sink").unwrap();
    h.push_event(gst::event::StreamStart::new("s"));
    // Within the template, and yet no picture: fields of their own without the feature that says so, more
    // bytes than there are numbers for.
    for (mode, side) in [("alternate", 16), ("progressive", i32::MAX)] {
        let caps = gst::Caps::builder("video/x-raw").field("format", "I420").field("width", side);
        let caps = caps.field("height", side).field("interlace-mode", mode);
        let caps = caps.field("framerate", gst::Fraction::new(25, 1)).build();
        assert!(!pad.send_event(gst::event::Caps::new(&caps)));
        let (text, error) = text(&message(&bus, gst::MessageType::Error));
        assert_eq!(error.kind::<gst::CoreError>(), Some(gst::CoreError::Negotiation), "{text}");
        assert!(text.contains("alternate") && text.contains("larger than memory"), "{text}");
    }
    // Outside of the template GStreamer refuses them itself, and the source tells the bus.
    let caps = gst::Caps::builder("video/x-raw").field("format", "I420").field("width", 16).build();
    assert!(!pad.send_event(gst::event::Caps::new(&caps)));
    // And no frame is taken for what it is not.
    h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    assert_eq!(pad.chain(buffer(&i420(64, 48), 0)), Err(gst::FlowError::NotNegotiated));
    for other in ["audio/x-raw", "video/x-h264"] {
        assert!(!pad.query_accept_caps(&gst::Caps::new_empty_simple(other)), "{other}");
    }
}

#[test]
fn properties_of_a_start_stay_while_running() {
    let (h, _) = playing("model=null:identity");
    let (element, bus) = (h.element().unwrap(), bus(&h));
    element.set_property("device", "cuda:3");
    assert_eq!(element.property::<String>("device"), "auto");
    let (text, _) = text(&message(&bus, gst::MessageType::Warning));
    assert!(text.contains("device") && text.contains("READY"), "{text}");
    element.set_property("device", "auto");
    assert!(
        bus.pop_filtered(&[gst::MessageType::Warning]).is_none(),
        "one warning only, none for what is so"
    );
    element.set_property("batch-size", 3u32);
    assert_eq!(element.property::<u32>("batch-size"), 1);
    element.set_state(gst::State::Ready).unwrap();
    element.set_property("device", "cpu");
    assert_eq!(element.property::<String>("device"), "cpu");
}

#[test]
fn a_seek_before_data_goes_upstream_and_harms_nothing() {
    let mut h = harness("model=null:identity");
    let bus = bus(&h);
    h.play();
    let seek = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        gst::ClockTime::SECOND,
        gst::SeekType::None,
        gst::ClockTime::NONE,
    );
    h.push_upstream_event(seek);
    let seen = h.try_pull_upstream_event().map(|event| event.type_());
    assert!(seen == Some(gst::EventType::Seek) || seen == Some(gst::EventType::Reconfigure), "{seen:?}");
    let info = i420(64, 48);
    h.set_src_caps(info.to_caps().unwrap());
    h.push(buffer(&info, 0)).unwrap();
    pull(&mut h);
    assert!(bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning]).is_none());
}

#[test]
fn a_property_out_of_range_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let launch = |setting: &str| {
        let mut command = crate::library::tool("gst-launch-1.0", folder.path());
        command.args(["videotestsrc", "num-buffers=1", "!", "video/x-raw,width=16,height=16", "!"]);
        command.args(["i2sbrestore", "name=r", "enabled=false", setting, "!", "fakesink"]);
        let output = command.output().expect("gst-launch-1.0 runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // GObject keeps such values from the element and says so itself.
    for (setting, name) in
        [("strength=7", "strength"), ("steps=1000", "steps"), ("batch-size=0", "batch-size")]
    {
        let (_, text) = launch(setting);
        assert!(text.contains("out of range") && text.contains(name), "{setting}: {text}");
    }
    for (setting, name) in [("strength=much", "strength"), ("late-frames=never", "late-frames")] {
        let (done, text) = launch(setting);
        assert!(!done && text.contains(name), "{setting}: {text}");
    }
}

#[test]
fn gst_launch_ends_with_one_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for (setting, words) in [("model=no-such-model", "/usr/share/i2sb/weights"), ("device=vulkan", "auto")] {
        let mut command = crate::library::tool("gst-launch-1.0", folder.path());
        command.args(["videotestsrc", "!", "i2sbrestore", setting, "!", "fakesink"]);
        let output = command.output().expect("gst-launch-1.0 runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        // One message of ours, one of gst-launch itself.
        let ours = text.lines().filter(|line| line.starts_with("ERROR: from element")).count();
        assert!(!output.status.success() && ours == 1 && text.contains(words), "{setting}: {text}");
        assert_ne!(output.status.code(), Some(124), "{setting}: it hangs");
    }
}

#[test]
fn a_refused_event_is_told_once() {
    let (mut h, info) = playing("model=null:identity");
    let bus = bus(&h);
    h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new()));
    for index in 0..4 {
        assert!(h.push(buffer(&info, index)).is_err());
    }
    let (first, _) = text(&message(&bus, gst::MessageType::Error));
    assert!(first.contains("segments in time"), "{first}");
    assert!(bus.timed_pop_filtered(50 * gst::ClockTime::MSECOND, &[gst::MessageType::Error]).is_none());
}
