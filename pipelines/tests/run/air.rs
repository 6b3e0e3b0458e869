// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transport streams whose frames carry something, made and looked into: captions, active format and time code
//! frame by frame.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::video_meta::{VideoAFDMeta, VideoCaptionMeta};
use gst_video::{ValidVideoTimeCode, VideoTimeCode, VideoTimeCodeFlags, VideoTimeCodeMeta};

use crate::rig::{HERE, LIMIT, gst_pipeline, runner};

/// How the streams of tests are coded; x264's parameters are those of its documentation.
pub const H264: &str =
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=12 option-string=pic-struct=1";
pub const MPEG2: &str = "mpeg2enc format=3 constraints=false bitrate=10500 bufsize=224 b-per-refframe=0 min-gop-size=6 max-gop-size=6";
pub const HEVC: &str = "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=12 log-level=none";

/// What a stream is.
#[derive(Clone, Copy)]
pub struct Kind {
    pub encoder: &'static str,
    pub parser: &'static str,
    /// Of the raw caps.
    pub scan: &'static str,
    pub fps: i32,
    /// Further properties of the encoder.
    pub more: &'static str,
}

pub const TOP_FIRST: &str = ",interlace-mode=interleaved,field-order=top-field-first";
pub const BOTTOM_FIRST: &str = ",interlace-mode=interleaved,field-order=bottom-field-first";

impl Kind {
    pub fn h264(scan: &'static str, fps: i32) -> Self {
        let more = if scan.is_empty() { "" } else { "interlaced=true" };
        Self { encoder: H264, parser: "h264parse", scan, fps, more }
    }

    pub fn mpeg2(scan: &'static str, fps: i32) -> Self {
        let more = match scan {
            "" => "interlace-mode=0",
            TOP_FIRST => "interlace-mode=1 playback-field-order=1",
            _ => "interlace-mode=1 playback-field-order=2",
        };
        Self { encoder: MPEG2, parser: "mpegvideoparse", scan, fps, more }
    }

    pub fn hevc(fps: i32) -> Self {
        Self { encoder: HEVC, parser: "h265parse", scan: "", fps, more: "" }
    }
}

/// Odd parity, as line 21 has it.
fn parity(byte: u8) -> u8 {
    if byte.count_ones() % 2 == 0 { byte | 0x80 } else { byte }
}

pub const TEXT: &str = "GOOD EVENING";
/// Frames in which [`TEXT`] is sent once.
pub const CAPTION: usize = 14;

/// `cc_data` of each frame: a caption of CEA-608 that pops on, again and again, and beside it a packet of CEA-708.
pub fn captions(frame: usize) -> Vec<u8> {
    let text: Vec<[u8; 2]> = TEXT.as_bytes().chunks(2).map(|two| [parity(two[0]), parity(two[1])]).collect();
    // Resume caption loading; row 15; the text; end of caption. Controls are sent twice.
    let mut pairs = vec![[0x94, 0x20], [0x94, 0x20], [0x94, 0x70], [0x94, 0x70]];
    pairs.extend(text);
    pairs.extend([[0x94, 0x2f], [0x94, 0x2f], [0x80, 0x80], [0x80, 0x80]]);
    assert_eq!(pairs.len(), CAPTION);
    let [a, b] = pairs[frame % CAPTION];
    // Header: sequence number and size of 4 pairs; service 1 with 5 bytes: show window 0, clear, two letters.
    let header = (frame as u8 % 4) << 6 | 4;
    let packet = [header, 1 << 5 | 5, 0x80, 0x89, 0x01, b'A' + (frame % 26) as u8, 0x03, 0x00];
    let mut data = vec![0xfc, a, b, 0xfd, 0x80, 0x80];
    for (index, two) in packet.chunks(2).enumerate() {
        data.extend([if index == 0 { 0xff } else { 0xfe }, two[0], two[1]]);
    }
    data
}

