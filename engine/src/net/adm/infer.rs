// SPDX-License-Identifier: MIT OR Apache-2.0
//! From names and shapes of weights back to the network that they belong to.

use std::collections::BTreeMap;

use super::AdmConfig;
use crate::{Error, Result};

/// Most blocks that are looked for on either side.
const BLOCKS_LIMIT: usize = 1024;

impl AdmConfig {
    /// The network whose weights have these names and shapes (SPEC section 7.3).
    ///
    /// Three choices leave no trace in the weights and are set as in the released networks: 64
    /// channels per head, the legacy order of q, k and v, and, where attention could not be told
    /// from its heads, the same in the decoder.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first tensor that does not fit an ADM network.
    pub fn infer(tensors: &[(String, Vec<usize>)]) -> Result<Self> {
        let found = Found(tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect());
        let model_channels = found.dim("time_embed.0.weight", 1)?;
        let encoder = found.blocks("input_blocks")?;
        let decoder = found.blocks("output_blocks")?;

        // Where the decoder goes up a level, its block ends in another residual block or in a
        // convolution; without either, the encoder has numbers without weights.
        let grows = |k: &usize| {
            let ends = |j: usize, name: &str| found.has(&format!("output_blocks.{k}.{j}.{name}"));
            (1..=2).any(|j| ends(j, "in_layers.2.weight") || ends(j, "conv.weight"))
        };
        let ups: Vec<usize> = (0..decoder).filter(grows).collect();
        let gaps: Vec<usize> = (1..encoder).filter(|k| !found.has_block("input_blocks", *k)).collect();
        let per_level = match (ups.first(), gaps.first()) {
            (Some(up), _) => up + 1,
            (None, Some(gap)) => *gap,
            (None, None) => decoder,
        };
        if per_level < 2 || !decoder.is_multiple_of(per_level) {
            return Err(wrong(format!("{decoder} output blocks in levels of {per_level}")));
        }
        let levels = decoder / per_level;
        let first = |level: usize| format!("input_blocks.{}", level * per_level + 1);
        let resblock_updown = ups.first().is_some_and(|k| {
            (1..=2).any(|j| found.has(&format!("output_blocks.{k}.{j}.in_layers.2.weight")))
        });
        let mut channel_mult = Vec::new();
        let mut attention_resolutions = Vec::new();
        for level in 0..levels {
            let width = found.dim(&format!("{}.0.out_layers.3.weight", first(level)), 0)?;
            channel_mult.push(width as f64 / model_channels as f64);
            if found.has(&format!("{}.1.qkv.weight", first(level))) {
                attention_resolutions.push(1 << level.min(30));
            }
        }
        let width = found.dim(&format!("{}.0.out_layers.3.weight", first(0)), 0)?;
        let config = Self {
            in_channels: found.dim("input_blocks.0.0.weight", 1)?,
            out_channels: found.dim("out.2.weight", 0)?,
            model_channels,
            num_res_blocks: per_level - 1,
            channel_mult,
            attention_resolutions,
            conv_resample: gaps.is_empty(),
            num_heads: 1,
            num_head_channels: None,
            num_heads_upsample: None,
            use_scale_shift_norm: found.dim(&format!("{}.0.emb_layers.1.weight", first(0)), 0)? == 2 * width,
            resblock_updown,
            use_new_attention_order: false,
        };
        config.must_have(&found.0)?;
        let released = Self::released_256();
        Ok(Self { num_heads: released.num_heads, num_head_channels: released.num_head_channels, ..config })
    }

    /// Whether the network has exactly these weights.
    fn must_have(&self, found: &BTreeMap<&str, &[usize]>) -> Result<()> {
        let expected = self.plan()?.tensors();
        for (name, shape) in &expected {
            match found.get(name.as_str()) {
                Some(s) if s == shape => {}
                Some(s) => return Err(wrong(format!("{name:?} of shape {s:?}, {shape:?} expected"))),
                None => return Err(wrong(format!("no {name:?}"))),
            }
        }
        let known: std::collections::BTreeSet<&str> = expected.iter().map(|(n, _)| n.as_str()).collect();
        match found.keys().find(|name| !known.contains(*name)) {
            Some(name) => Err(wrong(format!("{name:?}"))),
            None => Ok(()),
        }
    }
}

