// SPDX-License-Identifier: MIT OR Apache-2.0
//! One picture through the network in bytes on the CPU: as [`super::run`], but the convolutions inside multiply bytes.
//!
//! Stem and head are f32, and so is what blocks add to; each map that an inner convolution reads is rounded to bytes
//! over a range that [`super::calibration`] has found. Every processor gives the same bits.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use super::{
    flow::{Flow, Op, Stage},
    fold::{Folded, Folds},
    layout::{Conv as Layer, Layout},
    packed,
    run::{self, Pictures},
};
use crate::{
    Cancel, Result,
    ops::{
        Cpu,
        finish::{Activated, Added, Bytes, Lines},
        gemm::Run,
        int8::{self, Packed},
        lease::Shelf,
        map::Map,
        same3::{self, around, beside},
        scales::Scales,
    },
};

/// The weights of a stage; those of a block's first convolution are in [`Folds`].
enum Weights {
    None,
    Float(same3::Conv<f32>),
    Bytes(Packed),
    /// Even rows and odd ones.
    Pair([Packed; 2]),
}

/// Memory of one picture under way; kept for the next.
#[derive(Default)]
struct Buffers {
    /// The last rows of each stage's result.
    floats: Vec<Map<f32>>,
    /// The same rounded, where a convolution inside reads it.
    bytes: Vec<Map<u8>>,
    done: Vec<usize>,
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    sums: Vec<f32>,
    float: same3::Scratch<f32>,
}

/// Where a stage's rows go.
struct To<'a> {
    floats: &'a mut Map<f32>,
    bytes: Option<(&'a mut Map<u8>, &'a Scales)>,
}

/// A network ready to run in bytes.
pub(super) struct Runner {
    layout: Arc<Layout>,
    params: Vec<f32>,
    cpu: Cpu,
    flow: Flow,
    /// By stage.
    weights: Vec<Weights>,
    /// By map.
    scales: Vec<Option<Scales>>,
    /// By convolution, padded as the maps are.
    bias: Vec<Vec<f32>>,
    folds: Folds<Packed>,
    buffers: Shelf<Buffers>,
    scratch: Shelf<Scratch>,
}

impl Runner {
    /// - `ranges`: as [`super::calibration::entries`] lists them, pairs of [`Scales::new`].
    pub fn new(layout: Arc<Layout>, params: Vec<f32>, ranges: &[Vec<[f32; 2]>], cpu: Cpu) -> Self {
        let flow = Flow::new(&layout);
        let mut scales = vec![None; flow.maps.len()];
        for (map, ranges) in flow.inner().into_iter().zip(ranges) {
            scales[map] = Some(Scales::new(ranges));
        }
        let pack = |stage: &Stage| {
            let kernel = |c: usize| {
                let conv: &Layer = &layout.convs[c];
                (conv.cout, packed::straight(conv, &params[conv.weight..conv.weight + conv.weights()]))
            };
            let scale = || read(stage, &scales);
            match stage.op {
                Op::Conv(c) => {
                    let (cout, w) = kernel(c);
                    Weights::Float(packed::same3(layout.convs[c].cin.next_multiple_of(16), cout, &w))
                }
                Op::Second(c) | Op::Down(c) => {
                    let (cout, w) = kernel(c);
                    let taps = if matches!(stage.op, Op::Down(_)) { 2 } else { 3 };
                    Weights::Bytes(Packed::new(cpu.int8, taps, cout, &w, scale()))
                }
                Op::Up(c) => {
                    let (cout, w) = kernel(c);
                    let (even, odd) = w.split_at(w.len() / 2);
                    Weights::Pair([even, odd].map(|w| Packed::new(cpu.int8, 1, 2 * cout, w, scale())))
                }
                Op::Unshuffle | Op::First(_) | Op::Shuffle => Weights::None,
            }
        };
        Self {
            weights: flow.stages.iter().map(pack).collect(),
            bias: layout.convs.iter().map(|c| run::bias(c, &params)).collect(),
            scales,
            flow,
            layout,
            params,
            cpu,
            folds: Folds::default(),
            buffers: Shelf::default(),
            scratch: Shelf::default(),
        }
    }

