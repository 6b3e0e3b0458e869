// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captions of line 21 (CEA-608, field 1) as a Scenarist file, which players and editing systems read.

use anyhow::{Context, Result};
use gst_video::{ValidVideoTimeCode, VideoTimeCode, VideoTimeCodeFlags};

use super::plan::{Plan, Planned};

/// The first line of such a file.
const HEAD: &str = "Scenarist_SCC V1.0";
/// Rates of pictures that the format counts.
const RATES: [(i32, i32); 2] = [(30000, 1001), (30, 1)];
/// What is sent where nothing is said, with and without its parity.
const NOTHING: [[u8; 2]; 2] = [[0x80, 0x80], [0, 0]];

/// The whole file; none if there are no such captions, or pictures come at another rate than theirs.
pub fn text(plan: &Plan) -> Result<Option<String>> {
    let caps: gst::Caps = plan.settings.caps.parse().context("the plan's caps")?;
    let fps = gst_video::VideoInfo::from_caps(&caps)?.fps();
    if !RATES.contains(&(fps.numer(), fps.denom())) {
        return Ok(None);
    }
    let lines: String = lines(&plan.frames, fps).iter().map(|line| format!("{line}\n\n")).collect();
    Ok((!lines.is_empty()).then(|| format!("{HEAD}\n\n{lines}")))
}

/// A line for each run of frames that say something: the first one's time code, and what they say.
fn lines(frames: &[Planned], fps: gst::Fraction) -> Vec<String> {
    let (mut lines, mut run) = (Vec::new(), String::new());
    for (index, frame) in frames.iter().enumerate() {
        let said = frame.captions.as_deref().map(pairs).unwrap_or_default();
        let said: Vec<_> = said.into_iter().filter(|pair| !NOTHING.contains(pair)).collect();
        if said.is_empty() && !run.is_empty() {
            lines.push(std::mem::take(&mut run));
        }
        for [a, b] in said {
            match run.is_empty() {
                true => run = format!("{}\t{a:02x}{b:02x}", code(frame, index, fps)),
                false => run += &format!(" {a:02x}{b:02x}"),
            }
        }
    }
    lines.extend((!run.is_empty()).then_some(run));
    lines
}

/// The frame's own time code, or that of its number.
fn code(frame: &Planned, index: usize, fps: gst::Fraction) -> String {
    if let Some(code) = &frame.timecode {
        return code.clone();
    }
    let drop = if fps.denom() == 1 { VideoTimeCodeFlags::empty() } else { VideoTimeCodeFlags::DROP_FRAME };
    let first = VideoTimeCode::new(fps, None, drop, 0, 0, 0, 0, 0);
    let Ok(mut code) = ValidVideoTimeCode::try_from(first) else { return "00:00:00:00".into() };
    code.add_frames(index as i64);
    code.to_string()
}

/// Pairs of field 1 in a frame's captions as the plan holds them: `kind:hexadecimal digits`, separated by commas.
fn pairs(captions: &str) -> Vec<[u8; 2]> {
    let of = |one: &str| -> Option<Vec<[u8; 2]>> {
        let (kind, digits) = one.split_once(':')?;
        let byte = |at: usize| digits.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let data: Vec<u8> = (0..digits.len()).step_by(2).map_while(byte).collect();
        Some(match kind {
            "cea608raw" => data.as_chunks::<2>().0.to_vec(),
            // The highest bit says that it is field 1 (SMPTE 334-1, annex A).
            "cea608s3341a" => triplets(&data, |head| head & 0x80 != 0),
            "cea708raw" => triplets(&data, valid),
            "cea708cdp" => triplets(inside(&data)?, valid),
            _ => Vec::new(),
        })
    };
    captions.split(',').filter_map(of).flatten().collect()
}

/// Whether a head of CEA-708 stands before a valid pair of field 1: `cc_valid` 1, `cc_type` 0.
fn valid(head: u8) -> bool {
    head & 7 == 4
}

/// Pairs behind heads that are good.
fn triplets(data: &[u8], good: impl Fn(u8) -> bool) -> Vec<[u8; 2]> {
    data.as_chunks::<3>().0.iter().filter(|three| good(three[0])).map(|three| [three[1], three[2]]).collect()
}

/// `cc_data` inside a caption distribution packet (SMPTE 334-2): a header of 7 bytes, a time code if the header's
/// flags say so, and the section 0x72.
fn inside(packet: &[u8]) -> Option<&[u8]> {
    let at = if packet.get(4)? & 0x80 != 0 { 12 } else { 7 };
    let count = usize::from(packet.get(at + 1)? & 31);
    (*packet.get(at)? == 0x72).then(|| packet.get(at + 2..at + 2 + 3 * count))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_captions_gives_its_pairs() {
        assert_eq!(pairs("cea608raw:9420942c"), [[0x94, 0x20], [0x94, 0x2c]]);
        assert_eq!(pairs("cea608s3341a:8c942000ffff"), [[0x94, 0x20]]);
        assert_eq!(pairs("cea708raw:fc9420fd8080ff0102f89999"), [[0x94, 0x20]]);
        assert_eq!(pairs("cea708cdp:9669105f43000072e1fc9420740000"), [[0x94, 0x20]]);
        assert_eq!(pairs("cea708cdp:966915 5f".replace(' ', "").as_str()), [[0; 2]; 0]);
        assert_eq!(pairs("cea708cdp:9669155fc3000071c080808072e1fc9420740000"), [[0x94, 0x20]]);
        assert_eq!(pairs("what:94,cea608raw:94"), [[0; 2]; 0]);
    }

    #[test]
    fn a_line_begins_where_something_is_said() {
        gst::init().unwrap();
        let frame = |captions: &str, timecode: Option<&str>| Planned {
            time: 0,
            digest: String::new(),
            timecode: timecode.map(Into::into),
            captions: (!captions.is_empty()).then(|| captions.into()),
        };
        let mut frames = vec![frame("cea608raw:9420", None), frame("cea608raw:942f", None), frame("", None)];
        frames.extend((3..1800).map(|_| frame("cea608raw:8080", None)));
        frames.extend([
            frame("cea608raw:942c", None),
            frame("", None),
            frame("cea608raw:942c", Some("10:00:00;05")),
        ]);
        let fps = gst::Fraction::new(30000, 1001);
        assert_eq!(lines(&frames, fps), ["00:00:00;00\t9420 942f", "00:01:00;02\t942c", "10:00:00;05\t942c"]);
    }
}
