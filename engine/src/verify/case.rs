// SPDX-License-Identifier: MIT OR Apache-2.0
//! One case: several comparisons, of which the worst is reported.

use std::fmt;

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// The result of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseReport {
    /// Folder, file and what of it was compared.
    pub name: String,
    /// The largest error, relative to its tolerance, of all comparisons; NaN if there was none.
    pub error: f64,
    /// The tolerance of that comparison; 0: equal bits.
    pub tolerance: f64,
    /// Why the case failed; `None` if it passed.
    pub failure: Option<String>,
}

impl CaseReport {
    /// True if every comparison was within its tolerance.
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }

    pub(super) fn not_understood(name: &str, reason: impl fmt::Display) -> Self {
        let failure = Some(format!("not understood: {reason}"));
        Self { name: name.to_owned(), error: f64::NAN, tolerance: 0.0, failure }
    }
}

impl fmt::Display for CaseReport {
    /// One line: verdict, name, largest error, tolerance, and the reason of a failure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "pass" } else { "FAIL" };
        write!(f, "{verdict}  {:<56}", self.name)?;
        if !self.error.is_nan() {
            write!(f, "  error {:<8.2e} tolerance {:<8.2e}", self.error, self.tolerance)?;
        }
        match &self.failure {
            Some(reason) => write!(f, "  {}", reason.replace('\n', " ")),
            None => Ok(()),
        }
    }
}

/// Collects the comparisons of one case.
#[derive(Debug)]
pub struct Case {
    worst: Option<(f64, f64)>,
    failure: Option<String>,
}

impl Case {
    pub(super) fn new() -> Self {
        Self { worst: None, failure: None }
    }

    /// Compares two tensors element by element; both must be finite and have one shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ, [`Error::Tensor`] if a tensor cannot be read.
    pub fn close(&mut self, what: &str, got: &Tensor, want: &Tensor, tolerance: f64) -> Result<()> {
        if got.dims() != want.dims() {
            return Err(Error::shape(what, got.dims(), format!("{:?} (stored)", want.dims())));
        }
        self.values(what, &numbers(got)?, &numbers(want)?, tolerance)
    }

    /// Compares two lists of numbers; every difference must be at most `tolerance`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths differ.
    pub fn values(&mut self, what: &str, got: &[f64], want: &[f64], tolerance: f64) -> Result<()> {
        if got.len() != want.len() {
            return Err(Error::shape(what, &[got.len()], format!("{} values (stored)", want.len())));
        }
        let mut worst = (0.0, 0);
        for (at, (g, w)) in got.iter().zip(want).enumerate() {
            let difference = (g - w).abs();
            // A NaN is worse than any number, and stays.
            if difference > worst.0 || (difference.is_nan() && !f64::is_nan(worst.0)) {
                worst = (difference, at);
            }
        }
        let (error, at) = worst;
        self.error(error, tolerance, || format!("{what}[{at}] is {:e}, stored {:e}", got[at], want[at]));
        Ok(())
    }

    /// Compares two lists that must be equal.
    pub fn equal<T: PartialEq + fmt::Debug>(&mut self, what: &str, got: &[T], want: &[T]) {
        let at = got.iter().zip(want).position(|(g, w)| g != w);
        let error = if at.is_some() || got.len() != want.len() { 1.0 } else { 0.0 };
        self.error(error, 0.0, || match at {
            Some(at) => format!("{what}[{at}] is {:?}, stored {:?}", got[at], want[at]),
            None => format!("{what} has {} entries, stored {}", got.len(), want.len()),
        });
    }

    /// Takes in an error that was measured elsewhere; `reason` describes it if it is too large.
    pub fn error(&mut self, error: f64, tolerance: f64, reason: impl FnOnce() -> String) {
        // The tiny number ranks exact comparisons (tolerance 0) without a division by zero; of equal
        // errors the wider tolerance is shown.
        let rank = |(error, tolerance): (f64, f64)| match error / (tolerance + 1e-300) {
            rank if rank.is_nan() => (f64::INFINITY, tolerance),
            rank => (rank, tolerance),
        };
        let within = error <= tolerance;
        if self.worst.is_none_or(|worst| rank(worst) < rank((error, tolerance))) {
            self.worst = Some((error, tolerance));
        }
        if !within && self.failure.is_none() {
            self.failure = Some(reason());
        }
    }

    pub(super) fn finish(self, name: String, result: Result<()>) -> CaseReport {
        let (error, tolerance) = self.worst.unwrap_or((f64::NAN, 0.0));
        let failure = match result {
            Err(error) => Some(error.to_string()),
            Ok(()) => self.failure.or(self.worst.is_none().then(|| "nothing was compared".to_owned())),
        };
        CaseReport { name, error, tolerance, failure }
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(compare: impl FnOnce(&mut Case) -> Result<()>) -> CaseReport {
        let mut case = Case::new();
        let result = compare(&mut case);
        case.finish("x".to_owned(), result)
    }

    #[test]
    fn only_differences_within_the_tolerance_pass() {
        assert!(judged(|c| c.values("v", &[1.0, 2.5], &[1.0, 2.0], 0.5)).passed());
        assert!(judged(|c| c.values("v", &[1.0], &[1.0], 0.0)).passed());
        let far = judged(|c| c.values("v", &[1.0, 2.6], &[1.0, 2.0], 0.5));
        assert_eq!(far.failure.as_deref(), Some("v[1] is 2.6e0, stored 2e0"));
        for (got, want) in
            [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::NAN, f64::NAN), (f64::INFINITY, f64::INFINITY)]
        {
            assert!(!judged(|c| c.values("v", &[0.0, got, 0.0], &[0.0, want, 9.0], 1e9)).passed());
        }
        assert!(!judged(|c| c.values("v", &[1.0], &[1.0, 2.0], 9.0)).passed());
        assert!(!judged(|_| Ok(())).passed());
    }

    #[test]
    fn the_worst_relative_error_is_reported() {
        let report = judged(|c| {
            c.values("a", &[0.1], &[0.0], 1.0)?;
            c.values("b", &[0.01], &[0.0], 0.02)?;
            c.equal("c", &[1], &[1]);
            Ok(())
        });
        assert_eq!((report.error, report.tolerance), (0.01, 0.02));
        assert!(report.to_string().starts_with("pass  x "));
    }
}
