// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolution through cuDNN, channels-last: descriptors, algorithms and workspace are found once per
//! geometry and kept.

use std::{collections::HashMap, ffi::c_void, sync::Arc};

use candle_core::cuda_backend::{
    WrapErr,
    cudarc::{
        cudnn::{
            result::{self, CudnnError},
            sys::{self, cudnnMathType_t, cudnnTensorFormat_t},
        },
        driver::{CudaSlice, CudaStream, DevicePtr},
    },
};

use super::{Address, Gpu, Number, lock};

/// Plans kept at most; a stream of ever new picture sizes must not fill the memory.
const PLANS_LIMIT: usize = 1024;
/// Algorithms that ask for more workspace than this are not taken, in bytes.
const WORKSPACE_LIMIT: usize = 1 << 30;
/// Number of algorithms that cuDNN is asked to rate.
const RATED: usize = 8;

/// One convolution: sizes of `x` `(B, H, W, cin)`, weights `(cout, k, k, cin)`, zero padding, stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub cin: usize,
    pub cout: usize,
    pub kernel: usize,
    pub padding: usize,
    pub stride: usize,
    pub number: Number,
}

impl Geometry {
    /// Height and width of the result.
    pub fn out(&self) -> (usize, usize) {
        let side = |n: usize| (n + 2 * self.padding - self.kernel) / self.stride + 1;
        (side(self.height), side(self.width))
    }

    /// cuDNN counts values in 31 bits.
    fn check(&self) -> candle_core::Result<()> {
        let (height, width) = self.out();
        let largest = (self.height * self.width * self.cin).max(height * width * self.cout) * self.batch;
        if largest > i32::MAX as usize {
            let text =
                format!("a convolution of {largest} values; cuDNN takes {}: set a smaller tile", i32::MAX);
            return Err(candle_core::Error::msg(text));
        }
        Ok(())
    }
}

/// The handle, the plans and the workspace that all share: work on one stream never overlaps.
pub(super) struct Convolutions {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    plans: HashMap<Geometry, Plan>,
    workspace: Option<CudaSlice<u8>>,
}

// SAFETY: cuDNN's handle and descriptors may move between threads; they are used by one at a time, as
// `Gpu` keeps them behind a lock.
unsafe impl Send for Convolutions {}

struct Plan {
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    conv: sys::cudnnConvolutionDescriptor_t,
    forward: Option<(sys::cudnnConvolutionFwdAlgo_t, usize)>,
    data: Option<(sys::cudnnConvolutionBwdDataAlgo_t, usize)>,
    filter: Option<(sys::cudnnConvolutionBwdFilterAlgo_t, usize)>,
}

fn told(error: CudnnError) -> candle_core::Error {
    candle_core::Error::wrap(error)
}

impl Convolutions {
    pub fn new(stream: &Arc<CudaStream>) -> candle_core::Result<Self> {
        stream.context().bind_to_thread().w()?;
        let handle = result::create_handle().map_err(told)?;
        // SAFETY: the handle was just made; the stream lives as long as this struct holds it.
        unsafe { result::set_stream(handle, stream.cu_stream() as _) }.map_err(told)?;
        Ok(Self { handle, stream: stream.clone(), plans: HashMap::new(), workspace: None })
    }

    fn clear(&mut self) {
        // Work in flight does not use descriptors: cuDNN has read them when a call returns.
        for (_, plan) in self.plans.drain() {
            // SAFETY: made in `Plan::new`, destroyed here and nowhere else.
            unsafe {
                let _ = result::destroy_tensor_descriptor(plan.x);
                let _ = result::destroy_filter_descriptor(plan.w);
                let _ = result::destroy_tensor_descriptor(plan.y);
                let _ = result::destroy_convolution_descriptor(plan.conv);
            }
        }
    }
}

