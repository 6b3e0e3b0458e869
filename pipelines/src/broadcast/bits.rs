// SPDX-License-Identifier: MIT OR Apache-2.0
//! Start codes, and bits most significant first: what all three codecs are made of.

/// Where start codes (00 00 01) begin.
pub fn start_codes(data: &[u8]) -> impl Iterator<Item = usize> + '_ {
    data.windows(3).enumerate().filter(|(_, three)| *three == [0, 0, 1]).map(|(at, _)| at)
}

/// Bits that are written one after the other.
#[derive(Default)]
pub struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// Adds the low `count` bits of `value`.
    pub fn put(&mut self, count: u32, value: u32) -> &mut Self {
        for bit in (0..count).rev() {
            if self.used % 8 == 0 {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << (7 - self.used % 8);
            self.used += 1;
        }
        self
    }

    /// The bytes; one and zeros fill the last, as in a payload of HEVC.
    pub fn finish(mut self) -> Vec<u8> {
        if self.used % 8 != 0 {
            self.put(1, 1);
        }
        self.bytes
    }
}

/// Bits that are read one after the other; beyond the end there are none.
pub struct Taken<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Taken<'a> {
    /// From the first bit on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bits.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| {
            let bit = self.bytes.get(self.at / 8)? >> (7 - self.at % 8) & 1;
            self.at += 1;
            Some(value << 1 | u32::from(bit))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_and_bits() {
        assert_eq!(start_codes(&[0, 0, 0, 1, 9, 0, 0, 1]).collect::<Vec<_>>(), [1, 5]);
        let mut bits = Bits::default();
        bits.put(3, 5).put(2, 1).put(4, 9);
        let bytes = bits.finish();
        assert_eq!(bytes, [0b1010_1100, 0b1100_0000]);
        let mut taken = Taken::new(&bytes);
        assert_eq!([3, 2, 4].map(|count| taken.take(count)), [Some(5), Some(1), Some(9)]);
        assert_eq!(taken.take(8), None);
    }
}
