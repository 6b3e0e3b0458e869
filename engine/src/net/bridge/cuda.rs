// SPDX-License-Identifier: MIT OR Apache-2.0
//! The network on a CUDA device, channels-last: cuDNN's convolutions and one fused kernel after each.
//!
//! A block is four launches. All activations lie in one piece of memory that grows to the largest
//! picture and is kept; scales and shifts are kept per noise level. So an evaluation allocates its
//! result and nothing else, and uploads nothing once its noise level was seen. From the third on, evaluations of a
//! size are one call: the launches of the second were recorded as a graph.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Device, Layout as TensorLayout, Shape, Tensor,
    backend::BackendStorage,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaSlice, DevicePtr},
    },
};

use super::{
    layout::{Kind, Layout, Step},
    time,
};
use crate::{
    Result,
    ops::cuda::{Address, Affine, Geometry, Gpu, Graph, Number, Pass, Rows},
};

/// Environment variable: 0 launches every kernel of every evaluation anew.
const GRAPHS: &str = "I2SB_CUDA_GRAPHS";
/// Channels come in multiples of this.
const PACK: usize = 8;
/// Sets of noise levels whose scales and shifts are kept; more than any sampler has steps.
const LEVELS_KEPT: usize = 256;
/// Sizes and sets of noise levels whose launches are kept.
const SEEN_KEPT: usize = 512;

/// A network's weights on a device.
pub(super) struct Runner {
    layout: Arc<Layout>,
    params: Arc<Vec<f32>>,
    /// On a stream of its own, so that what is recorded is nobody else's.
    gpu: Gpu,
    /// The device's, which pictures come and go by: it stays while a network does.
    _shared: Arc<Gpu>,
    /// Whether launches are recorded; not with [`GRAPHS`] set to 0.
    graphs: bool,
    number: Number,
    /// All convolutions' weights, `(cout, k, k, cin)`, one after the other.
    weights: CudaSlice<u8>,
    /// All convolutions' biases, f32.
    biases: CudaSlice<f32>,
    convs: Vec<Placed>,
    kept: Mutex<Kept>,
}

/// A convolution as the device has it: channels padded to [`PACK`], places in bytes.
struct Placed {
    cin: usize,
    cout: usize,
    weight: u64,
    bias: u64,
}

/// What is kept between evaluations; one runs at a time.
#[derive(Default)]
struct Kept {
    memory: Option<CudaSlice<u8>>,
    /// By the bits of the batch's noise levels.
    modulation: HashMap<Vec<u32>, CudaSlice<f32>>,
    /// By height, width and the bits of the noise levels; empty when anything that launches point to moves.
    seen: HashMap<(usize, usize, Vec<u32>), Seen>,
}

/// What an evaluation leaves for the next of its kind.
enum Seen {
    /// All was launched once: kernels are loaded, algorithms chosen.
    Launched,
    /// Its launches, recorded.
    Recorded(Graph),
}

impl Runner {
    /// Packs and uploads the weights.
    ///
    /// # Errors
    /// [`crate::Error::Device`] and [`crate::Error::Tensor`] if the device fails.
    pub fn new(layout: Arc<Layout>, params: Vec<f32>, device: &Device, number: Number) -> Result<Self> {
        let (gpu, shared) = (Gpu::apart(device)?, Gpu::of(device)?);
        let (mut weights, mut biases, mut convs) = (Vec::new(), Vec::new(), Vec::new());
        for conv in &layout.convs {
            let from = &params[conv.weight..][..conv.weights()];
            let (cin, cout, packed) = pack(conv.kind, conv.cin, conv.cout, from);
            convs.push(Placed {
                cin,
                cout,
                weight: (weights.len() * number.bytes()) as u64,
                bias: (biases.len() * size_of::<f32>()) as u64,
            });
            weights.extend(packed);
            biases.extend_from_slice(&params[conv.bias..][..conv.cout]);
            biases.resize(biases.len().next_multiple_of(PACK), 0.0);
        }
        let weights = gpu.upload(&number.pack(&weights))?;
        let biases = gpu.upload(&biases)?;
        let (params, kept) = (Arc::new(params), Mutex::default());
        let graphs = std::env::var_os(GRAPHS).is_none_or(|value| value != "0");
        Ok(Self { layout, params, gpu, _shared: shared, graphs, number, weights, biases, convs, kept })
    }

