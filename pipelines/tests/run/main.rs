// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recipes on real files, through the program that users run: one binary, one module per matter.

mod compressed;
mod ending;
mod refusing;
mod rig;
