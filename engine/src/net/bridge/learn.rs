// SPDX-License-Identifier: MIT OR Apache-2.0
//! One picture forward and back through the network on the CPU, without a tape of tensors.

use rayon::prelude::*;

use super::{
    layout::{Layout, Step},
    squares,
    time::{self, Time},
    trained::{TrainedConv, grad_len, unpack_grad},
};
use crate::ops::{
    Isa,
    map::{Map, Value},
    resize2, rows,
    same3::{self, Conv, Kernel},
};

/// Gradients that a thread adds up at a time.
const PART: usize = 1 << 14;

/// Height, width and channels of the current map.
type Size = (usize, usize, usize);

/// Buffers of one worker and the gradients that it has added up.
pub(super) struct Worker<T: Kernel> {
    isa: Isa,
    /// Input of each 3×3 convolution.
    inputs: Vec<Map<T>>,
    /// Input of each 2×2 convolution.
    plain: Vec<Vec<f32>>,
    /// Each block's hidden sums before scale, shift and SiLU.
    hidden: Vec<Vec<f32>>,
    stream: Vec<f32>,
    spare: Vec<f32>,
    scratch: same3::Scratch<T>,
    grad_scratch: Vec<T>,
    d_map: Map<T>,
    d_hidden: Map<T>,
    /// Weight gradients, in kernel order, a convolution each.
    kernels: Vec<Vec<f32>>,
    /// All other gradients, in the flat vector's order.
    flat: Vec<f32>,
}

impl<T: Kernel> Worker<T> {
    pub fn new(layout: &Layout, isa: Isa) -> Self {
        let (convs, blocks) = (layout.convs.len(), layout.blocks.len());
        Self {
            isa,
            inputs: vec![Map::default(); convs],
            plain: vec![vec![]; convs],
            hidden: vec![vec![]; blocks],
            stream: vec![],
            spare: vec![],
            scratch: same3::Scratch::default(),
            grad_scratch: vec![],
            d_map: Map::default(),
            d_hidden: Map::default(),
            kernels: layout.convs.iter().map(|c| vec![0.0; grad_len(c)]).collect(),
            flat: vec![0.0; layout.len()],
        }
    }

    /// The network's output for one picture, and what [`Worker::backward`] needs besides.
    ///
    /// `x`: channels first, `h`×`w`, multiples of the stride. Returns the head's map, channels last,
    /// `3·unshuffle²` channels padded to 16, and the time.
    pub fn forward(
        &mut self,
        layout: &Layout,
        params: &[f32],
        convs: &[TrainedConv<T>],
        x: &[f32],
        (h, w): (usize, usize),
        noise_level: f32,
    ) -> (Vec<f32>, Time) {
        let u = layout.config.unshuffle;
        let isa = self.isa;
        let time = time::forward(layout, params, noise_level);
        let mut size: Size = (h / u, w / u, 0);
        let mut kept = vec![];
        for step in &layout.steps {
            match *step {
                Step::Stem(c) => {
                    let conv = &layout.convs[c];
                    unshuffle(x, (h, w), u, conv.cin, &mut self.inputs[c]);
                    size.2 = conv.cout;
                    self.stream.clear();
                    self.stream.resize(size.0 * size.1 * size.2, 0.0);
                    self.conv_add(c, convs[c].same().0, &params[conv.bias..conv.bias + conv.cout]);
                }
                Step::Block(b) => self.block(layout, params, convs, b, size, &time.modulation[b]),
                Step::Down(c) => {
                    let conv = &layout.convs[c];
                    self.plain[c].clone_from(&self.stream);
                    let half = (size.0 / 2, size.1 / 2, conv.cout);
                    self.stream.resize(half.0 * half.1 * half.2, 0.0);
                    resize2::halve(isa, &self.plain[c], size, convs[c].down().0, &mut self.stream);
                    add_bias(isa, &mut self.stream, &params[conv.bias..conv.bias + conv.cout]);
                    kept.push(c);
                    size = half;
                }
                Step::Up(c) => {
                    let conv = &layout.convs[c];
                    self.plain[c].clone_from(&self.stream);
                    let twice = (size.0 * 2, size.1 * 2, conv.cout);
                    self.stream.resize(twice.0 * twice.1 * twice.2, 0.0);
                    resize2::double(isa, &self.plain[c], size, convs[c].up().0, &mut self.stream);
                    add_bias(isa, &mut self.stream, &params[conv.bias..conv.bias + conv.cout]);
                    let skip = kept.pop().expect("the layout has a Down for every Up");
                    rows::add(isa, &self.plain[skip], &mut self.stream);
                    size = twice;
                }
                Step::Head(c) => {
                    let conv = &layout.convs[c];
                    self.inputs[c].reset(size.0, size.1, size.2);
                    self.inputs[c].fill(self.isa, &self.stream);
                    let mut bias = vec![0.0; conv.cout.next_multiple_of(16)];
                    bias[..conv.cout].copy_from_slice(&params[conv.bias..conv.bias + conv.cout]);
                    self.stream.clear();
                    self.stream.resize(size.0 * size.1 * bias.len(), 0.0);
                    self.conv_add(c, convs[c].same().0, &bias);
                }
            }
        }
        (std::mem::take(&mut self.stream), time)
    }

