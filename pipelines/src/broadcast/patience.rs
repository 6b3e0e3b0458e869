// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long somebody who is gone is waited for, and how often asked.

use std::time::Duration;

/// The first wait before another attempt; each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(200);
/// The longest.
const LONGEST: Duration = Duration::from_secs(3);

/// Waits between attempts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// How long to wait before the next attempt.
    pub fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(LONGEST);
        now
    }
}

/// How long a source or a peer may be gone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit(pub u64);

impl Limit {
    /// Whether this is too long.
    pub fn is_over(self, gone: Duration) -> bool {
        self.0 > 0 && gone >= Duration::from_secs(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_zero_waits_for_ever() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next()).collect();
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]) && waits[0] == FIRST && waits[7] == LONGEST);
        assert!(Limit(2).is_over(Duration::from_secs(2)) && !Limit(2).is_over(Duration::from_millis(1999)));
        assert!(!Limit(0).is_over(Duration::MAX));
    }
}
