// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of the step indices a run visits (SPEC section 5).

use crate::{Error, Result};

/// The `nfe + 1` indices of a run with `nfe` network evaluations: ascending, first 0, last
/// `interval − 1`, all different.
///
/// # Errors
/// [`Error::Setting`] if `interval` is below 2 or `nfe` is not in 1..=interval−1.
pub fn steps(interval: usize, nfe: usize) -> Result<Vec<usize>> {
    if interval < 2 {
        return Err(Error::setting("interval", interval, "at least 2"));
    }
    if nfe == 0 || nfe >= interval {
        let last = interval - 1;
        return Err(Error::setting("nfe", nfe, format!("from 1 to {last} (interval {interval} − 1)")));
    }
    Ok(space(interval, nfe + 1))
}

/// The steps of a run whose states the original sampler returns: at most ten of them, newest (index
/// 0) first. `steps` is the list that [`steps`] gave.
pub fn logged_steps(steps: &[usize], log_count: usize) -> Vec<usize> {
    let nfe = steps.len().saturating_sub(1);
    space(nfe, log_count.min(nfe)).into_iter().map(|i| steps[i]).collect()
}

/// `count` indices spread over `0..len`, rounded half to even.
///
/// The position is accumulated, not multiplied: the two differ in the last bit, and that bit decides
/// ties.
pub fn space(len: usize, count: usize) -> Vec<usize> {
    let stride = if count <= 1 { 1.0 } else { (len - 1) as f64 / (count - 1) as f64 };
    let mut position = 0.0f64;
    (0..count)
        .map(|_| {
            let index = position.round_ties_even() as usize;
            position += stride;
            index
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The table of SPEC section 5.
    #[test]
    fn spec_table() {
        let rows: &[&[usize]] = &[
            &[0, 999],
            &[0, 500, 999],
            &[0, 333, 666, 999],
            &[0, 250, 500, 749, 999],
            &[0, 200, 400, 599, 799, 999],
            &[0, 166, 333, 500, 666, 832, 999],
        ];
        for (at, want) in rows.iter().enumerate() {
            assert_eq!(&steps(1000, at + 1).unwrap(), want);
        }
        assert_eq!(steps(1000, 10).unwrap(), [0, 100, 200, 300, 400, 500, 599, 699, 799, 899, 999]);
    }

    #[test]
    fn bad_counts_are_named() {
        for (interval, nfe, want) in
            [(1000, 0, "nfe is 0"), (1000, 1000, "nfe is 1000"), (1, 1, "interval is 1")]
        {
            let text = steps(interval, nfe).unwrap_err().to_string();
            assert!(text.starts_with(want), "{text}");
        }
    }

    proptest! {
        #[test]
        fn steps_rise_from_end_to_end((interval, nfe) in (2usize..3000).prop_flat_map(|n| (Just(n), 1..n))) {
            let list = steps(interval, nfe).unwrap();
            prop_assert_eq!(list.len(), nfe + 1);
            prop_assert_eq!((list[0], list[nfe]), (0, interval - 1));
            prop_assert!(list.windows(2).all(|w| w[0] < w[1]));
            let logged = logged_steps(&list, 10);
            prop_assert_eq!(logged.len(), nfe.min(10));
            prop_assert!(logged[0] == 0 && logged.iter().all(|s| list.contains(s)));
        }
    }
}
