// SPDX-License-Identifier: MIT OR Apache-2.0
//! Size of a `bridge` network: data from a preset's `config.toml`, checked once.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A U-Net of plain 3×3 residual blocks on a pixel-unshuffled picture.
///
/// Level l works at `1/(unshuffle·2^l)` of the picture's width with `widths[l]` channels. The last
/// level holds the `middle` blocks; every other has `encoder[l]` blocks on the way down and
/// `decoder[l]` on the way up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeNetConfig {
    /// Channels of the picture: 3, or 6 where the network also sees `x1` (`cond_x1`).
    pub in_channels: usize,
    /// Side of the squares of pixels that become channels at the stem: 1, 2, 4 or 8.
    pub unshuffle: usize,
    /// Channels of each level, multiples of 16.
    pub widths: Vec<usize>,
    /// Residual blocks of each level but the last, on the way down.
    pub encoder: Vec<usize>,
    /// Residual blocks of the last level.
    pub middle: usize,
    /// Residual blocks of each level but the last, on the way up.
    pub decoder: Vec<usize>,
    /// Features that the noise level is told in; even.
    pub time_features: usize,
}

impl BridgeNetConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Setting`] with the field, its value and the limit.
    pub fn check(&self) -> Result<()> {
        let is = |ok: bool, name: &'static str, value: &dyn std::fmt::Debug, limit: &str| {
            if ok { Ok(()) } else { Err(Error::setting(name, format!("{value:?}"), limit)) }
        };
        is(matches!(self.in_channels, 3 | 6), "network.in_channels", &self.in_channels, "3 or 6")?;
        is(matches!(self.unshuffle, 1 | 2 | 4 | 8), "network.unshuffle", &self.unshuffle, "1, 2, 4 or 8")?;
        is(
            (1..=6).contains(&self.widths.len())
                && self.widths.iter().all(|w| w % 16 == 0 && (16..=1024).contains(w)),
            "network.widths",
            &self.widths,
            "1 to 6 multiples of 16, each 16 to 1024",
        )?;
        let levels = self.widths.len() - 1;
        for (name, blocks) in [("network.encoder", &self.encoder), ("network.decoder", &self.decoder)] {
            is(
                blocks.len() == levels && blocks.iter().all(|b| *b <= 64),
                name,
                blocks,
                "one count of 0 to 64 for each level but the last",
            )?;
        }
        is(self.middle <= 64, "network.middle", &self.middle, "0 to 64")?;
        is(
            self.time_features % 2 == 0 && (2..=1024).contains(&self.time_features),
            "network.time_features",
            &self.time_features,
            "an even number from 2 to 1024",
        )
    }

    /// Height and width of a picture must be multiples of this.
    pub fn stride(&self) -> usize {
        self.unshuffle << (self.widths.len() - 1)
    }

    /// Channels at the head, before the squares become pixels again.
    pub(crate) fn head(&self) -> usize {
        3 * self.unshuffle * self.unshuffle
    }

    /// Channels at the stem.
    pub(crate) fn stem(&self) -> usize {
        self.in_channels * self.unshuffle * self.unshuffle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_field_is_named() {
        let good = BridgeNetConfig {
            in_channels: 3,
            unshuffle: 2,
            widths: vec![16, 32],
            encoder: vec![1],
            middle: 1,
            decoder: vec![1],
            time_features: 8,
        };
        good.check().unwrap();
        assert_eq!(good.stride(), 4);
        let cases: [(&str, BridgeNetConfig); 6] = [
            ("in_channels", BridgeNetConfig { in_channels: 4, ..good.clone() }),
            ("unshuffle", BridgeNetConfig { unshuffle: 3, ..good.clone() }),
            ("widths", BridgeNetConfig { widths: vec![], ..good.clone() }),
            ("encoder", BridgeNetConfig { encoder: vec![], ..good.clone() }),
            ("middle", BridgeNetConfig { middle: 65, ..good.clone() }),
            ("time_features", BridgeNetConfig { time_features: 7, ..good }),
        ];
        for (name, config) in cases {
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
}
