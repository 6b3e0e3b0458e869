// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures to the device and back, each way on a stream of its own and through page-locked memory: while
//! one picture is computed, the next may be on its way there and the last on its way back.

use std::sync::{Arc, Mutex};

use candle_core::{
    CudaStorage, Shape, Storage, Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaEvent, CudaSlice, CudaStream, CudaView, CudaViewMut, PinnedHostSlice},
    },
    op::BackpropOp,
};
use rayon::prelude::*;

use super::{Gpu, lock};

/// Bytes of a band: while one is copied by the device, the other is by the host.
const BAND: usize = 4 << 20;
/// Page-locked memory without the flag that makes reading slow.
const READ_BY_THE_HOST: u32 = 0;
/// Bytes that a thread copies at a time.
const PIECE: usize = 256 << 10;

/// Both ways, and what their copies keep: as much as was ever under way at once.
pub(super) struct Copies {
    up: Way,
    down: Way,
}

struct Way {
    stream: Arc<CudaStream>,
    idle: Mutex<Vec<Lane>>,
}

/// What one picture at a time passes through.
struct Lane {
    there: CudaSlice<u8>,
    /// After which `there` may be written, on whatever stream.
    free: CudaEvent,
    bands: [Band; 2],
}

impl Drop for Lane {
    fn drop(&mut self) {
        // It is given back on its way's stream: there, what reads it on another must have been waited for.
        let stream = self.there.stream();
        stream.context().record_err(stream.wait(&self.free));
    }
}

struct Band {
    memory: PinnedHostSlice<u8>,
    copied: CudaEvent,
}

impl Copies {
    pub fn new(stream: &CudaStream) -> candle_core::Result<Self> {
        let way = || -> candle_core::Result<Way> {
            Ok(Way { stream: stream.context().new_stream().w()?, idle: Mutex::default() })
        };
        Ok(Self { up: way()?, down: way()? })
    }
}

impl Way {
    /// A lane with room for `count` bytes.
    fn take(&self, count: usize) -> candle_core::Result<Lane> {
        let context = self.stream.context();
        // SAFETY: written by a copy before anything reads it.
        let room = || unsafe { self.stream.alloc::<u8>(count) }.w();
        let band = || -> candle_core::Result<Band> {
            // SAFETY: written before it is read, by the host or by a copy.
            let memory = unsafe { context.alloc_pinned_with_flags(BAND, READ_BY_THE_HOST) }.w()?;
            Ok(Band { memory, copied: context.new_event(None).w()? })
        };
        let idle = lock(&self.idle).pop();
        let mut lane = match idle {
            Some(lane) if lane.there.len() >= count => return Ok(lane),
            Some(lane) => lane,
            None => Lane { there: room()?, free: context.new_event(None).w()?, bands: [band()?, band()?] },
        };
        if lane.there.len() < count {
            self.stream.wait(&lane.free).w()?;
            lane.there = room()?;
        }
        lane.free.record(&self.stream).w()?;
        Ok(lane)
    }

    fn put_back(&self, lane: Lane) {
        lock(&self.idle).push(lane);
    }
}

fn copy(from: &[u8], to: &mut [u8]) {
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

fn bytes_of(values: &[f32]) -> &[u8] {
    // SAFETY: every byte of an f32 is a byte, and the slice is lent as long as `values`.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn bytes_of_mut(values: &mut [f32]) -> &mut [u8] {
    // SAFETY: as above, and any four bytes are an f32.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

impl Gpu {
    /// Fills `to`, memory of this device's stream, ready for what comes next there.
    ///
    /// # Errors
    /// The driver's.
    pub fn upload_bytes(&self, bytes: &[u8], to: &mut CudaViewMut<u8>) -> candle_core::Result<()> {
        let (way, stream) = (&self.copies.up, &self.stream);
        let mut lane = way.take(bytes.len())?;
        way.stream.wait(&lane.free).w()?;
        for (i, part) in bytes.chunks(BAND).enumerate() {
            let band = &mut lane.bands[i % 2];
            band.copied.synchronize().w()?;
            copy(part, &mut band.memory.as_mut_slice().w()?[..part.len()]);
            let mut to = lane.there.slice_mut(i * BAND..i * BAND + part.len());
            way.stream.memcpy_htod(&band.memory.as_slice().w()?[..part.len()], &mut to).w()?;
            band.copied.record(&way.stream).w()?;
        }
        stream.join(&way.stream).w()?;
        stream.memcpy_dtod(&lane.there.slice(..bytes.len()), to).w()?;
        lane.free.record(stream).w()?;
        way.put_back(lane);
        Ok(())
    }

    /// Fills `bytes` from memory of this device's stream; waits for it, and for nothing that was asked for later.
    ///
    /// # Errors
    /// The driver's.
    pub fn download_bytes(&self, from: &CudaView<u8>, bytes: &mut [u8]) -> candle_core::Result<()> {
        let (way, stream) = (&self.copies.down, &self.stream);
        let mut lane = way.take(bytes.len())?;
        stream.wait(&lane.free).w()?;
        stream.memcpy_dtod(from, &mut lane.there.slice_mut(..bytes.len())).w()?;
        way.stream.join(stream).w()?;
        let mut parts: Vec<&mut [u8]> = bytes.chunks_mut(BAND).collect();
        for i in 0..=parts.len() {
            if i < parts.len() {
                let band = &mut lane.bands[i % 2];
                let from = lane.there.slice(i * BAND..i * BAND + parts[i].len());
                way.stream.memcpy_dtoh(&from, &mut band.memory.as_mut_slice().w()?[..parts[i].len()]).w()?;
                band.copied.record(&way.stream).w()?;
            }
            if let Some(i) = i.checked_sub(1) {
                let band = &lane.bands[i % 2];
                band.copied.synchronize().w()?;
                copy(&band.memory.as_slice().w()?[..parts[i].len()], parts[i]);
            }
        }
        way.put_back(lane);
        Ok(())
    }

    /// `values` as a tensor on the device, ready for what comes next on its stream.
    ///
    /// # Errors
    /// The driver's.
    pub fn upload_picture(&self, values: &[f32], shape: impl Into<Shape>) -> candle_core::Result<Tensor> {
        // SAFETY: all of it is written by the copy below.
        let mut tensor = unsafe { self.stream.alloc::<f32>(values.len()) }.w()?;
        let bytes = bytes_of(values);
        // SAFETY: any four bytes are an f32.
        let to = unsafe { tensor.transmute_mut::<u8>(bytes.len()) };
        let mut to = to.ok_or_else(|| candle_core::Error::msg("a tensor shorter than its bytes"))?;
        self.upload_bytes(bytes, &mut to)?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(tensor, self.device.clone()));
        Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
    }

    /// All values of an f32 tensor on the device; waits for them, and for nothing that was asked for later.
    ///
    /// # Errors
    /// The driver's.
    pub fn download_picture(&self, tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
        let tensor = tensor.contiguous()?;
        let count = tensor.elem_count();
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            candle_core::bail!("a picture that is not on the device")
        };
        let from =
            storage.as_cuda_slice::<f32>()?.slice(layout.start_offset()..layout.start_offset() + count);
        let mut values = vec![0f32; count];
        let bytes = bytes_of_mut(&mut values);
        // SAFETY: every byte of an f32 is a byte.
        let from = unsafe { from.transmute::<u8>(bytes.len()) };
        self.download_bytes(
            &from.ok_or_else(|| candle_core::Error::msg("a tensor shorter than its bytes"))?,
            bytes,
        )?;
        Ok(values)
    }
}
