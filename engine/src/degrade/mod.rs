// SPDX-License-Identifier: MIT OR Apache-2.0
//! Degradations, x0 → x1: what a network is trained to undo and measured against.
//!
//! A degradation is named by a specification such as `jpeg:10`, `jpeg:5-95:420:unaligned` or
//! `blur-gauss:0.5-2.0+jpeg:5-95`: a row of [`DEGRADATIONS`], its arguments after colons, several
//! joined by `+` and applied from left to right. A number may be a range `low-high`, drawn anew for
//! each picture; alternatives stand between bars, `jpeg:1-100|jpeg:30-95+jpeg:5-95|none`, and each
//! picture meets one of them, all equally often.

mod analogue;
mod blur;
mod blur_reference;
mod compose;
mod damage;
mod grain;
mod inpaint;
mod jpeg;
mod jpeg_simple;
mod pairs;
mod rescale;
mod spec;
mod superres;

use std::path::Path;

pub(crate) use blur::gaussian;
pub use blur_reference::{BlurOperator, Components, KERNELS, convolve_reference, misaligned, permutation};
pub use inpaint::with_holes;
pub use jpeg_simple::{Coefficients, SimpleJpeg, quantisers};
pub use spec::{Arguments, Span};
pub use superres::{BICUBIC, bicubic_low, pool_low, repeat_4x};

use crate::{Error, Result, noise::Stream};

/// What a degradation makes of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Degraded {
    /// The degraded picture, `(3, height, width)`, nominal range [-1, 1]; the reference's own
    /// degradations may leave the range (SPEC 11), all others stay in it, on the 8-bit grid.
    pub x1: Vec<f32>,
    /// `(height, width)`, 1 in holes and 0 elsewhere, of inpainting alone. `x1` is white there.
    pub mask: Option<Vec<f32>>,
}

