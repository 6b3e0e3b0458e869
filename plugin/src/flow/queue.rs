// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bounded queue of frames and of what lies between them: frames are finished in any order and
//! leave in the order they came.

use std::collections::VecDeque;
use std::time::Duration;

/// Names one frame for as long as it is in the queue; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// How much the queue holds and how it forms batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most frames in the queue, waiting, running or done.
    pub max_in_flight: usize,
    /// Most frames worked on together.
    pub batch_size: usize,
    /// Longest wait of a frame for its batch to fill.
    pub batch_timeout: Duration,
}

/// What [`Queue::take_batch`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Work on these now, in this order.
    Ready(Vec<Ticket>),
    /// Ask again at this time, or when something is pushed.
    At(Duration),
    /// Nothing waits.
    Empty,
}

/// What leaves the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out<P, R, O> {
    /// A finished frame with its result.
    Frame(P, R),
    /// Something else, in its place.
    Other(O),
}

enum State<R> {
    Waiting { since: Duration },
    Running,
    Done(R),
}

enum Entry<P, K, R, O> {
    Frame { ticket: Ticket, key: K, state: State<R>, payload: P },
    Other(O),
}

/// The queue: `P` a frame's payload, `K` what frames of one batch have in common, `R` a frame's
/// result, `O` whatever else keeps its place in the stream.
pub struct Queue<P, K, R, O> {
    limits: Limits,
    entries: VecDeque<Entry<P, K, R, O>>,
    frames: usize,
    next: u64,
}

