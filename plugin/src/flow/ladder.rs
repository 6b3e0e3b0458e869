// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of several settings a machine can keep up with: quick to step down, slow to step up again.
//!
//! Rung 0 is the best and dearest. Load is a frame's time in the engine divided by the time between
//! two frames; above 1 the stream falls behind.

use std::collections::VecDeque;
use std::time::Duration;

/// Above this load a frame is a strike.
pub const HIGH: f64 = 0.9;
/// The rung above is tried when its load is expected to stay below this.
pub const LOW: f64 = 0.7;
/// Strikes, less the frames that were in time, until a step down: one hiccup moves nothing.
const STRIKES: u32 = 2;
/// Frames that an expectation looks back on.
const WINDOW: usize = 8;
/// Lateness this long after a switch is the old rung's and does not count.
const SETTLE: Duration = Duration::from_secs(1);
/// How long all must be calm before the first step up.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest such wait.
const MOST_PATIENCE: Duration = Duration::from_secs(60);
/// A step down this soon after a step up makes the next step up wait twice as long.
const TRIAL: Duration = Duration::from_secs(10);

/// A change of rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// To a cheaper rung.
    Down,
    /// To a better rung.
    Up,
}

/// The rung in force and what is known of the others.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// Cost of the rung above as a multiple of each rung's own, learnt at steps down.
    above: Vec<Option<f64>>,
    at: usize,
    loads: VecDeque<f64>,
    left: Option<f64>,
    strikes: u32,
    /// When a frame was last too late.
    late: Option<Duration>,
    switched: Duration,
    calm_since: Option<Duration>,
    patience: Duration,
    climbed: Option<Duration>,
}

impl Ladder {
    /// A ladder of so many rungs, at least one, on its best.
    pub fn new(rungs: usize, now: Duration) -> Self {
        Self {
            above: vec![None; rungs.max(1)],
            at: 0,
            loads: VecDeque::new(),
            left: None,
            strikes: 0,
            late: None,
            switched: now,
            calm_since: None,
            patience: PATIENCE,
            climbed: None,
        }
    }

    /// The rung in force.
    pub fn at(&self) -> usize {
        self.at
    }

    /// A frame was worked on at `rung` with this load.
    pub fn worked(&mut self, rung: usize, load: f64) {
        if rung != self.at || !load.is_finite() {
            return;
        }
        if self.loads.len() == WINDOW {
            self.loads.pop_front();
        }
        self.loads.push_back(load);
        self.strikes = if load > HIGH { self.strikes + 1 } else { self.strikes.saturating_sub(1) };
        if self.loads.len() >= WINDOW / 2
            && let Some(left) = self.left.take()
        {
            self.above[self.at] = Some((left / self.mean().max(f64::MIN_POSITIVE)).max(1.0));
        }
    }

    /// A frame came too late, or could not be taken in time.
    pub fn late(&mut self, now: Duration) {
        if now.saturating_sub(self.switched) >= SETTLE {
            self.strikes += 1;
            self.late = Some(now);
            self.calm_since = None;
        }
    }

    fn mean(&self) -> f64 {
        self.loads.iter().sum::<f64>() / self.loads.len().max(1) as f64
    }

