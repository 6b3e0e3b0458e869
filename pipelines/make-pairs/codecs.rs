// SPDX-License-Identifier: MIT OR Apache-2.0
//! Codecs that pictures are sent through, and how their settings are drawn.

use anyhow::{Context, Result, bail};
use i2sb::noise::Stream;

/// One way to encode and decode.
pub struct Codec {
    /// Name in the manifest and for `--codec`.
    pub name: &'static str,
    /// How often it is drawn, compared with the others.
    pub share: u64,
    /// Formats of the raw video, one of which is drawn.
    pub formats: &'static [&'static str],
    /// True if luma reaches from 0 to 255, as in JPEG; else from 16 to 235.
    pub full_range: bool,
    /// The encoder as gst-launch writes it. Drawn anew for each sequence: `{a|b}`, one of the texts, and in what
    /// is then left `<low..high>`, a whole number, or `<low~high>`, one whose logarithm is uniform.
    pub encoder: &'static str,
    /// The decoder.
    pub decoder: &'static str,
    /// Where the kinds of frames are read.
    pub tells: Tells,
}

/// What tells how a frame was coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// The times and flags of the encoder's buffers.
    Times,
    /// Only the flags: there are no frames predicted from both sides, and the times mean nothing.
    Flags,
    /// The picture header of MPEG-1 and MPEG-2 (ISO/IEC 13818-2, 6.2.3).
    Mpeg2,
    /// The header of a video object plane (ISO/IEC 14496-2, 6.2.5).
    Mpeg4,
}

const PLANAR_420: &[&str] = &["I420"];

/// All codecs. Rates are for 25 pictures of about 192×224 a second.
pub const CODECS: &[Codec] = &[
    Codec {
        name: "x264",
        share: 8,
        formats: &["I420", "I420", "I420", "I420", "I420", "I420", "Y42B", "Y444"],
        full_range: false,
        encoder: "x264enc threads=1 {pass=qual quantizer=<10..46>|pass=qual quantizer=<12..24>|pass=qual quantizer=<22..40>|pass=quant quantizer=<10..45>|bitrate=<40~4000>} speed-preset={ultrafast|veryfast|veryfast|medium} bframes={0|2|3} key-int-max={3|6|12|250}{| cabac=false| dct8x8=true}",
        decoder: "h264parse ! avdec_h264 max-threads=1",
        tells: Tells::Times,
    },
    Codec {
        name: "x264-10bit",
        share: 1,
        formats: &["I420_10LE", "I422_10LE"],
        full_range: false,
        encoder: "x264enc threads=1 pass=qual quantizer=<8..36> speed-preset=veryfast bframes={0|2} key-int-max={3|6|12}",
        decoder: "h264parse ! avdec_h264 max-threads=1",
        tells: Tells::Times,
    },
    Codec {
        name: "openh264",
        share: 3,
        formats: PLANAR_420,
        full_range: false,
        encoder: "openh264enc multi-thread=1 enable-frame-skip=false {rate-control=quality qp-min=<12..34> qp-max=<35..48>|rate-control=bitrate bitrate=<40000~4000000>} complexity={low|medium|high} gop-size={1|6|12|90}",
        decoder: "h264parse ! avdec_h264 max-threads=1",
        tells: Tells::Times,
    },
    Codec {
        name: "mpeg2",
        share: 5,
        formats: PLANAR_420,
        full_range: false,
        encoder: "mpeg2enc format={0|3|3|3} {quantisation=<2..28>|quantisation=<2..14>|quantisation=-1 bitrate=<200~3000>} b-per-refframe={0|1|2} bufsize=230 min-gop-size=3 max-gop-size={3|6|12|15}",
        decoder: "mpegvideoparse ! avdec_mpeg2video max-threads=1",
        tells: Tells::Mpeg2,
    },
    Codec {
        name: "mpeg4",
        share: 3,
        formats: PLANAR_420,
        full_range: false,
        encoder: "avenc_mpeg4 {pass=quant quantizer=<2..24>|bitrate=<80000~1500000>} gop-size={6|12|250} max-bframes={0|2}",
        decoder: "mpeg4videoparse ! avdec_mpeg4 max-threads=1",
        tells: Tells::Mpeg4,
    },
    Codec {
        name: "msmpeg4",
        share: 1,
        formats: PLANAR_420,
        full_range: false,
        encoder: "avenc_msmpeg4v2 {pass=quant quantizer=<2..20>|bitrate=<80000~1500000>} gop-size={6|12|250}",
        decoder: "avdec_msmpeg4v2",
        tells: Tells::Flags,
    },
    Codec {
        name: "vp8",
        share: 2,
        formats: PLANAR_420,
        full_range: false,
        encoder: "vp8enc threads=1 deadline=1 cpu-used=4 lag-in-frames={0|8} {end-usage=cq cq-level=<4..60> target-bitrate=6000000|end-usage=vbr target-bitrate=<40000~1200000>} keyframe-max-dist={6|12|128}",
        decoder: "avdec_vp8 max-threads=1",
        tells: Tells::Times,
    },
    Codec {
        name: "vp9",
        share: 3,
        formats: &["I420", "I420", "I420", "Y444", "I420_10LE"],
        full_range: false,
        encoder: "vp9enc threads=1 deadline=1 cpu-used=6 lag-in-frames={0|8} {end-usage=cq cq-level=<6..62> target-bitrate=6000000|end-usage=vbr target-bitrate=<30000~1000000>} keyframe-max-dist={6|12|128}",
        decoder: "vp9parse ! avdec_vp9 max-threads=1",
        tells: Tells::Times,
    },
    Codec {
        name: "x265",
        share: 3,
        formats: &["I420", "I420", "I420", "Y42B", "I420_10LE"],
        full_range: false,
        encoder: "x265enc option-string=pools=none:frame-threads=1:crf=<12..44>:bframes={0|3} speed-preset={ultrafast|veryfast} key-int-max={3|6|12}",
        decoder: "h265parse ! avdec_h265 max-threads=1",
        tells: Tells::Times,
    },
    Codec {
        name: "av1",
        share: 1,
        formats: PLANAR_420,
        full_range: false,
        encoder: "av1enc threads=1 usage-profile=realtime cpu-used=8 row-mt=false end-usage=q min-quantizer=<10..58> max-quantizer=63 keyframe-max-dist={6|12}",
        decoder: "av1parse ! av1dec",
        tells: Tells::Times,
    },
    Codec {
        name: "theora",
        share: 2,
        formats: &["I420", "I420", "I420", "Y42B"],
        full_range: false,
        encoder: "theoraenc drop-frames=false {quality=<2..60>|bitrate=<60~1500>} keyframe-force={6|12|64}",
        decoder: "theoradec",
        tells: Tells::Times,
    },
    Codec {
        name: "mjpeg",
        share: 3,
        formats: &["I420", "I420", "Y42B", "Y444"],
        full_range: true,
        encoder: "{jpegenc quality=<8..99>|avenc_mjpeg pass=quant quantizer=<2..24>}",
        decoder: "jpegparse ! avdec_mjpeg",
        tells: Tells::Flags,
    },
];

