// SPDX-License-Identifier: MIT OR Apache-2.0
//! RGB to planar YCbCr and back (ITU-T H.273), so that the only difference between a frame and its twin is the
//! codec: no converter's shortcuts in between.

/// What the samples of a frame mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colour {
    /// Shares of red and blue in luma.
    pub weights: (f32, f32),
    /// Bits per sample.
    pub bits: u32,
    /// True if luma reaches over all values.
    pub full_range: bool,
    /// Halvings of chroma across and down.
    pub halved: (bool, bool),
    /// True if chroma sits on the left luma sample of its pair, as in MPEG-2 and H.264; else between both, as in
    /// JPEG. Down the columns it sits between both.
    pub left: bool,
}

/// BT.601 and BT.709: weights of red and blue.
pub const MATRICES: [(&str, (f32, f32)); 2] = [("bt601", (0.299, 0.114)), ("bt709", (0.2126, 0.0722))];

/// Samples of a plane, row after row.
pub type Plane = Vec<u16>;

impl Colour {
    /// Size of a plane of a frame of `size`; plane 0 is luma.
    pub fn plane_size(&self, plane: usize, (width, height): (usize, usize)) -> (usize, usize) {
        let half = |side: usize, halved: bool| if plane > 0 && halved { side.div_ceil(2) } else { side };
        (half(width, self.halved.0), half(height, self.halved.1))
    }

    /// Zero and unit of luma, then of chroma, in sample steps.
    fn scales(&self) -> [(f32, f32); 2] {
        let step = (1 << (self.bits - 8)) as f32;
        let most = ((1u32 << self.bits) - 1) as f32;
        let middle = (1u32 << (self.bits - 1)) as f32;
        if self.full_range {
            [(0.0, most), (middle, most)]
        } else {
            [(16.0 * step, 219.0 * step), (middle, 224.0 * step)]
        }
    }

    /// Planes Y, Cb, Cr of RGB planes `(3, height, width)`, range [-1, 1].
    pub fn encode(&self, rgb: &[f32], size: (usize, usize)) -> [Plane; 3] {
        let plane = size.0 * size.1;
        let (kr, kb) = self.weights;
        let (mut y, mut cb, mut cr) = (vec![0.0; plane], vec![0.0; plane], vec![0.0; plane]);
        for i in 0..plane {
            let [r, g, b] = [0, 1, 2].map(|c| (rgb[c * plane + i] + 1.0) / 2.0);
            y[i] = kr * r + (1.0 - kr - kb) * g + kb * b;
            cb[i] = (b - y[i]) / (2.0 * (1.0 - kb));
            cr[i] = (r - y[i]) / (2.0 * (1.0 - kr));
        }
        let most = ((1u32 << self.bits) - 1) as f32;
        let [luma, chroma] = self.scales();
        let samples = |values: Vec<f32>, (zero, unit): (f32, f32)| -> Plane {
            values.into_iter().map(|v| (zero + unit * v).round().clamp(0.0, most) as u16).collect()
        };
        let [cb, cr] = [cb, cr].map(|full| samples(self.narrowed(full, size), chroma));
        [samples(y, luma), cb, cr]
    }

    /// RGB planes, range [-1, 1], not rounded, of planes Y, Cb, Cr.
    pub fn decode(&self, planes: &[Plane; 3], size: (usize, usize)) -> Vec<f32> {
        let plane = size.0 * size.1;
        let (kr, kb) = self.weights;
        let [luma, chroma] = self.scales();
        let values = |samples: &Plane, (zero, unit): (f32, f32)| -> Vec<f32> {
            samples.iter().map(|&s| (f32::from(s) - zero) / unit).collect()
        };
        let y = values(&planes[0], luma);
        let [cb, cr] = [1, 2].map(|i| self.widened(&values(&planes[i], chroma), size));
        let mut rgb = vec![0.0; 3 * plane];
        for i in 0..plane {
            let r = y[i] + 2.0 * (1.0 - kr) * cr[i];
            let b = y[i] + 2.0 * (1.0 - kb) * cb[i];
            let g = (y[i] - kr * r - kb * b) / (1.0 - kr - kb);
            for (c, v) in [r, g, b].into_iter().enumerate() {
                rgb[c * plane + i] = (2.0 * v - 1.0).clamp(-1.0, 1.0);
            }
        }
        rgb
    }

