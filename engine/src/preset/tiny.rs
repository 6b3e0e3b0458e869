// SPDX-License-Identifier: MIT OR Apache-2.0
//! The smallest preset, for tests.

/// Its `config.toml`.
pub(crate) const CONFIG: &str = r#"
name = "tiny-v1"
task = "test"
description = "Random."
sampling = { sampler = "i2sb", nfe = 1 }
bridge = { interval = 1000, beta_max = 0.3 }
network = { family = "bridge", in_channels = 3, unshuffle = 2, widths = [16], encoder = [], middle = 1, decoder = [], time_features = 8 }
"#;
