// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames through an encoder and a decoder of GStreamer, and what each was coded as.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use gst_video::prelude::*;

use crate::codecs::{Choice, Tells};
use crate::colour::{Colour, Plane};
use crate::counter;
use crate::kinds::{self, Kind, Packet};

/// Longest wait for one sequence.
const LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(60);
/// Frames per second: what a rate in bits per second is shared among.
pub const RATE: i32 = 25;

/// A frame that has been through the codec.
#[derive(Debug, Clone)]
pub struct Coded {
    /// RGB planes `(3, height, width)`, range [-1, 1].
    pub rgb: Vec<f32>,
    pub kind: Kind,
}

/// All frames of a sequence, in order.
pub struct Sequence {
    pub frames: Vec<Coded>,
    /// Size of the coded sequence in bits for each pixel.
    pub bits_per_pixel: f64,
}

/// How samples of a GStreamer format lie.
pub fn colour(choice: &Choice, weights: (f32, f32)) -> Result<Colour> {
    let info = video_info(choice.format, (16, 16))?;
    let format = info.format_info();
    Ok(Colour {
        weights,
        bits: format.depth()[0],
        full_range: choice.full_range,
        halved: (format.w_sub()[1] == 1, format.h_sub()[1] == 1),
        left: !choice.full_range,
    })
}

fn video_info(format: &str, size: (usize, usize)) -> Result<gst_video::VideoInfo> {
    let format = gst_video::VideoFormat::from_string(format);
    let info = gst_video::VideoInfo::builder(format, size.0 as u32, size.1 as u32)
        .fps(gst::Fraction::new(RATE, 1))
        .build()?;
    Ok(info)
}

/// Sends frames with a number drawn into each (see [`counter`]) through the codec.
///
/// # Errors
/// If an element is missing or fails, frames are lost or come back in another order, or a number cannot be read.
pub fn run(choice: &Choice, colour: &Colour, frames: &[Vec<f32>], size: (usize, usize)) -> Result<Sequence> {
    let text = format!(
        "appsrc name=source ! {} ! identity name=coded ! {} ! appsink name=sink sync=false",
        choice.encoder, choice.decoder
    );
    let pipeline = gst::parse::launch(&text).with_context(|| text.clone())?;
    let pipeline =
        pipeline.downcast::<gst::Pipeline>().map_err(|_| anyhow::anyhow!("{text}: no pipeline"))?;
    let ended = Stop(pipeline.clone());
    let element = |name: &str| pipeline.by_name(name).with_context(|| format!("no element {name}"));
    let packets = Arc::new(Mutex::new(Vec::new()));
    watch(&element("coded")?, choice.tells, &packets)?;
    let source =
        element("source")?.downcast::<gst_app::AppSrc>().map_err(|_| anyhow::anyhow!("no appsrc"))?;
    let sink = element("sink")?.downcast::<gst_app::AppSink>().map_err(|_| anyhow::anyhow!("no appsink"))?;
    let info = video_info(choice.format, size)?;
    source.set_caps(Some(&info.to_caps()?));
    source.set_format(gst::Format::Time);
    source.set_max_bytes(0);
    pipeline.set_state(gst::State::Playing).map_err(|error| broken(&pipeline, error.into()))?;
    for (number, rgb) in frames.iter().enumerate() {
        let buffer = packed(&info, &colour.encode(rgb, size), colour, number)?;
        source.push_buffer(buffer).map_err(|error| broken(&pipeline, error.into()))?;
    }
    source.end_of_stream().map_err(|error| broken(&pipeline, error.into()))?;
    let mut decoded = Vec::new();
    while let Some(sample) = sink.try_pull_sample(LIMIT) {
        decoded.push(unpacked(&sample, colour, size)?);
        ensure!(decoded.len() <= frames.len(), "more frames came back than the {} sent", frames.len());
    }
    if !sink.is_eos() {
        return Err(broken(&pipeline, anyhow::anyhow!("nothing came within {LIMIT}")));
    }
    if let Some(error) = error_of(&pipeline) {
        return Err(error);
    }
    drop(ended);
    in_order(&decoded, size, frames.len())?;
    let packets = std::mem::take(&mut *packets.lock().unwrap_or_else(PoisonError::into_inner));
    let bits = 8.0 * packets.iter().map(|packet| packet.bytes as f64).sum::<f64>();
    let kinds = kinds::shown(choice.tells, &packets, frames.len())?;
    Ok(Sequence {
        frames: decoded.into_iter().zip(kinds).map(|(rgb, kind)| Coded { rgb, kind }).collect(),
        bits_per_pixel: bits / (frames.len() * size.0 * size.1) as f64,
    })
}

