// SPDX-License-Identifier: MIT OR Apache-2.0
//! Learned perceptual similarity, version 0.1 with AlexNet (Zhang et al., CVPR 2018).

mod gradient;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use safetensors::SafeTensors;

use super::{rounded, same_size};
use crate::{Error, Result};

/// Weights, f16; origin and licence stand beside the file. Compiled in, so that a program that
/// measures needs no file at hand; a program that does not measure does not carry them.
const WEIGHTS: &[u8] = include_bytes!("../../assets/lpips-alex/lpips-alex.safetensors");

/// Input scaling: `(x − shift)/scale` per channel of [-1, 1].
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// Side below which a picture leaves nothing after the network's strides; smaller ones are mirrored
/// up to it.
const MIN_SIDE: usize = 32;

/// Kernel side, stride and padding of each convolution; a maximum over 3×3 comes before the second
/// and the third.
const LAYERS: [(usize, usize, usize); 5] = [(11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1)];

/// Whether the maximum of 3×3 places comes before layer `i`.
fn is_pooled(i: usize) -> bool {
    matches!(i, 1 | 2)
}

/// Added to lengths, so that nothing is divided by 0.
const TINY: f32 = 1e-10;

/// The network, ready to compare.
pub struct Lpips {
    layers: Vec<Layer>,
    heads: Vec<Vec<f32>>,
}

struct Layer {
    kernel: usize,
    stride: usize,
    padding: usize,
    /// `(kernel·kernel·in, out)`: a convolution is a product with the patches of the input.
    weight: Tensor,
    bias: Vec<f32>,
}

/// Activations, channels-last.
struct Map {
    height: usize,
    width: usize,
    channels: usize,
    values: Vec<f32>,
}

/// What the network sees in one picture; kept to compare it with several others.
pub struct LpipsFeatures {
    /// Per level: channels, and unit vectors of so many channels for each place.
    levels: Vec<(usize, Vec<f32>)>,
}

impl Lpips {
    /// Reads the weights.
    ///
    /// # Errors
    /// [`Error::Tensor`] if memory cannot be had.
    pub fn new() -> Result<Self> {
        let broken = |err: safetensors::SafeTensorError| Error::file("lpips-alex.safetensors", err);
        let file = SafeTensors::deserialize(WEIGHTS).map_err(broken)?;
        let tensor = |name: String| -> Result<Tensor> {
            let view = file.tensor(&name).map_err(broken)?;
            let stored = Tensor::from_raw_buffer(view.data(), DType::F16, view.shape(), &Device::Cpu)?;
            Ok(stored.to_dtype(DType::F32)?)
        };
        let layer = |(i, (kernel, stride, padding)): (usize, (usize, usize, usize))| -> Result<Layer> {
            let weight = tensor(format!("conv{i}.weight"))?;
            let out = weight.dim(0)?;
            let weight = weight.permute((2, 3, 1, 0))?.contiguous()?.reshape(((), out))?;
            Ok(Layer { kernel, stride, padding, weight, bias: tensor(format!("conv{i}.bias"))?.to_vec1()? })
        };
        Ok(Self {
            layers: LAYERS.into_iter().enumerate().map(layer).collect::<Result<_>>()?,
            heads: (0..LAYERS.len())
                .map(|i| Ok(tensor(format!("lin{i}.weight"))?.to_vec1()?))
                .collect::<Result<_>>()?,
        })
    }

