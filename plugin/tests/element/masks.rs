// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where nothing may change nothing does, in any format; where to fill in is filled in, and nothing else.

use std::str::FromStr;

use gst::prelude::*;
use gst_video::video_meta::VideoRegionOfInterestMeta;
use i2sb::pixel::{Color, PIXEL_FORMATS, View, to_rgb};

use crate::rig::{buffer, bus, bytes, harness, known_formats, message, pull};

const SIZE: (usize, usize) = (40, 24);
/// The marked part: columns and rows.
const PART: (std::ops::Range<usize>, std::ops::Range<usize>) = (7..20, 5..18);

fn marked(x: usize, y: usize) -> bool {
    PART.0.contains(&x) && PART.1.contains(&y)
}

/// A mask of this size in a file.
fn mask((width, height): (usize, usize)) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    let plane: Vec<f32> =
        (0..width * height).map(|i| if marked(i % width, i / width) { 1.0 } else { -1.0 }).collect();
    let picture = i2sb::picture::Picture::new(width, height, plane.repeat(3)).unwrap();
    picture.save(file.path(), i2sb::picture::SaveOptions::default()).unwrap();
    file
}

/// One frame of noise before and after, and each pixel of both in R'G'B'.
fn run(properties: &str, caps: &str, region: Option<&str>) -> [Vec<f32>; 2] {
    let mut h = harness(properties);
    h.play();
    let caps: gst::Caps = caps.parse().unwrap();
    h.set_src_caps(caps.clone());
    let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
    let mut frame = buffer(&info, 3);
    if let Some(kind) = region {
        let area = (PART.0.start as u32, PART.1.start as u32, PART.0.len() as u32, PART.1.len() as u32);
        VideoRegionOfInterestMeta::add(frame.get_mut().unwrap(), kind, area);
    }
    let before = bytes(&frame);
    h.push(frame).unwrap();
    let after = bytes(&pull(&mut h));
    let format = PIXEL_FORMATS.iter().find(|f| f.name == info.format().to_str()).unwrap();
    let (mut offset, mut stride) = ([0; 4], [0; 4]);
    info.offset().iter().zip(&mut offset).for_each(|(from, to)| *to = *from);
    info.stride().iter().zip(&mut stride).for_each(|(from, to)| *to = *from as usize);
    let view = View::new(format, SIZE, offset, stride, before.len()).unwrap();
    // Chroma in the middle, where both neighbours count.
    let color = Color::new(format, (0.2126, 0.0722), true, (false, false));
    [before, after].map(|bytes| {
        let mut rgb = vec![0.0; 3 * view.pixels()];
        to_rgb(&view, &color, &bytes, &mut rgb);
        rgb
    })
}

fn caps(format: &str) -> String {
    let fields = "colorimetry=bt709,framerate=25/1";
    format!("video/x-raw,format={format},width={},height={},{fields}", SIZE.0, SIZE.1)
}

/// Pixels that differ: inside and outside of the marked part.
fn changed([before, after]: &[Vec<f32>; 2]) -> (usize, usize) {
    let mut counts = (0, 0);
    let plane = SIZE.0 * SIZE.1;
    for i in 0..plane {
        if (0..3).any(|c| before[c * plane + i].to_bits() != after[c * plane + i].to_bits()) {
            let inside = marked(i % SIZE.0, i / SIZE.0);
            *(if inside { &mut counts.0 } else { &mut counts.1 }) += 1;
        }
    }
    counts
}

#[test]
fn protected_samples_stay_in_every_format() {
    crate::null::init();
    let file = mask(SIZE);
    let properties = format!("model=null:add protect-mask={}", file.path().display());
    for format in known_formats() {
        if gst_video::VideoFormat::from_str(format.name).is_err() {
            continue;
        }
        let (inside, outside) = changed(&run(&properties, &caps(format.name), None));
        assert_eq!(inside, 0, "{}", format.name);
        assert!(outside > 100, "{}: {outside}", format.name);
    }
    let fields = format!("{},interlace-mode=interleaved", caps("I420"));
    let (inside, outside) = changed(&run(&properties, &fields, None));
    assert!(inside == 0 && outside > 100, "{inside} {outside}");
}

#[test]
fn regions_of_the_named_type_are_protected() {
    let of = |properties, kind| changed(&run(properties, &caps("I420"), Some(kind))).0;
    assert_eq!(of("model=null:add", "i2sb-protect"), 0);
    assert!(of("model=null:add", "face") > 100);
    assert_eq!(of("model=null:add protect-roi=face", "face"), 0);
    assert!(of("model=null:add protect-roi=\"\"", "i2sb-protect") > 100);
}

#[test]
fn the_hole_is_filled_and_nothing_else() {
    let file = mask(SIZE);
    for (model, protect) in [("null:fill", false), ("", false), ("null:fill", true)] {
        let mut properties = format!("inpaint-mask={}", file.path().display());
        if !model.is_empty() {
            properties += &format!(" model={model}");
        }
        if protect {
            properties += &format!(" protect-mask={}", file.path().display());
        }
        for fields in ["", ",interlace-mode=interleaved"] {
            // Full range: white is 255.
            let full = caps("RGB").replace("bt709", "sRGB");
            let both = run(&properties, &format!("{full}{fields}"), None);
            let (inside, outside) = changed(&both);
            // What is protected is so before all else.
            assert!(outside == 0 && (inside == 0) == protect, "{properties}{fields}: {inside} {outside}");
            if model == "null:fill" && !protect {
                let plane = SIZE.0 * SIZE.1;
                let white = (0..plane).filter(|i| marked(i % SIZE.0, i / SIZE.0)).all(|i| both[1][i] > 0.999);
                assert!(white, "{fields}");
            }
        }
    }
}

/// The text of the error on the bus.
fn told(bus: &gst::Bus) -> String {
    let message = message(bus, gst::MessageType::Error);
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    error.error().to_string()
}

#[test]
fn a_mask_that_cannot_be_used_is_named() {
    let small = mask((8, 8));
    let mut h = harness(&format!("model=null:add protect-mask={}", small.path().display()));
    let bus_ = bus(&h);
    h.play();
    let info = gst_video::VideoInfo::from_caps(&caps("I420").parse::<gst::Caps>().unwrap()).unwrap();
    h.set_src_caps(info.to_caps().unwrap());
    assert!(h.push(buffer(&info, 0)).is_err());
    let text = told(&bus_);
    assert!(text.contains("8x8") && text.contains("40x24") && text.contains("protect-mask"), "{text}");
    let element = gst::parse::launch("i2sbrestore model=null:add inpaint-mask=/no/such.png").unwrap();
    let bus_ = gst::Bus::new();
    element.set_bus(Some(&bus_));
    assert!(element.set_state(gst::State::Paused).is_err());
    let text = told(&bus_);
    assert!(text.contains("/no/such.png"), "{text}");
    element.set_state(gst::State::Null).unwrap();
}
