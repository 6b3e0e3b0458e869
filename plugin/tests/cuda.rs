// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CUDA library through the plugin's loader, on the CPU: the library that cargo builds beside the
//! tests is whole but for CUDA.

use std::path::PathBuf;
use std::sync::Arc;

use gsti2sb::engine::cuda::{Choice, CudaError, Library, Remote};
use gsti2sb::engine::real::Real;
use gsti2sb::engine::{About, Engine, EngineError, Knobs, Picture};
use i2sb::Cancel;
use i2sb::device::DeviceName;
use i2sb::pixel::{Color, PixelFormat, Raw, View, add_difference, to_rgb};
use i2sb::preset::Preset;
use i2sb::restore::RestoreOptions;
use i2sb_cuda_abi::{Code, Knobs as AbiKnobs, Text};

fn library() -> Arc<Library> {
    let here = std::env::current_exe().unwrap();
    let path = here.with_file_name("libi2sb_cuda.so");
    Arc::new(Library::find(&[PathBuf::from("/nowhere/libi2sb-cuda.so"), path]).unwrap())
}

fn picture(width: usize, height: usize) -> Picture {
    let rgb = (0..3 * width * height).map(|i| (i * 7919 % 211) as f32 / 105.0 - 1.0).collect();
    Picture::new(width, height, rgb)
}

fn knobs(steps: u32, seed: u64) -> Knobs {
    Knobs { steps, sampler: String::new(), seed, frame: 0, tile: 0 }
}

fn on_cpu(preset: &Preset) -> Choice {
    Choice::new(preset, "cpu".into(), "f32".into())
}

#[test]
fn a_picture_has_the_bits_of_the_plugins_own_engine() {
    let preset = Preset::default_for_video().unwrap();
    let mut remote = Remote::open(library(), &on_cpu(&preset)).unwrap();
    let options = RestoreOptions { device: DeviceName::Cpu, ..RestoreOptions::default() };
    let mut own = Real::load(&preset, options).unwrap();
    assert_eq!(*remote.about(), About { raw: true, ..own.about().clone() });
    remote.warm_up(&Cancel::default()).unwrap();
    for (width, height, steps, seed) in [(33, 17, 0, 0), (1, 1, 0, 0), (40, 24, 2, 7)] {
        let (picture, knobs) = (picture(width, height), knobs(steps, seed));
        let got = remote.restore(&picture, &knobs, &Cancel::default()).unwrap();
        assert_eq!(got, own.restore(&picture, &knobs, &Cancel::default()).unwrap(), "{width}x{height}");
        assert_ne!(got, picture, "nothing was restored");
    }
}

#[test]
fn a_twin_has_the_same_bits_at_the_same_time() {
    let preset = Preset::default_for_video().unwrap();
    let mut one = Remote::open(library(), &on_cpu(&preset)).unwrap();
    let mut two = one.twin().unwrap().unwrap();
    assert_eq!(one.about(), two.about());
    let (a, b) = (picture(70, 50), picture(33, 17));
    let restore = |engine: &mut dyn Engine, picture: &Picture| {
        engine.restore(picture, &knobs(2, 7), &Cancel::default()).unwrap()
    };
    let want = [&a, &b].map(|picture| restore(&mut one, picture));
    let got = std::thread::scope(|scope| {
        let first = scope.spawn(|| restore(&mut one, &a));
        let second = restore(two.as_mut(), &b);
        [first.join().unwrap(), second]
    });
    assert!(got == want);
    drop(one);
    assert!(restore(two.as_mut(), &a) == want[0], "a twin outlives the other");
}

/// A slope in blocks of 8 by 8, as compression leaves them: something to restore, in steps of five bits, too.
fn frame(format: &str, width: usize, height: usize) -> Raw {
    let format = PixelFormat::named(format).unwrap();
    let view = View::packed(format, (width, height), height.div_ceil(1 << format.sub.1)).unwrap();
    let color = Color::new(format, (0.2126, 0.0722), false, (true, false));
    let blocks = |i: usize| 0.12 * ((i % width / 8 + i % (width * height) / width / 8) as f32) - 0.5;
    let want: Vec<f32> = (0..3 * width * height).map(blocks).collect();
    let mut bytes = vec![0; view.bytes()];
    let mut black = vec![0.0; want.len()];
    to_rgb(&view, &color, &bytes, &mut black);
    assert!(!add_difference(&view, &color, &mut bytes, &black, &want, 1.0));
    Raw { view, color, bytes }
}

#[test]
fn a_frame_in_its_own_format_has_the_bits_of_the_plugins_own_engine() {
    let preset = Preset::default_for_video().unwrap();
    let mut remote = Remote::open(library(), &on_cpu(&preset)).unwrap();
    let options = RestoreOptions { device: DeviceName::Cpu, ..RestoreOptions::default() };
    let mut own = Real::load(&preset, options).unwrap();
    for (format, width, height) in [
        ("NV12", 33, 17),
        ("Y444_16BE", 20, 9),
        ("RGB10A2_LE", 20, 9),
        ("RGB16", 40, 24),
        ("GRAY16_LE", 19, 5),
    ] {
        let before = frame(format, width, height);
        let (mut got, mut want) = (before.clone(), before.clone());
        let cancel = Cancel::default();
        assert!(!remote.restore_raw(&mut got, 0.75, &knobs(0, 0), &cancel).unwrap());
        assert!(!own.restore_raw(&mut want, 0.75, &knobs(0, 0), &cancel).unwrap());
        assert!(got == want, "{format}");
        assert!(got != before, "{format}: nothing was restored");
    }
}

