// SPDX-License-Identifier: MIT OR Apache-2.0
//! Corruption cases: the reference's degradations, piece by piece (SPEC 11).

use candle_core::Tensor;

use super::{Case, Fixture, Folder};
use crate::{
    Error, Result,
    degrade::{self, Components, KERNELS, SimpleJpeg},
    noise::Stream,
};

/// Tolerances where a file states none, all absolute.
const JPEG: f64 = 2e-5;
const SUPER_RESOLUTION: f64 = 5e-6;
const BLUR: f64 = 2e-5;
const CONVOLUTION: f64 = 5e-6;
const KERNEL: f64 = 1e-6;
/// The reference's blur with a decomposition of our own: largest and mean difference. Ties in the
/// order of singular values are broken differently; the smaller the picture, the more it shows.
const LOOSE_BLUR: [(usize, f64, f64); 3] = [(256, 0.05, 0.006), (64, 0.12, 0.014), (0, 0.3, 0.06)];

pub(super) fn run(folder: &mut Folder) -> Result<()> {
    for stem in folder.stems() {
        folder.fixture(&stem, |folder, fixture| {
            let kind = fixture.json.text("/kind")?;
            if kind != "corruption" {
                return Err(fixture.json.error(format!("kind is {kind:?}, but must be \"corruption\"")));
            }
            let clean = Batch::read(fixture, "x0")?;
            for task in fixture.json.list("/tasks")? {
                let task = task.as_str().ok_or_else(|| fixture.json.error("tasks must be names"))?;
                match check_for(task) {
                    Some(check) => folder.case(&stem, task, |case| check(case, fixture, task, &clean)),
                    None => return Err(fixture.json.error(format!("task {task:?} is not understood"))),
                }
            }
            Ok(())
        });
    }
    Ok(())
}

type Check = fn(&mut Case, &Fixture, &str, &Batch) -> Result<()>;

fn check_for(task: &str) -> Option<Check> {
    match task {
        "blur-uni" | "blur-gauss" => Some(blur),
        "sr4x-pool" | "sr4x-bicubic" => Some(super_resolution),
        "inpaint-center" => Some(inpaint_center),
        "inpaint-freeform" => Some(inpaint_freeform),
        _ => quality(task).map(|_| jpeg as Check),
    }
}

/// `N` of the task `jpeg-N`.
fn quality(task: &str) -> Option<u8> {
    task.strip_prefix("jpeg-")?.parse().ok().filter(|q| (1..=100).contains(q))
}

/// Pictures `(B, 3, height, width)` as a flat list.
struct Batch {
    values: Vec<f32>,
    width: usize,
    height: usize,
}

impl Batch {
    fn read(fixture: &Fixture, name: &str) -> Result<Self> {
        let tensor = fixture.tensor(name)?;
        match *tensor.dims() {
            [_, 3, height, width] if height > 0 && width > 0 => {
                Ok(Self { values: flat(&tensor)?, width, height })
            }
            ref other => Err(Error::shape(name, other, "(B, 3, H, W)")),
        }
    }

    fn pictures(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(3 * self.width * self.height)
    }

    fn planes(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width * self.height)
    }

    /// The degradation of this name on each picture.
    fn degraded(&self, spec: &str) -> Result<Vec<f32>> {
        let degradation = degrade::parse(spec)?;
        let mut stream = Stream::new(0, 0);
        let each = self.pictures().map(|x0| degradation.apply(x0, self.width, self.height, &mut stream));
        Ok(each.collect::<Result<Vec<_>>>()?.concat())
    }

    fn must_divide(&self, multiple: usize) -> Result<()> {
        if self.width.is_multiple_of(multiple) && self.height.is_multiple_of(multiple) {
            return Ok(());
        }
        Err(Error::shape("x0", &[self.height, self.width], format!("sides that are multiples of {multiple}")))
    }
}