struct Found<'a>(BTreeMap<&'a str, &'a [usize]>);

impl Found<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn has_block(&self, side: &str, k: usize) -> bool {
        let start = format!("{side}.{k}.");
        self.0.range(start.as_str()..).next().is_some_and(|(name, _)| name.starts_with(&start))
    }

    /// Number of blocks: one more than the highest number.
    fn blocks(&self, side: &str) -> Result<usize> {
        let number = |name: &&str| {
            name.strip_prefix(side)?.strip_prefix('.')?.split('.').next()?.parse::<usize>().ok()
        };
        match self.0.keys().filter_map(number).max() {
            Some(k) if k < BLOCKS_LIMIT => Ok(k + 1),
            Some(k) => Err(wrong(format!("{side}.{k}"))),
            None => Err(wrong(format!("no {side}"))),
        }
    }

    fn dim(&self, name: &str, i: usize) -> Result<usize> {
        let shape = self.0.get(name).ok_or_else(|| wrong(format!("no {name:?}")))?;
        shape.get(i).copied().filter(|d| *d > 0).ok_or_else(|| wrong(format!("{name:?} of shape {shape:?}")))
    }
}

fn wrong(found: String) -> Error {
    Error::setting("network", format!("one with {found}"), "an ADM network (names and shapes of its weights)")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`AdmConfig::infer`] cannot know, and what has no effect, is set to its choice.
    fn canonical(config: &AdmConfig) -> AdmConfig {
        let updown = config.resblock_updown || config.channel_mult.len() == 1;
        AdmConfig {
            num_heads: 4,
            num_head_channels: Some(64),
            num_heads_upsample: None,
            use_new_attention_order: false,
            resblock_updown: config.resblock_updown && config.channel_mult.len() > 1,
            conv_resample: config.conv_resample || updown,
            ..config.clone()
        }
    }

    #[test]
    fn every_variant_is_recognised() {
        let mults: [&[f64]; 5] =
            [&[1.0], &[2.0], &[1.0, 2.0], &[2.0, 1.0, 1.0], &[1.0, 1.0, 2.0, 2.0, 4.0, 4.0]];
        for mult in mults {
            for (num_res_blocks, attention) in [(1, vec![1]), (2, vec![2, 4]), (3, vec![])] {
                for bits in 0..8 {
                    let ds = |d: &usize| *d < 1 << mult.len();
                    let config = AdmConfig {
                        in_channels: 6,
                        model_channels: 64,
                        channel_mult: mult.to_vec(),
                        num_res_blocks,
                        attention_resolutions: attention.iter().copied().filter(ds).collect(),
                        resblock_updown: bits & 1 > 0,
                        conv_resample: bits & 2 > 0,
                        use_scale_shift_norm: bits & 4 > 0,
                        ..AdmConfig::released_256()
                    };
                    let tensors = config.plan().unwrap().tensors();
                    let found = AdmConfig::infer(&tensors).unwrap();
                    assert_eq!(found, canonical(&config));
                }
            }
        }
        let released = AdmConfig::released_256();
        assert_eq!(AdmConfig::infer(&released.plan().unwrap().tensors()).unwrap(), released);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let tensors = AdmConfig::released_256().plan().unwrap().tensors();
        for k in [0, 1, 4, 5, 100, 300, 562, 565] {
            let mut less = tensors.clone();
            let (name, _) = less.remove(k);
            assert!(AdmConfig::infer(&less).is_err(), "{name}");
            let mut other = tensors.clone();
            other[k].1[0] += 1;
            assert!(AdmConfig::infer(&other).is_err(), "{name}");
        }
        let mut more = tensors;
        more.push(("label_emb.weight".into(), vec![1000, 1024]));
        assert!(AdmConfig::infer(&more).unwrap_err().to_string().contains("label_emb.weight"));
        assert!(AdmConfig::infer(&[]).is_err());
    }
}
