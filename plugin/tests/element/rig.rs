// SPDX-License-Identifier: MIT OR Apache-2.0
//! A harness around one element, and buffers of every kind for it.

use gst::prelude::*;
use gst_video::VideoFrameExt;

/// A harness with `i2sbrestore` and these properties (as in gst-launch).
pub fn harness(properties: &str) -> gst_check::Harness {
    crate::null::init();
    let element =
        gst::parse::launch(&format!("i2sbrestore name=restore {properties}")).expect("a valid description");
    gst_check::Harness::with_element(&element, Some("sink"), Some("src"))
}

/// I420 caps at 25 frames per second.
pub fn i420(width: u32, height: u32) -> gst_video::VideoInfo {
    gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, height)
        .fps(gst::Fraction::new(25, 1))
        .build()
        .expect("caps")
}

/// A harness that plays 64×48 I420.
pub fn playing(properties: &str) -> (gst_check::Harness, gst_video::VideoInfo) {
    let mut h = harness(properties);
    let info = i420(64, 48);
    h.play();
    h.set_src_caps(info.to_caps().expect("caps"));
    (h, info)
}

/// A frame with all bytes of this value.
pub fn flat(info: &gst_video::VideoInfo, value: u8, index: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(vec![value; info.size()]);
    stamp(&mut buffer, index);
    buffer
}

/// Gives the element a bus of its own.
pub fn bus(h: &gst_check::Harness) -> gst::Bus {
    let bus = gst::Bus::new();
    h.element().expect("an element").set_bus(Some(&bus));
    bus
}

/// The next message of a kind, within ten seconds.
pub fn message(bus: &gst::Bus, kind: gst::MessageType) -> gst::Message {
    bus.timed_pop_filtered(10 * gst::ClockTime::SECOND, &[kind]).unwrap_or_else(|| panic!("no {kind:?}"))
}

/// Deterministic bytes that look like nothing.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A buffer with the caps' own strides, full of noise.
pub fn buffer(info: &gst_video::VideoInfo, seed: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(noise(info.size(), seed));
    stamp(&mut buffer, seed);
    buffer
}

/// A buffer with an offset in front, padded strides and a `GstVideoMeta` that says so.
pub fn padded(info: &gst_video::VideoInfo, seed: u64) -> gst::Buffer {
    let planes = info.n_planes() as usize;
    let (mut offset, mut stride) = (Vec::new(), Vec::new());
    let mut at = 24;
    for plane in 0..planes {
        // Whole 32-bit words, as some formats need.
        let padded = info.stride()[plane] + 16 * (plane as i32 + 1);
        let next =
            info.offset().get(plane + 1).copied().filter(|_| plane + 1 < planes).unwrap_or(info.size());
        let rows = (next - info.offset()[plane]).div_ceil(info.stride()[plane] as usize);
        offset.push(at);
        stride.push(padded);
        at += rows * padded as usize + 8;
    }
    let mut buffer = gst::Buffer::from_mut_slice(noise(at, seed));
    gst_video::VideoMeta::add_full(
        buffer.get_mut().expect("new"),
        gst_video::VideoFrameFlags::empty(),
        info.format(),
        info.width(),
        info.height(),
        &offset,
        &stride,
    )
    .expect("a description that fits");
    stamp(&mut buffer, seed);
    buffer
}

fn stamp(buffer: &mut gst::Buffer, index: u64) {
    let buffer = buffer.get_mut().expect("new");
    buffer.set_pts(index * 40 * gst::ClockTime::MSECOND);
    buffer.set_duration(40 * gst::ClockTime::MSECOND);
}

/// All bytes of a buffer.
pub fn bytes(buffer: &gst::BufferRef) -> Vec<u8> {
    buffer.map_readable().expect("readable").as_slice().to_vec()
}

/// Pulls the next buffer; fails instead of waiting for ever.
pub fn pull(harness: &mut gst_check::Harness) -> gst::Buffer {
    harness.pull_until_eos().expect("flowing").expect("a buffer before EOS")
}

/// The counters.
pub fn stats(harness: &gst_check::Harness) -> gst::Structure {
    harness.element().expect("an element").property("stats")
}

/// One counter.
pub fn count(harness: &gst_check::Harness, name: &str) -> u64 {
    stats(harness).get(name).expect("a counter")
}

/// Mean of the first component's samples of an 8-bit picture.
pub fn mean(info: &gst_video::VideoInfo, buffer: &gst::BufferRef) -> f64 {
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).expect("mappable");
    let (stride, data) = (frame.plane_stride()[0] as usize, frame.plane_data(0).expect("a plane"));
    let rows = data.chunks(stride).map(|row| &row[..info.width() as usize]);
    let sum: u64 = rows.flatten().map(|&v| u64::from(v)).sum();
    sum as f64 / f64::from(info.width() * info.height())
}

/// Those formats of the table that this GStreamer knows.
pub fn known_formats() -> impl Iterator<Item = &'static i2sb::pixel::PixelFormat> {
    i2sb::pixel::PIXEL_FORMATS.iter().filter(|format| format.name.parse::<gst_video::VideoFormat>().is_ok())
}
