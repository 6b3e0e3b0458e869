// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same network in f32, for pictures whose numbers go beyond a shorter type's range.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use rayon::prelude::*;

use crate::{Error, Result, net::Network, ops::Precision};

/// Builds the network in f32.
pub(super) type Build = Box<dyn Fn() -> Result<Box<dyn Network>> + Send + Sync>;

/// Built when the first picture needs it, and kept.
#[derive(Default)]
pub(super) struct Exact {
    /// `None`: the network came without its weights.
    build: Option<Build>,
    network: Mutex<Option<Arc<dyn Network>>>,
}

impl Exact {
    pub fn new(build: Build) -> Self {
        Self { build: Some(build), ..Self::default() }
    }

    /// What `precision` gave, if all of it is finite, else what `again` makes of the network in f32, which
    /// `count` counts.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if there is no network in f32, and what building it and `again` report.
    pub fn unless_finite(
        &self,
        precision: Precision,
        given: Vec<f32>,
        count: &AtomicU64,
        again: impl FnOnce(&dyn Network) -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        let Some(value) = (if precision == Precision::F32 { None } else { first_wrong(&given) }) else {
            return Ok(given);
        };
        let Some(build) = &self.build else {
            let what = format!("restored picture in {}; choose precision f32", precision.name());
            return Err(Error::NotFinite { what, value });
        };
        drop(given);
        let kept = || self.network.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept().clone();
        let network = match found {
            Some(network) => network,
            // Without the lock: who waits for its threads may be given a picture that comes here, too.
            None => {
                let built: Arc<dyn Network> = Arc::from(build()?);
                kept().get_or_insert(built).clone()
            }
        };
        let restored = again(&*network)?;
        count.fetch_add(1, Ordering::Relaxed);
        Ok(restored)
    }
}

/// The first value that is not finite.
fn first_wrong(values: &[f32]) -> Option<f32> {
    // A part at a time without a branch inside, so that it vectorises.
    let wrong = |part: &[f32]| part.iter().fold(false, |wrong, v| wrong | !v.is_finite());
    let part = values.par_chunks(1 << 14).find_first(|part| wrong(part))?;
    part.iter().copied().find(|v| !v.is_finite())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::{
        Cancel,
        preset::{PresetConfig, tiny},
        restore::{Request, RestoreOptions, Restorer},
    };

    /// Answers 1 everywhere, or infinity once the picture is brighter than `limit`, as a short type would.
    struct Short {
        limit: f32,
    }

    impl Network for Short {
        fn forward(&self, x: &Tensor, _: &[f32], _: &Cancel) -> Result<Tensor> {
            let brightest = x.max_all()?.to_scalar::<f32>()?;
            let answer = if brightest > self.limit { f32::INFINITY } else { 1.0 };
            Ok(Tensor::full(answer, x.dims(), &Device::Cpu)?)
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

        fn macs_per_pixel(&self, _: usize, _: usize) -> f64 {
            0.0
        }
    }

    fn restorer(precision: Precision, exact: Exact) -> Restorer {
        let options = RestoreOptions { precision, ..RestoreOptions::default() };
        let network = Box::new(Short { limit: 0.5 });
        let config = PresetConfig::parse(tiny::CONFIG, "test").unwrap();
        Restorer::assemble(network, Device::Cpu, config, String::new(), options, exact).unwrap()
    }

    fn restore(restorer: &Restorer, brightness: f32) -> Result<Vec<f32>> {
        restorer.restore(&[brightness; 3 * 8 * 6], 8, 6, &Request::default(), &Cancel::default())
    }

    #[test]
    fn what_overflows_is_computed_again_and_counted() {
        let built = Arc::new(AtomicU64::new(0));
        let count = built.clone();
        let build = move || -> Result<Box<dyn Network>> {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(Short { limit: 2.0 }))
        };
        let short = restorer(Precision::Bf16, Exact::new(Box::new(build)));
        let plain = restorer(Precision::F32, Exact::default());
        let dark = restore(&short, 0.25).unwrap();
        assert_eq!(dark, restore(&plain, 0.25).unwrap());
        assert_eq!((short.recomputed(), built.load(Ordering::Relaxed)), (0, 0));
        for count in 1..4 {
            let bright = restore(&short.clone(), 0.75).unwrap();
            assert!(bright.iter().zip(&dark).all(|(b, d)| (b - d - 0.5).abs() < 1e-6), "{bright:?}");
            assert_eq!((short.recomputed(), built.load(Ordering::Relaxed)), (count, 1));
        }
    }

    #[test]
    fn without_weights_it_is_an_error_that_says_what_to_do() {
        let error = restore(&restorer(Precision::F16, Exact::default()), 0.75).unwrap_err().to_string();
        assert!(error.contains("f16") && error.contains("inf") && error.contains("precision f32"), "{error}");
    }
}
