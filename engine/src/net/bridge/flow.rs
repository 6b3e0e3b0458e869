// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture flows through the network in bands of rows: in which order, and how many rows each map
//! must hold at a time.
//!
//! Each stage computes what rows it can from what the stages before it have; so of most maps only a few
//! rows exist at any time, they stay in the caches, and memory grows with a picture's width and not with
//! its height. A map that is added in later is kept until then.

use std::ops::Range;

use super::layout::{Layout, Step};
use crate::{Cancel, Result};

/// What a stage computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Squares of pixels become channels.
    Unshuffle,
    /// 3×3 convolution with bias.
    Conv(usize),
    /// A block's first convolution, with SiLU.
    First(usize),
    /// A block's second convolution (its number among the convolutions), added to the block's input.
    Second(usize),
    /// 2×2 convolution with stride 2.
    Down(usize),
    /// Its transpose, added to the map kept for it.
    Up(usize),
    /// Channels become squares of pixels.
    Shuffle,
}

/// Which rows of a map a row y of the result needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Row y.
    Same,
    /// Rows y − 1 to y + 1, and as many again as make pairs of rows: y is computed with its neighbour.
    Around,
    /// Rows 2y and 2y + 1.
    Pair,
    /// Row y / 2.
    Half,
}

/// One operation: makes one map out of one or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stage {
    pub op: Op,
    /// Maps that it reads; the second is added to the result.
    pub from: [Option<usize>; 2],
    /// The map that it writes; all that it reads have smaller numbers.
    pub to: usize,
}

/// A map's channels, and how often the unshuffled picture was halved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub channels: usize,
    pub level: usize,
}

/// The stages of a network and the maps between them. The last map is the finished picture, in rows of
/// squares.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub stages: Vec<Stage>,
    pub maps: Vec<Place>,
}

impl Op {
    fn reach(self) -> [Reach; 2] {
        match self {
            Self::Unshuffle | Self::Shuffle => [Reach::Same; 2],
            Self::Conv(_) | Self::First(_) | Self::Second(_) => [Reach::Around, Reach::Same],
            Self::Down(_) => [Reach::Pair, Reach::Same],
            Self::Up(_) => [Reach::Half, Reach::Same],
        }
    }
}

impl Reach {
    /// Rows of the result that can be computed from the first `done` of a map's `h`.
    fn rows(self, done: usize, h: usize) -> usize {
        match self {
            Self::Same => done,
            Self::Around if done == h => h,
            Self::Around => done.saturating_sub(1) / 2 * 2,
            Self::Pair => done / 2,
            Self::Half => 2 * done,
        }
    }

    /// The first row that is still needed when the first `done` rows of the result are there.
    fn oldest(self, done: usize) -> usize {
        match self {
            Self::Same => done,
            Self::Around => done.saturating_sub(1),
            Self::Pair => 2 * done,
            Self::Half => done / 2,
        }
    }
}

impl Flow {
    pub fn new(layout: &Layout) -> Self {
        let mut flow = Self { stages: vec![], maps: vec![] };
        let channels = |c: usize| layout.convs[c].cout.next_multiple_of(16);
        let stem = layout.config.stem().next_multiple_of(16);
        let (mut level, mut kept) = (0, vec![]);
        let mut last = flow.push(Op::Unshuffle, [None; 2], Place { channels: stem, level });
        for step in &layout.steps {
            last = match *step {
                Step::Stem(c) | Step::Head(c) => {
                    flow.push(Op::Conv(c), [Some(last), None], Place { channels: channels(c), level })
                }
                Step::Block(b) => {
                    let block = &layout.blocks[b];
                    let place = Place { channels: channels(block.conv1), level };
                    let hidden = flow.push(Op::First(b), [Some(last), None], place);
                    flow.push(Op::Second(block.conv2), [Some(hidden), Some(last)], place)
                }
                Step::Down(c) => {
                    kept.push(last);
                    level += 1;
                    flow.push(Op::Down(c), [Some(last), None], Place { channels: channels(c), level })
                }
                Step::Up(c) => {
                    level -= 1;
                    let skip = kept.pop();
                    flow.push(Op::Up(c), [Some(last), skip], Place { channels: channels(c), level })
                }
            };
        }
        flow.push(Op::Shuffle, [Some(last), None], Place { channels: layout.config.head(), level });
        flow
    }

    /// The maps that convolutions inside the network read, in order: what stem and head read is not among them.
    pub fn inner(&self) -> Vec<usize> {
        let read = |map: &usize| {
            let inner = |op| matches!(op, Op::First(_) | Op::Second(_) | Op::Down(_) | Op::Up(_));
            self.stages.iter().any(|reader| inner(reader.op) && reader.from[0] == Some(*map))
        };
        (0..self.maps.len()).filter(read).collect()
    }

    fn push(&mut self, op: Op, from: [Option<usize>; 2], place: Place) -> usize {
        let to = self.maps.len();
        self.stages.push(Stage { op, from, to });
        self.maps.push(place);
        to
    }

