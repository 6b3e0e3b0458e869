// SPDX-License-Identifier: MIT OR Apache-2.0
//! The network as a list of steps, and where each parameter lies in one flat vector.

use candle_core::Device;

use super::config::BridgeNetConfig;
use crate::{
    Result,
    net::params::{Params, TensorSource},
    noise::Stream,
};

/// Kinds of convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 3×3, same size.
    Same,
    /// 2×2, stride 2: half the size.
    Down,
    /// The transpose of `Down`: twice the size.
    Up,
}

/// A convolution: its weights `(cout, cin, side, side)` and bias, as offsets.
#[derive(Debug, Clone)]
pub(crate) struct Conv {
    pub kind: Kind,
    pub cin: usize,
    pub cout: usize,
    pub weight: usize,
    pub bias: usize,
}

impl Conv {
    /// Kernel side.
    pub fn side(&self) -> usize {
        if self.kind == Kind::Same { 3 } else { 2 }
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.cout * self.cin * self.side() * self.side()
    }
}

/// A linear map `(cout, cin)` with bias, as offsets.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub cin: usize,
    pub cout: usize,
    pub weight: usize,
    pub bias: usize,
}

/// `x + conv2(silu(conv1(x)·(1 + scale) + shift))`, scale and shift from the time.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub conv1: usize,
    pub conv2: usize,
    pub time: Linear,
}

/// One step of the network; steps act on the current map and a stack of kept ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The first convolution.
    Stem(usize),
    /// A residual block.
    Block(usize),
    /// Keep the map for later, then halve it.
    Down(usize),
    /// Double the map and add the one kept last.
    Up(usize),
    /// The last convolution.
    Head(usize),
}

/// A tensor's name, shape and place in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name in the safetensors file.
    pub name: String,
    /// Shape in the safetensors file.
    pub shape: Vec<usize>,
    /// Offset of its first value.
    pub offset: usize,
}

impl Entry {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Everything about a network but its values.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(crate) config: BridgeNetConfig,
    pub(crate) convs: Vec<Conv>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) steps: Vec<Step>,
    pub(crate) time: Linear,
    entries: Vec<Entry>,
    len: usize,
}

impl Layout {
    /// Lays a network out.
    ///
    /// # Errors
    /// As [`BridgeNetConfig::check`].
    pub fn new(config: &BridgeNetConfig) -> Result<Self> {
        config.check()?;
        let t = config.time_features;
        let mut l = Self {
            config: config.clone(),
            convs: vec![],
            blocks: vec![],
            steps: vec![],
            time: Linear { cin: t, cout: t, weight: 0, bias: 0 },
            entries: vec![],
            len: 0,
        };
        l.time = l.linear("time", t, t);
        let w = &config.widths;
        let stem = l.conv("stem", Kind::Same, config.stem(), w[0]);
        l.steps.push(Step::Stem(stem));
        for level in 0..w.len() - 1 {
            l.blocks(&format!("encoder.{level}"), config.encoder[level], w[level]);
            let down = l.conv(&format!("down.{level}"), Kind::Down, w[level], w[level + 1]);
            l.steps.push(Step::Down(down));
        }
        l.blocks("middle", config.middle, w[w.len() - 1]);
        for level in (0..w.len() - 1).rev() {
            let up = l.conv(&format!("up.{level}"), Kind::Up, w[level + 1], w[level]);
            l.steps.push(Step::Up(up));
            l.blocks(&format!("decoder.{level}"), config.decoder[level], w[level]);
        }
        let head = l.conv("head", Kind::Same, w[0], config.head());
        l.steps.push(Step::Head(head));
        Ok(l)
    }

    fn entry(&mut self, name: String, shape: &[usize]) -> usize {
        let entry = Entry { name, shape: shape.to_vec(), offset: self.len };
        let offset = self.len;
        self.len += entry.len();
        self.entries.push(entry);
        offset
    }

    fn linear(&mut self, name: &str, cin: usize, cout: usize) -> Linear {
        let weight = self.entry(format!("{name}.weight"), &[cout, cin]);
        let bias = self.entry(format!("{name}.bias"), &[cout]);
        Linear { cin, cout, weight, bias }
    }