    /// Full chroma to the size that it is stored in.
    fn narrowed(&self, full: Vec<f32>, (width, height): (usize, usize)) -> Vec<f32> {
        let (narrow, low) = self.plane_size(1, (width, height));
        let mut across = full;
        if self.halved.0 {
            let taps: &[(isize, f32)] =
                if self.left { &[(-1, 0.25), (0, 0.5), (1, 0.25)] } else { &[(0, 0.5), (1, 0.5)] };
            let at = |row: &[f32], x: usize| -> f32 {
                let near = |dx: isize| row[(2 * x).saturating_add_signed(dx).min(width - 1)];
                taps.iter().map(|&(dx, weight)| weight * near(dx)).sum()
            };
            across =
                across.chunks_exact(width).flat_map(|row| (0..narrow).map(move |x| at(row, x))).collect();
        }
        if !self.halved.1 {
            return across;
        }
        let row = |y: usize| &across[y.min(height - 1) * narrow..][..narrow];
        let pair = |y: usize| row(2 * y).iter().zip(row(2 * y + 1)).map(|(a, b)| (a + b) / 2.0);
        (0..low).flat_map(pair).collect()
    }

    /// Stored chroma to full size, linear between samples.
    fn widened(&self, small: &[f32], (width, height): (usize, usize)) -> Vec<f32> {
        let (narrow, low) = self.plane_size(1, (width, height));
        // For each position the two samples around it and the share of the second.
        let around = |len: usize, stored: usize, halved: bool, site: f32| -> Vec<(usize, usize, f32)> {
            let one = |i: usize| {
                let at = if halved { (i as f32 - site) / 2.0 } else { i as f32 };
                let at = at.clamp(0.0, (stored - 1) as f32);
                let first = at as usize;
                (first, (first + 1).min(stored - 1), at - first as f32)
            };
            (0..len).map(one).collect()
        };
        let columns = around(width, narrow, self.halved.0, if self.left { 0.0 } else { 0.5 });
        let rows = around(height, low, self.halved.1, 0.5);
        let mut out = Vec::with_capacity(width * height);
        for (y0, y1, v) in rows {
            let (upper, lower) = (&small[y0 * narrow..][..narrow], &small[y1 * narrow..][..narrow]);
            let mixed: Vec<f32> = upper.iter().zip(lower).map(|(a, b)| a + v * (b - a)).collect();
            out.extend(columns.iter().map(|&(x0, x1, u)| mixed[x0] + u * (mixed[x1] - mixed[x0])));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Colour> {
        let layouts = [(false, false), (true, false), (true, true)];
        layouts.into_iter().flat_map(|halved| {
            [(8, true, false), (8, false, true), (10, false, true)].map(|(bits, full_range, left)| Colour {
                weights: MATRICES[usize::from(left)].1,
                bits,
                full_range,
                halved,
                left,
            })
        })
    }

    #[test]
    fn slow_changes_come_back_in_every_layout() {
        let size = (33, 21);
        let plane = size.0 * size.1;
        let rgb: Vec<f32> = (0..3 * plane)
            .map(|i| {
                let (c, x, y) = (i / plane, i % size.0, i % plane / size.0);
                0.4 * ((x as f32 + 5.0 * c as f32) / 9.0).sin() + 0.3 * (y as f32 / 8.0).cos()
            })
            .collect();
        for colour in all() {
            let back = colour.decode(&colour.encode(&rgb, size), size);
            let worst = rgb.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 0.07, "{colour:?}: {worst}");
        }
    }

    #[test]
    fn white_black_and_red_are_the_standard_samples() {
        let rgb = [1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0];
        let bt709 =
            Colour { weights: MATRICES[1].1, bits: 8, full_range: false, halved: (false, false), left: true };
        assert_eq!(bt709.encode(&rgb, (3, 1)), [vec![235, 16, 63], vec![128, 128, 102], vec![128, 128, 240]]);
        let deep = Colour { bits: 10, ..bt709 };
        assert_eq!(deep.encode(&rgb, (3, 1))[0][0], 940);
        let jpeg = Colour { full_range: true, ..bt709 };
        assert_eq!(jpeg.encode(&rgb, (3, 1))[0][..2], [255, 0]);
    }

    #[test]
    fn chroma_sits_where_it_should() {
        // A ramp is linear: wherever chroma sits, the right reading gives the ramp back inside.
        let size = (32, 8);
        let plane = size.0 * size.1;
        let rgb: Vec<f32> = (0..3 * plane)
            .map(|i| if i / plane == 0 { -0.5 + (i % size.0) as f32 / 32.0 } else { 0.0 })
            .collect();
        for colour in all().filter(|colour| colour.bits == 10) {
            let back = colour.decode(&colour.encode(&rgb, size), size);
            for x in 2..size.0 - 2 {
                assert!((back[3 * size.0 + x] - rgb[3 * size.0 + x]).abs() < 0.006, "{colour:?} {x}");
            }
        }
    }
}
