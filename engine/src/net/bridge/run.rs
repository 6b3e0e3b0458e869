// SPDX-License-Identifier: MIT OR Apache-2.0
//! One picture through the network on the CPU: bands of rows from stage to stage ([`super::flow`]),
//! pairs of rows over threads, time folded into the weights.

use std::{mem::MaybeUninit, ops::Range, sync::Arc};

use candle_core::Tensor;
use rayon::prelude::*;

use super::{
    flow::{Flow, Op, Stage},
    fold::{Folded, Folds},
    layout::{Conv as Layer, Layout},
    packed::{self, PackedConv},
    squares,
};
use crate::{
    Cancel, Result,
    combine::with_slices,
    memory::written,
    net::Network,
    ops::{
        Isa,
        finish::{Activated, Added, Lines},
        gemm::Run,
        lease::Shelf,
        map::Map,
        same3::{self, Conv, Kernel},
    },
};

/// Fewest pixels of the unshuffled picture that a band has for each thread.
const BAND_PIXELS: usize = 8192;
/// Multiply-accumulates that a 3×3 convolution of the first width has in a band for each thread: enough to be worth
/// handing out, where channels are few.
const BAND_WORK: usize = 30_000_000;
/// Most pixels that a band has for the sake of [`BAND_WORK`]: its maps take memory.
const BAND_MOST: usize = 1 << 16;

/// Memory of one picture under way; kept for the next.
#[derive(Default)]
struct Buffers<T> {
    /// The last rows of each stage's result.
    maps: Vec<Map<T>>,
    done: Vec<usize>,
}

/// A picture that comes in and one that goes out, both channels first.
pub(super) struct Pictures<'a> {
    /// `h`×`w`, multiples of the stride.
    pub x: &'a [f32],
    /// 3×h×w.
    pub out: &'a mut [MaybeUninit<f32>],
    pub h: usize,
    pub w: usize,
    /// The network's answer is multiplied by it and added to the first three channels of `x`, if there is one.
    pub weight: Option<f32>,
}

