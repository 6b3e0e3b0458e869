// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames in their own raw format on the device: to planes and back, with the bits of [`crate::pixel`].

use candle_core::{
    CudaStorage, Storage, Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaSlice, DeviceRepr, PushKernelArg},
    },
    op::BackpropOp,
};

use super::{
    Gpu,
    launch::{launch, narrow, over},
};
use crate::pixel::{Color, Model, Raw, View, format::Packing};

/// A component, as `frames.cuh` has it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Samples {
    offset: u64,
    stride: u32,
    columns: u32,
    rows: u32,
    first: u32,
    step: u32,
    shift: u32,
    mask: u32,
    gain: f32,
    lift: f32,
    scale: f32,
}

/// Where a frame's samples are and what they mean, as `frames.cuh` has it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Frame {
    part: [Samples; 3],
    width: u32,
    height: u32,
    count: u32,
    chroma: u32,
    word: u32,
    big: u32,
    sub: [u32; 2],
    site: [f32; 2],
    chroma_gains: [f32; 4],
    luma: [f32; 3],
    difference_gains: [f32; 2],
}

// SAFETY: numbers alone, in C's layout, as the kernels declare it.
unsafe impl DeviceRepr for Frame {}

impl Frame {
    fn new(view: &View, color: &Color) -> candle_core::Result<Self> {
        let format = view.format;
        let (word, big) = match format.packing {
            Packing::Byte => (1, 0),
            Packing::Le16 => (2, 0),
            Packing::Be16 => (2, 1),
            Packing::Le32 => (4, 0),
            Packing::Be32 => (4, 1),
            Packing::Tens32 | Packing::TensLe | Packing::TensBe => {
                candle_core::bail!("{} does not cross as it is", format.name)
            }
        };
        let part = |index: usize| -> candle_core::Result<Samples> {
            let (component, (offset, stride)) = (format.components[index], view.place(index));
            let (gain, lift) = match format.model {
                Model::Yuv if index > 0 => (1.0 / color.scale[index], color.offset[index]),
                _ => color.unit(index),
            };
            Ok(Samples {
                offset: offset as u64,
                stride: narrow(stride)?,
                columns: narrow(view.columns(index))?,
                rows: narrow(view.rows(index))?,
                first: narrow(component.offset)?,
                step: narrow(component.step)?,
                shift: component.shift,
                mask: (1 << component.depth) - 1,
                gain,
                lift,
                scale: color.scale[index],
            })
        };
        Ok(Self {
            part: [part(0)?, part(1)?, part(2)?],
            width: narrow(view.width)?,
            height: narrow(view.height)?,
            count: narrow(format.count())?,
            chroma: u32::from(format.model == Model::Yuv),
            word,
            big,
            sub: [format.sub.0, format.sub.1],
            site: [color.site.0, color.site.1],
            chroma_gains: color.chroma_gains(),
            luma: [color.kr, color.kg(), color.kb],
            difference_gains: color.difference_gains(),
        })
    }
}

/// What the kernels saw of a frame: `Seen` in `frames.cuh`, behind the frame's bytes.
const SEEN: usize = 12;

/// Where that begins: numbers lie on multiples of their size.
fn seen_at(length: usize) -> usize {
    length.next_multiple_of(size_of::<u32>())
}

/// A frame on the device.
pub(crate) struct DeviceFrame {
    frame: Frame,
    /// The frame, up to a multiple of 4, and what was seen of it.
    bytes: CudaSlice<u8>,
    /// How many of them are the frame.
    length: usize,
    /// Rows and columns of the planes.
    padded: (usize, usize),
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Differences that no two pictures have; they were left out.
    pub broken: bool,
    /// A restored value was no number.
    pub infinite: bool,
}

impl Gpu {
    /// The frame on the device, and planes `(1, 3, H, W)` of it, f32 in [-1, 1], padded to H and W by repeating the
    /// last row and column.
    ///
    /// # Errors
    /// For a format that [`Raw::takes`] not, and the driver's.
    pub fn frame_up(&self, raw: &Raw, padded: (usize, usize)) -> candle_core::Result<(DeviceFrame, Tensor)> {
        let frame = Frame::new(&raw.view, &raw.color)?;
        let length = raw.bytes.len();
        if length != raw.view.bytes() {
            candle_core::bail!("{length} bytes instead of {}", raw.view.bytes());
        }
        let mut bytes = self.bytes(seen_at(length) + SEEN)?;
        let tail = length..bytes.len();
        self.stream.memset_zeros(&mut bytes.slice_mut(tail)).w()?;
        self.upload_bytes(&raw.bytes, &mut bytes.slice_mut(..length))?;
        let values = 3 * padded.0 * padded.1;
        // SAFETY: the kernel writes all of it.
        let planes = unsafe { self.stream.alloc::<f32>(values) }.w()?;
        let (from, to) = (self.address(&bytes), self.address(&planes));
        let (seen, h, w) = (from + seen_at(length) as u64, narrow(padded.0)?, narrow(padded.1)?);
        let threads = narrow(padded.0 * padded.1)?;
        launch!(self, "frame_to_rgb", over(threads), frame, from, to, seen, h, w)?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(planes, self.device.clone()));
        let planes = Tensor::from_storage(storage, (1, 3, padded.0, padded.1), BackpropOp::none(), false);
        Ok((DeviceFrame { frame, bytes, length, padded }, planes))
    }

    /// Adds `strength·(restored − input)` to the frame and brings its bytes back; both are planes as
    /// [`Gpu::frame_up`] makes them. A frame without colour gets a change without colour.
    ///
    /// # Errors
    /// For planes of another size, and the driver's.
    pub fn frame_down(
        &self,
        there: DeviceFrame,
        input: &Tensor,
        restored: &Tensor,
        strength: f32,
    ) -> candle_core::Result<(Vec<u8>, Seen)> {
        let (h, w) = there.padded;
        let address = |tensor: &Tensor| -> candle_core::Result<u64> {
            let (storage, layout) = tensor.storage_and_layout();
            let Storage::Cuda(storage) = &*storage else {
                candle_core::bail!("planes that are not on the device")
            };
            if layout.dims() != [1, 3, h, w] || !layout.is_contiguous() {
                candle_core::bail!("planes {:?} for a frame of {h}×{w}", layout.dims());
            }
            let values = storage.as_cuda_slice::<f32>()?;
            Ok(self.address(values) + (layout.start_offset() * size_of::<f32>()) as u64)
        };
        let (restored, frame) = (restored.contiguous()?, there.frame);
        let (before, after) = (address(input)?, address(&restored)?);
        let to = self.address(&there.bytes);
        let seen = to + seen_at(there.length) as u64;
        let cells = |side: u32, sub: u32| ((side - 1) >> sub) as usize + 1;
        let threads = narrow(cells(frame.width, frame.sub[0]) * cells(frame.height, frame.sub[1]))?;
        let (gain, h, w) = (0.5 * strength, narrow(h)?, narrow(w)?);
        launch!(self, "add_difference", over(threads), frame, to, before, after, seen, gain, h, w)?;
        let mut bytes = vec![0; there.bytes.len()];
        self.download_bytes(&there.bytes.as_view(), &mut bytes)?;
        let told = |number: usize| bytes[seen_at(there.length) + 4 * number..][..4] != [0; 4];
        let seen = Seen { broken: told(1), infinite: told(2) };
        bytes.truncate(there.length);
        Ok((bytes, seen))
    }
}
