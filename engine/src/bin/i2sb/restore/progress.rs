// SPDX-License-Identifier: MIT OR Apache-2.0
//! The progress bar: pictures done, megapixels per second, time left.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// A picture counts as this many steps of the bar.
const PER_PICTURE: u64 = 1000;

/// A bar on standard error; without a terminal nothing is drawn.
pub struct Progress {
    bar: ProgressBar,
    total: usize,
    begin: Instant,
    /// Pictures that are finished.
    done: AtomicU64,
    /// Pixels of the pictures that are finished.
    pixels: AtomicU64,
    /// Pixels of the picture at hand.
    current: AtomicU64,
}

impl Progress {
    pub fn new(total: usize) -> Self {
        let bar = ProgressBar::new(total as u64 * PER_PICTURE);
        let style = ProgressStyle::with_template("{bar:30} {msg}, {eta} left");
        bar.set_style(style.expect("the template is well formed"));
        bar.enable_steady_tick(Duration::from_millis(200));
        let zero = || AtomicU64::new(0);
        Self { bar, total, begin: Instant::now(), done: zero(), pixels: zero(), current: zero() }
    }

    /// `share`, 0 to 1, of a picture of `pixels` is done.
    pub fn picture(&self, share: f32, pixels: usize) {
        self.current.store(pixels as u64, Ordering::Relaxed);
        let done = self.done.load(Ordering::Relaxed);
        let part = (share.clamp(0.0, 1.0) * PER_PICTURE as f32) as u64;
        let restored = self.pixels.load(Ordering::Relaxed) + pixels as u64 * part / PER_PICTURE;
        self.show(done * PER_PICTURE + part, restored);
    }

    /// The first `count` pictures are finished.
    pub fn finished(&self, count: u64) {
        self.done.store(count, Ordering::Relaxed);
        let pixels = self.current.swap(0, Ordering::Relaxed);
        let restored = self.pixels.fetch_add(pixels, Ordering::Relaxed) + pixels;
        self.show(count * PER_PICTURE, restored);
    }

    /// One line for the user, above the bar.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("i2sb: {text}"));
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&self, position: u64, pixels: u64) {
        let rate = pixels as f64 / 1e6 / self.begin.elapsed().as_secs_f64().max(1e-3);
        let done = self.done.load(Ordering::Relaxed);
        self.bar.set_message(format!("{done}/{} pictures, {rate:.2} Mpx/s", self.total));
        self.bar.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
