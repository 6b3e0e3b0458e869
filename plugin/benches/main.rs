// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the element costs beside the engine: pixels alone, and whole frames at 1080p.
//!
//! `cargo bench -p gst-plugin-i2sb -- [PRESET]`: with a preset's folder that one, else one with
//! random weights of a size that runs in real time on few machines.

use std::time::{Duration, Instant};

use gst::prelude::*;
use i2sb::Cancel;
use i2sb::pixel::{Color, PixelFormat, View, add_difference, to_rgb};
use i2sb::preset::Preset;
use i2sb::restore::{Request, RestoreOptions, Restorer};

#[path = "../tests/element/preset.rs"]
mod preset;

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
/// Frames of one measurement.
const FRAMES: usize = 8;
/// Pairs of measurements, engine and element in turn.
const ROUNDS: usize = 5;

fn main() {
    pixels();
    if std::env::args().any(|arg| arg == "pixels") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let given = std::env::args().nth(1).filter(|arg| !arg.starts_with("--"));
    // cargo runs benches in the package's folder; paths are meant from the workspace's root.
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = given.map_or_else(|| preset::write(folder.path()), |given| root.join(given));
    whole(&path);
}

fn best(mut work: impl FnMut()) -> Duration {
    let mut once = || {
        let start = on_cpu();
        work();
        on_cpu() - start
    };
    (0..12).map(|_| once()).min().unwrap_or_default()
}

/// Time this thread has run: on a machine with other work, the honest figure.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default())
}

fn time(mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn pixels() {
    println!(
        "{:<14} {:>12} {:>12}   ms per 1080p frame, one thread, best of 12",
        "format", "decode", "write back"
    );
    for name in ["I420", "NV12", "Y42B", "Y444", "I420_10LE", "P010_10LE", "YUY2", "v210", "BGRx", "GBR_12LE"]
    {
        let format = PixelFormat::named(name).expect("in the table");
        let row = WIDTH * 8;
        let mut bytes: Vec<u8> = (0..3 * row * HEIGHT).map(|i| ((i * 7919) >> 5) as u8 & 3).collect();
        let (offset, stride) = ([0, row * HEIGHT, 2 * row * HEIGHT, 0], [row; 4]);
        let view = View::new(format, (WIDTH, HEIGHT), offset, stride, bytes.len()).expect("fits");
        let color = Color::new(format, (0.2126, 0.0722), false, (true, false));
        let mut rgb = vec![0.0; 3 * WIDTH * HEIGHT];
        let decode = best(|| to_rgb(&view, &color, &bytes, &mut rgb));
        let restored: Vec<f32> = rgb.iter().map(|v| v + 0.01).collect();
        let encode = best(|| {
            add_difference(&view, &color, &mut bytes, &rgb, &restored, 1.0);
        });
        println!("{name:<14} {:>12.2} {:>12.2}", decode.as_secs_f64() * 1e3, encode.as_secs_f64() * 1e3);
    }
}

/// Processor time of the whole process, all threads, in seconds.
fn process_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    // Fields 14 and 15 of the line, in hundredths of a second.
    fields.get(11).unwrap_or(&0.0) / 100.0 + fields.get(12).unwrap_or(&0.0) / 100.0
}

/// The same frames through the bare engine and through the element, in turn.
fn whole(path: &std::path::Path) {
    gst::init().expect("GStreamer starts");
    gsti2sb::plugin_register_static().expect("the plugin registers");
    let opened = Preset::open(path).expect("a preset");
    let restorer = Restorer::new(&opened, RestoreOptions::default()).expect("a network");
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, WIDTH as u32, HEIGHT as u32)
        .fps(gst::Fraction::new(25, 1))
        .build()
        .expect("caps");
    let frames: Vec<gst::Buffer> = (0..FRAMES).map(|index| frame(&info, index)).collect();
    let pictures: Vec<Vec<f32>> = frames.iter().map(|frame| decode(&info, frame)).collect();

    let element = gst::ElementFactory::make("i2sbrestore").build().expect("registered");
    element.set_property("model", path.to_str().expect("UTF-8"));
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    harness.play();
    harness.set_src_caps(info.to_caps().expect("caps"));
    let (mut shares, mut works) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let start = process_cpu();
        let engine = time(|| {
            for rgb in &pictures {
                let done = restorer.restore(rgb, WIDTH, HEIGHT, &Request::default(), &Cancel::default());
                std::hint::black_box(done.expect("restored"));
            }
        });
        let middle = process_cpu();
        let element = time(|| {
            let mut left = FRAMES;
            for frame in &frames {
                // A copy of the structure: the element copies the memory, as for a decoder's picture.
                harness.push(frame.copy()).expect("flowing");
                while harness.try_pull().is_some() {
                    left -= 1;
                }
            }
            for _ in 0..left {
                harness.pull().expect("a frame");
            }
        });
        let work = 100.0 * (middle - start) / (process_cpu() - middle);
        let (engine, element) = (engine.as_secs_f64(), element.as_secs_f64());
        let share = 100.0 * engine / element;
        let rate = |seconds: f64| FRAMES as f64 / seconds;
        println!(
            "round {round}: engine {:.3} frames/s, element {:.3} frames/s, {share:.1} %; by processor time {work:.1} %{}",
            rate(engine),
            rate(element),
            if round == 0 { " (warm-up, not counted)" } else { "" }
        );
        if round > 0 {
            shares.push(share);
            works.push(work);
        }
    }
    shares.sort_by(f64::total_cmp);
    works.sort_by(f64::total_cmp);
    println!(
        "median of {ROUNDS}: {:.1} % of the bare engine's frames per second, {:.1} % by processor time; {}",
        shares[ROUNDS / 2],
        works[ROUNDS / 2],
        restorer.about()
    );
}

fn frame(info: &gst_video::VideoInfo, index: usize) -> gst::Buffer {
    let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8 % 32;
    let bytes: Vec<u8> = (0..info.size()).map(|i| 100 + noise(i + 977 * index)).collect();
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    buffer.get_mut().expect("new").set_pts(index as u64 * 40 * gst::ClockTime::MSECOND);
    buffer
}

fn decode(info: &gst_video::VideoInfo, frame: &gst::Buffer) -> Vec<f32> {
    let format = PixelFormat::named("I420").expect("in the table");
    let map = frame.map_readable().expect("readable");
    let (offset, stride) = (info.offset(), info.stride());
    let offset = [offset[0], offset[1], offset[2], 0];
    let stride = [stride[0] as usize, stride[1] as usize, stride[2] as usize, 0];
    let view = View::new(format, (WIDTH, HEIGHT), offset, stride, map.len()).expect("fits");
    let color = Color::new(format, (0.2126, 0.0722), false, (true, false));
    let mut rgb = vec![0.0; 3 * WIDTH * HEIGHT];
    to_rgb(&view, &color, &map, &mut rgb);
    rgb
}