    /// `x`: `(B, C, H, W)`, f32, on this device → `(B, 3, H, W)`, f32.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if the device fails.
    pub fn forward(&self, x: &Tensor, levels: &[f32]) -> Result<Tensor> {
        Ok(x.contiguous()?.apply_op1_no_bwd(&Evaluation { runner: self, levels })?)
    }

    /// Scales and shifts of all blocks for these levels: for each block `(B, C)` scales with 1 added, then
    /// `(B, C)` shifts with the bias of the convolution before them taken in.
    fn modulation(&self, levels: &[f32]) -> Vec<f32> {
        let times: Vec<_> = levels.iter().map(|l| time::forward(&self.layout, &self.params, *l)).collect();
        let mut values = Vec::new();
        for (b, block) in self.layout.blocks.iter().enumerate() {
            let conv = &self.layout.convs[block.conv1];
            let bias = &self.params[conv.bias..][..conv.cout];
            for t in &times {
                values.extend(t.modulation[b][..conv.cout].iter().map(|scale| 1.0 + scale));
            }
            for t in &times {
                let (scale, shift) = t.modulation[b].split_at(conv.cout);
                values.extend(bias.iter().zip(scale).zip(shift).map(|((b, scale), t)| b * (1.0 + scale) + t));
            }
        }
        values
    }
}

/// Weights `(cout, cin, k, k)` as `(cout, k, k, cin)`, channels padded with zeros; those of an `Up` as a
/// 1×1 convolution to (row, column, cout).
fn pack(kind: Kind, cin: usize, cout: usize, from: &[f32]) -> (usize, usize, Vec<f32>) {
    let (ci, co) = (cin.next_multiple_of(PACK), cout.next_multiple_of(PACK));
    let side = if kind == Kind::Same { 3 } else { 2 };
    let mut to = vec![0.0; co * side * side * ci];
    for (i, value) in from.iter().enumerate() {
        let (square, tap) = (i / (side * side), i % (side * side));
        let (o, c) = (square / cin, square % cin);
        let row = if kind == Kind::Up { tap * co + o } else { o * side * side + tap };
        to[row * ci + c] = *value;
    }
    (ci, co, to)
}

struct Evaluation<'a> {
    runner: &'a Runner,
    levels: &'a [f32],
}

/// Where activations are in the kept memory, and how large it must be.
struct Places {
    levels: Vec<Address>,
    scratch: [Address; 2],
    /// The picture and the result, f32.
    ends: [Address; 2],
    length: usize,
}

impl Places {
    /// One stream for each level, two scratch maps as large as any, picture and result, from `base` on.
    fn new(runner: &Runner, base: Address, batch: usize, h: usize, w: usize) -> Self {
        let config = &runner.layout.config;
        let sizes = config.widths.iter().enumerate().map(|(l, width)| {
            let scale = config.unshuffle << l;
            batch * (h / scale) * (w / scale) * width
        });
        let sizes: Vec<usize> = sizes.collect();
        let ends = config.stem().max(config.head()).next_multiple_of(PACK);
        let pixels = batch * (h / config.unshuffle) * (w / config.unshuffle);
        let largest = sizes.iter().copied().max().unwrap_or(0).max(pixels * ends);
        let mut next = 0;
        let mut place = |bytes: usize| {
            let at = base + next as u64;
            next += bytes.next_multiple_of(256);
            at
        };
        let number = runner.number.bytes();
        let levels = sizes.iter().map(|size| place(size * number)).collect();
        let scratch = [place(largest * number), place(largest * number)];
        let ends = [config.in_channels, 3].map(|planes| place(batch * planes * h * w * size_of::<f32>()));
        Self { levels, scratch, ends, length: next }
    }
}