/// A way to spoil a picture; the same state of the stream gives the same result.
pub trait Degradation: Send + Sync {
    /// Degrades `x0`, planes `(3, height, width)`, range [-1, 1], of any size from 1×1 up.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x0` has another length; [`Error::Setting`] for a size beyond what this
    /// degradation can do, where it has a limit.
    fn degrade(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Degraded>;

    /// [`Degradation::degrade`] without the mask.
    ///
    /// # Errors
    /// As [`Degradation::degrade`].
    fn apply(&self, x0: &[f32], width: usize, height: usize, rng: &mut Stream) -> Result<Vec<f32>> {
        self.degrade(x0, width, height, rng).map(|degraded| degraded.x1)
    }

    /// The folder that holds ready-made degraded pictures under the names of the clean ones, if the
    /// specification starts with `pairs`: whoever loads the clean picture then gives the degraded
    /// one to [`Degradation::degrade`].
    fn pairs(&self) -> Option<&Path> {
        None
    }
}

/// One row of [`DEGRADATIONS`].
pub struct Entry {
    /// Name, the first word of a specification.
    pub name: &'static str,
    /// Arguments as the user writes them, empty if there are none.
    pub arguments: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// A specification that works, for help and for tests that go through the table.
    pub example: &'static str,
    build: fn(&mut Arguments) -> Result<Box<dyn Degradation>>,
}

/// Every degradation there is.
pub const DEGRADATIONS: &[Entry] = &[
    Entry {
        name: "none",
        arguments: "",
        about: "the picture itself",
        example: "none",
        build: |_| Ok(Box::new(Nothing)),
    },
    Entry {
        name: "jpeg",
        arguments: ":QUALITY[:444|422|420|any][:unaligned]",
        about: "baseline JPEG as libjpeg writes and reads it; 4:2:0 unless said otherwise; unaligned: 8×8 grid at a random place",
        example: "jpeg:10:420:unaligned",
        build: jpeg::build,
    },
    Entry {
        name: "jpeg-simple",
        arguments: ":QUALITY",
        about: "the reference's simplified JPEG (SPEC 11.1)",
        example: "jpeg-simple:30",
        build: jpeg_simple::build,
    },
    Entry {
        name: "jpeg-5",
        arguments: "",
        about: "reference task: simplified JPEG, quality 5",
        example: "jpeg-5",
        build: |_| Ok(Box::new(SimpleJpeg::at(5))),
    },
    Entry {
        name: "jpeg-10",
        arguments: "",
        about: "reference task: simplified JPEG, quality 10",
        example: "jpeg-10",
        build: |_| Ok(Box::new(SimpleJpeg::at(10))),
    },
    Entry {
        name: "sr4x-pool",
        arguments: "",
        about: "reference task: mean of 4×4 pixels, repeated (SPEC 11.2)",
        example: "sr4x-pool",
        build: superres::build_pool,
    },
    Entry {
        name: "sr4x-bicubic",
        arguments: "",
        about: "reference task: bicubic by 4, repeated (SPEC 11.2)",
        example: "sr4x-bicubic",
        build: superres::build_bicubic,
    },
    Entry {
        name: "blur-uni",
        arguments: "[:reference|:ideal]",
        about: "reference task: 9×9 box, as the reference computes it or as it was meant (SPEC 11.3)",
        example: "blur-uni:ideal",
        build: blur_reference::build_uni,
    },
    Entry {
        name: "blur-gauss",
        arguments: ":SIGMA or [:reference|:ideal]",
        about: "Gaussian blur of SIGMA pixels; without SIGMA the reference task (SPEC 11.3)",
        example: "blur-gauss:1.6",
        build: blur_gauss,
    },
    Entry {
        name: "blur-defocus",
        arguments: ":RADIUS",
        about: "blur by a disc of RADIUS pixels, as a lens out of focus",
        example: "blur-defocus:2.5",
        build: blur::build_defocus,
    },
    Entry {
        name: "blur-motion",
        arguments: ":LENGTH[:DEGREES]",
        about: "blur along a line of LENGTH pixels, in a random direction unless given",
        example: "blur-motion:9",
        build: blur::build_motion,
    },
    Entry {
        name: "down-up",
        arguments: ":FACTOR[:area|cubic|lanczos|any]",
        about: "shrink by FACTOR and enlarge again",
        example: "down-up:2",
        build: rescale::build,
    },
    Entry {
        name: "grain",
        arguments: ":STRENGTH[:mono]",
        about: "Gaussian noise of STRENGTH 8-bit steps in each channel, or the same in all",
        example: "grain:5",
        build: grain::build,
    },
    Entry {
        name: "noise",
        arguments: ":LUMA[:CHROMA[:SIZE]]",
        about: "noise of analogue video: standard deviations in 8-bit steps, SIZE pixels over which neighbours are alike",
        example: "noise:6:10:1",
        build: analogue::build_noise,
    },
    Entry {
        name: "chroma-bleed",
        arguments: ":WIDTH[:SHIFT]",
        about: "colour smeared over WIDTH pixels and SHIFT pixels beside its place",
        example: "chroma-bleed:3:1.5",
        build: analogue::build_bleed,
    },
    Entry {
        name: "ringing",
        arguments: ":STRENGTH[:PERIOD]",
        about: "echoes of edges every PERIOD pixels, 3-6 unless given, as in analogue video that was sharpened",
        example: "ringing:0.3:4",
        build: analogue::build_ringing,
    },
    Entry {
        name: "line-jitter",
        arguments: ":PIXELS",
        about: "lines that start up to some PIXELS from their place, as from worn tape",
        example: "line-jitter:0.7",
        build: analogue::build_jitter,
    },
    Entry {
        name: "dropouts",
        arguments: ":DENSITY",
        about: "streaks where tape gave no signal, DENSITY on 100×100 pixels",
        example: "dropouts:2",
        build: damage::build_dropouts,
    },
    Entry {
        name: "scratches",
        arguments: ":DENSITY",
        about: "lines along film, DENSITY on 100 pixels of width",
        example: "scratches:1",
        build: damage::build_scratches,
    },
    Entry {
        name: "dust",
        arguments: ":DENSITY",
        about: "specks and hairs on film, DENSITY on 100×100 pixels",
        example: "dust:3",
        build: damage::build_dust,
    },
    Entry {
        name: "inpaint-center",
        arguments: "",
        about: "reference task: the middle quarter white (SPEC 11.4)",
        example: "inpaint-center",
        build: inpaint::build_center,
    },
    Entry {
        name: "inpaint-freeform",
        arguments: "[:PERCENT]",
        about: "reference task: strokes over PERCENT of the picture white, 20-30 unless given (SPEC 11.4)",
        example: "inpaint-freeform:10-20",
        build: inpaint::build_freeform,
    },
    Entry {
        name: "pairs",
        arguments: ":FOLDER",
        about: "ready-made: the degraded picture of the same name in FOLDER; first in a chain only",
        example: "pairs:degraded",
        build: pairs::build,
    },
];

/// Reads a specification.
///
/// # Errors
/// [`Error::Setting`] naming the part that is not understood and what would be.
pub fn parse(spec: &str) -> Result<Box<dyn Degradation>> {
    let mut ways = spec.split('|').map(parse_chain).collect::<Result<Vec<_>>>()?;
    if ways.len() == 1 {
        return Ok(ways.remove(0));
    }
    if ways.iter().any(|way| way.pairs().is_some()) {
        return Err(Error::setting("degradation", spec, "`pairs` alone, without alternatives"));
    }
    Ok(Box::new(compose::OneOf(ways)))
}

/// Reads what stands between two bars.
fn parse_chain(spec: &str) -> Result<Box<dyn Degradation>> {
    let mut steps = Vec::new();
    for part in spec.split('+') {
        let mut arguments = Arguments::new(part);
        let name = arguments.name();
        let entry = DEGRADATIONS.iter().find(|entry| entry.name == name).ok_or_else(|| {
            let known: Vec<_> = DEGRADATIONS.iter().map(|entry| entry.name).collect();
            Error::setting("degradation", format!("\"{name}\""), format!("one of {}", known.join(", ")))
        })?;
        let step = (entry.build)(&mut arguments)?;
        arguments.end(entry)?;
        if !steps.is_empty() && step.pairs().is_some() {
            return Err(Error::setting("degradation", spec, "a chain with `pairs` in the first place only"));
        }
        steps.push(step);
    }
    if steps.len() == 1 { Ok(steps.remove(0)) } else { Ok(Box::new(compose::Chain(steps))) }
}

/// One name for two rows of the literature: with a number the real blur, else the reference's task.
fn blur_gauss(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    match arguments.peek() {
        None | Some("reference" | "ideal") => blur_reference::build_gauss(arguments),
        Some(_) => blur::build_gauss(arguments),
    }
}

struct Nothing;

impl Degradation for Nothing {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, _: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        Ok(Degraded { x1: x0.to_vec(), mask: None })
    }
}

