// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engines of one element: the model, those to step down to, how each fares, and which works on
//! the next frame.

use std::sync::Arc;
use std::time::Duration;

use super::settings::{AUTO_STEPS, LateFrames, Settings};
use super::stream::Pass;
use crate::engine::worker::Worker;
use crate::engine::{About, Knobs};
use crate::flow::fade::Fade;
use crate::flow::ladder::{Ladder, Move};
use crate::flow::outage::Outage;

/// Frames that a switch between two settings is spread over.
pub const FADE_FRAMES: u32 = 8;
/// The same for a step down, while which two engines work on each frame and time is short.
const HASTY_FADE_FRAMES: u32 = 3;

/// One model.
#[derive(Default)]
struct Seat {
    worker: Option<Arc<Worker>>,
    about: Option<About>,
    outage: Outage,
    /// The first load of all: frames wait for it.
    awaited: bool,
}

/// What a frame is given to: an engine and its number of steps (0: as the model advises), or nobody.
#[derive(Clone, Default)]
struct Choice(Option<(Arc<Worker>, u32)>);

impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        let id = |choice: &Self| choice.0.as_ref().map(|(worker, steps)| (worker.id(), *steps));
        id(self) == id(other)
    }
}

/// A rung: which seat works with how many steps; no seat: frames pass.
type Rung = Option<(usize, u32)>;

/// Why a frame goes out as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// A property or the frame itself asks for it.
    Asked,
    /// The machine cannot keep up.
    Overload,
    /// No engine can work.
    Outage,
}

/// Something to tell the bus, once.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The load moved the element to another rung: model and steps, `None` for passing frames through.
    Moved(Move, Option<(String, u32)>),
    /// An engine that had failed works again.
    Recovered(String),
    /// The model was exchanged while playing.
    Changed(String),
}

/// See the module.
#[derive(Default)]
pub struct Engines {
    seats: Vec<Seat>,
    next: Option<Arc<Worker>>,
    rungs: Vec<Rung>,
    asked: Option<(i32, bool)>,
    ladder: Option<Ladder>,
    fade: Fade<Choice>,
    hasty: bool,
    /// To be posted by the source pad's task.
    pub news: Vec<News>,
    /// Frames were last worked on by this one.
    pub about: Option<About>,
}

impl Engines {
    /// Starts anew with these engines, the model's first.
    pub fn start(&mut self, workers: Vec<Arc<Worker>>) {
        let seat = |worker| Seat { worker: Some(worker), ..Seat::default() };
        *self = Self { seats: workers.into_iter().map(seat).collect(), ..Self::default() };
        if let Some(first) = self.seats.first_mut() {
            first.awaited = true;
        }
    }

    /// Lets go of all; whether one of them was still loading.
    pub fn stop(&mut self) -> bool {
        let workers = self.seats.iter().filter_map(|seat| seat.worker.as_ref());
        let loading = workers.chain(&self.next).any(|worker| worker.is_loading());
        *self = Self { about: self.about.take(), ..Self::default() };
        loading
    }

    /// The seat an engine sits on.
    pub fn seat_of(&self, id: u64) -> Option<usize> {
        self.seats.iter().position(|seat| seat.worker.as_ref().is_some_and(|worker| worker.id() == id))
    }

    /// Whether this engine is to replace the model's when it is loaded.
    pub fn is_next(&self, id: u64) -> bool {
        self.next.as_ref().is_some_and(|next| next.id() == id)
    }

    /// An engine that shall replace the model's as soon as it is loaded; the one before, if it still
    /// loads, is forgotten.
    pub fn prepare(&mut self, next: Option<Arc<Worker>>) {
        self.next = next;
    }

    /// An engine was loaded.
    pub fn loaded(&mut self, id: u64, about: &About) {
        let mut changed = self.is_next(id);
        if changed && let Some(seat) = self.seats.first_mut() {
            *seat = Seat { worker: self.next.take(), ..Seat::default() };
            self.news.push(News::Changed(about.model.clone()));
        }
        if let Some(seat) = self.seat_of(id) {
            changed |= self.seats[seat].about.as_ref() != Some(about);
            self.seats[seat].about = Some(about.clone());
            self.seats[seat].awaited = false;
            if seat == 0 && self.about.is_none() {
                self.about = Some(about.clone());
            }
        }
        // The model's number of steps is known now.
        if changed {
            self.asked = None;
        }
    }

    /// An engine failed, or could not be loaded. `Some(true)` if this begins an outage, `None` if the
    /// engine is not one of these any more.
    pub fn failed(&mut self, id: u64, now: Duration) -> Option<bool> {
        let seat = self.seat_of(id)?;
        self.fade.cut(&Choice::default(), |choice| choice.0.as_ref().is_some_and(|(w, _)| w.id() == id));
        self.seats[seat].awaited = false;
        Some(self.seats[seat].outage.failed(now))
    }

    /// Seats whose engine is to be loaded again now; they are left empty for it.
    pub fn due(&mut self, now: Duration) -> Vec<usize> {
        let due: Vec<usize> =
            (0..self.seats.len()).filter(|&seat| self.seats[seat].outage.attempt(now)).collect();
        for &seat in &due {
            (self.seats[seat].worker, self.seats[seat].about) = (None, None);
        }
        due
    }

    /// Puts an engine on its seat; it works once it is loaded.
    pub fn seat(&mut self, seat: usize, worker: Arc<Worker>) {
        if let Some(seat) = self.seats.get_mut(seat) {
            seat.worker = Some(worker);
        }
    }

