// SPDX-License-Identifier: MIT OR Apache-2.0
//! DPX as scanners write it (SMPTE ST 268-1): one element, not compressed, upright, red-green-blue of 8, 10, 12 or
//! 16 bits or grey of 8 or 16.

use anyhow::{Context, Result, bail, ensure};

use super::samples::Samples;

/// Names that the header's first number has, for either order of bytes.
const BIG: &[u8] = b"SDPX";
const LITTLE: &[u8] = b"XPDS";
/// What a field holds that was left empty.
const UNSET: u32 = u32::MAX;

/// A DPX file.
#[derive(Debug)]
pub struct Dpx {
    /// Its picture.
    pub picture: Samples,
    /// The time code of the television header, hours to frames.
    pub timecode: Option<String>,
}

/// Whether a file's first bytes are those of a DPX.
pub fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(BIG) || bytes.starts_with(LITTLE)
}

struct Header<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl Header<'_> {
    fn take<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let bytes = self.bytes.get(at..at + N).context("the header is cut off")?;
        let mut taken: [u8; N] = bytes.try_into()?;
        if self.little {
            taken.reverse();
        }
        Ok(taken)
    }

    fn byte(&self, at: usize) -> Result<u8> {
        Ok(self.take::<1>(at)?[0])
    }

    fn half(&self, at: usize) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(at)?))
    }

    fn word(&self, at: usize) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(at)?))
    }
}

/// Reads a file's bytes.
///
/// # Errors
/// Whatever is not as said above, naming the field.
pub fn read(bytes: &[u8]) -> Result<Dpx> {
    ensure!(is(bytes), "no DPX");
    let header = Header { bytes, little: bytes.starts_with(LITTLE) };
    let (orientation, elements) = (header.half(768)?, header.half(770)?);
    ensure!(orientation == 0, "DPX orientation {orientation}; only 0 (upright) can be read");
    ensure!(elements == 1, "{elements} picture elements; only one can be read");
    let (width, height) = (header.word(772)? as usize, header.word(776)? as usize);
    let (sign, descriptor, bits) = (header.word(780)?, header.byte(800)?, u32::from(header.byte(803)?));
    let (packing, encoding) = (header.half(804)?, header.half(806)?);
    ensure!(sign == 0 || sign == UNSET, "signed samples cannot be read");
    ensure!(encoding == 0 || encoding == u16::MAX, "DPX encoding {encoding}; only 0 (none) can be read");
    let channels = match descriptor {
        6 => 1,
        50 => 3,
        51 | 52 => bail!("it has an alpha channel; only opaque pictures can be read"),
        other => bail!("DPX descriptor {other}; only 50 (RGB) and 6 (luma) can be read"),
    };
    let padding = match header.word(812)? {
        UNSET => 0,
        bytes => bytes as usize,
    };
    let start = match header.word(808)? {
        0 | UNSET => header.word(4)? as usize,
        start => start as usize,
    };
    let in_row =
        width.checked_mul(channels).filter(|n| (1..1 << 24).contains(n)).context("a row's length")?;
    let row_bytes = match (bits, packing) {
        (8, _) => in_row.next_multiple_of(4),
        (10, 1 | 2) if channels == 3 => 4 * in_row.div_ceil(3),
        (12, 1 | 2) if channels == 3 => (2 * in_row).next_multiple_of(4),
        (16, _) => (2 * in_row).next_multiple_of(4),
        _ => bail!("{bits} bits in {channels} channels with packing {packing} cannot be read"),
    };
    let mut data = Vec::new();
    for row in 0..height {
        let at = row.checked_mul(row_bytes + padding).and_then(|at| at.checked_add(start));
        let end = at.and_then(|at| at.checked_add(row_bytes));
        let line = at.zip(end).and_then(|(at, end)| bytes.get(at..end));
        unpack(
            line.with_context(|| format!("it ends in row {row} of {height}"))?,
            bits,
            packing,
            header.little,
            in_row,
            &mut data,
        );
    }
    // The television header may be missing or empty.
    let timecode = header.word(1920).ok().filter(|&code| code != UNSET).and_then(timecode);
    Ok(Dpx { picture: Samples::new(width, height, channels, bits, data)?, timecode })
}

