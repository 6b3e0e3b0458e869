// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stream that must never stop: load, failures and changes while it plays.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::actor::{Fault, control};
use crate::rig::{buffer, bus, bytes, count, flat, harness, mean, message, playing, pull, stats};

/// Luma levels that one level of full range makes.
const LUMA: f64 = 219.0 / 255.0;

/// A harness of so many frames per second, and its frames, each with what was done to it.
struct Air {
    h: gst_check::Harness,
    info: gst_video::VideoInfo,
    index: u64,
}

impl Air {
    fn new(properties: &str, fps: i32) -> Self {
        let mut h = harness(properties);
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 64, 48);
        let info = info.fps(gst::Fraction::new(fps, 1)).build().unwrap();
        h.play();
        h.set_src_caps(info.to_caps().unwrap());
        Self { h, info, index: 0 }
    }

    /// Levels that were added to the next frame; no two neighbours are equal.
    fn frame(&mut self) -> f64 {
        let level = 100 + (self.index % 2) as u8;
        let frame = flat(&self.info, level, self.index);
        let (pts, before) = (frame.pts(), bytes(&frame));
        self.h.push(frame).unwrap();
        let out = pull(&mut self.h);
        assert_eq!(out.pts(), pts, "each frame once and in order");
        self.index += 1;
        let added = mean(&self.info, &out) - f64::from(level);
        assert!(added != 0.0 || bytes(&out) == before, "a frame that passes is untouched");
        added / LUMA
    }

    /// Frames until `done` says so; what was added to each.
    fn until(&mut self, limit: Duration, done: impl Fn(&gst::Structure, f64) -> bool) -> Vec<f64> {
        let (end, mut seen) = (Instant::now() + limit, Vec::new());
        loop {
            let added = self.frame();
            seen.push(added);
            if done(&stats(&self.h), added) {
                return seen;
            }
            assert!(Instant::now() < end, "{seen:?} {:?}", stats(&self.h));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The largest change from one frame to the next.
fn jump(seen: &[f64]) -> f64 {
    seen.windows(2).map(|pair| (pair[0] - pair[1]).abs()).fold(0.0, f64::max)
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn an_engine_that_fails_leaves_the_picture_on_air_and_comes_back() {
    for (name, fault) in [("panics", Fault::Panic), ("is-full", Fault::Memory), ("is-lost", Fault::Device)] {
        let actor = control(name, 10);
        let mut air = Air::new(&format!("model=act:{name} on-error=pass-through"), 25);
        let bus = bus(&air.h);
        assert!((0..3).all(|_| (air.frame() - 10.0).abs() < 0.6));
        actor.fault(fault);
        assert_eq!(air.frame(), 0.0, "{name}: this very frame passes");
        for _ in 0..20 {
            assert_eq!(air.frame(), 0.0);
        }
        let (frames, asked) = (air.index, actor.frames.load(SeqCst));
        assert!(asked < frames - 10, "{name}: a broken engine is not asked for every frame");
        actor.fault(Fault::None);
        let back = air.until(LONG, |_, added| (added - 10.0).abs() < 0.6);
        let steps = back.iter().filter(|&&added| added > 0.2 && added < 9.4).count();
        assert!(steps >= 6 && jump(&back) < 2.4, "{name}: faded in, not switched: {back:?}");
        assert_eq!((count(&air.h, "outages"), count(&air.h, "recoveries")), (1, 1), "{name}");
        assert_eq!(count(&air.h, "frames-in"), count(&air.h, "frames-out"));
        message(&bus, gst::MessageType::Warning);
        assert!(bus.pop_filtered(&[gst::MessageType::Warning, gst::MessageType::Error]).is_none());
    }
}

#[test]
fn an_outage_of_the_model_is_bridged_by_the_next() {
    let (best, _spare) = (control("best", 10), control("spare", 5));
    let mut air = Air::new("model=act:best fallback-models=act:spare on-error=pass-through", 25);
    air.until(LONG, |_, added| (added - 10.0).abs() < 0.6);
    best.fault(Fault::Panic);
    assert_eq!(air.frame(), 0.0);
    air.until(LONG, |_, added| (added - 5.0).abs() < 0.6);
    best.fault(Fault::None);
    air.until(LONG, |_, added| (added - 10.0).abs() < 0.6);
}

#[test]
fn a_model_that_cannot_be_loaded_yet_is_loaded_when_it_can() {
    let actor = control("late-comer", 10);
    actor.fault(Fault::Load);
    let mut air = Air::new("model=act:late-comer on-error=pass-through", 25);
    air.until(LONG, |stats, _| stats.get::<u64>("outages").unwrap() == 1);
    assert_eq!(air.frame(), 0.0);
    actor.fault(Fault::None);
    air.until(LONG, |_, added| (added - 10.0).abs() < 0.6);
}

#[test]
fn load_steps_down_without_a_jump_and_up_again_when_it_goes() {
    let actor = control("dear", 12);
    // A frame may take 200 ms: four steps of 60 ms are too many, two are not.
    actor.cost.store(60, SeqCst);
    let mut air = Air::new("model=act:dear steps=-1", 5);
    let bus = bus(&air.h);
    let down = air.until(LONG, |_, added| (added - 6.0).abs() < 0.6);
    assert!(jump(&down) < 12.0 / 4.0, "{down:?}");
    assert!((12.0 - down[0]).abs() < 0.6 && count(&air.h, "step-downs") == 1, "{down:?}");
    assert_eq!(stats(&air.h).get::<u64>("steps").unwrap(), 2);
    actor.cost.store(1, SeqCst);
    let up = air.until(LONG, |_, added| (added - 12.0).abs() < 0.6);
    assert!(jump(&up) < 12.0 / 4.0, "{up:?}");
    assert_eq!(count(&air.h, "step-ups"), count(&air.h, "step-downs"));
    assert_eq!(count(&air.h, "frames-in"), count(&air.h, "frames-out"));
    let told = |bus: &gst::Bus| message(bus, gst::MessageType::Element).structure().unwrap().to_owned();
    assert_eq!(told(&bus).get::<&str>("event").unwrap(), "stepped-down");
    assert_eq!(told(&bus).get::<&str>("event").unwrap(), "stepped-up");
}

#[test]
fn when_even_the_cheapest_is_too_dear_frames_pass() {
    let (dear, cheap) = (control("dearest", 12), control("cheapest", 6));
    dear.cost.store(30, SeqCst);
    cheap.cost.store(30, SeqCst);
    let models = "model=act:dearest fallback-models=act:cheapest";
    let mut air = Air::new(&format!("{models} late-frames=pass-through"), 10);
    let seen = air.until(LONG, |_, added| added == 0.0);
    assert!(jump(&seen) < 12.0 / 4.0, "{seen:?}");
    assert_eq!(count(&air.h, "step-downs"), 2);
    assert!(count(&air.h, "late") > 0 && count(&air.h, "dropped") == 0);
}

#[test]
fn the_model_changes_while_playing() {
    let (_one, _two, broken) = (control("one", 2), control("two", 12), control("cracked", 9));
    broken.fault(Fault::Load);
    let mut air = Air::new("model=act:one", 25);
    let bus = bus(&air.h);
    let element = air.h.element().unwrap();
    air.frame();
    element.set_property("model", "act:two");
    let seen = air.until(LONG, |_, added| (added - 12.0).abs() < 0.6);
    let between = seen.iter().filter(|&&added| added > 2.6 && added < 11.4).count();
    assert!(between >= 6 && jump(&seen) < 2.0, "{seen:?}");
    assert_eq!(stats(&air.h).get::<&str>("model").unwrap(), "two");
    // One that cannot be loaded, and one that cannot even be found.
    for name in ["act:cracked", "no-such-model"] {
        element.set_property("model", name);
        let warning = message(&bus, gst::MessageType::Warning);
        let gst::MessageView::Warning(warning) = warning.view() else { unreachable!("asked for") };
        assert!(warning.error().message().contains(name), "{}", warning.error().message());
        assert_eq!(element.property::<String>("model"), "act:two");
        assert!((air.frame() - 12.0).abs() < 0.6);
    }
    assert_eq!(count(&air.h, "frames-in"), count(&air.h, "frames-out"));
    assert_eq!((count(&air.h, "late"), count(&air.h, "failed"), count(&air.h, "outages")), (0, 0, 0));
    assert!(bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning]).is_none());
}

#[test]
fn a_fixed_latency_is_kept_whatever_the_engine_does() {
    let actor = control("stuck", 10);
    let mut air = Air::new("model=act:stuck latency=150000000 late-frames=pass-through", 25);
    air.h.set_live(true);
    let latency = |air: &Air| {
        let mut query = gst::query::Latency::new();
        assert!(air.h.element().unwrap().static_pad("src").unwrap().query(&mut query));
        query.result()
    };
    let declared = latency(&air);
    assert!(declared.0 && declared.1 == 150 * gst::ClockTime::MSECOND, "{declared:?}");
    let bus = bus(&air.h);
    assert!((air.frame() - 10.0).abs() < 0.6);
    // A frame would take a minute.
    actor.cost.store(15_000, SeqCst);
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(air.frame(), 0.0);
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!((count(&air.h, "late"), count(&air.h, "dropped")), (3, 0));
    assert_eq!(latency(&air), declared);
    assert!(bus.pop_filtered(&[gst::MessageType::Latency]).is_none(), "load changes nothing that was told");
}

#[test]
fn when_no_frame_is_in_time_the_user_is_told_once() {
    let (mut h, info) = playing("model=null:slow:200 latency=10000000 late-frames=drop");
    h.set_live(true);
    let bus = bus(&h);
    for index in 0..60 {
        h.push(buffer(&info, index)).unwrap();
    }
    let warning = message(&bus, gst::MessageType::Warning);
    let gst::MessageView::Warning(warning) = warning.view() else { unreachable!("asked for") };
    assert!(warning.error().message().contains("in time"), "{}", warning.error().message());
    assert!(bus.timed_pop_filtered(300 * gst::ClockTime::MSECOND, &[gst::MessageType::Warning]).is_none());
    assert_eq!(count(&h, "frames-out"), 0);
}