impl CustomOp1 for Evaluation<'_> {
    fn name(&self) -> &'static str {
        "i2sb-bridge"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &TensorLayout) -> candle_core::Result<(CpuStorage, Shape)> {
        candle_core::bail!("a network on a CUDA device with a picture on the CPU")
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &TensorLayout) -> candle_core::Result<(CudaStorage, Shape)> {
        let (batch, _, h, w) = layout.shape().dims4()?;
        let Some((start, _)) = layout.contiguous_offsets() else {
            candle_core::bail!("contiguous values needed")
        };
        let (r, gpu) = (self.runner, &self.runner.gpu);
        if gpu.device().id() != x.device().id() {
            candle_core::bail!("a picture on another device than the network");
        }
        let tensors = gpu.device().cuda_stream();
        tensors.context().bind_to_thread().w()?;
        let x = x.as_cuda_slice::<f32>()?.device_ptr(&tensors).0 + (start * size_of::<f32>()) as u64;
        // SAFETY: every value of it is copied there below.
        let out = unsafe { gpu.device().alloc::<f32>(batch * 3 * h * w) }?;
        let kept = &mut *r.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let key: Vec<u32> = self.levels.iter().map(|level| level.to_bits()).collect();
        let modulation = kept.modulation(r, self.levels, &key)?;
        let places = kept.places(r, batch, (h, w))?;
        let [from, to] = places.ends;
        let run = Run { runner: r, batch, size: (h, w), places, modulation };
        gpu.after_tensors()?;
        // SAFETY: `Places` has room for the picture; the tensors' stream frees it after `before_tensors`.
        unsafe { gpu.copy(x, from, layout.shape().elem_count() * size_of::<f32>()) }?;
        kept.evaluate(r, (h, w, key), || run.network(from, to))?;
        // SAFETY: as above; `out` was made before `after_tensors`.
        unsafe { gpu.copy(to, out.device_ptr(&tensors).0, batch * 3 * h * w * size_of::<f32>()) }?;
        gpu.before_tensors()?;
        Ok((CudaStorage::wrap_cuda_slice(out, gpu.device().clone()), Shape::from((batch, 3, h, w))))
    }
}

impl Kept {
    /// Scales and shifts for these noise levels, whose bits are `key`.
    fn modulation(&mut self, r: &Runner, levels: &[f32], key: &[u32]) -> candle_core::Result<Address> {
        if !self.modulation.contains_key(key) {
            if self.modulation.len() >= LEVELS_KEPT {
                self.modulation.clear();
                self.seen.clear();
            }
            self.modulation.insert(key.to_vec(), r.gpu.upload(&r.modulation(levels))?);
        }
        Ok(r.gpu.address(&self.modulation[key]))
    }

    /// Room for a picture.
    fn places(&mut self, r: &Runner, batch: usize, (h, w): (usize, usize)) -> candle_core::Result<Places> {
        let length = Places::new(r, 0, batch, h, w).length;
        if self.memory.as_ref().map_or(0, CudaSlice::len) < length {
            self.seen.clear();
            // The old one first: there may not be room for both.
            self.memory = None;
            self.memory = Some(r.gpu.bytes(length)?);
        }
        let base = self.memory.as_ref().map_or(0, |memory| r.gpu.address(memory));
        Ok(Places::new(r, base, batch, h, w))
    }

    /// Launches, the first time; records and runs the record, the second; runs the record afterwards.
    fn evaluate(
        &mut self,
        Runner { gpu, graphs, .. }: &Runner,
        key: (usize, usize, Vec<u32>),
        launches: impl FnOnce() -> candle_core::Result<()>,
    ) -> candle_core::Result<()> {
        match self.seen.get_mut(&key) {
            Some(Seen::Recorded(graph)) => gpu.replay(graph),
            Some(seen) if *graphs => {
                let mut graph = gpu.record(launches)?;
                gpu.replay(&mut graph)?;
                *seen = Seen::Recorded(graph);
                Ok(())
            }
            _ => {
                let workspace = gpu.workspace();
                let launched = launches();
                // Also where they failed: what was recorded points to the workspace before.
                if gpu.workspace() != workspace || self.seen.len() >= SEEN_KEPT {
                    self.seen.clear();
                }
                launched?;
                self.seen.insert(key, Seen::Launched);
                Ok(())
            }
        }
    }
}