/// One row's samples.
fn unpack(row: &[u8], bits: u32, packing: u16, little: bool, count: usize, out: &mut Vec<u16>) {
    let half = |pair: &[u8]| {
        let pair = [pair[0], pair[1]];
        if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
    };
    match bits {
        8 => out.extend(row.iter().take(count).map(|&value| u16::from(value))),
        10 => {
            // Three in a word, the first highest; two bits over, below (method A) or above (B).
            let low = if packing == 1 { 2 } else { 0 };
            let words = row.chunks_exact(4).map(|four| {
                let four = [four[0], four[1], four[2], four[3]];
                if little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) }
            });
            let samples = words.flat_map(|word| [20, 10, 0].map(|up| (word >> (up + low) & 0x3FF) as u16));
            out.extend(samples.take(count));
        }
        12 => {
            let low = if packing == 1 { 4 } else { 0 };
            out.extend(row.chunks_exact(2).map(|pair| half(pair) >> low & 0xFFF).take(count));
        }
        _ => out.extend(row.chunks_exact(2).map(half).take(count)),
    }
}

/// Eight decimal digits in half bytes.
fn timecode(code: u32) -> Option<String> {
    let digits = format!("{code:08x}");
    let valid = digits.bytes().all(|digit| digit.is_ascii_digit());
    valid.then(|| format!("{}:{}:{}:{}", &digits[..2], &digits[2..4], &digits[4..6], &digits[6..]))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A file with the header that is needed, and rows of packed samples.
    pub fn file(little: bool, size: (u32, u32), kind: (u8, u8, u16), rows: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xFF; 2048];
        let mut put = |at: usize, value: &[u8]| {
            let mut value = value.to_vec();
            if little {
                value.reverse();
            }
            bytes[at..at + value.len()].copy_from_slice(&value);
        };
        put(0, BIG);
        put(4, &2048u32.to_be_bytes());
        for (at, value) in [(768, 0u16), (770, 1), (804, kind.2), (806, 0)] {
            put(at, &value.to_be_bytes());
        }
        for (at, value) in
            [(772, size.0), (776, size.1), (780, 0), (808, 2048), (812, 0), (1920, 0x0102_0304)]
        {
            put(at, &value.to_be_bytes());
        }
        put(800, &[kind.0]);
        put(803, &[kind.1]);
        bytes.extend(rows);
        bytes
    }

    #[test]
    fn every_packing_in_either_order_gives_its_samples() {
        gst::init().unwrap();
        let (a, b, c) = (0x155u32, 0x2AA, 0x3F0);
        let wide = |value: u16, little: bool| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        for little in [false, true] {
            for (packing, low) in [(1, 2), (2, 0)] {
                let word = (a << 20 | b << 10 | c) << low;
                let row = if little { word.to_le_bytes() } else { word.to_be_bytes() };
                let read = read(&file(little, (1, 1), (50, 10, packing), &row)).unwrap();
                assert_eq!(read.picture.data, [a as u16, b as u16, c as u16]);
                assert_eq!(read.timecode.as_deref(), Some("01:02:03:04"));
            }
            for (packing, low) in [(1, 4), (2, 0)] {
                let row = [0xABC, 0x123, 0xFED, 0].map(|v: u16| wide(v << low, little)).concat();
                let read = read(&file(little, (1, 1), (50, 12, packing), &row)).unwrap();
                assert_eq!(read.picture.data, [0xABC, 0x123, 0xFED]);
            }
            let row = [0xABCD, 0x1234].map(|v| wide(v, little)).concat();
            let read = read(&file(little, (2, 1), (6, 16, 0), &row)).unwrap();
            assert_eq!((read.picture.data, read.picture.channels), (vec![0xABCD, 0x1234], 1));
        }
        let read = read(&file(false, (1, 2), (50, 8, 0), &[1, 2, 3, 0, 4, 5, 6, 0])).unwrap();
        assert_eq!(read.picture.data, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let word = |text: &str, bytes: &[u8]| {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        word("alpha", &file(false, (1, 1), (51, 8, 0), &[0; 4]));
        word("descriptor 100", &file(false, (1, 1), (100, 8, 0), &[0; 4]));
        word("14 bits", &file(false, (1, 1), (50, 14, 0), &[0; 8]));
        word("row 1 of 2", &file(false, (1, 2), (50, 8, 0), &[0; 4]));
        word("no DPX", b"II*\0");
        word("cut off", b"SDPX");
        word("row's length", &file(false, (u32::MAX, 1), (50, 8, 0), &[0; 4]));
        let mut turned = file(false, (1, 1), (50, 8, 0), &[0; 4]);
        turned[769] = 1;
        word("orientation 1", &turned);
    }
}