/// A codec with everything drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub codec: &'static str,
    pub format: &'static str,
    pub encoder: String,
    pub decoder: &'static str,
    pub full_range: bool,
    pub tells: Tells,
}

/// The rows of these names, all if there are none.
pub fn named(names: &[String]) -> Result<Vec<&'static Codec>> {
    if names.is_empty() {
        return Ok(CODECS.iter().collect());
    }
    let find = |name: &String| {
        let known = || CODECS.iter().map(|codec| codec.name).collect::<Vec<_>>().join(", ");
        let found = CODECS.iter().find(|codec| codec.name == name);
        found.with_context(|| format!("no codec is called {name:?}; there are {}", known()))
    };
    names.iter().map(find).collect()
}

/// Draws a codec and its settings.
pub fn choose(codecs: &[&'static Codec], rng: &mut Stream) -> Result<Choice> {
    let mut at = rng.below(codecs.iter().map(|codec| codec.share).sum());
    for codec in codecs {
        if at < codec.share {
            return draw(codec, rng);
        }
        at -= codec.share;
    }
    bail!("no codec to choose from")
}

/// Draws the settings of a codec.
pub fn draw(codec: &'static Codec, rng: &mut Stream) -> Result<Choice> {
    Ok(Choice {
        codec: codec.name,
        format: codec.formats[rng.below(codec.formats.len() as u64) as usize],
        encoder: filled(codec.encoder, rng).with_context(|| format!("settings of {}", codec.name))?,
        decoder: codec.decoder,
        full_range: codec.full_range,
        tells: codec.tells,
    })
}

/// The text with a draw in place of every brace and angle.
fn filled(text: &str, rng: &mut Stream) -> Result<String> {
    let chosen = replaced(text, ['{', '}'], |inside| {
        let texts: Vec<&str> = inside.split('|').collect();
        Ok(texts[rng.below(texts.len() as u64) as usize].to_string())
    })?;
    replaced(&chosen, ['<', '>'], |inside| {
        let ends = |mark: &str| {
            let (low, high) = inside.split_once(mark)?;
            low.parse::<u32>().ok().zip(high.parse::<u32>().ok()).filter(|(low, high)| low <= high)
        };
        if let Some((low, high)) = ends("..") {
            return Ok((u64::from(low) + rng.below(u64::from(high - low) + 1)).to_string());
        }
        let (low, high) = ends("~").with_context(|| format!("<{inside}> is no range"))?;
        let unit = f64::from(rng.next_f32());
        Ok((f64::from(low) * (f64::from(high) / f64::from(low)).powf(unit)).round().to_string())
    })
}

fn replaced(
    text: &str,
    [open, close]: [char; 2],
    mut draw: impl FnMut(&str) -> Result<String>,
) -> Result<String> {
    let mut parts = text.split(open);
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (inside, after) = part.split_once(close).with_context(|| format!("{open} without {close}"))?;
        out.push_str(&draw(inside)?);
        out.push_str(after);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_fills_within_its_ranges() {
        for codec in CODECS {
            let mut seen = std::collections::BTreeSet::new();
            for i in 0..200 {
                let choice = draw(codec, &mut Stream::new(1, i)).unwrap();
                assert!(!choice.encoder.contains(['{', '}', '<', '>', '|', '~']), "{}", choice.encoder);
                seen.insert(choice.encoder);
            }
            assert!(seen.len() > 8, "{}", codec.name);
        }
        for i in 0..100 {
            let number: f64 = filled("<30~1000>", &mut Stream::new(2, i)).unwrap().parse().unwrap();
            assert!((30.0..=1000.0).contains(&number));
        }
        assert!(filled("<5..2>", &mut Stream::new(0, 0)).is_err());
        assert!(filled("{a|b", &mut Stream::new(0, 0)).is_err());
    }

    #[test]
    fn shares_are_kept() {
        let all = named(&[]).unwrap();
        let draws = 4000;
        let x264 =
            (0..draws).filter(|&i| choose(&all, &mut Stream::new(3, i)).unwrap().codec == "x264").count();
        let expected = draws as f64 * 8.0 / CODECS.iter().map(|codec| codec.share).sum::<u64>() as f64;
        assert!((x264 as f64 - expected).abs() < 0.15 * expected, "{x264} of {draws}, expected {expected}");
        assert!(named(&["h266".into()]).err().unwrap().to_string().contains("x264"));
    }
}
