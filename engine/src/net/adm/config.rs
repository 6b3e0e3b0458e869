// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an ADM network is built from (SPEC section 7.1).

use serde::{Deserialize, Serialize};

/// The constructor arguments of an ADM UNet, under their usual names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmConfig {
    /// Channels of the input: 3, or 6 with `cond_x1`.
    pub in_channels: usize,
    /// Channels of the output: 3, or 6 with a learned-sigma head.
    pub out_channels: usize,
    /// Base width; each level has `model_channels · channel_mult[level]` channels.
    pub model_channels: usize,
    /// Residual blocks per level of the encoder; the decoder has one more.
    pub num_res_blocks: usize,
    /// Width of each level relative to `model_channels`; as many as there are levels.
    pub channel_mult: Vec<f64>,
    /// Downsampling factors (1, 2, 4, …) at which residual blocks are followed by attention.
    pub attention_resolutions: Vec<usize>,
    /// Plain resampling layers carry a 3×3 convolution; irrelevant with `resblock_updown`.
    pub conv_resample: bool,
    /// Heads of each attention block, unless `num_head_channels` is given.
    pub num_heads: usize,
    /// Channels of one head; overrides the numbers of heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_head_channels: Option<usize>,
    /// Heads in the decoder, where they differ from `num_heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_heads_upsample: Option<usize>,
    /// Time enters as scale and shift after the second norm, instead of as a sum before it.
    pub use_scale_shift_norm: bool,
    /// Resampling happens inside residual blocks, instead of in layers of its own.
    pub resblock_updown: bool,
    /// q, k, v outermost in the 3C channels, instead of heads outermost (released weights).
    pub use_new_attention_order: bool,
}

impl AdmConfig {
    /// The released 256×256 networks: 552,807,171 parameters in 566 tensors.
    pub fn released_256() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            model_channels: 256,
            num_res_blocks: 2,
            channel_mult: vec![1.0, 1.0, 2.0, 2.0, 4.0, 4.0],
            attention_resolutions: vec![8, 16, 32],
            conv_resample: true,
            num_heads: 4,
            num_head_channels: Some(64),
            num_heads_upsample: None,
            use_scale_shift_norm: true,
            resblock_updown: true,
            use_new_attention_order: false,
        }
    }
}
