// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flushes, wherever frames, events, queries and threads are at that moment.

use std::sync::mpsc;
use std::time::Duration;

use gst::prelude::*;

use crate::play::Pipeline;
use crate::rig::{buffer, count, playing, pull};

/// Longest that a thread may stay in a pad after a flush.
const LIMIT: Duration = Duration::from_secs(20);

fn flush(h: &mut gst_check::Harness) {
    assert!(h.push_event(gst::event::FlushStart::new()));
    assert!(h.push_event(gst::event::FlushStop::new(true)));
}

/// One more frame goes through, the only one, and then the end.
fn goes_on(mut h: gst_check::Harness, info: &gst_video::VideoInfo, what: &str) {
    h.element().unwrap().set_property("enabled", false);
    h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    h.push(buffer(info, 7)).unwrap();
    h.push_event(gst::event::Eos::new());
    assert_eq!(pull(&mut h).pts(), Some(280 * gst::ClockTime::MSECOND), "{what}");
    assert!(h.pull_until_eos().unwrap().is_none(), "{what}");
    assert_eq!(count(&h, "frames-out"), 1, "{what}");
}

#[test]
fn a_flush_leaves_nothing_behind_however_full_the_queue_is() {
    // Batches of one run, of three wait for their third frame, of eight never fill.
    for batch in [1, 3, 8] {
        for frames in 0..=4 {
            for events in [false, true] {
                let what = format!("{frames} frames, batches of {batch}, events: {events}");
                let (mut h, info) = playing(&format!(
                    "model=null:slow:600000 max-in-flight=4 batch-size={batch} batch-timeout=600000000000"
                ));
                for index in 0..frames {
                    h.push(buffer(&info, index)).unwrap();
                    if events {
                        h.push_event(gst::event::Gap::builder(index * gst::ClockTime::MSECOND).build());
                    }
                }
                flush(&mut h);
                goes_on(h, &info, &what);
            }
        }
    }
}

#[test]
fn finished_frames_behind_a_slow_one_are_forgotten() {
    let (mut h, info) = playing("model=null:slow:600000 max-in-flight=8");
    h.push(buffer(&info, 0)).unwrap();
    // These need no work and wait for the first.
    h.element().unwrap().set_property("enabled", false);
    for index in 1..4 {
        h.push(buffer(&info, index)).unwrap();
    }
    flush(&mut h);
    goes_on(h, &info, "finished frames");
}

#[test]
fn a_flush_frees_who_waits_for_room_or_for_an_answer() {
    let drain = |pad: gst::Pad, _| pad.query(gst::query::Drain::new().query_mut());
    let chain = |pad: gst::Pad, frame| pad.chain(frame) == Err(gst::FlowError::Flushing);
    let cases: [(&str, fn(gst::Pad, gst::Buffer) -> bool, bool); 2] =
        [("room", chain, true), ("answer", drain, false)];
    for (what, wait, want) in cases {
        let (mut h, info) = playing("model=null:slow:600000 max-in-flight=1");
        h.push(buffer(&info, 0)).unwrap();
        let pad = h.element().unwrap().static_pad("sink").unwrap();
        let (tell, told) = mpsc::channel();
        let frame = buffer(&info, 1);
        std::thread::spawn(move || tell.send(wait(pad, frame)));
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "{what}: came back by itself");
        flush(&mut h);
        assert_eq!(told.recv_timeout(LIMIT), Ok(want), "{what}");
        goes_on(h, &info, what);
    }
}

#[test]
fn a_seek_while_downstream_holds_the_task_and_one_while_loading() {
    let pipeline = Pipeline::new(
        "videotestsrc ! video/x-raw,width=64,height=48,framerate=25/1 \
         ! i2sbrestore name=r model=null:slow-load:200 ! fakesink name=out",
    );
    let limit = Some(gst::ClockTime::from_seconds(LIMIT.as_secs()));
    let seek = |seconds| {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        let [start, stop] = [seconds, 8].map(gst::ClockTime::from_seconds);
        pipeline.0.seek(1.0, flags, gst::SeekType::Set, start, gst::SeekType::Set, stop)
    };
    // Before there is anything to seek in: refused, and no harm done.
    assert!(seek(1).is_err());
    pipeline.0.set_state(gst::State::Paused).unwrap();
    // The network is not there yet.
    let _ = seek(2);
    let times = pipeline.times("out", "sink");
    pipeline.0.state(limit).0.expect("prerolled");
    // The sink has its first frame and holds the task in its push.
    seek(4).unwrap();
    pipeline.0.state(limit).0.expect("prerolled again");
    pipeline.run();
    let times = times.lock().unwrap();
    let from = times.iter().position(|time| time.0 == Some(4 * gst::ClockTime::SECOND)).expect("frame 100");
    let want: Vec<_> = (100..200).map(|index| Some(index * 40 * gst::ClockTime::MSECOND)).collect();
    assert_eq!(times[from..].iter().map(|time| time.0).collect::<Vec<_>>(), want);
}
