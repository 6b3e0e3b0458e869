// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb eval`.

mod clip;
mod sheet;
mod table;

use std::path::{Path, PathBuf};

use i2sb::{
    Cancel, Error, atomic,
    degrade::{self, Degradation, Degraded},
    metric::{Lpips, psnr_rgb, ssim},
    noise::Stream,
    picture::{Picture, SaveOptions, is_picture},
    restore::{Request, RestoreOptions, Restorer},
    train::dataset::walk,
};

use self::{
    clip::Clip,
    sheet::Sheet,
    table::{Row, Scores},
};
use crate::{
    degrade::{source, spec},
    engine_args::{EngineArgs, ModelArgs},
    restore::progress::Progress,
    values,
};

/// Measure what a network gains: PSNR (RGB), SSIM and LPIPS of degraded and restored pictures against
/// the originals; of a clip (--clip), how steady it is in time, too.
#[derive(Debug, clap::Args)]
#[command(after_help = crate::degrade::list())]
pub struct Args {
    /// Folder of original pictures
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// How the originals are degraded, for example jpeg:10
    #[arg(long, value_name = "SPEC", value_parser = spec)]
    degrade: String,
    /// The pictures are the frames of one clip, in order of the numbers that end their names: also measure
    /// flicker. Decoded frames of a real codec are given by --degrade pairs:DIR. Temporal deviation: of the
    /// error, over time, where the original stands still; warping error: what changes along the original's
    /// motion, which 8×8 blocks are followed for. Both in 8-bit levels
    #[arg(long)]
    clip: bool,
    /// From 0, the input, to 1, fully restored. With 0 no network runs: scores ready-made pictures alone
    #[arg(long, value_name = "0..1", default_value_t = RestoreOptions::default().strength, value_parser = values::strength)]
    strength: f32,
    /// Write the table as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write crops of original, degraded and restored pictures side by side
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Leave out LPIPS, which takes the longest
    #[arg(long)]
    no_lpips: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

pub fn run(args: Args, cancel: &Cancel) -> anyhow::Result<()> {
    if let Some(path) = &args.sheet {
        // Said before the work, not after it.
        i2sb::picture::writable(path)?;
    }
    args.engine.advise();
    let degradation = degrade::parse(&args.degrade)?;
    let options = RestoreOptions { strength: args.strength, ..args.engine.options() };
    let restorer = Restorer::new(&args.model.open()?, options)?;
    let lpips = if args.no_lpips { None } else { Some(Lpips::new()?) };
    let mut names: Vec<_> = walk(&args.folder)?.into_iter().filter(|name| is_picture(name)).collect();
    if names.is_empty() {
        return Err(Error::file(&args.folder, "holds no pictures").into());
    }
    if args.clip {
        names = clip::in_order(names)?;
    }
    let job =
        Job { args: &args, degradation: degradation.as_ref(), restorer: &restorer, lpips: lpips.as_ref() };
    let progress = Progress::new(names.len());
    let (mut rows, mut failed) = (Vec::new(), 0);
    let mut shown = Shown { sheet: args.sheet.as_ref().map(|_| Sheet::default()), clip: None };
    for (number, name) in names.iter().enumerate() {
        match job.measure(name, &progress, &mut shown, cancel) {
            Ok(row) => rows.push(row),
            Err(Error::Cancelled) => return Err(Error::Cancelled.into()),
            // The frames around a gap are no neighbours.
            Err(error) if args.clip => return Err(error.into()),
            Err(error) => {
                progress.line(&error.to_string());
                failed += 1;
            }
        }
        progress.finished(number as u64 + 1);
    }
    progress.finish();
    if !rows.is_empty() {
        rows.push(table::mean(&rows));
        print!("{}", table::text(&rows));
        println!("{} on {}, restored by {}", args.degrade, args.folder.display(), restorer.about());
        if let Some(clip) = &shown.clip {
            print!("{}", clip.text());
        }
        if let Some(path) = &args.csv {
            let clip = shown.clip.as_ref().map(|clip| (clip::COLUMNS, clip.csv()));
            atomic::write_bytes(path, table::csv(&rows, clip).as_bytes())?;
        }
        if let (Some(path), Some(sheet)) = (&args.sheet, &shown.sheet) {
            sheet.draw(&args.degrade)?.save(path, SaveOptions::default())?;
        }
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} pictures failed", names.len());
    }
    Ok(())
}

/// What gathers over all pictures.
struct Shown {
    sheet: Option<Sheet>,
    clip: Option<Clip>,
}

/// What is the same for all pictures.
struct Job<'a> {
    args: &'a Args,
    degradation: &'a dyn Degradation,
    restorer: &'a Restorer,
    lpips: Option<&'a Lpips>,
}

impl Job<'_> {
    fn measure(
        &self,
        name: &Path,
        progress: &Progress,
        shown: &mut Shown,
        cancel: &Cancel,
    ) -> i2sb::Result<Row> {
        cancel.check()?;
        let path = self.args.folder.join(name);
        let clean = Picture::load(&path)?;
        let (width, height, x0) = (clean.width, clean.height, &clean.rgb);
        let image = name.to_string_lossy().into_owned();
        // By its name, so that a picture is degraded alike in every folder.
        let mut rng = Stream::new(self.args.engine.seed, number_of(&image));
        let ready = source(self.degradation, &clean, &path)?;
        let Degraded { x1, mask } = self.degradation.degrade(&ready, width, height, &mut rng)?;
        let report = |share: f32| progress.picture(share, width * height);
        let request = Request { progress: Some(&report), mask: mask.as_deref(), ..Request::default() };
        let restored = self.restorer.restore(&x1, width, height, &request, cancel)?;

        let original = self.lpips.map(|lpips| lpips.features(x0, width, height)).transpose()?;
        let scores = |x: &[f32]| -> i2sb::Result<Scores> {
            let lpips = match (self.lpips, &original) {
                (Some(lpips), Some(original)) => {
                    Some(lpips.between(original, &lpips.features(x, width, height)?)?)
                }
                _ => None,
            };
            Ok(Scores { psnr: psnr_rgb(x0, x)?, ssim: ssim(x0, x, width, height)?, lpips })
        };
        let before = scores(&x1)?;
        let after = if restored == x1 { before } else { scores(&restored)? };
        let row = Row { image, before, after };
        if self.args.clip {
            let clip = shown.clip.get_or_insert_with(|| Clip::new((width, height)));
            clip.push(&path, (width, height), [x0, &x1, &restored])?;
        }
        if let Some(sheet) = &mut shown.sheet {
            sheet.add(&row, (width, height), [x0, &x1, &restored])?;
        }
        Ok(row)
    }
}

/// FNV-1a of the name: a number that stays.
fn number_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