/// Ends the pipeline whatever happens.
struct Stop(gst::Pipeline);

impl Drop for Stop {
    fn drop(&mut self) {
        // What cannot be stopped has failed before, and that error is told.
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// The numbers in the frames are 0, 1, 2 … to the last.
fn in_order(decoded: &[Vec<f32>], size: (usize, usize), count: usize) -> Result<()> {
    for (place, rgb) in decoded.iter().enumerate() {
        match counter::read(rgb, size) {
            Some(number) if number == place => {}
            Some(number) => bail!("frame {number} came back in place {place}"),
            None => bail!("the number of the frame in place {place} cannot be read"),
        }
    }
    ensure!(decoded.len() == count, "{} of {count} frames came back", decoded.len());
    Ok(())
}

fn watch(coded: &gst::Element, tells: Tells, packets: &Arc<Mutex<Vec<Packet>>>) -> Result<()> {
    let pad = coded.static_pad("src").context("identity has a source pad")?;
    let packets = packets.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        // Buffers without a time are headers of the stream.
        if let Some((buffer, time)) = info.buffer().and_then(|buffer| Some((buffer, buffer.pts()?))) {
            let alone = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            let coded = match buffer.map_readable() {
                Ok(data) => kinds::coded(tells, &data),
                Err(_) => None,
            };
            let packet = Packet { time: time.nseconds(), bytes: buffer.size(), alone, coded };
            packets.lock().unwrap_or_else(PoisonError::into_inner).push(packet);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// A buffer of the planes.
fn packed(
    info: &gst_video::VideoInfo,
    planes: &[Plane; 3],
    colour: &Colour,
    number: usize,
) -> Result<gst::Buffer> {
    let mut buffer = gst::Buffer::with_size(info.size())?;
    {
        let buffer = buffer.get_mut().context("a new buffer is ours")?;
        let second = gst::ClockTime::SECOND.nseconds();
        let duration = second / RATE as u64;
        buffer.set_pts(gst::ClockTime::from_nseconds(number as u64 * duration));
        buffer.set_duration(gst::ClockTime::from_nseconds(duration));
        let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, info)?;
        for (i, plane) in planes.iter().enumerate() {
            let (width, _) = colour.plane_size(i, (info.width() as usize, info.height() as usize));
            let stride = frame.plane_stride()[i] as usize;
            let rows = frame.plane_data_mut(i as u32)?.chunks_mut(stride);
            for (row, samples) in rows.zip(plane.chunks_exact(width)) {
                if colour.bits == 8 {
                    row.iter_mut().zip(samples).for_each(|(byte, &sample)| *byte = sample as u8);
                } else {
                    let words = row.chunks_exact_mut(2).zip(samples);
                    words.for_each(|(word, sample)| word.copy_from_slice(&sample.to_le_bytes()));
                }
            }
        }
    }
    Ok(buffer)
}

/// The RGB planes of a decoded sample.
fn unpacked(sample: &gst::Sample, colour: &Colour, size: (usize, usize)) -> Result<Vec<f32>> {
    let caps = sample.caps().context("a sample without caps")?;
    let info = gst_video::VideoInfo::from_caps(caps)?;
    let format = info.format_info();
    let found = (format.depth()[0], (format.w_sub()[1] == 1, format.h_sub()[1] == 1));
    let same_size = (info.width() as usize, info.height() as usize) == size;
    let planar = info.n_planes() == 3 && info.format_info().is_yuv();
    if !same_size || !planar || found != (colour.bits, colour.halved) {
        bail!("the decoder gives {caps}, not what was encoded");
    }
    let buffer = sample.buffer().context("a sample without a buffer")?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
    let mut planes: [Plane; 3] = Default::default();
    for (i, plane) in planes.iter_mut().enumerate() {
        let (width, height) = colour.plane_size(i, size);
        let stride = frame.plane_stride()[i] as usize;
        let data = frame.plane_data(i as u32)?;
        for row in data.chunks(stride).take(height) {
            if colour.bits == 8 {
                plane.extend(row[..width].iter().map(|&byte| u16::from(byte)));
            } else {
                plane.extend(
                    row[..2 * width].chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]])),
                );
            }
        }
    }
    Ok(colour.decode(&planes, size))
}

