// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shrunk and enlarged again, as pictures that were stored too small.

use super::{Arguments, Degradation, Degraded, Span, as_file, check};
use crate::{
    Result,
    noise::Stream,
    picture::resize::{Filter, resize},
};

const FILTERS: &[(&str, Option<Filter>)] = &[
    ("area", Some(Filter::Area)),
    ("cubic", Some(Filter::Cubic)),
    ("lanczos", Some(Filter::Lanczos3)),
    ("any", None),
];

struct DownUp {
    factor: Span,
    /// Filter of the way down; `None`: drawn. The way up is cubic.
    filter: Option<Filter>,
}

pub(super) fn build(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    let factor = arguments.span("FACTOR", 1.0..=16.0)?;
    let filter = arguments.choice(FILTERS).unwrap_or(Some(Filter::Cubic));
    Ok(Box::new(DownUp { factor, filter }))
}

impl Degradation for DownUp {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        let factor = self.factor.draw(rng);
        let drawn = [Filter::Area, Filter::Cubic, Filter::Lanczos3][rng.below(3) as usize];
        let small = |side: usize| ((side as f32 / factor).round() as usize).max(1);
        let (narrow, low) = (small(width), small(height));
        let mut shrunk = resize(x0, (width, height), (narrow, low), self.filter.unwrap_or(drawn));
        as_file(&mut shrunk);
        let mut x1 = resize(&shrunk, (narrow, low), (width, height), Filter::Cubic);
        as_file(&mut x1);
        Ok(Degraded { x1, mask: None })
    }
}
