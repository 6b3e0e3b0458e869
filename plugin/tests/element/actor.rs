// SPDX-License-Identifier: MIT OR Apache-2.0
//! Engines whose cost and health a test controls while they work: `model=act:NAME`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Once};
use std::time::Duration;

use gsti2sb::engine::{About, Engine, EngineError, Knobs, Picture, provide};
use i2sb::Cancel;

/// Steps that every actor advises.
pub const STEPS: u32 = 4;

/// What an actor does at its next frame.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u32)]
pub enum Fault {
    None,
    Panic,
    Memory,
    Device,
    Load,
}

/// An actor's strings.
#[derive(Default)]
pub struct Control {
    /// Milliseconds per step.
    pub cost: AtomicU64,
    /// Levels of 8 bits that the whole number of steps adds, in full range.
    pub adds: AtomicU32,
    /// Frames it has worked on.
    pub frames: AtomicU64,
    fault: AtomicU32,
}

impl Control {
    pub fn fault(&self, fault: Fault) {
        self.fault.store(fault as u32, Ordering::SeqCst);
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault.load(Ordering::SeqCst) == fault as u32
    }
}

static CONTROLS: LazyLock<Mutex<HashMap<String, Arc<Control>>>> = LazyLock::new(Mutex::default);

/// The strings of the actor of this name, which adds so many levels.
pub fn control(name: &str, adds: u32) -> Arc<Control> {
    crate::null::init();
    static ONCE: Once = Once::new();
    ONCE.call_once(|| provide("act", make));
    let control = CONTROLS.lock().unwrap().entry(name.into()).or_default().clone();
    control.adds.store(adds, Ordering::SeqCst);
    control
}

struct Actor(About, Arc<Control>);

fn make(name: &str) -> Result<Box<dyn Engine>, EngineError> {
    let control = CONTROLS.lock().unwrap().get(name).expect("a test made it").clone();
    if control.has(Fault::Load) {
        return Err(i2sb::Error::file(name, "the file ends early").into());
    }
    let about = About { model: name.into(), steps: STEPS, ..About::default() };
    Ok(Box::new(Actor(about, control)))
}

impl Engine for Actor {
    fn about(&self) -> &About {
        &self.0
    }

    fn warm_up(&mut self, _: &Cancel) -> Result<(), EngineError> {
        Ok(())
    }

    fn restore(&mut self, picture: &Picture, knobs: &Knobs, cancel: &Cancel) -> Result<Picture, EngineError> {
        let control = &self.1;
        control.frames.fetch_add(1, Ordering::SeqCst);
        assert!(!control.has(Fault::Panic), "the actor panics on purpose");
        if control.has(Fault::Memory) {
            return Err(EngineError::OutOfMemory { tile: knobs.tile, reason: "on purpose".into() });
        }
        if control.has(Fault::Device) {
            return Err(i2sb::Error::Device { device: "cuda:0".into(), reason: "fell off".into() }.into());
        }
        let steps = if knobs.steps == 0 { STEPS } else { knobs.steps };
        for _ in 0..control.cost.load(Ordering::SeqCst) * u64::from(steps) {
            cancel.check().map_err(|_| EngineError::Cancelled)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let levels = control.adds.load(Ordering::SeqCst) as f32 * steps as f32 / STEPS as f32;
        let mut out = picture.clone();
        out.rgb.iter_mut().for_each(|v| *v += 2.0 * levels / 255.0);
        Ok(out)
    }
}
