// SPDX-License-Identifier: MIT OR Apache-2.0
//! The GStreamer plugin `i2sb`: the element [`i2sbrestore`].

pub mod engine;
pub mod flow;
pub mod i2sbrestore;

use gst::glib;
use i2sb::memory::KeepsLarge;

/// A frame's pictures and tensors lie where those of the one before lay.
#[global_allocator]
static MEMORY: KeepsLarge = KeepsLarge;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    i2sbrestore::register(plugin)
}

pub use export::plugin_register_static;

/// What GStreamer looks for in the library; the macro documents nothing of it.
#[allow(missing_docs)]
mod export {
    use super::plugin_init;

    gst::plugin_define!(
        i2sb,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MIT/X11",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        env!("BUILD_REL_DATE")
    );
}