impl Drop for Convolutions {
    fn drop(&mut self) {
        // The thread that lets go of it may have had to do with another device.
        let _ = self.stream.context().bind_to_thread();
        self.clear();
        // SAFETY: made in `new`, destroyed here and nowhere else.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Plan {
    fn new(g: &Geometry) -> Result<Self, CudnnError> {
        let c = |n: usize| n as std::ffi::c_int;
        let (oh, ow) = g.out();
        let tensor = |h: usize, w: usize, channels: usize| {
            let desc = result::create_tensor_descriptor()?;
            let strides = [c(h * w * channels), 1, c(w * channels), c(channels)];
            let dims = [c(g.batch), c(channels), c(h), c(w)];
            // SAFETY: the descriptor was just made.
            unsafe { result::set_tensor4d_descriptor_ex(desc, g.number.cudnn(), dims, strides) }?;
            Ok(desc)
        };
        let (x, y) = (tensor(g.height, g.width, g.cin)?, tensor(oh, ow, g.cout)?);
        let w = result::create_filter_descriptor()?;
        let conv = result::create_convolution_descriptor()?;
        // Real f32 where f32 is asked for; tensor cores with f32 sums otherwise.
        let math = match g.number {
            Number::F32 => cudnnMathType_t::CUDNN_FMA_MATH,
            _ => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        };
        let (pad, stride) = (c(g.padding), c(g.stride));
        // SAFETY: the descriptors were just made.
        unsafe {
            let dims = [c(g.cout), c(g.cin), c(g.kernel), c(g.kernel)];
            result::set_filter4d_descriptor(
                w,
                g.number.cudnn(),
                cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
                dims,
            )?;
            let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
            let sum = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
            result::set_convolution2d_descriptor(conv, pad, pad, stride, stride, 1, 1, mode, sum)?;
            result::set_convolution_math_type(conv, math)?;
        }
        Ok(Self { x, w, y, conv, forward: None, data: None, filter: None })
    }
}

/// The first algorithm that cuDNN has for a geometry within the workspace: the one that we know to be
/// right for channels-last tensors and to give the same bits every time, else the best that it rates.
macro_rules! choose {
    ($first:expr, $size:expr, $rate:expr, $perf:ty) => {{
        let size = $size;
        let fits = |algo| size(algo).ok().filter(|bytes| *bytes <= WORKSPACE_LIMIT).map(|b| (algo, b));
        match fits($first) {
            Some(found) => Ok(found),
            None => {
                let mut count = 0;
                // SAFETY: plain numbers, for which zero is a value.
                let mut rated: [$perf; RATED] = unsafe { std::mem::zeroed() };
                $rate(RATED as std::ffi::c_int, &raw mut count, rated.as_mut_ptr()).map_err(told)?;
                let usable = rated.iter().take(count as usize).filter(|r| r.status.result().is_ok());
                let mut found = usable.filter_map(|r| fits(r.algo));
                found.next().ok_or_else(|| {
                    candle_core::Error::msg(format!(
                        "cuDNN has no algorithm within {} MiB for this convolution",
                        WORKSPACE_LIMIT >> 20
                    ))
                })
            }
        }
    }};
}

/// What a convolution reads and writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pass {
    /// `y` from `x` and the weights.
    Forward,
    /// The gradient of `x` from the weights and that of `y`.
    Data,
    /// The gradient of the weights from `x` and that of `y`.
    Filter,
}

impl Gpu {
    /// Where the convolutions' workspace is; it moves when a larger one is needed.
    pub fn workspace(&self) -> Option<Address> {
        lock(&self.convolutions).workspace.as_ref().map(|space| self.address(space))
    }