    /// An attempt to load could not even begin.
    pub fn not_started(&mut self, seat: usize, now: Duration) {
        if let Some(seat) = self.seats.get_mut(seat) {
            seat.outage.failed(now);
        }
    }

    /// An engine restored a frame; one that had failed is back by that, and not by having been loaded.
    pub fn succeeded(&mut self, id: u64, now: Duration) {
        let Some(seat) = self.seat_of(id) else { return };
        if self.seats[seat].outage.recovered(now) {
            let model = self.seats[seat].about.as_ref().map(|about| about.model.clone());
            self.news.push(News::Recovered(model.unwrap_or_default()));
        }
    }

    /// What came before has no bearing on the next frame: there is nothing to fade from.
    pub fn jump(&mut self) {
        self.fade = Fade::default();
    }

    /// A frame took this part of the time between two frames.
    pub fn worked(&mut self, id: u64, steps: u32, load: f64) {
        let seat = self.seat_of(id);
        let rung = self.rungs.iter().position(|&rung| rung.is_some() && rung == seat.map(|s| (s, steps)));
        if let (Some(rung), Some(ladder)) = (rung, &mut self.ladder) {
            ladder.worked(rung, load);
        }
    }

    /// A frame was too late, or could not be taken in time.
    pub fn late(&mut self, now: Duration) {
        if let Some(ladder) = &mut self.ladder {
            ladder.late(now);
        }
    }

    /// Who works on the next frame, with which share each; the rest of the picture is the input's.
    /// Nobody: why the frame passes. The move that the load asked for, if any.
    pub fn pick(&mut self, now: Duration, settings: &Settings) -> (Result<Vec<Pass>, Passed>, Option<Move>) {
        self.plan(now, settings);
        let (mut moved, mut at) = (None, 0);
        if let Some(ladder) = &mut self.ladder {
            let idle = self.rungs.get(ladder.at()).is_some_and(Option::is_none);
            moved = ladder.tick(now, idle);
            at = ladder.at();
        }
        // An engine that cannot work leaves its frames to the next that can.
        let target = self.rungs[at..].iter().find_map(|&rung| match rung {
            None => Some(Choice::default()),
            Some((seat, steps)) => {
                let seat = &self.seats[seat];
                let ready = !seat.outage.is_waiting() && (seat.about.is_some() || seat.awaited);
                let worker = seat.worker.clone().filter(|_| ready)?;
                Some(Choice(Some((worker, steps))))
            }
        });
        let why = match target {
            Some(Choice(None)) => Passed::Overload,
            _ => Passed::Outage,
        };
        let target = target.unwrap_or_default();
        if let Some(moved) = moved {
            self.hasty = moved == Move::Down;
            self.news.push(News::Moved(moved, self.name(&target)));
        }
        let length = if self.hasty { HASTY_FADE_FRAMES } else { FADE_FRAMES };
        let mix = self.fade.next(&target, length);
        self.hasty &= mix.old.is_some();
        self.note(&mix.main);
        let old = mix.old.as_ref().map_or(0.0, |(_, weight)| *weight);
        let shares = mix.old.into_iter().chain([(mix.main, 1.0 - old)]);
        let passes: Vec<Pass> = shares
            .filter_map(|(choice, weight)| {
                let (worker, steps) = choice.0?;
                Some(Pass { worker, knobs: Knobs { steps, ..settings.knobs.clone() }, weight })
            })
            .collect();
        (if passes.is_empty() { Err(why) } else { Ok(passes) }, moved)
    }

    fn seat_by_choice(&self, choice: &Choice) -> Option<&About> {
        let id = choice.0.as_ref()?.0.id();
        self.seats[self.seat_of(id)?].about.as_ref()
    }

    fn name(&self, choice: &Choice) -> Option<(String, u32)> {
        let steps = choice.0.as_ref()?.1;
        Some((self.seat_by_choice(choice)?.model.clone(), steps))
    }

    fn note(&mut self, choice: &Choice) {
        let about = self.seat_by_choice(choice);
        if about.is_some() && about != self.about.as_ref() {
            self.about = about.cloned();
        }
    }

    /// The rungs that the settings ask for, from best to cheapest.
    fn plan(&mut self, now: Duration, settings: &Settings) {
        let pass = settings.late_frames == LateFrames::PassThrough;
        if self.asked.replace((settings.steps, pass)) == Some((settings.steps, pass)) {
            return;
        }
        let auto = settings.steps == AUTO_STEPS;
        let mut rungs: Vec<Rung> = Vec::new();
        for (index, seat) in self.seats.iter().enumerate() {
            // As the model advises; then half of it, and half again.
            rungs.push(Some((index, settings.knobs.steps)));
            let most = seat.about.as_ref().map_or(1, |about| about.steps);
            let half = |&n: &u32| Some(n / 2).filter(|&n| n > 0);
            let halves = std::iter::successors(half(&most).filter(|_| auto), half);
            rungs.extend(halves.map(|steps| Some((index, steps))));
        }
        let adapts = auto || self.seats.len() > 1;
        if adapts && pass {
            rungs.push(None);
        }
        if rungs != self.rungs || self.ladder.is_some() != adapts {
            self.ladder = adapts.then(|| Ladder::new(rungs.len(), now));
            self.rungs = rungs;
        }
    }

    /// Steps of the rung in force; 0: as the model advises, or none.
    pub fn steps(&self) -> u32 {
        self.fade.main().and_then(|choice| choice.0.as_ref()).map_or(0, |(_, steps)| *steps)
    }
}
