// SPDX-License-Identifier: MIT OR Apache-2.0
//! What downstream answers reaches upstream, and the bus where no return can tell.

use gst::prelude::*;

use crate::rig::{buffer, bus, count, message, playing, pull};

const ERRORS: [gst::FlowError; 5] = [
    gst::FlowError::Error,
    gst::FlowError::NotLinked,
    gst::FlowError::NotNegotiated,
    gst::FlowError::Eos,
    gst::FlowError::Flushing,
];

/// Has downstream answer every frame with `error`.
fn refuse(h: &gst_check::Harness, error: gst::FlowError) {
    let pad = h.element().unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        info.flow_res = Err(error);
        info.data = None;
        gst::PadProbeReturn::Handled
    });
}

#[test]
fn errors_reach_upstream_as_they_are() {
    for error in ERRORS {
        let (mut h, info) = playing("model=null:slow:5");
        refuse(&h, error);
        // The queue takes a few frames before the first answer is there.
        let told = (0..50).find_map(|index| h.push(buffer(&info, index)).err());
        assert_eq!(told, Some(error));
        assert_eq!(h.push(buffer(&info, 50)), Err(error), "and stays");
        // A flush makes a fresh start of it.
        assert!(h.push_event(gst::event::FlushStart::new()));
        assert!(h.push_event(gst::event::FlushStop::new(true)));
        h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        assert!(h.push(buffer(&info, 51)).is_ok());
    }
}

#[test]
fn after_eos_the_bus_is_told() {
    for (error, posted) in ERRORS.into_iter().zip([false, true, true, false, false]) {
        let (mut h, info) = playing("model=null:slow:100");
        let bus = bus(&h);
        refuse(&h, error);
        h.push(buffer(&info, 0)).unwrap();
        h.push_event(gst::event::Eos::new());
        if posted {
            message(&bus, gst::MessageType::Error);
        }
        // Until the frame has been refused.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while count(&h, "frames-out") == 0 && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        // Whoever answers `Error` has told the reason itself; the other two are no errors.
        assert!(bus.pop_filtered(&[gst::MessageType::Error]).is_none(), "{error:?}");
    }
}

#[test]
fn eos_after_an_error_is_not_swallowed_in_silence() {
    let (mut h, info) = playing("model=null:slow:5");
    let bus = bus(&h);
    refuse(&h, gst::FlowError::NotLinked);
    while h.push(buffer(&info, 0)).is_ok() {}
    assert!(!h.push_event(gst::event::Eos::new()));
    message(&bus, gst::MessageType::Error);
}

/// The next events that reach downstream, up to this one.
fn events_until(h: &mut gst_check::Harness, last: gst::EventType) -> Vec<gst::EventType> {
    let mut seen = vec![];
    while seen.last() != Some(&last) {
        seen.push(h.pull_event().unwrap_or_else(|_| panic!("no {last:?} after {seen:?}")).type_());
    }
    seen
}

#[test]
fn eos_reaches_downstream_that_has_enough_frames() {
    let (mut h, info) = playing("model=null:slow:5");
    let bus = bus(&h);
    refuse(&h, gst::FlowError::Eos);
    while h.push(buffer(&info, 0)).is_ok() {}
    assert!(h.push_event(gst::event::Eos::new()));
    assert!(events_until(&mut h, gst::EventType::Eos).contains(&gst::EventType::Caps));
    assert!(bus.pop_filtered(&[gst::MessageType::Error]).is_none());
    // Another segment is another chance.
    let (mut h, info) = playing("model=null:slow:5");
    refuse(&h, gst::FlowError::Eos);
    while h.push(buffer(&info, 0)).is_ok() {}
    assert!(h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())));
    assert!(h.push(buffer(&info, 1)).is_ok());
}

#[test]
fn frames_of_the_next_segment_outlive_the_end_of_this_one() {
    let (mut h, info) = playing("model=null:slow:50 max-in-flight=8");
    let pad = h.element().unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        let first = matches!(&info.data, Some(gst::PadProbeData::Buffer(buffer)) if buffer.pts() == Some(gst::ClockTime::ZERO));
        if !first {
            return gst::PadProbeReturn::Ok;
        }
        info.flow_res = Err(gst::FlowError::Eos);
        info.data = None;
        gst::PadProbeReturn::Handled
    });
    // All is queued before the first answer is there.
    h.push(buffer(&info, 0)).unwrap();
    h.push(buffer(&info, 1)).unwrap();
    assert!(h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())));
    for index in 2..5 {
        h.push(buffer(&info, index)).unwrap();
    }
    let times: Vec<_> = (2..5).map(|_| pull(&mut h).pts().unwrap().mseconds() / 40).collect();
    assert_eq!(times, [2, 3, 4]);
    assert_eq!(count(&h, "restored"), 4);
}

#[test]
fn whoever_is_linked_later_gets_what_comes_from_then_on() {
    let (mut h, info) = playing("model=null:add");
    let pad = h.element().unwrap().static_pad("src").unwrap();
    let peer = pad.peer().unwrap();
    pad.unlink(&peer).unwrap();
    let told = (0..50).find_map(|index| h.push(buffer(&info, index)).err());
    assert_eq!(told, Some(gst::FlowError::NotLinked));
    // What is true of the stream is taken meanwhile.
    let wide = crate::rig::i420(80, 48);
    assert!(h.push_event(gst::event::Caps::new(&wide.to_caps().unwrap())));
    assert_eq!(h.push(buffer(&wide, 50)), Err(gst::FlowError::NotLinked));
    pad.link(&peer).unwrap();
    h.push(buffer(&wide, 51)).unwrap();
    assert_eq!(pull(&mut h).size(), wide.size());
    assert_eq!(pad.current_caps(), Some(wide.to_caps().unwrap()));
    pad.unlink(&peer).unwrap();
    while h.push(buffer(&wide, 52)).is_ok() {}
    pad.link(&peer).unwrap();
    h.push(buffer(&wide, 53)).unwrap();
    pull(&mut h);
}

#[test]
fn what_downstream_has_explained_is_not_explained_again() {
    let (mut h, info) = playing("model=null:slow:5");
    let bus = bus(&h);
    refuse(&h, gst::FlowError::Error);
    while h.push(buffer(&info, 0)).is_ok() {}
    assert!(!h.push_event(gst::event::Eos::new()));
    assert!(bus.timed_pop_filtered(100 * gst::ClockTime::MSECOND, &[gst::MessageType::Error]).is_none());
}
