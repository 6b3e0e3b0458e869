// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of LPIPS by the pixels of one of the two pictures, for training.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::{Layer, Lpips, LpipsFeatures, MIN_SIDE, Map, SCALE, SHIFT};
use crate::{Error, Result, metric::same_size};

impl Lpips {
    /// The distance of `planes`, `(3, height, width)` in about [-1, 1], from the picture that `target` was made
    /// of, and its gradient by `planes`. Values are not rounded, so that there is a gradient; sides are at least 32.
    ///
    /// # Errors
    /// [`Error::Shape`] if the planes do not fit the size, the size is too small, or `target` has another one.
    pub fn gradient(
        &self,
        target: &LpipsFeatures,
        planes: &[f32],
        (width, height): (usize, usize),
    ) -> Result<(f64, Vec<f32>)> {
        same_size("LPIPS gradient", planes, planes, width, height)?;
        if width < MIN_SIDE || height < MIN_SIDE {
            return Err(Error::shape(
                "LPIPS gradient",
                &[height, width],
                format!("sides of {MIN_SIDE} or more"),
            ));
        }
        let pixels = width * height;
        let mut values = vec![0.0; 3 * pixels];
        for (at, pixel) in values.chunks_exact_mut(3).enumerate() {
            for (c, value) in pixel.iter_mut().enumerate() {
                *value = (planes[c * pixels + at] - SHIFT[c]) / SCALE[c];
            }
        }
        // Each layer's input, and at the end the last one's output.
        let mut outputs: Vec<Map> = Vec::with_capacity(self.layers.len());
        let mut pooled: Vec<Option<Map>> = Vec::with_capacity(self.layers.len());
        let first = Map { height, width, channels: 3, values };
        for (i, layer) in self.layers.iter().enumerate() {
            let from = outputs.last().unwrap_or(&first);
            let shrunk = super::is_pooled(i).then(|| from.pooled());
            let map = layer.forward(shrunk.as_ref().unwrap_or(from))?;
            outputs.push(map);
            pooled.push(shrunk);
        }
        let mut distance = 0.0;
        let mut grad: Option<Vec<f32>> = None;
        for i in (0..self.layers.len()).rev() {
            let map = &outputs[i];
            let (_, unit) = &target.levels[i];
            if unit.len() != map.values.len() {
                return Err(Error::shape(
                    "LPIPS gradient",
                    &[unit.len(), map.values.len()],
                    "two pictures of one size",
                ));
            }
            let mut d_map = grad.take().unwrap_or_else(|| vec![0.0; map.values.len()]);
            distance += level(&self.heads[i], map, unit, &mut d_map);
            // Where the layer's result was cut off at 0, nothing goes back.
            d_map.iter_mut().zip(&map.values).for_each(|(d, v)| *d *= f32::from(u8::from(*v > 0.0)));
            let before = if i == 0 { &first } else { &outputs[i - 1] };
            let input = pooled[i].as_ref().unwrap_or(before);
            let d_input = self.layers[i].backward(input, map, d_map)?;
            grad = Some(if pooled[i].is_some() { before.pooled_back(&d_input) } else { d_input });
        }
        let interleaved = grad.unwrap_or_default();
        let mut by_plane = vec![0.0; 3 * pixels];
        for (at, pixel) in interleaved.chunks_exact(3).enumerate() {
            for (c, value) in pixel.iter().enumerate() {
                by_plane[c * pixels + at] = value / SCALE[c];
            }
        }
        Ok((distance, by_plane))
    }
}

/// One level's distance, mean over places of `Σ w·(a/|a| − b)²`; its gradient by a is added to `d_map`.
fn level(head: &[f32], map: &Map, unit: &[f32], d_map: &mut [f32]) -> f64 {
    let channels = map.channels;
    let places = (map.values.len() / channels) as f32;
    let place = |((a, b), d): ((&[f32], &[f32]), &mut [f32])| -> f64 {
        let norm = a.iter().map(|v| v * v).sum::<f32>().sqrt();
        let scale = 1.0 / (norm + super::TINY);
        let (mut sum, mut along) = (0.0, 0.0);
        for ((w, a), b) in head.iter().zip(a).zip(b) {
            let off = a * scale - b;
            sum += w * off * off;
            along += w * off * a;
        }
        // d(a/(n + t)) = da/(n + t) − a·(a·da)/(n·(n + t)²), n = |a|
        let radial = if norm > 0.0 { along * scale / norm } else { 0.0 };
        for (((w, a), b), d) in head.iter().zip(a).zip(b).zip(d) {
            *d += 2.0 / places * scale * (w * (a * scale - b) - a * radial);
        }
        f64::from(sum)
    };
    let rows = map.values.par_chunks_exact(channels).zip(unit.par_chunks_exact(channels));
    // Added in order: the sum does not depend on the number of threads.
    let sums: Vec<f64> = rows.zip(d_map.par_chunks_exact_mut(channels)).map(place).collect();
    sums.iter().sum::<f64>() / f64::from(places)
}

