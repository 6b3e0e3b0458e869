// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wiring of an ADM network as data (SPEC section 7.3): which layers, how wide, under which name.

use super::AdmConfig;
use crate::{Error, Result};

/// Groups of every GroupNorm; all channel counts are multiples of it.
pub const GROUPS: usize = 32;
/// Most levels: the picture is halved between two of them.
const LEVELS_LIMIT: usize = 12;
/// Most channels of any layer, and most residual blocks of a level.
const CHANNELS_LIMIT: usize = 16_384;
const RES_BLOCKS_LIMIT: usize = 64;

/// Resampling by a factor of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resample {
    /// The size stays.
    Keep,
    /// Half the height and width.
    Down,
    /// Twice the height and width.
    Up,
}

/// One child of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// 3×3 convolution at the entrance.
    Conv { input: usize, output: usize },
    /// Residual block.
    Res { input: usize, output: usize, resample: Resample },
    /// Self-attention over all pixels.
    Attention { channels: usize, heads: usize },
    /// Plain resampling, down or up, with a 3×3 convolution or without parameters.
    Resample { channels: usize, resample: Resample, conv: bool },
}

/// A numbered block of layers that run one after another.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// E.g. `input_blocks.3`.
    pub name: String,
    /// Its children, numbered from 0.
    pub layers: Vec<Layer>,
    /// Downsampling factor of what enters.
    pub ds: usize,
}

/// All blocks of a network, in the order in which they run and in which parameters are numbered.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    config: AdmConfig,
    /// Encoder; the output of each block is kept for the decoder.
    pub encoder: Vec<Block>,
    /// Between the two.
    pub middle: Block,
    /// Decoder; each block takes one kept output, last in first out.
    pub decoder: Vec<Block>,
    /// Channels that enter the head.
    pub head: usize,
}

impl AdmConfig {
    /// Lays the network out.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value out of range, or widths that groups or heads do not divide.
    pub(crate) fn plan(&self) -> Result<Plan> {
        within("in_channels", self.in_channels, 1, 64)?;
        within("out_channels", self.out_channels, 1, 64)?;
        within("num_res_blocks", self.num_res_blocks, 1, RES_BLOCKS_LIMIT)?;
        within("number of channel_mult", self.channel_mult.len(), 1, LEVELS_LIMIT)?;
        within("model_channels", self.model_channels, GROUPS, CHANNELS_LIMIT)?;
        let widths = self.channel_mult.iter().map(|m| self.width(*m)).collect::<Result<Vec<_>>>()?;
        let last = widths.len() - 1;

        let mut block = BlockMaker { config: self, ds: 1, decoder: false };
        let mut width = widths[0];
        let entrance = vec![Layer::Conv { input: self.in_channels, output: width }];
        let mut encoder = vec![Block { name: "input_blocks.0".into(), layers: entrance, ds: 1 }];
        let mut kept = vec![width];
        for (level, &output) in widths.iter().enumerate() {
            for _ in 0..self.num_res_blocks {
                let layers = block.layers(width, output)?;
                encoder.push(Block { name: format!("input_blocks.{}", encoder.len()), layers, ds: block.ds });
                width = output;
                kept.push(width);
            }
            if level < last {
                let layers = vec![block.resample(width, Resample::Down)];
                encoder.push(Block { name: format!("input_blocks.{}", encoder.len()), layers, ds: block.ds });
                kept.push(width);
                block.ds *= 2;
            }
        }
        let res = Layer::Res { input: width, output: width, resample: Resample::Keep };
        let middle = vec![res, block.attention(width)?, res];
        let middle = Block { name: "middle_block".into(), layers: middle, ds: block.ds };

        block.decoder = true;
        let mut decoder = Vec::new();
        for (level, &output) in widths.iter().enumerate().rev() {
            for i in 0..=self.num_res_blocks {
                let skip = kept.pop().expect("the encoder keeps as many as the decoder takes");
                let ds = block.ds;
                let mut layers = block.layers(width + skip, output)?;
                width = output;
                if level > 0 && i == self.num_res_blocks {
                    layers.push(block.resample(width, Resample::Up));
                    block.ds /= 2;
                }
                decoder.push(Block { name: format!("output_blocks.{}", decoder.len()), layers, ds });
            }
        }
        Ok(Plan { config: self.clone(), encoder, middle, decoder, head: width })
    }

    fn width(&self, mult: f64) -> Result<usize> {
        let width = mult * self.model_channels as f64;
        let limit = format!("a multiple of {GROUPS} from {GROUPS} to {CHANNELS_LIMIT}");
        let within = (GROUPS as f64..=CHANNELS_LIMIT as f64).contains(&width);
        if within && (width as usize).is_multiple_of(GROUPS) {
            return Ok(width as usize);
        }
        Err(Error::setting("model_channels times channel_mult", width, limit))
    }
}