/// Hands each picture of `x`, `(B, C, H, W)`, and its noise level to `work`, and returns what it writes.
///
/// # Errors
/// As [`Network::forward`].
///
/// # Safety
/// Where `work` returns no error, it has written every pixel of [`Pictures::out`].
pub(super) unsafe fn each(
    net: &impl Network,
    x: &Tensor,
    noise_level: &[f32],
    weight: Option<f32>,
    mut work: impl FnMut(Pictures<'_>, f32) -> Result<()>,
) -> Result<Tensor> {
    let (b, c, h, w) = super::size(net, x, noise_level)?;
    let x = x.contiguous()?;
    let out = with_slices(std::slice::from_ref(&x), |slices| {
        let write = |out: &mut [MaybeUninit<f32>]| {
            let pictures = slices[0].chunks_exact(c * h * w).zip(out.chunks_exact_mut(3 * h * w));
            pictures
                .zip(noise_level)
                .try_for_each(|((x, out), level)| work(Pictures { x, out, h, w, weight }, *level))
        };
        // SAFETY: the caller's promise, for each picture.
        unsafe { written(b * 3 * h * w, write) }
    })?;
    Ok(Tensor::from_vec(out, (b, 3, h, w), x.device())?)
}

/// A network ready to run in one precision.
pub(super) struct Runner<T: Kernel> {
    layout: Arc<Layout>,
    params: Arc<Vec<f32>>,
    isa: Isa,
    flow: Flow,
    convs: Vec<PackedConv<T>>,
    /// Biases, padded as the maps are.
    bias: Vec<Vec<f32>>,
    folds: Folds<Conv<T>>,
    buffers: Shelf<Buffers<T>>,
    scratch: Shelf<same3::Scratch<T>>,
}

impl<T: Kernel> Runner<T> {
    pub fn new(layout: Arc<Layout>, params: Arc<Vec<f32>>, isa: Isa) -> Self {
        let convs = packed::pack::<T>(&layout, &params);
        Self {
            flow: Flow::new(&layout),
            convs,
            bias: layout.convs.iter().map(|c| bias(c, &params)).collect(),
            layout,
            params,
            isa,
            folds: Folds::default(),
            buffers: Shelf::default(),
            scratch: Shelf::default(),
        }
    }

    /// Evaluates the network on one picture.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] between two bands.
    pub fn forward(&self, pictures: Pictures<'_>, noise_level: f32, cancel: &Cancel) -> Result<()> {
        self.forward_watched(pictures, noise_level, cancel, |_, _| ())
    }

    /// As [`Runner::forward`]; `watch` gets the number of a map and each of its rows.
    ///
    /// # Errors
    /// As [`Runner::forward`].
    pub fn forward_watched(
        &self,
        mut pictures: Pictures<'_>,
        noise_level: f32,
        cancel: &Cancel,
        mut watch: impl FnMut(usize, &[T]),
    ) -> Result<()> {
        let pack = |_: usize, c: usize, w: &[f32]| packed::same3(c, c, w);
        let folded = self.folds.get(&self.layout, &self.params, noise_level, pack);
        let u = self.layout.config.unshuffle;
        let (rows, columns) = (pictures.h / u, pictures.w / u);
        let band = band(&self.layout, columns);
        let mut buffers = self.buffers.take();
        let Buffers { maps, done } = &mut *buffers;
        maps.resize_with(self.flow.maps.len(), Map::default);
        for (stage, [h, w, c, lines]) in self.flow.sizes((rows, columns), band) {
            if stage.op != Op::Shuffle {
                maps[stage.to].reset_lines(h, w, c, lines);
            }
        }
        self.flow.run(rows, band, done, cancel, |stage, rows| {
            self.stage(stage, rows.clone(), &folded, maps, &mut pictures);
            if stage.op != Op::Shuffle {
                rows.for_each(|y| watch(stage.to, maps[stage.to].row(y)));
            }
        })
    }

    fn stage(
        &self,
        stage: &Stage,
        rows: Range<usize>,
        folded: &Folded<Conv<T>>,
        maps: &mut [Map<T>],
        pictures: &mut Pictures<'_>,
    ) {
        let (isa, u) = (self.isa, self.layout.config.unshuffle);
        let (before, to) = maps.split_at_mut(stage.to);
        let to = &mut to[0];
        let from = |i: usize| &before[stage.from[i].expect("the flow gives each stage its maps")];
        match stage.op {
            Op::Unshuffle => unshuffle(pictures, rows, &self.layout, to),
            Op::Conv(c) => self.convolve(from(0), self.convs[c].same(), &self.bias[c], None, rows, to),
            Op::First(b) => {
                let (x, conv, bias, end) = (from(0), &folded.weights[b], &folded.bias[b], rows.end);
                self.each(to, rows, 2, |y, out, scratch| {
                    let mut finish = Activated { bias, out };
                    same3::finish(isa, x, conv, y..(y + 2).min(end), scratch, &mut finish);
                });
            }
            Op::Second(c) => {
                let rest = Some(from(1));
                self.convolve(from(0), self.convs[c].same(), &self.bias[c], rest, rows, to);
            }
            Op::Down(c) => {
                let (x, bias, packed) = (from(0), &self.bias[c], self.convs[c].halve());
                self.each(to, rows, 1, |y, out, scratch| {
                    let taps = [0, 1].map(|j| x.at(2 * y + j, 0));
                    let run =
                        Run { x: &x.data, start: 0, step: 2 * x.c, taps: &taps, k: 2 * x.c, n: x.w / 2 };
                    let mut finish = Added::<T, _> { bias, rest: None, out };
                    T::finish(isa, run, packed, (0, 1), scratch, &mut finish);
                });
            }
            Op::Up(c) => {
                let (x, skip) = (from(0), from(1));
                let (bias, packed) = (&self.bias[c], self.convs[c].double());
                self.each(to, rows, 1, |y, out, scratch| {
                    let taps = [x.at(y / 2, 0)];
                    let run = Run { x: &x.data, start: 0, step: x.c, taps: &taps, k: x.c, n: x.w };
                    let mut finish = Added { bias, rest: Some([skip.row(y); 2]), out };
                    T::finish(isa, run, &packed[y % 2], (0, 2), scratch, &mut finish);
                });
            }
            Op::Shuffle => shuffle(from(0), rows, u, pictures),
        }
    }

    /// Convolves rows of `x` into those of `to`, and adds bias and `rest`.
    fn convolve(
        &self,
        x: &Map<T>,
        conv: &Conv<T>,
        bias: &[f32],
        rest: Option<&Map<T>>,
        rows: Range<usize>,
        to: &mut Map<T>,
    ) {
        let end = rows.end;
        self.each(to, rows, 2, |y, out, scratch| {
            let rest = rest.map(|rest| [rest.row(y), rest.row((y + 1).min(end - 1))]);
            let mut finish = Added { bias, rest, out };
            same3::finish(self.isa, x, conv, y..(y + 2).min(end), scratch, &mut finish);
        });
    }

    /// Rows of `to`, `group` at a time: the first one's number, and where they go.
    fn each(
        &self,
        to: &mut Map<T>,
        rows: Range<usize>,
        group: usize,
        work: impl Fn(usize, Lines<'_, T>, &mut same3::Scratch<T>) + Sync,
    ) {
        let (pitch, c, first) = (to.pitch(), to.c, rows.start);
        to.lines_mut(rows, group).enumerate().for_each_init(
            || self.scratch.take(),
            |scratch, (i, lines)| work(first + i * group, Lines::new(lines, pitch, c), scratch),
        );
    }
}

/// Rows of the unshuffled picture that come in at a time: a pair for each thread on every level.
pub(super) fn band(layout: &Layout, columns: usize) -> usize {
    let threads = rayon::current_num_threads();
    let deepest = 1 << (layout.config.widths.len() - 1);
    let width = layout.config.widths[0];
    let worth = (BAND_WORK / (9 * width * width) * threads).min(BAND_MOST);
    let pixels = (BAND_PIXELS * threads).max(worth).div_ceil(columns);
    pixels.max(threads * deepest).next_multiple_of(2 * deepest)
}

/// A convolution's biases, padded as the maps are.
pub(super) fn bias(c: &Layer, params: &[f32]) -> Vec<f32> {
    let mut bias = params[c.bias..c.bias + c.cout].to_vec();
    bias.resize(c.cout.next_multiple_of(16), 0.0);
    bias
}

/// Rows of squares of the picture into a map.
pub(super) fn unshuffle<T: Kernel>(
    pictures: &Pictures<'_>,
    rows: Range<usize>,
    layout: &Layout,
    to: &mut Map<T>,
) {
    let (x, size, first, c) = (pictures.x, (pictures.h, pictures.w), rows.start, to.c);
    let (u, channels) = (layout.config.unshuffle, layout.config.stem());
    to.lines_mut(rows, 1).enumerate().for_each(|(i, line)| {
        let pixels = &mut line[c..][..size.1 / u * c];
        squares::unshuffle(x, size, u, channels, first + i, (pixels, c));
    });
}

/// Channels `(c·u + y)·u + x` of rows of a map back into pixels.
pub(super) fn shuffle<T: Kernel>(map: &Map<T>, rows: Range<usize>, u: usize, pictures: &mut Pictures<'_>) {
    let (h, w, n) = (pictures.h, pictures.w, rows.len() * u);
    let (x, weight, channels) = (pictures.x, pictures.weight, map.c);
    for (plane, (out, x)) in pictures.out.chunks_exact_mut(h * w).zip(x.chunks_exact(h * w)).enumerate() {
        let (out, x) = (&mut out[rows.start * u * w..][..n * w], &x[rows.start * u * w..][..n * w]);
        out.par_chunks_mut(w).zip(x.par_chunks(w)).enumerate().with_min_len(16).for_each(|(y, (out, x))| {
            let k = (plane * u + y % u) * u;
            let map = map.row(rows.start + y / u);
            match weight {
                Some(weight) => squares::shuffle(map, channels, k, u, out, |i, v| x[i] + weight * v),
                None => squares::shuffle(map, channels, k, u, out, |_, v| v),
            }
        });
    }
}
