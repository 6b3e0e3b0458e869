// SPDX-License-Identifier: MIT OR Apache-2.0
//! Number types of activations on a CUDA device, and tensors as addresses.

use candle_core::{
    CudaDevice, CudaStorage, DType, Layout,
    backend::BackendStorage,
    bail,
    cuda_backend::{
        CudaStorageSlice,
        cudarc::{cudnn::sys::cudnnDataType_t, driver::DevicePtr},
    },
};
use half::{bf16, f16};

use super::{Address, Gpu};
use crate::{Error, ops::Precision};

/// Number type of activations and of convolutions' weights; sums are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Number {
    F32,
    F16,
    Bf16,
}

impl TryFrom<Precision> for Number {
    type Error = Error;

    fn try_from(precision: Precision) -> Result<Self, Error> {
        match precision {
            Precision::F32 => Ok(Self::F32),
            Precision::F16 => Ok(Self::F16),
            Precision::Bf16 => Ok(Self::Bf16),
            Precision::Int8 => Err(Error::setting("precision", "int8", "f32, f16 or bf16 on a CUDA device")),
        }
    }
}

impl Number {
    /// # Errors
    /// For any other type.
    pub fn of(dtype: DType) -> candle_core::Result<Self> {
        match dtype {
            DType::F32 => Ok(Self::F32),
            DType::F16 => Ok(Self::F16),
            DType::BF16 => Ok(Self::Bf16),
            other => bail!("f32, f16 or bf16 needed, not {other:?}"),
        }
    }

    /// As the tensor library calls it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Ending of the kernels' names.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    pub(super) fn cudnn(self) -> cudnnDataType_t {
        match self {
            Self::F32 => cudnnDataType_t::CUDNN_DATA_FLOAT,
            Self::F16 => cudnnDataType_t::CUDNN_DATA_HALF,
            Self::Bf16 => cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        }
    }

    /// Rounds values to bytes as they lie in the device's memory.
    pub fn pack(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_ne_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_ne_bytes()).collect(),
        }
    }

    /// A new tensor's storage, not set to anything, and its address.
    pub(super) fn empty(self, device: &CudaDevice, n: usize) -> candle_core::Result<(CudaStorage, Address)> {
        let stream = device.cuda_stream();
        // SAFETY: the kernel that the storage is made for writes every value before anything reads it.
        let (storage, at) = unsafe {
            match self {
                Self::F32 => {
                    let s = device.alloc::<f32>(n)?;
                    let at = s.device_ptr(&stream).0;
                    (CudaStorage::wrap_cuda_slice(s, device.clone()), at)
                }
                Self::F16 => {
                    let s = device.alloc::<f16>(n)?;
                    let at = s.device_ptr(&stream).0;
                    (CudaStorage::wrap_cuda_slice(s, device.clone()), at)
                }
                Self::Bf16 => {
                    let s = device.alloc::<bf16>(n)?;
                    let at = s.device_ptr(&stream).0;
                    (CudaStorage::wrap_cuda_slice(s, device.clone()), at)
                }
            }
        };
        Ok((storage, at))
    }
}

/// Number type and first address of a contiguous tensor.
pub(super) fn place(storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(Number, Address)> {
    let Some((start, _)) = layout.contiguous_offsets() else { bail!("contiguous values needed") };
    let stream = storage.device().cuda_stream();
    let number = Number::of(storage.dtype())?;
    let base = match &storage.slice {
        CudaStorageSlice::F32(s) => s.device_ptr(&stream).0,
        CudaStorageSlice::F16(s) => s.device_ptr(&stream).0,
        CudaStorageSlice::BF16(s) => s.device_ptr(&stream).0,
        _ => bail!("f32, f16 or bf16 needed"),
    };
    Ok((number, base + (start * number.bytes()) as u64))
}

/// That the operation's own device is the tensor's.
pub(super) fn same_device(gpu: &Gpu, storage: &CudaStorage) -> candle_core::Result<()> {
    if gpu.device.id() != storage.device().id() {
        bail!("a tensor of another device");
    }
    Ok(())
}
