// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chroma rows to luma resolution and back, by linear interpolation at the siting of the caps.

/// The two chroma rows around luma row `y`, and how far it is from the first to the second.
///
/// `site`: luma rows from the first row of a group to its chroma row; `sub`: log2 of the group.
#[inline(always)]
pub fn rows_around(y: usize, rows: usize, sub: u32, site: f32) -> (usize, usize, f32) {
    let at = ((y as f32 - site) / (1u32 << sub) as f32).max(0.0);
    let first = (at as usize).min(rows - 1);
    (first, (first + 1).min(rows - 1), at - (at as usize) as f32)
}

/// Spreads a row of chroma samples over `out.len()` luma positions.
#[inline(always)]
pub fn upsample_row(chroma: &[f32], sub: u32, site: f32, out: &mut [f32]) {
    match (sub, site == 0.0) {
        (0, _) => out.copy_from_slice(&chroma[..out.len()]),
        (1, true) => {
            let count = chroma.len();
            for (pair, two) in out.chunks_exact_mut(2).zip(chroma.windows(2)) {
                pair[0] = two[0];
                pair[1] = 0.5 * (two[0] + two[1]);
            }
            let done = out.len().min(2 * (count - 1));
            out[done..].fill(chroma[count - 1]);
        }
        (1, false) => {
            let count = chroma.len();
            out[0] = chroma[0];
            let last = out.len() - 1;
            for (pair, two) in out[1..].chunks_exact_mut(2).zip(chroma.windows(2)) {
                pair[0] = 0.75 * two[0] + 0.25 * two[1];
                pair[1] = 0.25 * two[0] + 0.75 * two[1];
            }
            let done = (2 * (count - 1) + 1).min(last + 1);
            out[done..].fill(chroma[count - 1]);
        }
        _ => {
            for (x, o) in out.iter_mut().enumerate() {
                let (a, b, part) = rows_around(x, chroma.len(), sub, site);
                *o = chroma[a] + part * (chroma[b] - chroma[a]);
            }
        }
    }
}

/// Averages a row at luma resolution to chroma resolution: the box of a group where chroma sits in
/// its middle, a triangle around the sample where it sits on one.
#[inline(always)]
pub fn downsample_row(full: &[f32], sub: u32, site: f32, out: &mut [f32]) {
    let width = full.len();
    match (sub, site == 0.0) {
        (0, _) => out.copy_from_slice(full),
        (1, false) => {
            for (o, pair) in out.iter_mut().zip(full.chunks(2)) {
                *o = 0.5 * (pair[0] + pair[pair.len() - 1]);
            }
        }
        (1, true) => {
            out[0] = 0.5 * full[0] + 0.5 * full[1.min(width - 1)];
            for (o, three) in out[1..]
                .iter_mut()
                .zip(full[1..].chunks(2))
                .zip(full[2.min(width)..].chunks(2))
                .map(|((o, before), here)| (o, (before[0], here[0], here[here.len() - 1])))
            {
                *o = 0.25 * three.0 + 0.5 * three.1 + 0.25 * three.2;
            }
        }
        _ => {
            for (o, group) in out.iter_mut().zip(full.chunks(1 << sub)) {
                *o = group.iter().sum::<f32>() / group.len() as f32;
            }
        }
    }
}

/// The chroma rows that luma row `y` counts for, with its weights: the transpose of the vertical
/// filter of [`downsample_row`], a quarter-row siting (fields) weighing by distance.
#[inline(always)]
pub fn share(y: usize, sub: u32, site: f32) -> [(usize, f32); 2] {
    let row = y >> sub;
    match (sub, y & ((1 << sub) - 1)) {
        (0, _) => [(row, 1.0), (row, 0.0)],
        (1, 0) if site == 0.0 => [(row, 0.5), (row, 0.0)],
        (1, _) if site == 0.0 => [(row, 0.25), (row + 1, 0.25)],
        (1, 0) => [(row, 1.0 - site), (row, 0.0)],
        (1, _) => [(row, site), (row, 0.0)],
        _ => [(row, 1.0 / (1 << sub) as f32), (row, 0.0)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays_constant_both_ways() {
        for sub in 0..3 {
            for cosited in [true, false] {
                let site = if cosited { 0.0 } else { ((1 << sub) - 1) as f32 / 2.0 };
                for width in 1..20usize {
                    let columns = width.div_ceil(1 << sub);
                    let mut full = vec![0.0; width];
                    upsample_row(&vec![7.0; columns], sub, site, &mut full);
                    assert!(full.iter().all(|&v| (v - 7.0).abs() < 1e-5), "{sub} {site} {width} {full:?}");
                    let mut back = vec![0.0; columns];
                    downsample_row(&full, sub, site, &mut back);
                    assert!(back.iter().all(|&v| (v - 7.0).abs() < 1e-5), "{sub} {site} {width} {back:?}");
                }
            }
        }
    }

    #[test]
    fn a_ramp_is_met_where_chroma_sits() {
        for (sub, site) in [(1, 0.0), (1, 0.5), (2, 1.5)] {
            let chroma: Vec<f32> = (0..9).map(|i| (i << sub) as f32 + site).collect();
            let mut full = vec![0.0; 9 << sub];
            upsample_row(&chroma, sub, site, &mut full);
            for (x, &v) in full.iter().enumerate().take(8 << sub).skip(2) {
                assert!((v - x as f32).abs() < 1e-4, "{sub} {site} {x} {v}");
            }
        }
    }

    #[test]
    fn rows_share_all_their_weight() {
        for (sub, site) in [(0, 0.0), (1, 0.0), (1, 0.5), (1, 0.25), (1, 0.75), (2, 1.5)] {
            let mut weight = vec![0.0; 12];
            for y in 0..40 >> (2 - sub) {
                for (row, part) in share(y, sub, site) {
                    weight[row] += part;
                }
            }
            assert!(weight[1..9].iter().all(|&w: &f32| (w - 1.0).abs() < 1e-6), "{sub} {site} {weight:?}");
        }
    }
}
