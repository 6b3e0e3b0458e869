// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine's CUDA code on a machine without CUDA: built with a stand-in for nvcc, run over an
//! emulated device that computes, checks memory, and counts.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the emulated toolkit and its build go.
const FOLDER: &str = "target/cuda-check";
/// Libraries that a CUDA build is linked with; the emulated device is the first, and has all functions.
const LIBRARIES: &[&str] = &[
    "libcuda.so.1",
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudart.so.13",
    "libcurand.so.10",
    "libnvrtc.so.13",
    "libcudnn.so.9",
];
/// Our kernels.
const KERNELS: &str = "engine/src/ops/cuda/kernels.cu";

/// Arguments: words that choose tests; without any, all that have `cuda` in their names.
pub fn run(only: &[String]) -> Vec<String> {
    let root = crate::root();
    let toolkit = root.join(FOLDER).join("toolkit");
    if let Err(reason) = make_toolkit(&root, &toolkit) {
        return vec![reason];
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let bin = toolkit.join("bin");
    let words: Vec<&str> =
        if only.is_empty() { vec!["cuda"] } else { only.iter().map(String::as_str).collect() };
    let status = Command::new("cargo")
        .args(["test", "-p", "i2sb", "--lib", "--features", "cudnn", "--"])
        .args(words)
        .current_dir(&root)
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("NVCC", bin.join("nvcc"))
        .envs(["CUDA_HOME", "CUDA_PATH"].map(|name| (name, &toolkit)))
        .env("CUDA_COMPUTE_CAP", "90")
        .env("LD_LIBRARY_PATH", toolkit.join("lib"))
        .env("CARGO_TARGET_DIR", root.join(FOLDER).join("build"))
        .envs([("CARGO_PROFILE_DEV_DEBUG", "0"), ("CARGO_INCREMENTAL", "0")])
        // The emulated device counts for one test at a time.
        .env("RUST_TEST_THREADS", "1")
        .status();
    match status {
        Ok(status) if status.success() => Vec::new(),
        Ok(status) => vec![format!("the tests over the emulated device ended with {status}")],
        Err(error) => vec![format!("cannot start cargo: {error}")],
    }
}

/// `bin/nvcc` and `lib/*.so`, made anew each time: seconds.
fn make_toolkit(root: &Path, toolkit: &Path) -> Result<(), String> {
    let told = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| format!("{}: {error}", path.display())
    };
    let (bin, lib) = (toolkit.join("bin"), toolkit.join("lib"));
    for folder in [&bin, &lib.join("stubs")] {
        fs::create_dir_all(folder).map_err(told(folder))?;
    }
    let nvcc = bin.join("nvcc");
    fs::copy(root.join("tests/cuda/nvcc"), &nvcc).map_err(told(&nvcc))?;
    fs::set_permissions(&nvcc, fs::Permissions::from_mode(0o755)).map_err(told(&nvcc))?;
    let emulator = root.join("tests/cuda/emulator.cpp");
    let nothing = toolkit.join("nothing.c");
    fs::write(&nothing, "").map_err(told(&nothing))?;
    for (i, name) in LIBRARIES.iter().enumerate() {
        let mut compiler = Command::new("g++");
        compiler.args(["-shared", "-fPIC", &format!("-Wl,-soname,{name}"), "-o"]).arg(lib.join(name));
        if i == 0 {
            compiler.args(["-std=c++17", "-O2", "-w", "-I"]).arg(root.join("tests/cuda/include"));
            compiler.arg(format!("-DKERNELS_FILE=\"{}\"", root.join(KERNELS).display())).arg(&emulator);
        } else {
            compiler.arg(&nothing);
        }
        let status = compiler.status().map_err(|error| format!("cannot start g++: {error}"))?;
        if !status.success() {
            return Err(format!("g++ did not make {name}"));
        }
        let plain = name.split(".so").next().unwrap_or(name);
        link(&lib.join(name), &lib.join(format!("{plain}.so")))?;
    }
    link(&lib.join(LIBRARIES[0]), &lib.join("stubs/libcuda.so"))
}

fn link(to: &Path, at: &PathBuf) -> Result<(), String> {
    let _ = fs::remove_file(at);
    std::os::unix::fs::symlink(to, at).map_err(|error| format!("{}: {error}", at.display()))
}
