// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb calibrate`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use i2sb::{
    Cancel, Error,
    degrade::{self, Degradation},
    net::bridge::Calibration,
    noise::Stream,
    picture::{Picture, is_picture},
    preset::{INT8_FILE, Preset},
    restore::{Request, RestoreOptions, Restorer},
    train::{
        dataset::walk,
        held_out_list::HeldOutList,
        manifest::{Condition, Manifest},
    },
};

use crate::{
    degrade::{source, spec},
    restore::progress::Progress,
    values,
};

/// Prepare a preset for --precision int8: shows its network degraded pictures, notes which values go through it, and
/// writes over which values the bytes of each channel reach into the preset's int8.safetensors. All else stays as it is.
///
/// Take pictures like those of the training, never those that you measure with afterwards: the project's own are
/// refused.
#[derive(Debug, clap::Args)]
#[command(after_help = crate::degrade::list())]
pub struct Args {
    /// Folder of original pictures
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// How the originals are degraded, for example jpeg:5-100; given several times, each picture is shown in each way
    #[arg(long, required = true, value_name = "SPEC", value_parser = spec)]
    degrade: Vec<String>,
    /// Name or folder of the preset
    #[arg(long, value_name = "NAME|PATH")]
    model: String,
    /// Only pictures in whose row of DIR/MANIFEST.csv a column has this value, as recipes say it: tier=A
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = condition)]
    only: Vec<Condition>,
    /// Most pictures that are shown, evenly from all of them
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = values::pictures)]
    pictures: usize,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = RestoreOptions::default().seed)]
    seed: u64,
    /// Threads; 0: one per core. Does not change the result
    #[arg(long, value_name = "N", default_value_t = RestoreOptions::default().threads, value_parser = values::threads)]
    threads: usize,
}

pub fn run(args: Args, cancel: &Cancel) -> anyhow::Result<()> {
    let preset = Preset::open(&args.model)?;
    let Some(folder) = preset.folder.clone() else {
        anyhow::bail!("{} is inside the program: a preset in a folder is needed", args.model);
    };
    let mut names: Vec<_> = walk(&args.folder)?.into_iter().filter(|name| is_picture(name)).collect();
    if names.is_empty() {
        return Err(Error::file(&args.folder, "holds no pictures to show").into());
    }
    let all = names.len();
    if !args.only.is_empty() {
        let manifest = Manifest::read(&args.folder)?;
        args.only.iter().try_for_each(|only| manifest.check(only))?;
        names.retain(|name| args.only.iter().all(|only| manifest.meets(&name.to_string_lossy(), only)));
    }
    if names.is_empty() {
        let only: Vec<_> = args.only.iter().cloned().map(String::from).collect();
        let reason = format!("none of {all} pictures meets --only {}", only.join(" --only "));
        return Err(Error::file(&args.folder, reason).into());
    }
    let count = args.pictures.min(names.len());
    let names: Vec<_> = (0..count).map(|i| args.folder.join(&names[i * names.len() / count])).collect();
    let degradations: Vec<_> = args.degrade.iter().map(|d| degrade::parse(d)).collect::<Result<_, _>>()?;
    let ends: &[f32] = if preset.has_detail() { &[0.0, 1.0] } else { &[0.0] };
    let progress = Progress::new(ends.len() * degradations.len() * names.len());
    let (mut ranges, mut done, mut failed) = (vec![], 0, 0);
    for end in ends {
        let shown = Arc::new(preset.clone().with_detail(*end)?.calibration()?);
        let restorer = restorer(&args, &preset, &shown)?;
        for degradation in &degradations {
            for (number, name) in names.iter().enumerate() {
                let rng = Stream::new(args.seed, number as u64);
                match show(&restorer, degradation.as_ref(), name, rng, cancel) {
                    Ok(()) => {}
                    Err(Error::Cancelled) => return Err(Error::Cancelled.into()),
                    Err(error) => {
                        progress.line(&error.to_string());
                        failed += 1;
                    }
                }
                done += 1;
                progress.finished(done);
            }
        }
        ranges.push(shown.ranges());
    }
    progress.finish();
    if failed > 0 {
        anyhow::bail!("{failed} of {done} pictures failed; nothing was written");
    }
    let path = folder.join(INT8_FILE);
    preset.write_ranges(&path, &ranges)?;
    let channels = ranges.iter().flatten().map(Vec::len).sum::<usize>();
    println!("{}: ranges of {channels} channels", path.display());
    println!(
        "see what bytes cost: i2sb eval DIR --degrade {} --model {} --precision int8",
        args.degrade[0],
        folder.display()
    );
    Ok(())
}

fn restorer(args: &Args, preset: &Preset, shown: &Arc<Calibration>) -> i2sb::Result<Restorer> {
    let options = RestoreOptions { seed: args.seed, threads: args.threads, ..RestoreOptions::default() };
    let device = candle_core::Device::Cpu;
    Restorer::from_network(Box::new(shown.clone()), device, preset.config.clone(), options)
}

fn show(
    restorer: &Restorer,
    degradation: &dyn Degradation,
    path: &Path,
    mut rng: Stream,
    cancel: &Cancel,
) -> i2sb::Result<()> {
    let clean = Picture::load(path)?;
    refuse_held_out(HeldOutList::built_in(), &clean, path)?;
    let ready = source(degradation, &clean, path)?;
    let x1 = degradation.apply(&ready, clean.width, clean.height, &mut rng)?;
    restorer.restore(&x1, clean.width, clean.height, &Request::default(), cancel).map(drop)
}

/// What results are measured on shows the network nothing, here as in training.
fn refuse_held_out(list: &HeldOutList, picture: &Picture, path: &Path) -> i2sb::Result<()> {
    match list.find((picture.width, picture.height), &picture.to_rgb8()) {
        Some(known) => Err(Error::file(path, format!("is held out for evaluation, as {known}"))),
        None => Ok(()),
    }
}

fn condition(text: &str) -> i2sb::Result<Condition> {
    Condition::try_from(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_are_held_out_are_refused() {
        let rgb: Vec<u8> = (0..3 * 96 * 64).map(|at| (at * at / 7 % 251) as u8).collect();
        let picture = Picture::from_rgb8(96, 64, &rgb).unwrap();
        let path = Path::new("photos/a.png");
        refuse_held_out(HeldOutList::built_in(), &picture, path).unwrap();
        let line = HeldOutList::parse("").line((96, 64), &rgb, "kodim99").unwrap();
        let error = refuse_held_out(&HeldOutList::parse(&line), &picture, path).unwrap_err().to_string();
        assert_eq!(error, "photos/a.png: is held out for evaluation, as kodim99");
    }
}