/// The text that pops on, as a decoder of line 21 reads it.
pub fn read_608(data: &[Vec<u8>]) -> Vec<String> {
    let (mut texts, mut text) = (Vec::new(), String::new());
    for pair in data.iter().flat_map(|data| data.chunks(3)).filter(|triplet| triplet[0] == 0xfc) {
        match [pair[1] & 0x7f, pair[2] & 0x7f] {
            [0x14, 0x2f] if !text.is_empty() => texts.push(std::mem::take(&mut text)),
            [a, b] if a >= 0x20 => text.extend([a as char, b as char]),
            _ => {}
        }
    }
    texts
}

/// Active format of a frame.
pub fn format(frame: usize) -> u8 {
    [8, 9, 10, 11, 13, 14, 15, 4][frame % 8]
}

fn fps(kind: Kind) -> gst::Fraction {
    gst::Fraction::new(kind.fps, 1)
}

/// Ten o'clock, and so many frames.
pub fn timecode(kind: Kind, frame: usize) -> ValidVideoTimeCode {
    let code = VideoTimeCode::new(fps(kind), None, VideoTimeCodeFlags::empty(), 9, 59, 59, 20, 0);
    let mut code: ValidVideoTimeCode = code.try_into().unwrap();
    code.add_frames(frame as i64);
    code
}

/// What GStreamer's encoders leave out, as literal bytes of the standards before the first slice.
fn written(kind: Kind, frame: usize) -> Vec<u8> {
    let afd = [&b"DTG1\x41"[..], &[0xf0 | format(frame)]].concat();
    let data = captions(frame);
    let cc = [&b"GA94\x03"[..], &[0xc0 | (data.len() / 3) as u8, 0xff], &data, &[0xff]].concat();
    let sei = |header: &[u8], data: &[u8]| {
        [&[0, 0, 0, 1], header, &[4, 3 + data.len() as u8, 0xb5, 0, 0x31], data, &[0x80]].concat()
    };
    match kind.parser {
        "h264parse" => sei(&[6], &afd),
        "h265parse" => {
            let code = timecode(kind, frame);
            // num_clock_ts 1, its flag, no fields, counting 0, full, no breaks; frames; seconds, minutes, hours;
            // no offset.
            let bits: u64 = [(2, 1), (1, 1), (1, 0), (5, 0), (1, 1), (1, 0), (1, 0), (9, code.frames())]
                .into_iter()
                .chain([(6, code.seconds()), (6, code.minutes()), (5, code.hours()), (5, 0), (5, 0b10000)])
                .fold(0, |bits, (count, value)| bits << count | u64::from(value));
            let code = [&[0, 0, 0, 1, 0x4e, 1, 136, 6][..], &bits.to_be_bytes()[2..], &[0x80]].concat();
            assert!(!code[6..].windows(3).any(|three| three[0] == 0 && three[1] == 0 && three[2] < 4));
            [code, sei(&[0x4e, 1], &afd), sei(&[0x4e, 1], &cc)].concat()
        }
        _ => [&[0, 0, 1, 0xb2], &afd[..], &[0, 0, 1, 0xb2], &cc[..]].concat(),
    }
}

/// Where the first slice begins.
fn first_slice(kind: Kind, unit: &[u8]) -> usize {
    let is_slice = |header: u8| match kind.parser {
        "h264parse" => (1..=5).contains(&(header & 31)),
        "h265parse" => header >> 1 & 63 < 32,
        _ => header == 1,
    };
    let at = unit.windows(4).position(|four| four[..3] == [0, 0, 1] && is_slice(four[3]));
    let at = at.expect("a picture has slices");
    if at > 0 && unit[at - 1] == 0 { at - 1 } else { at }
}

