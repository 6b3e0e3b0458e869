// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our own operations on a CUDA device, beneath candle's tensors: convolution through cuDNN with what
//! it needs kept between calls, and fused kernels for what lies between convolutions.
//!
//! Computations run on one stream, in the order in which they are asked for, those of a network whose launches
//! become a graph on one of its own; pictures come and go on two others. Events join them, and nothing but the
//! end of a copy is waited for.

mod convolution;
mod copies;
mod custom;
mod frames;
#[cfg(test)]
mod frames_tests;
mod graph;
mod group_norm;
mod launch;
mod modulate;
mod number;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
};

use candle_core::{
    CudaDevice, Device,
    cuda_backend::{
        DeviceId, WrapErr,
        cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr, result},
    },
};

pub(crate) use self::{
    convolution::{Geometry, Pass},
    custom::{Bias, Convolution},
    graph::Graph,
    group_norm::group_norm,
    launch::{Affine, Rows, halve, repeat},
    modulate::Modulate,
    number::Number,
};
use crate::{Error, Result};

/// A place in the device's memory.
pub(crate) type Address = u64;

/// A device with what its operations keep: the cuDNN handle, plans of convolutions and their workspace, and what
/// pictures pass through.
pub(crate) struct Gpu {
    device: CudaDevice,
    /// What everything is launched on.
    stream: Arc<CudaStream>,
    convolutions: Mutex<convolution::Convolutions>,
    copies: copies::Copies,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Gpu({:?})", self.device.id())
    }
}

static OPEN: LazyLock<Mutex<HashMap<DeviceId, Weak<Gpu>>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// The one for this device, on the stream of its tensors; it is let go with the last network that holds it.
    ///
    /// # Errors
    /// [`Error::Device`] if it is no CUDA device, or cuDNN cannot be used.
    pub fn of(device: &Device) -> Result<Arc<Self>> {
        let cuda = cuda(device)?;
        let mut open = lock(&OPEN);
        if let Some(gpu) = open.get(&cuda.id()).and_then(Weak::upgrade) {
            return Ok(gpu);
        }
        open.retain(|_, gpu| gpu.strong_count() > 0);
        let gpu = Arc::new(Self::on(cuda, cuda.cuda_stream()).map_err(|reason| refused(device, reason))?);
        open.insert(cuda.id(), Arc::downgrade(&gpu));
        Ok(gpu)
    }

    /// One on a stream of its own, on which nobody else launches: what is recorded there is one network's.
    ///
    /// # Errors
    /// As [`Gpu::of`].
    pub fn apart(device: &Device) -> Result<Self> {
        let cuda = cuda(device)?;
        let stream = cuda.cuda_stream().context().new_stream().w();
        stream.and_then(|stream| Self::on(cuda, stream)).map_err(|reason| refused(device, reason))
    }

    fn on(device: &CudaDevice, stream: Arc<CudaStream>) -> candle_core::Result<Self> {
        let convolutions = Mutex::new(convolution::Convolutions::new(&stream)?);
        let copies = copies::Copies::new(&stream)?;
        Ok(Self { device: device.clone(), stream, convolutions, copies })
    }

    /// What comes next here waits for what the device's tensors wait for.
    ///
    /// # Errors
    /// The driver's.
    pub fn after_tensors(&self) -> candle_core::Result<()> {
        self.stream.join(&self.device.cuda_stream()).w()
    }

    /// What comes next on the device's tensors waits for what was launched here.
    ///
    /// # Errors
    /// The driver's.
    pub fn before_tensors(&self) -> candle_core::Result<()> {
        self.device.cuda_stream().join(&self.stream).w()
    }

    /// Copies within the device.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Safety
    /// Both addresses have `bytes` bytes, and no others are there before this stream gets to it.
    pub unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> candle_core::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }.w()
    }

    /// Bytes on the device, not set to anything.
    ///
    /// # Errors
    /// The driver's, if memory is short.
    pub fn bytes(&self, length: usize) -> candle_core::Result<CudaSlice<u8>> {
        // SAFETY: every byte that a kernel reads was written by one before it on the same stream.
        unsafe { self.stream.alloc::<u8>(length.max(1)) }.w()
    }

    /// Uploads a few values that stay.
    ///
    /// # Errors
    /// The driver's, if memory is short.
    pub fn upload<T: DeviceRepr>(&self, values: &[T]) -> candle_core::Result<CudaSlice<T>> {
        self.stream.clone_htod(values).w()
    }

    /// Where a slice begins.
    pub fn address<T>(&self, slice: &CudaSlice<T>) -> Address {
        // Events are ours to make: the guard has nothing to record.
        slice.device_ptr(&self.stream).0
    }

    /// The device of the tensor library.
    pub fn device(&self) -> &CudaDevice {
        &self.device
    }
}

fn cuda(device: &Device) -> Result<&CudaDevice> {
    match device {
        Device::Cuda(cuda) => Ok(cuda),
        _ => Err(Error::Device {
            device: format!("{:?}", device.location()),
            reason: "not a CUDA device".into(),
        }),
    }
}

fn refused(device: &Device, error: candle_core::Error) -> Error {
    let reason = format!("{error}; cuDNN 9 is needed beside CUDA 13");
    Error::Device { device: format!("{:?}", device.location()), reason }
}
