// SPDX-License-Identifier: MIT OR Apache-2.0
//! Launches of the kernels in `kernels.cu`, one function each. Addresses are the caller's promise.

use std::ops::Deref;

use candle_core::{
    Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaFunction, LaunchConfig, PushKernelArg},
    },
};

use super::{Address, Gpu, Number, custom::resample};

mod ptx {
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

/// Name under which the device knows our kernels.
const MODULE: &str = "i2sb";
/// Channels that a thread handles; activations have multiples of it.
pub(crate) const PACK: usize = 8;
/// Threads of a block.
const THREADS: u32 = 256;
/// Pixels that a block of `sums` adds up, at least.
const CHUNK: usize = 512;
/// Chunks that the pixels of an item are cut into at most.
const CHUNKS: usize = 256;

/// An activation: pixels of `channels` values, `items` pictures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// Pictures of the batch.
    pub items: usize,
    /// Pixels of one picture.
    pub pixels: usize,
    /// Channels, a multiple of 8.
    pub channels: usize,
}

impl Rows {
    /// Threads of a kernel that handles [`PACK`] values each.
    ///
    /// # Errors
    /// If there are more than a launch can number, or channels that do not divide.
    fn packs(&self) -> candle_core::Result<u32> {
        if self.channels % PACK != 0 {
            candle_core::bail!("{} channels, but these kernels need multiples of {PACK}", self.channels);
        }
        narrow(self.items * self.pixels * (self.channels / PACK))
    }

    /// `[pixels a chunk, chunks]` of [`Gpu::sums`].
    pub fn chunks(&self) -> (usize, usize) {
        let chunk = self.pixels.div_ceil(CHUNKS).max(CHUNK);
        (chunk, self.pixels.div_ceil(chunk))
    }
}

/// Kernels count in 32 bits.
pub(super) fn narrow(n: usize) -> candle_core::Result<u32> {
    u32::try_from(n).map_err(|_| candle_core::Error::msg(format!("{n} values are too many for one launch")))
}

/// One row of scales and shifts for each picture, or one for all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    /// Scales, f32; `None`: 1.
    pub gain: Option<Address>,
    /// Shifts, f32.
    pub offset: Address,
    /// Whether each picture has its own row.
    pub per_item: bool,
}

macro_rules! launch {
    ($gpu:expr, $name:expr, $config:expr, $($arg:expr),+ $(,)?) => {{
        let function = $gpu.kernel($name)?;
        let mut builder = $gpu.stream.launch_builder(&function);
        candle_core::builder_arg!(builder, $($arg),+);
        // SAFETY: the arguments are those of the kernel's declaration; the addresses hold as many
        // values as the sizes say, as the callers of this module promise.
        unsafe { builder.launch($config) }.w()?;
        candle_core::Result::Ok(())
    }};
}
pub(super) use launch;

pub(super) fn over(n: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (n.div_ceil(THREADS).max(1), 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    }
}

fn named(kernel: &str, number: Number) -> String {
    format!("{kernel}_{}", number.suffix())
}

impl Gpu {
    /// A kernel by its name, loaded when it is first asked for.
    pub(super) fn kernel(
        &self,
        name: &str,
    ) -> candle_core::Result<impl Deref<Target = CudaFunction> + use<>> {
        self.device().get_or_load_custom_func(name, MODULE, ptx::KERNELS)
    }

    /// `(B, planes, h·u, w·u)` f32 → `(B, h, w, C)`: squares become channels, the rest is 0.
    #[allow(clippy::too_many_arguments)]
    pub fn stem(
        &self,
        number: Number,
        x: Address,
        y: Address,
        rows: Rows,
        planes: usize,
        (h, w): (usize, usize),
        u: usize,
    ) -> candle_core::Result<()> {
        let (n, planes, h, w) = (rows.packs()?, narrow(planes)?, narrow(h)?, narrow(w)?);
        let (u, c) = (narrow(u)?, narrow(rows.channels)?);
        launch!(self, &named("stem", number), over(n), x, y, n, planes, h, w, u, c)
    }

    /// `y = x·gain + offset`, then SiLU if asked; `y` may be `x`.
    pub fn modulate(
        &self,
        number: Number,
        x: Address,
        y: Address,
        rows: Rows,
        by: Affine,
        silu: bool,
    ) -> candle_core::Result<()> {
        let (n, c, item) =
            (rows.packs()?, narrow(rows.channels)?, narrow(rows.pixels * rows.channels / PACK)?);
        let (gain, step, silu) = (by.gain.unwrap_or(0), if by.per_item { c } else { 0 }, u32::from(silu));
        launch!(self, &named("modulate", number), over(n), x, y, gain, by.offset, n, c, item, step, silu)
    }

    /// Way back of [`Gpu::modulate`] with SiLU: `dz = dy·silu'(z)` and `dx = dz·gain`.
    #[allow(clippy::too_many_arguments)]
    pub fn modulate_back(
        &self,
        number: Number,
        dy: Address,
        x: Address,
        dz: Address,
        dx: Address,
        rows: Rows,
        by: Affine,
    ) -> candle_core::Result<()> {
        let (n, c, item) =
            (rows.packs()?, narrow(rows.channels)?, narrow(rows.pixels * rows.channels / PACK)?);
        let Some(gain) = by.gain else { candle_core::bail!("the way back needs scales") };
        let step = if by.per_item { c } else { 0 };
        launch!(
            self,
            &named("modulate_back", number),
            over(n),
            dy,
            x,
            gain,
            by.offset,
            dz,
            dx,
            n,
            c,
            item,
            step
        )
    }

