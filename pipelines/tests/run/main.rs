// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recipes on real files, through the program that users run: one binary, one module per matter.

mod air;
mod archive;
mod archive_exact;
mod archive_refusing;
mod carried;
mod compressed;
mod ending;
mod live;
mod onair;
mod own;
mod refusing;
mod rig;
mod soak;
mod trouble;
mod whole;
