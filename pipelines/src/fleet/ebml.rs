// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a Matroska file depend on its content alone: the muxer draws random identifiers for the segment and
//! its tracks, and these are replaced by numbers made from a seed (RFC 9559). A time code gets the tag that it should
//! have, which the muxer does not know.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

const SEGMENT: u32 = 0x1853_8067;
/// Elements that hold others and are looked into: Info, Tracks, TrackEntry, Tags, Tag, Targets, SimpleTag.
const OPENED: &[u32] = &[SEGMENT, 0x1549_A966, 0x1654_AE6B, 0xAE, 0x1254_C367, 0x7373, 0x63C0, 0x67C8];
const TAG_NAME: u32 = 0x45A3;
const TAG_STRING: u32 = 0x4487;
/// The tag that a time code travels under, and the one that it gets: equally long.
const BORROWED: &[u8; 8] = b"COMPOSER";
const TIMECODE: &[u8; 8] = b"TIMECODE";
const SEGMENT_UID: u32 = 0x73A4;
const TRACK_UID: u32 = 0x73C5;
const TAG_TRACK_UID: u32 = 0x63C5;

/// Length of a track's identifier in bytes; without its leading zeros, one in 256 is shorter.
const UID_BYTES: usize = 8;

/// Replaces the identifiers in place. Track n gets the number n, which is unique in the file, as it must be; the
/// segment gets `seed`. A composer whose name is [`lent`] of `timecode` becomes the tag TIMECODE.
///
/// False if a track's identifier was drawn so that its place is too short: the file has to be written again.
///
/// # Errors
/// If the file is no Matroska as `matroskamux` writes it.
pub fn settle(path: &Path, seed: [u8; 16], timecode: Option<&str>) -> Result<bool> {
    let mut file =
        File::options().read(true).write(true).open(path).with_context(|| path.display().to_string())?;
    let end = file.metadata()?.len();
    let mut walk = Walk { file: &mut file, seed, tracks: Vec::new(), segments: 0, timecode, borrowed: None };
    walk.elements(0, end).with_context(|| path.display().to_string())?;
    ensure!(
        walk.segments == 1 && !walk.tracks.is_empty(),
        "{}: {} segments with an identifier, {} tracks",
        path.display(),
        walk.segments,
        walk.tracks.len()
    );
    Ok(walk.tracks.iter().all(|uid| uid.len() == UID_BYTES))
}

/// A time code without the semicolon, which the muxer would put into quotes.
pub fn lent(timecode: &str) -> String {
    timecode.replace(';', ":")
}

struct Walk<'a> {
    file: &'a mut File,
    seed: [u8; 16],
    /// Old identifiers, in the order of the tracks.
    tracks: Vec<Vec<u8>>,
    segments: usize,
    timecode: Option<&'a str>,
    /// Where the last name of a tag stands, if it is the borrowed one.
    borrowed: Option<u64>,
}

