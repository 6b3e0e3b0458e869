// SPDX-License-Identifier: MIT OR Apache-2.0
//! MPEG-2 video (ITU-T H.262): user data of a picture, and the time code of a group of pictures, which stands for
//! each of them by its place.

use gst_video::{VideoTimeCode, VideoTimeCodeFlags};

use super::bits::start_codes;

/// Start codes, as the byte after 00 00 01.
const PICTURE: u8 = 0x00;
const USER_DATA: u8 = 0xb2;
const SEQUENCE: u8 = 0xb3;
const EXTENSION: u8 = 0xb5;
const GROUP: u8 = 0xb8;
/// The kind of extension that states profile and level.
const SEQUENCE_EXTENSION: u8 = 1;
/// The last kind of slice.
const LAST_SLICE: u8 = 0xaf;

/// A level of the Main profile: the largest picture, samples of luma a second, and `level_identification`.
pub struct Level {
    pub name: &'static str,
    size: (u32, u32),
    rate: u64,
    code: u8,
}

/// Tables 8-3, 8-11 and 8-12 of H.262, smallest first.
const LEVELS: [Level; 3] = [
    Level { name: "Main", size: (720, 576), rate: 10_368_000, code: 8 },
    Level { name: "High 1440", size: (1440, 1152), rate: 47_001_600, code: 6 },
    Level { name: "High", size: (1920, 1152), rate: 62_668_800, code: 4 },
];

impl Level {
    /// The smallest level that holds such pictures.
    pub fn of(width: u32, height: u32, fps: gst::Fraction) -> Option<&'static Self> {
        let rate =
            u64::from(width) * u64::from(height) * fps.numer().max(0) as u64 / fps.denom().max(1) as u64;
        LEVELS.iter().find(|level| width <= level.size.0 && height <= level.size.1 && rate <= level.rate)
    }
}

/// `frame_rate_code` of a sequence header, from 1 on.
const RATES: [(i32, i32); 8] =
    [(24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1)];

