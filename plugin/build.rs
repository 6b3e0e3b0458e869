// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gives `plugin_define!` its commit and date.

fn main() {
    gst_plugin_version_helper::info();
}
