// SPDX-License-Identifier: MIT OR Apache-2.0
//! One sample of the training data: a random crop, clean and degraded. Sample `i` depends on the
//! seed and `i` alone, so a run that stops and goes on sees what it would have seen.

use serde::{Deserialize, Serialize};

use super::{
    dataset::{Dataset, Stored},
    sources::Sources,
    synthetic,
    window::window,
};
use crate::{
    Error, Result,
    degrade::{Degradation, Degraded},
    noise::Stream,
    picture::{from_u8, resize::Filter, to_u8},
};

/// How crops are cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CropOptions {
    /// Width of a crop in pixels.
    pub width: usize,
    /// Height of a crop in pixels.
    pub height: usize,
    /// Smallest and largest factor by which a picture is shrunk before it is cut, at most 1. Below
    /// 1 it hides the artifacts that the picture itself came with. Ready-made pairs are not shrunk.
    pub shrink: [f32; 2],
    /// Mirror and turn by quarters.
    pub turn: bool,
    /// Pixels around the crop that are degraded with it and then cut off, so that its border is
    /// spoiled by what is really beside it. A multiple of 16 keeps the crop on the grid of JPEG.
    pub margin: usize,
    /// Share of the samples that are drawn instead of photographed: text, lines, screens,
    /// gradients, noise.
    pub synthetic: f32,
    /// Share of the samples that are made grey before they are spoiled: black-and-white pictures have
    /// no subsampled colours, so little is wrong with them at high quality, and little may be changed.
    pub grey: f32,
}

impl Default for CropOptions {
    /// 96×96, shrunk by 0.6 to 1, turned, 16 pixels of margin, photographs only, in their own colours.
    fn default() -> Self {
        Self { width: 96, height: 96, shrink: [0.6, 1.0], turn: true, margin: 16, synthetic: 0.0, grey: 0.0 }
    }
}

/// A clean crop and its degraded twin.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Clean, `(3, height, width)`, range [-1, 1], on the grid of 8-bit files.
    pub x0: Vec<f32>,
    /// Degraded, likewise.
    pub x1: Vec<f32>,
    /// Holes of inpainting, `(height, width)`.
    pub mask: Option<Vec<f32>>,
}

/// An endless sequence of samples.
pub struct Samples {
    sources: Sources,
    degradation: Box<dyn Degradation>,
    options: CropOptions,
    seed: u64,
}

impl Samples {
    /// Samples of the photographs spoiled by `degradation`, and of the pairs, which are spoiled already.
    ///
    /// # Errors
    /// [`Error::Setting`] for options outside their ranges, or a degradation that is ready-made.
    pub fn new(
        sources: impl Into<Sources>,
        degradation: Box<dyn Degradation>,
        options: CropOptions,
        seed: u64,
    ) -> Result<Self> {
        let CropOptions { width, height, shrink: [low, high], margin, synthetic, grey, .. } = options;
        if !(1..=MAX_SIDE).contains(&width.min(height)) || width.max(height) > MAX_SIDE {
            return Err(Error::setting(
                "crop",
                format!("{width}×{height}"),
                format!("1 to {MAX_SIDE} pixels"),
            ));
        }
        if !(0.1..=1.0).contains(&low) || !(low..=1.0).contains(&high) {
            return Err(Error::setting("shrink", format!("{low} to {high}"), "0.1 to 1, the smaller first"));
        }
        if margin > MAX_SIDE {
            return Err(Error::setting("margin", margin, format!("at most {MAX_SIDE} pixels")));
        }
        if !(0.0..=1.0).contains(&synthetic) {
            return Err(Error::setting("synthetic", synthetic, "0 to 1"));
        }
        if !(0.0..=1.0).contains(&grey) {
            return Err(Error::setting("grey", grey, "0 to 1"));
        }
        if degradation.pairs().is_some() {
            return Err(Error::setting(
                "train.degrade",
                "pairs",
                "without it: pairs have a table, [[train.pairs]]",
            ));
        }
        let sources = sources.into();
        let whole = |pairs: &Dataset| pairs.pictures().iter().all(|picture| picture.degraded.is_some());
        if !sources.pairs.iter().all(|(_, pairs)| whole(pairs)) {
            return Err(Error::setting("train.pairs", "pictures without degraded twins", "read as pairs"));
        }
        Ok(Self { sources, degradation, options, seed })
    }