fn jpeg(case: &mut Case, fixture: &Fixture, task: &str, clean: &Batch) -> Result<()> {
    // `check_for` came here because the name has a quality.
    let quality = u32::from(quality(task).unwrap_or(1));
    let limit = fixture.tolerance("jpeg_abs", JPEG)?;
    clean.must_divide(16)?;
    let tables = degrade::quantisers(quality);
    for (name, table) in ["q_luma", "q_chroma"].into_iter().zip(tables) {
        if let Some(stored) = optional(fixture, task, name)? {
            case.values(name, &table, &stored, 0.0)?;
        }
    }
    let (mut luma, mut chroma, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for x0 in clean.pictures() {
        let coefficients = SimpleJpeg::encode(x0, clean.width, clean.height, quality);
        out.extend(SimpleJpeg::decode(&coefficients, clean.width, clean.height, quality));
        luma.extend(coefficients.luma);
        chroma.extend(coefficients.chroma.into_iter().flatten());
    }
    for (name, ours) in [("luma_coef", luma), ("chroma_coef", chroma)] {
        if let Some(stored) = optional(fixture, task, name)? {
            case.values(name, &ours, &stored, 0.0)?;
        }
    }
    output(case, fixture, task, &out, limit)
}

fn super_resolution(case: &mut Case, fixture: &Fixture, task: &str, clean: &Batch) -> Result<()> {
    let limit = fixture.tolerance("sr_abs", SUPER_RESOLUTION)?;
    clean.must_divide(4)?;
    let shrink = if task == "sr4x-pool" { degrade::pool_low } else { degrade::bicubic_low };
    if let Some(stored) = optional(fixture, task, "low")? {
        let low: Vec<f32> = clean.planes().flat_map(|p| shrink(p, clean.width, clean.height)).collect();
        case.values("low", &doubles(&low), &stored, limit)?;
    }
    if task == "sr4x-bicubic"
        && let Some(stored) = optional(fixture, task, "kernel")?
    {
        case.values("kernel", &degrade::BICUBIC, &stored, KERNEL)?;
    }
    output(case, fixture, task, &clean.degraded(task)?, limit)
}

fn blur(case: &mut Case, fixture: &Fixture, task: &str, clean: &Batch) -> Result<()> {
    let Some((_, kernel)) = KERNELS.iter().find(|(name, _)| *name == task) else {
        return Err(fixture.error(format!("{task}: unknown kernel")));
    };
    let kernel = kernel();
    let (width, height) = (clean.width, clean.height);
    if let Some(stored) = optional(fixture, task, "kernel")? {
        case.values("kernel", &kernel, &stored, KERNEL)?;
    }
    if let Some(stored) = optional(fixture, task, "ideal_conv.out")? {
        let ideal = clean.degraded(&format!("{task}:ideal"))?;
        case.values("ideal_conv.out", &doubles(&ideal), &stored, CONVOLUTION)?;
    }
    let Some(singulars) = optional(fixture, task, "singulars")? else {
        return loose_blur(case, fixture, task, clean);
    };
    let side = singulars.len();
    if width != side || height != side {
        return Err(Error::shape("x0", &[height, width], format!("{side}×{side}, as the singular values")));
    }
    let matrix = |name: &str| {
        let stored = fixture.numbers(&format!("{task}.{name}"))?;
        if stored.len() == side * side {
            Ok(stored)
        } else {
            Err(Error::shape(name, &[stored.len()], side * side))
        }
    };
    let stored = Components { u: matrix("U")?, v: matrix("V")?, singulars };
    let ours = Components::new(&kernel, side);
    case.values("singulars", &ours.singulars, &stored.singulars, BLUR)?;
    let order = fixture.indices(&format!("{task}.perm"))?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..side * side) {
        return Err(fixture.error(format!("{task}.perm is not an order of {} components", side * side)));
    }
    let each = clean.pictures().flat_map(|x0| degrade::misaligned(x0, &stored, &stored, &order));
    output(case, fixture, task, &each.collect::<Vec<_>>(), BLUR)
}

/// Without the stored decomposition the reference can only be met loosely.
fn loose_blur(case: &mut Case, fixture: &Fixture, task: &str, clean: &Batch) -> Result<()> {
    let stored = fixture.numbers(&format!("{task}.out"))?;
    let ours = doubles(&clean.degraded(task)?);
    let side = clean.width.min(clean.height);
    let (_, largest, mean) = LOOSE_BLUR.into_iter().find(|(from, ..)| side >= *from).unwrap_or(LOOSE_BLUR[2]);
    case.values("out", &ours, &stored, largest)?;
    let sum: f64 = ours.iter().zip(&stored).map(|(a, b)| (a - b).abs()).sum();
    case.values("mean difference of out", &[sum / ours.len() as f64], &[0.0], mean)
}

fn inpaint_center(case: &mut Case, fixture: &Fixture, task: &str, clean: &Batch) -> Result<()> {
    let limit = fixture.tolerance("inpaint_abs", 0.0)?;
    let degradation = degrade::parse(task)?;
    let one = &clean.values[..3 * clean.width * clean.height];
    let degraded = degradation.degrade(one, clean.width, clean.height, &mut Stream::new(0, 0))?;
    if let (Some(mask), Some(stored)) = (degraded.mask, optional(fixture, task, "mask")?) {
        let times = stored.len() / mask.len().max(1);
        case.values("mask", &doubles(&mask.repeat(times.max(1))), &stored, 0.0)?;
    }
    output(case, fixture, task, &clean.degraded(task)?, limit)
}

fn inpaint_freeform(case: &mut Case, fixture: &Fixture, task: &str, clean: &Batch) -> Result<()> {
    let limit = fixture.tolerance("inpaint_abs", 0.0)?;
    let mask = flat(&fixture.tensor(&format!("{task}.mask"))?)?;
    let plane = clean.width * clean.height;
    let count = clean.values.len() / (3 * plane);
    if mask.len() != plane && mask.len() != count * plane {
        return Err(Error::shape("mask", &[mask.len()], format!("1 or {count} masks of {plane} pixels")));
    }
    let masks = mask.chunks_exact(plane).cycle();
    let out = clean.pictures().zip(masks).flat_map(|(x0, mask)| degrade::with_holes(x0, mask));
    output(case, fixture, task, &out.collect::<Vec<_>>(), limit)
}

fn output(case: &mut Case, fixture: &Fixture, task: &str, ours: &[f32], limit: f64) -> Result<()> {
    case.values("out", &doubles(ours), &fixture.numbers(&format!("{task}.out"))?, limit)
}

fn optional(fixture: &Fixture, task: &str, name: &str) -> Result<Option<Vec<f64>>> {
    let name = format!("{task}.{name}");
    fixture.has(&name).then(|| fixture.numbers(&name)).transpose()
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use candle_core::Device;

    use super::*;

    #[test]
    fn the_reference_numbers_are_met() {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/i2sb/fixtures");
        if !dir.is_dir() {
            println!("skipped: no fixtures at {}", dir.display());
            return;
        }
        let mut lines = Vec::new();
        let mut report = |case: &super::super::CaseReport| lines.push((case.passed(), case.to_string()));
        run(&mut Folder::open(&dir, "corruption", &Device::Cpu, &mut report).unwrap()).unwrap();
        lines.iter().for_each(|(_, line)| println!("{line}"));
        assert!(lines.len() >= 9 && lines.iter().all(|(passed, _)| *passed));
    }
}
