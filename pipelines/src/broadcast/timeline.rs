// SPDX-License-Identifier: MIT OR Apache-2.0
//! One line of time out of a source's, which may jump, end and begin anew: where each frame goes.

/// A gap or an overlap of more than this, in nanoseconds, is a jump of the source's clock and is closed.
const JUMP: i64 = 1_000_000_000;
/// Frames of a source that can wait overlap by this much or less, or are a jump.
const OVERLAP: i64 = 300_000_000;
/// The same for a live source, whose frames may be due as much later or earlier than they come.
const LIVE_JUMP: i64 = 3_000_000_000;

/// A stream's place in the line.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// Where the next frame would follow without a gap.
    next: Option<i64>,
    /// Jumps that this stream has made: streams come to them at different moments.
    jumps: usize,
}

/// Where frames go. All times in nanoseconds. Stream 0 is the one whose frames follow each other.
#[derive(Debug)]
pub struct Timeline {
    streams: Vec<Stream>,
    /// What is added to the source's times after each jump.
    offsets: Vec<i64>,
    /// Whether frames come as they are coded, not as they are shown: a step back is no reason to drop one.
    coded: bool,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is shown at this time.
    At(i64),
    /// Its time has been filled by another.
    TooLate,
}

impl Timeline {
    /// A line of so many streams.
    pub fn new(streams: usize) -> Self {
        Self { streams: vec![Stream::default(); streams], offsets: vec![0], coded: false }
    }

    /// A line of so many streams before their decoders.
    pub fn coded(streams: usize) -> Self {
        Self { coded: true, ..Self::new(streams) }
    }

    /// Where the frame of this stream with this time goes. One that would lie far after the one before, or before
    /// it, or, of a live source, far from now, is taken for a jump of the source's clock, and follows; the other
    /// streams jump with it as soon as they come to the same place.
    pub fn place(&mut self, stream: usize, time: Option<i64>, duration: i64, now: Option<i64>) -> Placed {
        let last = &mut self.streams[stream];
        let due = now.or(last.next);
        let (coded, next) = (self.coded, last.next);
        let fits = |at: i64| {
            let back = (coded || now.is_none()) && next.is_some_and(|next| at < next - duration.max(OVERLAP));
            let far = match (now, next) {
                (Some(now), _) => (at - now).abs() > LIVE_JUMP,
                (None, next) => next.is_some_and(|next| at > next + JUMP),
            };
            !back && !far
        };
        let at = match (time, due) {
            (None, _) => last.next.or(now).unwrap_or(0),
            (Some(time), None) => time + self.offsets[last.jumps],
            (Some(time), Some(due)) => {
                while !fits(time + self.offsets[last.jumps]) {
                    last.jumps += 1;
                    if last.jumps == self.offsets.len() {
                        self.offsets.push(last.next.unwrap_or(due).max(now.unwrap_or(i64::MIN)) - time);
                        break;
                    }
                }
                time + self.offsets[last.jumps]
            }
        };
        // Before the line begins there is nothing to be late for; time stamps of two clocks may differ a little.
        let late = stream == 0 && !self.coded && last.next.is_some_and(|next| at < next - duration / 2);
        if at < 0 || late {
            return Placed::TooLate;
        }
        let next = at + duration;
        last.next = Some(if self.coded { last.next.map_or(next, |before| before.max(next)) } else { next });
        Placed::At(at)
    }

    /// Where the next frame of a stream would follow.
    pub fn next(&self, stream: usize) -> Option<i64> {
        self.streams[stream].next
    }

    /// Fills one frame's time.
    pub fn fill(&mut self, stream: usize, duration: i64) -> Option<i64> {
        let next = self.streams[stream].next?;
        self.streams[stream].next = Some(next + duration);
        Some(next)
    }

    /// Jumps so far.
    pub fn jumps(&self) -> u64 {
        self.offsets.len() as u64 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn frames_keep_their_times_and_small_gaps() {
        let mut line = Timeline::new(1);
        for time in [0, 40, 80, 200, 241] {
            assert_eq!(line.place(0, Some(time * MS), 40 * MS, None), Placed::At(time * MS));
        }
        assert_eq!(line.place(0, None, 40 * MS, None), Placed::At(281 * MS));
        assert_eq!(line.jumps(), 0);
    }

    #[test]
    fn all_streams_jump_each_at_its_own_moment() {
        // The first is shorter than a jump forward would have to be.
        for jump in [-900, -90_000, 3_600_000] {
            let mut line = Timeline::new(2);
            let start = 100_000;
            for (stream, time) in [(0, 0), (1, 0), (0, 40), (1, 24)] {
                line.place(stream, Some((start + time) * MS), [40, 24][stream] * MS, None);
            }
            let to = start + jump;
            assert_eq!(line.place(1, Some((to + 48) * MS), 24 * MS, None), Placed::At((start + 48) * MS));
            // The other one has something left of the time before.
            assert_eq!(line.place(0, Some((start + 80) * MS), 40 * MS, None), Placed::At((start + 80) * MS));
            assert_eq!(line.place(0, Some((to + 120) * MS), 40 * MS, None), Placed::At((start + 120) * MS));
            assert_eq!(line.place(1, Some((to + 72) * MS), 24 * MS, None), Placed::At((start + 72) * MS));
            assert_eq!(line.jumps(), 1);
        }
    }

    #[test]
    fn frames_in_the_order_of_coding_go_back_without_a_jump() {
        let mut line = Timeline::coded(1);
        for time in [0, 160, 80, 40, 120, 320, 240] {
            assert_eq!(line.place(0, Some(time * MS), 40 * MS, None), Placed::At(time * MS));
        }
        assert_eq!(line.place(0, Some(0), 40 * MS, None), Placed::At(360 * MS));
        assert_eq!(line.place(0, Some(80 * MS), 40 * MS, None), Placed::At(440 * MS));
        assert_eq!(line.place(0, Some(40 * MS), 40 * MS, None), Placed::At(400 * MS));
        assert_eq!(line.jumps(), 1);
    }

    #[test]
    fn a_live_source_is_measured_by_the_clock() {
        let mut line = Timeline::new(2);
        for stream in [0, 1] {
            assert_eq!(line.place(stream, Some(700 * MS), 40 * MS, Some(300 * MS)), Placed::At(700 * MS));
        }
        // Nothing for a minute is a gap and no jump.
        assert_eq!(line.place(1, Some(60_700 * MS), 40 * MS, Some(60_300 * MS)), Placed::At(60_700 * MS));
        // Its clock begins anew.
        assert_eq!(line.place(0, Some(5 * MS), 40 * MS, Some(61_000 * MS)), Placed::At(61_000 * MS));
        assert_eq!(line.place(1, Some(9 * MS), 40 * MS, Some(61_000 * MS)), Placed::At(61_004 * MS));
        assert_eq!(line.jumps(), 1);
    }

    #[test]
    fn what_was_filled_is_not_shown_again() {
        let mut line = Timeline::new(1);
        let now = Some(90 * MS);
        line.place(0, Some(0), 40 * MS, now);
        assert_eq!(line.fill(0, 40 * MS), Some(40 * MS));
        assert_eq!(line.fill(0, 40 * MS), Some(80 * MS));
        assert_eq!(line.place(0, Some(40 * MS), 40 * MS, now), Placed::TooLate);
        assert_eq!(line.place(0, Some(115 * MS), 40 * MS, now), Placed::At(115 * MS));
        assert_eq!(Timeline::new(1).fill(0, 1), None);
    }
}
