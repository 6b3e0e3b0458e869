// SPDX-License-Identifier: MIT OR Apache-2.0
//! The source over time: opened, and opened anew when it ends, fails or falls silent, within a bound.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Air;
use super::intake::{Health, Intake};
use super::line::Line;
use super::patience::Backoff;

/// Where a source is.
enum Phase {
    /// Closed until then.
    Closed(Instant),
    /// Being opened, which may take as long as the network does.
    Opening(JoinHandle<Result<Intake>>),
    /// Being read.
    Open(Intake),
}

/// The source of a job.
pub struct Source<'a> {
    air: &'a Air<'a>,
    phase: Phase,
    backoff: Backoff,
    since: Instant,
    opened: u64,
    /// Since when no frame comes, while none does, and why.
    gone: Option<(Instant, String)>,
}

impl<'a> Source<'a> {
    /// A source that is opened at the next look.
    pub fn new(air: &'a Air<'a>) -> Self {
        let (since, backoff) = (Instant::now(), Backoff::default());
        Self { air, phase: Phase::Closed(since), backoff, since, opened: 0, gone: None }
    }

    /// Looks after it. Whether a source that is not live has ended; an error if such a one fails, or another has
    /// been gone for too long.
    pub fn look(&mut self, line: Option<&Arc<Line>>) -> Result<bool> {
        let (air, live) = (self.air, self.air.clock.is_some());
        let silent = line.map_or_else(|| self.since.elapsed(), |line| line.silent());
        match std::mem::replace(&mut self.phase, Phase::Closed(Instant::now())) {
            Phase::Closed(until) if Instant::now() < until => self.phase = Phase::Closed(until),
            Phase::Closed(_) => self.phase = Phase::Opening(self.open()),
            Phase::Opening(thread) if !thread.is_finished() => self.phase = Phase::Opening(thread),
            Phase::Opening(thread) => match thread.join().unwrap_or_else(|_| bail!("opening it panicked")) {
                Ok(intake) => self.phase = Phase::Open(intake),
                Err(error) if !live => bail!("{}: {error:#}", air.input),
                Err(error) => self.close(None, &format!("{error:#}")),
            },
            Phase::Open(intake) => match intake.health() {
                Health::Ended if !live => {
                    self.phase = Phase::Open(intake);
                    return Ok(true);
                }
                Health::Failed(reason) if !live => bail!("{}: {reason}", air.input),
                Health::Ended => self.close(Some(intake), "it has ended"),
                Health::Failed(reason) => self.close(Some(intake), &reason),
                // One that is slow to begin is given the time twice.
                Health::Fine
                    if live && silent.min(intake.since.elapsed() / 2) >= air.job.live.reopen_after() =>
                {
                    self.close(Some(intake), "no frame comes");
                }
                Health::Fine => self.phase = Phase::Open(intake),
            },
        }
        if live {
            self.judge(line.is_some(), silent)?;
        }
        Ok(false)
    }

    fn open(&mut self) -> JoinHandle<Result<Intake>> {
        let (source, job, gate) = (self.air.source.clone(), self.air.job.clone(), self.air.gate.clone());
        let clock = self.air.clock.clone();
        if self.opened > 0 {
            self.air.counts.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        self.opened += 1;
        std::thread::spawn(move || Intake::open(&source, &job, &gate, clock.as_ref()))
    }

    fn close(&mut self, intake: Option<Intake>, why: &str) {
        // It may wait for the network, which the picture must not.
        std::thread::spawn(move || drop(intake));
        if self.gone.as_ref().is_none_or(|(_, known)| known != why) {
            self.air.warn(&format!("{}: {why}; it is opened anew", self.air.input));
        }
        let since = self.gone.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        self.gone = Some((since, why.into()));
        self.phase = Phase::Closed(Instant::now() + self.backoff.next());
    }

    /// Says what has changed, and gives up if it takes too long.
    fn judge(&mut self, begun: bool, silent: Duration) -> Result<()> {
        let air = self.air;
        let here = begun && silent < air.job.live.reopen_after();
        air.counts.connected.store(here.into(), Ordering::Relaxed);
        if here {
            if self.gone.as_ref().is_none_or(|(since, _)| silent < since.elapsed()) {
                self.backoff = Backoff::default();
                if self.gone.take().is_some() {
                    air.news(&format!("{} is there again", air.input));
                }
            }
        } else if air.limit.is_over(silent) {
            let why = self.gone.as_ref().map_or("no frame comes", |(_, why)| why);
            bail!("{}: nothing for {} s: {why}", air.input, air.limit.0);
        }
        Ok(())
    }
}
