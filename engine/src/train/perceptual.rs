// SPDX-License-Identifier: MIT OR Apache-2.0
//! The perceptual part of the loss: LPIPS of the estimate x̂0 = x_n − σ_n·net to x0.

use crate::{Result, metric::Lpips, net::bridge::Example};

/// Added to the distance of the state itself, so that hardly damaged pictures do not outweigh the others.
const NEAR: f64 = 0.02;

/// Measures estimates as a person might.
pub struct Perceptual {
    lpips: Lpips,
    share: f32,
    size: (usize, usize),
}

impl Perceptual {
    /// - `share`: weight of this loss beside the squares.
    /// - `size`: width and height of the crops, 32 or more each.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if memory cannot be had.
    pub fn new(share: f32, size: (usize, usize)) -> Result<Self> {
        Ok(Self { lpips: Lpips::new()?, share, size })
    }

    /// `share` times the estimate's distance from x0, relative to that of the state x_n; its gradient by the
    /// network's output `net`, `(3, h, w)`, is added to `d_net`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the example has another size.
    pub fn loss(&self, example: &Example, net: &[f32], d_net: &mut [f32]) -> Result<f64> {
        let (width, height) = self.size;
        let (state, std) = (&example.xt[..net.len()], example.std);
        let minus = |by: &[f32]| -> Vec<f32> { state.iter().zip(by).map(|(x, v)| x - std * v).collect() };
        let clean = self.lpips.features(&minus(&example.target), width, height)?;
        let before = self.lpips.between(&clean, &self.lpips.features(state, width, height)?)?;
        let (distance, gradient) = self.lpips.gradient(&clean, &minus(net), self.size)?;
        let scale = f64::from(self.share) / (before + NEAR);
        d_net.iter_mut().zip(&gradient).for_each(|(d, g)| *d -= scale as f32 * std * g);
        Ok(scale * distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;

    #[test]
    fn gradient_leads_down_and_a_perfect_answer_costs_nothing() {
        let (size, mut rng) = ((32, 40), Stream::new(5, 5));
        let mut any =
            |amount: f32| -> Vec<f32> { (0..3 * 32 * 40).map(|_| amount * rng.next_normal()).collect() };
        let (x0, noise) = (any(0.4), any(0.2));
        let std = 0.5;
        let xt: Vec<f32> = x0.iter().zip(&noise).map(|(x, n)| x + n).collect();
        let target: Vec<f32> = noise.iter().map(|n| n / std).collect();
        let example = Example { xt, target: target.clone(), noise_level: 1.0, std, weight: 1.0 };
        let perceptual = Perceptual::new(2.0, size).unwrap();
        // The state is on no 8-bit grid, on which the metric would have it.
        assert!(perceptual.loss(&example, &target, &mut vec![0.0; noise.len()]).unwrap() < 0.05);
        let mut d_net = vec![0.0; noise.len()];
        let net = vec![0.0; noise.len()];
        let at = perceptual.loss(&example, &net, &mut d_net).unwrap();
        assert!(at > 0.5 && at <= 2.0, "{at}");
        let norm = d_net.iter().map(|d| d * d).sum::<f32>();
        let moved: Vec<f32> = d_net.iter().map(|d| -d * 0.01 / norm).collect();
        let fell = at - perceptual.loss(&example, &moved, &mut vec![0.0; noise.len()]).unwrap();
        assert!((fell - 0.01).abs() < 0.002, "{fell}");
    }
}
