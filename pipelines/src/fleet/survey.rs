// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading everything once, before anything is restored: every frame, and whatever would have to be guessed.

use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context, Result};
use gst::prelude::*;
use gst_video::prelude::*;

use super::decoder_log;
use super::digest;
use super::frames::Video;
use super::line::{Line, Target};
use super::parse;
use super::plan::{Output, Planned, Wish};
use super::quicktime;
use super::source::{Frame, Frames};
use crate::cut_off;
use crate::exit::refused;
use crate::sequence::Samples;

/// How the element begins where it refuses unknown colours.
const COLOURS: &str = "strict: colorimetry";

/// Frames in a row that may come at a wrong time where not every packet has one: more than decoders reorder.
pub const PATIENCE: usize = 5;

/// How much later than the last frame a container may say that it ends: frames differ in length.
const SLACK: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// What a source holds.
pub struct Found {
    /// Caps of its frames.
    pub caps: gst::Caps,
    /// All of them.
    pub frames: Vec<Planned>,
}

/// Reads `wish.source`; frames are written into `list` as they come, and told to `see`.
///
/// # Errors
/// Refused: frames that change, come at the wrong time or do not fit what is to be written, and, where the
/// properties say `strict`, whatever is damaged, mixed or unknown.
pub fn survey(wish: &Wish, list: File, see: &dyn Fn(usize)) -> Result<Found> {
    let strict = wish.properties.get("strict").is_some_and(|text| text == "true");
    cut_off(wish, strict)?;
    decoder_log::listen();
    let name = if wish.source.stills() { "the pictures" } else { "the video" };
    let mut source = wish.source.open().context(name)?;
    let track = quicktime::track(&wish.source.input);
    let mut list = BufWriter::new(list);
    let mut judge: Option<Judge> = None;
    let mut frames: Vec<Planned> = Vec::new();
    while let Some(frame) = source.next().with_context(|| format!("frame {}", frames.len()))? {
        let index = frames.len();
        match &judge {
            Some(judge) => judge.same(index, &frame)?,
            None => judge = Some(Judge::begin(wish, strict, &source, &frame)?),
        }
        let mut time = frame.time;
        if let Some(judge) = judge.as_mut().filter(|judge| judge.strict) {
            time = judge.on_time(index, &frame, &source)?;
            whole(index, &frame)?;
        }
        let planned = Planned {
            time: time.nseconds(),
            digest: digest::frame(&frame.buffer, &frame.caps)?,
            timecode: frame
                .timecode
                .clone()
                .or_else(|| timecode(&frame.buffer))
                .or_else(|| track.map(|track| track.at(index))),
            captions: captions(&frame.buffer),
        };
        if frames.last().is_some_and(|last| last.time >= planned.time) {
            return Err(refused(format!(
                "frame {index} at {} is not later than the one before it",
                frame.time
            )));
        }
        writeln!(list, "{planned}")?;
        frames.push(planned);
        see(frames.len());
    }
    list.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    let judge = judge.context("it holds no video that can be decoded")?;
    if strict && let (Frames::Video(video), Some(last)) = (&source, frames.last()) {
        judge.to_the_end(wish, video, last)?;
    }
    Ok(Found { caps: judge.caps, frames })
}

/// Refuses a file that ends before its container does; where that is allowed, says so.
fn cut_off(wish: &Wish, strict: bool) -> Result<()> {
    if wish.source.stills() {
        return Ok(());
    }
    match cut_off::missing(&wish.source.input)? {
        Some(what) if strict => Err(refused(format!("{what}; get the whole file, or set strict=false"))),
        Some(what) => {
            eprintln!("warning: {}: {what}", wish.source.input.display());
            Ok(())
        }
        None => Ok(()),
    }
}

/// What every frame must be like.
struct Judge {
    strict: bool,
    /// As they come.
    given: gst::Caps,
    /// As they are restored: mixed scanning resolved.
    caps: gst::Caps,
    /// Interlaced, and the top field first, of the first frame.
    scan: (bool, bool),
    /// Time of the first.
    first: gst::ClockTime,
    /// The first of the frames in a row that are not on time: number and time.
    late: Option<(usize, gst::ClockTime)>,
}

