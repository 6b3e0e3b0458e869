// SPDX-License-Identifier: MIT OR Apache-2.0
//! Supplemental enhancement information, put into access units of H.264 (Annex D) and HEVC (Annex D) before
//! their first slice.

use gst_video::VideoTimeCode;

use super::bits::{Bits, Taken, start_codes};

/// `user_data_registered_itu_t_t35`, in both codecs.
pub const REGISTERED: u8 = 4;
/// `time_code` of HEVC.
pub const TIME_CODE: u8 = 136;

/// Which of the two codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
}

impl Codec {
    fn is_slice(self, header: u8) -> bool {
        match self {
            Self::H264 => (1..=5).contains(&(header & 31)),
            Self::H265 => header >> 1 & 63 < 32,
        }
    }

    fn header(self) -> &'static [u8] {
        match self {
            Self::H264 => &[6],
            // A prefix message, of the lowest layer.
            Self::H265 => &[39 << 1, 1],
        }
    }
}

/// The access unit with these messages (type, payload) in it; as it was if it has no slice.
pub fn insert(codec: Codec, unit: &[u8], messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let first = start_codes(unit).find(|at| unit.get(at + 3).is_some_and(|&header| codec.is_slice(header)));
    let Some(first) = first.filter(|_| !messages.is_empty()) else { return unit.to_vec() };
    // A zero byte before the start code belongs to it.
    let at = if first > 0 && unit[first - 1] == 0 { first - 1 } else { first };
    let mut out = Vec::with_capacity(unit.len() + 128);
    out.extend_from_slice(&unit[..at]);
    for (kind, payload) in messages {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(codec.header());
        out.extend(escaped(&message(*kind, payload)));
    }
    out.extend_from_slice(&unit[at..]);
    out
}

/// `sei_rbsp` with one message.
fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    let mut size = payload.len();
    while size >= 255 {
        out.push(255);
        size -= 255;
    }
    out.push(size as u8);
    out.extend_from_slice(payload);
    out.push(0x80);
    out
}

/// With emulation prevention: no three bytes look like a start code.
fn escaped(rbsp: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rbsp.len() + 4);
    let mut zeros = 0;
    for &byte in rbsp {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        out.push(byte);
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    out
}

/// `time_code` of HEVC with one clock time stamp.
pub fn time_code(code: &VideoTimeCode) -> Vec<u8> {
    let dropping = code.flags().contains(gst_video::VideoTimeCodeFlags::DROP_FRAME);
    let mut bits = Bits::default();
    bits.put(2, 1).put(1, 1);
    // No fields; counting_type: none dropped, or as drop frame has it; a full time stamp without discontinuity.
    bits.put(1, 0).put(5, if dropping { 4 } else { 0 }).put(1, 1).put(1, 0).put(1, 0);
    bits.put(9, code.frames()).put(6, code.seconds()).put(6, code.minutes()).put(5, code.hours());
    bits.put(5, 0);
    bits.finish()
}

/// The time code that an access unit of HEVC carries: whether frames are dropped from counting; hours, minutes,
/// seconds, frames. Parsers may halve the frames, taking them for fields.
pub fn read_time_code(unit: &[u8]) -> Option<(bool, [u32; 4])> {
    let starts: Vec<_> = start_codes(unit).collect();
    starts.iter().enumerate().find_map(|(index, start)| {
        let end = starts.get(index + 1).copied().unwrap_or(unit.len());
        let nal = &unit[start + 3..end];
        (nal.first()? >> 1 & 63 == 39).then(|| payload(&unescaped(nal.get(2..)?), TIME_CODE))?
    })
}

