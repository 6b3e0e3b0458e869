// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading stored entries of a zip archive, zip64 included; every number is checked against the file.
//!
//! torch stores its entries without compression, so a tensor is a plain range of the file: nothing
//! can grow while it is read.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::{Error, Result};

/// Longest directory that is read; a torch file of 3000 tensors has 300 kB.
const DIRECTORY_LIMIT: u64 = 32 << 20;
/// Length of the end record without its comment, and of the longest comment.
const END_RECORD: u64 = 22;
const COMMENT_LIMIT: u64 = 0xffff;

/// An archive whose directory was read and checked.
pub struct Archive {
    path: PathBuf,
    file: Mutex<Box<dyn Bytes>>,
    length: u64,
    entries: BTreeMap<String, Entry>,
}

/// Where an archive's bytes are: a file, or memory.
pub trait Bytes: Read + Seek + Send {}

impl<T: Read + Seek + Send> Bytes for T {}

/// One stored entry.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    header: u64,
    size: u64,
    crc: u32,
}

impl Entry {
    /// Length of its content.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Archive {
    /// Opens an archive.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::File`] if it is no whole zip archive or its
    /// directory is too long.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(path, Box::new(File::open(path).map_err(Error::io(path))?))
    }

    /// Reads an archive from anywhere; `path` is for errors.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn new(path: &Path, mut file: Box<dyn Bytes>) -> Result<Self> {
        let length = file.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
        let mut archive =
            Self { path: path.to_path_buf(), file: Mutex::new(file), length, entries: BTreeMap::new() };
        let directory = archive.directory()?;
        let mut bytes = vec![0; (directory.end - directory.start) as usize];
        archive.read_at(directory.start, &mut bytes)?;
        let mut rest = Fields(&bytes);
        while !rest.0.is_empty() {
            let (name, entry) = central_entry(&mut rest).map_err(|reason| archive.wrong(reason))?;
            if entry.header.checked_add(entry.size).is_none_or(|end| end > length) {
                let reason =
                    format!("entry {name:?} of {} bytes at {} lies outside", entry.size, entry.header);
                return Err(archive.wrong(format!("{reason} the file's {length} bytes")));
            }
            archive.entries.insert(name, entry);
        }
        Ok(archive)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entry `name`.
    pub fn entry(&self, name: &str) -> Option<Entry> {
        self.entries.get(name).copied()
    }

    /// Names of all entries, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Reads `range` of an entry's content and hands it to `take` as a stream. A stream over the whole
    /// entry that is read to its end is compared with the entry's checksum.
    ///
    /// # Errors
    /// [`Error::File`] if the range lies outside or the checksum differs, [`Error::Io`], and what
    /// `take` returns.
    pub fn read<T>(
        &self,
        entry: Entry,
        range: Range<u64>,
        take: impl FnOnce(&mut dyn Read) -> Result<T>,
    ) -> Result<T> {
        let mut local = [0; 30];
        self.read_at(entry.header, &mut local)?;
        let mut fields = Fields(&local);
        if fields.u32() != Some(0x0403_4b50) {
            return Err(self.wrong(format!("no entry begins at byte {}", entry.header)));
        }
        let word = |at: usize| u64::from(u16::from_le_bytes([local[at], local[at + 1]]));
        let start = entry.header + 30 + word(26) + word(28);
        let inside = range.start <= range.end && range.end <= entry.size;
        if !inside || start.checked_add(entry.size).is_none_or(|end| end > self.length) {
            let reason = format!("bytes {range:?} of an entry of {} at byte {start} lie outside", entry.size);
            return Err(self.wrong(format!("{reason} the file's {} bytes", self.length)));
        }
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        file.seek(SeekFrom::Start(start + range.start)).map_err(Error::io(&self.path))?;
        let mut stream =
            Summed { inner: (&mut **file).take(range.end - range.start), hash: Default::default() };
        let taken = take(&mut stream)?;
        let whole = range == (0..entry.size) && stream.inner.limit() == 0;
        let found = stream.hash.finalize();
        // Some writers leave the checksum out and write 0.
        if whole && entry.crc != 0 && found != entry.crc {
            let reason = format!("entry at byte {} has checksum {found:08x}", entry.header);
            return Err(self.wrong(format!("{reason}, {:08x} expected: the file is damaged", entry.crc)));
        }
        Ok(taken)
    }

    /// A small entry as a whole.
    ///
    /// # Errors
    /// [`Error::File`] if it is absent or longer than `limit`, and as [`Archive::read`].
    pub fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let Some(entry) = self.entry(name) else {
            return Err(self.wrong(format!("no entry {name:?}")));
        };
        if entry.size > limit {
            return Err(
                self.wrong(format!("entry {name:?} is {} bytes long, at most {limit} are read", entry.size))
            );
        }
        self.read(entry, 0..entry.size, |stream| {
            let mut bytes = vec![0; entry.size as usize];
            stream.read_exact(&mut bytes).map_err(Error::io(&self.path))?;
            Ok(bytes)
        })
    }

    /// Where the directory lies, from the end record or its zip64 form.
    fn directory(&self) -> Result<Range<u64>> {
        let tail_start = self.length.saturating_sub(END_RECORD + COMMENT_LIMIT);
        let mut tail = vec![0; (self.length - tail_start) as usize];
        self.read_at(tail_start, &mut tail)?;
        let is_end = |at: &usize| {
            let rest = &tail[*at..];
            rest.starts_with(b"PK\x05\x06")
                && rest.len() >= END_RECORD as usize
                && usize::from(u16::from_le_bytes([rest[20], rest[21]])) == rest.len() - END_RECORD as usize
        };
        let Some(at) = (0..tail.len()).rev().find(is_end) else {
            return Err(
                self.wrong("not a whole zip archive, as torch writes since version 1.6: no end record")
            );
        };
        let end_record = tail_start + at as u64;
        let mut fields = Fields(&tail[at + 12..]);
        let (size, start) = (fields.u32().unwrap_or(0), fields.u32().unwrap_or(0));
        let (mut size, mut start) = (u64::from(size), u64::from(start));
        if size == u64::from(u32::MAX)
            || start == u64::from(u32::MAX)
            || tail[at + 10..at + 12] == [0xff, 0xff]
        {
            (size, start) = self.zip64_directory(end_record)?;
        }
        if size > DIRECTORY_LIMIT {
            return Err(
                self.wrong(format!("zip directory of {size} bytes, at most {DIRECTORY_LIMIT} are read"))
            );
        }
        match start.checked_add(size) {
            Some(end) if end <= end_record => Ok(start..end),
            _ => {
                Err(self
                    .wrong(format!("zip directory of {size} bytes at {start} lies behind its end record")))
            }
        }
    }

    /// Size and start of the directory of an archive with 64-bit offsets.
    fn zip64_directory(&self, end_record: u64) -> Result<(u64, u64)> {
        let missing = || self.wrong("the zip64 end record is missing");
        let mut locator = [0; 20];
        self.read_at(end_record.checked_sub(20).ok_or_else(missing)?, &mut locator)?;
        let mut fields = Fields(&locator);
        let (signature, _disk, place) = (fields.u32(), fields.u32(), fields.u64());
        let place =
            place.filter(|p| signature == Some(0x0706_4b50) && *p < end_record).ok_or_else(missing)?;
        let mut record = [0; 56];
        self.read_at(place, &mut record)?;
        if !record.starts_with(b"PK\x06\x06") {
            return Err(missing());
        }
        let mut fields = Fields(&record[40..]);
        fields.u64().zip(fields.u64()).ok_or_else(missing)
    }

    fn read_at(&self, at: u64, to: &mut [u8]) -> Result<()> {
        if at.checked_add(to.len() as u64).is_none_or(|end| end > self.length) {
            let reason =
                format!("{} bytes are needed at {at}, but the file ends at {}", to.len(), self.length);
            return Err(self.wrong(reason));
        }
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        file.seek(SeekFrom::Start(at)).map_err(Error::io(&self.path))?;
        file.read_exact(to).map_err(Error::io(&self.path))
    }

    fn wrong(&self, reason: impl ToString) -> Error {
        Error::file(&self.path, reason)
    }
}