/// The first error on the bus, else `otherwise`.
fn broken(pipeline: &gst::Pipeline, otherwise: anyhow::Error) -> anyhow::Error {
    error_of(pipeline).unwrap_or(otherwise)
}

fn error_of(pipeline: &gst::Pipeline) -> Option<anyhow::Error> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    let gst::MessageView::Error(error) = message.view() else { return None };
    let source = error.src().map(|source| source.name().to_string()).unwrap_or_default();
    Some(anyhow::anyhow!("{source}: {}", error.error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codecs, colour::MATRICES};
    use i2sb::noise::Stream;

    const SIZE: (usize, usize) = (192, 64);

    /// A moving pattern with the number in each frame.
    fn frames(count: usize) -> Vec<Vec<f32>> {
        let one = |t: usize| {
            let plane = SIZE.0 * SIZE.1;
            let value = |i: usize| {
                let (x, y) = ((i % SIZE.0 + 3 * t) as f32, (i % plane / SIZE.0) as f32);
                0.5 * (x / 7.0).sin() * (y / 5.0).cos() + 0.1 * (i / plane) as f32
            };
            let mut planes: Vec<f32> = (0..3 * plane).map(value).collect();
            counter::write(&mut planes, SIZE, t);
            planes
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn every_codec_gives_its_frames_back_in_order() {
        gst::init().unwrap();
        let frames = frames(7);
        for codec in codecs::CODECS {
            let mut kinds = std::collections::BTreeSet::new();
            for draw in 0..4 {
                let choice = codecs::draw(codec, &mut Stream::new(draw, 7)).unwrap();
                let colour = colour(&choice, MATRICES[0].1).unwrap();
                let sequence = run(&choice, &colour, &frames, SIZE)
                    .unwrap_or_else(|error| panic!("{} {}: {error:#}", choice.format, choice.encoder));
                assert_eq!(sequence.frames[0].kind, Kind::I, "{}", choice.encoder);
                kinds.extend(sequence.frames.iter().map(|frame| frame.kind));
                assert!(sequence.bits_per_pixel > 0.01 && sequence.bits_per_pixel < 12.0);
                let error = frames.iter().zip(&sequence.frames).map(|(a, b)| distance(a, &b.rgb));
                let error = error.sum::<f32>() / frames.len() as f32;
                assert!(error > 1e-7 && error < 0.12, "{}: {error}", choice.encoder);
            }
            assert!(kinds.contains(&Kind::P) || codec.name == "mjpeg", "{}: {kinds:?}", codec.name);
        }
    }

    /// Mean square.
    fn distance(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / a.len() as f32
    }

    #[test]
    fn a_swapped_or_lost_frame_is_an_error() {
        let mut frames = frames(4);
        assert!(in_order(&frames, SIZE, 4).is_ok());
        frames.swap(1, 2);
        assert!(in_order(&frames, SIZE, 4).unwrap_err().to_string().contains("frame 2 came back in place 1"));
        frames.swap(1, 2);
        frames.pop();
        assert!(in_order(&frames, SIZE, 4).unwrap_err().to_string().contains("3 of 4"));
    }
}
