// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the inputs of neighbouring output pixels lie in a channels-last map.

/// Where the inputs of a run of output pixels lie.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a, T> {
    /// The input map.
    pub x: &'a [T],
    /// Offset of the first pixel's first tap.
    pub start: usize,
    /// Distance between the inputs of neighbouring output pixels.
    pub step: usize,
    /// Offset of each tap from the first.
    pub taps: &'a [usize],
    /// Length of each tap.
    pub k: usize,
    /// Output pixels.
    pub n: usize,
}

impl<T> Run<'_, T> {
    /// Panics if `pixels` pixels with taps of length `k` would read outside of `x`.
    pub fn check(&self, pixels: usize, k: usize) {
        let last =
            self.start + pixels.saturating_sub(1) * self.step + self.taps.iter().max().unwrap_or(&0) + k;
        assert!(last <= self.x.len(), "convolution reads {last} of {} values", self.x.len());
    }
}
