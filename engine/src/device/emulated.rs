// SPDX-License-Identifier: MIT OR Apache-2.0
//! For tests: a CUDA device, real or that of `tests/cuda/emulator/`, and what the latter tells and is told.

use candle_core::Device;
use libloading::os::unix::{Library, Symbol};

use super::DeviceName;

/// The device, or a loud word that there is none.
pub(crate) fn device() -> Option<Device> {
    match DeviceName::Cuda(0).open() {
        Ok(device) => Some(device),
        Err(error) => {
            println!("SKIPPED: {error}");
            None
        }
    }
}

/// One of the emulated device's counters, in the order of its source, if it is one.
pub(crate) fn counter(which: u32) -> Option<u64> {
    // SAFETY: the emulated driver's only function of this name has this type.
    let read: Symbol<unsafe extern "C" fn(u32) -> u64> =
        unsafe { Library::this().get(b"emulator_counter\0") }.ok()?;
    // SAFETY: it takes any number.
    Some(unsafe { read(which) })
}

/// Runs `work` with the emulated device's streams as early and late as chance has it, and as late as they may be.
pub(crate) fn in_any_order(work: impl Fn()) {
    // SAFETY: the emulated driver's only function of this name has this type.
    let seed = unsafe { Library::this().get::<unsafe extern "C" fn(u32)>(b"emulator_seed\0") };
    let Ok(seed) = seed else { return work() };
    for order in (0..6).rev() {
        // SAFETY: it takes any number.
        unsafe { seed(order) };
        work();
    }
}
