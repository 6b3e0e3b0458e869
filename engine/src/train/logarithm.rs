// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Loss::Logarithm`](super::recipe::Loss::Logarithm): the logarithm of an example's squared error, whose mean over
//! pictures is, up to a factor of −10/ln 10, the gain in PSNR that an evaluation reports.

use crate::net::bridge::Example;

/// `ln((mse(net, target) + near)/(mse(target) + near))`: what doing nothing costs is 0. Its gradient by the network's
/// output `net`, `(3, h, w)`, is added to `d_net`. `near` is a mean square in units of the network's output: errors
/// well below it no longer count.
pub fn loss(example: &Example, net: &[f32], near: f64, d_net: &mut [f32]) -> f64 {
    let count = net.len() as f64;
    let mean = |sum: f64| sum / count + near;
    let target = &example.target;
    let after = mean(net.iter().zip(target).map(|(v, t)| f64::from(v - t).powi(2)).sum());
    let before = mean(target.iter().map(|t| f64::from(*t).powi(2)).sum());
    let scale = (2.0 / (count * after)) as f32;
    for ((d, v), t) in d_net.iter_mut().zip(net).zip(target) {
        *d += scale * (v - t);
    }
    (after / before).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;

    #[test]
    fn is_the_gain_in_decibels_and_its_gradient_is_its_slope() {
        let mut rng = Stream::new(3, 4);
        let mut any =
            |amount: f32| -> Vec<f32> { (0..3 * 8 * 8).map(|_| amount * rng.next_normal()).collect() };
        let target = any(0.5);
        let net: Vec<f32> = target.iter().zip(any(0.2)).map(|(t, n)| t + n).collect();
        let example = Example { xt: vec![], target: target.clone(), noise_level: 1.0, std: 1.0, weight: 1.0 };
        let mut grad = vec![0.0; net.len()];
        let at = loss(&example, &net, 0.0, &mut grad);
        let square = |a: &[f32]| a.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let error: Vec<f32> = net.iter().zip(&target).map(|(v, t)| v - t).collect();
        let gain_db = 10.0 * (square(&target) / square(&error)).log10();
        assert!((gain_db + 10.0 / 10f64.ln() * at).abs() < 1e-4, "{gain_db} dB, {at}");
        assert_eq!(loss(&example, &vec![0.0; net.len()], 1e-3, &mut grad.clone()), 0.0);

        let moved = |by: f32| -> Vec<f32> { net.iter().zip(&grad).map(|(v, d)| v + by * d).collect() };
        let slope = (loss(&example, &moved(0.01), 0.0, &mut grad.clone())
            - loss(&example, &moved(-0.01), 0.0, &mut grad.clone()))
            / 0.02;
        assert!((slope / square(&grad) - 1.0).abs() < 1e-3, "{slope}");
        // A perfect answer is finite with a floor, and pulls nowhere.
        let mut none = vec![0.0; net.len()];
        assert!(loss(&example, &target, 1e-6, &mut none).is_finite() && none.iter().all(|d| *d == 0.0));
    }
}
