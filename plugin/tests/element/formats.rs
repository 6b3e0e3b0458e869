// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every format of the pad template, in odd sizes, padded strides, progressive and in fields.

use std::str::FromStr;

use gst::prelude::*;
use gst_video::prelude::*;
use i2sb::pixel::{Color, Model, View, to_rgb};

use crate::rig::{buffer, bytes, harness, known_formats, padded, pull};

/// Tiles of hardware, palettes, and 4:1:1 packed in threes; not every GStreamer knows each.
const MISSING: [&str; 11] = [
    "NV12_10BE_8L128",
    "NV12_10LE40_4L4",
    "NV12_8L128",
    "NV12_64Z32",
    "NV12_4L4",
    "NV12_32L32",
    "NV12_16L32S",
    "MT2110R",
    "MT2110T",
    "IYU1",
    "RGB8P",
];

pub const SIZES: [(u32, u32); 5] = [(1, 1), (2, 3), (17, 13), (64, 48), (129, 35)];

pub fn info(
    name: &str,
    width: u32,
    height: u32,
    mode: gst_video::VideoInterlaceMode,
) -> gst_video::VideoInfo {
    let format = gst_video::VideoFormat::from_str(name).expect("a format of this GStreamer");
    gst_video::VideoInfo::builder(format, width, height)
        .fps(gst::Fraction::new(25, 1))
        .interlace_mode(mode)
        .build()
        .expect("caps")
}

/// Pushes frames of every format and size through and says whether all came out as they went in.
fn unchanged(properties: &str, mode: gst_video::VideoInterlaceMode) {
    let mut h = harness(properties);
    let (mut seed, mut frames) = (0, Vec::new());
    let bus = gst::Bus::new();
    h.element().expect("an element").set_bus(Some(&bus));
    h.play();
    for format in known_formats() {
        for (width, height) in SIZES {
            let info = info(format.name, width, height, mode);
            h.set_src_caps(info.to_caps().expect("caps"));
            for make in [buffer, padded] {
                let mut frame = make(&info, seed);
                // Mixed content has frames of both kinds.
                if mode == gst_video::VideoInterlaceMode::Mixed && seed % 2 == 0 {
                    frame.get_mut().expect("new").set_video_flags(gst_video::VideoBufferFlags::INTERLACED);
                }
                frames.push((format.name, width, height, bytes(&frame), frame.pts()));
                if h.push(frame).is_err() {
                    panic!(
                        "{} {width}x{height}: {:?}",
                        format.name,
                        bus.pop_filtered(&[gst::MessageType::Error])
                    );
                }
                seed += 1;
            }
            while let Some(out) = h.try_pull() {
                let (name, width, height, input, pts) = frames.remove(0);
                assert_eq!(out.pts(), pts);
                assert!(bytes(&out) == input, "{name} {width}x{height} changed");
            }
        }
    }
    h.push_event(gst::event::Eos::new());
    for (name, width, height, input, _) in frames {
        assert!(bytes(&pull(&mut h)) == input, "{name} {width}x{height} changed");
    }
}

/// Every way in which rows are shared out to pictures.
pub const MODES: [gst_video::VideoInterlaceMode; 4] = [
    gst_video::VideoInterlaceMode::Progressive,
    gst_video::VideoInterlaceMode::Interleaved,
    gst_video::VideoInterlaceMode::Mixed,
    gst_video::VideoInterlaceMode::Alternate,
];

#[test]
fn strength_zero_is_the_identity() {
    for mode in MODES {
        unchanged("model=null:add strength=0", mode);
    }
}

#[test]
fn next_to_no_strength_is_the_identity_behind_the_engine_too() {
    // With none at all no engine is asked.
    for mode in MODES {
        unchanged("model=null:add strength=0.000001", mode);
    }
}

#[test]
fn what_the_network_leaves_alone_is_the_identity() {
    for mode in MODES {
        unchanged("model=null:identity", mode);
        unchanged("model=null:raw:identity", mode);
    }
}