    /// Where pictures come from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// How crops are cut.
    pub fn options(&self) -> &CropOptions {
        &self.options
    }

    /// Sample number `index`.
    ///
    /// # Errors
    /// What the degradation returns.
    pub fn sample(&self, index: u64) -> Result<Sample> {
        let CropOptions { width, height, turn, margin, .. } = self.options;
        let mut rng = Stream::new(self.seed, index);
        let kind = rng.next_f32();
        let drawn = kind < self.options.synthetic;
        let pose = if turn { Pose(rng.below(8) as u8) } else { Pose(0) };
        let inner = (width, height);
        if let Some(pairs) = self.pairs_at(kind) {
            return Ok(self.pair(pairs, inner, pose, &mut rng));
        }
        let outer = (width + 2 * margin, height + 2 * margin);
        let size = if pose.swaps() { (outer.1, outer.0) } else { outer };
        let clean = if drawn { synthetic::draw(size, &mut rng) } else { self.photograph(size, &mut rng) };
        let clean = self.shaded(&mut rng)(pose.apply(&clean, size));
        let Degraded { x1, mask } = self.degradation.degrade(&clean, outer.0, outer.1, &mut rng)?;
        Ok(Sample {
            x0: inside(&clean, outer, inner, margin),
            x1: inside(&x1, outer, inner, margin),
            mask: mask.map(|mask| inside(&mask, outer, inner, margin)),
        })
    }

    /// The pairs that a number in [0, 1) falls to: after the share of drawn samples, each share in its order.
    fn pairs_at(&self, unit: f32) -> Option<&Dataset> {
        let mut end = self.options.synthetic;
        let mut shares = self.sources.pairs.iter().map(|(share, pairs)| {
            let start = end;
            end += share;
            (start..end, pairs)
        });
        shares.find(|(part, _)| part.contains(&unit)).map(|(_, pairs)| pairs)
    }

    /// The same window of both pictures of some pair, posed alike. It is not resampled, which would hide what is
    /// to be learnt, and has no margin, since nothing is spoiled any more.
    fn pair(&self, pairs: &Dataset, inner: (usize, usize), pose: Pose, rng: &mut Stream) -> Sample {
        let size = if pose.swaps() { (inner.1, inner.0) } else { inner };
        let picture = pairs.pick(rng.next_u64() as f64 / 2f64.powi(64));
        let Stored { width, height, rgb, degraded, .. } = picture;
        let start = [(size.0, *width), (size.1, *height)]
            .map(|(len, side)| rng.below((side.saturating_sub(len) + 1) as u64) as f64);
        let shaded = self.shaded(rng);
        let cut = |rgb: &[u8]| {
            let planes = window(rgb, (*width, *height), start, size, 1.0, Filter::Area);
            shaded(pose.apply(&planes, size))
        };
        let degraded = degraded.as_ref().expect("checked when the samples were made");
        Sample { x0: cut(rgb), x1: cut(degraded), mask: None }
    }

    /// Makes planes grey, or leaves them: drawn only where it is asked for, so that runs without it see what they
    /// always saw.
    fn shaded(&self, rng: &mut Stream) -> impl Fn(Vec<f32>) -> Vec<f32> + use<> {
        let grey = self.options.grey > 0.0 && rng.next_f32() < self.options.grey;
        move |planes| if grey { luma(&planes) } else { planes }
    }

