// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures to the device and back, each way on a stream of its own and through page-locked memory: while
//! one picture is computed, the next may be on its way there and the last on its way back.

use std::sync::{Arc, Mutex};

use candle_core::{
    CudaStorage, Shape, Storage, Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaEvent, CudaSlice, CudaStream, PinnedHostSlice},
    },
    op::BackpropOp,
};
use rayon::prelude::*;

use super::{Gpu, lock};

/// Values of a band: while one is copied by the device, the other is by the host.
const BAND: usize = 1 << 20;
/// Page-locked memory without the flag that makes reading slow.
const READ_BY_THE_HOST: u32 = 0;
/// Values that a thread copies at a time.
const PIECE: usize = 1 << 16;

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
    there: CudaSlice<f32>,
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
    memory: PinnedHostSlice<f32>,
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
    /// A lane with room for `count` values.
    fn take(&self, count: usize) -> candle_core::Result<Lane> {
        let context = self.stream.context();
        // SAFETY: written by a copy before anything reads it.
        let room = || unsafe { self.stream.alloc::<f32>(count) }.w();
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

fn copy(from: &[f32], to: &mut [f32]) {
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

impl Gpu {
    /// `values` as a tensor on the device, ready for what comes next on its stream.
    ///
    /// # Errors
    /// The driver's.
    pub fn upload_picture(&self, values: &[f32], shape: impl Into<Shape>) -> candle_core::Result<Tensor> {
        let (way, stream) = (&self.copies.up, &self.stream);
        let mut lane = way.take(values.len())?;
        way.stream.wait(&lane.free).w()?;
        for (i, part) in values.chunks(BAND).enumerate() {
            let band = &mut lane.bands[i % 2];
            band.copied.synchronize().w()?;
            copy(part, &mut band.memory.as_mut_slice().w()?[..part.len()]);
            let mut to = lane.there.slice_mut(i * BAND..i * BAND + part.len());
            way.stream.memcpy_htod(&band.memory.as_slice().w()?[..part.len()], &mut to).w()?;
            band.copied.record(&way.stream).w()?;
        }
        // SAFETY: all of it is written by the copy below.
        let mut tensor = unsafe { stream.alloc::<f32>(values.len()) }.w()?;
        stream.join(&way.stream).w()?;
        stream.memcpy_dtod(&lane.there.slice(..values.len()), &mut tensor).w()?;
        lane.free.record(stream).w()?;
        way.put_back(lane);
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(tensor, self.device.clone()));
        Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
    }

    /// All values of an f32 tensor on the device; waits for them, and for nothing that was asked for later.
    ///
    /// # Errors
    /// The driver's.
    pub fn download_picture(&self, tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
        let (way, stream) = (&self.copies.down, &self.stream);
        let tensor = tensor.contiguous()?;
        let count = tensor.elem_count();
        let mut lane = way.take(count)?;
        {
            let (storage, layout) = tensor.storage_and_layout();
            let Storage::Cuda(storage) = &*storage else {
                candle_core::bail!("a picture that is not on the device")
            };
            let from =
                storage.as_cuda_slice::<f32>()?.slice(layout.start_offset()..layout.start_offset() + count);
            stream.wait(&lane.free).w()?;
            stream.memcpy_dtod(&from, &mut lane.there.slice_mut(..count)).w()?;
            way.stream.join(stream).w()?;
        }
        let mut values = vec![0f32; count];
        let mut parts: Vec<&mut [f32]> = values.chunks_mut(BAND).collect();
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
        Ok(values)
    }
}
