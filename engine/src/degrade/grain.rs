// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gaussian noise, as from a sensor at high gain.

use super::{Arguments, Degradation, Degraded, Span, as_file, check};
use crate::{Result, noise::Stream};

struct Grain {
    /// Standard deviation in 8-bit steps.
    strength: Span,
    mono: bool,
}

pub(super) fn build(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    let strength = arguments.span("STRENGTH", 0.0..=255.0)?;
    let mono = arguments.choice(&[("mono", true)]).unwrap_or(false);
    Ok(Box::new(Grain { strength, mono }))
}

impl Degradation for Grain {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let std = self.strength.draw(rng) / 127.5;
        let plane = width * height;
        let drawn = if self.mono { plane } else { 3 * plane };
        let noise: Vec<f32> = (0..drawn).map(|_| rng.next_normal()).collect();
        let mut x1: Vec<f32> = x0.iter().zip(noise.iter().cycle()).map(|(x, n)| x + std * n).collect();
        as_file(&mut x1);
        Ok(Degraded { x1, mask: None })
    }
}
