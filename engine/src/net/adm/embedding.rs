// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sinusoidal embedding of time (SPEC section 7.2).

use candle_core::{Device, Tensor};

use crate::Result;

/// `f_i = exp(−ln(10000)·i/h)`, `[cos(t·f_i) …, sin(t·f_i) …]`, a trailing 0 if `dim` is odd.
///
/// - `times`: one per batch item, 0 … 1000.
///
/// Returns `(B, dim)`, f32. Frequencies and angles are rounded to f32, as in the reference.
///
/// # Errors
/// [`crate::Error::Tensor`] if the device fails.
pub fn timestep_embedding(times: &[f32], dim: usize, device: &Device) -> Result<Tensor> {
    let half = dim / 2;
    let mut values = Vec::with_capacity(times.len() * dim);
    for t in times {
        let angle = |i: usize| t * (-(10_000f64.ln() as f32) * i as f32 / half as f32).exp();
        values.extend((0..half).map(|i| angle(i).cos()));
        values.extend((0..half).map(|i| angle(i).sin()));
        values.extend(std::iter::repeat_n(0.0, dim % 2));
    }
    Ok(Tensor::from_vec(values, (times.len(), dim), device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_come_first_and_odd_widths_end_in_zero() {
        let e = timestep_embedding(&[0.0, 1.0], 5, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(e[0], [1.0, 1.0, 0.0, 0.0, 0.0]);
        let f = 0.01f32; // exp(-ln(10000)/2)
        let expected = [1f32.cos(), f.cos(), 1f32.sin(), f.sin(), 0.0];
        assert!(e[1].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{e:?}");
    }
}