/// The clock time stamp in the first message of this kind.
fn payload(rbsp: &[u8], wanted: u8) -> Option<(bool, [u32; 4])> {
    let mut rest = rbsp;
    // What is left at the end is a stop bit.
    while rest.len() > 2 {
        let mut number = || {
            let long = rest.iter().take_while(|&&byte| byte == 255).count();
            let value = 255 * long + usize::from(*rest.get(long)?);
            rest = &rest[long + 1..];
            Some(value)
        };
        let (kind, size) = (number()?, number()?);
        let body = rest.get(..size)?;
        if kind == usize::from(wanted) {
            return clock_time(body);
        }
        rest = &rest[size..];
    }
    None
}

fn clock_time(body: &[u8]) -> Option<(bool, [u32; 4])> {
    let mut bits = Taken::new(body);
    if bits.take(2)? == 0 || bits.take(1)? == 0 {
        return None;
    }
    bits.take(1)?;
    let dropping = bits.take(5)? == 4;
    let full = bits.take(1)? == 1;
    bits.take(2)?;
    let frames = bits.take(9)?;
    // Seconds, then minutes, then hours; each is there if its flag is, and only if the one before is.
    let mut parts = [0; 3];
    for (part, count) in parts.iter_mut().zip([6, 6, 5]) {
        if !full && bits.take(1)? == 0 {
            break;
        }
        *part = bits.take(count)?;
    }
    let [seconds, minutes, hours] = parts;
    Some((dropping, [hours, minutes, seconds, frames]))
}

/// Without emulation prevention.
fn unescaped(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut zeros = 0;
    for &byte in data {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_before_the_first_slice() {
        let unit = [0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x67, 7, 0, 0, 1, 0x65, 1, 2, 0, 0, 1, 0x65, 3];
        let out = insert(Codec::H264, &unit, &[(REGISTERED, vec![1, 0, 0, 1])]);
        assert_eq!(out[..12], unit[..12]);
        assert_eq!(out[12..24], [0, 0, 0, 1, 6, 4, 4, 1, 0, 0, 3, 1]);
        assert_eq!((out[24], &out[25..]), (0x80, &unit[12..]));
        assert_eq!(insert(Codec::H264, &unit, &[]), unit);
        let hevc = [0, 0, 0, 1, 0x40, 1, 9, 0, 0, 0, 1, 0x26, 1, 5];
        let out = insert(Codec::H265, &hevc, &[(REGISTERED, vec![8])]);
        assert_eq!(out[7..16], [0, 0, 0, 1, 0x4e, 1, 4, 1, 8]);
        assert_eq!(out[16..], [&[0x80][..], &hevc[7..]].concat());
    }

    #[test]
    fn long_payloads_and_zeros_keep_their_form() {
        assert_eq!(message(4, &[7; 256])[..4], [4, 255, 1, 7]);
        assert_eq!(escaped(&[0, 0, 0, 0, 0, 2]), [0, 0, 3, 0, 0, 3, 0, 2]);
    }

    #[test]
    fn time_codes_of_hevc_are_read_as_they_are_written() {
        gst::init().unwrap();
        let fps = gst::Fraction::new(50, 1);
        let none = gst_video::VideoTimeCodeFlags::empty();
        let code = VideoTimeCode::new(fps, None, none, 10, 0, 0, 49, 0);
        let written = time_code(&code);
        // 01 1 0 00000 1 0 0 000110001 000000 000000 01010 00000, and a one.
        assert_eq!(written, [0x60, 0x41, 0x88, 0x00, 0x28, 0x10]);
        let unit = [0, 0, 0, 1, 0x26, 1, 5];
        let out = insert(Codec::H265, &unit, &[(REGISTERED, vec![8]), (TIME_CODE, written)]);
        assert_eq!(read_time_code(&out), Some((false, [10, 0, 0, 49])));
        assert_eq!(read_time_code(&unit), None);
        for cut in 0..out.len() {
            // Whatever is cut off, nothing panics.
            read_time_code(&out[..cut]);
        }
        assert_eq!(unescaped(&escaped(&[0, 0, 0, 1, 0, 0, 3])), [0, 0, 0, 1, 0, 0, 3]);
    }
}
