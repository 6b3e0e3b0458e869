// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a sampler sees of a network: a state goes in, a clean prediction comes out.

use candle_core::Tensor;

use crate::{
    Cancel, Result,
    combine::{Term, weighted_sum},
    net::Network,
    schedule::Schedule,
};

/// Predicts the clean picture from the state at one step.
pub trait Denoiser {
    /// One network evaluation.
    ///
    /// - `xt`: the state at index `step`, `(B, C, H, W)`, f32.
    ///
    /// Returns x̂0 of the same shape, on the same device.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] if asked to stop, otherwise what the network reports.
    fn x0(&self, xt: &Tensor, step: usize, cancel: &Cancel) -> Result<Tensor>;
}

/// A network of SPEC section 4 as a [`Denoiser`]: `x̂0 = x_n − σ_n·net(x_n, n)`.
pub struct BridgeDenoiser<'a> {
    /// The network. Height and width must be multiples of its stride.
    pub network: &'a dyn Network,
    /// The schedule that it was trained on.
    pub schedule: &'a Schedule,
    /// Clamp the prediction to [-1, 1] (`clip_denoise`).
    pub clip: bool,
    /// For networks with `cond_x1`: x1 as it is before any `add_x1_noise`, `(B, C, H, W)`; it is
    /// appended to the state's channels (SPEC 6).
    pub cond: Option<Tensor>,
}

impl Denoiser for BridgeDenoiser<'_> {
    fn x0(&self, xt: &Tensor, step: usize, cancel: &Cancel) -> Result<Tensor> {
        self.schedule.check_step(step)?;
        let levels = vec![self.schedule.noise_levels[step]; xt.dim(0)?];
        let state = match &self.cond {
            Some(cond) => &Tensor::cat(&[xt, cond], 1)?,
            None => xt,
        };
        let x0 = self.network.added(state, &levels, -self.schedule.std_fwd[step], cancel)?;
        if !self.clip {
            return Ok(x0);
        }
        // What went beyond a short type's range must not become a colour.
        let finite = x0.sum_all()?.to_scalar::<f32>()?.is_finite();
        if !finite {
            return Ok(x0);
        }
        weighted_sum(&[Term { weights: &[1.0], tensor: &x0 }], Some((-1.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use candle_core::{DType, Device};

    use super::*;
    use crate::schedule::ScheduleConfig;

    /// Answers 1 everywhere and keeps what it was asked.
    struct Ones {
        asked: Mutex<Vec<(Vec<usize>, Vec<f32>)>>,
    }

    impl Network for Ones {
        fn forward(&self, x: &Tensor, noise_level: &[f32], _cancel: &Cancel) -> Result<Tensor> {
            let channels_mean = x.mean((0, 2, 3))?.to_vec1::<f32>()?;
            let mut asked = self.asked.lock().unwrap();
            asked.push((x.dims().to_vec(), [channels_mean, noise_level.to_vec()].concat()));
            Ok(x.narrow(1, 0, 3)?.ones_like()?)
        }

        fn in_channels(&self) -> usize {
            3
        }

        fn stride(&self) -> usize {
            1
        }

        fn halo(&self) -> Option<usize> {
            Some(0)
        }

        fn macs_per_pixel(&self, _height: usize, _width: usize) -> f64 {
            0.0
        }
    }

    #[test]
    fn the_network_sees_state_condition_and_noise_level() {
        let schedule = Schedule::new(ScheduleConfig::default()).unwrap();
        let network = Ones { asked: Mutex::default() };
        let full = |value: f32| Tensor::full(value, (2, 3, 4, 5), &Device::Cpu).unwrap();
        let cancel = Cancel::default();
        for (cond, clip) in [(None, false), (Some(full(0.25)), false), (None, true)] {
            let denoiser =
                BridgeDenoiser { network: &network, schedule: &schedule, clip, cond: cond.clone() };
            let x0 = denoiser.x0(&full(2.0), 500, &cancel).unwrap();
            let want = if clip { 1.0 } else { 2.0 - schedule.std_fwd[500] };
            let values = x0.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(values.iter().all(|&v| v == want), "{values:?}");
            let (dims, seen) = network.asked.lock().unwrap().pop().unwrap();
            let level = schedule.noise_levels[500];
            match cond {
                None => assert_eq!((dims[1], seen), (3, vec![2.0, 2.0, 2.0, level, level])),
                Some(_) => {
                    assert_eq!((dims[1], seen), (6, vec![2.0, 2.0, 2.0, 0.25, 0.25, 0.25, level, level]));
                }
            }
        }
        let denoiser = BridgeDenoiser { network: &network, schedule: &schedule, clip: false, cond: None };
        assert!(denoiser.x0(&full(0.0), 1000, &cancel).is_err());
    }
}
