// SPDX-License-Identifier: MIT OR Apache-2.0
//! The container of AVIF, boxes of ISO/IEC 14496-12 and 23008-12: as much as one picture needs.
//!
//! Every read is checked against the bytes there are, and no allocation is larger than the file.

type Read<T> = Result<T, String>;

/// Colours as `colr` of type `nclx` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nclx {
    pub(super) matrix: u16,
    pub(super) full: bool,
}

/// One coded picture: its AV1 data and what the container says about it.
#[derive(Debug, Clone, Default)]
pub(super) struct Item {
    pub(super) data: Vec<u8>,
    pub(super) size: Option<(u32, u32)>,
    pub(super) nclx: Option<Nclx>,
    pub(super) icc: Option<Vec<u8>>,
    /// Quarter turns against the clock.
    pub(super) turns: u8,
    /// Axis of `imir`: 0 swaps top and bottom, 1 swaps left and right.
    pub(super) mirror: Option<u8>,
    pub(super) premultiplied: bool,
    /// Where 4:2:0 chroma stands, as `av1C` says: 1 left, 2 top left, else unknown.
    pub(super) siting: u8,
}

/// The primary picture, and the one that holds its opacity.
pub(super) struct Still {
    pub(super) colour: Item,
    pub(super) alpha: Option<Item>,
}

/// Bytes taken from the front.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count).ok_or("the file ends too early")?;
        self.0 = tail;
        Ok(head)
    }

    /// A big-endian number of 0 to 8 bytes.
    fn number(&mut self, bytes: usize) -> Read<u64> {
        Ok(self.take(bytes)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn u8(&mut self) -> Read<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Read<u16> {
        Ok(self.number(2)? as u16)
    }

    fn u32(&mut self) -> Read<u32> {
        Ok(self.number(4)? as u32)
    }

    /// Version and flags of a full box.
    fn version(&mut self) -> Read<(u8, u32)> {
        let word = self.u32()?;
        Ok(((word >> 24) as u8, word & 0xff_ffff))
    }

    /// An item's number, of two bytes or four.
    fn id(&mut self, wide: bool) -> Read<u32> {
        Ok(self.number(if wide { 4 } else { 2 })? as u32)
    }

    /// The next box: kind and content; `None` at the end.
    fn next(&mut self) -> Read<Option<(&'a [u8], Bytes<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (short, kind) = (self.u32()?, self.take(4)?);
        let length = match short {
            0 => self.0.len() as u64,
            1 => self.number(8)?.checked_sub(16).ok_or("a box is shorter than its head")?,
            _ => u64::from(short).checked_sub(8).ok_or("a box is shorter than its head")?,
        };
        let length = usize::try_from(length).map_err(|_| "the file ends too early")?;
        Ok(Some((kind, Bytes(self.take(length)?))))
    }

    /// The first box of a kind.
    fn find(mut self, wanted: &[u8; 4]) -> Read<Option<Bytes<'a>>> {
        while let Some((kind, content)) = self.next()? {
            if kind == wanted {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    fn need(self, wanted: &[u8; 4]) -> Read<Bytes<'a>> {
        self.find(wanted)?.ok_or_else(|| format!("has no box `{}`", String::from_utf8_lossy(wanted)))
    }
}

/// Reads a file's primary picture.
pub(super) fn read(file: &[u8]) -> Read<Still> {
    let mut meta = Bytes(file).need(b"meta")?;
    meta.version()?;
    let mut pitm = meta.need(b"pitm")?;
    let (version, _) = pitm.version()?;
    let primary = pitm.id(version > 0)?;
    match kind(meta, primary)? {
        b"av01" => {}
        b"grid" => return Err("is put together from tiles (grid), which is not read here".into()),
        other => return Err(format!("holds `{}`, not av01", other.escape_ascii())),
    }
    let mut colour = item(file, meta, primary)?;
    let mut alpha = None;
    for (from, to) in references(meta, b"auxl")? {
        if to == primary && is_alpha(meta, from)? {
            alpha = Some(item(file, meta, from)?);
            colour.premultiplied = references(meta, b"prem")?.contains(&(primary, from));
            break;
        }
    }
    Ok(Still { colour, alpha })
}

/// The four letters of an item's kind.
fn kind<'a>(meta: Bytes<'a>, id: u32) -> Read<&'a [u8]> {
    let mut iinf = meta.need(b"iinf")?;
    let (version, _) = iinf.version()?;
    iinf.id(version > 0)?;
    while let Some((name, mut infe)) = iinf.next()? {
        let (version, _) = infe.version()?;
        if name == b"infe" && version >= 2 && infe.id(version > 2)? == id {
            infe.take(2)?;
            return infe.take(4);
        }
    }
    Err(format!("does not describe item {id}"))
}

/// From and to of every reference of a kind.
fn references(meta: Bytes, wanted: &[u8; 4]) -> Read<Vec<(u32, u32)>> {
    let mut pairs = Vec::new();
    let Some(mut iref) = meta.find(b"iref")? else { return Ok(pairs) };
    let (version, _) = iref.version()?;
    while let Some((name, mut content)) = iref.next()? {
        if name == wanted {
            let from = content.id(version > 0)?;
            for _ in 0..content.u16()? {
                pairs.push((from, content.id(version > 0)?));
            }
        }
    }
    Ok(pairs)
}