    fn conv(&mut self, name: &str, kind: Kind, cin: usize, cout: usize) -> usize {
        let side = if kind == Kind::Same { 3 } else { 2 };
        let weight = self.entry(format!("{name}.weight"), &[cout, cin, side, side]);
        let bias = self.entry(format!("{name}.bias"), &[cout]);
        self.convs.push(Conv { kind, cin, cout, weight, bias });
        self.convs.len() - 1
    }

    fn blocks(&mut self, name: &str, count: usize, width: usize) {
        for i in 0..count {
            let conv1 = self.conv(&format!("{name}.{i}.conv1"), Kind::Same, width, width);
            let conv2 = self.conv(&format!("{name}.{i}.conv2"), Kind::Same, width, width);
            let time = self.linear(&format!("{name}.{i}.time"), self.config.time_features, 2 * width);
            self.blocks.push(Block { conv1, conv2, time });
            self.steps.push(Step::Block(self.blocks.len() - 1));
        }
    }

    /// What the network was laid out from.
    pub fn config(&self) -> &BridgeNetConfig {
        &self.config
    }

    /// Every tensor, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The flat vector from named tensors.
    ///
    /// # Errors
    /// [`crate::Error::File`] naming a tensor that is missing, left over or of another shape.
    pub fn gather(&self, source: &dyn TensorSource) -> Result<Vec<f32>> {
        let root = Params::new(source, &Device::Cpu);
        let values = self.values(&root)?;
        root.finish()?;
        Ok(values)
    }

    /// As [`Layout::gather`], but others may be left.
    pub(super) fn values(&self, root: &Params<'_>) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.len);
        for e in &self.entries {
            values.extend(root.tensor(&e.name, &e.shape)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(values)
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.len
    }

    /// A network always has parameters.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Starting values: uniform with variance `1/fan_in`, smaller where a block ends, zero at the head
    /// and in the time's scale and shift, so that the untrained network outputs exactly 0.
    pub fn init(&self, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; self.len];
        let mut draw = Stream::new(seed, 0);
        let mut fill = |at: usize, n: usize, fan_in: usize, gain: f32| {
            let bound = gain * (3.0 / fan_in as f32).sqrt();
            for v in &mut values[at..at + n] {
                *v = (draw.next_f32() * 2.0 - 1.0) * bound;
            }
        };
        fill(self.time.weight, self.time.cin * self.time.cout, self.time.cin, 1.0);
        let second: Vec<usize> = self.blocks.iter().map(|b| b.conv2).collect();
        let depth = (self.blocks.len().max(1) as f32).sqrt();
        for (i, c) in self.convs.iter().enumerate().take(self.convs.len() - 1) {
            let fan_in = if c.kind == Kind::Up { c.cin } else { c.cin * c.side() * c.side() };
            fill(c.weight, c.weights(), fan_in, if second.contains(&i) { 1.0 / depth } else { 1.0 });
        }
        values
    }

    /// How many pixels at most lie between an output pixel and one that has a part in its bits.
    ///
    /// Convolutions compute squares of 2×2 values together (`ops/winograd.rs`): each reaches one square
    /// further, and on each level the first begins with the square that a value lies in.
    pub fn halo(&self) -> usize {
        let u = self.config.unshuffle;
        let mut scale = u;
        let mut reach = 2 * u - 1;
        for step in &self.steps {
            match step {
                Step::Stem(_) | Step::Head(_) => reach += 2 * scale,
                Step::Block(_) => reach += 4 * scale,
                Step::Down(_) => {
                    reach += scale;
                    scale *= 2;
                }
                Step::Up(_) => {
                    reach += scale;
                    scale /= 2;
                    reach += scale;
                }
            }
        }
        reach
    }

    /// Multiply-accumulates per pixel of the picture.
    pub fn macs_per_pixel(&self) -> f64 {
        let mut scale = self.config.unshuffle;
        let mut macs = 0.0;
        for step in &self.steps {
            let per = |i: &usize, s: usize| self.convs[*i].weights() as f64 / (s * s) as f64;
            match step {
                Step::Stem(c) | Step::Head(c) => macs += per(c, scale),
                Step::Block(b) => {
                    macs += per(&self.blocks[*b].conv1, scale) + per(&self.blocks[*b].conv2, scale);
                }
                Step::Down(c) => {
                    scale *= 2;
                    macs += per(c, scale);
                }
                Step::Up(c) => {
                    macs += per(c, scale);
                    scale /= 2;
                }
            }
        }
        macs
    }
}
