// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Debian package, built where this runs: `packaging/deb.sh`.

use std::process::Command;

pub fn run(_: &[String]) -> Vec<String> {
    match Command::new("packaging/deb.sh").current_dir(crate::root()).status() {
        Ok(status) if status.success() => Vec::new(),
        Ok(status) => vec![format!("packaging/deb.sh ended with {status}")],
        Err(error) => vec![format!("packaging/deb.sh: {error}")],
    }
}
