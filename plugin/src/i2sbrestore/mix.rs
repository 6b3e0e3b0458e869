// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several engines' results in one picture.

use std::sync::Arc;

use crate::engine::{Image, Picture};

/// Adds up results by their weights, and the inputs by what is left of 1. `whole`: a result is missing,
/// the others stand for it. One result of the whole weight is passed on as it is.
///
/// A result whose size differs from its input's is returned alone: who writes it reports it; so is one in its own
/// format, of which there is never more than one.
pub fn mix(inputs: &[Image], mut results: Vec<(Vec<Image>, f32)>, whole: bool) -> Vec<Image> {
    let total: f32 = results.iter().map(|(_, weight)| weight).sum();
    if whole && total > 0.0 {
        results.iter_mut().for_each(|(_, weight)| *weight /= total);
    }
    let total: f32 = results.iter().map(|(_, weight)| weight).sum();
    let rest = if total > 1.0 - f32::EPSILON { 0.0 } else { 1.0 - total };
    let fits = |(image, input): (&Image, &Image)| match (image, input) {
        (Image::Decoded(picture), Image::Decoded(input)) => picture.rgb.len() == input.rgb.len(),
        _ => false,
    };
    let odd = |(images, _): &(Vec<Image>, f32)| !images.iter().zip(inputs).all(fits);
    let alone = (results.len() == 1 && rest == 0.0).then_some(0).or_else(|| results.iter().position(odd));
    if let Some(index) = alone {
        return results.swap_remove(index).0;
    }
    let blend = |(index, input): (usize, &Image)| {
        // All are decoded: others were returned above.
        let Image::Decoded(input) = input else { return input.clone() };
        let mut rgb: Vec<f32> = input.rgb.iter().map(|v| v * rest).collect();
        for (images, weight) in &results {
            let Image::Decoded(picture) = &images[index] else { continue };
            rgb.iter_mut().zip(&picture.rgb).for_each(|(sum, v)| *sum += weight * v);
        }
        Image::Decoded(Arc::new(Picture::new(input.width, input.height, rgb)))
    };
    inputs.iter().enumerate().map(blend).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(value: f32) -> Vec<Image> {
        vec![Image::Decoded(Arc::new(Picture::new(2, 1, vec![value; 6])))]
    }

    #[test]
    fn weights_add_up_to_one() {
        let value = |results, whole| match &mix(&picture(0.5), results, whole)[0] {
            Image::Decoded(picture) => picture.rgb[3],
            other => panic!("{other:?}"),
        };
        assert_eq!(value(vec![(picture(1.0), 1.0)], false), 1.0);
        assert_eq!(value(vec![(picture(1.0), 0.25), (picture(0.0), 0.75)], false), 0.25);
        assert_eq!(value(vec![(picture(1.0), 0.5)], false), 0.75);
        assert_eq!(value(vec![(picture(1.0), 0.25)], true), 1.0);
    }
}