    /// What the network sees in `planes`, `(3, height, width)` in [-1, 1], rounded to 8 bits.
    ///
    /// # Errors
    /// [`Error::Shape`] if the planes do not fit the size.
    pub fn features(&self, planes: &[f32], width: usize, height: usize) -> Result<LpipsFeatures> {
        same_size("LPIPS", planes, planes, width, height)?;
        let (wide, high) = (width.max(MIN_SIDE), height.max(MIN_SIDE));
        let mut values = vec![0.0; 3 * wide * high];
        for (at, pixel) in values.chunks_exact_mut(3).enumerate() {
            let from = mirrored(at / wide, height) * width + mirrored(at % wide, width);
            for (c, value) in pixel.iter_mut().enumerate() {
                *value = (rounded(planes[c * width * height + from]) - SHIFT[c]) / SCALE[c];
            }
        }
        let mut map = Map { height: high, width: wide, channels: 3, values };
        let mut levels = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            let shrunk = if is_pooled(i) { map.pooled() } else { map };
            map = layer.forward(&shrunk)?;
            levels.push((map.channels, map.unit_vectors()));
        }
        Ok(LpipsFeatures { levels })
    }

    /// The distance of two pictures of one size by their features: 0 for equal ones.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sizes differ.
    pub fn between(&self, a: &LpipsFeatures, b: &LpipsFeatures) -> Result<f64> {
        let mut sum = 0.0;
        for ((head, (channels, a)), (_, b)) in self.heads.iter().zip(&a.levels).zip(&b.levels) {
            if a.len() != b.len() {
                return Err(Error::shape("LPIPS", &[a.len(), b.len()], "two pictures of one size"));
            }
            let place = |(a, b): (&[f32], &[f32])| -> f64 {
                let weighted = head.iter().zip(a.iter().zip(b)).map(|(w, (a, b))| w * (a - b) * (a - b));
                f64::from(weighted.sum::<f32>())
            };
            let places = a.chunks_exact(*channels).zip(b.chunks_exact(*channels));
            sum += places.map(place).sum::<f64>() / (a.len() / channels) as f64;
        }
        Ok(sum)
    }

    /// [`Lpips::between`] of two pictures, `(3, height, width)` in [-1, 1].
    ///
    /// # Errors
    /// [`Error::Shape`] if the planes do not fit the size.
    pub fn distance(&self, a: &[f32], b: &[f32], width: usize, height: usize) -> Result<f64> {
        self.between(&self.features(a, width, height)?, &self.features(b, width, height)?)
    }
}

impl Layer {
    /// Convolution with zeros outside, bias, and the larger of that and 0.
    fn forward(&self, x: &Map) -> Result<Map> {
        let size = |side: usize| (side + 2 * self.padding - self.kernel) / self.stride + 1;
        let (height, width, out) = (size(x.height), size(x.width), self.bias.len());
        let run = self.kernel * x.channels;
        let mut values = Vec::with_capacity(height * width * out);
        // Some rows at a time, so that patches stay small beside the picture.
        let rows = (PATCHES / width).max(1);
        for first in (0..height).step_by(rows) {
            let count = rows.min(height - first);
            let mut patches = vec![0f32; count * width * self.kernel * run];
            patches.par_chunks_exact_mut(width * self.kernel * run).enumerate().for_each(|(y, row)| {
                for (place, patch) in row.chunks_exact_mut(self.kernel * run).enumerate() {
                    self.copy_patch(x, first + y, place, patch);
                }
            });
            let patches = Tensor::from_vec(patches, (count * width, self.kernel * run), &Device::Cpu)?;
            values.extend(patches.matmul(&self.weight)?.flatten_all()?.to_vec1::<f32>()?);
        }
        values.par_chunks_exact_mut(out).for_each(|place| {
            place.iter_mut().zip(&self.bias).for_each(|(v, b)| *v = (*v + b).max(0.0));
        });
        Ok(Map { height, width, channels: out, values })
    }

    /// The part of `x` under the kernel at one place of the output; zeros outside are already there.
    fn copy_patch(&self, x: &Map, y: usize, place: usize, patch: &mut [f32]) {
        let run = self.kernel * x.channels;
        let left = place * self.stride;
        let columns = self.padding.saturating_sub(left)..self.kernel.min(x.width + self.padding - left);
        for (dy, line) in patch.chunks_exact_mut(run).enumerate() {
            let Some(row) = (y * self.stride + dy).checked_sub(self.padding).filter(|row| *row < x.height)
            else {
                continue;
            };
            let from = (row * x.width + left + columns.start - self.padding) * x.channels;
            let len = columns.len() * x.channels;
            line[columns.start * x.channels..][..len].copy_from_slice(&x.values[from..from + len]);
        }
    }
}

