// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures from the host's memory to a device and back, the fastest way that the device has.

use candle_core::{Device, Storage, Tensor};

use super::storage::contiguous;
use crate::{Result, memory::copied};

/// `x`, f32 on the CPU, on `device`.
///
/// # Errors
/// [`crate::Error::Tensor`] if the device fails.
pub(crate) fn to_device(x: &Tensor, device: &Device) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if device.is_cuda() {
        let x = x.contiguous()?;
        let (storage, layout) = x.storage_and_layout();
        if let Storage::Cpu(values) = &*storage {
            let values = &values.as_slice::<f32>()?[layout.start_offset()..][..layout.shape().elem_count()];
            return Ok(super::cuda::Gpu::of(device)?.upload_picture(values, layout.shape())?);
        }
    }
    Ok(x.to_device(device)?)
}

/// All values of `x`, f32, wherever it is.
///
/// # Errors
/// [`crate::Error::Tensor`] if the device fails.
pub(crate) fn to_host(x: &Tensor) -> Result<Vec<f32>> {
    #[cfg(feature = "cudnn")]
    if x.device().is_cuda() {
        return Ok(super::cuda::Gpu::of(x.device())?.download_picture(x)?);
    }
    let x = x.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(values) => Ok(copied(contiguous(values, layout)?)),
        _ => unreachable!("moved to the CPU above"),
    }
}