/// Writes a transport stream with sound whose every frame carries captions, format and time code.
pub fn make(kind: Kind, frames: usize, size: (u32, u32), path: &Path) {
    let form = match kind.parser {
        "h264parse" => "! capsfilter caps=video/x-h264,stream-format=byte-stream,alignment=au",
        "h265parse" => "! capsfilter caps=video/x-h265,stream-format=byte-stream,alignment=au",
        _ => "",
    };
    let update =
        if kind.parser == "h264parse" { "update-timecode=true disable-passthrough=true" } else { "" };
    let pipeline = gst_pipeline(&format!(
        "videotestsrc pattern=ball num-buffers={frames} ! video/x-raw,format=I420,width={},height={},framerate={}/1{} \
         ! identity name=raw ! {} {} ! {} {update} {form} ! identity name=coded ! mpegtsmux name=m \
         ! filesink location={} audiotestsrc num-buffers={} samplesperbuffer=1920 ! audio/x-raw,rate=48000,channels=1 \
         ! avenc_mp2 ! m.",
        size.0,
        size.1,
        kind.fps,
        kind.scan,
        kind.encoder,
        kind.more,
        kind.parser,
        path.display(),
        frames * 25 / kind.fps as usize,
    ));
    let (mut raw, mut coded) = (0, 0);
    probe(&pipeline, "raw", move |buffer| {
        if kind.parser == "h264parse" {
            let buffer = buffer.make_mut();
            VideoCaptionMeta::add(buffer, gst_video::VideoCaptionType::Cea708Raw, &captions(raw));
            VideoTimeCodeMeta::add(buffer, &timecode(kind, raw));
        }
        raw += 1;
    });
    probe(&pipeline, "coded", move |buffer| {
        let mut unit = buffer.map_readable().unwrap().to_vec();
        let at = first_slice(kind, &unit);
        unit.splice(at..at, written(kind, coded));
        if kind.parser == "mpegvideoparse"
            && let Some(group) = unit.windows(4).position(|four| four == [0, 0, 1, 0xb8])
        {
            // No B frames: the group's code is that of this frame.
            let code = timecode(kind, coded);
            let bits =
                code.hours() << 19 | code.minutes() << 13 | 1 << 12 | code.seconds() << 6 | code.frames();
            let rest = u32::from(unit[group + 7]) & 0x7f;
            unit[group + 4..group + 8].copy_from_slice(&(bits << 7 | rest).to_be_bytes());
        }
        let mut new = gst::Buffer::from_mut_slice(unit);
        buffer.copy_into(new.make_mut(), gst::BUFFER_COPY_METADATA, ..).unwrap();
        *buffer = new;
        coded += 1;
    });
    play(&pipeline);
}

/// Calls for each buffer that leaves an element.
fn probe(pipeline: &gst::Pipeline, name: &str, mut see: impl FnMut(&mut gst::Buffer) + Send + 'static) {
    let pad = pipeline.by_name(name).unwrap().static_pad("src").unwrap();
    let see = Mutex::new(move |buffer: &mut gst::Buffer| see(buffer));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        see.lock().unwrap()(info.buffer_mut().expect("asked for buffers"));
        gst::PadProbeReturn::Ok
    });
}

fn play(pipeline: &gst::Pipeline) {
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(LIMIT, &kinds);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(end.as_ref().map(|end| end.type_()), Some(gst::MessageType::Eos), "{end:?}");
}

/// What a coded frame carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub pts: gst::ClockTime,
    pub captions: Vec<u8>,
    pub format: Option<u8>,
    pub code: Option<String>,
}