impl<P, K: PartialEq, R, O> Queue<P, K, R, O> {
    /// An empty queue; limits of zero count as one.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits {
            max_in_flight: limits.max_in_flight.max(1),
            batch_size: limits.batch_size.clamp(1, limits.max_in_flight.max(1)),
            ..limits
        };
        Self { limits, entries: VecDeque::new(), frames: 0, next: 0 }
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether one more frame may be pushed.
    pub fn has_room(&self) -> bool {
        self.frames < self.limits.max_in_flight
    }

    /// Frames in the queue.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Whether nothing is in the queue.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a frame that waits for work since `now`.
    pub fn push(&mut self, now: Duration, key: K, payload: P) -> Ticket {
        self.push_state(key, payload, State::Waiting { since: now })
    }

    /// Adds a frame that needs no work.
    pub fn push_done(&mut self, key: K, payload: P, result: R) -> Ticket {
        self.push_state(key, payload, State::Done(result))
    }

    fn push_state(&mut self, key: K, payload: P, state: State<R>) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.frames += 1;
        self.entries.push_back(Entry::Frame { ticket, key, state, payload });
        ticket
    }

    /// Adds something that is no frame; a batch never reaches across it.
    pub fn push_other(&mut self, other: O) {
        self.entries.push_back(Entry::Other(other));
    }

    /// The next batch: neighbours of equal key, as soon as it is full, or cannot grow because
    /// something else follows, or its first frame has waited long enough.
    pub fn take_batch(&mut self, now: Duration) -> Batch {
        let Limits { batch_size, batch_timeout, .. } = self.limits;
        let waits =
            |entry: &Entry<P, K, R, O>| matches!(entry, Entry::Frame { state: State::Waiting { .. }, .. });
        let Some(start) = self.entries.iter().position(waits) else { return Batch::Empty };
        let Entry::Frame { key: first, state: State::Waiting { since }, .. } = &self.entries[start] else {
            return Batch::Empty;
        };
        let deadline = *since + batch_timeout;
        let same = |entry: &&Entry<P, K, R, O>| matches!(entry, Entry::Frame { key, state: State::Waiting { .. }, .. } if key == first);
        let count = self.entries.range(start..).take(batch_size).take_while(same).count();
        let grows = count < batch_size && start + count == self.entries.len();
        if grows && now < deadline {
            return Batch::At(deadline);
        }
        let mut tickets = Vec::with_capacity(count);
        for entry in self.entries.range_mut(start..start + count) {
            if let Entry::Frame { ticket, state, .. } = entry {
                *state = State::Running;
                tickets.push(*ticket);
            }
        }
        Batch::Ready(tickets)
    }

    /// The payload of a frame that is still in the queue.
    pub fn payload(&mut self, wanted: Ticket) -> Option<&mut P> {
        self.entries.iter_mut().find_map(|entry| match entry {
            Entry::Frame { ticket, payload, .. } if *ticket == wanted => Some(payload),
            _ => None,
        })
    }

    /// Stores the result of a running frame; gives it back if the frame is gone or was finished.
    ///
    /// # Errors
    /// The result, when nobody waits for it any more.
    pub fn finish(&mut self, wanted: Ticket, result: R) -> Result<(), R> {
        for entry in &mut self.entries {
            match entry {
                Entry::Frame { ticket, state, .. } if *ticket == wanted => {
                    if matches!(state, State::Done(_)) {
                        return Err(result);
                    }
                    *state = State::Done(result);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(result)
    }

    /// Whether a frame's result is still waited for.
    pub fn is_wanted(&self, wanted: Ticket) -> bool {
        let open = |entry: &Entry<P, K, R, O>| matches!(entry, Entry::Frame { ticket, state, .. } if *ticket == wanted && !matches!(state, State::Done(_)));
        self.entries.iter().any(open)
    }

    /// The frame at the head, if all wait for it: it is not finished.
    pub fn awaited(&self) -> Option<(Ticket, &P)> {
        match self.entries.front()? {
            Entry::Frame { state: State::Done(_), .. } | Entry::Other(_) => None,
            Entry::Frame { ticket, payload, .. } => Some((*ticket, payload)),
        }
    }

    /// Takes out the frames before the first of the others that `ends`, or all frames if there is none; the rest keeps its
    /// order. The frames, and whether there was one.
    pub fn drop_frames(&mut self, ends: impl Fn(&O) -> bool) -> (Vec<P>, bool) {
        let end = self.entries.iter().position(|entry| matches!(entry, Entry::Other(other) if ends(other)));
        let behind = self.entries.split_off(end.unwrap_or(self.entries.len()));
        let mut dropped = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            match entry {
                Entry::Frame { payload, .. } => dropped.push(payload),
                other => self.entries.push_back(other),
            }
        }
        self.frames -= dropped.len();
        self.entries.extend(behind);
        (dropped, end.is_some())
    }

    /// Takes the head if it may leave: a finished frame, or whatever is no frame.
    pub fn pop(&mut self) -> Option<Out<P, R, O>> {
        match self.entries.front()? {
            Entry::Frame { state: State::Waiting { .. } | State::Running, .. } => None,
            _ => match self.entries.pop_front()? {
                Entry::Frame { payload, state: State::Done(result), .. } => {
                    self.frames -= 1;
                    Some(Out::Frame(payload, result))
                }
                Entry::Other(other) => Some(Out::Other(other)),
                Entry::Frame { .. } => None,
            },
        }
    }

    /// Empties the queue; results that come later for its frames are refused by [`Queue::finish`].
    /// Returns what was in it that is no frame.
    pub fn flush(&mut self) -> Vec<O> {
        self.frames = 0;
        let others = |entry| match entry {
            Entry::Other(other) => Some(other),
            Entry::Frame { .. } => None,
        };
        self.entries.drain(..).filter_map(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn queue(max_in_flight: usize, batch_size: usize) -> Queue<u32, u8, char, &'static str> {
        Queue::new(Limits { max_in_flight, batch_size, batch_timeout: 10 * MS })
    }

    #[test]
    fn a_batch_waits_until_it_is_full_or_late() {
        let mut q = queue(8, 3);
        assert_eq!(q.take_batch(MS), Batch::Empty);
        let a = q.push(MS, 0, 0);
        let b = q.push(2 * MS, 0, 1);
        assert_eq!(q.take_batch(3 * MS), Batch::At(11 * MS));
        assert_eq!(q.take_batch(11 * MS), Batch::Ready(vec![a, b]));
        let tickets: Vec<_> = (0..4).map(|i| q.push(12 * MS, 0, i)).collect();
        assert_eq!(q.take_batch(12 * MS), Batch::Ready(tickets[..3].to_vec()));
        assert_eq!(q.take_batch(12 * MS), Batch::At(22 * MS));
    }

    #[test]
    fn a_batch_never_crosses_an_event_or_a_change_of_key() {
        let mut q = queue(8, 4);
        let a = q.push(MS, 0, 0);
        q.push_other("caps");
        let b = q.push(MS, 1, 1);
        let c = q.push(MS, 2, 2);
        assert_eq!(q.take_batch(MS), Batch::Ready(vec![a]));
        assert_eq!(q.take_batch(MS), Batch::Ready(vec![b]));
        assert_eq!(q.take_batch(MS), Batch::At(11 * MS));
        q.push_other("eos");
        assert_eq!(q.take_batch(MS), Batch::Ready(vec![c]));
    }

    #[test]
    fn order_is_kept_when_work_ends_out_of_order() {
        let mut q = queue(8, 1);
        let a = q.push(MS, 0, 10);
        q.push_other("tag");
        let b = q.push(MS, 0, 11);
        q.push_done(0, 12, 'p');
        while let Batch::Ready(_) = q.take_batch(MS) {}
        q.finish(b, 'b').unwrap();
        assert_eq!(q.pop(), None);
        assert_eq!(q.awaited(), Some((a, &10)));
        assert!(q.is_wanted(a) && !q.is_wanted(b));
        q.finish(a, 'a').unwrap();
        assert_eq!(q.awaited(), None);
        assert_eq!(q.finish(a, 'x'), Err('x'));
        let out: Vec<_> = std::iter::from_fn(|| q.pop()).collect();
        let want = vec![Out::Frame(10, 'a'), Out::Other("tag"), Out::Frame(11, 'b'), Out::Frame(12, 'p')];
        assert_eq!(out, want);
    }

    #[test]
    fn a_flush_forgets_running_frames() {
        let mut q = queue(2, 1);
        let a = q.push(MS, 0, 0);
        q.push_other("query");
        q.push(MS, 0, 1);
        assert!(!q.has_room());
        assert_eq!(q.take_batch(MS), Batch::Ready(vec![a]));
        assert_eq!(q.flush(), vec!["query"]);
        assert!(q.has_room() && q.is_empty());
        assert_eq!(q.finish(a, 'a'), Err('a'));
        assert_ne!(q.push(MS, 0, 2), a);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(u8),
        Done,
        Other,
        Take,
        Finish(prop::sample::Index),
        Pop,
        Flush,
        Wait(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0..2u8).prop_map(Op::Push),
            1 => Just(Op::Done),
            2 => Just(Op::Other),
            6 => Just(Op::Take),
            6 => any::<prop::sample::Index>().prop_map(Op::Finish),
            6 => Just(Op::Pop),
            1 => Just(Op::Flush),
            3 => (0..8u8).prop_map(Op::Wait),
        ]
    }

    proptest! {
        /// Whatever happens: what goes in comes out once, in order, within the limits.
        #[test]
        fn nothing_is_lost_or_reordered(
            max in 1..6usize,
            batch in 1..5usize,
            ops in prop::collection::vec(op(), 0..200),
        ) {
            let limits = Limits { max_in_flight: max, batch_size: batch, batch_timeout: 5 * MS };
            let mut q: Queue<u64, u8, u64, u64> = Queue::new(limits);
            let mut expected: VecDeque<u64> = VecDeque::new();
            let mut running: Vec<(Ticket, u64)> = Vec::new();
            let mut serial = Vec::new();
            let (mut now, mut next) = (Duration::ZERO, 0u64);
            for op in ops {
                match op {
                    Op::Push(key) if q.has_room() => {
                        let ticket = q.push(now, key, next);
                        serial.push((ticket, next));
                        expected.push_back(next);
                        next += 1;
                    }
                    Op::Done if q.has_room() => {
                        q.push_done(0, next, next);
                        expected.push_back(next);
                        next += 1;
                    }
                    Op::Other => {
                        q.push_other(next);
                        expected.push_back(next);
                        next += 1;
                    }
                    Op::Take => if let Batch::Ready(tickets) = q.take_batch(now) {
                        prop_assert!(!tickets.is_empty() && tickets.len() <= batch.min(max));
                        let ids: Vec<u64> = tickets.iter()
                            .map(|t| serial.iter().find(|(s, _)| s == t).unwrap().1).collect();
                        prop_assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1));
                        running.extend(tickets.into_iter().zip(ids));
                    },
                    Op::Finish(index) if !running.is_empty() => {
                        let (ticket, id) = running.remove(index.index(running.len()));
                        let known = expected.contains(&id);
                        prop_assert_eq!(q.finish(ticket, id).is_ok(), known);
                    }
                    Op::Pop => if let Some(out) = q.pop() {
                        let id = match out { Out::Frame(p, r) => { prop_assert_eq!(p, r); p } Out::Other(o) => o };
                        prop_assert_eq!(Some(id), expected.pop_front());
                    },
                    Op::Flush => { q.flush(); expected.clear(); }
                    Op::Wait(ms) => now += u32::from(ms) * MS,
                    _ => {}
                }
                prop_assert!(q.frames() <= max);
            }
            q.push_other(next);
            expected.push_back(next);
            while let Batch::Ready(tickets) = q.take_batch(now) {
                for t in tickets { running.push((t, serial.iter().find(|(s, _)| *s == t).unwrap().1)); }
            }
            for (ticket, id) in running { let _ = q.finish(ticket, id); }
            while let Some(out) = q.pop() {
                let id = match out { Out::Frame(p, _) => p, Out::Other(o) => o };
                prop_assert_eq!(Some(id), expected.pop_front());
            }
            prop_assert!(q.is_empty() && expected.is_empty());
        }
    }
}
