// SPDX-License-Identifier: MIT OR Apache-2.0
//! `PIXEL_FORMATS`: the raw formats the element accepts, and where each sample of a format lies.

/// What the three components of a format are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Luma and two colour differences, in this order.
    Yuv,
    /// Red, green, blue, in this order.
    Rgb,
    /// Luma alone.
    Gray,
}

/// How samples are laid out within a row of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Each sample in a byte of its own.
    Byte,
    /// Each sample in a 16-bit little-endian word of its own (or sharing it, at a shift).
    Le16,
    /// The same, big-endian.
    Be16,
    /// Samples sharing a 32-bit little-endian word.
    Le32,
    /// Samples sharing a 32-bit big-endian word.
    Be32,
    /// A row is a sequence of 10-bit samples, three in each 32-bit little-endian word.
    Tens32,
    /// A row is a little-endian bit stream of 10-bit samples, four in five bytes.
    TensLe,
    /// A row is a big-endian bit stream of 10-bit samples, four in five bytes.
    TensBe,
}

impl Packing {
    /// Whether a row is a stream of bits, in which samples of different pixels share words.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Tens32 | Self::TensLe | Self::TensBe)
    }
}

/// One component: where its samples are.
///
/// For [`Packing::Tens32`] and the bit streams `offset` and `step` count samples of the row's
/// sequence; for all others they count bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Index of the plane.
    pub plane: usize,
    /// Position of the first sample in the row.
    pub offset: usize,
    /// Distance from one sample to the next.
    pub step: usize,
    /// How far the sample is shifted up in its word, in bits.
    pub shift: u32,
    /// Width of the sample in bits.
    pub depth: u32,
}

/// One row of [`PIXEL_FORMATS`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelFormat {
    /// Name as in caps.
    pub name: &'static str,
    /// What the components are.
    pub model: Model,
    /// How samples lie in a row.
    pub packing: Packing,
    /// log2 of the horizontal and vertical subsampling of components 1 and 2.
    pub sub: (u32, u32),
    /// The components; [`Model::Gray`] uses the first only. Alpha is not listed: it is never touched.
    pub components: [Component; 3],
}

impl PixelFormat {
    /// The row with this caps name.
    pub fn named(name: &str) -> Option<&'static PixelFormat> {
        PIXEL_FORMATS.iter().find(|format| format.name == name)
    }

    /// How many components are restored: 3, or 1 for grey.
    pub fn count(&self) -> usize {
        if self.model == Model::Gray { 1 } else { 3 }
    }

    /// Bits of the widest sample.
    pub fn depth(&self) -> u32 {
        self.components[..self.count()].iter().map(|component| component.depth).max().unwrap_or(8)
    }

    /// Subsampling (log2, horizontal and vertical) of component `index`.
    pub fn sub_of(&self, index: usize) -> (u32, u32) {
        if index == 0 { (0, 0) } else { self.sub }
    }
}

const fn at(plane: usize, offset: usize, step: usize, shift: u32, depth: u32) -> Component {
    Component { plane, offset, step, shift, depth }
}

type Abc = [Component; 3];

/// Three planes in the order given.
const fn planes(order: [usize; 3], step: usize, shift: u32, depth: u32) -> Abc {
    [
        at(order[0], 0, step, shift, depth),
        at(order[1], 0, step, shift, depth),
        at(order[2], 0, step, shift, depth),
    ]
}

/// A luma plane and one of interleaved chroma, the first component at `u`, the second at `v` words.
const fn semi(word: usize, u: usize, v: usize, shift: u32, depth: u32) -> Abc {
    [
        at(0, 0, word, shift, depth),
        at(1, u * word, 2 * word, shift, depth),
        at(1, v * word, 2 * word, shift, depth),
    ]
}

/// One plane of pixels of `step` bytes, the components at these byte offsets.
const fn packed(offsets: [usize; 3], step: usize, shift: u32, depth: u32) -> Abc {
    [
        at(0, offsets[0], step, shift, depth),
        at(0, offsets[1], step, shift, depth),
        at(0, offsets[2], step, shift, depth),
    ]
}

