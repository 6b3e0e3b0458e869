// SPDX-License-Identifier: MIT OR Apache-2.0
//! Order, events, flushes, errors.

use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::rig::{buffer, bytes, count, flat, i420, mean, playing, pull};

#[test]
fn the_restoration_reaches_the_samples() {
    let (mut h, info) = playing("model=null:add");
    h.push(flat(&info, 100, 0)).unwrap();
    let out = pull(&mut h);
    // Ten steps of full range are 10·219/255 steps of the limited range.
    assert!((mean(&info, &out) - 109.0).abs() < 0.5, "{}", mean(&info, &out));
    assert!(bytes(&out)[64 * 48..].iter().all(|&chroma| chroma == 100));
    assert_eq!(count(&h, "restored"), 1);
}

#[test]
fn eos_lets_every_frame_out_whatever_the_batch() {
    for frames in 1..6 {
        let (mut h, info) =
            playing("model=null:identity batch-size=4 batch-timeout=10000000000 max-in-flight=8");
        for index in 0..frames {
            h.push(buffer(&info, index)).unwrap();
        }
        h.push_event(gst::event::Eos::new());
        for index in 0..frames {
            assert_eq!(pull(&mut h).pts(), Some(index * 40 * gst::ClockTime::MSECOND));
        }
        assert!(h.pull_until_eos().unwrap().is_none(), "EOS follows");
    }
}

#[test]
fn a_partial_batch_leaves_after_its_timeout() {
    let (mut h, info) = playing("model=null:identity batch-size=4 batch-timeout=5000000 max-in-flight=8");
    h.push(buffer(&info, 0)).unwrap();
    assert_eq!(pull(&mut h).pts(), Some(gst::ClockTime::ZERO));
}

