// SPDX-License-Identifier: MIT OR Apache-2.0
//! AdamW on one flat vector, in a single pass.

use rayon::prelude::*;

/// Values that one task updates; fixed, so that the result does not depend on the threads.
const CHUNK: usize = 1 << 14;

/// Settings of [`AdamW`], except the learning rate, which may change each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    /// The reference's settings (SPEC section 10).
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// The optimiser's state (SPEC section 10).
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// The settings.
    pub config: AdamWConfig,
    /// Mean of the gradients.
    pub mean: Vec<f32>,
    /// Mean of their squares.
    pub square: Vec<f32>,
    /// Steps taken.
    pub steps: u64,
}

impl AdamW {
    /// A fresh state for `len` parameters.
    pub fn new(config: AdamWConfig, len: usize) -> Self {
        Self { config, mean: vec![0.0; len], square: vec![0.0; len], steps: 0 }
    }

    /// `p ← p·(1 − lr·wd)`, then `p ← p − lr·(m/(1−β1ᵏ)) / (√(v/(1−β2ᵏ)) + eps)`.
    ///
    /// Panics if the lengths differ.
    pub fn step(&mut self, params: &mut [f32], grad: &[f32], lr: f64) {
        assert!(params.len() == grad.len() && params.len() == self.mean.len());
        self.steps += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        let k = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let rate = (lr / (1.0 - beta1.powi(k))) as f32;
        let root = (1.0 - beta2.powi(k)).sqrt() as f32;
        let keep = (1.0 - lr * weight_decay) as f32;
        let (b1, b2, eps) = (beta1 as f32, beta2 as f32, eps as f32);
        let (a1, a2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
        let state = self.mean.par_chunks_mut(CHUNK).zip(self.square.par_chunks_mut(CHUNK));
        params.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK)).zip(state).for_each(|((p, g), (m, v))| {
            for i in 0..p.len() {
                m[i] = b1 * m[i] + a1 * g[i];
                v[i] = b2 * v[i] + a2 * g[i] * g[i];
                p[i] = p[i] * keep - rate * m[i] / (v[i].sqrt() / root + eps);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_by_hand() {
        let config = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
        let mut adam = AdamW::new(config, 1);
        let mut p = vec![1.0f32];
        let (mut m, mut v, mut want) = (0f64, 0f64, 1f64);
        for (k, g) in [(1, 0.5f64), (2, -0.25)] {
            adam.step(&mut p, &[g as f32], 0.01);
            want *= 1.0 - 0.01 * 0.1;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            want -= 0.01 * (m / (1.0 - 0.9f64.powi(k))) / ((v / (1.0 - 0.999f64.powi(k))).sqrt() + 1e-8);
            assert!((f64::from(p[0]) - want).abs() < 1e-6, "step {k}: {} {want}", p[0]);
        }
    }

    /// Lengths around and far from a task's size, on one thread and on several.
    #[test]
    fn threads_do_not_change_a_bit() {
        let run = |threads: usize, len: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let noise = |draw: u32| {
                let key = crate::noise::NoiseKey { seed: 3, frame: 0, draw };
                crate::noise::normal(key, 1, 0..1, 0..len)
            };
            let mut adam = AdamW::new(AdamWConfig { weight_decay: 0.01, ..AdamWConfig::default() }, len);
            let mut params = noise(0);
            for step in 1..4 {
                pool.install(|| adam.step(&mut params, &noise(step), 1e-3));
            }
            (params, adam)
        };
        for len in [1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7] {
            assert_eq!(run(1, len), run(3, len), "{len} values");
        }
    }
}