    /// `stream += conv(inputs[c]) + bias`.
    fn conv_add(&mut self, c: usize, packed: &Conv<T>, bias: &[f32]) {
        let (isa, map, stream) = (self.isa, &self.inputs[c], &mut self.stream);
        let (w, n) = (map.w, bias.len());
        same3::forward(isa, map, packed, 0..map.h, &mut self.scratch, |y, x, sums| {
            rows::add_biased(isa, sums, bias, &mut stream[(y * w + x) * n..][..sums.len()]);
        });
    }

    fn block(
        &mut self,
        layout: &Layout,
        params: &[f32],
        convs: &[TrainedConv<T>],
        b: usize,
        (h, w, c): Size,
        modulation: &[f32],
    ) {
        let (isa, block) = (self.isa, &layout.blocks[b]);
        let (one, two) = (block.conv1, block.conv2);
        self.inputs[one].reset(h, w, c);
        self.inputs[one].fill(self.isa, &self.stream);
        self.inputs[two].reset(h, w, c);
        self.hidden[b].resize(h * w * c, 0.0);
        let bias = &params[layout.convs[one].bias..][..c];
        let (scale, shift) = modulation.split_at(c);
        let (low, high) = self.inputs.split_at_mut(two);
        let (active, hidden) = (&mut high[0], &mut self.hidden[b]);
        same3::forward(isa, &low[one], convs[one].same().0, 0..h, &mut self.scratch, |y, x, sums| {
            let at = active.at(y, x);
            let keep = &mut hidden[(y * w + x) * c..][..sums.len()];
            rows::modulated(isa, sums, bias, scale, shift, keep, &mut active.data[at..][..sums.len()]);
        });
        self.conv_add(two, convs[two].same().0, &params[layout.convs[two].bias..][..c]);
    }

    /// Adds the gradients of every parameter, given that of the head's map (as [`Worker::forward`]
    /// returned it), right after the forward pass of the same picture.
    pub fn backward(
        &mut self,
        layout: &Layout,
        params: &[f32],
        convs: &[TrainedConv<T>],
        d_head: Vec<f32>,
        time: &Time,
    ) {
        let isa = self.isa;
        let mut d_modulation: Vec<Vec<f32>> = vec![vec![]; layout.blocks.len()];
        let mut kept: Vec<Vec<f32>> = vec![];
        let mut size: Size = (0, 0, 0);
        self.stream = d_head;
        for step in layout.steps.iter().rev() {
            match *step {
                Step::Head(c) => {
                    let input = &self.inputs[c];
                    size = (input.h, input.w, input.c);
                    self.d_conv(layout, c, size.0, size.1);
                    self.stream.clear();
                    self.stream.resize(size.0 * size.1 * size.2, 0.0);
                    self.add_d_input(convs[c].same().1);
                }
                Step::Stem(c) => self.d_conv(layout, c, size.0, size.1),
                Step::Block(b) => d_modulation[b] = self.d_block(layout, convs, b, size, &time.modulation[b]),
                Step::Up(c) => {
                    let conv = &layout.convs[c];
                    rows::sum_pixels(isa, &self.stream, &mut self.flat[conv.bias..conv.bias + conv.cout]);
                    let half = (size.0 / 2, size.1 / 2, conv.cin);
                    resize2::double_grad(
                        isa,
                        &self.plain[c],
                        half,
                        &self.stream,
                        conv.cout,
                        &mut self.kernels[c],
                    );
                    self.spare.resize(half.0 * half.1 * half.2, 0.0);
                    resize2::halve(isa, &self.stream, size, convs[c].up().1, &mut self.spare);
                    kept.push(std::mem::replace(&mut self.stream, std::mem::take(&mut self.spare)));
                    size = half;
                }
                Step::Down(c) => {
                    let conv = &layout.convs[c];
                    rows::sum_pixels(isa, &self.stream, &mut self.flat[conv.bias..conv.bias + conv.cout]);
                    let twice = (size.0 * 2, size.1 * 2, conv.cin);
                    resize2::halve_grad(
                        isa,
                        &self.plain[c],
                        twice,
                        &self.stream,
                        conv.cout,
                        &mut self.kernels[c],
                    );
                    let mut skip = kept.pop().expect("the layout has an Up for every Down");
                    self.spare.resize(twice.0 * twice.1 * twice.2, 0.0);
                    resize2::double(isa, &self.stream, size, convs[c].down().1, &mut self.spare);
                    rows::add(isa, &self.spare, &mut skip);
                    self.stream = skip;
                    size = twice;
                }
            }
        }
        time::backward(layout, params, time, &d_modulation, &mut self.flat);
    }

