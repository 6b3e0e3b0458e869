// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers too small to matter count as zero, so that kernels never compute with denormals.
//!
//! Many processors take a hundred times as long for a product with a number below 2⁻¹²⁶. The processor's own
//! switch against it is no choice: it belongs to a thread, and the language's rules forbid to turn it. So weights,
//! pictures and maps hold nothing between zero and 2⁻⁴⁰, and what a kernel makes of two such numbers, even of the
//! differences that [`super::winograd`] takes of them, is far from 2⁻¹²⁶.

/// The smallest magnitude above zero that kernels read: 2⁻⁴⁰, about 9·10⁻¹³.
pub(crate) const TINY: f32 = f32::from_bits((127 - 40) << 23);

/// `v`, or 0 where it is smaller than [`TINY`]; what is no number stays what it is.
#[inline(always)]
pub(crate) fn settled(v: f32) -> f32 {
    if v.abs() < TINY { 0.0 } else { v }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_tiny_becomes_zero() {
        for v in [TINY, -TINY, 1.0, -3e38, f32::INFINITY] {
            assert_eq!(settled(v), v);
        }
        for v in [0.0, -0.0, 1e-40, -1e-40, 9e-13, f32::from_bits(1)] {
            assert_eq!(settled(v).to_bits(), 0, "{v:e}");
        }
        assert!(settled(f32::NAN).is_nan());
    }
}
