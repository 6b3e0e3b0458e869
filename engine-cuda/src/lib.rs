// SPDX-License-Identifier: MIT OR Apache-2.0
//! `libi2sb-cuda.so`: the engine behind the C interface of `i2sb-cuda-abi`, so that a program that
//! stays loadable everywhere can load CUDA where it is.

mod exports;
mod state;