    /// As [`run::Runner::forward`].
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] between two bands.
    pub fn forward(&self, mut pictures: Pictures<'_>, noise_level: f32, cancel: &Cancel) -> Result<()> {
        let pack = |block: usize, c: usize, w: &[f32]| {
            let first = self.flow.stages.iter().find(|stage| stage.op == Op::First(block));
            let first = first.expect("the flow has a stage for each block");
            Packed::new(self.cpu.int8, 3, c, w, read(first, &self.scales))
        };
        let folded = self.folds.get(&self.layout, &self.params, noise_level, pack);
        let u = self.layout.config.unshuffle;
        let (rows, columns) = (pictures.h / u, pictures.w / u);
        let band = run::band(&self.layout, columns);
        let mut buffers = self.buffers.take();
        let Buffers { floats, bytes, done } = &mut *buffers;
        floats.resize_with(self.flow.maps.len(), Map::default);
        bytes.resize_with(self.flow.maps.len(), Map::default);
        for (stage, [h, w, c, lines]) in self.flow.sizes((rows, columns), band) {
            if !matches!(stage.op, Op::Shuffle | Op::First(_)) {
                floats[stage.to].reset_lines(h, w, c, lines);
            }
            if let Some(scales) = &self.scales[stage.to] {
                bytes[stage.to].reset_around(h, w, c, lines, scales.zero());
            }
        }
        self.flow.run(rows, band, done, cancel, |stage, rows| {
            self.stage(stage, rows, &folded, (floats, bytes), &mut pictures);
        })
    }

    fn stage(
        &self,
        stage: &Stage,
        rows: Range<usize>,
        folded: &Folded<Packed>,
        (floats, bytes): (&mut [Map<f32>], &mut [Map<u8>]),
        pictures: &mut Pictures<'_>,
    ) {
        let (before, after) = floats.split_at_mut(stage.to);
        let (rounded, bytes) = bytes.split_at_mut(stage.to);
        let mut to =
            To { floats: &mut after[0], bytes: self.scales[stage.to].as_ref().map(|s| (&mut bytes[0], s)) };
        let from = |i: usize| stage.from[i].expect("the flow gives each stage its maps");
        let float = |i: usize| &before[from(i)];
        match (stage.op, &self.weights[stage.to]) {
            (Op::Unshuffle, _) => run::unshuffle(pictures, rows, &self.layout, to.floats),
            (Op::Shuffle, _) => run::shuffle(float(0), rows, self.layout.config.unshuffle, pictures),
            (Op::Conv(c), Weights::Float(conv)) => {
                let (x, bias, end) = (float(0), &self.bias[c], rows.end);
                self.each(&mut to, rows, 2, |y, out, scratch| {
                    let mut finish = Added::<f32, _> { bias, rest: None, out };
                    let rows = y..(y + 2).min(end);
                    same3::finish(self.cpu.isa, x, conv, rows, &mut scratch.float, &mut finish);
                });
            }
            (Op::First(b), _) => {
                let (x, packed, bias) = (&rounded[from(0)], &folded.weights[b], &folded.bias[b]);
                let (map, scales) = to.bytes.expect("what a block's second convolution reads is bytes");
                let (pitch, c, first) = (map.pitch(), map.c, rows.start);
                map.lines_mut(rows, 1).enumerate().for_each_init(
                    || self.scratch.take(),
                    |scratch, (i, lines)| {
                        let out = Bytes { lines: Lines::new(lines, pitch, c), scales };
                        let mut finish = Activated { bias, out };
                        let taps = around(x, first + i);
                        int8::finish(
                            self.cpu.isa,
                            beside(x, &taps),
                            packed,
                            1,
                            &mut scratch.sums,
                            &mut finish,
                        );
                    },
                );
            }
            (Op::Second(c), Weights::Bytes(packed)) => {
                let (x, rest, bias) = (&rounded[from(0)], float(1), &self.bias[c]);
                self.each(&mut to, rows, 1, |y, out, scratch| {
                    let mut finish = Added { bias, rest: Some([rest.row(y); 2]), out };
                    let taps = around(x, y);
                    int8::finish(self.cpu.isa, beside(x, &taps), packed, 1, &mut scratch.sums, &mut finish);
                });
            }
            (Op::Down(c), Weights::Bytes(packed)) => {
                let (x, bias) = (&rounded[from(0)], &self.bias[c]);
                self.each(&mut to, rows, 1, |y, out, scratch| {
                    let taps = [0, 1].map(|j| x.at(2 * y + j, 0));
                    let run =
                        Run { x: &x.data, start: 0, step: 2 * x.c, taps: &taps, k: 2 * x.c, n: x.w / 2 };
                    let mut finish = Added::<f32, _> { bias, rest: None, out };
                    int8::finish(self.cpu.isa, run, packed, 1, &mut scratch.sums, &mut finish);
                });
            }
            (Op::Up(c), Weights::Pair(packed)) => {
                let (x, skip, bias) = (&rounded[from(0)], float(1), &self.bias[c]);
                self.each(&mut to, rows, 1, |y, out, scratch| {
                    let taps = [x.at(y / 2, 0)];
                    let run = Run { x: &x.data, start: 0, step: x.c, taps: &taps, k: x.c, n: x.w };
                    let mut finish = Added { bias, rest: Some([skip.row(y); 2]), out };
                    int8::finish(self.cpu.isa, run, &packed[y % 2], 2, &mut scratch.sums, &mut finish);
                });
            }
            _ => unreachable!("each stage's weights were packed for its operation"),
        }
    }

    /// Rows `rows` of both maps, `group` at a time: the first one's number, and where they go.
    fn each(
        &self,
        to: &mut To<'_>,
        rows: Range<usize>,
        group: usize,
        work: impl Fn(usize, (Lines<'_, f32>, Option<Bytes<'_>>), &mut Scratch) + Sync,
    ) {
        let (pitch, c, first) = (to.floats.pitch(), to.floats.c, rows.start);
        let lines = |values| Lines::new(values, pitch, c);
        let floats = to.floats.lines_mut(rows.clone(), group).enumerate();
        match &mut to.bytes {
            None => floats.for_each_init(
                || self.scratch.take(),
                |scratch, (i, floats)| work(first + i * group, (lines(floats), None), scratch),
            ),
            Some((map, scales)) => floats.zip(map.lines_mut(rows, group)).for_each_init(
                || self.scratch.take(),
                |scratch, ((i, floats), bytes)| {
                    let bytes = Bytes { lines: Lines::new(bytes, pitch, c), scales };
                    work(first + i * group, (lines(floats), Some(bytes)), scratch);
                },
            ),
        }
    }
}

/// What the bytes of the map mean that a stage convolves.
fn read<'a>(stage: &Stage, scales: &'a [Option<Scales>]) -> &'a Scales {
    stage.from[0].and_then(|map| scales[map].as_ref()).expect("what a convolution inside reads is bytes")
}