    /// `x += y + bias`.
    pub fn settle(
        &self,
        number: Number,
        x: Address,
        y: Option<Address>,
        bias: Address,
        rows: Rows,
    ) -> candle_core::Result<()> {
        let (n, c, y) = (rows.packs()?, narrow(rows.channels)?, y.unwrap_or(0));
        launch!(self, &named("settle", number), over(n), x, y, bias, n, c)
    }

    /// `x (B, 2h, 2w, C) += y (B, h, w, 4·C)` as squares of (row, column, C), `+ bias`; `rows` are those
    /// of `x`, `width` is 2w.
    pub fn rise(
        &self,
        number: Number,
        x: Address,
        y: Address,
        bias: Address,
        rows: Rows,
        width: usize,
    ) -> candle_core::Result<()> {
        let (n, c, w) = (rows.packs()?, narrow(rows.channels)?, narrow(width)?);
        launch!(self, &named("rise", number), over(n), x, y, bias, n, c, w)
    }

    /// `(B, h, w, C)` → `(B, 3, h·u, w·u)` f32, `+ bias`.
    #[allow(clippy::too_many_arguments)]
    pub fn head(
        &self,
        number: Number,
        y: Address,
        out: Address,
        bias: Address,
        rows: Rows,
        (h, w): (usize, usize),
        u: usize,
    ) -> candle_core::Result<()> {
        let n = narrow(rows.items * 3 * rows.pixels * u * u)?;
        let (h, w, u, c) = (narrow(h)?, narrow(w)?, narrow(u)?, narrow(rows.channels)?);
        launch!(self, &named("head", number), over(n), y, out, bias, n, h, w, u, c)
    }

    /// Sums over the pixels of each chunk ([`Rows::chunks`]) to `out` `(B, chunks, 2, C)`, f32: of `a`
    /// and `a·b`, or without `b` of `v` and `v²`, where v is `a` less the first pixel.
    pub fn sums(
        &self,
        number: Number,
        a: Address,
        b: Option<Address>,
        out: Address,
        rows: Rows,
    ) -> candle_core::Result<()> {
        let (chunk, chunks) = rows.chunks();
        let config = LaunchConfig {
            grid_dim: (narrow(chunks)?, narrow(rows.channels.div_ceil(32))?, narrow(rows.items)?),
            block_dim: (32, 8, 1),
            shared_mem_bytes: 0,
        };
        let (pixels, c, chunk, b) =
            (narrow(rows.pixels)?, narrow(rows.channels)?, narrow(chunk)?, b.unwrap_or(0));
        launch!(self, &named("sums", number), config, a, b, out, pixels, c, chunk)
    }

    /// From sums to the scales and shifts that are a group norm, see `kernels.cu`; `to`: gain, offset.
    #[allow(clippy::too_many_arguments)]
    pub fn moments(
        &self,
        number: Number,
        sums: Address,
        x: Address,
        (weight, bias): (Address, Address),
        embed: Option<Address>,
        to: (Address, Address),
        rows: Rows,
        (groups, eps): (usize, f32),
    ) -> candle_core::Result<()> {
        let config = LaunchConfig {
            grid_dim: (narrow(groups)?, narrow(rows.items)?, 1),
            block_dim: (32, 1, 1),
            shared_mem_bytes: 0,
        };
        let (pixels, c, chunks) = (narrow(rows.pixels)?, narrow(rows.channels)?, narrow(rows.chunks().1)?);
        let (embed, gain, offset) = (embed.unwrap_or(0), to.0, to.1);
        launch!(
            self,
            &named("moments", number),
            config,
            sums,
            x,
            weight,
            bias,
            embed,
            gain,
            offset,
            pixels,
            c,
            chunks,
            eps
        )
    }

    /// Halves (mean of 2×2) or doubles (each pixel four times); `rows` and `width` are those of `y`.
    pub fn resample(
        &self,
        number: Number,
        x: Address,
        y: Address,
        rows: Rows,
        width: usize,
        up: bool,
    ) -> candle_core::Result<()> {
        let (n, c, w) = (rows.packs()?, narrow(rows.channels)?, narrow(width)?);
        launch!(self, &named(if up { "repeat" } else { "halve" }, number), over(n), x, y, n, c, w)
    }
}

/// `(B, 2h, 2w, C)` → `(B, h, w, C)`: the mean of each square of 2×2 pixels.
///
/// # Errors
/// For an odd height or width, or channels that are no multiple of 8.
pub(crate) fn halve(x: &Tensor) -> candle_core::Result<Tensor> {
    resample(x, false)
}

/// `(B, h, w, C)` → `(B, 2h, 2w, C)`: each pixel four times.
///
/// # Errors
/// For channels that are no multiple of 8.
pub(crate) fn repeat(x: &Tensor) -> candle_core::Result<Tensor> {
    resample(x, true)
}
