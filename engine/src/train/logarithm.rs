// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Loss::Logarithm`](super::recipe::Loss::Logarithm): the logarithm of an example's squared error, whose mean over
//! pictures is, up to a factor of −10/ln 10, the gain in PSNR that an evaluation reports.

use super::example::mean_square;
use crate::net::bridge::Example;

/// PSNR in dB from which on an error is no harm: hundreds of a code value.
const HARMLESS: f32 = 60.0;

/// What the loss asks for.
#[derive(Debug, Clone, Copy)]
pub struct Care {
    /// PSNR in dB from which on errors no longer count.
    pub near: f32,
    /// Weight of `ln((mse(net, target) + ε)/(mse(target) + ε))` where it is above 0: where doing nothing would have been
    /// better, however small both errors are. ε is the mean square at 60 dB.
    pub harm: f32,
}

/// `ln((mse(net, target) + near)/(mse(target) + near))`, `near` as a mean square, and what harms: what doing nothing
/// costs is 0. Its gradient by the network's output `net`, `(3, h, w)`, is added to `d_net`.
pub fn loss(example: &Example, net: &[f32], care: Care, d_net: &mut [f32]) -> f64 {
    let count = net.len() as f64;
    let target = &example.target;
    let after = net.iter().zip(target).map(|(v, t)| f64::from(v - t).powi(2)).sum::<f64>() / count;
    let before = target.iter().map(|t| f64::from(*t).powi(2)).sum::<f64>() / count;
    let floor = |db: f32| f64::from(mean_square(db) / (example.std * example.std));
    let (near, tiny, harm) = (floor(care.near), floor(HARMLESS), f64::from(care.harm));
    let (mut loss, mut slope) = (((after + near) / (before + near)).ln(), 1.0 / (after + near));
    if after > before {
        loss += harm * ((after + tiny) / (before + tiny)).ln();
        slope += harm / (after + tiny);
    }
    let scale = (2.0 / count * slope) as f32;
    for ((d, v), t) in d_net.iter_mut().zip(net).zip(target) {
        *d += scale * (v - t);
    }
    loss
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
        let care = Care { near: 80.0, harm: 0.0 };
        let at = loss(&example, &net, care, &mut grad);
        let square = |a: &[f32]| a.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let error: Vec<f32> = net.iter().zip(&target).map(|(v, t)| v - t).collect();
        let gain_db = 10.0 * (square(&target) / square(&error)).log10();
        assert!((gain_db + 10.0 / 10f64.ln() * at).abs() < 1e-4, "{gain_db} dB, {at}");
        assert_eq!(loss(&example, &vec![0.0; net.len()], care, &mut grad.clone()), 0.0);

        let moved = |by: f32| -> Vec<f32> { net.iter().zip(&grad).map(|(v, d)| v + by * d).collect() };
        let slope = (loss(&example, &moved(0.01), care, &mut grad.clone())
            - loss(&example, &moved(-0.01), care, &mut grad.clone()))
            / 0.02;
        assert!((slope / square(&grad) - 1.0).abs() < 1e-3, "{slope}");
        // A perfect answer is finite with a floor, and pulls nowhere.
        let mut none = vec![0.0; net.len()];
        assert!(loss(&example, &target, care, &mut none).is_finite() && none.iter().all(|d| *d == 0.0));
    }

    #[test]
    fn what_harms_counts_however_small_it_is() {
        let mut rng = Stream::new(8, 1);
        let mut any =
            |amount: f32| -> Vec<f32> { (0..3 * 8 * 8).map(|_| amount * rng.next_normal()).collect() };
        let (target, wrong) = (any(1e-2), any(2e-2));
        let example = Example { xt: vec![], target: target.clone(), noise_level: 1.0, std: 1.0, weight: 1.0 };
        let of = |share: f32, harm: f32, grad: &mut [f32]| {
            let net: Vec<f32> = target.iter().zip(&wrong).map(|(t, w)| t + share * w).collect();
            loss(&example, &net, Care { near: 20.0, harm }, grad)
        };
        let mut grad = vec![0.0; target.len()];
        // Twice the error of doing nothing, 40 dB: to `near` nothing, to `harm` ln 4 (each of them about as large).
        assert!(of(1.0, 0.0, &mut grad) < 0.02);
        let (harmed, less) = (of(1.0, 1.0, &mut grad), of(0.9, 1.0, &mut grad));
        assert!((1.0..1.8).contains(&harmed) && less < harmed, "{harmed}, {less}");
        // What is better than nothing is no harm.
        assert_eq!(of(0.2, 1.0, &mut grad), of(0.2, 0.0, &mut grad));
        // The gradient is the slope, along the error.
        grad.fill(0.0);
        of(1.0, 1.0, &mut grad);
        let along: f64 = grad.iter().zip(&wrong).map(|(d, w)| f64::from(d * w)).sum();
        let mut other = grad.clone();
        let slope = (of(1.01, 1.0, &mut other) - of(0.99, 1.0, &mut other)) / 0.02;
        assert!((slope / along - 1.0).abs() < 1e-2, "{slope}, {along}");
    }
}