/// One plane of pixel pairs sharing chroma: offsets in words, `word` bytes each.
const fn pairs(offsets: [usize; 3], word: usize, shift: u32, depth: u32) -> Abc {
    [
        at(0, offsets[0] * word, 2 * word, shift, depth),
        at(0, offsets[1] * word, 4 * word, shift, depth),
        at(0, offsets[2] * word, 4 * word, shift, depth),
    ]
}

/// One word per pixel, components at these shifts with these depths.
const fn bits(step: usize, shifts: [u32; 3], depths: [u32; 3]) -> Abc {
    [
        at(0, 0, step, shifts[0], depths[0]),
        at(0, 0, step, shifts[1], depths[1]),
        at(0, 0, step, shifts[2], depths[2]),
    ]
}

const fn row(
    name: &'static str,
    model: Model,
    packing: Packing,
    sub: (u32, u32),
    components: Abc,
) -> PixelFormat {
    PixelFormat { name, model, packing, sub, components }
}

use Model::{Gray, Rgb, Yuv};
use Packing::{Be16, Be32, Byte, Le16, Le32, Tens32, TensBe, TensLe};

const YUV: [usize; 3] = [0, 1, 2];
const YVU: [usize; 3] = [0, 2, 1];
const GBR: [usize; 3] = [2, 0, 1];

