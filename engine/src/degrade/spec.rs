// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of a specification: names, ranges of numbers, choices.

use std::ops::RangeInclusive;

use super::Entry;
use crate::{Error, Result, noise::Stream};

/// A number or a range to draw it from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Smallest value.
    pub low: f32,
    /// Largest value; equal to `low` if there is nothing to draw.
    pub high: f32,
}

impl Span {
    /// A value of the range, uniform.
    pub fn draw(self, rng: &mut Stream) -> f32 {
        // Always one word, so that what follows in the stream does not depend on the range.
        let unit = rng.next_f32();
        self.low + (self.high - self.low) * unit
    }

    /// A whole number of the range, both ends included, uniform.
    pub fn draw_whole(self, rng: &mut Stream) -> u32 {
        let count = (self.high - self.low) as u64 + 1;
        self.low as u32 + rng.below(count) as u32
    }
}

/// The parts of one specification between its colons, taken one by one.
pub struct Arguments<'a> {
    whole: &'a str,
    rest: std::iter::Peekable<std::str::Split<'a, char>>,
}

impl<'a> Arguments<'a> {
    /// The parts of `spec`, name included.
    pub fn new(spec: &'a str) -> Self {
        Self { whole: spec, rest: spec.split(':').peekable() }
    }

    /// The first part.
    pub fn name(&mut self) -> &'a str {
        self.rest.next().unwrap_or_default()
    }

    /// All that is left, colons included, as it was written; `what` names it in the error.
    ///
    /// # Errors
    /// [`Error::Setting`] if nothing is left.
    pub fn remainder(&mut self, what: &str) -> Result<&'a str> {
        let name = self.whole.split(':').next().unwrap_or_default();
        let rest = self.whole.get(name.len() + 1..).unwrap_or_default();
        while self.rest.next().is_some() {}
        if rest.is_empty() { Err(self.wrong(format!("{name}:{what}"))) } else { Ok(rest) }
    }

    /// A range of numbers within `limits`; `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::Setting`] if the next part is missing, no number or range, or beyond the limits.
    pub fn span(&mut self, what: &str, limits: RangeInclusive<f32>) -> Result<Span> {
        let (low, high) = (limits.start(), limits.end());
        let Some(part) = self.rest.next().filter(|part| !part.is_empty()) else {
            return Err(self.wrong(format!("{}:{what} with {what} from {low} to {high}", self.whole)));
        };
        let number = |text: &str| {
            let value: Option<f32> = text.parse().ok().filter(|v: &f32| v.is_finite());
            value.ok_or_else(|| self.wrong(format!("{what} as a number or a range low-high")))
        };
        let span = match part.split_once('-') {
            None => number(part).map(|v| Span { low: v, high: v })?,
            Some((a, b)) => Span { low: number(a)?, high: number(b)? },
        };
        if span.low > span.high {
            return Err(self.wrong(format!("{what} as low-high, the smaller number first")));
        }
        if !limits.contains(&span.low) || !limits.contains(&span.high) {
            return Err(self.wrong(format!("{what} from {low} to {high}")));
        }
        Ok(span)
    }

    /// [`Arguments::span`] of whole numbers.
    ///
    /// # Errors
    /// As [`Arguments::span`], and for fractions.
    pub fn whole_span(&mut self, what: &str, limits: RangeInclusive<f32>) -> Result<Span> {
        let span = self.span(what, limits)?;
        if span.low.fract() != 0.0 || span.high.fract() != 0.0 {
            return Err(self.wrong(format!("{what} as a whole number")));
        }
        Ok(span)
    }

    /// [`Arguments::span`] if the next part starts like a number, else `otherwise`.
    ///
    /// # Errors
    /// As [`Arguments::span`].
    pub fn span_or(&mut self, what: &str, limits: RangeInclusive<f32>, otherwise: Span) -> Result<Span> {
        if self.more() { self.span(what, limits) } else { Ok(otherwise) }
    }

    /// The value of the next part if it is one of `choices`; otherwise the part stays.
    pub fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        let next = *self.rest.peek()?;
        let (_, value) = choices.iter().find(|(word, _)| *word == next)?;
        self.rest.next();
        Some(*value)
    }

    /// The next part, which stays.
    pub fn peek(&mut self) -> Option<&'a str> {
        self.rest.peek().copied()
    }

    /// True if a part is left.
    pub fn more(&mut self) -> bool {
        self.rest.peek().is_some()
    }

    /// Nothing may be left.
    pub(super) fn end(&mut self, entry: &Entry) -> Result<()> {
        match self.rest.next() {
            None => Ok(()),
            Some(_) => Err(self.wrong(format!("{}{}", entry.name, entry.arguments))),
        }
    }

    fn wrong(&self, limit: String) -> Error {
        Error::setting("degradation", format!("\"{}\"", self.whole), limit)
    }
}