/// Makes the layers of one block at the current downsampling factor.
struct BlockMaker<'a> {
    config: &'a AdmConfig,
    ds: usize,
    decoder: bool,
}

impl BlockMaker<'_> {
    fn layers(&self, input: usize, output: usize) -> Result<Vec<Layer>> {
        let mut layers = vec![Layer::Res { input, output, resample: Resample::Keep }];
        if self.config.attention_resolutions.contains(&self.ds) {
            layers.push(self.attention(output)?);
        }
        Ok(layers)
    }

    fn attention(&self, channels: usize) -> Result<Layer> {
        let c = self.config;
        let heads = match (c.num_head_channels, c.num_heads_upsample) {
            (Some(width), _) if width > 0 && channels.is_multiple_of(width) => channels / width,
            (Some(width), _) => {
                return Err(Error::setting(
                    "num_head_channels",
                    width,
                    format!("a divisor of {channels} channels"),
                ));
            }
            (None, Some(heads)) if self.decoder => heads,
            (None, _) => c.num_heads,
        };
        if heads == 0 || !channels.is_multiple_of(heads) {
            return Err(Error::setting("num_heads", heads, format!("a divisor of {channels} channels")));
        }
        Ok(Layer::Attention { channels, heads })
    }

    fn resample(&self, channels: usize, resample: Resample) -> Layer {
        if self.config.resblock_updown {
            Layer::Res { input: channels, output: channels, resample }
        } else {
            Layer::Resample { channels, resample, conv: self.config.conv_resample }
        }
    }
}

impl Plan {
    /// The configuration that was laid out.
    pub fn config(&self) -> &AdmConfig {
        &self.config
    }

    /// Width of the time embedding after its two linear layers.
    pub fn time_channels(&self) -> usize {
        4 * self.config.model_channels
    }

    /// Height and width must be multiples of this.
    pub fn stride(&self) -> usize {
        self.middle.ds
    }

    /// Every block in the order in which they run.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.encoder.iter().chain([&self.middle]).chain(&self.decoder)
    }

    /// Names and shapes of all parameters in registration order: the order of the unnamed EMA list
    /// of an original checkpoint.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (mc, time) = (self.config.model_channels, self.time_channels());
        let mut list = List(Vec::new());
        list.pair("time_embed.0", &[time, mc]);
        list.pair("time_embed.2", &[time, time]);
        for block in self.blocks() {
            for (i, layer) in block.layers.iter().enumerate() {
                list.layer(&format!("{}.{i}", block.name), layer, time, self.config.use_scale_shift_norm);
            }
        }
        list.pair("out.0", &[self.head]);
        list.pair("out.2", &[self.config.out_channels, self.head, 3, 3]);
        list.0
    }

    /// Multiply-accumulates of one evaluation of one picture.
    pub fn macs(&self, height: usize, width: usize) -> f64 {
        let (mc, time) = (self.config.model_channels, self.time_channels());
        let mut sum = (mc * time + time * time) as f64;
        let pixels = |ds: usize| height.div_ceil(ds) as f64 * width.div_ceil(ds) as f64;
        for block in self.blocks() {
            let inside = pixels(block.ds);
            for layer in &block.layers {
                sum += match *layer {
                    Layer::Conv { input, output } => inside * (9 * input * output) as f64,
                    Layer::Res { input, output, resample } => {
                        let inside = match resample {
                            Resample::Keep => inside,
                            Resample::Down => pixels(block.ds * 2),
                            Resample::Up => pixels(block.ds / 2),
                        };
                        let skip = if input == output { 0 } else { input * output };
                        let shift = if self.config.use_scale_shift_norm { 2 } else { 1 };
                        inside * (9 * output * (input + output) + skip) as f64
                            + (shift * output * time) as f64
                    }
                    Layer::Attention { channels, .. } => {
                        inside * (4 * channels * channels) as f64 + 2.0 * inside * inside * channels as f64
                    }
                    Layer::Resample { conv: false, .. } => 0.0,
                    Layer::Resample { channels, resample, .. } => {
                        let ds = if resample == Resample::Down { block.ds * 2 } else { block.ds / 2 };
                        pixels(ds) * (9 * channels * channels) as f64
                    }
                };
            }
        }
        sum + pixels(1) * (9 * self.head * self.config.out_channels) as f64
    }
}

/// Parameter names and shapes while they are listed.
struct List(Vec<(String, Vec<usize>)>);

impl List {
    /// A weight of `shape` and its bias, as long as the weight's first dimension.
    fn pair(&mut self, name: &str, shape: &[usize]) {
        self.0.push((format!("{name}.weight"), shape.to_vec()));
        self.0.push((format!("{name}.bias"), vec![shape[0]]));
    }

