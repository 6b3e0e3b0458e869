// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batches made ahead of the network by threads of their own, in the order of their numbers.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

use super::crop::{Sample, Samples};
use crate::{Error, Result};

/// Some samples one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of the first sample.
    pub first: u64,
    /// Clean, `(B, 3, height, width)`, range [-1, 1].
    pub x0: Vec<f32>,
    /// Degraded, likewise.
    pub x1: Vec<f32>,
    /// Holes of inpainting, `(B, 1, height, width)`.
    pub mask: Option<Vec<f32>>,
}

impl Batch {
    /// Samples `first` to `first + count − 1`.
    ///
    /// # Errors
    /// As [`Samples::sample`].
    pub fn make(samples: &Samples, first: u64, count: usize) -> Result<Self> {
        let mut batch = Self { first, x0: Vec::new(), x1: Vec::new(), mask: None };
        for index in 0..count as u64 {
            let Sample { x0, x1, mask } = samples.sample(first.wrapping_add(index))?;
            batch.x0.extend(x0);
            batch.x1.extend(x1);
            if let Some(mask) = mask {
                batch.mask.get_or_insert_default().extend(mask);
            }
        }
        Ok(batch)
    }
}

/// Batches `first`, `first + count`, …, ready before they are asked for. Dropping it ends the
/// threads.
pub struct Prefetch {
    receivers: Vec<Receiver<Result<Batch>>>,
    threads: Vec<JoinHandle<()>>,
    turn: usize,
}

impl Prefetch {
    /// Starts `threads` threads (at least one) that together keep some batches of `count` samples
    /// ready, from sample `first` on.
    ///
    /// # Errors
    /// [`Error::Device`] if a thread cannot be started.
    pub fn start(samples: Arc<Samples>, first: u64, count: usize, threads: usize) -> Result<Self> {
        let workers = threads.max(1);
        let mut prefetch = Self { receivers: Vec::new(), threads: Vec::new(), turn: 0 };
        for worker in 0..workers {
            let (sender, receiver) = sync_channel(AHEAD);
            let (samples, from) = (samples.clone(), first.wrapping_add((worker * count) as u64));
            let work = move || fill(&samples, from, count, workers, &sender);
            let failed =
                |err: std::io::Error| Error::Device { device: "cpu".into(), reason: err.to_string() };
            prefetch.threads.push(Builder::new().name("i2sb-data".into()).spawn(work).map_err(failed)?);
            prefetch.receivers.push(receiver);
        }
        Ok(prefetch)
    }

    /// The next batch.
    ///
    /// # Errors
    /// What making it returned.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let receiver = &self.receivers[self.turn];
        self.turn = (self.turn + 1) % self.receivers.len();
        let ended = |_| {
            let reason = "a thread that makes samples has ended; its own message says why".to_owned();
            Err(Error::Device { device: "cpu".into(), reason })
        };
        receiver.recv().unwrap_or_else(ended)
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        // Without receivers every send fails, which ends the threads.
        self.receivers.clear();
        for thread in self.threads.drain(..) {
            // A panic there has been reported by its own message.
            let _ = thread.join();
        }
    }
}

/// Batches that each thread may be ahead, besides the one it is making.
const AHEAD: usize = 2;

fn fill(samples: &Samples, mut first: u64, count: usize, workers: usize, sender: &SyncSender<Result<Batch>>) {
    loop {
        let batch = Batch::make(samples, first, count);
        let failed = batch.is_err();
        if sender.send(batch).is_err() || failed {
            return;
        }
        first = first.wrapping_add((count * workers) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Cancel, degrade,
        train::{
            crop::CropOptions,
            dataset::{Dataset, DatasetOptions},
        },
    };

    #[test]
    fn batches_come_in_order_whatever_the_threads() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pictures");
        let options = DatasetOptions { min_side: 1, ..Default::default() };
        let dataset =
            Dataset::open(&folder, None, &options, &Cancel::default(), |_, _| {}, |_, _| {}).unwrap();
        let crop = CropOptions { width: 8, height: 8, ..Default::default() };
        let holes = degrade::parse("jpeg:5-95+inpaint-center").unwrap();
        let samples = Arc::new(Samples::new(dataset, holes, crop, 1).unwrap());
        for threads in [0, 1, 3] {
            let mut ahead = Prefetch::start(samples.clone(), 100, 4, threads).unwrap();
            for i in 0..5 {
                assert_eq!(ahead.next_batch().unwrap(), Batch::make(&samples, 100 + 4 * i, 4).unwrap());
            }
        }
    }
}
