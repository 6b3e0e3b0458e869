// SPDX-License-Identifier: MIT OR Apache-2.0
//! When an engine that failed is tried again: soon, then less and less often.

use std::time::Duration;

/// Wait before the first new attempt.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait between two attempts.
const LONGEST: Duration = Duration::from_secs(30);
/// An engine that held this long has its failures forgiven.
const FORGIVEN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Well,
    Waiting {
        until: Duration,
    },
    Trying,
}

/// One engine's health.
#[derive(Clone, Debug, Default)]
pub struct Outage {
    phase: Phase,
    wait: Option<Duration>,
    back_since: Option<Duration>,
}

impl Outage {
    /// Whether it failed and is left alone for now.
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    /// It failed. Returns whether this begins an outage, which is worth a message, and is not one more
    /// frame of the same.
    pub fn failed(&mut self, now: Duration) -> bool {
        if matches!(self.phase, Phase::Waiting { .. }) {
            return false;
        }
        let begins = self.phase == Phase::Well;
        if self.back_since.is_some_and(|back| begins && now.saturating_sub(back) >= FORGIVEN) {
            self.wait = None;
        }
        let wait = self.wait.map_or(FIRST, |wait| (2 * wait).min(LONGEST));
        self.wait = Some(wait);
        self.phase = Phase::Waiting { until: now + wait };
        begins
    }

    /// Whether it is time for an attempt; the attempt then has begun.
    pub fn attempt(&mut self, now: Duration) -> bool {
        let due = matches!(self.phase, Phase::Waiting { until } if until <= now);
        if due {
            self.phase = Phase::Trying;
        }
        due
    }

    /// A frame was restored. Returns whether this ends an outage.
    pub fn recovered(&mut self, now: Duration) -> bool {
        let ends = self.phase != Phase::Well;
        self.phase = Phase::Well;
        if ends {
            self.back_since = Some(now);
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_outage_is_told_once_and_waits_grow() {
        let mut outage = Outage::default();
        assert!(outage.failed(Duration::ZERO));
        assert!(!outage.failed(40 * MS) && outage.is_waiting());
        assert!(!outage.attempt(499 * MS) && outage.attempt(500 * MS));
        assert!(!outage.attempt(501 * MS), "one attempt at a time");
        assert!(!outage.failed(600 * MS), "an attempt that fails begins nothing new");
        assert!(!outage.attempt(1599 * MS) && outage.attempt(1600 * MS));
        assert!(outage.recovered(1700 * MS) && !outage.is_waiting());
        assert!(!outage.recovered(1700 * MS));
        assert!(outage.failed(1800 * MS), "a new outage");
        assert!(!outage.attempt(3799 * MS) && outage.attempt(3800 * MS), "but soon after the last");
        outage.recovered(3900 * MS);
        let later = 3900 * MS + FORGIVEN;
        outage.failed(later);
        assert!(outage.attempt(later + FIRST));
    }

    proptest! {
        /// However often it fails, it is tried again within the longest wait and never twice at once.
        #[test]
        fn it_is_always_tried_again(waits in prop::collection::vec(0..40_000u64, 1..100)) {
            let (mut outage, mut now) = (Outage::default(), Duration::ZERO);
            let (mut since, mut trying) = (None, false);
            for (index, wait) in waits.into_iter().enumerate() {
                now += Duration::from_millis(wait);
                if outage.attempt(now) {
                    prop_assert!(!trying);
                    trying = true;
                }
                if let Some(since) = since {
                    prop_assert!(trying || now - since < LONGEST);
                }
                if index % 3 == 0 && !outage.is_waiting() {
                    outage.failed(now);
                    (since, trying) = (Some(now), false);
                } else if trying && index % 5 == 0 {
                    outage.recovered(now);
                    (since, trying) = (None, false);
                }
            }
        }
    }
}