    /// A window of `size` of some photograph.
    fn photograph(&self, size: (usize, usize), rng: &mut Stream) -> Vec<f32> {
        let unit = rng.next_u64() as f64 / 2f64.powi(64);
        let picture = self.sources.photographs.pick(unit);
        let [low, high] = self.options.shrink;
        let wanted = low + (high - low) * rng.next_f32();
        let filter = [Filter::Area, Filter::Cubic, Filter::Lanczos3][rng.below(3) as usize];
        let (u, v) = (f64::from(rng.next_f32()), f64::from(rng.next_f32()));
        let whole = (picture.width, picture.height);
        // A small picture is shrunk less, and mirrored if it is still too small.
        let room = (picture.width as f32 / size.0 as f32).min(picture.height as f32 / size.1 as f32);
        let step = f64::from((1.0 / wanted).min(room.max(1.0)));
        let start = [free(u, picture.width, size.0, step), free(v, picture.height, size.1, step)];
        // Shrunk by nothing, pixels are taken as they are.
        let start = if step > 1.0 { start } else { start.map(f64::floor) };
        window(&picture.rgb, whole, start, size, step, filter)
    }
}

/// Largest side of a crop.
const MAX_SIDE: usize = 4096;

/// The same luma (BT.601, as JPEG has it) in all three planes, on the grid of 8-bit files.
fn luma(planes: &[f32]) -> Vec<f32> {
    let (red, rest) = planes.split_at(planes.len() / 3);
    let (green, blue) = rest.split_at(rest.len() / 2);
    let pixels = red.iter().zip(green).zip(blue);
    let plane: Vec<f32> =
        pixels.map(|((r, g), b)| from_u8(to_u8(0.299 * r + 0.587 * g + 0.114 * b))).collect();
    plane.repeat(3)
}

/// A random start of a window of `len` output pixels, `step` source pixels each.
fn free(unit: f64, side: usize, len: usize, step: f64) -> f64 {
    unit * (side as f64 - len as f64 * step).max(0.0)
}

/// One of the eight ways to mirror and turn a square: bit 0 mirrors columns, bit 1 rows, bit 2 swaps
/// rows and columns afterwards.
#[derive(Clone, Copy)]
struct Pose(u8);

impl Pose {
    fn swaps(self) -> bool {
        self.0 & 4 != 0
    }

    /// `(3, height, width)` of this size to the posed planes.
    fn apply(self, planes: &[f32], (width, height): (usize, usize)) -> Vec<f32> {
        if self.0 == 0 {
            return planes.to_vec();
        }
        let (wide, high) = if self.swaps() { (height, width) } else { (width, height) };
        let mut out = Vec::with_capacity(planes.len());
        for plane in planes.chunks_exact(width * height) {
            for y in 0..high {
                for x in 0..wide {
                    let (x, y) = if self.swaps() { (y, x) } else { (x, y) };
                    let x = if self.0 & 1 != 0 { width - 1 - x } else { x };
                    let y = if self.0 & 2 != 0 { height - 1 - y } else { y };
                    out.push(plane[y * width + x]);
                }
            }
        }
        out
    }
}

