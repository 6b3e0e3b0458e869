// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the pads accept, generated from [`PIXEL_FORMATS`], and what accepted caps mean.

use std::str::FromStr;

use gst_video::{VideoInterlaceMode, VideoTransferFunction, prelude::*};

use super::settings::Interlaced;
use i2sb::pixel::{Color, Model, PIXEL_FORMATS, PixelFormat};

/// The caps of both pads: every row of the table, in frames and in fields of their own.
pub fn template() -> gst::Caps {
    let formats: Vec<_> = PIXEL_FORMATS
        .iter()
        .map(|format| {
            gst_video::VideoFormat::from_str(format.name).unwrap_or(gst_video::VideoFormat::Unknown)
        })
        .filter(|format| *format != gst_video::VideoFormat::Unknown)
        .collect();
    let mut caps = gst_video::VideoCapsBuilder::new().format_list(formats.iter().copied()).build();
    let fields = gst_video::VideoCapsBuilder::new()
        .features(["format:Interlaced"])
        .format_list(formats)
        .field("interlace-mode", "alternate")
        .build();
    caps.merge(fields);
    caps
}

/// How the rows of one buffer are shared out to pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The buffer is one picture.
    Whole,
    /// The buffer holds two woven fields.
    Woven,
    /// The buffer is the one field of this parity: 0 top, 1 bottom.
    Single(usize),
}

/// What does not change until the next CAPS event.
#[derive(Clone, Debug)]
pub struct Format {
    /// The caps, parsed.
    pub info: gst_video::VideoInfo,
    /// How samples lie.
    pub pixels: &'static PixelFormat,
    /// What samples mean.
    pub color: Color,
    /// Whether the transfer function is PQ or HLG, which the networks have never seen.
    pub hdr: bool,
}

impl Format {
    /// Parses the caps of a CAPS event.
    ///
    /// # Errors
    /// One sentence with the reason.
    pub fn parse(caps: &gst::CapsRef) -> Result<Self, String> {
        let info =
            gst_video::VideoInfo::from_caps(caps).map_err(|_| {
                "GStreamer lays out no frames of such caps: they are not complete, larger than memory, or alternate \
                 without the feature format:Interlaced"
                    .to_owned()
            })?;
        let name = info.format().to_str();
        let pixels = PixelFormat::named(name)
            .ok_or_else(|| format!("no support for format {name}; put a videoconvert before this element"))?;
        let colorimetry = info.colorimetry();
        // Grey has no matrix, and some decoders tag YUV as RGB: GStreamer's own rule by size then.
        let fallback = if info.height() > 576 { (0.2126, 0.0722) } else { (0.299, 0.114) };
        let weights = colorimetry.matrix().kr_kb().map_or(fallback, |(kr, kb)| (kr as f32, kb as f32));
        let full = match colorimetry.range() {
            gst_video::VideoColorRange::Range0_255 => true,
            gst_video::VideoColorRange::Range16_235 => false,
            _ => pixels.model == Model::Rgb,
        };
        let site = info.chroma_site();
        let cosited = if site.intersects(gst_video::VideoChromaSite::NONE) {
            (false, false)
        } else {
            (
                site.contains(gst_video::VideoChromaSite::H_COSITED) || site.is_empty(),
                site.contains(gst_video::VideoChromaSite::V_COSITED),
            )
        };
        let color = Color::new(pixels, weights, full, cosited);
        let hdr = matches!(
            colorimetry.transfer(),
            VideoTransferFunction::Smpte2084 | VideoTransferFunction::AribStdB67
        );
        Ok(Self { info, pixels, color, hdr })
    }

    /// How to take one buffer apart; `None`: not at all, as `interlaced` says.
    ///
    /// # Errors
    /// One sentence, when `interlaced` says that such content is an error.
    pub fn scan(&self, buffer: &gst::BufferRef, interlaced: Interlaced) -> Result<Option<Scan>, String> {
        let flags = buffer.video_flags();
        let scan = match self.info.interlace_mode() {
            VideoInterlaceMode::Alternate => {
                Scan::Single(usize::from(!flags.contains(gst_video::VideoBufferFlags::TOP_FIELD)))
            }
            VideoInterlaceMode::Mixed if !flags.contains(gst_video::VideoBufferFlags::INTERLACED) => {
                Scan::Whole
            }
            VideoInterlaceMode::Interleaved | VideoInterlaceMode::Mixed => Scan::Woven,
            _ => Scan::Whole,
        };
        // Fields in frames of their own, which only their metas tell: as good as progressive.
        let fields = self.info.interlace_mode() == VideoInterlaceMode::Fields;
        match (scan, interlaced) {
            (Scan::Whole, _) if !fields => Ok(Some(scan)),
            (Scan::Whole, Interlaced::Frame) | (_, Interlaced::Fields) => Ok(Some(scan)),
            (Scan::Woven, Interlaced::Frame) => Ok(Some(Scan::Whole)),
            (Scan::Single(_), Interlaced::Frame) => Ok(Some(scan)),
            (_, Interlaced::PassThrough) => Ok(None),
            (_, Interlaced::Error) => {
                Err("interlaced video, and interlaced=error forbids it; put a deinterlacer \
                 before this element or set interlaced=fields"
                    .to_owned())
            }
        }
    }

    /// Time of a frame, if the caps tell.
    pub fn frame_time(&self) -> Option<gst::ClockTime> {
        let fps = self.info.fps();
        // 0/1 stands for a variable or unknown rate.
        let num = u64::try_from(fps.numer()).ok().filter(|&num| num > 0)?;
        let den = u64::try_from(fps.denom()).ok()?;
        gst::ClockTime::SECOND.mul_div_ceil(den, num)
    }

    /// Rows of a buffer: half of the frame's for fields of their own.
    pub fn rows(&self) -> usize {
        self.info.field_height() as usize
    }
}