fn check(x0: &[f32], width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 || x0.len() != 3 * width * height {
        return Err(Error::shape("x0", &[x0.len()], format!("3 planes of {width}×{height}")));
    }
    Ok(())
}

/// Puts values on the grid of 8-bit files: rounded and clamped.
fn as_file(x1: &mut [f32]) {
    for value in x1 {
        *value = crate::picture::from_u8(crate::picture::to_u8(*value));
    }
}

/// Repeats the last row and column until both sides are multiples of `multiple`; gives the plane
/// and its new size.
fn padded(plane: &[f32], width: usize, height: usize, multiple: usize) -> (Vec<f32>, usize, usize) {
    let (wide, high) = (width.next_multiple_of(multiple), height.next_multiple_of(multiple));
    let mut out = Vec::with_capacity(wide * high);
    for y in 0..high {
        let row = &plane[y.min(height - 1) * width..][..width];
        out.extend_from_slice(row);
        out.extend(std::iter::repeat_n(row[width - 1], wide - width));
    }
    (out, wide, high)
}

/// The top left `width`×`height` of a plane of rows of `wide`.
fn cropped(plane: &[f32], wide: usize, width: usize, height: usize) -> impl Iterator<Item = f32> + '_ {
    plane.chunks_exact(wide).take(height).flat_map(move |row| row[..width].iter().copied())
}

#[cfg(test)]
mod tests;
