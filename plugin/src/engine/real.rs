// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine of this project behind the element's trait.

use i2sb::Cancel;
use i2sb::preset::Preset;
use i2sb::restore::{Request, RestoreOptions, Restorer, is_grey};
use i2sb::tile::Window;

use super::reuse::{BLOCK, Changed};
use super::{About, Engine, EngineError, Knobs, Picture};

/// Side of the picture that warms the network up, in pixels.
const WARM_UP: usize = 64;
/// Parts are restored by themselves while they cost less than this share of the whole.
const WORTH: f64 = 0.75;

/// A preset's network on its device.
pub struct Real {
    about: About,
    restorer: Restorer,
    knobs: Option<Knobs>,
}

impl Real {
    /// Builds the preset's network.
    ///
    /// # Errors
    /// [`EngineError`] if the device or the weights cannot be used.
    pub fn load(preset: &Preset, options: RestoreOptions) -> Result<Self, EngineError> {
        let precision = options.precision.name().to_owned();
        let restorer = Restorer::new(preset, options).map_err(|error| told(error, 0))?;
        let about = About {
            model: preset.config.name.clone(),
            hash: restorer.hash().to_owned(),
            device: restorer.device(),
            precision,
            steps: preset.config.sampling.nfe as u32,
            raw: false,
        };
        Ok(Self { about, restorer, knobs: None })
    }

    /// Takes over what a frame asks for; costs nothing while that stays the same.
    fn turn(&mut self, knobs: &Knobs) -> Result<(), EngineError> {
        // The frame's number goes with each request.
        let knobs = Knobs { frame: 0, ..knobs.clone() };
        if self.knobs.as_ref() == Some(&knobs) {
            return Ok(());
        }
        let options = RestoreOptions {
            nfe: Some(knobs.steps as usize).filter(|&steps| steps > 0),
            sampler: Some(knobs.sampler.clone()).filter(|name| !name.is_empty()),
            seed: knobs.seed,
            tile: knobs.tile as usize,
            strength: 1.0,
            ..self.restorer.options().clone()
        };
        self.restorer = self.restorer.with_options(options)?;
        self.knobs = Some(knobs);
        Ok(())
    }
}

impl Engine for Real {
    fn about(&self) -> &About {
        &self.about
    }

    fn warm_up(&mut self, cancel: &Cancel) -> Result<(), EngineError> {
        let grey = vec![0.0; 3 * WARM_UP * WARM_UP];
        let result = self.restorer.restore(&grey, WARM_UP, WARM_UP, &Request::default(), cancel);
        result.map(drop).map_err(|error| told(error, 0))
    }

    fn restore(&mut self, picture: &Picture, knobs: &Knobs, cancel: &Cancel) -> Result<Picture, EngineError> {
        self.turn(knobs)?;
        let (width, height) = (picture.width, picture.height);
        let rgb = self.restorer.restore(&picture.rgb, width, height, &request(picture, knobs), cancel);
        Ok(Picture::new(width, height, rgb.map_err(|error| told(error, knobs.tile))?))
    }

    fn restore_parts(
        &mut self,
        picture: &Picture,
        previous: &Picture,
        changed: &Changed,
        knobs: &Knobs,
        cancel: &Cancel,
    ) -> Result<Option<(Picture, usize)>, EngineError> {
        self.turn(knobs)?;
        let (width, height, rgb) = (picture.width, picture.height, &picture.rgb);
        let Some(halo) = self.restorer.halo() else { return Ok(None) };
        // Without colour a whole picture is restored otherwise.
        if is_grey(rgb) != is_grey(&previous.rgb) {
            return Ok(None);
        }
        let grown = changed.grown(halo);
        let windows = windows(&grown, width, height);
        let cost = |window: &Window| {
            let side = |length: usize, whole: usize| (length + 2 * halo).min(whole) as f64;
            side(window.rows.len(), height) * side(window.cols.len(), width)
        };
        if windows.iter().map(cost).sum::<f64>() > WORTH * (width * height) as f64 {
            return Ok(None);
        }
        let mut out = previous.clone();
        for window in &windows {
            let part =
                self.restorer.restore_part(rgb, width, height, window, &request(picture, knobs), cancel);
            let part = part.map_err(|error| told(error, knobs.tile))?;
            let (rows, cols) = (window.rows.len(), window.cols.len());
            for (plane, part) in out.rgb.chunks_exact_mut(width * height).zip(part.chunks_exact(rows * cols))
            {
                for (y, part) in window.rows.clone().zip(part.chunks_exact(cols)) {
                    plane[y * width..][window.cols.clone()].copy_from_slice(part);
                }
            }
        }
        Ok(Some((out, grown.blocks.len() - grown.count())))
    }

    fn recomputed(&self) -> u64 {
        self.restorer.recomputed()
    }
}

/// What belongs to this picture alone.
fn request<'a>(picture: &'a Picture, knobs: &Knobs) -> Request<'a> {
    Request { frame: knobs.frame, mask: picture.hole.as_deref(), ..Request::default() }
}

/// Rectangles that cover the changed blocks and no other: runs in a row of blocks, joined with equal
/// runs in the rows below.
fn windows(changed: &Changed, width: usize, height: usize) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for (row, blocks) in changed.blocks.chunks(changed.columns).enumerate() {
        let rows = row * BLOCK..((row + 1) * BLOCK).min(height);
        let mut column = 0;
        while column < blocks.len() {
            let run = blocks[column..].iter().take_while(|&&changed| changed).count();
            if run > 0 {
                let cols = column * BLOCK..((column + run) * BLOCK).min(width);
                match windows.iter_mut().find(|w| w.cols == cols && w.rows.end == rows.start) {
                    Some(above) => above.rows.end = rows.end,
                    None => windows.push(Window { rows: rows.clone(), cols }),
                }
            }
            column += run.max(1);
        }
    }
    windows
}

/// The engine's error as the element tells errors apart.
fn told(error: i2sb::Error, tile: u32) -> EngineError {
    match error {
        i2sb::Error::Cancelled => EngineError::Cancelled,
        error => {
            let text = error.to_string();
            let lower = text.to_lowercase();
            // What CUDA and its libraries call it; the tensor library has no variant for it.
            if lower.contains("out_of_memory") || lower.contains("out of memory") {
                let reason = text.lines().next().unwrap_or_default().to_owned();
                return EngineError::OutOfMemory { tile, reason };
            }
            EngineError::Failed(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_changed_blocks_and_nothing_else() {
        let blocks = vec![
            false, true, true, false, //
            false, true, true, false, //
            true, false, false, true,
        ];
        let changed = Changed { columns: 4, blocks };
        let windows = windows(&changed, 250, 170);
        let mut seen = vec![0; 12];
        for w in &windows {
            for row in w.rows.start / BLOCK..w.rows.end.div_ceil(BLOCK) {
                for column in w.cols.start / BLOCK..w.cols.end.div_ceil(BLOCK) {
                    seen[row * 4 + column] += 1;
                }
            }
            assert!(w.rows.end <= 170 && w.cols.end <= 250);
        }
        let want: Vec<_> = changed.blocks.iter().map(|&c| i32::from(c)).collect();
        assert_eq!(seen, want);
        assert_eq!(windows.len(), 3);
    }
}
