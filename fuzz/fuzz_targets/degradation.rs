// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the entry `degradation`.
#![no_main]

#[path = "../src/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("degradation", data));