impl Judge {
    fn begin(wish: &Wish, strict: bool, source: &Frames, frame: &Frame) -> Result<Self> {
        let given = frame.caps.clone();
        let scan = scan(&frame.buffer);
        let mut caps = given.clone();
        if strict && text(&given, "interlace-mode").as_deref() == Some("mixed") {
            // What the stream leaves open, its frames say; each must say the same.
            let fields = caps.make_mut();
            fields.set("interlace-mode", if scan.0 { "interleaved" } else { "progressive" });
            if scan.0 {
                fields.set("field-order", if scan.1 { "top-field-first" } else { "bottom-field-first" });
            }
        }
        fits(wish, &caps)?;
        let judge = Self { strict, given, caps, scan, first: frame.time, late: None };
        if strict && let Frames::Video(video) = source {
            let seen = video.seen();
            let half = judge.spacing(1).unwrap_or_default() / 2;
            if seen.begins_inside || seen.begins.is_some_and(|begins| begins + half < frame.time) {
                return Err(refused(format!(
                    "the video starts without a key frame: it begins at {}, its first frame that can be decoded is at {}; \
                     cut it there, or set strict=false",
                    seen.begins.unwrap_or_default(),
                    frame.time
                )));
            }
            complete(seen.packed.as_ref())?;
        }
        if let Frames::Video(video) = source {
            others(wish, strict, &video.seen().others)?;
        }
        // The element's own rules, and whether model and masks are there and fit: without work, on one frame.
        let mut properties = wish.properties.clone();
        properties.insert("strength".into(), "0".into());
        let tried = Line::new(&judge.caps, &properties, Target::Nothing)
            .and_then(|mut line| line.push(frame).and_then(|()| line.end()));
        match tried {
            Err(error) if error.to_string().contains(COLOURS) => Err(refused(format!(
                "the source does not say what its colours mean (colorimetry {}); say it with --colorimetry bt601 (or \
                 bt709, bt2020), or set strict=false",
                text(&judge.given, "colorimetry").unwrap_or_else(|| "missing".into())
            ))),
            Err(error) => Err(error),
            Ok(_) => Ok(judge),
        }
    }

    /// That a frame is like the first.
    fn same(&self, index: usize, frame: &Frame) -> Result<()> {
        if frame.caps != self.given {
            return Err(refused(format!(
                "frame {index}: the video changes from {} to {}; cut the file there first",
                self.given, frame.caps
            )));
        }
        let words = |(interlaced, top)| match (interlaced, top) {
            (false, _) => "progressive",
            (true, true) => "interlaced, top field first",
            (true, false) => "interlaced, bottom field first",
        };
        let now = scan(&frame.buffer);
        if self.strict && self.caps != self.given && now != self.scan
            || self.strict && self.scan.0 && now.1 != self.scan.1
        {
            return Err(refused(format!(
                "frame {index} is {}, those before it {}; cut the file there, or set strict=false",
                words(now),
                words(self.scan)
            )));
        }
        Ok(())
    }

    /// That a frame comes when its number says, and when that is. Where packets have no times, decoders err by a few
    /// frames and find back.
    fn on_time(&mut self, index: usize, frame: &Frame, source: &Frames) -> Result<gst::ClockTime> {
        let Some(due) = self.spacing(index as u64).map(|after| self.first + after) else {
            return Ok(frame.time);
        };
        let half = self.spacing(1).unwrap_or_default() / 2;
        if due.absdiff(frame.time) <= half {
            self.late = None;
            return Ok(frame.time);
        }
        let &mut (first, time) = self.late.get_or_insert((index, frame.time));
        let sparse = matches!(source, Frames::Video(video) if video.seen().sparse);
        if sparse && index - first < PATIENCE {
            return Ok(due);
        }
        let due = self.spacing(first as u64).map(|after| self.first + after).unwrap_or_default();
        Err(refused(format!(
            "frame {first} is due at {due} and comes at {time}: the video jumps in time, or frames are missing; cut the \
             file there, or set strict=false"
        )))
    }

    /// That the video goes on for as long as its container says. Where there are other streams, the container counts
    /// the longest.
    fn to_the_end(&self, wish: &Wish, video: &Video, last: &Planned) -> Result<()> {
        let alone = video.seen().others.is_empty() && cut_off::declares(&wish.source.input);
        let Some(declared) = video.duration().filter(|_| alone) else { return Ok(()) };
        let end = gst::ClockTime::from_nseconds(last.time) + self.spacing(1).unwrap_or_default();
        if declared <= end + SLACK {
            return Ok(());
        }
        Err(refused(format!(
            "the container declares {declared}, and the last frame ends at {end}: the rest is missing; get the whole \
             file, or set strict=false"
        )))
    }

    /// How long so many frames take, if the video says.
    fn spacing(&self, frames: u64) -> Option<gst::ClockTime> {
        let rate = self.given.structure(0)?.get::<gst::Fraction>("framerate").ok()?;
        let (numer, denom) = (u64::try_from(rate.numer()).ok()?, u64::try_from(rate.denom()).ok()?);
        gst::ClockTime::from_seconds(frames)
            .mul_div_round(denom, if numer == 0 { return None } else { numer })
    }
}

