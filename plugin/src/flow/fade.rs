// SPDX-License-Identifier: MIT OR Apache-2.0
//! From one setting to another over a few frames, so that nobody sees the switch.

/// What one frame is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix<S> {
    /// The setting that is in force, or about to be.
    pub main: S,
    /// The setting that is left behind, with its weight, between 0 and 1.
    pub old: Option<(S, f32)>,
}

/// The setting in force and the one it replaces.
#[derive(Clone, Debug)]
pub struct Fade<S> {
    main: Option<S>,
    old: Option<S>,
    done: u32,
    length: u32,
}

impl<S> Default for Fade<S> {
    fn default() -> Self {
        Self { main: None, old: None, done: 0, length: 0 }
    }
}

impl<S: Clone + PartialEq> Fade<S> {
    /// The next frame, on the way to `target`; a change is spread over `length` frames, so that weights
    /// change by `1/(length + 1)` from frame to frame. A change during another waits for its end. The
    /// first setting of all has nothing to fade from.
    pub fn next(&mut self, target: &S, length: u32) -> Mix<S> {
        if self.old.is_none() && self.main.as_ref() != Some(target) {
            self.old = self.main.replace(target.clone()).filter(|_| length > 0);
            (self.done, self.length) = (0, length);
        }
        let Some(old) = self.old.clone() else {
            return Mix { main: target.clone(), old: None };
        };
        self.done += 1;
        let weight = 1.0 - self.done as f32 / (self.length + 1) as f32;
        if self.done >= self.length {
            self.old = None;
        }
        Mix { main: self.main.clone().unwrap_or_else(|| target.clone()), old: Some((old, weight)) }
    }

    /// Forgets what `gone` says can no longer be had, without a fade, and puts `instead` in its place.
    pub fn cut(&mut self, instead: &S, gone: impl Fn(&S) -> bool) {
        if self.old.as_ref().is_some_and(&gone) {
            self.old = None;
        }
        if self.main.as_ref().is_some_and(&gone) {
            self.main = Some(self.old.take().unwrap_or_else(|| instead.clone()));
        }
    }

    /// The setting in force.
    pub fn main(&self) -> Option<&S> {
        self.main.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn weights_fall_evenly_and_the_next_change_waits() {
        let mut fade = Fade::default();
        assert_eq!(fade.next(&'a', 3), Mix { main: 'a', old: None });
        let weights: Vec<_> = (0..3).map(|_| fade.next(&'b', 3).old.unwrap()).collect();
        assert_eq!(weights, [('a', 0.75), ('a', 0.5), ('a', 0.25)]);
        fade.next(&'c', 2);
        assert_eq!(fade.next(&'d', 2).main, 'c');
        assert_eq!(fade.next(&'d', 1), Mix { main: 'd', old: Some(('c', 0.5)) });
        assert_eq!(fade.next(&'d', 1), Mix { main: 'd', old: None });
        assert_eq!(fade.next(&'e', 0), Mix { main: 'e', old: None });
    }

    #[test]
    fn what_fails_is_left_at_once() {
        let mut fade = Fade::default();
        fade.next(&'a', 4);
        fade.next(&'b', 4);
        fade.cut(&'-', |&s| s == 'b');
        assert_eq!(fade.main(), Some(&'a'));
        fade.cut(&'-', |&s| s == 'a');
        assert_eq!(fade.next(&'-', 4), Mix { main: '-', old: None });
        assert!(fade.next(&'a', 4).old.is_some(), "what comes back fades in");
    }

    proptest! {
        /// The share of any setting changes by no more than one step of the longest fade.
        #[test]
        fn no_share_jumps(targets in prop::collection::vec(0..3usize, 1..60), length in 1..9u32) {
            let mut fade = Fade::default();
            let mut before: Option<[f32; 3]> = None;
            for target in targets {
                let mix = fade.next(&target, length);
                let mut shares = [0f32; 3];
                let (old, weight) = mix.old.unwrap_or((mix.main, 0.0));
                shares[old] += weight;
                shares[mix.main] += 1.0 - weight;
                if let Some(before) = before {
                    for (a, b) in before.iter().zip(shares) {
                        prop_assert!((a - b).abs() <= 1.0 / (length + 1) as f32 + 1e-6);
                    }
                }
                before = Some(shares);
            }
        }
    }
}