/// Every frame of a transport stream in the order of showing, as GStreamer's parser reads it; time codes of MPEG-2
/// and HEVC from their bytes. And the decoded video's scan, and the size of each frame.
pub fn look(parser: &str, path: &Path) -> (Vec<Seen>, String, Vec<(i32, i32)>) {
    let decoder = match parser {
        "h264parse" => "avdec_h264",
        "h265parse" => "avdec_h265",
        _ => "avdec_mpeg2video",
    };
    let pipeline = gst_pipeline(&format!(
        "filesrc location={} ! tsdemux ! {parser} ! identity name=coded ! {decoder} ! identity name=raw ! fakesink",
        path.display()
    ));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (found, name, mut group) = (seen.clone(), parser.to_owned(), (0, 0));
    let mut index = 0;
    probe(&pipeline, "coded", move |buffer| {
        let unit = buffer.map_readable().unwrap();
        let code = match name.as_str() {
            "mpegvideoparse" => {
                let at = |code: u8| unit.windows(4).position(|four| four == [0, 0, 1, code]).map(|at| at + 4);
                if let Some(at) = at(0xb8) {
                    group = (u32::from_be_bytes(unit[at..at + 4].try_into().unwrap()) >> 7, index);
                }
                let bits = group.0;
                let code = [bits >> 19 & 31, bits >> 13 & 63, bits >> 6 & 63, bits & 63];
                (bits > 0).then(|| plus(code, index - group.1))
            }
            "h265parse" => unit.windows(4).position(|four| four == [0x4e, 1, 136, 6]).map(|at| {
                let bits = unit[at + 4..at + 10].iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
                let part = |from: u32, count: u32| (bits >> (48 - from - count) & ((1 << count) - 1)) as u32;
                plus([part(33, 5), part(27, 6), part(21, 6), part(12, 9)], 0)
            }),
            _ => buffer.meta::<VideoTimeCodeMeta>().map(|meta| {
                let code = meta.tc();
                plus([code.hours(), code.minutes(), code.seconds(), code.frames()], 0)
            }),
        };
        drop(unit);
        index += 1;
        found.lock().unwrap().push(Seen {
            pts: buffer.pts().expect("coded frames of a transport stream have times"),
            captions: buffer.iter_meta::<VideoCaptionMeta>().flat_map(|meta| meta.data().to_vec()).collect(),
            format: buffer
                .meta::<VideoAFDMeta>()
                .map(|m| gst::glib::translate::IntoGlib::into_glib(m.afd()) as u8),
            code,
        });
    });
    let raw = Arc::new(Mutex::new((String::new(), Vec::new())));
    let (shown, pad) = (raw.clone(), pipeline.by_name("raw").unwrap().static_pad("src").unwrap());
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let caps = pad.current_caps().expect("frames have caps");
        let s = caps.structure(0).unwrap();
        let text = |name: &str| s.get::<String>(name).unwrap_or_default();
        let order = info.buffer().unwrap().video_flags();
        let order = if order.contains(gst_video::VideoBufferFlags::TFF) { "top" } else { "bottom" };
        let mode = text("interlace-mode");
        let mut shown = shown.lock().unwrap();
        shown.0 = if mode == "progressive" { mode } else { format!("{order}-field-first") };
        shown.1.push((s.get("width").unwrap(), s.get("height").unwrap()));
        gst::PadProbeReturn::Ok
    });
    play(&pipeline);
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort_by_key(|seen| seen.pts);
    let (scan, sizes) = std::mem::take(&mut *raw.lock().unwrap());
    (seen, scan, sizes)
}

fn plus([hours, minutes, seconds, frames]: [u32; 4], more: i64) -> String {
    let none = VideoTimeCodeFlags::empty();
    let fps = gst::Fraction::new(if frames >= 25 { 50 } else { 25 }, 1);
    let code = VideoTimeCode::new(fps, None, none, hours, minutes, seconds, frames, 0);
    let mut code: ValidVideoTimeCode = code.try_into().unwrap();
    code.add_frames(more);
    code.to_string()
}

/// The broadcast job with the small network.
pub fn command() -> Command {
    let mut command = runner("broadcast");
    command.args(["--device", "cpu", "--model"]).arg(Path::new(HERE).join("../weights/jpeg-nano-v6"));
    command
}

/// Runs the broadcast job.
pub fn run(args: &[&str]) -> Output {
    command().args(args).output().expect("i2sb-run runs")
}