/// Every accepted format, best first: caps negotiation prefers earlier rows. The pads offer those that the GStreamer
/// at hand knows.
#[rustfmt::skip]
pub const PIXEL_FORMATS: &[PixelFormat] = &[
    row("ARGB64", Rgb, if cfg!(target_endian = "little") { Le16 } else { Be16 }, (0, 0), packed([2, 4, 6], 8, 0, 16)),
    row("ARGB64_LE", Rgb, Le16, (0, 0), packed([2, 4, 6], 8, 0, 16)),
    row("ARGB64_BE", Rgb, Be16, (0, 0), packed([2, 4, 6], 8, 0, 16)),
    row("RGBA64_LE", Rgb, Le16, (0, 0), packed([0, 2, 4], 8, 0, 16)),
    row("RGBA64_BE", Rgb, Be16, (0, 0), packed([0, 2, 4], 8, 0, 16)),
    row("BGRA64_LE", Rgb, Le16, (0, 0), packed([4, 2, 0], 8, 0, 16)),
    row("BGRA64_BE", Rgb, Be16, (0, 0), packed([4, 2, 0], 8, 0, 16)),
    row("ABGR64_LE", Rgb, Le16, (0, 0), packed([6, 4, 2], 8, 0, 16)),
    row("ABGR64_BE", Rgb, Be16, (0, 0), packed([6, 4, 2], 8, 0, 16)),
    row("AYUV64", Yuv, if cfg!(target_endian = "little") { Le16 } else { Be16 }, (0, 0), packed([2, 4, 6], 8, 0, 16)),
    row("A444_16LE", Yuv, Le16, (0, 0), planes(YUV, 2, 0, 16)),
    row("A444_16BE", Yuv, Be16, (0, 0), planes(YUV, 2, 0, 16)),
    row("Y416_LE", Yuv, Le16, (0, 0), packed([2, 0, 4], 8, 0, 16)),
    row("Y416_BE", Yuv, Be16, (0, 0), packed([2, 0, 4], 8, 0, 16)),
    row("GBR_16LE", Rgb, Le16, (0, 0), planes(GBR, 2, 0, 16)),
    row("GBR_16BE", Rgb, Be16, (0, 0), planes(GBR, 2, 0, 16)),
    row("Y444_16LE", Yuv, Le16, (0, 0), planes(YUV, 2, 0, 16)),
    row("Y444_16BE", Yuv, Be16, (0, 0), planes(YUV, 2, 0, 16)),
    row("A422_16LE", Yuv, Le16, (1, 0), planes(YUV, 2, 0, 16)),
    row("A422_16BE", Yuv, Be16, (1, 0), planes(YUV, 2, 0, 16)),
    row("Y216_LE", Yuv, Le16, (1, 0), pairs([0, 1, 3], 2, 0, 16)),
    row("Y216_BE", Yuv, Be16, (1, 0), pairs([0, 1, 3], 2, 0, 16)),
    row("v216", Yuv, Le16, (1, 0), pairs([1, 0, 2], 2, 0, 16)),
    row("A420_16LE", Yuv, Le16, (1, 1), planes(YUV, 2, 0, 16)),
    row("A420_16BE", Yuv, Be16, (1, 1), planes(YUV, 2, 0, 16)),
    row("P016_LE", Yuv, Le16, (1, 1), semi(2, 0, 1, 0, 16)),
    row("P016_BE", Yuv, Be16, (1, 1), semi(2, 0, 1, 0, 16)),
    row("GBRA_12LE", Rgb, Le16, (0, 0), planes(GBR, 2, 0, 12)),
    row("GBRA_12BE", Rgb, Be16, (0, 0), planes(GBR, 2, 0, 12)),
    row("GBR_12LE", Rgb, Le16, (0, 0), planes(GBR, 2, 0, 12)),
    row("GBR_12BE", Rgb, Be16, (0, 0), planes(GBR, 2, 0, 12)),
    row("A444_12LE", Yuv, Le16, (0, 0), planes(YUV, 2, 0, 12)),
    row("A444_12BE", Yuv, Be16, (0, 0), planes(YUV, 2, 0, 12)),
    row("Y412_LE", Yuv, Le16, (0, 0), packed([2, 0, 4], 8, 4, 12)),
    row("Y412_BE", Yuv, Be16, (0, 0), packed([2, 0, 4], 8, 4, 12)),
    row("Y444_12LE", Yuv, Le16, (0, 0), planes(YUV, 2, 0, 12)),
    row("Y444_12BE", Yuv, Be16, (0, 0), planes(YUV, 2, 0, 12)),
    row("A422_12LE", Yuv, Le16, (1, 0), planes(YUV, 2, 0, 12)),
    row("A422_12BE", Yuv, Be16, (1, 0), planes(YUV, 2, 0, 12)),
    row("I422_12LE", Yuv, Le16, (1, 0), planes(YUV, 2, 0, 12)),
    row("I422_12BE", Yuv, Be16, (1, 0), planes(YUV, 2, 0, 12)),
    row("Y212_LE", Yuv, Le16, (1, 0), pairs([0, 1, 3], 2, 4, 12)),
    row("Y212_BE", Yuv, Be16, (1, 0), pairs([0, 1, 3], 2, 4, 12)),
    row("A420_12LE", Yuv, Le16, (1, 1), planes(YUV, 2, 0, 12)),
    row("A420_12BE", Yuv, Be16, (1, 1), planes(YUV, 2, 0, 12)),
    row("I420_12LE", Yuv, Le16, (1, 1), planes(YUV, 2, 0, 12)),
    row("I420_12BE", Yuv, Be16, (1, 1), planes(YUV, 2, 0, 12)),
    row("P012_LE", Yuv, Le16, (1, 1), semi(2, 0, 1, 4, 12)),
    row("P012_BE", Yuv, Be16, (1, 1), semi(2, 0, 1, 4, 12)),
    row("GBRA_10LE", Rgb, Le16, (0, 0), planes(GBR, 2, 0, 10)),
    row("GBRA_10BE", Rgb, Be16, (0, 0), planes(GBR, 2, 0, 10)),
    row("GBR_10LE", Rgb, Le16, (0, 0), planes(GBR, 2, 0, 10)),
    row("GBR_10BE", Rgb, Be16, (0, 0), planes(GBR, 2, 0, 10)),
    row("RGB10A2_LE", Rgb, Le32, (0, 0), bits(4, [0, 10, 20], [10; 3])),
    row("BGR10A2_LE", Rgb, Le32, (0, 0), bits(4, [20, 10, 0], [10; 3])),
    row("r210", Rgb, Be32, (0, 0), bits(4, [20, 10, 0], [10; 3])),
    row("A444_10LE", Yuv, Le16, (0, 0), planes(YUV, 2, 0, 10)),
    row("A444_10BE", Yuv, Be16, (0, 0), planes(YUV, 2, 0, 10)),
    row("Y444_10LE", Yuv, Le16, (0, 0), planes(YUV, 2, 0, 10)),
    row("Y444_10BE", Yuv, Be16, (0, 0), planes(YUV, 2, 0, 10)),
    row("Y410", Yuv, Le32, (0, 0), bits(4, [10, 0, 20], [10; 3])),
    row("A422_10LE", Yuv, Le16, (1, 0), planes(YUV, 2, 0, 10)),
    row("A422_10BE", Yuv, Be16, (1, 0), planes(YUV, 2, 0, 10)),
    row("I422_10LE", Yuv, Le16, (1, 0), planes(YUV, 2, 0, 10)),
    row("I422_10BE", Yuv, Be16, (1, 0), planes(YUV, 2, 0, 10)),
    row("Y210", Yuv, Le16, (1, 0), pairs([0, 1, 3], 2, 6, 10)),
    row("v210", Yuv, Tens32, (1, 0), [at(0, 1, 2, 0, 10), at(0, 0, 4, 0, 10), at(0, 2, 4, 0, 10)]),
    row("UYVP", Yuv, TensBe, (1, 0), [at(0, 1, 2, 0, 10), at(0, 0, 4, 0, 10), at(0, 2, 4, 0, 10)]),
    row("NV16_10LE32", Yuv, Tens32, (1, 0), [at(0, 0, 1, 0, 10), at(1, 0, 2, 0, 10), at(1, 1, 2, 0, 10)]),
    row("A420_10LE", Yuv, Le16, (1, 1), planes(YUV, 2, 0, 10)),
    row("A420_10BE", Yuv, Be16, (1, 1), planes(YUV, 2, 0, 10)),
    row("I420_10LE", Yuv, Le16, (1, 1), planes(YUV, 2, 0, 10)),
    row("I420_10BE", Yuv, Be16, (1, 1), planes(YUV, 2, 0, 10)),
    row("P010_10LE", Yuv, Le16, (1, 1), semi(2, 0, 1, 6, 10)),
    row("P010_10BE", Yuv, Be16, (1, 1), semi(2, 0, 1, 6, 10)),
    row("NV12_10LE32", Yuv, Tens32, (1, 1), [at(0, 0, 1, 0, 10), at(1, 0, 2, 0, 10), at(1, 1, 2, 0, 10)]),
    row("NV12_10LE40", Yuv, TensLe, (1, 1), [at(0, 0, 1, 0, 10), at(1, 0, 2, 0, 10), at(1, 1, 2, 0, 10)]),
    row("GRAY16_LE", Gray, Le16, (0, 0), planes(YUV, 2, 0, 16)),
    row("GRAY16_BE", Gray, Be16, (0, 0), planes(YUV, 2, 0, 16)),
    row("GRAY10_LE16", Gray, Le16, (0, 0), planes(YUV, 2, 0, 10)),
    row("GRAY10_LE32", Gray, Tens32, (0, 0), [at(0, 0, 1, 0, 10), at(0, 0, 1, 0, 10), at(0, 0, 1, 0, 10)]),
    row("I420", Yuv, Byte, (1, 1), planes(YUV, 1, 0, 8)),
    row("YV12", Yuv, Byte, (1, 1), planes(YVU, 1, 0, 8)),
    row("NV12", Yuv, Byte, (1, 1), semi(1, 0, 1, 0, 8)),
    row("NV21", Yuv, Byte, (1, 1), semi(1, 1, 0, 0, 8)),
    row("A420", Yuv, Byte, (1, 1), planes(YUV, 1, 0, 8)),
    row("AV12", Yuv, Byte, (1, 1), semi(1, 0, 1, 0, 8)),
    row("A422", Yuv, Byte, (1, 0), planes(YUV, 1, 0, 8)),
    row("Y42B", Yuv, Byte, (1, 0), planes(YUV, 1, 0, 8)),
    row("NV16", Yuv, Byte, (1, 0), semi(1, 0, 1, 0, 8)),
    row("NV61", Yuv, Byte, (1, 0), semi(1, 1, 0, 0, 8)),
    row("YUY2", Yuv, Byte, (1, 0), pairs([0, 1, 3], 1, 0, 8)),
    row("YVYU", Yuv, Byte, (1, 0), pairs([0, 3, 1], 1, 0, 8)),
    row("UYVY", Yuv, Byte, (1, 0), pairs([1, 0, 2], 1, 0, 8)),
    row("VYUY", Yuv, Byte, (1, 0), pairs([1, 2, 0], 1, 0, 8)),
    row("A444", Yuv, Byte, (0, 0), planes(YUV, 1, 0, 8)),
    row("Y444", Yuv, Byte, (0, 0), planes(YUV, 1, 0, 8)),
    row("NV24", Yuv, Byte, (0, 0), semi(1, 0, 1, 0, 8)),
    row("AYUV", Yuv, Byte, (0, 0), packed([1, 2, 3], 4, 0, 8)),
    row("VUYA", Yuv, Byte, (0, 0), packed([2, 1, 0], 4, 0, 8)),
    row("v308", Yuv, Byte, (0, 0), packed([0, 1, 2], 3, 0, 8)),
    row("IYU2", Yuv, Byte, (0, 0), packed([1, 0, 2], 3, 0, 8)),
    row("Y41B", Yuv, Byte, (2, 0), planes(YUV, 1, 0, 8)),
    row("YUV9", Yuv, Byte, (2, 2), planes(YUV, 1, 0, 8)),
    row("YVU9", Yuv, Byte, (2, 2), planes(YVU, 1, 0, 8)),
    row("GBRA", Rgb, Byte, (0, 0), planes(GBR, 1, 0, 8)),
    row("GBR", Rgb, Byte, (0, 0), planes(GBR, 1, 0, 8)),
    row("RGBP", Rgb, Byte, (0, 0), planes([0, 1, 2], 1, 0, 8)),
    row("BGRP", Rgb, Byte, (0, 0), planes([2, 1, 0], 1, 0, 8)),
    row("RGBA", Rgb, Byte, (0, 0), packed([0, 1, 2], 4, 0, 8)),
    row("RBGA", Rgb, Byte, (0, 0), packed([0, 2, 1], 4, 0, 8)),
    row("BGRA", Rgb, Byte, (0, 0), packed([2, 1, 0], 4, 0, 8)),
    row("ARGB", Rgb, Byte, (0, 0), packed([1, 2, 3], 4, 0, 8)),
    row("ABGR", Rgb, Byte, (0, 0), packed([3, 2, 1], 4, 0, 8)),
    row("RGBx", Rgb, Byte, (0, 0), packed([0, 1, 2], 4, 0, 8)),
    row("BGRx", Rgb, Byte, (0, 0), packed([2, 1, 0], 4, 0, 8)),
    row("xRGB", Rgb, Byte, (0, 0), packed([1, 2, 3], 4, 0, 8)),
    row("xBGR", Rgb, Byte, (0, 0), packed([3, 2, 1], 4, 0, 8)),
    row("RGB", Rgb, Byte, (0, 0), packed([0, 1, 2], 3, 0, 8)),
    row("BGR", Rgb, Byte, (0, 0), packed([2, 1, 0], 3, 0, 8)),
    row("GRAY8", Gray, Byte, (0, 0), planes(YUV, 1, 0, 8)),
    row("RGB16", Rgb, Le16, (0, 0), bits(2, [11, 5, 0], [5, 6, 5])),
    row("BGR16", Rgb, Le16, (0, 0), bits(2, [0, 5, 11], [5, 6, 5])),
    row("RGB15", Rgb, Le16, (0, 0), bits(2, [10, 5, 0], [5; 3])),
    row("BGR15", Rgb, Le16, (0, 0), bits(2, [0, 5, 10], [5; 3])),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (index, format) in PIXEL_FORMATS.iter().enumerate() {
            assert!(PIXEL_FORMATS[..index].iter().all(|other| other.name != format.name), "{}", format.name);
        }
    }
}
