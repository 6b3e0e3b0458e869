// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a file is as long as its container says: MP4 and QuickTime by their outermost atoms, Matroska by its
//! segment, AVI by its RIFF chunks.

use std::fs::File;
use std::io::{ErrorKind, Read, Result, Seek, SeekFrom};
use std::path::Path;

/// Atoms that stand outermost. What has another name behind them is no part of the file.
const ATOMS: &[&[u8; 4]] = &[
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"meta", b"free", b"skip", b"wide",
    b"uuid", b"udta", b"pnot", b"prft", b"emsg",
];
/// First bytes of Matroska, of its segment, and of AVI.
const EBML: &[u8; 4] = &[0x1A, 0x45, 0xDF, 0xA3];
const SEGMENT: &[u8; 4] = &[0x18, 0x53, 0x80, 0x67];
const RIFF: &[u8; 4] = b"RIFF";
/// RIFF lengths from here on stand for one that was not known when writing began.
const UNKNOWN_RIFF: u64 = 0xFFFF_FF00;

/// What is missing, in words; nothing if the file is whole, or its container says no length.
pub fn missing(path: &Path) -> Result<Option<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let declared = match declared(&mut file, length) {
        // A head that ends early says nothing.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
        other => other?,
    };
    let Some((_, end)) = declared.filter(|&(_, end)| end > length) else { return Ok(None) };
    Ok(Some(format!("it is cut off: its container declares {end} bytes, {length} are there")))
}

/// Whether a file's container says how long it plays.
pub fn declares(path: &Path) -> bool {
    let declared = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        declared(&mut file, length)
    });
    matches!(declared, Ok(Some((Kind::Timed, _))))
}

/// How a container counts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Its length in time is written down, too.
    Timed,
    /// Bytes alone.
    Bytes,
}

/// The kind of a container, and where what it declares ends.
fn declared(file: &mut File, length: u64) -> Result<Option<(Kind, u64)>> {
    let mut head = [0; 8];
    file.read_exact(&mut head)?;
    if head[..4] == *EBML {
        return Ok(segment(file)?.map(|end| (Kind::Timed, end)));
    }
    if head[..4] == *RIFF {
        return Ok(Some((Kind::Bytes, chunks(file, length)?)));
    }
    if ATOMS.iter().any(|atom| head[4..] == **atom) {
        return Ok(Some((Kind::Timed, atoms(file, length)?)));
    }
    Ok(None)
}

/// The end of the segment behind the head; nothing if its length is unknown.
fn segment(file: &mut File) -> Result<Option<u64>> {
    file.seek(SeekFrom::Start(4))?;
    let Some(head) = number(file)? else { return Ok(None) };
    file.seek(SeekFrom::Current(head as i64))?;
    let mut name = [0; 4];
    file.read_exact(&mut name)?;
    if name != *SEGMENT {
        return Ok(None);
    }
    let size = number(file)?;
    let start = file.stream_position()?;
    Ok(size.map(|size| start + size))
}

/// A length as EBML writes it; nothing if all its bits are set.
fn number(file: &mut File) -> Result<Option<u64>> {
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    let more = byte[0].leading_zeros();
    if more > 7 {
        return Ok(None);
    }
    let mut value = u64::from(byte[0]) & (0x7F_u64 >> more);
    for _ in 0..more {
        file.read_exact(&mut byte)?;
        value = value << 8 | u64::from(byte[0]);
    }
    Ok(Some(value).filter(|&value| value != (1 << (7 * (more + 1))) - 1))
}

/// The end of the last of the outermost atoms.
fn atoms(file: &mut File, length: u64) -> Result<u64> {
    let mut at = 0;
    while at + 8 <= length {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let (size, name) = head.split_at(4);
        if !ATOMS.iter().any(|atom| name == *atom) {
            break;
        }
        let size = match u32::from_be_bytes([size[0], size[1], size[2], size[3]]) {
            // As long as the file.
            0 => break,
            1 => {
                let mut long = [0; 8];
                file.read_exact(&mut long)?;
                u64::from_be_bytes(long)
            }
            size => size.into(),
        };
        if size < 8 {
            break;
        }
        at = at.saturating_add(size);
    }
    Ok(at)
}

/// The end of the last of the RIFF chunks.
fn chunks(file: &mut File, length: u64) -> Result<u64> {
    let mut at = 0;
    while at + 8 <= length {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let size = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        if head[..4] != *RIFF || size >= UNKNOWN_RIFF {
            break;
        }
        at += 8 + size;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_knows_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let matroska = |size: &[u8]| [EBML, &[0x81, 7][..], SEGMENT, size, &[0; 20]].concat();
        let mp4 =
            |mdat: &[u8], size: u8| [&[0, 0, 0, 8][..], b"ftyp", &[0, 0, 0, size], mdat, &[0; 20]].concat();
        let long = [&[0, 0, 0, 1][..], b"mdat", &[0, 0, 0, 0, 0, 0, 0, 36], &[0; 20]].concat();
        let avi = |size: u8| [RIFF, &[size, 0, 0, 0][..], &[0; 20]].concat();
        for (bytes, whole, timed) in [
            (matroska(&[0x94]), true, true),
            (matroska(&[0x95]), false, true),
            (matroska(&[0xFF]), true, false),
            (matroska(&[0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]), true, false),
            (mp4(b"mdat", 28), true, true),
            (mp4(b"mdat", 29), false, true),
            (mp4(b"mdat", 0), true, true),
            (mp4(b"junk", 99), true, true),
            (long.clone(), true, true),
            (long[..30].to_vec(), false, true),
            (avi(20), true, false),
            (avi(21), false, false),
            (b"\0\0\x01\xB3 elementary".to_vec(), true, false),
            (b"".to_vec(), true, false),
            (EBML.to_vec(), true, false),
        ] {
            std::fs::write(&path, &bytes).unwrap();
            let missing = missing(&path).unwrap();
            assert_eq!((missing.is_none(), declares(&path)), (whole, timed), "{bytes:?}: {missing:?}");
        }
    }
}
