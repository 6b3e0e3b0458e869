// SPDX-License-Identifier: MIT OR Apache-2.0
//! The difference of two R'G'B' pictures, added to the samples of a third in any format.
//!
//! `bytes += strength·(restored − input)` in the format's own samples: where the two pictures are
//! equal no bit of `bytes` changes, whatever matrix, range or subsampling stands between.

use super::chroma::{downsample_row, share};
use super::color::Color;
use super::format::Model;
use super::isa::multiversion;
use super::row;
use super::view::View;

/// No difference of two pictures in [-1, 1] is larger; what is comes from a broken network.
const LARGEST: f32 = 4.0;

multiversion! {
    /// Adds `strength·(restored − input)` to the picture in `bytes`; `input` and `restored` as made by
    /// [`super::decode::to_rgb`]. Differences that are not finite, or larger than two pictures can
    /// differ, count as nothing; returns whether there were any.
    ///
    /// # Panics
    /// If the pictures are not `3·view.pixels()` long or `bytes` shorter than `view` was checked for.
    pub fn add_difference(
        view: &View,
        color: &Color,
        bytes: &mut [u8],
        input: &[f32],
        restored: &[f32],
        strength: f32,
    ) -> bool = encode;
}

#[inline(always)]
fn encode(
    view: &View,
    color: &Color,
    bytes: &mut [u8],
    input: &[f32],
    restored: &[f32],
    strength: f32,
) -> bool {
    let (pixels, width) = (view.pixels(), view.width);
    assert!(input.len() == 3 * pixels && restored.len() == 3 * pixels, "three planes of the picture's size");
    let mut writer = Writer::new(view, color);
    let mut broken = false;
    let mut delta = [vec![0f32; width], vec![0f32; width], vec![0f32; width]];
    for y in 0..view.height {
        for (plane, delta) in delta.iter_mut().enumerate() {
            let at = plane * pixels + y * width;
            broken |= difference(&input[at..at + width], &restored[at..at + width], strength, delta);
        }
        writer.row(bytes, y, &mut delta);
    }
    writer.finish(bytes);
    broken
}

/// Half of the difference (so in units of [0, 1]); whether a broken value was replaced.
#[inline(always)]
fn difference(input: &[f32], restored: &[f32], strength: f32, out: &mut [f32]) -> bool {
    let gain = 0.5 * strength;
    let mut broken = 0u32;
    for ((&input, &restored), out) in input.iter().zip(restored).zip(out.iter_mut()) {
        let delta = restored - input;
        let sound = delta.abs() <= LARGEST;
        broken |= u32::from(!sound);
        *out = if sound { gain * delta } else { 0.0 };
    }
    broken != 0
}

/// Sends rows of differences to the components, gathering chroma over the rows that share it.
struct Writer<'a> {
    view: &'a View,
    color: &'a Color,
    /// Sums of chroma differences for the current chroma row and the one after it: `[row][component]`.
    sums: [[Vec<f32>; 2]; 2],
    weights: [f32; 2],
    /// The chroma row that `sums[0]` is for.
    current: usize,
    narrow: Vec<f32>,
}

impl<'a> Writer<'a> {
    #[inline(always)]
    fn new(view: &'a View, color: &'a Color) -> Self {
        let wide = || vec![0f32; if view.format.model == Model::Yuv { view.width } else { 0 }];
        Self {
            view,
            color,
            sums: [[wide(), wide()], [wide(), wide()]],
            weights: [0.0; 2],
            current: 0,
            narrow: vec![0f32; view.columns(1)],
        }
    }

    /// `delta`: differences of red, green and blue in units of [0, 1]; used as scratch.
    #[inline(always)]
    fn row(&mut self, bytes: &mut [u8], y: usize, delta: &mut [Vec<f32>; 3]) {
        let (view, color) = (self.view, self.color);
        if view.format.model == Model::Rgb {
            for (index, delta) in delta.iter_mut().enumerate() {
                delta.iter_mut().for_each(|v| *v *= color.scale[index]);
                self.add(bytes, index, y, delta);
            }
            return;
        }
        let [red, green, blue] = delta;
        let (kr, kg, kb) = (color.kr, color.kg(), color.kb);
        let [to_cb, to_cr] = color.difference_gains();
        for ((red, green), blue) in red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut()) {
            let luma = kr * *red + kg * *green + kb * *blue;
            (*red, *green, *blue) = (
                luma * color.scale[0],
                (*blue - luma) * to_cb * color.scale[1],
                (*red - luma) * to_cr * color.scale[2],
            );
        }
        self.add(bytes, 0, y, red);
        if view.format.model == Model::Yuv {
            self.gather(bytes, y, [green, blue]);
        }
    }

    #[inline(always)]
    fn gather(&mut self, bytes: &mut [u8], y: usize, chroma: [&[f32]; 2]) {
        if self.view.format.sub == (0, 0) {
            self.add(bytes, 1, y, chroma[0]);
            self.add(bytes, 2, y, chroma[1]);
            return;
        }
        let shares = share(y, self.view.format.sub.1, self.color.site.1);
        if shares[0].0 > self.current {
            self.flush(bytes);
        }
        for (row, part) in shares {
            if part > 0.0 {
                let slot = row - self.current;
                self.weights[slot] += part;
                for (sum, chroma) in self.sums[slot].iter_mut().zip(chroma) {
                    sum.iter_mut().zip(chroma).for_each(|(sum, &c)| *sum += part * c);
                }
            }
        }
    }

    /// Writes the current chroma row and makes the next one current.
    #[inline(always)]
    fn flush(&mut self, bytes: &mut [u8]) {
        if self.weights[0] > 0.0 && self.current < self.view.rows(1) {
            let whole = 1.0 / self.weights[0];
            for index in 0..2 {
                let sum = &mut self.sums[0][index];
                sum.iter_mut().for_each(|v| *v *= whole);
                let mut narrow = std::mem::take(&mut self.narrow);
                downsample_row(sum, self.view.format.sub.0, self.color.site.0, &mut narrow);
                self.add(bytes, index + 1, self.current, &narrow);
                self.narrow = narrow;
            }
        }
        self.sums[0].iter_mut().for_each(|sum| sum.fill(0.0));
        self.sums.swap(0, 1);
        self.weights = [self.weights[1], 0.0];
        self.current += 1;
    }

    #[inline(always)]
    fn finish(&mut self, bytes: &mut [u8]) {
        if self.view.format.model == Model::Yuv && self.view.format.sub != (0, 0) {
            self.flush(bytes);
            self.flush(bytes);
        }
    }

    #[inline(always)]
    fn add(&self, bytes: &mut [u8], index: usize, y: usize, delta: &[f32]) {
        let component = self.view.format.components[index];
        row::add(self.view.format.packing, component, &mut bytes[self.view.row_range(index, y)], delta);
    }
}
