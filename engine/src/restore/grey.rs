// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture without colour stays without colour: a network's three answers to the same question differ by its
//! error alone, so their mean is both grey and nearer.

/// Whether all of `rgb`, planes `(3, height, width)`, is equal in R, G and B.
pub fn is_grey(rgb: &[f32]) -> bool {
    let (r, rest) = rgb.split_at(rgb.len() / 3);
    let (g, b) = rest.split_at(r.len());
    r == g && r == b
}

/// R, G and B, planes `(3, height, width)`, become their mean; what is grey already keeps its bits.
pub(super) fn make_grey(rgb: &mut [f32]) {
    let (r, rest) = rgb.split_at_mut(rgb.len() / 3);
    let (g, b) = rest.split_at_mut(r.len());
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        *r += ((*g - *r) + (*b - *r)) / 3.0;
        (*g, *b) = (*r, *r);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_of_colour_is_colour() {
        let grey = [0.5, -0.25, 0.5, -0.25, 0.5, -0.25];
        assert!(is_grey(&grey) && is_grey(&[]));
        for i in 0..grey.len() {
            let mut other = grey;
            other[i] += 1e-6;
            assert!(!is_grey(&other), "{i}");
        }
        assert!(!is_grey(&[f32::NAN; 3]), "what is not a number is not equal");
    }

    #[test]
    fn the_mean_is_grey_and_what_is_grey_keeps_its_bits() {
        let mut rgb = [0.3, 0.1, 0.6, 0.1, 0.9, 0.1];
        make_grey(&mut rgb);
        assert!(is_grey(&rgb));
        assert!((rgb[0] - 0.6).abs() < 1e-6);
        assert_eq!(rgb[1], 0.1);
    }
}