impl Layer {
    /// The gradient of the input `x`, given that of the output `y` before it was cut off at 0.
    fn backward(&self, x: &Map, y: &Map, d: Vec<f32>) -> Result<Vec<f32>> {
        let places = y.height * y.width;
        let d = Tensor::from_vec(d, (places, y.channels), &Device::Cpu)?;
        let patches = d.matmul(&self.weight.t()?)?.flatten_all()?.to_vec1::<f32>()?;
        let run = self.kernel * x.channels;
        let mut back = vec![0.0; x.values.len()];
        for (at, patch) in patches.chunks_exact(self.kernel * run).enumerate() {
            let left = at % y.width * self.stride;
            let columns = self.padding.saturating_sub(left)..self.kernel.min(x.width + self.padding - left);
            for (dy, line) in patch.chunks_exact(run).enumerate() {
                let row = (at / y.width * self.stride + dy).checked_sub(self.padding);
                let Some(row) = row.filter(|row| *row < x.height) else { continue };
                let to = (row * x.width + left + columns.start - self.padding) * x.channels;
                let line = &line[columns.start * x.channels..columns.end * x.channels];
                back[to..to + line.len()].iter_mut().zip(line).for_each(|(b, v)| *b += v);
            }
        }
        Ok(back)
    }
}

impl Map {
    /// The gradient of this map, given that of what [`Map::pooled`] makes of it: all to the first largest place.
    fn pooled_back(&self, d: &[f32]) -> Vec<f32> {
        let channels = self.channels;
        let wide = (self.width - 3) / 2 + 1;
        let mut back = vec![0.0; self.values.len()];
        for (at, d) in d.chunks_exact(channels).enumerate() {
            for (c, d) in d.iter().enumerate() {
                let place = |i: usize| {
                    ((2 * (at / wide) + i / 3) * self.width + 2 * (at % wide) + i % 3) * channels + c
                };
                let first =
                    (0..9).reduce(|a, b| if self.values[place(b)] > self.values[place(a)] { b } else { a });
                back[place(first.unwrap_or(0))] += d;
            }
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;

    #[test]
    fn gradient_is_that_of_finite_differences() {
        let lpips = Lpips::new().unwrap();
        let mut rng = Stream::new(3, 3);
        for (width, height) in [(32, 32), (47, 38)] {
            let mut smooth = |amount: f32| -> Vec<f32> {
                let (a, b) = (rng.next_f32(), rng.next_f32());
                (0..3 * width * height)
                    .map(|i| {
                        let (y, x) = ((i / width) as f32, (i % width) as f32);
                        (y * a * 0.7 + x * b).sin() * 0.6 + amount * rng.next_normal()
                    })
                    .collect()
            };
            let (target, picture, any) = (smooth(0.1), smooth(0.1), smooth(1.0));
            let target = lpips.features(&target, width, height).unwrap();
            let (_, grad) = lpips.gradient(&target, &picture, (width, height)).unwrap();
            // Along the gradient itself, and along a way that has little to do with it.
            for (way, limit) in [(&grad, 0.02), (&any, 0.06)] {
                let norm = way.iter().map(|v| v * v).sum::<f32>().sqrt();
                let along: f64 = grad.iter().zip(way).map(|(g, w)| f64::from(g * w / norm)).sum();
                let at = |step: f32| {
                    let moved: Vec<f32> = picture.iter().zip(way).map(|(p, w)| p + step * w / norm).collect();
                    lpips.gradient(&target, &moved, (width, height)).unwrap().0
                };
                let step = 0.02;
                let found = (at(step) - at(-step)) / (2.0 * f64::from(step));
                assert!((along - found).abs() < limit * found.abs(), "{width}×{height}: {along} {found}");
            }
        }
    }

    #[test]
    fn distance_is_that_of_the_metric() {
        let lpips = Lpips::new().unwrap();
        let mut rng = Stream::new(4, 4);
        // On the grid of 8-bit files, where the metric rounds nothing away.
        let mut any = || -> Vec<f32> {
            (0..3 * 40 * 33).map(|_| crate::picture::from_u8(rng.next_u32() as u8)).collect()
        };
        let (a, b) = (any(), any());
        let target = lpips.features(&a, 40, 33).unwrap();
        let (found, _) = lpips.gradient(&target, &b, (40, 33)).unwrap();
        assert!((found - lpips.distance(&a, &b, 40, 33).unwrap()).abs() < 1e-6);
        let (zero, grad) = lpips.gradient(&target, &a, (40, 33)).unwrap();
        assert!(zero < 1e-9 && grad.iter().all(|g| g.abs() < 1e-4));
        assert!(lpips.gradient(&target, &b[..3 * 31 * 31], (31, 31)).is_err());
    }
}
