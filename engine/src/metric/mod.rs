// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a picture is from another: PSNR, SSIM, LPIPS; and how steady a clip is in time.
//!
//! All compare what files would hold: values are rounded to 8 bits first. Pictures are planes
//! `(3, height, width)` in [-1, 1].

mod lpips;
mod ssim;
mod still;
mod warp;

pub use lpips::{Lpips, LpipsFeatures};
pub use ssim::ssim;
pub use still::StillMeter;
pub use warp::WarpMeter;

use crate::{
    Error, Result,
    picture::{from_u8, to_u8},
};

/// Peak signal-to-noise ratio in dB over the three channels together, peak 255, after rounding both
/// pictures to 8 bits: `10·log10(255² / mean (a − b)²)`. Equal pictures give infinity.
///
/// # Errors
/// [`Error::Shape`] if the lengths differ or are zero.
pub fn psnr_rgb(a: &[f32], b: &[f32]) -> Result<f64> {
    same_length("PSNR", a, b)?;
    let squared = |(a, b): (&f32, &f32)| {
        let step = i64::from(to_u8(*a)) - i64::from(to_u8(*b));
        (step * step) as u64
    };
    // Whole numbers: the sum is exact, whatever the size.
    let sum: u64 = a.iter().zip(b).map(squared).sum();
    Ok(10.0 * (255.0 * 255.0 * a.len() as f64 / sum as f64).log10())
}

fn same_length(what: &str, a: &[f32], b: &[f32]) -> Result<()> {
    if a.len() != b.len() || a.is_empty() {
        return Err(Error::shape(what, &[a.len(), b.len()], "two pictures of one size"));
    }
    Ok(())
}

fn same_size(what: &str, a: &[f32], b: &[f32], width: usize, height: usize) -> Result<()> {
    same_length(what, a, b)?;
    if a.len() != 3 * width * height {
        return Err(Error::shape(what, &[a.len()], format!("3 planes of {width}×{height}")));
    }
    Ok(())
}

/// The value as an 8-bit file holds it.
fn rounded(value: f32) -> f32 {
    from_u8(to_u8(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psnr_of_known_errors() {
        let grey = |v: u8| vec![from_u8(v); 300];
        // One step everywhere: 20·log10(255). Half of that counts as none or one by rounding.
        assert!((psnr_rgb(&grey(100), &grey(101)).unwrap() - 48.130_803_608_679_1).abs() < 1e-9);
        assert!((psnr_rgb(&grey(0), &grey(255)).unwrap()).abs() < 1e-9);
        assert_eq!(psnr_rgb(&grey(9), &grey(9)).unwrap(), f64::INFINITY);
        let nearly = vec![from_u8(9) + 0.003; 300];
        assert_eq!(psnr_rgb(&grey(9), &nearly).unwrap(), f64::INFINITY);
        assert!(psnr_rgb(&[], &[]).is_err() && psnr_rgb(&[0.0], &[0.0, 0.0]).is_err());
    }
}