    /// Before every frame: whether the rung changes now. `idle`: nothing is worked on at this rung, so
    /// that it has no load to judge by.
    pub fn tick(&mut self, now: Duration, idle: bool) -> Option<Move> {
        // Where nothing is worked on no frame can make up for a late one; time does.
        if idle && self.late.is_none_or(|late| now.saturating_sub(late) >= SETTLE) {
            self.strikes = 0;
        }
        if self.strikes >= STRIKES && self.at + 1 < self.above.len() {
            if self.climbed.take().is_some_and(|climbed| now.saturating_sub(climbed) < TRIAL) {
                self.patience = (2 * self.patience).min(MOST_PATIENCE);
            }
            self.left = Some(self.mean()).filter(|_| !self.loads.is_empty());
            self.go(self.at + 1, now);
            return Some(Move::Down);
        }
        if self.climbed.is_some_and(|climbed| now.saturating_sub(climbed) >= TRIAL) {
            (self.climbed, self.patience) = (None, PATIENCE);
        }
        let expected = self.loads.iter().copied().fold(0.0, f64::max) * self.above[self.at].unwrap_or(1.0);
        let judged = idle || self.loads.len() == WINDOW;
        if self.at == 0 || !judged || self.strikes > 0 || expected > LOW {
            self.calm_since = None;
            return None;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.saturating_sub(since) < self.patience {
            return None;
        }
        self.go(self.at - 1, now);
        self.climbed = Some(now);
        Some(Move::Up)
    }

    fn go(&mut self, rung: usize, now: Duration) {
        self.at = rung;
        self.loads.clear();
        self.strikes = 0;
        self.switched = now;
        self.calm_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: Duration = Duration::from_millis(40);

    /// Runs frames whose load at each rung is `load(rung, frame)`; returns the rung of every frame.
    fn run(
        ladder: &mut Ladder,
        frames: u32,
        idle: Option<usize>,
        load: impl Fn(usize, u32) -> f64,
    ) -> Vec<usize> {
        let mut seen = Vec::new();
        for frame in 0..frames {
            let resting = idle == Some(ladder.at());
            ladder.tick(frame * FRAME, resting);
            let at = ladder.at();
            if idle != Some(at) {
                ladder.worked(at, load(at, frame));
            }
            seen.push(at);
        }
        seen
    }

    fn switches(rungs: &[usize]) -> usize {
        rungs.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    #[test]
    fn a_hiccup_moves_nothing_and_overload_steps_down_within_three_frames() {
        let mut ladder = Ladder::new(3, Duration::ZERO);
        let seen = run(&mut ladder, 100, None, |_, frame| if frame % 10 == 0 { 5.0 } else { 0.5 });
        assert!(seen.iter().all(|&rung| rung == 0));
        let mut ladder = Ladder::new(3, Duration::ZERO);
        let seen = run(&mut ladder, 100, None, |rung, _| [1.6, 0.8, 0.4][rung]);
        assert_eq!(seen[..4], [0, 0, 1, 1]);
        assert!(seen[3..].iter().all(|&rung| rung == 1));
    }

    #[test]
    fn it_comes_back_when_the_load_goes_and_waits_for_that() {
        let mut ladder = Ladder::new(2, Duration::ZERO);
        let costs = |busy: f64| move |rung: usize, _| [0.6, 0.3][rung] * busy;
        run(&mut ladder, 50, None, costs(2.0));
        assert_eq!(ladder.at(), 1);
        let seen = run(&mut ladder, 200, None, costs(1.0));
        let back = seen.iter().position(|&rung| rung == 0).unwrap();
        assert!((50..=60).contains(&back), "two seconds and a window: {back}");
        assert_eq!(switches(&seen), 1);
    }

    #[test]
    fn a_rung_without_load_is_left_by_trial_ever_less_often() {
        let mut ladder = Ladder::new(2, Duration::ZERO);
        // Ten minutes of steady overload: the upper rung is tried, fails, and is tried more rarely.
        let seen = run(&mut ladder, 15_000, Some(1), |_, _| 1.5);
        let tries = seen.windows(2).filter(|pair| pair[0] == 1 && pair[1] == 0).count();
        assert!((5..=15).contains(&tries), "{tries}");
    }

    #[test]
    fn a_late_frame_does_not_keep_a_rung_without_load_for_ever() {
        let mut ladder = Ladder::new(2, Duration::ZERO);
        run(&mut ladder, 3, Some(1), |_, _| 1.5);
        assert_eq!(ladder.at(), 1);
        // Long after the switch, a burst of frames finds no room.
        let burst = 10 * SETTLE;
        ladder.late(burst);
        ladder.late(burst);
        assert_eq!(ladder.tick(burst, true), None);
        let back = (1..1000).find(|&frame| ladder.tick(burst + frame * FRAME, true) == Some(Move::Up));
        let most = (SETTLE + PATIENCE).as_millis() / FRAME.as_millis() + 2;
        assert!(back.is_some_and(|frame| u128::from(frame) <= most), "{back:?}");
    }

    #[test]
    fn lateness_counts_but_not_right_after_a_switch() {
        let mut ladder = Ladder::new(3, Duration::ZERO);
        for _ in 0..9 {
            ladder.late(SETTLE / 2);
        }
        assert_eq!(ladder.tick(SETTLE, false), None);
        ladder.late(SETTLE);
        ladder.late(SETTLE);
        assert_eq!(ladder.tick(SETTLE, false), Some(Move::Down));
        ladder.late(SETTLE + FRAME);
        ladder.late(SETTLE + FRAME);
        assert_eq!(ladder.tick(SETTLE + FRAME, false), None);
    }

    proptest! {
        /// Whatever the load: a rung that exists; and steps up are never closer than the patience.
        #[test]
        fn it_stays_on_the_ladder_and_never_flutters(
            rungs in 1..5usize,
            loads in prop::collection::vec(0.0..3.0f64, 1..600),
            late in prop::collection::vec(any::<bool>(), 1..600),
        ) {
            let mut ladder = Ladder::new(rungs, Duration::ZERO);
            let mut up: Option<Duration> = None;
            for (frame, (&load, &late)) in (0u32..).zip(loads.iter().zip(&late)) {
                let now = frame * FRAME;
                if late { ladder.late(now); }
                if ladder.tick(now, false) == Some(Move::Up) {
                    prop_assert!(up.is_none_or(|up| now - up >= PATIENCE));
                    up = Some(now);
                }
                prop_assert!(ladder.at() < rungs);
                ladder.worked(ladder.at(), load);
            }
        }

        /// Under steady costs it settles on the best rung that keeps up.
        #[test]
        fn steady_costs_settle(top in 0.1..4.0f64, ratio in 1.2..4.0f64) {
            let costs: Vec<f64> = (0..4).map(|rung| top / ratio.powi(rung)).collect();
            let mut ladder = Ladder::new(4, Duration::ZERO);
            let seen = run(&mut ladder, 2_000, None, |rung, _| costs[rung]);
            let want = costs.iter().position(|&cost| cost <= HIGH).unwrap_or(3);
            prop_assert!(seen[1_000..].iter().all(|&rung| rung == want), "{costs:?} {:?}", &seen[..40]);
        }
    }
}
