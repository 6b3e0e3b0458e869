// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several engines' results in one picture.

use std::sync::Arc;

use crate::engine::Picture;

/// Adds up results by their weights, and the inputs by what is left of 1. `whole`: a result is missing,
/// the others stand for it. One result of the whole weight is passed on as it is.
///
/// A result whose size differs from its input's is returned alone: who writes it reports it.
pub fn mix(
    inputs: &[Arc<Picture>],
    mut results: Vec<(Vec<Arc<Picture>>, f32)>,
    whole: bool,
) -> Vec<Arc<Picture>> {
    let total: f32 = results.iter().map(|(_, weight)| weight).sum();
    if whole && total > 0.0 {
        results.iter_mut().for_each(|(_, weight)| *weight /= total);
    }
    let total: f32 = results.iter().map(|(_, weight)| weight).sum();
    let rest = if total > 1.0 - f32::EPSILON { 0.0 } else { 1.0 - total };
    let odd = |(pictures, _): &(Vec<Arc<Picture>>, f32)| {
        pictures.iter().zip(inputs).any(|(picture, input)| picture.rgb.len() != input.rgb.len())
    };
    let alone = (results.len() == 1 && rest == 0.0).then_some(0).or_else(|| results.iter().position(odd));
    if let Some(index) = alone {
        return results.swap_remove(index).0;
    }
    let blend = |(index, input): (usize, &Arc<Picture>)| {
        let mut rgb: Vec<f32> = input.rgb.iter().map(|v| v * rest).collect();
        for (pictures, weight) in &results {
            for (sum, v) in rgb.iter_mut().zip(&pictures[index].rgb) {
                *sum += weight * v;
            }
        }
        Arc::new(Picture::new(input.width, input.height, rgb))
    };
    inputs.iter().enumerate().map(blend).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(value: f32) -> Vec<Arc<Picture>> {
        vec![Arc::new(Picture::new(2, 1, vec![value; 6]))]
    }

    #[test]
    fn weights_add_up_to_one() {
        let value = |results, whole| mix(&picture(0.5), results, whole)[0].rgb[3];
        assert_eq!(value(vec![(picture(1.0), 1.0)], false), 1.0);
        assert_eq!(value(vec![(picture(1.0), 0.25), (picture(0.0), 0.75)], false), 0.25);
        assert_eq!(value(vec![(picture(1.0), 0.5)], false), 0.75);
        assert_eq!(value(vec![(picture(1.0), 0.25)], true), 1.0);
    }
}
