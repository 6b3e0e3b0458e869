// SPDX-License-Identifier: MIT OR Apache-2.0
//! Engines without a network: `null:identity`, `null:add`, `null:slow:MS`, `null:deaf:MS` (slow, and never
//! asks whether it is cancelled), `null:panic:N`, `null:oom:TILE`, `null:nan`, `null:overflow`
//! (says of every second picture that it took f32), `null:broken`,
//! `null:slow-load:MS`, `null:height` (adds its picture's height in steps of 8 bits), `null:parts` (can do
//! parts), `null:two` (has a twin, and neither ends before the other has begun), `null:fill` (white in the hole; adds elsewhere, which nobody may see).
//! `null:raw:…` is any of them as an engine that takes frames in their own format; each such frame counts as `recomputed`.

use std::time::{Duration, Instant};

use gsti2sb::engine::reuse::Changed;
use gsti2sb::engine::{About, Engine, EngineError, Knobs, Picture, provide};
use i2sb::Cancel;

/// What `null:add` adds, in units of [-1, 1]: ten steps of 8 bits.
pub const ADDED: f32 = 20.0 / 255.0;

struct Null {
    about: About,
    kind: String,
    number: u64,
    calls: u64,
}

/// Another that takes frames in their own format.
struct Raw {
    about: About,
    inner: Box<dyn Engine>,
    frames: u64,
}

impl Engine for Raw {
    fn about(&self) -> &About {
        &self.about
    }

    fn warm_up(&mut self, cancel: &Cancel) -> Result<(), EngineError> {
        self.inner.warm_up(cancel)
    }

    fn restore(&mut self, picture: &Picture, knobs: &Knobs, cancel: &Cancel) -> Result<Picture, EngineError> {
        self.inner.restore(picture, knobs, cancel)
    }

    fn restore_raw(
        &mut self,
        raw: &mut i2sb::pixel::Raw,
        strength: f32,
        knobs: &Knobs,
        cancel: &Cancel,
    ) -> Result<bool, EngineError> {
        self.frames += 1;
        self.inner.restore_raw(raw, strength, knobs, cancel)
    }

    fn recomputed(&self) -> u64 {
        self.frames
    }
}

fn make(rest: &str) -> Result<Box<dyn Engine>, EngineError> {
    if let Some(rest) = rest.strip_prefix("raw:") {
        let inner = make(rest)?;
        let about = About { raw: true, ..inner.about().clone() };
        return Ok(Box::new(Raw { about, inner, frames: 0 }));
    }
    let (kind, rest) = rest.split_once(':').unwrap_or((rest, ""));
    if kind == "broken" {
        return Err(i2sb::Error::file("weights/broken/model.safetensors", "the file ends early").into());
    }
    let about = About { model: format!("null-{kind}"), device: "cpu".into(), ..About::default() };
    let number = rest.split(':').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    if kind == "slow-load" {
        std::thread::sleep(Duration::from_millis(number));
    }
    Ok(Box::new(Null { about, kind: kind.into(), number, calls: 0 }))
}

impl Engine for Null {
    fn about(&self) -> &About {
        &self.about
    }

    fn warm_up(&mut self, _: &Cancel) -> Result<(), EngineError> {
        Ok(())
    }

    fn restore(&mut self, picture: &Picture, knobs: &Knobs, cancel: &Cancel) -> Result<Picture, EngineError> {
        self.calls += 1;
        let mut out = picture.clone();
        match self.kind.as_str() {
            "add" => out.rgb.iter_mut().for_each(|v| *v += ADDED),
            "fill" => {
                let hole = picture.hole.clone().unwrap_or_default();
                for plane in out.rgb.chunks_exact_mut(hole.len().max(1)) {
                    plane
                        .iter_mut()
                        .zip(&*hole)
                        .for_each(|(v, h)| *v = if *h == 1.0 { 1.0 } else { *v + ADDED });
                }
            }
            "slow" => {
                let end = Instant::now() + Duration::from_millis(self.number);
                while Instant::now() < end {
                    cancel.check().map_err(|_| EngineError::Cancelled)?;
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            "deaf" => std::thread::sleep(Duration::from_millis(self.number)),
            "panic" if self.calls > self.number => panic!("null engine panics on purpose"),
            "oom" if knobs.tile == 0 || u64::from(knobs.tile) > self.number => {
                return Err(EngineError::OutOfMemory { tile: knobs.tile, reason: "on purpose".into() });
            }
            "height" => {
                let step = 2.0 * picture.height as f32 / 255.0;
                out.rgb.iter_mut().for_each(|v| *v += step);
            }
            "two" => {
                static BOTH: std::sync::Barrier = std::sync::Barrier::new(2);
                BOTH.wait();
            }
            "nan" => out.rgb[0] = f32::NAN,
            _ => {}
        }
        Ok(out)
    }

    fn restore_parts(
        &mut self,
        picture: &Picture,
        _previous: &Picture,
        changed: &Changed,
        knobs: &Knobs,
        cancel: &Cancel,
    ) -> Result<Option<(Picture, usize)>, EngineError> {
        if self.kind != "parts" {
            return Ok(None);
        }
        let reused = changed.blocks.len() - changed.grown(0).count();
        Ok(Some((self.restore(picture, knobs, cancel)?, reused)))
    }

    fn twin(&self) -> Result<Option<Box<dyn Engine>>, EngineError> {
        let twin = || Self { about: self.about.clone(), kind: self.kind.clone(), number: 0, calls: 0 };
        Ok((self.kind == "two").then(|| Box::new(twin()) as Box<dyn Engine>))
    }

    fn recomputed(&self) -> u64 {
        if self.kind == "overflow" { self.calls / 2 } else { 0 }
    }
}

/// Initialises GStreamer with this plugin and these engines, once, and starts the test's clock.
pub fn init() {
    crate::limit::start();
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        gst::init().expect("GStreamer starts");
        gsti2sb::plugin_register_static().expect("the plugin registers");
        provide("null", make);
    });
}
