// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers to bytes and back, each channel of a map in steps of its own.

use super::lanes::Lanes;

/// What the bytes of a map mean, channel by channel: `value = (byte − zero)·step`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scales {
    pub(super) step: Vec<f32>,
    inverse: Vec<f32>,
    /// The bytes of 0, which is exact.
    pub(super) zero: Vec<u8>,
    /// The same as floats.
    pub(super) offset: Vec<f32>,
}

impl Scales {
    /// Bytes over each channel's values from `low` to `high`, both finite, `low ≤ 0 ≤ high` and not equal.
    pub fn new(ranges: &[[f32; 2]]) -> Self {
        let step: Vec<f32> = ranges.iter().map(|[low, high]| (high - low) / 255.0).collect();
        let zero: Vec<u8> =
            ranges.iter().zip(&step).map(|([low, _], step)| (-low / step).round() as u8).collect();
        let inverse = step.iter().map(|step| 1.0 / step).collect();
        Self { offset: zero.iter().map(|zero| f32::from(*zero)).collect(), step, inverse, zero }
    }

    /// The bytes of 0.
    pub fn zero(&self) -> &[u8] {
        &self.zero
    }

    /// What bytes say of a value.
    pub fn rounded(&self, channel: usize, v: f32) -> f32 {
        let steps = v.mul_add(self.inverse[channel], self.offset[channel]).clamp(0.0, 255.0);
        (steps.round_ties_even() - self.offset[channel]) * self.step[channel]
    }

    /// Rounds a register of the channels from `channel` on; values beyond their range become its ends.
    ///
    /// # Safety
    /// There are these channels, and `to` is good for as many bytes. The caller has the instruction set of `L`.
    #[inline(always)]
    pub unsafe fn store<L: Lanes>(&self, values: L, channel: usize, to: *mut u8) {
        debug_assert!(channel + L::N <= self.inverse.len());
        // SAFETY: the caller's contract; the values are brought into the range of a byte.
        unsafe {
            let (inverse, offset) = (self.inverse.as_ptr().add(channel), self.offset.as_ptr().add(channel));
            values.mul_add(L::load(inverse), L::load(offset)).clamp(0.0, 255.0).store_bytes(to);
        }
    }
}