/// Places of the output whose patches are in memory together.
const PATCHES: usize = 8192;

impl Map {
    /// Each place's channels scaled to length 1.
    fn unit_vectors(&self) -> Vec<f32> {
        let mut values = self.values.clone();
        values.par_chunks_exact_mut(self.channels).for_each(|place| {
            let length = place.iter().map(|v| v * v).sum::<f32>().sqrt() + TINY;
            place.iter_mut().for_each(|v| *v /= length);
        });
        values
    }

    /// Largest of 3×3 places, every second one, inside the map.
    fn pooled(&self) -> Self {
        let channels = self.channels;
        let (height, width) = ((self.height - 3) / 2 + 1, (self.width - 3) / 2 + 1);
        let mut values = vec![f32::NEG_INFINITY; height * width * channels];
        values.par_chunks_exact_mut(width * channels).enumerate().for_each(|(y, row)| {
            for (x, place) in row.chunks_exact_mut(channels).enumerate() {
                for (dy, dx) in (0..9).map(|i| (i / 3, i % 3)) {
                    let from = ((2 * y + dy) * self.width + 2 * x + dx) * channels;
                    let seen = &self.values[from..from + channels];
                    place.iter_mut().zip(seen).for_each(|(o, v)| *o = o.max(*v));
                }
            }
        });
        Self { height, width, channels, values }
    }
}

fn mirrored(at: usize, len: usize) -> usize {
    let at = at % (2 * len);
    if at < len { at } else { 2 * len - 1 - at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;

    #[test]
    fn distances_are_those_of_the_original() {
        // PyPI `lpips` 0.1.4 (net='alex', f32) and scikit-image on the files of
        // tests/fixtures/pictures, read by Pillow; f16 weights move LPIPS by less than 1e-4.
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pictures");
        let load = |name: &str| crate::picture::Picture::load(folder.join(name)).unwrap();
        let clean = load("rgb8.png");
        let lpips = Lpips::new().unwrap();
        for (name, psnr, ssim, distance) in [
            ("quality80-420.jpg", 30.391_469_399_730, 0.891_599_086_522, 0.001_955_274),
            ("lossy.webp", 30.176_204_105_675, 0.887_438_401_742, 0.003_804_786),
        ] {
            let other = load(name);
            let (a, b, w, h) = (&clean.rgb, &other.rgb, clean.width, clean.height);
            assert!((super::super::psnr_rgb(a, b).unwrap() - psnr).abs() < 1e-6, "{name}");
            assert!((super::super::ssim(a, b, w, h).unwrap() - ssim).abs() < 1e-6, "{name}");
            let found = lpips.distance(a, b, w, h).unwrap();
            assert!((found - distance).abs() < 2e-5, "{name}: {found}");
        }
    }

    #[test]
    fn equal_pictures_have_no_distance_at_any_size() {
        let lpips = Lpips::new().unwrap();
        let mut rng = Stream::new(1, 1);
        for (width, height) in [(1, 1), (33, 70), (64, 48)] {
            let a: Vec<f32> = (0..3 * width * height).map(|_| rng.next_f32() * 2.0 - 1.0).collect();
            let b: Vec<f32> = a.iter().rev().copied().collect();
            assert_eq!(lpips.distance(&a, &a, width, height).unwrap(), 0.0);
            let (there, back) = (
                lpips.distance(&a, &b, width, height).unwrap(),
                lpips.distance(&b, &a, width, height).unwrap(),
            );
            assert!(there > 0.0 && (there - back).abs() < 1e-9);
        }
        assert!(lpips.distance(&[0.0; 3], &[0.0; 3], 2, 1).is_err());
    }
}