/// That nobody saw damage.
fn whole(index: usize, frame: &Frame) -> Result<()> {
    let advice = "repair or cut the file there, or set strict=false";
    if frame.damaged {
        return Err(refused(format!(
            "frame {index} at {} is damaged: the decoder could not read all of it; {advice}",
            frame.time
        )));
    }
    match decoder_log::take() {
        Some(complaint) => Err(refused(format!(
            "frame {} is damaged, or one soon after it: the decoder reports \"{}\"; {advice}",
            complaint.frame, complaint.text
        ))),
        None => Ok(()),
    }
}

/// What decoders here do not give in full: field of the packets' caps, its values, and what is lost.
const CURTAILED: &[(&str, &str, &[&str], &str)] = &[(
    "video/x-prores",
    "variant",
    &["4444", "4444xq"],
    "ProRes 4444 holds 12 bits, and GStreamer's decoder gives 10 of them; turn it into FFV1 or pictures by another \
     program first, or set strict=false",
)];

/// That the decoder gives all that the packets hold.
fn complete(packed: Option<&gst::Caps>) -> Result<()> {
    let Some(stream) = packed.and_then(|caps| caps.structure(0)) else { return Ok(()) };
    let curtailed = CURTAILED.iter().find(|(name, field, values, _)| {
        stream.name() == *name && stream.get::<&str>(*field).is_ok_and(|value| values.contains(&value))
    });
    curtailed.map_or(Ok(()), |(.., what)| Err(refused(*what)))
}

/// That the frames fit what is written.
fn fits(wish: &Wish, caps: &gst::Caps) -> Result<()> {
    match &wish.output {
        Output::Video { encoder } => {
            let bin = gst::parse::bin_from_description(encoder, true)?;
            let takes = bin.static_pad("sink").map(|pad| pad.query_caps(None));
            if !takes.is_some_and(|takes| takes.can_intersect(caps)) {
                return Err(refused(format!(
                    "the lossless encoder ({encoder}) cannot hold {caps}; a sequence of pictures holds 16 bits"
                )));
            }
        }
        Output::Pictures(kind) => {
            let info = gst_video::VideoInfo::from_caps(caps)?;
            let empty = gst::Buffer::from_mut_slice(vec![0; info.size()]);
            if let Err(error) = Samples::of(&empty, caps) {
                return Err(refused(format!(
                    "{error}: {} hold grey or RGB; write a video (.mkv), which keeps the samples",
                    kind.ending()
                )));
            }
        }
    }
    Ok(())
}

/// That every stream beside the video finds its place in the output; beside pictures, only where `strict`.
fn others(wish: &Wish, strict: bool, streams: &[gst::Caps]) -> Result<()> {
    let muxer = gst::ElementFactory::find("matroskamux").context("no matroskamux")?;
    if !matches!(wish.output, Output::Video { .. }) {
        return match streams.first().filter(|_| strict) {
            Some(caps) => Err(refused(format!(
                "a sequence of pictures cannot hold the stream {caps}; take it out of the file first, or set \
                 strict=false"
            ))),
            None => Ok(()),
        };
    }
    match streams.iter().find(|caps| parse::held(&muxer, caps).is_none()) {
        Some(caps) => {
            Err(refused(format!("Matroska cannot hold the stream {caps}; take it out of the file first")))
        }
        None => Ok(()),
    }
}

fn text(caps: &gst::Caps, field: &str) -> Option<String> {
    caps.structure(0).and_then(|s| s.get::<String>(field).ok())
}

fn scan(buffer: &gst::BufferRef) -> (bool, bool) {
    let flags = buffer.video_flags();
    let has = |flag| flags.contains(flag);
    (has(gst_video::VideoBufferFlags::INTERLACED), has(gst_video::VideoBufferFlags::TFF))
}

fn timecode(buffer: &gst::BufferRef) -> Option<String> {
    buffer.meta::<gst_video::VideoTimeCodeMeta>().map(|meta| meta.tc().to_string())
}

fn captions(buffer: &gst::BufferRef) -> Option<String> {
    let all = buffer.iter_meta::<gst_video::VideoCaptionMeta>().map(|meta| {
        let hex: String = meta.data().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:?}:{hex}", meta.caption_type()).to_lowercase()
    });
    let all: Vec<String> = all.collect();
    (!all.is_empty()).then(|| all.join(","))
}