#[test]
fn a_frame_that_is_refused_or_stopped_stays_as_it_was() {
    let preset = Preset::default_for_video().unwrap();
    let mut remote = Remote::open(library(), &on_cpu(&preset)).unwrap();
    let whole = frame("I420", 16, 16);
    let mut short = whole.clone();
    short.bytes.pop();
    let refused = remote.restore_raw(&mut short, 1.0, &knobs(0, 0), &Cancel::default()).unwrap_err();
    assert!(refused.to_string().contains("383 bytes instead of 384"), "{refused}");
    let cancel = Cancel::default();
    cancel.cancel();
    let mut stopped = whole.clone();
    let error = remote.restore_raw(&mut stopped, 1.0, &knobs(0, 0), &cancel);
    assert!(matches!(error, Err(EngineError::Cancelled)), "{error:?}");
    assert!(stopped == whole);
    let numbered = Knobs { frame: 3, ..knobs(0, 0) };
    let error = remote.restore_raw(&mut stopped, 1.0, &numbered, &Cancel::default()).unwrap_err();
    assert!(error.to_string().contains("noise"), "{error}");
}

#[test]
fn a_stop_reaches_through() {
    let preset = Preset::default_for_video().unwrap();
    let mut remote = Remote::open(library(), &on_cpu(&preset)).unwrap();
    let cancel = Cancel::default();
    cancel.cancel();
    let stopped = remote.restore(&picture(64, 64), &knobs(0, 0), &cancel);
    assert!(matches!(stopped, Err(EngineError::Cancelled)), "{stopped:?}");
    // Set while it works: the answer comes long before the picture would.
    let cancel = Cancel::default();
    let (later, large) = (cancel.clone(), picture(1536, 1536));
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        later.cancel();
    });
    let stopped = remote.restore(&large, &knobs(20, 0), &cancel);
    stopper.join().unwrap();
    assert!(matches!(stopped, Err(EngineError::Cancelled)), "{stopped:?}");
}

#[test]
fn refusals_carry_the_librarys_words() {
    let library = library();
    let cases = [
        ("", "cuda:0", "f32", Code::Device, "cuda:0"),
        ("", "gpu", "f32", Code::Setting, "device is gpu"),
        ("", "cpu", "f8", Code::Setting, "precision is f8"),
        ("no-such-preset", "cpu", "f32", Code::Setting, "no-such-preset"),
    ];
    for (preset, device, precision, wanted, word) in cases {
        match library.open(preset, 0.0, device, precision).unwrap_err() {
            CudaError::Refused { code, reason } => {
                assert_eq!(code, wanted, "{reason}");
                assert!(reason.contains(word), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(library.status("cpu").unwrap().contains("cpu"));
    let preset = Preset::default_for_video().unwrap();
    let other = Choice { hash: "0".repeat(64), ..on_cpu(&preset) };
    let Err(error) = Remote::open(library, &other) else { panic!("other weights were taken") };
    assert!(error.to_string().contains("other weights"), "{error}");
}

#[test]
fn lengths_that_do_not_fit_never_reach_the_library() {
    let library = library();
    let mut engine = library.open("", 0.0, "cpu", "f32").unwrap();
    let knobs = AbiKnobs { steps: 0, tile: 0, seed: 0, sampler: Text::of("") };
    for (size, input, output) in
        [((2, 2), 11, 12), ((2, 2), 12, 11), ((usize::MAX, 2), 12, 12), ((0, 0), 0, 0)]
    {
        let (input, mut output) = (vec![0.0; input], vec![0.0; output]);
        let refused = library.restore(&mut engine, size, &input, &mut output, knobs, &Cancel::default());
        assert!(matches!(refused, Err(CudaError::Refused { code: Code::Misused, .. })), "{refused:?}");
    }
    library.free(engine);
}

/// Through the element: the error on the bus names every place, and `cuda` says it too.
#[test]
fn the_element_says_where_it_searched() {
    use gst::prelude::*;
    gst::init().unwrap();
    gsti2sb::plugin_register_static().unwrap();
    let element = gst::ElementFactory::make("i2sbrestore").property("device", "cuda:0").build().unwrap();
    let status: String = element.property("cuda");
    assert!(status.starts_with("not available: "), "{status}");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Ready).is_err());
    let message = bus.timed_pop_filtered(10 * gst::ClockTime::SECOND, &[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    assert!(error.error().matches(gst::ResourceError::NotFound), "{error:?}");
    let text = error.error().to_string();
    // The library beside the tests is found beside the program, and is one without CUDA.
    assert!(text.contains("cuda:0"), "{text}");
    element.set_property("device", "auto");
    element.set_state(gst::State::Ready).unwrap();
    element.set_state(gst::State::Null).unwrap();
}
