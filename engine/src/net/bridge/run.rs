// SPDX-License-Identifier: MIT OR Apache-2.0
//! One picture through the network on the CPU: rows over threads, time folded into the weights.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rayon::prelude::*;

use super::{
    layout::{Layout, Step},
    learn::unshuffle,
    packed::{self, PackedConv},
    time,
};
use crate::{
    Cancel, Result,
    ops::{
        Isa,
        map::Map,
        resize2, rows,
        same3::{self, Kernel},
    },
};

/// Noise levels whose folded weights are kept.
const LEVELS: usize = 16;

/// First convolutions of all blocks with one noise level's scale and shift worked in.
struct Folded<T: Kernel> {
    weights: Vec<T::Packed>,
    bias: Vec<Vec<f32>>,
}

/// Memory of one picture under way; kept for the next.
struct Buffers<T> {
    stream: Vec<f32>,
    spare: Vec<f32>,
    kept: Vec<Vec<f32>>,
    map: Map<T>,
    hidden: Map<T>,
}

/// A network ready to run in one precision.
pub(super) struct Runner<T: Kernel> {
    layout: Arc<Layout>,
    params: Arc<Vec<f32>>,
    isa: Isa,
    convs: Vec<PackedConv<T>>,
    folded: Mutex<HashMap<u32, Arc<Folded<T>>>>,
    buffers: Mutex<Vec<Buffers<T>>>,
}

impl<T: Kernel> Runner<T> {
    pub fn new(layout: Arc<Layout>, params: Arc<Vec<f32>>, isa: Isa) -> Self {
        let convs = packed::pack::<T>(&layout, &params);
        Self { layout, params, isa, convs, folded: Mutex::default(), buffers: Mutex::default() }
    }

