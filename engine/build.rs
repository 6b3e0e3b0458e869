// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles our CUDA kernels to PTX for the features `cuda` and `cudnn`; does nothing otherwise.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cudnn")]
    {
        let (kernels, header) = ("src/ops/cuda/kernels.cu", "src/ops/cuda/frames.cuh");
        println!("cargo::rerun-if-changed={kernels}");
        println!("cargo::rerun-if-changed={header}");
        let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        cudaforge::KernelBuilder::new()
            .source_files([kernels])
            .watch([header])
            .args(["-std=c++17", "-O3"])
            .build_ptx()
            .and_then(|ptx| ptx.write(out.join("kernels.rs")))
            .expect("nvcc compiles the kernels; see docs/cuda.md for the toolkit");
    }
}