#[test]
fn stopping_in_the_middle_of_a_slow_frame_is_quick() {
    let (mut h, info) = playing("model=null:slow:5000");
    h.push(buffer(&info, 0)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let element = h.element().unwrap();
    let start = Instant::now();
    element.set_state(gst::State::Null).unwrap();
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[test]
fn events_keep_their_place_between_frames() {
    let (mut h, info) = playing("model=null:slow:20 max-in-flight=8");
    let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = log.clone();
    let mask = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER;
    let pad = h.element().unwrap().static_pad("src").unwrap();
    pad.add_probe(mask, move |_, info| {
        let line = match &info.data {
            Some(gst::PadProbeData::Event(event)) => event.type_().name().to_string(),
            Some(gst::PadProbeData::Buffer(buffer)) => format!("frame {}", buffer.pts().unwrap().mseconds()),
            _ => return gst::PadProbeReturn::Ok,
        };
        seen.lock().unwrap().push(line);
        gst::PadProbeReturn::Ok
    });
    let tag = |title: &str| {
        let mut tags = gst::TagList::new();
        tags.get_mut().unwrap().add::<gst::tags::Title>(&title, gst::TagMergeMode::Append);
        gst::event::Tag::new(tags)
    };
    h.push(buffer(&info, 0)).unwrap();
    h.push_event(tag("a"));
    h.push(buffer(&info, 1)).unwrap();
    // New caps with two frames inside: nothing is lost, nothing waits.
    let larger = i420(80, 60);
    h.push_event(gst::event::Caps::new(&larger.to_caps().unwrap()));
    h.push(buffer(&larger, 2)).unwrap();
    h.push_event(gst::event::Gap::builder(120 * gst::ClockTime::MSECOND).build());
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(120 * gst::ClockTime::MSECOND);
    h.push_event(gst::event::Segment::new(&segment));
    h.push(buffer(&larger, 3)).unwrap();
    h.push_event(gst::event::Eos::new());
    while h.pull_until_eos().unwrap().is_some() {}
    let want = "stream-start caps segment|frame 0|tag|frame 40|caps|frame 80|gap|segment|frame 120|eos";
    let got =
        log.lock().unwrap().join("|").replacen("stream-start|caps|segment", "stream-start caps segment", 1);
    assert!(got.ends_with(want.trim_start_matches("stream-start caps segment|")), "{got}");
}

#[test]
fn drain_answers_after_the_last_frame() {
    let (mut h, info) = playing("model=null:slow:30 batch-size=4 batch-timeout=10000000000 max-in-flight=8");
    for index in 0..3 {
        h.push(buffer(&info, index)).unwrap();
    }
    // The sink of the harness does not know DRAIN; what counts is when the answer comes.
    h.element().unwrap().static_pad("sink").unwrap().query(gst::query::Drain::new().query_mut());
    assert_eq!(count(&h, "frames-out"), 3);
}

#[test]
fn qos_ends_here_unless_frames_are_dropped() {
    for (mode, forwarded) in [("process", false), ("pass-through", false), ("drop", true)] {
        let (mut h, info) = playing(&format!("model=null:identity late-frames={mode}"));
        h.push(buffer(&info, 0)).unwrap();
        pull(&mut h);
        let late = gst::event::Qos::builder(gst::QOSType::Underflow, 2.0, 1_000_000_000)
            .timestamp(gst::ClockTime::ZERO)
            .build();
        h.push_upstream_event(late);
        let mut seen = false;
        while let Some(event) = h.try_pull_upstream_event() {
            seen |= event.type_() == gst::EventType::Qos;
        }
        assert_eq!(seen, forwarded, "{mode}");
        // 40 ms is now far too late; 4 s is not.
        h.push(buffer(&info, 1)).unwrap();
        h.push(buffer(&info, 100)).unwrap();
        let first = pull(&mut h).pts().unwrap().mseconds();
        assert_eq!(first, if mode == "drop" { 4000 } else { 40 });
        assert_eq!(count(&h, "late"), u64::from(mode != "process"), "{mode}");
        if mode != "drop" {
            pull(&mut h);
        }
    }
}

#[test]
fn strength_and_enabled_change_while_playing() {
    let (mut h, info) = playing("model=null:add");
    let element = h.element().unwrap();
    let mut level = |index| {
        h.push(flat(&info, 100, index)).unwrap();
        mean(&info, &pull(&mut h))
    };
    assert!((level(0) - 109.0).abs() < 0.5);
    element.set_property("strength", 0.5f32);
    assert!((level(1) - 104.0).abs() < 0.5);
    element.set_property("enabled", false);
    assert_eq!(level(2), 100.0);
    element.set_property("enabled", true);
    element.set_property("strength", 1.0f32);
    element.set_property_from_str("compare", "split");
    let split = level(3);
    assert!(split > 104.0 && split < 112.0, "{split}");
}

#[test]
fn a_comparison_shows_strength_in_its_restored_half_alone() {
    for (strength, right) in [(0.0, 100.0), (0.5, 104.3), (1.0, 108.6)] {
        let (mut h, info) = playing(&format!("model=null:add compare=split strength={strength}"));
        h.push(flat(&info, 100, 0)).unwrap();
        let picture = crate::rig::bytes(&pull(&mut h));
        let (row, near) = (&picture[..64], |v: &u8, want: f32| (f32::from(*v) - want).abs() <= 1.0);
        assert!(row[..31].iter().all(|v| *v == 100), "{strength}: {row:?}");
        assert!(row[31..33].iter().all(|v| near(v, 235.0)), "{strength}: {row:?}");
        assert!(row[33..].iter().all(|v| near(v, right)), "{strength}: {row:?}");
    }
}

#[test]
fn states_go_up_and_down_and_up() {
    let (mut h, info) = playing("model=null:identity");
    let element = h.element().unwrap();
    for round in 0..5 {
        h.push(buffer(&info, round)).unwrap();
        pull(&mut h);
        for state in [gst::State::Ready, gst::State::Null, gst::State::Playing] {
            element.set_state(state).unwrap();
        }
        h.play();
        h.push_event(gst::event::StreamStart::new("again"));
        h.push_event(gst::event::Caps::new(&info.to_caps().unwrap()));
        h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    }
    crate::null::init();
    let lone = gst::ElementFactory::make("i2sbrestore").property("model", "null:identity").build().unwrap();
    for _ in 0..20 {
        for state in [gst::State::Playing, gst::State::Ready, gst::State::Paused, gst::State::Null] {
            lone.set_state(state).unwrap();
        }
    }
}

#[test]
fn frames_equal_to_the_one_before_are_restored_once() {
    let (mut h, info) = playing("model=null:add");
    for index in 0..5 {
        h.push(flat(&info, 100, index)).unwrap();
        assert!((mean(&info, &pull(&mut h)) - 109.0).abs() < 0.5);
    }
    assert_eq!((count(&h, "restored"), count(&h, "repeated")), (5, 4));
}

#[test]
fn latency_is_measured_and_told() {
    let (mut h, info) = playing("model=null:slow:30");
    let bus = crate::rig::bus(&h);
    h.push(buffer(&info, 0)).unwrap();
    h.push(buffer(&info, 1)).unwrap();
    pull(&mut h);
    pull(&mut h);
    crate::rig::message(&bus, gst::MessageType::Latency);
    let ask = |h: &gst_check::Harness| {
        let mut query = gst::query::Latency::new();
        assert!(h.element().unwrap().static_pad("src").unwrap().query(&mut query));
        query.result()
    };
    let (_, min, _) = ask(&h);
    assert!((30..300).contains(&min.mseconds()), "{min}");
    h.element().unwrap().set_property("latency", 500_000_000i64);
    assert_eq!(ask(&h).1, 500 * gst::ClockTime::MSECOND);
}

#[test]
fn latency_is_told_without_a_frame_rate() {
    let mut h = crate::rig::harness("model=null:identity");
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 16, 16)
        .fps(gst::Fraction::new(0, 1))
        .build()
        .unwrap();
    h.play();
    h.set_src_caps(info.to_caps().unwrap());
    h.push(buffer(&info, 0)).unwrap();
    pull(&mut h);
    let mut query = gst::query::Latency::new();
    assert!(h.element().unwrap().static_pad("src").unwrap().query(&mut query));
}

#[test]
fn everything_at_once_from_three_threads() {
    let (mut h, info) = playing("model=null:slow:1 batch-size=2 batch-timeout=1000000");
    let element = h.element().unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (flag, sink) = (stop.clone(), element.static_pad("sink").unwrap());
    let flusher = std::thread::spawn(move || {
        while !flag.load(std::sync::atomic::Ordering::Relaxed) {
            sink.send_event(gst::event::FlushStart::new());
            sink.send_event(gst::event::FlushStop::new(true));
            std::thread::sleep(Duration::from_millis(7));
        }
    });
    let (flag, target) = (stop.clone(), element.clone());
    let setter = std::thread::spawn(move || {
        let mut step = 0u32;
        while !flag.load(std::sync::atomic::Ordering::Relaxed) {
            step += 1;
            target.set_property("strength", (step % 3) as f32 / 2.0);
            target.set_property("enabled", step % 5 != 0);
            target.set_property("seed", u64::from(step));
            let _: gst::Structure = target.property("stats");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let end = Instant::now() + Duration::from_secs(2);
    let mut index = 0;
    while Instant::now() < end {
        h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        // Flushed or taken, both are right.
        let _ = h.push(buffer(&info, index));
        while h.try_pull().is_some() {}
        index += 1;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flusher.join().unwrap();
    setter.join().unwrap();
    h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    h.push(buffer(&info, index)).unwrap();
    h.push_event(gst::event::Eos::new());
    let mut last = None;
    while let Some(out) = h.pull_until_eos().unwrap() {
        last = out.pts();
    }
    assert_eq!(last, Some(index * 40 * gst::ClockTime::MSECOND));
}
