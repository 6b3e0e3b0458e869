// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the CUDA library is looked for.

use std::path::{Path, PathBuf};

use i2sb_cuda_abi::FILES;

/// Names the library's file; then it is looked for nowhere else.
pub const LIBRARY_VARIABLE: &str = "I2SB_CUDA_LIBRARY";

/// Every place in order: what [`LIBRARY_VARIABLE`] names; beside the plugin and one folder above it;
/// beside the program; and, as a bare name, where the system's loader looks.
pub fn places() -> Vec<PathBuf> {
    let named = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty());
    let plugin = gst::Registry::get().find_plugin("i2sb").and_then(|plugin| plugin.filename());
    let program = std::env::current_exe().ok();
    from(named.map(PathBuf::from).as_deref(), plugin.as_deref(), program.as_deref())
}

fn from(named: Option<&Path>, plugin: Option<&Path>, program: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = named {
        return vec![path.to_path_buf()];
    }
    let beside = plugin.and_then(Path::parent);
    let folders = [beside, beside.and_then(Path::parent), program.and_then(Path::parent)];
    let mut places: Vec<PathBuf> = Vec::new();
    for folder in folders.into_iter().flatten() {
        for file in FILES {
            let place = folder.join(file);
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    places.push(FILES[0].into());
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_named_then_plugin_then_program_then_system() {
        assert_eq!(
            from(Some(Path::new("/x/y.so")), Some(Path::new("/p/q.so")), None),
            [PathBuf::from("/x/y.so")]
        );
        let places =
            from(None, Some(Path::new("/lib/gstreamer-1.0/libgsti2sb.so")), Some(Path::new("/bin/p")));
        let shown: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        let expected = [
            "/lib/gstreamer-1.0/libi2sb-cuda.so",
            "/lib/gstreamer-1.0/libi2sb_cuda.so",
            "/lib/libi2sb-cuda.so",
            "/lib/libi2sb_cuda.so",
            "/bin/libi2sb-cuda.so",
            "/bin/libi2sb_cuda.so",
            "libi2sb-cuda.so",
        ];
        assert_eq!(shown, expected);
    }
}