    fn layer(&mut self, at: &str, layer: &Layer, time: usize, scale_shift: bool) {
        match *layer {
            Layer::Conv { input, output } => self.pair(at, &[output, input, 3, 3]),
            Layer::Res { input, output, .. } => {
                self.pair(&format!("{at}.in_layers.0"), &[input]);
                self.pair(&format!("{at}.in_layers.2"), &[output, input, 3, 3]);
                let rows = if scale_shift { 2 * output } else { output };
                self.pair(&format!("{at}.emb_layers.1"), &[rows, time]);
                self.pair(&format!("{at}.out_layers.0"), &[output]);
                self.pair(&format!("{at}.out_layers.3"), &[output, output, 3, 3]);
                if input != output {
                    self.pair(&format!("{at}.skip_connection"), &[output, input, 1, 1]);
                }
            }
            Layer::Attention { channels, .. } => {
                self.pair(&format!("{at}.norm"), &[channels]);
                self.pair(&format!("{at}.qkv"), &[3 * channels, channels, 1]);
                self.pair(&format!("{at}.proj_out"), &[channels, channels, 1]);
            }
            Layer::Resample { conv: false, .. } => {}
            Layer::Resample { channels, resample, .. } => {
                let name = if resample == Resample::Down { "op" } else { "conv" };
                self.pair(&format!("{at}.{name}"), &[channels, channels, 3, 3]);
            }
        }
    }
}

fn within(name: &'static str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::setting(name, value, format!("{least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_network_counts_as_documented() {
        let plan = AdmConfig::released_256().plan().unwrap();
        let tensors = plan.tensors();
        assert_eq!(tensors.len(), 566);
        let parameters: usize = tensors.iter().map(|(_, s)| s.iter().product::<usize>()).sum();
        assert_eq!(parameters, 552_807_171);
        assert_eq!(plan.stride(), 32);
        let residual =
            plan.blocks().flat_map(|b| &b.layers).filter(|l| matches!(l, Layer::Res { .. })).count();
        let attention =
            plan.blocks().flat_map(|b| &b.layers).filter(|l| matches!(l, Layer::Attention { .. }));
        assert_eq!((residual, attention.count()), (42, 16));
        // SPEC section 13 gives 1.119e12.
        let macs = plan.macs(256, 256);
        assert!((macs / 1.119e12 - 1.0).abs() < 1e-3, "{macs}");
    }

    /// Names, shapes and their order are those of the original files, in all three variants.
    #[test]
    fn tensors_equal_the_index_of_the_released_files() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../shared/i2sb/fixtures/checkpoint/adm256_state_dict_index.json");
        let Ok(text) = std::fs::read_to_string(&path) else {
            return println!("skipped: no {}", path.display());
        };
        let index: serde_json::Value = serde_json::from_str(&text).unwrap();
        let list = |v: &serde_json::Value| -> Vec<(String, Vec<usize>)> {
            serde_json::from_value(v["tensors"].clone()).unwrap()
        };
        let expected = list(&index["i2sb_uncond"]);
        assert_eq!(AdmConfig::released_256().plan().unwrap().tensors(), expected);
        for (key, input, output) in [("i2sb_cond_x1", 6, 3), ("adm_original_learn_sigma", 3, 6)] {
            let config = AdmConfig { in_channels: input, out_channels: output, ..AdmConfig::released_256() };
            let mut expected = expected.clone();
            for change in index[key]["differences_from_i2sb_uncond"].as_array().unwrap() {
                let name = change[0].as_str().unwrap();
                let entry = expected.iter_mut().find(|(n, _)| n == name).unwrap();
                entry.1 = serde_json::from_value(change[1].clone()).unwrap();
            }
            let tensors = config.plan().unwrap().tensors();
            assert_eq!(tensors, expected, "{key}");
            let parameters: usize = tensors.iter().map(|(_, s)| s.iter().product::<usize>()).sum();
            assert_eq!(parameters as u64, index[key]["param_count"].as_u64().unwrap());
        }
    }

    #[test]
    fn impossible_networks_are_named() {
        let bad = |change: fn(&mut AdmConfig)| {
            let mut config = AdmConfig::released_256();
            change(&mut config);
            config.plan().unwrap_err().to_string()
        };
        assert!(bad(|c| c.model_channels = 0).contains("model_channels is 0"));
        assert!(bad(|c| c.model_channels = 48).contains("48"));
        assert!(bad(|c| c.channel_mult = vec![]).contains("channel_mult is 0"));
        assert!(bad(|c| c.channel_mult = vec![f64::NAN]).contains("NaN"));
        assert!(bad(|c| c.channel_mult = vec![1e300]).contains("channel_mult"));
        assert!(bad(|c| c.num_head_channels = Some(0)).contains("num_head_channels is 0"));
        assert!(bad(|c| c.num_head_channels = Some(100)).contains("100"));
        assert!(bad(|c| (c.num_head_channels, c.num_heads) = (None, 0)).contains("num_heads is 0"));
        assert!(bad(|c| c.num_res_blocks = usize::MAX).contains("num_res_blocks"));
    }
}