/// The middle of planes, without `margin` on each side.
fn inside(planes: &[f32], outer: (usize, usize), inner: (usize, usize), margin: usize) -> Vec<f32> {
    if margin == 0 {
        return planes.to_vec();
    }
    let mut middle = Vec::with_capacity(planes.len() / (outer.0 * outer.1) * inner.0 * inner.1);
    for plane in planes.chunks_exact(outer.0 * outer.1) {
        for row in plane.chunks_exact(outer.0).skip(margin).take(inner.1) {
            middle.extend_from_slice(&row[margin..margin + inner.0]);
        }
    }
    middle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cancel, degrade, train::dataset::DatasetOptions};
    use proptest::prelude::*;

    fn samples(spec: &str, options: CropOptions) -> Samples {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pictures");
        let only = DatasetOptions { min_side: 1, ..Default::default() };
        let dataset = Dataset::open(&folder, None, &only, &Cancel::default(), |_, _| {}, |_, _| {}).unwrap();
        Samples::new(dataset, degrade::parse(spec).unwrap(), options, 7).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_sample_depends_on_its_number_alone(
            width in 1usize..90, height in 1usize..90, margin in 0usize..20, index in any::<u64>(),
        ) {
            let options = CropOptions { width, height, margin, synthetic: 0.3, ..Default::default() };
            let samples = samples("blur-gauss:0-2+jpeg:5-95:any:unaligned", options);
            let sample = samples.sample(index).unwrap();
            samples.sample(index ^ 1).unwrap();
            prop_assert_eq!(&samples.sample(index).unwrap(), &sample);
            prop_assert_eq!(sample.x0.len(), 3 * width * height);
            prop_assert_eq!(sample.x1.len(), 3 * width * height);
            prop_assert!(sample.x0.iter().all(|&v| from_u8(to_u8(v)) == v));
        }
    }

    #[test]
    fn nothing_spoiled_is_the_same() {
        for index in 0..40 {
            let sample =
                samples("none", CropOptions { synthetic: 0.5, ..Default::default() }).sample(index).unwrap();
            assert_eq!(sample.x0, sample.x1);
        }
    }

    #[test]
    fn unshrunk_crops_are_pixels_of_the_picture() {
        let options = CropOptions {
            width: 9,
            height: 7,
            shrink: [1.0, 1.0],
            turn: false,
            margin: 0,
            ..Default::default()
        };
        let samples = samples("none", options);
        for index in 0..10 {
            let bytes = crate::picture::interleaved(&samples.sample(index).unwrap().x0);
            let found = samples.sources().photographs.pictures().iter().any(|picture| {
                (0..=picture.height - 7).any(|y| {
                    (0..=picture.width - 9).any(|x| {
                        (0..7).all(|row| {
                            picture.rgb[3 * ((y + row) * picture.width + x)..][..27]
                                == bytes[27 * row..][..27]
                        })
                    })
                })
            });
            assert!(found, "{index}");
        }
    }

    #[test]
    fn eight_poses_are_eight_pictures() {
        let planes: Vec<f32> = (0..18).map(|i| i as f32).collect();
        let mut all: Vec<_> = (0..8).map(|pose| Pose(pose).apply(&planes, (3, 2))).collect();
        assert_eq!(all[1][..3], [2.0, 1.0, 0.0]);
        assert_eq!(all[2][..3], [3.0, 4.0, 5.0]);
        assert_eq!(all[4][..4], [0.0, 3.0, 1.0, 4.0]);
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        all.dedup();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn as_many_are_grey_as_are_asked_for() {
        let grey = |share: f32| {
            let samples = samples("none", CropOptions { grey: share, ..Default::default() });
            let plain = |x0: &[f32]| x0[..x0.len() / 3].repeat(3) == x0;
            (0..60).filter(|&index| plain(&samples.sample(index).unwrap().x0)).count()
        };
        assert_eq!(grey(1.0), 60);
        let (none, half) = (grey(0.0), grey(0.5));
        assert!(none < 20 && (none + 10..50).contains(&half), "{none} {half}");
    }

    #[test]
    fn grey_is_luma() {
        let planes = [1.0, -1.0, -1.0, 1.0, 0.5, -1.0].map(|v| from_u8(to_u8(v)));
        let luma = luma(&planes);
        // Pixels (1, -1, 0.5) and (-1, 1, -1).
        for (v, want) in luma.iter().zip([-0.231f32, 0.174, -0.231, 0.174, -0.231, 0.174]) {
            assert!((v - want).abs() < 0.005, "{luma:?}");
        }
    }

    #[test]
    fn the_margin_keeps_the_grid_and_the_neighbours() {
        // With a margin of 16, the crop is the middle of a larger one without.
        let cut = |margin, side| {
            let options = CropOptions {
                width: side,
                height: side,
                margin,
                shrink: [1.0, 1.0],
                turn: false,
                ..Default::default()
            };
            samples("jpeg:20", options).sample(3).unwrap().x1
        };
        assert_eq!(cut(16, 16), inside(&cut(0, 48), (48, 48), (16, 16), 16));
    }
}
