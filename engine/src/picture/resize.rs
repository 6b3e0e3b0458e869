// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resampling of one plane: a window of the source, at any place and scale, by a separable filter.

/// The filter's shape; shrinking stretches it over all source pixels that an output pixel covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The mean over the area.
    Area,
    /// Linear interpolation.
    Triangle,
    /// Keys' cubic with a = −0.5.
    Cubic,
    /// Lanczos of three lobes.
    Lanczos3,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Area => 0.5,
            Self::Triangle => 1.0,
            Self::Cubic => 2.0,
            Self::Lanczos3 => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Area => f64::from(u8::from(x <= 0.5)),
            Self::Triangle => (1.0 - x).max(0.0),
            Self::Cubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Cubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Self::Lanczos3 if x < 1e-9 => 1.0,
            Self::Lanczos3 if x < 3.0 => {
                let (a, b) = (std::f64::consts::PI * x, std::f64::consts::PI * x / 3.0);
                (a.sin() / a) * (b.sin() / b)
            }
            Self::Cubic | Self::Lanczos3 => 0.0,
        }
    }
}

/// Where the pixels of one axis of the output come from.
#[derive(Debug, Clone)]
pub struct Axis {
    /// For each output pixel, the first source pixel and its range in `weights`.
    taps: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<f32>,
}

impl Axis {
    /// An axis of `len` output pixels over `source` pixels; output pixel `i` covers the source
    /// interval `[start + i·step, start + (i+1)·step)`. What lies outside the source is left out
    /// and the rest weighted up, so a constant stays constant.
    ///
    /// `source` and `len` at least 1, `step` above 0.
    pub fn new(source: usize, start: f64, step: f64, len: usize, filter: Filter) -> Self {
        let stretch = step.max(1.0);
        let reach = filter.support() * stretch;
        let (mut taps, mut weights) = (Vec::with_capacity(len), Vec::new());
        for i in 0..len {
            let centre = start + (i as f64 + 0.5) * step;
            let last = source as f64 - 1.0;
            let from = (centre - reach).floor().clamp(0.0, last) as usize;
            let to = (centre + reach).ceil().clamp(from as f64, last) as usize;
            let weight = |pixel: usize| match filter {
                Filter::Area => overlap(pixel as f64, centre, reach),
                filter => filter.weight((pixel as f64 + 0.5 - centre) / stretch),
            };
            let sum: f64 = (from..=to).map(weight).sum();
            let at = weights.len();
            if sum.abs() < 1e-9 {
                // Nothing of the source is in reach: the nearest pixel stands in.
                taps.push((centre.clamp(0.0, last) as usize, at..at + 1));
                weights.push(1.0);
            } else {
                weights.extend((from..=to).map(|pixel| (weight(pixel) / sum) as f32));
                taps.push((from, at..weights.len()));
            }
        }
        Self { taps, weights }
    }

    /// The axis that maps `source` pixels onto `len`.
    pub fn whole(source: usize, len: usize, filter: Filter) -> Self {
        Self::new(source, 0.0, source as f64 / len as f64, len, filter)
    }

    /// First and one past the last source pixel that is looked at.
    fn span(&self) -> std::ops::Range<usize> {
        let from = self.taps.iter().map(|(first, _)| *first).min().unwrap_or(0);
        let to = self.taps.iter().map(|(first, range)| first + range.len()).max().unwrap_or(0);
        from..to
    }
}

/// Length of the part of pixel `[pixel, pixel+1)` that lies within `reach` of `centre`.
fn overlap(pixel: f64, centre: f64, reach: f64) -> f64 {
    ((pixel + 1.0).min(centre + reach) - pixel.max(centre - reach)).max(0.0)
}

/// Resamples along both axes. `row(y, columns, buffer)` puts these columns of source row `y` into
/// the empty buffer.
pub fn resample(
    columns: &Axis,
    rows: &Axis,
    mut row: impl FnMut(usize, std::ops::Range<usize>, &mut Vec<f32>),
) -> Vec<f32> {
    let (width, span, across) = (columns.taps.len(), rows.span(), columns.span());
    let mut narrowed = vec![0f32; width * span.len()];
    let mut source = Vec::new();
    for (y, line) in span.clone().zip(narrowed.chunks_exact_mut(width)) {
        source.clear();
        row(y, across.clone(), &mut source);
        for ((first, range), out) in columns.taps.iter().zip(line) {
            let weights = &columns.weights[range.clone()];
            *out = weights.iter().zip(&source[first - across.start..]).map(|(w, v)| w * v).sum();
        }
    }
    let mut out = vec![0f32; width * rows.taps.len()];
    for ((first, range), line) in rows.taps.iter().zip(out.chunks_exact_mut(width)) {
        for (k, &weight) in rows.weights[range.clone()].iter().enumerate() {
            let from = (first + k - span.start) * width;
            for (o, v) in line.iter_mut().zip(&narrowed[from..from + width]) {
                *o += weight * v;
            }
        }
    }
    out
}

/// Resizes planes `(C, height, width)` to `(C, to_height, to_width)`; range kept but for the
/// overshoot of filters with negative lobes.
pub fn resize(planes: &[f32], size: (usize, usize), to: (usize, usize), filter: Filter) -> Vec<f32> {
    let (width, height) = size;
    let columns = Axis::whole(width, to.0, filter);
    let rows = Axis::whole(height, to.1, filter);
    planes
        .chunks_exact(width * height)
        .flat_map(|plane| {
            resample(&columns, &rows, |y, across, row| row.extend_from_slice(&plane[y * width..][across]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILTERS: [Filter; 4] = [Filter::Area, Filter::Triangle, Filter::Cubic, Filter::Lanczos3];

    #[test]
    fn the_same_size_is_the_same_picture() {
        let plane: Vec<f32> = (0..35).map(|i| (i * i % 17) as f32).collect();
        for filter in FILTERS {
            let same = resize(&plane, (7, 5), (7, 5), filter);
            for (a, b) in plane.iter().zip(&same) {
                assert!((a - b).abs() < 1e-5, "{filter:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn area_by_two_is_the_mean_of_two() {
        assert_eq!(resize(&[1.0, 3.0, 5.0, 9.0], (4, 1), (2, 1), Filter::Area), [2.0, 7.0]);
    }

    proptest! {
        #[test]
        fn a_constant_stays_constant(
            source in (1usize..40, 1usize..40), to in (1usize..40, 1usize..40), which in 0usize..4,
        ) {
            let plane = vec![0.75; source.0 * source.1];
            let out = resize(&plane, source, to, FILTERS[which]);
            prop_assert_eq!(out.len(), to.0 * to.1);
            prop_assert!(out.iter().all(|v| (v - 0.75).abs() < 1e-5));
        }

        #[test]
        fn a_window_is_a_part_of_the_whole(start in 0usize..20, len in 1usize..20) {
            let plane: Vec<f32> = (0..60).map(|i| ((i * 37) % 23) as f32).collect();
            let one = Axis::whole(1, 1, Filter::Area);
            let take = |axis: &Axis| resample(axis, &one, |_, across, row| row.extend(&plane[across]));
            let whole = take(&Axis::whole(60, 40, Filter::Lanczos3));
            let part = take(&Axis::new(60, start as f64 * 1.5, 1.5, len, Filter::Lanczos3));
            for (a, b) in part.iter().zip(&whole[start..]) {
                prop_assert!((a - b).abs() < 1e-5);
            }
        }
    }
}
