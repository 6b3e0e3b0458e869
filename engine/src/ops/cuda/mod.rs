// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our own operations on a CUDA device, beneath candle's tensors: convolution through cuDNN with what
//! it needs kept between calls, and fused kernels for what lies between convolutions.
//!
//! Everything runs on the device's one stream, in the order in which it is asked for; nothing here
//! waits for the device.

mod convolution;
mod custom;
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
    cuda_backend::{DeviceId, cudarc::driver::CudaSlice},
};

pub(crate) use self::{
    convolution::{Geometry, Pass},
    custom::{Bias, Convolution},
    group_norm::group_norm,
    launch::{Affine, Rows, halve, repeat},
    modulate::Modulate,
    number::Number,
};
use crate::{Error, Result};

/// A place in the device's memory.
pub(crate) type Address = u64;

/// A device with what its operations keep: the cuDNN handle, plans of convolutions and their workspace.
pub(crate) struct Gpu {
    device: CudaDevice,
    convolutions: Mutex<convolution::Convolutions>,
}

static OPEN: LazyLock<Mutex<HashMap<DeviceId, Weak<Gpu>>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// The one for this device; it is let go with the last network that holds it.
    ///
    /// # Errors
    /// [`Error::Device`] if it is no CUDA device, or cuDNN cannot be used.
    pub fn of(device: &Device) -> Result<Arc<Self>> {
        let refused = |reason: String| Error::Device { device: format!("{:?}", device.location()), reason };
        let Device::Cuda(device) = device else { return Err(refused("not a CUDA device".into())) };
        let mut open = lock(&OPEN);
        if let Some(gpu) = open.get(&device.id()).and_then(Weak::upgrade) {
            return Ok(gpu);
        }
        open.retain(|_, gpu| gpu.strong_count() > 0);
        let convolutions = convolution::Convolutions::new(&device.cuda_stream())
            .map_err(|error| refused(format!("{error}; cuDNN 9 is needed beside CUDA 13")))?;
        let gpu = Arc::new(Self { device: device.clone(), convolutions: Mutex::new(convolutions) });
        open.insert(device.id(), Arc::downgrade(&gpu));
        Ok(gpu)
    }

    /// Bytes on the device, not set to anything.
    ///
    /// # Errors
    /// The driver's, if memory is short.
    pub fn bytes(&self, length: usize) -> candle_core::Result<CudaSlice<u8>> {
        // SAFETY: every byte that a kernel reads was written by one before it on the same stream.
        unsafe { self.device.alloc::<u8>(length.max(1)) }
    }

    /// Uploads.
    ///
    /// # Errors
    /// The driver's, if memory is short.
    pub fn upload<T: candle_core::cuda_backend::cudarc::driver::DeviceRepr + 'static>(
        &self,
        values: &[T],
    ) -> candle_core::Result<CudaSlice<T>> {
        self.device.clone_htod(values)
    }

    /// Where a slice begins.
    pub fn address<T>(&self, slice: &CudaSlice<T>) -> Address {
        use candle_core::cuda_backend::cudarc::driver::DevicePtr;
        // With one stream for all work there is nothing to wait for; the guard has nothing to record.
        slice.device_ptr(&self.device.cuda_stream()).0
    }

    /// The device of the tensor library.
    pub fn device(&self) -> &CudaDevice {
        &self.device
    }
}
