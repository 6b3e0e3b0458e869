// SPDX-License-Identifier: MIT OR Apache-2.0
//! Over which values the bytes of each channel of the maps inside the network should reach, found on pictures.
//!
//! A wide range rounds everything coarsely, a narrow one cuts off what is large: of ranges around 0 the one is taken
//! whose mean squared error over the values seen is least.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use rayon::prelude::*;

use super::{
    BridgeNetConfig,
    flow::Flow,
    layout::Layout,
    run::{self, Runner},
};
use crate::{
    Cancel, Error, Result,
    net::{
        Network,
        params::{Params, TensorSource},
    },
    ops::{Cpu, scales::Scales},
};

/// Pixels of a map that are kept, at most; when there are more, every second one is.
const MOST: usize = 1 << 13;
/// Shares of a channel's least and greatest value that are tried, in steps of one of so many.
const SHARES: usize = 48;

/// Names and shapes, `(channels, 2)`, of the ranges that [`super::BridgeNet`] needs for bytes: the least and the greatest
/// value of each channel of each map that a convolution inside the network reads, in order.
///
/// # Errors
/// As [`BridgeNetConfig::check`].
pub fn activations(config: &BridgeNetConfig) -> Result<Vec<(String, Vec<usize>)>> {
    Ok(entries(&Layout::new(config)?))
}

fn entries(layout: &Layout) -> Vec<(String, Vec<usize>)> {
    let flow = Flow::new(layout);
    let entry =
        |(number, map): (usize, usize)| (format!("activations.{number}"), vec![flow.maps[map].channels, 2]);
    flow.inner().into_iter().enumerate().map(entry).collect()
}

/// The ranges from named tensors.
///
/// # Errors
/// [`Error::File`] naming a tensor that is missing or of another shape.
pub(super) fn gather(layout: &Layout, root: &Params<'_>) -> Result<Vec<Vec<[f32; 2]>>> {
    let read = |(name, shape): (String, Vec<usize>)| {
        let values = root.tensor(&name, &shape)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.as_chunks::<2>().0.to_vec())
    };
    entries(layout).into_iter().map(read).collect()
}

/// # Errors
/// [`Error::Shape`] if there is not a range for each channel of each map, [`Error::Setting`] if one is none.
pub(super) fn check(layout: &Layout, ranges: &[Vec<[f32; 2]>]) -> Result<()> {
    let expected: Vec<usize> = entries(layout).iter().map(|(_, shape)| shape[0]).collect();
    let found: Vec<usize> = ranges.iter().map(Vec::len).collect();
    if found != expected {
        return Err(Error::shape("channels of the ranges of activations", &found, format!("{expected:?}")));
    }
    match ranges.iter().flatten().find(|range| !is_range(range)) {
        Some(range) => {
            let limit = "finite, the least up to 0, the greatest from 0 on, not both 0";
            Err(Error::setting("range of an activation", format!("{range:?}"), limit))
        }
        None => Ok(()),
    }
}

/// Whether bytes can reach from the one value to the other: finite, the least up to 0, the greatest from 0 on, not equal.
pub fn is_range([low, high]: &[f32; 2]) -> bool {
    *low <= 0.0 && *high >= 0.0 && low < high && (high - low).is_finite()
}

/// What was seen of one map.
struct Seen {
    channels: usize,
    /// Pixels that are kept.
    values: Vec<f32>,
    /// One of so many pixels is kept.
    every: usize,
    /// Pixels to go before the next that is kept.
    skip: usize,
    /// Of each channel, of all pixels.
    extremes: Vec<[f32; 2]>,
}

/// Watches what goes through a `bridge` network on the CPU, in f32.
pub struct Calibration {
    layout: Arc<Layout>,
    runner: Runner<f32>,
    /// The numbers of the maps that are watched.
    inner: Vec<usize>,
    seen: Mutex<Vec<Seen>>,
}

impl Calibration {
    /// # Errors
    /// As [`super::BridgeNet::build`].
    pub fn new(config: &BridgeNetConfig, source: &dyn TensorSource) -> Result<Self> {
        let layout = Arc::new(Layout::new(config)?);
        let params = layout.gather(source)?;
        super::check(&layout, &params)?;
        let flow = Flow::new(&layout);
        let inner = flow.inner();
        let seen = Mutex::new(inner.iter().map(|map| Seen::new(flow.maps[*map].channels)).collect());
        let runner = Runner::new(layout.clone(), Arc::new(params), Cpu::detect().isa);
        Ok(Self { layout, runner, inner, seen })
    }

    /// The ranges of [`activations`]. A channel of which nothing but zeros were seen gets one as wide as its map's others
    /// are in the mean, or −1 to 1.
    pub fn ranges(&self) -> Vec<Vec<[f32; 2]>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(Seen::ranges).collect()
    }
}

/// As [`super::BridgeNet`], by whose means a sampler shows it every state that it comes to.
impl Network for Calibration {
    fn forward(&self, x: &Tensor, noise_level: &[f32], cancel: &Cancel) -> Result<Tensor> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: where the runner returns no error, every row of the picture has gone out.
        unsafe {
            run::each(self, x, noise_level, None, |pictures, level| {
                self.runner.forward_watched(pictures, level, cancel, |map, row| {
                    if let Ok(at) = self.inner.binary_search(&map) {
                        seen[at].add(row);
                    }
                })
            })
        }
    }

    fn in_channels(&self) -> usize {
        self.layout.config.in_channels
    }

    fn stride(&self) -> usize {
        self.layout.config.stride()
    }

    fn halo(&self) -> Option<usize> {
        Some(self.layout.halo())
    }

    fn macs_per_pixel(&self, _: usize, _: usize) -> f64 {
        self.layout.macs_per_pixel()
    }
}

