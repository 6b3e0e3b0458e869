// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gives `plugin_define!` its commit and date.

use std::process::Command;

fn main() {
    gst_plugin_version_helper::info();
    println!("cargo::rerun-if-changed=build.rs");
    // What is written into provenance is the commit that was built: a new one is a reason to build again.
    let log = Command::new("git").args(["rev-parse", "--git-path", "logs/HEAD"]).output();
    if let Some(log) = log.ok().filter(|log| log.status.success()) {
        println!("cargo::rerun-if-changed={}", String::from_utf8_lossy(&log.stdout).trim());
    }
}
