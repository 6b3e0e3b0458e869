// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture in any format to planar R'G'B', f32 in [-1, 1].

use super::chroma::{rows_around, upsample_row};
use super::color::Color;
use super::format::Model;
use super::isa::multiversion;
use super::row;
use super::view::View;

multiversion! {
    /// Decodes `bytes`, described by `view`, into `rgb`: three planes of `view.pixels()` each, red
    /// first, limited to [-1, 1].
    ///
    /// # Panics
    /// If `rgb` is not `3·view.pixels()` long or `bytes` shorter than `view` was checked for.
    pub fn to_rgb(view: &View, color: &Color, bytes: &[u8], rgb: &mut [f32]) = decode;
}

#[inline(always)]
fn decode(view: &View, color: &Color, bytes: &[u8], rgb: &mut [f32]) {
    assert_eq!(rgb.len(), 3 * view.pixels(), "three planes of the picture's size");
    match view.format.model {
        Model::Rgb => rgb_rows(view, color, bytes, rgb),
        Model::Gray => gray_rows(view, color, bytes, rgb),
        Model::Yuv => yuv_rows(view, color, bytes, rgb),
    }
}

#[inline(always)]
fn rgb_rows(view: &View, color: &Color, bytes: &[u8], rgb: &mut [f32]) {
    for (index, plane) in rgb.chunks_exact_mut(view.pixels()).enumerate() {
        let (gain, lift) = color.unit(index);
        for (y, out) in plane.chunks_exact_mut(view.width).enumerate() {
            let bytes = &bytes[view.row_range(index, y)];
            row::read(view.format.packing, view.format.components[index], bytes, out);
            out.iter_mut().for_each(|v| *v = limit(*v * gain + lift));
        }
    }
}

#[inline(always)]
fn gray_rows(view: &View, color: &Color, bytes: &[u8], rgb: &mut [f32]) {
    let (gain, lift) = color.unit(0);
    let (red, rest) = rgb.split_at_mut(view.pixels());
    for (y, out) in red.chunks_exact_mut(view.width).enumerate() {
        row::read(view.format.packing, view.format.components[0], &bytes[view.row_range(0, y)], out);
        out.iter_mut().for_each(|v| *v = limit(*v * gain + lift));
    }
    rest.chunks_exact_mut(view.pixels()).for_each(|plane| plane.copy_from_slice(red));
}

#[inline(always)]
fn yuv_rows(view: &View, color: &Color, bytes: &[u8], rgb: &mut [f32]) {
    let width = view.width;
    let format = view.format;
    let (luma_gain, luma_lift) = color.unit(0);
    let [red_cr, green_cb, green_cr, blue_cb] = color.chroma_gains();
    let columns = view.columns(1);
    let mut luma = vec![0f32; width];
    let mut wide = [vec![0f32; width], vec![0f32; width]];
    // The two chroma rows in use, per component, as samples around zero in units of ±0.5.
    let mut kept = [[vec![0f32; columns], vec![0f32; columns]], [vec![0f32; columns], vec![0f32; columns]]];
    let mut held = [usize::MAX; 2];
    let mut mixed = vec![0f32; columns];
    let (red, rest) = rgb.split_at_mut(view.pixels());
    let (green, blue) = rest.split_at_mut(view.pixels());
    let planes =
        red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width)).zip(blue.chunks_exact_mut(width));
    for (y, ((red, green), blue)) in planes.enumerate() {
        row::read(format.packing, format.components[0], &bytes[view.row_range(0, y)], &mut luma);
        let (first, second, part) = rows_around(y, view.rows(1), format.sub.1, color.site.1);
        for chroma_row in [first, second] {
            let slot = chroma_row & 1;
            if held[slot] != chroma_row {
                held[slot] = chroma_row;
                for (index, kept) in kept.iter_mut().enumerate() {
                    let (gain, zero) = (1.0 / color.scale[index + 1], color.offset[index + 1]);
                    let bytes = &bytes[view.row_range(index + 1, chroma_row)];
                    row::read(format.packing, format.components[index + 1], bytes, &mut kept[slot]);
                    kept[slot].iter_mut().for_each(|v| *v = (*v - zero) * gain);
                }
            }
        }
        for (kept, wide) in kept.iter().zip(wide.iter_mut()) {
            let (a, b) = (&kept[first & 1], &kept[second & 1]);
            for ((m, a), b) in mixed.iter_mut().zip(a).zip(b) {
                *m = a + part * (b - a);
            }
            upsample_row(&mixed, format.sub.0, color.site.0, wide);
        }
        let samples = luma.iter().zip(&wide[0]).zip(&wide[1]);
        let out = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
        for (((&luma, &cb), &cr), ((red, green), blue)) in samples.zip(out) {
            let luma = luma * luma_gain + luma_lift;
            *red = limit(luma + red_cr * cr);
            *green = limit(luma + green_cb * cb + green_cr * cr);
            *blue = limit(luma + blue_cb * cb);
        }
    }
}

#[inline(always)]
fn limit(value: f32) -> f32 {
    value.clamp(-1.0, 1.0)
}