/// One evaluation under way.
struct Run<'a> {
    runner: &'a Runner,
    batch: usize,
    size: (usize, usize),
    places: Places,
    modulation: Address,
}

impl Run<'_> {
    fn network(&self, x: Address, out: Address) -> candle_core::Result<()> {
        let (r, gpu, number) = (self.runner, &self.runner.gpu, self.runner.number);
        let config = &r.layout.config;
        let ([first, second], u) = (self.places.scratch, config.unshuffle);
        let (mut level, mut modulation) = (0, self.modulation);
        for step in &r.layout.steps {
            let stream = self.places.levels[level];
            let (h, w) = self.extent(level);
            match *step {
                Step::Stem(c) => {
                    let rows = self.rows(level, r.convs[c].cin);
                    gpu.stem(number, x, first, rows, config.in_channels, (h, w), u)?;
                    self.convolve(c, Kind::Same, (h, w), first, stream)?;
                    gpu.settle(number, stream, None, self.bias(c), self.rows(level, r.convs[c].cout))?;
                }
                Step::Block(b) => {
                    let block = &r.layout.blocks[b];
                    let rows = self.rows(level, config.widths[level]);
                    let row = (self.batch * rows.channels * size_of::<f32>()) as u64;
                    let by = Affine { gain: Some(modulation), offset: modulation + row, per_item: true };
                    modulation += 2 * row;
                    self.convolve(block.conv1, Kind::Same, (h, w), stream, first)?;
                    gpu.modulate(number, first, first, rows, by, true)?;
                    self.convolve(block.conv2, Kind::Same, (h, w), first, second)?;
                    gpu.settle(number, stream, Some(second), self.bias(block.conv2), rows)?;
                }
                Step::Down(c) => {
                    level += 1;
                    let below = self.places.levels[level];
                    self.convolve(c, Kind::Down, (h, w), stream, below)?;
                    gpu.settle(number, below, None, self.bias(c), self.rows(level, r.convs[c].cout))?;
                }
                Step::Up(c) => {
                    self.convolve(c, Kind::Up, (h, w), stream, first)?;
                    level -= 1;
                    let rows = self.rows(level, r.convs[c].cout);
                    gpu.rise(number, self.places.levels[level], first, self.bias(c), rows, 2 * w)?;
                }
                Step::Head(c) => {
                    self.convolve(c, Kind::Same, (h, w), stream, first)?;
                    gpu.head(number, first, out, self.bias(c), self.rows(level, r.convs[c].cout), (h, w), u)?;
                }
            }
        }
        Ok(())
    }

    /// Height and width at a level.
    fn extent(&self, level: usize) -> (usize, usize) {
        let scale = self.runner.layout.config.unshuffle << level;
        (self.size.0 / scale, self.size.1 / scale)
    }

    fn rows(&self, level: usize, channels: usize) -> Rows {
        let (h, w) = self.extent(level);
        Rows { items: self.batch, pixels: h * w, channels }
    }

    fn bias(&self, c: usize) -> Address {
        self.runner.gpu.address(&self.runner.biases) + self.runner.convs[c].bias
    }

    fn convolve(
        &self,
        c: usize,
        kind: Kind,
        (h, w): (usize, usize),
        from: Address,
        to: Address,
    ) -> candle_core::Result<()> {
        let (r, conv) = (self.runner, &self.runner.convs[c]);
        let (kernel, padding, stride, cout) = match kind {
            Kind::Same => (3, 1, 1, conv.cout),
            Kind::Down => (2, 0, 2, conv.cout),
            Kind::Up => (1, 0, 1, 4 * conv.cout),
        };
        let (batch, cin, number) = (self.batch, conv.cin, r.number);
        let g = Geometry { batch, height: h, width: w, cin, cout, kernel, padding, stride, number };
        let weights = r.gpu.address(&r.weights) + conv.weight;
        // SAFETY: `Places` has room for both maps, and the weights were packed for this convolution.
        unsafe { r.gpu.convolve(&g, Pass::Forward, from, weights, to) }
    }
}