/// Calls `each` with every property of an item.
fn properties<'a>(
    meta: Bytes<'a>,
    id: u32,
    mut each: impl FnMut(&'a [u8], Bytes<'a>, bool) -> Read<()>,
) -> Read<()> {
    let iprp = meta.need(b"iprp")?;
    let (mut ipco, mut all) = (iprp.need(b"ipco")?, Vec::new());
    while let Some(property) = ipco.next()? {
        all.push(property);
    }
    let mut ipma = iprp.need(b"ipma")?;
    let (version, flags) = ipma.version()?;
    for _ in 0..ipma.u32()? {
        let item = ipma.id(version > 0)?;
        for _ in 0..ipma.u8()? {
            let wide = flags & 1 != 0;
            let word = ipma.number(if wide { 2 } else { 1 })? as usize;
            let (essential, index) =
                if wide { (word >> 15, word & 0x7fff) } else { (word >> 7, word & 0x7f) };
            if item == id && index > 0 {
                let &(kind, content) = all.get(index - 1).ok_or("names a property that it does not have")?;
                each(kind, content, essential == 1)?;
            }
        }
    }
    Ok(())
}

fn is_alpha(meta: Bytes, id: u32) -> Read<bool> {
    let mut alpha = false;
    properties(meta, id, |kind, content, _| {
        let name = content.0.get(4..).unwrap_or_default();
        alpha |= kind == b"auxC"
            && (name.starts_with(b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
                || name.starts_with(b"urn:mpeg:hevc:2015:auxid:1\0"));
        Ok(())
    })?;
    Ok(alpha)
}

fn item(file: &[u8], meta: Bytes, id: u32) -> Read<Item> {
    let mut item = Item { data: data(file, meta, id)?, ..Item::default() };
    properties(meta, id, |kind, mut content, essential| {
        match kind {
            b"ispe" => {
                content.version()?;
                item.size = Some((content.u32()?, content.u32()?));
            }
            b"colr" => match content.take(4)? {
                b"nclx" => {
                    content.take(4)?;
                    item.nclx = Some(Nclx { matrix: content.u16()?, full: content.u8()? & 0x80 != 0 });
                }
                b"prof" | b"rICC" => item.icc = Some(content.0.to_vec()),
                _ => {}
            },
            b"irot" => item.turns = content.u8()? & 3,
            b"imir" => item.mirror = Some(content.u8()? & 1),
            b"av1C" => item.siting = content.take(4)?[2] & 3,
            b"pixi" | b"auxC" | b"pasp" => {}
            other if essential => {
                return Err(format!("needs `{}`, which is not read here", other.escape_ascii()));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(item)
}

/// An item's bytes, its extents one after the other.
fn data(file: &[u8], meta: Bytes, id: u32) -> Read<Vec<u8>> {
    let mut iloc = meta.need(b"iloc")?;
    let (version, _) = iloc.version()?;
    let sizes = iloc.u16()?;
    let [offset, length, base, index] = [12, 8, 4, 0].map(|shift| usize::from(sizes >> shift & 15));
    if [offset, length, base, index].iter().any(|size| ![0, 4, 8].contains(size)) {
        return Err("has an `iloc` with numbers of odd sizes".into());
    }
    for _ in 0..iloc.id(version > 1)? {
        let item = iloc.id(version > 1)?;
        let method = if version > 0 { iloc.u16()? & 15 } else { 0 };
        iloc.u16()?;
        let start = iloc.number(base)?;
        let source = match method {
            0 => file,
            1 if item == id => meta.need(b"idat")?.0,
            _ if item == id => return Err("takes its data from another item, which is not read here".into()),
            _ => file,
        };
        let mut bytes = Vec::new();
        for _ in 0..iloc.u16()? {
            if version > 0 {
                iloc.number(index)?;
            }
            let (from, count) = (iloc.number(offset)?, iloc.number(length)?);
            if item != id {
                continue;
            }
            let from = start.checked_add(from).and_then(|from| usize::try_from(from).ok());
            let rest = from.and_then(|from| source.get(from..)).ok_or("the file ends too early")?;
            let count = if count == 0 { rest.len() } else { usize::try_from(count).unwrap_or(usize::MAX) };
            bytes.extend_from_slice(rest.get(..count).ok_or("the file ends too early")?);
            if bytes.len() > file.len() {
                return Err("uses its data more than once".into());
            }
        }
        if item == id {
            return Ok(bytes);
        }
    }
    Err(format!("does not say where item {id} is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Vec<u8> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pictures");
        std::fs::read(folder.join(name)).unwrap()
    }

    #[test]
    fn the_primary_picture_is_found() {
        for name in ["full.avif", "half.avif"] {
            let still = read(&file(name)).unwrap();
            assert_eq!(still.colour.size, Some((45, 35)), "{name}");
            assert!(!still.colour.data.is_empty() && still.alpha.is_none());
            assert_eq!((still.colour.turns, still.colour.mirror), (0, None));
        }
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_an_error_or_a_picture() {
        let whole = file("half.avif");
        for end in 0..whole.len() {
            if let Ok(still) = read(&whole[..end]) {
                assert!(still.colour.data.len() <= end);
            }
        }
        for at in 0..whole.len().min(600) {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = read(&bytes);
            }
        }
    }
}