#[test]
fn the_pads_take_every_format_but_these() {
    crate::null::init();
    let factory = gst::ElementFactory::find("i2sbrestore").unwrap();
    for template in factory.static_pad_templates() {
        let caps = template.caps();
        let missing: Vec<_> = gst_video::VideoFormat::iter_raw()
            .filter(|format| {
                let one = gst_video::VideoCapsBuilder::new().format(*format).build();
                !caps.can_intersect(&one)
            })
            .map(|format| format.to_str().to_string())
            .collect();
        let names = gst_video::VideoFormat::iter_raw().map(|format| format.to_str().to_string());
        let expected: Vec<_> = names.filter(|name| MISSING.contains(&name.as_str())).collect();
        assert!(missing == expected && expected.len() >= 8, "{}: {missing:?}", template.name_template());
        assert!(known_formats().count() >= 103, "{}", known_formats().count());
    }
}

#[test]
fn a_tiny_strength_rounds_to_the_identity() {
    // Through the engine and the write-back, with a difference below half a step of 8 bits.
    let mut h = harness("model=null:add strength=0.01");
    let info = info("I420", 33, 21, gst_video::VideoInterlaceMode::Progressive);
    h.play();
    h.set_src_caps(info.to_caps().unwrap());
    let frame = buffer(&info, 1);
    let input = bytes(&frame);
    h.push(frame).unwrap();
    assert_eq!(bytes(&pull(&mut h)), input);
}

/// GStreamer's own unpack function as the reference for every layout.
#[test]
fn samples_are_where_gstreamer_finds_them() {
    crate::null::init();
    for format in known_formats() {
        let info = info(format.name, 16, 4, gst_video::VideoInterlaceMode::Progressive);
        // Twice the size: the binding's check of chroma planes counts luma rows.
        let data = crate::rig::noise(2 * info.size(), 7);
        let details = info.format_info();
        let mut offset = [0; 4];
        let mut stride = [0; 4];
        for plane in 0..info.n_planes() as usize {
            offset[plane] = info.offset()[plane];
            stride[plane] = info.stride()[plane] as usize;
        }
        let view = View::new(format, (16, 4), offset, stride, data.len()).unwrap();
        // Full range without a matrix shows the samples themselves.
        let color = Color::new(format, (0.299, 0.114), true, (true, true));
        let unpacked = gst_video::VideoFormatInfo::from_format(details.unpack_format());
        let wide = unpacked.depth()[0] == 16;
        for y in 0..4usize {
            let mut line = vec![0u8; 16 * 8];
            let mut planes: Vec<&[u8]> = (0..info.n_planes() as usize).map(|p| &data[offset[p]..]).collect();
            planes.truncate(info.n_planes() as usize);
            let strides: Vec<i32> = info.stride()[..info.n_planes() as usize].to_vec();
            details.unpack(
                gst_video::VideoPackFlags::TRUNCATE_RANGE,
                &mut line,
                &planes,
                &strides,
                0,
                y as i32,
                16,
            );
            for index in 0..format.count() {
                let component = format.components[index];
                let row = if index == 0 { y } else { y >> format.sub.1 };
                let mut samples = vec![0.0; view.columns(index)];
                i2sb::pixel::row::read(
                    format.packing,
                    component,
                    &data[view.row_range(index, row)],
                    &mut samples,
                );
                for (i, sample) in samples.iter().enumerate() {
                    let x = if index == 0 { i } else { i << format.sub.0 };
                    let at = 4 * x + index + 1;
                    let reference = match wide {
                        true => {
                            u32::from(u16::from_ne_bytes([line[2 * at], line[2 * at + 1]]))
                                >> (16 - component.depth)
                        }
                        false => u32::from(line[at]) >> (8 - component.depth),
                    };
                    assert_eq!(
                        *sample, reference as f32,
                        "{} component {index} row {y} sample {i}",
                        format.name
                    );
                }
            }
        }
        let mut rgb = vec![0.0; 3 * 64];
        to_rgb(&view, &color, &data, &mut rgb);
        assert!(rgb.iter().all(|v| (-1.0..=1.0).contains(v)));
    }
}