    fn fold(&self, noise_level: f32) -> Arc<Folded<T>> {
        let key = noise_level.to_bits();
        if let Some(f) = self.folded.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return f.clone();
        }
        let time = time::forward(&self.layout, &self.params, noise_level);
        let (mut weights, mut bias) = (vec![], vec![]);
        for (block, modulation) in self.layout.blocks.iter().zip(&time.modulation) {
            let conv = &self.layout.convs[block.conv1];
            let c = conv.cout;
            let (scale, shift) = modulation.split_at(c);
            let w = &self.params[conv.weight..conv.weight + conv.weights()];
            let mut packed = T::Packed::default();
            let mut dense = vec![0.0; w.len()];
            for (from, v) in w.iter().enumerate() {
                let (o, i, tap) = (from / (9 * c), from / 9 % c, from % 9);
                dense[(tap * c + i) * c + o] = v * (1.0 + scale[o]);
            }
            T::pack(&mut packed, c, &dense);
            weights.push(packed);
            let b = &self.params[conv.bias..conv.bias + c];
            bias.push((0..c).map(|o| b[o].mul_add(1.0 + scale[o], shift[o])).collect());
        }
        let folded = Arc::new(Folded { weights, bias });
        let mut cache = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= LEVELS {
            cache.clear();
        }
        cache.insert(key, folded.clone());
        folded
    }

    /// `x`: channels first, `h`×`w`, multiples of the stride. Returns 3×h×w, channels first.
    pub fn forward(
        &self,
        x: &[f32],
        (h, w): (usize, usize),
        noise_level: f32,
        cancel: &Cancel,
    ) -> Result<Vec<f32>> {
        let folded = self.fold(noise_level);
        let spare = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut b = spare.unwrap_or_else(|| Buffers {
            stream: vec![],
            spare: vec![],
            kept: vec![vec![]; self.layout.convs.len()],
            map: Map::default(),
            hidden: Map::default(),
        });
        let done = self.steps(&mut b, &folded, x, (h, w), cancel);
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(b);
        done
    }

    fn steps(
        &self,
        b: &mut Buffers<T>,
        folded: &Folded<T>,
        x: &[f32],
        (h, w): (usize, usize),
        cancel: &Cancel,
    ) -> Result<Vec<f32>> {
        let u = self.layout.config.unshuffle;
        let mut size = (h / u, w / u, 0);
        let mut kept = vec![];
        for step in &self.layout.steps {
            cancel.check()?;
            match *step {
                Step::Stem(c) => {
                    let conv = &self.layout.convs[c];
                    unshuffle(x, (h, w), u, conv.cin, &mut b.hidden);
                    size.2 = conv.cout;
                    b.stream.clear();
                    b.stream.resize(size.0 * size.1 * size.2, 0.0);
                    self.conv_add(b, c, self.bias(c));
                }
                Step::Block(i) => {
                    let block = &self.layout.blocks[i];
                    b.map.reset(size.0, size.1, size.2);
                    self.refresh(b);
                    self.conv_silu(b, &folded.weights[i], &folded.bias[i]);
                    self.conv_add(b, block.conv2, self.bias(block.conv2));
                }
                Step::Down(c) => {
                    std::mem::swap(&mut b.kept[c], &mut b.stream);
                    let cout = self.layout.convs[c].cout;
                    let half = (size.0 / 2, size.1 / 2, cout);
                    b.stream.resize(half.0 * half.1 * half.2, 0.0);
                    let (isa, from, bias) = (self.isa, &b.kept[c], self.bias(c));
                    let (rows_in, rows_out) = (2 * size.1 * size.2, half.1 * cout);
                    let rows = from.par_chunks(rows_in).zip(b.stream.par_chunks_mut(rows_out));
                    rows.for_each(|(from, to)| {
                        resize2::halve(isa, from, (2, size.1, size.2), self.convs[c].down().0, to);
                        add_bias(isa, to, bias);
                    });
                    kept.push(c);
                    size = half;
                }
                Step::Up(c) => {
                    let cout = self.layout.convs[c].cout;
                    let twice = (size.0 * 2, size.1 * 2, cout);
                    std::mem::swap(&mut b.spare, &mut b.stream);
                    b.stream.resize(twice.0 * twice.1 * twice.2, 0.0);
                    let skip = &b.kept[kept.pop().expect("the layout has a Down for every Up")];
                    let (isa, bias) = (self.isa, self.bias(c));
                    let (rows_in, rows_out) = (size.1 * size.2, 2 * twice.1 * cout);
                    let rows = b.spare.par_chunks(rows_in).zip(b.stream.par_chunks_mut(rows_out));
                    rows.zip(skip.par_chunks(rows_out)).for_each(|((from, to), skip)| {
                        resize2::double(isa, from, (1, size.1, size.2), self.convs[c].up().0, to);
                        add_bias(isa, to, bias);
                        rows::add(isa, skip, to);
                    });
                    size = twice;
                }
                Step::Head(c) => {
                    b.hidden.reset(size.0, size.1, size.2);
                    std::mem::swap(&mut b.hidden, &mut b.map);
                    b.map.reset(size.0, size.1, size.2);
                    self.refresh(b);
                    std::mem::swap(&mut b.hidden, &mut b.map);
                    let n = T::cout(self.convs[c].same().0);
                    b.stream.clear();
                    b.stream.resize(size.0 * size.1 * n, 0.0);
                    let mut bias = self.bias(c).to_vec();
                    bias.resize(n, 0.0);
                    self.conv_add(b, c, &bias);
                    return Ok(shuffle(&b.stream, (h, w), u, n));
                }
            }
        }
        unreachable!("the layout ends with a head")
    }

    fn bias(&self, c: usize) -> &[f32] {
        let conv = &self.layout.convs[c];
        &self.params[conv.bias..conv.bias + conv.cout]
    }

    /// Rows that one task computes: enough tasks for all threads, each long enough to be worth it.
    fn band(&self, h: usize) -> usize {
        h.div_ceil(4 * rayon::current_num_threads()).clamp(1, 64)
    }

    /// Rounds the stream into `map`.
    fn refresh(&self, b: &mut Buffers<T>) {
        let (pitch, c, n) = (b.map.pitch(), b.map.c, b.map.w * b.map.c);
        let rows = b.map.data[pitch..].par_chunks_mut(pitch).zip(b.stream.par_chunks(n));
        rows.with_min_len(8).for_each(|(to, from)| {
            rows::round(self.isa, from, &mut to[c..c + n]);
        });
    }

    /// `hidden = silu(conv(map) + bias)`.
    fn conv_silu(&self, b: &mut Buffers<T>, packed: &T::Packed, bias: &[f32]) {
        let (isa, map) = (self.isa, &b.map);
        b.hidden.reset(map.h, map.w, map.c);
        let (pitch, c, band) = (map.pitch(), map.c, self.band(map.h));
        let bands = b.hidden.data[pitch..].par_chunks_mut(band * pitch).enumerate();
        bands.take(map.h.div_ceil(band)).for_each_init(Vec::new, |scratch, (i, out)| {
            let rows = i * band..((i + 1) * band).min(map.h);
            let first = rows.start;
            same3::forward(isa, map, packed, rows, scratch, |y, x, sums| {
                rows::silu_biased(
                    isa,
                    sums,
                    bias,
                    &mut out[(y - first) * pitch + (x + 1) * c..][..sums.len()],
                );
            });
        });
    }

    /// `stream += conv(hidden) + bias`.
    fn conv_add(&self, b: &mut Buffers<T>, c: usize, bias: &[f32]) {
        let (isa, map, packed) = (self.isa, &b.hidden, self.convs[c].same().0);
        let (n, band) = (bias.len(), self.band(map.h));
        let row = map.w * n;
        b.stream.par_chunks_mut(band * row).enumerate().for_each_init(Vec::new, |scratch, (i, out)| {
            let rows = i * band..((i + 1) * band).min(map.h);
            let first = rows.start;
            same3::forward(isa, map, packed, rows, scratch, |y, x, sums| {
                rows::add_biased(isa, sums, bias, &mut out[(y - first) * row + x * n..][..sums.len()]);
            });
        });
    }
}

fn add_bias(isa: Isa, to: &mut [f32], bias: &[f32]) {
    to.chunks_exact_mut(bias.len()).for_each(|pixel| rows::add(isa, bias, pixel));
}

/// Channels `(c·u + y)·u + x` of a map with `n` channels back into a picture of 3×h×w.
pub(super) fn shuffle(map: &[f32], (h, w): (usize, usize), u: usize, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; 3 * h * w];
    out.par_chunks_mut(w).enumerate().with_min_len(16).for_each(|(row, out)| {
        let (plane, y) = (row / h, row % h);
        let from = &map[y / u * (w / u) * n..][..w / u * n];
        let k = (plane * u + y % u) * u;
        for (pixel, out) in from.chunks_exact(n).zip(out.chunks_exact_mut(u)) {
            out.copy_from_slice(&pixel[k..k + u]);
        }
    });
    out
}