/// One record of the directory; only stored, plain entries are taken.
fn central_entry(rest: &mut Fields) -> std::result::Result<(String, Entry), String> {
    let cut = || "the zip directory is cut off".to_string();
    let record = rest.bytes(46).ok_or_else(cut)?;
    if !record.starts_with(b"PK\x01\x02") {
        return Err("the zip directory is damaged".into());
    }
    let word = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
    let name = rest.bytes(word(28).into()).ok_or_else(cut)?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| "an entry's name is not UTF-8".to_string())?;
    let mut extra = Fields(rest.bytes(word(30).into()).ok_or_else(cut)?);
    rest.bytes(word(32).into()).ok_or_else(cut)?;
    let [mut packed, mut size, mut header] = [long(20), long(24), long(42)].map(u64::from);
    while let (Some(id), Some(length)) = (extra.u16(), extra.u16()) {
        let mut field = Fields(extra.bytes(length.into()).ok_or_else(cut)?);
        if id == 1 {
            for value in [&mut size, &mut packed, &mut header] {
                if *value == u64::from(u32::MAX) {
                    *value = field.u64().ok_or_else(cut)?;
                }
            }
        }
    }
    let (flags, method) = (word(8), word(10));
    if flags & 1 != 0 {
        return Err(format!("entry {name:?} is encrypted"));
    }
    if method != 0 || packed != size {
        return Err(format!("entry {name:?} is compressed (method {method}), but torch stores its entries"));
    }
    Ok((name, Entry { header, size, crc: long(16) }))
}

/// Little-endian numbers from the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

/// A stream whose checksum grows as it is read.
struct Summed<R> {
    inner: R,
    hash: crc32fast::Hasher,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(to)?;
        self.hash.update(&to[..n]);
        Ok(n)
    }
}