    /// Rounds the gradient of convolution `c`'s output into `d_map`; adds those of its bias and weights.
    fn d_conv(&mut self, layout: &Layout, c: usize, h: usize, w: usize) {
        let conv = &layout.convs[c];
        let cout = conv.cout.next_multiple_of(16);
        let mut bias = vec![0.0; cout];
        rows::sum_pixels(self.isa, &self.stream, &mut bias);
        self.flat[conv.bias..conv.bias + conv.cout].iter_mut().zip(&bias).for_each(|(g, b)| *g += b);
        self.d_map.reset(h, w, cout);
        self.d_map.fill(self.isa, &self.stream);
        T::weight_grad(self.isa, &self.inputs[c], &self.d_map, &mut self.kernels[c], &mut self.grad_scratch);
    }

    /// `stream += gradient of the input`, from `d_map`.
    fn add_d_input(&mut self, packed: &Conv<T>) {
        let (isa, map, stream) = (self.isa, &self.d_map, &mut self.stream);
        let (w, n) = (map.w, packed.cout());
        same3::forward(isa, map, packed, 0..map.h, &mut self.scratch, |y, x, sums| {
            rows::add(isa, sums, &mut stream[(y * w + x) * n..][..sums.len()]);
        });
    }

    fn d_block(
        &mut self,
        layout: &Layout,
        convs: &[TrainedConv<T>],
        b: usize,
        (h, w, c): Size,
        modulation: &[f32],
    ) -> Vec<f32> {
        let (isa, block) = (self.isa, &layout.blocks[b]);
        self.d_conv(layout, block.conv2, h, w);
        let mut d_modulation = vec![0.0; 2 * c];
        let (d_scale, d_shift) = d_modulation.split_at_mut(c);
        let (scale, shift) = modulation.split_at(c);
        let d_bias = &mut self.flat[layout.convs[block.conv1].bias..][..c];
        self.d_hidden.reset(h, w, c);
        let (d_hidden, hidden) = (&mut self.d_hidden, &self.hidden[b]);
        let packed = convs[block.conv2].same().1;
        same3::forward(isa, &self.d_map, packed, 0..h, &mut self.scratch, |y, x, sums| {
            let at = d_hidden.at(y, x);
            let (kept, out) =
                (&hidden[(y * w + x) * c..][..sums.len()], &mut d_hidden.data[at..][..sums.len()]);
            rows::modulated_back(isa, sums, kept, scale, shift, d_scale, d_shift, d_bias, out);
        });
        std::mem::swap(&mut self.d_map, &mut self.d_hidden);
        let input = &self.inputs[block.conv1];
        T::weight_grad(isa, input, &self.d_map, &mut self.kernels[block.conv1], &mut self.grad_scratch);
        self.add_d_input(convs[block.conv1].same().1);
        d_modulation
    }
}

/// Adds the workers' gradients to `grad`, in their order whatever the number of threads, and forgets them.
pub(super) fn drain<T: Kernel>(workers: &mut [Worker<T>], layout: &Layout, grad: &mut [f32]) {
    let Some(isa) = workers.first().map(|worker| worker.isa) else { return };
    for worker in &mut *workers {
        let parts = grad.par_chunks_mut(PART).zip(worker.flat.par_chunks_mut(PART));
        parts.for_each(|(sum, part)| {
            rows::add(isa, part, sum);
            part.fill(0.0);
        });
    }
    let mut kernels: Vec<Vec<&mut [f32]>> = layout.convs.iter().map(|_| vec![]).collect();
    for worker in workers {
        kernels.iter_mut().zip(&mut worker.kernels).for_each(|(all, one)| all.push(one));
    }
    let (mut rest, mut at, mut places) = (grad, 0, vec![]);
    for c in &layout.convs {
        let (place, behind) = rest[c.weight - at..].split_at_mut(c.weights());
        places.push(place);
        (rest, at) = (behind, c.weight + c.weights());
    }
    let each = layout.convs.par_iter().zip(kernels).zip(places);
    each.with_max_len(1).for_each(|((c, mut kernels), place)| {
        let Some((sum, others)) = kernels.split_first_mut() else { return };
        for other in others {
            rows::add(isa, other, sum);
            other.fill(0.0);
        }
        unpack_grad(c, sum, place);
        sum.fill(0.0);
    });
}

fn add_bias(isa: Isa, to: &mut [f32], bias: &[f32]) {
    to.chunks_exact_mut(bias.len()).for_each(|pixel| rows::add(isa, bias, pixel));
}

/// A picture's `u`×`u` squares as channels `(c·u + y)·u + x`, padded with zeros to 16.
pub(super) fn unshuffle<T: Value>(
    x: &[f32],
    (h, w): (usize, usize),
    u: usize,
    channels: usize,
    map: &mut Map<T>,
) {
    map.reset(h / u, w / u, channels.next_multiple_of(16));
    let c = map.c;
    for y in 0..h / u {
        squares::unshuffle(x, (h, w), u, channels, y, (map.row_mut(y), c));
    }
}
