// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a frame costs, measured, and when the figure told to others must be told again.

use std::collections::VecDeque;
use std::time::Duration;

/// Frames that the percentiles look back on.
const WINDOW: usize = 128;
/// Frames that the announced figure looks back on: enough to bridge a hiccup, few enough to follow.
const RECENT: usize = 16;

/// Times of the last frames, and the last figure that was announced.
#[derive(Clone, Debug, Default)]
pub struct Estimator {
    times: VecDeque<Duration>,
    announced: Option<Duration>,
}

impl Estimator {
    /// Adds the time of one frame. Returns whether the announced figure is now wrong: too small,
    /// or more than a quarter too large.
    pub fn record(&mut self, time: Duration) -> bool {
        if self.times.len() == WINDOW {
            self.times.pop_front();
        }
        self.times.push_back(time);
        let now = self.estimate();
        match self.announced {
            None => true,
            Some(told) => now > told || now < told.mul_f64(0.75),
        }
    }

    /// Fixes the figure that is told from now on: the present estimate with 5 % to spare.
    pub fn announce(&mut self) -> Duration {
        let told = self.estimate().mul_f64(1.05);
        self.announced = Some(told);
        told
    }

    /// The figure last announced; zero before the first frame.
    pub fn announced(&self) -> Duration {
        self.announced.unwrap_or_default()
    }

    /// What a frame takes: the 90th percentile of the last few, so that one slow frame of sixteen
    /// moves nothing.
    pub fn estimate(&self) -> Duration {
        percentile(self.times.iter().rev().take(RECENT), 0.9)
    }

    /// The time that `part` (0 … 1) of the last frames did not exceed; zero before the first.
    pub fn percentile(&self, part: f64) -> Duration {
        percentile(self.times.iter(), part)
    }
}

fn percentile<'a>(times: impl Iterator<Item = &'a Duration>, part: f64) -> Duration {
    let mut times: Vec<Duration> = times.copied().collect();
    times.sort_unstable();
    let rank = (part * times.len() as f64).ceil() as usize;
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_frame_is_announced_and_jitter_is_not() {
        let mut e = Estimator::default();
        assert_eq!(e.announced(), Duration::ZERO);
        assert!(e.record(100 * MS));
        assert_eq!(e.announce(), 105 * MS);
        for i in 0..100u32 {
            assert!(!e.record((96 + i % 9) * MS), "{i}");
        }
    }

    #[test]
    fn growth_is_announced_and_so_is_a_large_fall() {
        let mut e = Estimator::default();
        e.record(100 * MS);
        e.announce();
        let grown = (0..4).map(|_| e.record(200 * MS)).collect::<Vec<_>>();
        assert!(grown[1], "{grown:?}");
        e.announce();
        let fallen = (0..16).filter(|_| e.record(20 * MS)).count();
        assert!(fallen > 0);
    }

    #[test]
    fn one_slow_frame_of_sixteen_moves_nothing() {
        let mut e = Estimator::default();
        for _ in 0..16 {
            e.record(10 * MS);
        }
        e.announce();
        assert!(!e.record(500 * MS));
        assert_eq!(e.percentile(0.5), 10 * MS);
        assert_eq!(e.percentile(1.0), 500 * MS);
    }
}
