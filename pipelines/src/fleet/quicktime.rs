// SPDX-License-Identifier: MIT OR Apache-2.0
//! What GStreamer does not read of QuickTime files: their time code track, the number of its first frame, and how many
//! packets of sound there are, from the atoms moov, trak, mdia, minf, stbl, hdlr, stsd, stsz and stco.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Atoms that hold others and lead to a track's samples.
const OPENED: &[&[u8; 4]] = &[b"moov", b"trak", b"mdia", b"minf", b"stbl"];
/// What is read of an atom: its first entry is there.
const MOST: u64 = 4096;

/// A time code track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Track {
    /// Number of the first frame since midnight.
    first: u32,
    /// Frames that a second counts.
    rate: u32,
    /// Numbers are left out so that 29.97 frames a second keep to the clock.
    drop: bool,
}

/// The track of a file; `None` if it is no QuickTime file or has none that can be read.
pub fn track(path: &Path) -> Option<Track> {
    let (mut file, found) = read(path)?;
    let ((rate, drop), at) = found.track?;
    file.seek(SeekFrom::Start(at)).ok()?;
    let mut first = [0; 4];
    file.read_exact(&mut first).ok()?;
    Some(Track { first: u32::from_be_bytes(first), rate, drop })
}

/// How many packets of sound a file's tracks hold, those of equal length (uncompressed sound) not counted.
pub fn sounds(path: &Path) -> u64 {
    read(path).map_or(0, |(_, found)| found.sounds)
}

fn read(path: &Path) -> Option<(File, Found)> {
    let mut file = File::open(path).ok()?;
    let end = file.metadata().ok()?.len();
    let mut head = [0; 8];
    file.read_exact(&mut head).ok()?;
    if ![b"ftyp", b"moov", b"mdat", b"wide", b"free"].iter().any(|kind| head[4..] == kind[..]) {
        return None;
    }
    let mut found = Found::default();
    walk(&mut file, 0, end, &mut found)?;
    Some((file, found))
}

#[derive(Default)]
struct Found {
    /// Rate and drop of the description of the track that is walked through, if it is of time codes.
    described: Option<(u32, bool)>,
    /// The first track with its first sample's place.
    track: Option<((u32, bool), u64)>,
    /// Whether the track that is walked through is of sound.
    sound: bool,
    /// Packets of sound so far.
    sounds: u64,
}

fn walk(file: &mut File, mut at: u64, end: u64, found: &mut Found) -> Option<()> {
    while at + 8 <= end {
        file.seek(SeekFrom::Start(at)).ok()?;
        let mut head = [0; 8];
        file.read_exact(&mut head).ok()?;
        let kind = [head[4], head[5], head[6], head[7]];
        let (mut size, mut length) = (u64::from(number(&head[..4])?), 8);
        if size == 1 {
            let mut long = [0; 8];
            file.read_exact(&mut long).ok()?;
            (size, length) = (u64::from_be_bytes(long), 16);
        }
        let stop = if size == 0 { end } else { at.checked_add(size)? };
        if size != 0 && size < length || stop > end {
            return None;
        }
        if kind == *b"trak" {
            (found.described, found.sound) = (None, false);
        }
        if OPENED.contains(&&kind) {
            walk(file, at + length, stop, found)?;
        } else if [*b"hdlr", *b"stsd", *b"stsz", *b"stco", *b"co64"].contains(&kind) {
            let mut body = vec![0; (stop - at - length).min(MOST) as usize];
            file.read_exact(&mut body).ok()?;
            // What is cut off is no track of time codes.
            let _ = table(&kind, &body, found);
        }
        at = stop;
    }
    Some(())
}

/// A description of samples, or their places.
fn table(kind: &[u8; 4], body: &[u8], found: &mut Found) -> Option<()> {
    // Version and flags, number of entries, then the first entry.
    let entry = body.get(8..)?;
    match kind {
        b"stsd" if entry.get(4..8)? == b"tmcd" => {
            // Size, kind, 6 bytes, reference, 4 bytes, flags, time scale, duration of a frame, frames a second.
            found.described = Some((u32::from(*entry.get(32)?), number(entry.get(20..24)?)? & 1 == 1));
        }
        // The first handler of a track is that of its media.
        b"hdlr" => found.sound |= entry.get(..4)? == b"soun",
        b"stsz" if found.sound && body.get(4..8)? == [0; 4] => {
            found.sounds += u64::from(number(entry.get(..4)?)?);
        }
        b"stco" => place(u64::from(number(entry.get(..4)?)?), found),
        b"co64" => place(u64::from_be_bytes(entry.get(..8)?.try_into().ok()?), found),
        _ => {}
    }
    Some(())
}

fn place(at: u64, found: &mut Found) {
    let described = found.described.take().filter(|(rate, _)| *rate > 0);
    found.track = found.track.or(described.map(|described| (described, at)));
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

impl Track {
    /// The time code of a frame of the video, counted from 0: hours to frames, a semicolon where numbers are left out.
    pub fn at(&self, index: usize) -> String {
        let day = 24 * 3600 * u64::from(self.rate);
        let mut number = (u64::from(self.first) + index as u64) % day;
        if self.drop {
            // Two numbers (four of 60) in each minute but every tenth.
            let left_out = u64::from(self.rate) / 15;
            let (minute, ten) =
                (60 * u64::from(self.rate) - left_out, 600 * u64::from(self.rate) - 9 * left_out);
            let (tens, rest) = (number / ten, number % ten);
            number += 9 * left_out * tens + left_out * (rest.saturating_sub(left_out) / minute);
        }
        let rate = u64::from(self.rate);
        let (seconds, frames) = (number / rate, number % rate);
        let mark = if self.drop { ';' } else { ':' };
        format!("{:02}:{:02}:{:02}{mark}{frames:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_left_out_in_all_minutes_but_tenths() {
        let drop = Track { first: 0, rate: 30, drop: true };
        // SMPTE ST 12: the frame after 00:00:59;29 is 00:01:00;02; after 00:09:59;29 comes 00:10:00;00.
        for (index, code) in [
            (0, "00:00:00;00"),
            (1799, "00:00:59;29"),
            (1800, "00:01:00;02"),
            (17_981, "00:09:59;29"),
            (17_982, "00:10:00;00"),
            (107_892, "01:00:00;00"),
        ] {
            assert_eq!(drop.at(index), code, "{index}");
        }
        let plain = Track { first: 90_000, rate: 25, drop: false };
        assert_eq!((plain.at(0), plain.at(26)), ("01:00:00:00".into(), "01:00:01:01".into()));
    }

    #[test]
    fn other_files_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mov");
        for bytes in [
            &b""[..],
            b"RIFF....AVI ",
            b"\0\0\0\x08moov",
            b"\0\0\0\x10moov\0\0\xFF\xFFtrak",
            b"\0\0\0\x03moov",
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(track(&path), None, "{bytes:?}");
        }
    }
}
