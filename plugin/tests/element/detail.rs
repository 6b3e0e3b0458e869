// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dial between the faithful and the perceptual end of a model.

use std::time::{Duration, Instant};

use gst::prelude::*;
use i2sb::preset::{DETAIL_FILE, WEIGHTS_FILE};

use crate::rig::{bus, bytes, flat, harness, i420, message, noise, pull, stats};

/// The same picture again and again, so that only the network makes a difference.
struct Show {
    h: gst_check::Harness,
    info: gst_video::VideoInfo,
    number: u64,
}

impl Show {
    fn new(properties: &str) -> Self {
        let mut h = harness(properties);
        let info = i420(64, 48);
        h.play();
        h.set_src_caps(info.to_caps().unwrap());
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        h.push_event(gst::event::Segment::new(&segment));
        Self { h, info, number: 0 }
    }

    fn frame(&mut self) -> Vec<u8> {
        let mut frame = flat(&self.info, 0, self.number);
        self.number += 1;
        let raw = frame.get_mut().unwrap();
        let mut map = raw.map_writable().unwrap();
        map.iter_mut().zip(noise(self.info.size(), 3)).for_each(|(to, from)| *to = 96 + from % 64);
        drop(map);
        self.h.push(frame).unwrap();
        bytes(&pull(&mut self.h))
    }

    fn until(&mut self, wanted: &[u8]) {
        let begin = Instant::now();
        while self.frame() != wanted {
            assert!(begin.elapsed() < Duration::from_secs(60), "never came");
        }
    }
}

#[test]
fn detail_turns_while_playing() {
    let folder = tempfile::tempdir().unwrap();
    let preset = crate::preset::write(folder.path());
    let end = crate::preset::write_seeded(&folder.path().join("end"), 8);
    std::fs::copy(end.join(WEIGHTS_FILE), preset.join(DETAIL_FILE)).unwrap();
    let model = format!("device=cpu model={}", preset.display());
    let (faithful, half) = (Show::new(&model).frame(), Show::new(&format!("{model} detail=0.5")).frame());
    assert_ne!(faithful, half);
    let mut show = Show::new(&model);
    assert_eq!(show.frame(), faithful);
    show.h.element().unwrap().set_property("detail", 0.5f32);
    show.until(&half);
    let hash = stats(&show.h).get::<String>("hash").unwrap();
    assert!(hash.contains("+0.5*"), "{hash}");
    show.h.element().unwrap().set_property("detail", 0f32);
    show.until(&faithful);
}

#[test]
fn detail_of_a_model_that_has_none_is_refused_and_the_model_stays() {
    let folder = tempfile::tempdir().unwrap();
    let preset = crate::preset::write(folder.path());
    let mut show = Show::new(&format!("device=cpu model={}", preset.display()));
    let (bus, faithful) = (bus(&show.h), show.frame());
    let element = show.h.element().unwrap();
    element.set_property("detail", 0.25f32);
    let warning = message(&bus, gst::MessageType::Warning);
    let gst::MessageView::Warning(warning) = warning.view() else { unreachable!("asked for") };
    let text = warning.error().message().to_owned();
    assert!(text.contains("detail") && text.contains("0.25") && text.contains("test-nano-v1"), "{text}");
    assert_eq!(element.property::<f32>("detail"), 0.0);
    assert_eq!(show.frame(), faithful);
}

#[test]
fn a_sampler_that_the_model_cannot_take_is_refused_before_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let model = crate::preset::write_seeded(folder.path(), 5);
    let model = model.display();
    crate::null::init();
    let lone = gst::parse::launch(&format!("i2sbrestore model={model} sampler=i2sb")).unwrap();
    let told = gst::Bus::new();
    lone.set_bus(Some(&told));
    assert!(lone.set_state(gst::State::Ready).is_err());
    let text = |told: &gst::Bus, kind| match message(told, kind).view() {
        gst::MessageView::Error(error) => error.error().to_string(),
        gst::MessageView::Warning(warning) => warning.error().to_string(),
        other => panic!("{other:?}"),
    };
    let why = text(&told, gst::MessageType::Error);
    assert!(why.contains("sampler is i2sb") && why.contains("ot-ode"), "{why}");

    let mut show = Show::new(&format!("model={model}"));
    let told = bus(&show.h);
    let element = show.h.element().unwrap();
    let before = show.frame();
    element.set_property_from_str("sampler", "dbim");
    let why = text(&told, gst::MessageType::Warning);
    assert!(why.contains("stays") && why.contains("ot-ode"), "{why}");
    assert_eq!(show.frame(), before);
    let name = |element: &gst::Element| {
        let value = element.property_value("sampler");
        gst::glib::EnumValue::from_value(&value).unwrap().1.nick().to_owned()
    };
    assert_eq!(name(&element), "model");
    element.set_property_from_str("sampler", "ot-ode");
    assert_eq!((show.frame(), name(&element)), (before, "ot-ode".into()));
}