impl Walk<'_> {
    fn elements(&mut self, mut at: u64, end: u64) -> Result<()> {
        while at < end {
            self.file.seek(SeekFrom::Start(at))?;
            let (id, id_length) = self.number(false)?;
            let (size, size_length) = self.number(true)?;
            let start = at + id_length + size_length;
            // All ones: as long as what holds it, as live files have it.
            let unknown = size == (1 << (7 * size_length)) - 1;
            let stop = if unknown { end } else { start + size };
            ensure!(stop <= end, "an element at byte {at} ends at {stop}, beyond {end}");
            let id = u32::try_from(id)?;
            if OPENED.contains(&id) {
                self.elements(start, stop)?;
            } else if [SEGMENT_UID, TRACK_UID, TAG_TRACK_UID].contains(&id) {
                self.replace(id, start, size)?;
            } else if id == TAG_NAME {
                self.borrowed = (self.text(size)? == BORROWED).then_some(start);
            } else if id == TAG_STRING
                && let Some(at) = self.borrowed.take()
                && let Some(timecode) = self.timecode
                && self.text(size)? == lent(timecode).as_bytes()
            {
                self.write(at, TIMECODE)?;
                self.write(start, timecode.as_bytes())?;
            }
            at = stop;
        }
        Ok(())
    }

    fn replace(&mut self, id: u32, at: u64, size: u64) -> Result<()> {
        ensure!(size <= 16, "an identifier of {size} bytes at byte {at}");
        let mut old = vec![0; size as usize];
        self.file.read_exact(&mut old)?;
        let number = match id {
            SEGMENT_UID => {
                ensure!(size == 16, "a segment's identifier of {size} bytes");
                self.segments += 1;
                return self.write(at, &self.seed.clone());
            }
            TRACK_UID => {
                self.tracks.push(old);
                self.tracks.len()
            }
            _ => 1 + self.tracks.iter().position(|track| *track == old).context("a tag of no track")?,
        };
        let digits = (number as u64).to_be_bytes();
        let mut new = vec![0; size as usize];
        for (to, from) in new.iter_mut().rev().zip(digits.iter().rev()) {
            *to = *from;
        }
        self.write(at, &new)
    }

    /// A short text; of a longer one, nothing.
    fn text(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut text = vec![0; if size <= 64 { size as usize } else { 0 }];
        self.file.read_exact(&mut text)?;
        // Zeros may fill it up.
        text.truncate(text.iter().position(|&byte| byte == 0).unwrap_or(text.len()));
        Ok(text)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        Ok(self.file.write_all(bytes)?)
    }

    /// A number of variable length, and how long: its marker is part of an element's name, and of no length.
    fn number(&mut self, without_marker: bool) -> Result<(u64, u64)> {
        let mut byte = [0];
        self.file.read_exact(&mut byte)?;
        let length = u64::from(byte[0].leading_zeros()) + 1;
        ensure!(length <= 8, "no element where one must be");
        let mask = if without_marker { 0xFF_u64 >> length } else { 0xFF };
        let mut value = u64::from(byte[0]) & mask;
        for _ in 1..length {
            self.file.read_exact(&mut byte)?;
            value = value << 8 | u64::from(byte[0]);
        }
        Ok((value, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element with a length of one byte.
    fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
        [id, &[0x80 | content.len() as u8], content].concat()
    }

    #[test]
    fn identifiers_are_replaced_wherever_they_stand_and_nothing_else() {
        let file = |segment: [u8; 16], a: &[u8], b: &[u8], name: &[u8]| {
            let info = element(&[0x15, 0x49, 0xA9, 0x66], &element(&[0x73, 0xA4], &segment));
            let track = |uid: &[u8]| {
                element(&[0xAE], &[element(&[0xD7], &[1]), element(&[0x73, 0xC5], uid)].concat())
            };
            let tracks = element(&[0x16, 0x54, 0xAE, 0x6B], &[track(a), track(b)].concat());
            let cluster = element(&[0x1F, 0x43, 0xB6, 0x75], &[9; 20]);
            let target = element(&[0x63, 0xC0], &element(&[0x63, 0xC5], b));
            let simple = |text: &[u8]| {
                let name = element(&[0x45, 0xA3], name);
                element(&[0x67, 0xC8], &[name, element(&[0x44, 0x87], text)].concat())
            };
            let tag = [target, simple(b"01:00:00:00")].concat();
            let tags = element(&[0x12, 0x54, 0xC3, 0x67], &element(&[0x73, 0x73], &tag));
            // The segment's length is unknown.
            [vec![0x18, 0x53, 0x80, 0x67, 0xFF], info, tracks, cluster, tags].concat()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mkv");
        std::fs::write(&path, file([3; 16], &[4; 8], &[5; 8], BORROWED)).unwrap();
        assert!(settle(&path, [7; 16], None).unwrap());
        let number = |n: u64| n.to_be_bytes();
        assert_eq!(std::fs::read(&path).unwrap(), file([7; 16], &number(1), &number(2), BORROWED));
        assert!(settle(&path, [7; 16], Some("01:00:00:01")).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), file([7; 16], &number(1), &number(2), BORROWED));
        assert!(settle(&path, [7; 16], Some("01:00:00;00")).unwrap());
        let mut with = file([7; 16], &number(1), &number(2), TIMECODE);
        let at = with.windows(11).position(|part| part == b"01:00:00:00").unwrap();
        with[at + 8] = b';';
        assert_eq!(std::fs::read(&path).unwrap(), with);
        // What the muxer writes of an identifier that begins with a zero.
        std::fs::write(&path, file([3; 16], &[4; 8], &[5; 7], BORROWED)).unwrap();
        assert!(!settle(&path, [7; 16], None).unwrap());
        std::fs::write(&path, [0; 40]).unwrap();
        assert!(settle(&path, [7; 16], None).is_err());
        std::fs::write(&path, &file([3; 16], &[4; 8], &[5; 8], BORROWED)[..60]).unwrap();
        assert!(settle(&path, [7; 16], None).is_err());
    }
}
