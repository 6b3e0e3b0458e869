// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time folded into the weights: a noise level's scale and shift are worked into each block's first convolution once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{layout::Layout, packed, time};

/// Noise levels whose folded weights are kept.
const LEVELS: usize = 16;

/// First convolutions of all blocks with one noise level's scale and shift worked in, by block.
pub(super) struct Folded<W> {
    pub weights: Vec<W>,
    pub bias: Vec<Vec<f32>>,
}

/// Those of the noise levels that were met last.
pub(super) struct Folds<W>(Mutex<HashMap<u32, Arc<Folded<W>>>>);

impl<W> Default for Folds<W> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<W> Folds<W> {
    /// `pack` gets a block's number, its width, and weights `[ky][kx][cin][cout]`.
    pub fn get(
        &self,
        layout: &Layout,
        params: &[f32],
        noise_level: f32,
        pack: impl Fn(usize, usize, &[f32]) -> W,
    ) -> Arc<Folded<W>> {
        let key = noise_level.to_bits();
        if let Some(f) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return f.clone();
        }
        let time = time::forward(layout, params, noise_level);
        let (mut weights, mut bias) = (vec![], vec![]);
        for (number, (block, modulation)) in layout.blocks.iter().zip(&time.modulation).enumerate() {
            let conv = &layout.convs[block.conv1];
            let (scale, shift) = modulation.split_at(conv.cout);
            let mut dense = packed::straight(conv, &params[conv.weight..conv.weight + conv.weights()]);
            for pixel in dense.chunks_exact_mut(conv.cout) {
                pixel.iter_mut().zip(scale).for_each(|(w, s)| *w *= 1.0 + s);
            }
            weights.push(pack(number, conv.cout, &dense));
            let b = &params[conv.bias..conv.bias + conv.cout];
            let folded = b.iter().zip(scale).zip(shift).map(|((b, s), t)| b.mul_add(1.0 + s, *t));
            bias.push(folded.collect());
        }
        let folded = Arc::new(Folded { weights, bias });
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= LEVELS {
            cache.clear();
        }
        cache.insert(key, folded.clone());
        folded
    }
}