    /// The rows that a stage may compute next, given how many rows of each map are there, `done`, and
    /// that the picture comes in bands of `band` rows, a multiple of twice the deepest map's scale. `h`: rows of the unshuffled picture.
    pub fn next(&self, stage: &Stage, done: &[usize], h: usize, band: usize) -> Range<usize> {
        let begin = done[stage.to];
        let level = self.maps[stage.to].level;
        // A stage that has to catch up does so little by little: its map need not hold it all.
        let most = (h >> level).min(begin + (band >> level) + 2);
        let rows = |(from, reach): (Option<usize>, Reach)| {
            from.map(|from| reach.rows(done[from], h >> self.maps[from].level))
        };
        let ready = stage.from.into_iter().zip(stage.op.reach()).filter_map(rows).min();
        begin..ready.unwrap_or(begin + band).min(most)
    }

    /// Computes a picture of `h` rows, unshuffled, in bands: hands `stage` each stage and the rows that it may compute
    /// next, until the last map is complete. `done` is memory that is kept between calls.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] between two bands.
    pub fn run(
        &self,
        h: usize,
        band: usize,
        done: &mut Vec<usize>,
        cancel: &Cancel,
        mut stage: impl FnMut(&Stage, Range<usize>),
    ) -> Result<()> {
        done.clear();
        done.resize(self.maps.len(), 0);
        while done.last().is_some_and(|done| *done < h) {
            cancel.check()?;
            for each in &self.stages {
                let rows = self.next(each, done, h, band);
                if !rows.is_empty() {
                    done[each.to] = rows.end;
                    stage(each, rows);
                }
            }
        }
        Ok(())
    }

    /// Of each stage's map the height, width, channels, and the rows that exist at the same time, for a picture of `rows` ×
    /// `columns`, unshuffled; the last is the finished picture.
    pub fn sizes(&self, (rows, columns): (usize, usize), band: usize) -> Vec<(&Stage, [usize; 4])> {
        let mut sizes = Vec::with_capacity(self.stages.len());
        for (stage, lines) in self.stages.iter().zip(self.lines(rows, band)) {
            let Place { channels, level } = self.maps[stage.to];
            sizes.push((stage, [rows >> level, columns >> level, channels, lines]));
        }
        sizes
    }

    /// How many rows of each map exist at the same time, an even number.
    pub fn lines(&self, h: usize, band: usize) -> Vec<usize> {
        let mut done = vec![0; self.maps.len()];
        let mut lines = vec![0; self.maps.len()];
        while done.last().is_some_and(|last| *last < h) {
            for stage in &self.stages {
                let rows = self.next(stage, &done, h, band);
                done[stage.to] = rows.end;
                // What the readers have not done with yet, and what they need besides.
                for reader in &self.stages {
                    for (from, reach) in reader.from.into_iter().zip(reader.op.reach()) {
                        if from == Some(stage.to) {
                            let held = rows.end - reach.oldest(done[reader.to]).min(rows.end);
                            lines[stage.to] = lines[stage.to].max(held).max(rows.len());
                        }
                    }
                }
            }
        }
        lines.iter().map(|n| n.next_multiple_of(2)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::bridge::BridgeNetConfig;

    fn flow() -> Flow {
        let config = BridgeNetConfig {
            in_channels: 3,
            unshuffle: 2,
            widths: vec![16, 32, 48],
            encoder: vec![1, 0],
            middle: 2,
            decoder: vec![0, 1],
            time_features: 8,
        };
        Flow::new(&Layout::new(&config).unwrap())
    }

    /// Every row is computed once, in order, and whatever it reads is there and still there.
    #[test]
    fn rows_are_there_when_they_are_read() {
        let flow = flow();
        for h in [4, 8, 12, 20, 64, 172] {
            for band in [8, 24, 400] {
                let lines = flow.lines(h, band);
                let mut done = vec![0; flow.maps.len()];
                let mut rounds = 0;
                while *done.last().unwrap() < h {
                    rounds += 1;
                    assert!(rounds < 200, "{h} rows in bands of {band} never end");
                    for stage in &flow.stages {
                        let rows = flow.next(stage, &done, h, band);
                        assert_eq!(rows.start, done[stage.to]);
                        let pairs = stage.op.reach()[0] == Reach::Around && !rows.is_empty();
                        assert!(
                            !pairs
                                || rows.start % 2 == 0
                                    && (rows.end % 2 == 0 || rows.end == h >> flow.maps[stage.to].level)
                        );
                        for (from, reach) in stage.from.into_iter().zip(stage.op.reach()) {
                            let Some(from) = from else { continue };
                            let height = h >> flow.maps[from].level;
                            for y in rows.clone() {
                                let needed = match reach {
                                    Reach::Same => y..y + 1,
                                    Reach::Pair => 2 * y..2 * y + 2,
                                    Reach::Half => y / 2..y / 2 + 1,
                                    Reach::Around => {
                                        (y / 2 * 2).saturating_sub(1)..(y / 2 * 2 + 3).min(height)
                                    }
                                };
                                assert!(needed.end <= done[from], "{stage:?} row {y} comes too early");
                                assert!(
                                    needed.start + lines[from] >= done[from],
                                    "{stage:?} row {y} too late"
                                );
                            }
                        }
                        done[stage.to] = rows.end;
                    }
                }
                assert!(flow.maps.iter().zip(&done).all(|(m, done)| *done == h >> m.level));
            }
        }
    }

    #[test]
    fn most_maps_hold_few_rows_of_a_tall_picture() {
        let flow = flow();
        let (short, tall) = (flow.lines(400, 8), flow.lines(4000, 8));
        assert_eq!(short, tall);
        assert!(tall.iter().filter(|n| **n <= 16).count() >= tall.len() - 2, "{tall:?}");
    }
}