impl Seen {
    fn new(channels: usize) -> Self {
        Self { channels, values: vec![], every: 1, skip: 0, extremes: vec![[0.0; 2]; channels] }
    }

    fn add(&mut self, row: &[f32]) {
        for pixel in row.chunks_exact(self.channels).filter(|pixel| pixel.iter().all(|v| v.is_finite())) {
            for ([least, greatest], v) in self.extremes.iter_mut().zip(pixel) {
                (*least, *greatest) = (least.min(*v), greatest.max(*v));
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.skip = self.every - 1;
            self.values.extend(pixel);
        }
        if self.values.len() > MOST * self.channels {
            let pixels = self.values.chunks_exact(self.channels).step_by(2);
            self.values = pixels.flatten().copied().collect();
            self.every *= 2;
        }
    }

    fn ranges(&self) -> Vec<[f32; 2]> {
        let found: Vec<_> = (0..self.channels).into_par_iter().map(|channel| self.range(channel)).collect();
        let widths = found.iter().flatten().map(|[low, high]| high - low);
        let (sum, count) = widths.fold((0.0, 0), |(sum, count), width| (sum + width, count + 1));
        let half = if count == 0 { 1.0 } else { 0.5 * sum / count as f32 };
        found.into_iter().map(|range| range.unwrap_or([-half, half])).collect()
    }

    /// Each end in turn to where the error is least, twice; `None` where nothing but zeros were seen.
    fn range(&self, channel: usize) -> Option<[f32; 2]> {
        let full = self.extremes[channel];
        if full == [0.0; 2] {
            return None;
        }
        let values: Vec<f32> = self.values[channel..].iter().step_by(self.channels).copied().collect();
        let mut best = full;
        for end in [1, 0, 1, 0] {
            let at = |share: usize| {
                let mut range = best;
                range[end] = full[end] * share as f32 / SHARES as f32;
                range
            };
            let ranges = (1..=SHARES).map(at).filter(|[low, high]| low < high);
            let errors = ranges.map(|range| (lost(&values, range), range));
            best = errors.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(best, |(_, range)| range);
        }
        Some(best)
    }
}

/// Σ of squares of what bytes over `range` lose of the values.
fn lost(values: &[f32], range: [f32; 2]) -> f64 {
    let scales = Scales::new(&[range]);
    values.iter().map(|v| f64::from((v - scales.rounded(0, *v)).powi(2))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;

    #[test]
    fn a_range_is_where_bytes_lose_least() {
        let mut draw = Stream::new(1, 0);
        let mut seen = Seen::new(2);
        for _ in 0..400 {
            // The second channel is a tenth of the first.
            let row: Vec<f32> = (0..200).map(|_| draw.next_normal()).flat_map(|v| [v, 0.1 * v]).collect();
            seen.add(&row);
        }
        let [[low, high], [low2, high2]] = seen.ranges()[..] else { unreachable!() };
        assert!((-4.8..=-2.8).contains(&low) && (2.8..=4.8).contains(&high), "{low} {high}");
        assert!((low2 * 10.0 - low).abs() < 0.3 && (high2 * 10.0 - high).abs() < 0.3, "{low2} {high2}");
        assert!(seen.values.len() <= 2 * MOST);
        // Neither all that was seen nor less than that loses less.
        let values: Vec<f32> = seen.values.iter().step_by(2).copied().collect();
        let least = lost(&values, [low, high]);
        for factor in [0.8, 0.9, 1.1, 1.2] {
            assert!(lost(&values, [factor * low, factor * high]) > least, "times {factor}");
        }
        assert!(lost(&values, seen.extremes[0]) >= least);
        (0..100).for_each(|_| seen.add(&[20.0; 700]));
        assert!(seen.ranges()[0][1] > 18.0, "{:?}", seen.ranges());
    }

    #[test]
    fn one_sided_channels_and_channels_of_zeros_have_ranges() {
        let mut seen = Seen::new(2);
        assert_eq!(seen.ranges(), [[-1.0, 1.0]; 2]);
        seen.add(&[0.5, 0.0, 0.25, 0.0, f32::NAN, 0.0, f32::INFINITY, 0.0, 1.0, 0.0]);
        let [[low, high], dead] = seen.ranges()[..] else { unreachable!() };
        assert!(low == 0.0 && high > 0.9 && high <= 1.0, "{low} {high}");
        assert_eq!(dead, [-0.5 * high, 0.5 * high]);
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        let config = BridgeNetConfig {
            in_channels: 3,
            unshuffle: 2,
            widths: vec![16],
            encoder: vec![],
            middle: 1,
            decoder: vec![],
            time_features: 8,
        };
        let layout = Layout::new(&config).unwrap();
        let names = activations(&config).unwrap();
        assert_eq!(names, [("activations.0".into(), vec![16, 2]), ("activations.1".into(), vec![16, 2])]);
        let with = |range| vec![vec![[-1.0, 1.0]; 16], vec![range; 16]];
        check(&layout, &with([0.0, 2.0])).unwrap();
        for bad in [[0.5, 1.0], [-1.0, -0.5], [0.0, 0.0], [f32::NAN, 1.0], [-1.0, f32::INFINITY]] {
            let error = check(&layout, &with(bad)).unwrap_err().to_string();
            assert!(error.contains("range of an activation"), "{error}");
        }
        let error = check(&layout, &with([0.0, 1.0])[..1]).unwrap_err().to_string();
        assert!(error.contains("[16, 16]"), "{error}");
    }
}
