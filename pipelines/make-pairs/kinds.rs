// SPDX-License-Identifier: MIT OR Apache-2.0
//! How each frame was coded, from what the encoder put out.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::codecs::Tells;

/// How a frame was coded: alone, from frames before it, or also from frames after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    I,
    P,
    B,
}

/// A frame as it left the encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Time of display in nanoseconds.
    pub time: u64,
    pub bytes: usize,
    /// By the encoder's flag.
    pub alone: bool,
    /// By the frame's own header, where that is read.
    pub coded: Option<Kind>,
}

/// The kind that the header of a frame says.
pub fn coded(tells: Tells, data: &[u8]) -> Option<Kind> {
    let after = |code: u8| {
        let at = data.windows(4).position(|bytes| bytes == [0, 0, 1, code])?;
        data.get(at + 4..at + 6)
    };
    match tells {
        Tells::Times | Tells::Flags => None,
        // Ten bits of temporal_reference, then three of picture_coding_type.
        Tells::Mpeg2 => match after(0x00)?[1] >> 3 & 7 {
            1 => Some(Kind::I),
            2 => Some(Kind::P),
            3 => Some(Kind::B),
            _ => None,
        },
        // Two bits of vop_coding_type.
        Tells::Mpeg4 => [Kind::I, Kind::P, Kind::B].get(usize::from(after(0xb6)?[0] >> 6)).copied(),
    }
}

/// The kind of each of `count` frames in order of display.
pub fn shown(tells: Tells, packets: &[Packet], count: usize) -> Result<Vec<Kind>> {
    ensure!(packets.len() == count, "{} coded frames, not {count}", packets.len());
    match tells {
        Tells::Times => by_times(packets),
        Tells::Flags => Ok(packets.iter().map(|p| if p.alone { Kind::I } else { Kind::P }).collect()),
        Tells::Mpeg2 | Tells::Mpeg4 => by_headers(packets),
    }
}

/// A frame shown before one that was coded earlier was predicted from both sides.
fn by_times(packets: &[Packet]) -> Result<Vec<Kind>> {
    let mut shown = BTreeMap::new();
    let mut latest = 0;
    for packet in packets {
        let kind = match packet.alone {
            true => Kind::I,
            false if packet.time < latest => Kind::B,
            false => Kind::P,
        };
        latest = latest.max(packet.time);
        shown.insert(packet.time, kind);
    }
    ensure!(shown.len() == packets.len(), "two coded frames have one time");
    Ok(shown.into_values().collect())
}

/// MPEG shows a B frame when it comes, and every other frame when the next of those comes.
fn by_headers(packets: &[Packet]) -> Result<Vec<Kind>> {
    let (mut shown, mut held) = (Vec::new(), None);
    for packet in packets {
        match packet.coded.context("a coded frame without a header")? {
            Kind::B => shown.push(Kind::B),
            kind => shown.extend(held.replace(kind)),
        }
    }
    shown.extend(held);
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(time: u64, alone: bool, coded: Option<Kind>) -> Packet {
        Packet { time, bytes: 9, alone, coded }
    }

    #[test]
    fn times_tell_what_was_predicted_from_both_sides() {
        let packets = [(0, true), (80, false), (40, false), (120, false)].map(|(t, a)| packet(t, a, None));
        assert_eq!(shown(Tells::Times, &packets, 4).unwrap(), [Kind::I, Kind::B, Kind::P, Kind::P]);
        assert!(shown(Tells::Times, &packets, 5).is_err());
        assert!(shown(Tells::Times, &[packet(1, true, None), packet(1, false, None)], 2).is_err());
    }

    #[test]
    fn headers_are_put_in_order_of_display() {
        let packets = [Kind::I, Kind::P, Kind::B, Kind::B, Kind::P].map(|kind| packet(7, false, Some(kind)));
        let order = [Kind::I, Kind::B, Kind::B, Kind::P, Kind::P];
        assert_eq!(shown(Tells::Mpeg2, &packets, 5).unwrap(), order);
        assert!(shown(Tells::Mpeg4, &[packet(0, true, None)], 1).is_err());
    }

    #[test]
    fn headers_are_read() {
        // A sequence header, then a picture header: temporal_reference 1, type 3.
        let mpeg2 = [0, 0, 1, 0xb3, 9, 9, 0, 0, 1, 0x00, 0x00, 0b0101_1000];
        assert_eq!(coded(Tells::Mpeg2, &mpeg2), Some(Kind::B));
        assert_eq!(coded(Tells::Mpeg4, &[0, 0, 1, 0xb6, 0b0110_0000, 0]), Some(Kind::P));
        assert_eq!(coded(Tells::Mpeg4, &[0, 0, 1, 0xb6]), None);
    }
}