    /// Runs one pass: `a` and `b` are read, in the order in which [`Pass`] names them; `to` is written.
    ///
    /// # Errors
    /// cuDNN's and the driver's.
    ///
    /// # Safety
    /// The three addresses hold as many values as `g` says.
    pub unsafe fn convolve(
        &self,
        g: &Geometry,
        pass: Pass,
        a: Address,
        b: Address,
        to: Address,
    ) -> candle_core::Result<()> {
        let mut all = lock(&self.convolutions);
        let all = &mut *all;
        all.stream.context().bind_to_thread().w()?;
        let handle = all.handle;
        if !all.plans.contains_key(g) {
            g.check()?;
            if all.plans.len() >= PLANS_LIMIT {
                all.clear();
            }
            all.plans.insert(*g, Plan::new(g).map_err(told)?);
        }
        let plan = all.plans.get_mut(g).expect("inserted above");
        let (x, w, y, conv) = (plan.x, plan.w, plan.y, plan.conv);
        let bytes = match pass {
            Pass::Forward if plan.forward.is_none() => {
                let first = sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
                // SAFETY: handle and descriptors are alive.
                let size = |algo| unsafe {
                    result::get_convolution_forward_workspace_size(handle, x, w, conv, y, algo)
                };
                // SAFETY: as above; the two last point to a count and to as many places as are asked for.
                let rate = |n, count, to| unsafe {
                    result::get_convolution_forward_algorithm(handle, x, w, conv, y, n, count, to)
                };
                plan.forward.insert(choose!(first, size, rate, sys::cudnnConvolutionFwdAlgoPerf_t)?).1
            }
            Pass::Data if plan.data.is_none() => {
                let first = sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
                // SAFETY: handle and descriptors are alive.
                let size = |algo| unsafe {
                    result::get_convolution_backward_data_workspace_size(handle, w, y, conv, x, algo)
                };
                // SAFETY: as above; the two last point to a count and to as many places as are asked for.
                let rate = |n, count, to| unsafe {
                    result::get_convolution_backward_data_algorithm(handle, w, y, conv, x, n, count, to)
                };
                plan.data.insert(choose!(first, size, rate, sys::cudnnConvolutionBwdDataAlgoPerf_t)?).1
            }
            Pass::Filter if plan.filter.is_none() => {
                let first = sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
                // SAFETY: handle and descriptors are alive.
                let size = |algo| unsafe {
                    result::get_convolution_backward_filter_workspace_size(handle, x, y, conv, w, algo)
                };
                // SAFETY: as above; the two last point to a count and to as many places as are asked for.
                let rate = |n, count, to| unsafe {
                    result::get_convolution_backward_filter_algorithm(handle, x, y, conv, w, n, count, to)
                };
                plan.filter.insert(choose!(first, size, rate, sys::cudnnConvolutionBwdFilterAlgoPerf_t)?).1
            }
            Pass::Forward => plan.forward.map_or(0, |f| f.1),
            Pass::Data => plan.data.map_or(0, |f| f.1),
            Pass::Filter => plan.filter.map_or(0, |f| f.1),
        };
        if all.workspace.as_ref().map_or(0, CudaSlice::len) < bytes {
            // The old one first: there may not be room for both. The stream frees it after its last use.
            all.workspace = None;
            all.workspace = Some(self.bytes(bytes)?);
        }
        let space = all.workspace.as_ref().map_or(std::ptr::null_mut(), |s| s.device_ptr(&all.stream).0 as _);
        let (one, zero) = (1f32, 0f32);
        let (one, zero) = ((&raw const one).cast::<c_void>(), (&raw const zero).cast::<c_void>());
        let (a, b, to) = (a as *const c_void, b as *const c_void, to as *mut c_void);
        let missing = || candle_core::Error::msg("a convolution without an algorithm");
        // SAFETY: handle and descriptors are alive, the workspace is large enough, and the caller
        // promises the sizes of the three tensors.
        unsafe {
            match pass {
                Pass::Forward => {
                    let algo = plan.forward.ok_or_else(missing)?.0;
                    result::convolution_forward(
                        handle, one, x, a, w, b, conv, algo, space, bytes, zero, y, to,
                    )
                }
                Pass::Data => {
                    let algo = plan.data.ok_or_else(missing)?.0;
                    result::convolution_backward_data(
                        handle, one, w, a, y, b, conv, algo, space, bytes, zero, x, to,
                    )
                }
                Pass::Filter => {
                    let algo = plan.filter.ok_or_else(missing)?.0;
                    result::convolution_backward_filter(
                        handle, one, x, a, y, b, conv, algo, space, bytes, zero, w, to,
                    )
                }
            }
        }
        .map_err(told)
    }
}
