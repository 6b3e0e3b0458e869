// SPDX-License-Identifier: MIT OR Apache-2.0
//! A trained network grown wider and deeper, still computing the same.
//!
//! What was there ignores the new channels (their weights into it are zero), new blocks add nothing (their second
//! convolution is zero), and new channels see everything, with weights as drawn for an untrained network: so the first
//! step already moves the zeros, and nothing that was learnt is lost. After Chen, Goodfellow, Shlens, "Net2Net" (2015),
//! with zeros in place of copies.

use crate::{
    Error, Result,
    net::bridge::{BridgeNetConfig, Entry, Layout},
};

/// The values of `to` that compute what `old`, the values of `from`, compute; what is new is drawn from `seed`.
///
/// # Errors
/// [`Error::Setting`] `train.init` if `from` has more channels or blocks than `to` somewhere, or differs in the rest.
pub fn grow(from: &Layout, old: &[f32], to: &Layout, seed: u64) -> Result<Vec<f32>> {
    if from.config() == to.config() {
        return Ok(old.to_vec());
    }
    if !fits(from.config(), to.config()) {
        let limit = format!(
            "of the recipe's own [network], {}, or of one with fewer channels or blocks in as many levels",
            described(to.config())
        );
        let found = format!("a preset of a network of {}", described(from.config()));
        return Err(Error::setting("train.init", found, limit));
    }
    let mut new = to.init(seed);
    for entry in to.entries() {
        let values = &mut new[entry.offset..][..entry.len()];
        match from.entries().iter().find(|e| e.name == entry.name) {
            Some(e) => keep(e, &old[e.offset..][..e.len()], entry, values),
            None if entry.name.contains(".conv2.") => values.fill(0.0),
            None => {}
        }
    }
    Ok(new)
}

fn fits(from: &BridgeNetConfig, to: &BridgeNetConfig) -> bool {
    let same = (from.in_channels, from.unshuffle, from.time_features)
        == (to.in_channels, to.unshuffle, to.time_features);
    let within = |a: &[usize], b: &[usize]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a <= b);
    same && from.middle <= to.middle
        && within(&from.widths, &to.widths)
        && within(&from.encoder, &to.encoder)
        && within(&from.decoder, &to.decoder)
}

/// A network in the words of a recipe.
fn described(config: &BridgeNetConfig) -> String {
    let BridgeNetConfig { in_channels, unshuffle, widths, encoder, middle, decoder, time_features } = config;
    format!(
        "widths {widths:?}, blocks encoder {encoder:?}, middle {middle}, decoder {decoder:?} \
         (in_channels {in_channels}, unshuffle {unshuffle}, time_features {time_features})"
    )
}

/// Puts the old rows (one per output channel) into the new tensor, followed by zeros for the new inputs.
fn keep(from: &Entry, old: &[f32], to: &Entry, new: &mut [f32]) {
    // A block's time makes two values for each channel, all scales before all shifts.
    let groups = if to.name.contains(".time.") { 2 } else { 1 };
    let rows = |e: &Entry| (e.shape[0] / groups, e.len() / e.shape[0]);
    let ((count, length), (_, new_length)) = (rows(from), rows(to));
    let halves = new.chunks_exact_mut(to.len() / groups).zip(old.chunks_exact(from.len() / groups));
    for (new, old) in halves {
        for (new, old) in new.chunks_exact_mut(new_length).zip(old.chunks_exact(length)).take(count) {
            new[..length].copy_from_slice(old);
            new[length..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::{
        Cancel,
        net::{Network, bridge::BridgeNet},
        noise::Stream,
        ops::Precision,
    };

    fn config(widths: [usize; 2], encoder: usize, middle: usize, decoder: usize) -> BridgeNetConfig {
        BridgeNetConfig {
            in_channels: 3,
            unshuffle: 2,
            widths: widths.to_vec(),
            encoder: vec![encoder],
            middle,
            decoder: vec![decoder],
            time_features: 8,
        }
    }

    fn drawn(layout: &Layout) -> Vec<f32> {
        let mut draw = Stream::new(3, 0);
        (0..layout.len()).map(|_| (draw.next_f32() - 0.5) * 0.2).collect()
    }

    fn restored(layout: &Layout, values: &[f32]) -> Vec<f32> {
        let mut draw = Stream::new(4, 0);
        let x: Vec<f32> = (0..3 * 24 * 32).map(|_| draw.next_f32() * 2.0 - 1.0).collect();
        let x = Tensor::from_vec(x, (1, 3, 24, 32), &Device::Cpu).unwrap();
        let net = BridgeNet::new(layout.clone(), values.to_vec(), &Device::Cpu, Precision::F32).unwrap();
        let out = net.forward(&x, &[0.7], &Cancel::default()).unwrap();
        out.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_grown_network_computes_the_same() {
        let from = Layout::new(&config([16, 32], 1, 1, 0)).unwrap();
        let old = drawn(&from);
        let expected = restored(&from, &old);
        for to in [
            config([16, 32], 1, 1, 0),
            config([32, 48], 1, 1, 0),
            config([16, 32], 3, 2, 1),
            config([48, 64], 2, 3, 2),
        ] {
            let to = Layout::new(&to).unwrap();
            let got = restored(&to, &grow(&from, &old, &to, 5).unwrap());
            for (got, expected) in got.iter().zip(&expected) {
                assert!(
                    (got - expected).abs() <= 1e-4 * expected.abs().max(1.0),
                    "{got} {expected} {:?}",
                    to.config()
                );
            }
        }
    }

    #[test]
    fn a_larger_or_other_network_is_refused() {
        let from = Layout::new(&config([32, 48], 1, 1, 1)).unwrap();
        let old = drawn(&from);
        let mut other = config([32, 48], 1, 1, 1);
        other.time_features = 16;
        for to in [config([16, 48], 1, 1, 1), config([32, 48], 0, 1, 1), config([32, 48], 1, 0, 1), other] {
            let refused = grow(&from, &old, &Layout::new(&to).unwrap(), 5).unwrap_err();
            let text = refused.to_string();
            assert!(text.contains("train.init") && !text.contains("BridgeNetConfig"), "{text}");
            assert!(text.contains("widths [32, 48], blocks encoder [1], middle 1, decoder [1]"), "{text}");
        }
    }
}
