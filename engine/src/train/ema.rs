// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exponential moving average of the weights, with warm-up (SPEC section 10).

use rayon::prelude::*;

/// The averaged weights: what is sampled with, and what a preset holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Ema {
    /// Largest decay, below 1.
    pub decay: f64,
    /// Updates made.
    pub updates: u64,
    /// The average.
    pub shadow: Vec<f32>,
}

impl Ema {
    /// Starts at `params`.
    pub fn new(decay: f64, params: &[f32]) -> Self {
        Self { decay, updates: 0, shadow: params.to_vec() }
    }

    /// `k ← k+1; s ← s − (1 − min(decay, (1+k)/(10+k)))·(s − p)`.
    ///
    /// Panics if the lengths differ.
    pub fn update(&mut self, params: &[f32]) {
        assert_eq!(params.len(), self.shadow.len());
        self.updates += 1;
        let k = self.updates as f64;
        let share = (1.0 - self.decay.min((1.0 + k) / (10.0 + k))) as f32;
        self.shadow
            .par_iter_mut()
            .zip(params)
            .with_min_len(1 << 14)
            .for_each(|(s, p)| *s -= share * (*s - p));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_then_keeps_its_decay() {
        let mut ema = Ema::new(0.9, &[0.0]);
        ema.update(&[1.0]);
        assert!((ema.shadow[0] - (1.0 - 2.0 / 11.0)).abs() < 1e-6);
        for _ in 0..1000 {
            ema.update(&[0.0]);
        }
        assert!(ema.shadow[0].abs() < 1e-6);
        let before = ema.shadow[0];
        ema.update(&[1.0]);
        assert!((ema.shadow[0] - before - 0.1 * (1.0 - before)).abs() < 1e-6);
    }
}
