// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames in their own raw format, restored in place.

use super::{Request, Restorer};
use crate::{
    Cancel, Error, Result,
    pixel::{Raw, add_difference, to_rgb},
};

impl Restorer {
    /// Restores a frame: `raw.bytes += strength·(restored − input)` in the format's own samples, so that where nothing
    /// is restored no bit changes.
    ///
    /// To a CUDA device a frame goes as it is, and is converted there, both ways; elsewhere, and if it went beyond
    /// the range of the precision, it is converted here, with the same result. `strength`, 0 to 1, is beside that
    /// of the options.
    ///
    /// Returns whether the network gave samples that no picture has; they are left as they were.
    ///
    /// # Errors
    /// As [`Restorer::restore`]; [`Error::Shape`] if there are not [`crate::pixel::View::bytes`] bytes. The frame is then
    /// as it was.
    pub fn restore_raw(
        &self,
        raw: &mut Raw,
        strength: f32,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<bool> {
        let (view, color) = (raw.view, raw.color);
        if raw.bytes.len() != view.bytes() {
            let expected =
                format!("{} bytes of {} {}x{}", view.bytes(), view.format.name, view.width, view.height);
            return Err(Error::shape("frame", &[raw.bytes.len()], expected));
        }
        #[cfg(feature = "cudnn")]
        if let Some(broken) = self.restore_on_device(raw, strength, request, cancel)? {
            return Ok(broken);
        }
        let mut rgb = vec![0.0; 3 * view.pixels()];
        to_rgb(&view, &color, &raw.bytes, &mut rgb);
        let restored = self.restore(&rgb, view.width, view.height, request, cancel)?;
        Ok(add_difference(&view, &color, &mut raw.bytes, &rgb, &restored, strength))
    }

    /// The same on a CUDA device; `None` if it is not for there.
    #[cfg(feature = "cudnn")]
    fn restore_on_device(
        &self,
        raw: &mut Raw,
        strength: f32,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<Option<bool>> {
        use crate::{ops::Precision, ops::cuda::Gpu, tile::Window};

        let model = &*self.model;
        if !model.device.is_cuda()
            || self.options.strength < 1.0
            || self.options.tta > 1
            || request.mask.is_some()
        {
            return Ok(None);
        }
        cancel.check()?;
        let (height, width) = self.padded(raw.view.height, raw.view.width);
        let whole = Window { rows: 0..height, cols: 0..width };
        // Not on the threads that copy: one that waits there for the rest of a copy may be given another's whole frame.
        let gpu = Gpu::of(&model.device)?;
        let (there, x1) = gpu.frame_up(raw, (height, width))?;
        let restored = self.run_sampler(&*model.network, &x1, None, &whole, request, cancel)?;
        let (bytes, seen) = gpu.frame_down(there, &x1, &restored, strength)?;
        if seen.infinite && self.options.precision != Precision::F32 {
            return Ok(None);
        }
        raw.bytes = bytes;
        Ok(Some(seen.broken))
    }
}