/// GStreamer's converter as the reference for matrix and range.
#[test]
fn colours_are_what_gstreamer_makes_of_them() {
    crate::null::init();
    let cases =
        ["I420", "Y444", "NV12", "Y42B", "YUY2", "AYUV", "P010_10LE", "Y444_16LE", "GRAY8", "BGRx", "v210"];
    for (name, colorimetry) in
        cases.iter().flat_map(|name| ["bt601", "bt709", "1:1:5:1", "bt2020-10"].map(|c| (*name, c)))
    {
        let format = i2sb::pixel::PixelFormat::named(name).unwrap();
        let rgb_model = format.model == Model::Rgb;
        if (rgb_model || format.model == Model::Gray) && colorimetry != "bt709" {
            continue;
        }
        let mut builder =
            gst_video::VideoInfo::builder(gst_video::VideoFormat::from_str(name).unwrap(), 32, 8);
        let colorimetry = gst_video::VideoColorimetry::from_str(colorimetry).unwrap();
        if !rgb_model {
            builder = builder.colorimetry(&colorimetry);
        }
        let info = builder.build().unwrap();
        // A flat colour per frame: resampling of chroma plays no part.
        for seed in 0..6 {
            let mut data = vec![0u8; info.size()];
            let (mut offset, mut stride) = ([0; 4], [0; 4]);
            for plane in 0..info.n_planes() as usize {
                offset[plane] = info.offset()[plane];
                stride[plane] = info.stride()[plane] as usize;
            }
            let view = View::new(format, (32, 8), offset, stride, data.len()).unwrap();
            for index in 0..format.count() {
                let component = format.components[index];
                let level =
                    (0.3 + 0.07 * ((seed + 2 * index) % 6) as f32) * ((1 << component.depth) - 1) as f32;
                for row in 0..view.rows(index) {
                    let level = vec![level.round(); view.columns(index)];
                    i2sb::pixel::row::add(
                        format.packing,
                        component,
                        &mut data[view.row_range(index, row)],
                        &level,
                    );
                }
            }
            let caps = info.to_caps().unwrap();
            let parsed = gst_video::VideoInfo::from_caps(&caps).unwrap();
            let ours = {
                let (kr, kb) = parsed.colorimetry().matrix().kr_kb().unwrap_or((0.299, 0.114));
                let full = parsed.colorimetry().range() == gst_video::VideoColorRange::Range0_255;
                let color = Color::new(format, (kr as f32, kb as f32), full, (true, false));
                let mut rgb = vec![0.0; 3 * 32 * 8];
                to_rgb(&view, &color, &data, &mut rgb);
                [rgb[100], rgb[256 + 100], rgb[512 + 100]]
            };
            let to = gst_video::VideoInfo::builder(gst_video::VideoFormat::Argb64, 32, 8).build().unwrap();
            let mut config = gst_video::VideoConverterConfig::new();
            config.set_matrix_mode(gst_video::VideoMatrixMode::Full);
            config.set_primaries_mode(gst_video::VideoPrimariesMode::None);
            config.set_gamma_mode(gst_video::VideoGammaMode::None);
            config.set_dither_method(gst_video::VideoDitherMethod::None);
            let converter = gst_video::VideoConverter::new(&parsed, &to, Some(config)).unwrap();
            let source = gst::Buffer::from_mut_slice(data);
            let source = gst_video::VideoFrame::from_buffer_readable(source, &parsed).unwrap();
            let target = gst::Buffer::with_size(to.size()).unwrap();
            let mut target = gst_video::VideoFrame::from_buffer_writable(target, &to).unwrap();
            converter.frame(&source, &mut target);
            let pixel = &target.plane_data(0).unwrap()[8 * 100..8 * 101];
            let word = |i: usize| f32::from(u16::from_ne_bytes([pixel[2 * i], pixel[2 * i + 1]]));
            for (index, ours) in ours.iter().enumerate() {
                let theirs = word(index + 1) / 65535.0 * 2.0 - 1.0;
                // Their 8-bit path rounds twice, and 10 bits are widened by repeating bits.
                let tolerance = if format.depth() == 8 { 0.016 } else { 0.004 };
                assert!((ours - theirs).abs() < tolerance, "{name} {colorimetry}: {index} {ours} {theirs}");
            }
        }
    }
}
