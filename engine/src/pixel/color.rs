// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a sample means: matrix, range and chroma siting of a picture.

use super::format::{Model, PixelFormat};

/// From samples to R'G'B' in [-1, 1] and back, as caps describe it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Color {
    /// Weight of red in luma.
    pub kr: f32,
    /// Weight of blue in luma.
    pub kb: f32,
    /// Sample value of zero, per component.
    pub offset: [f32; 3],
    /// Samples per unit, per component.
    pub scale: [f32; 3],
    /// Where a chroma sample sits, in luma pixels right of and below the first of its group.
    pub site: (f32, f32),
}

impl Color {
    /// `kr`, `kb`: luma weights (H.273); `full`: whether samples use the whole range of their depth;
    /// `cosited`: whether chroma sits on the first luma sample, horizontally and vertically, instead
    /// of between the samples.
    pub fn new(format: &PixelFormat, (kr, kb): (f32, f32), full: bool, cosited: (bool, bool)) -> Self {
        let (mut offset, mut scale) = ([0.0; 3], [1.0; 3]);
        for index in 0..3 {
            let depth = format.components[index].depth;
            let (max, unit) = (((1u64 << depth) - 1) as f32, 2f32.powi(depth as i32 - 8));
            let difference = format.model == Model::Yuv && index > 0;
            (offset[index], scale[index]) = match (full, difference) {
                (true, false) => (0.0, max),
                (true, true) => (128.0 * unit, max),
                (false, false) => (16.0 * unit, 219.0 * unit),
                (false, true) => (128.0 * unit, 224.0 * unit),
            };
        }
        let site = |on: bool, sub: u32| if on { 0.0 } else { ((1 << sub) - 1) as f32 / 2.0 };
        let site = (site(cosited.0, format.sub.0), site(cosited.1, format.sub.1));
        Self { kr, kb, offset, scale, site }
    }

    /// The colour of one field of a picture with 4:2:0 chroma: chroma of the first field sits a
    /// quarter row below its luma row, that of the second three quarters (in rows of the field).
    pub fn of_field(mut self, parity: usize, format: &PixelFormat) -> Self {
        if format.sub.1 == 1 && self.site.1 == 0.5 {
            self.site.1 = if parity == 0 { 0.25 } else { 0.75 };
        }
        self
    }

    /// Sample of component `index` to [-1, 1]: gain and lift.
    #[inline(always)]
    pub(crate) fn unit(&self, index: usize) -> (f32, f32) {
        let gain = 2.0 / self.scale[index];
        (gain, -1.0 - self.offset[index] * gain)
    }

    /// What chroma, in ±0.5, adds to R, G and B in [-1, 1]: Cr to red, Cb and Cr to green, Cb to blue;
    /// R = Y + 2·2(1−kr)·Cr and so on (H.273).
    #[inline(always)]
    pub(crate) fn chroma_gains(&self) -> [f32; 4] {
        let (red_cr, blue_cb) = (4.0 * (1.0 - self.kr), 4.0 * (1.0 - self.kb));
        [red_cr, -blue_cb * self.kb / self.kg(), -red_cr * self.kr / self.kg(), blue_cb]
    }

    /// Blue less luma to Cb, and red less luma to Cr.
    #[inline(always)]
    pub(crate) fn difference_gains(&self) -> [f32; 2] {
        [0.5 / (1.0 - self.kb), 0.5 / (1.0 - self.kr)]
    }

    /// Weight of green in luma.
    pub fn kg(&self) -> f32 {
        1.0 - self.kr - self.kb
    }
}
