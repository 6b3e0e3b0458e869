// SPDX-License-Identifier: MIT OR Apache-2.0
//! Degradations made of others: one after the other, and one of several.

use std::path::Path;

use super::{Degradation, Degraded, Nothing};
use crate::{Result, noise::Stream};

/// Several degradations, one after the other.
pub(super) struct Chain(pub Vec<Box<dyn Degradation>>);

impl Degradation for Chain {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        let mut whole = Nothing.degrade(x0, width, height, rng)?;
        for step in &self.0 {
            let next = step.degrade(&whole.x1, width, height, rng)?;
            whole.x1 = next.x1;
            whole.mask = match (whole.mask, next.mask) {
                (Some(a), Some(b)) => Some(a.iter().zip(&b).map(|(a, b)| a.max(*b)).collect()),
                (a, b) => a.or(b),
            };
        }
        Ok(whole)
    }

    fn pairs(&self) -> Option<&Path> {
        self.0.first().and_then(|step| step.pairs())
    }
}

/// Alternatives, one of which is drawn for each picture.
pub(super) struct OneOf(pub Vec<Box<dyn Degradation>>);

impl Degradation for OneOf {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        let way = rng.below(self.0.len() as u64) as usize;
        self.0[way].degrade(x0, width, height, rng)
    }
}