/// What the headers before a picture's slices say.
struct Headers {
    /// The four bits of `level_identification` are the high ones of this byte.
    level: Option<(usize, &'static Level)>,
    first_slice: Option<usize>,
    group: Option<usize>,
    temporal_reference: Option<u32>,
}

impl Headers {
    fn of(unit: &[u8]) -> Self {
        let mut found = Self { level: None, first_slice: None, group: None, temporal_reference: None };
        let mut stated = None;
        for at in start_codes(unit) {
            match (unit.get(at + 3), unit.get(at + 4..at + 8)) {
                (Some(&PICTURE), Some(next)) => {
                    found.temporal_reference = Some(u32::from(next[0]) << 2 | u32::from(next[1]) >> 6);
                }
                (Some(&SEQUENCE), Some(next)) => {
                    let size = u32::from_be_bytes([next[0], next[1], next[2], next[3]]);
                    let fps = RATES.get(usize::from(next[3] & 15).wrapping_sub(1));
                    let fps = fps.map(|&(num, den)| gst::Fraction::new(num, den));
                    stated = fps.and_then(|fps| Level::of(size >> 20, size >> 8 & 0xfff, fps));
                }
                (Some(&EXTENSION), Some(next)) if next[0] >> 4 == SEQUENCE_EXTENSION => {
                    found.level = stated.map(|level| (at + 5, level));
                }
                (Some(&GROUP), Some(_)) => found.group = Some(at + 4),
                (Some(&(1..=LAST_SLICE)), _) => {
                    found.first_slice = Some(at);
                    break;
                }
                _ => {}
            }
        }
        found
    }
}

/// The picture with these user data and, if it begins a group, with its time code; the level of a sequence is that of
/// its size and rate, which encoders do not look at.
pub fn insert(unit: &[u8], user_data: &[Vec<u8>], code: Option<&VideoTimeCode>) -> Vec<u8> {
    let headers = Headers::of(unit);
    let Some(at) = headers.first_slice else { return unit.to_vec() };
    let mut out = unit[..at].to_vec();
    if let Some((at, level)) = headers.level {
        out[at] = out[at] & 0x0f | level.code << 4;
    }
    if let (Some(group), Some(code), Some(place)) = (headers.group, code, headers.temporal_reference) {
        // The group's code is that of the picture that is shown first.
        let mut first = code.clone();
        let back = -i64::from(place);
        if let Ok(mut valid) = gst_video::ValidVideoTimeCode::try_from(first.clone()) {
            valid.add_frames(back);
            first = valid.into();
        }
        write_code(&mut out[group..group + 4], &first);
    }
    for data in user_data {
        out.extend_from_slice(&[0, 0, 1, USER_DATA]);
        out.extend_from_slice(data);
    }
    out.extend_from_slice(&unit[at..]);
    out
}

/// 25 bits: drop frame, hours, minutes, a one, seconds, pictures.
fn write_code(bytes: &mut [u8], code: &VideoTimeCode) {
    let dropping = u32::from(code.flags().contains(VideoTimeCodeFlags::DROP_FRAME));
    let bits = dropping << 24 | code.hours() << 19 | code.minutes() << 13 | 1 << 12;
    let bits = bits | code.seconds() << 6 | code.frames() & 63;
    let rest = u32::from(bytes[3]) & 0x7f;
    bytes.copy_from_slice(&(bits << 7 | rest).to_be_bytes());
}

/// Follows the time codes of a stream, picture by picture.
#[derive(Default)]
pub struct Reader {
    group: Option<(bool, [u32; 4])>,
}

impl Reader {
    /// The time code of this picture: whether frames are dropped from counting; hours, minutes, seconds, frames of
    /// the first picture of its group; and how many later it is.
    pub fn read(&mut self, unit: &[u8]) -> Option<(bool, [u32; 4], u32)> {
        let headers = Headers::of(unit);
        if let Some(at) = headers.group {
            let bits = u32::from_be_bytes(unit[at..at + 4].try_into().ok()?) >> 7;
            let parts = [bits >> 19 & 31, bits >> 13 & 63, bits >> 6 & 63, bits & 63];
            self.group = Some((bits >> 24 & 1 == 1, parts));
        }
        let (dropping, parts) = self.group?;
        Some((dropping, parts, headers.temporal_reference?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_and_time_code_are_where_they_belong() {
        gst::init().unwrap();
        let fps = gst::Fraction::new(25, 1);
        // A group, a picture that is shown third, its extension, a slice.
        let unit = [
            0, 0, 1, 0xb8, 0, 8, 0, 0x40, 0, 0, 1, 0, 0, 0x8f, 0xff, 0xf8, 0, 0, 1, 0xb5, 0x8f, 0, 0, 1, 1, 9,
        ];
        let code = VideoTimeCode::new(fps, None, VideoTimeCodeFlags::empty(), 9, 59, 59, 24, 0);
        let out = insert(&unit, &[b"DTG1".to_vec()], Some(&code));
        assert_eq!(out[21..29], [0, 0, 1, 0xb2, b'D', b'T', b'G', b'1']);
        assert_eq!(out[29..], unit[21..]);
        assert_eq!(out[7] & 0x7f, 0x40, "closed_gop is kept");
        let mut reader = Reader::default();
        assert_eq!(reader.read(&out), Some((false, [9, 59, 59, 22], 2)));
        let next = [0, 0, 1, 0, 0, 0xcf, 0xff, 0xf8, 0, 0, 1, 1, 9];
        assert_eq!(reader.read(&next), Some((false, [9, 59, 59, 22], 3)));
        assert!(reader.read(&[0, 0, 1, 1]).is_none());
        assert!(Reader::default().read(&next).is_none());
    }
    #[test]
    fn a_sequence_states_the_level_that_holds_it() {
        let level = |w, h, fps| Level::of(w, h, gst::Fraction::new(fps, 1)).map(|level| level.name);
        assert_eq!((level(720, 576, 25), level(720, 480, 30)), (Some("Main"), Some("Main")));
        assert_eq!((level(1440, 1080, 25), level(1920, 1080, 30)), (Some("High 1440"), Some("High")));
        assert_eq!(
            (level(1280, 720, 50), level(1920, 1080, 50), level(1920, 1200, 1)),
            (Some("High 1440"), None, None)
        );
        // 1920×1080 at 25, said to be Main profile at Main level.
        let head = [0, 0, 1, 0xb3, 0x78, 0x04, 0x38, 0x33, 9, 9, 9, 9, 0, 0, 1, 0xb5, 0x14, 0x8a, 0, 1, 0, 0];
        let unit = [&head[..], &[0, 0, 1, 0, 0, 0x0f, 0xff, 0xf8, 0, 0, 1, 1, 9]].concat();
        let out = insert(&unit, &[], None);
        let changed: Vec<_> = (0..unit.len()).filter(|&at| out[at] != unit[at]).collect();
        assert_eq!((changed, out[17]), (vec![17], 0x4a));
    }
}
