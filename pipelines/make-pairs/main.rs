// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb-make-pairs`: from photographs to pairs of frames before and after a video codec.

mod codecs;
mod colour;
mod counter;
mod kinds;
mod ledger;
mod planes;
mod roundtrip;
mod scene;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use i2sb::{
    Cancel,
    degrade::{self, Degradation},
    noise::Stream,
    picture::{from_u8, to_u8},
    train::{
        dataset::{Dataset, DatasetOptions},
        manifest::{Condition, Manifest, Weight},
    },
};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use codecs::Codec;
use ledger::Ledger;
use planes::{cut, extended, psnr};

/// Rows between the part of a frame that pairs are cut from and the number below it.
const GAP: usize = 16;
/// Set apart from the scene's draws, which may become more or fewer.
const CODEC_SEED: u64 = 0x636f_6465_6373;
const CROP_SEED: u64 = 0x6372_6f70_7365;

/// Makes pairs of frames for training: moving crops of photographs through real video codecs and back.
///
/// OUT gets the folders `clean`, with a MANIFEST.csv, and `degraded` with files of the same names. The same
/// command goes on where it was stopped.
#[derive(Parser, Debug)]
#[command(name = "i2sb-make-pairs", version)]
struct Args {
    /// Folder of photographs, with or without a MANIFEST.csv
    photographs: PathBuf,
    /// Folder to make
    out: PathBuf,
    /// Pairs to make
    #[arg(long, default_value_t = 1000)]
    pairs: usize,
    /// Only photographs whose row in the manifest has COLUMN=VALUE; may be given several times
    #[arg(long, value_name = "COLUMN=VALUE")]
    only: Vec<String>,
    /// How often some photographs are drawn; may be given several times
    #[arg(long, value_name = "COLUMN=VALUE:FACTOR")]
    weight: Vec<String>,
    /// Only these codecs; may be given several times
    #[arg(long, value_name = "NAME")]
    codec: Vec<String>,
    /// What happens to frames before they are encoded, as `i2sb degrade` writes it; the same for all of a sequence
    #[arg(long, value_name = "SPEC", default_value = "none")]
    before: String,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Frames of a sequence, 2 to 32
    #[arg(long, value_name = "N", default_value_t = 12)]
    frames: usize,
    /// Pairs from a sequence
    #[arg(long, value_name = "N", default_value_t = 4)]
    keep: usize,
    /// Side of a frame in pixels, a multiple of 32
    #[arg(long, value_name = "PIXELS", default_value_t = 192)]
    frame: usize,
    /// Side of a picture of a pair in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 160)]
    crop: usize,
    /// Threads; 0 means all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("i2sb-make-pairs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What all sequences are made with.
struct Maker<'a> {
    args: &'a Args,
    data: Dataset,
    manifest: Manifest,
    codecs: Vec<&'static Codec>,
    before: Box<dyn Degradation>,
    ledger: Ledger,
}

fn run(args: &Args) -> Result<()> {
    check(args)?;
    // Before anything is read: reading uses the pool.
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    gst::init().context("GStreamer does not start")?;
    let codecs = codecs::named(&args.codec)?;
    let before = degrade::parse(&args.before)?;
    ensure!(before.pairs().is_none(), "--before cannot be ready-made pairs");
    let options = DatasetOptions {
        min_side: args.frame + GAP,
        only: args.only.iter().map(|text| Condition::try_from(text.clone())).collect::<i2sb::Result<_>>()?,
        refuse_held_out: true,
        weights: args
            .weight
            .iter()
            .map(|text| Weight::try_from(text.clone()))
            .collect::<i2sb::Result<_>>()?,
        ..DatasetOptions::default()
    };
    let report = |path: &Path, reason: &str| eprintln!("skipped: {}: {reason}", path.display());
    let data = Dataset::open(&args.photographs, None, &options, &Cancel::default(), report, |_, _| ())?;
    let census = data.census();
    eprintln!("{} photographs; {} left out, {} skipped", census.used, census.filtered, census.skipped);
    // A folder without a table has no rows to repeat.
    let manifest = Manifest::read(&args.photographs).unwrap_or_default();
    let ledger = Ledger::open(&args.out, &settings(args))?;
    let maker = Maker { args, data, manifest, codecs, before, ledger };
    let sequences = args.pairs.div_ceil(args.keep) as u64;
    let bar = ProgressBar::new(args.pairs as u64);
    bar.set_style(ProgressStyle::with_template("{bar:24} {pos}/{len} pairs, {per_sec}, {eta} left")?);
    let failed = AtomicU64::new(0);
    let done = (0..sequences).into_par_iter().try_for_each(|sequence| -> Result<()> {
        let pairs = match maker.ledger.pairs_of(sequence) {
            Some(pairs) => pairs,
            None => match maker.sequence(sequence) {
                Ok(pairs) => pairs,
                Err(Trouble::Sequence(error)) => {
                    bar.suspend(|| eprintln!("failed: sequence {sequence}: {error:#}"));
                    failed.fetch_add(1, Ordering::Relaxed);
                    0
                }
                Err(Trouble::Disk(error)) => return Err(error),
            },
        };
        bar.inc(pairs as u64);
        Ok(())
    });
    bar.finish_and_clear();
    let pairs = maker.ledger.manifest(sequences)?;
    done?;
    println!("{}: {pairs} pairs of {sequences} sequences", args.out.display());
    match failed.into_inner() {
        0 => Ok(()),
        failed => bail!("{failed} of {sequences} sequences failed and are left out"),
    }
}

fn check(args: &Args) -> Result<()> {
    ensure!(
        (2..=counter::MOST).contains(&args.frames),
        "--frames is {}, but must be 2 to {}",
        args.frames,
        counter::MOST
    );
    ensure!(
        (1..=args.frames).contains(&args.keep),
        "--keep is {}, but must be 1 to {}",
        args.keep,
        args.frames
    );
    let fits = args.frame % 32 == 0 && (counter::WIDTH..=2048).contains(&args.frame);
    ensure!(fits, "--frame is {}, but must be a multiple of 32 from {} to 2048", args.frame, counter::WIDTH);
    ensure!(
        (16..=args.frame).contains(&args.crop),
        "--crop is {}, but must be 16 to {}",
        args.crop,
        args.frame
    );
    ensure!(args.pairs > 0, "--pairs is 0, but must be at least 1");
    Ok(())
}

/// What a folder was made with; all but how many.
fn settings(args: &Args) -> String {
    let Args { photographs, only, weight, codec, before, seed, frames, keep, frame, crop, .. } = args;
    format!(
        "photographs {}\nonly {only:?}\nweight {weight:?}\ncodec {codec:?}\nbefore {before}\nseed {seed}\nframes {frames}\nkeep {keep}\nframe {frame}\ncrop {crop}\n",
        photographs.display()
    )
}

/// Why a sequence was not made: for itself, or because nothing can be written.
enum Trouble {
    Sequence(anyhow::Error),
    Disk(anyhow::Error),
}

impl Maker<'_> {
    /// Makes and writes one sequence; gives the number of its pairs.
    fn sequence(&self, number: u64) -> std::result::Result<usize, Trouble> {
        let args = self.args;
        let content = (args.frame, args.frame + GAP);
        let size = (args.frame, args.frame + GAP + counter::BLOCK);
        let scene = scene::draw(&self.data, content, args.frames, &mut Stream::new(args.seed, number));
        let rng = &mut Stream::new(args.seed ^ CODEC_SEED, number);
        let choice = codecs::choose(&self.codecs, rng).map_err(Trouble::Sequence)?;
        let (matrix, weights) = colour::MATRICES[rng.below(2) as usize];
        let colour = roundtrip::colour(&choice, weights).map_err(Trouble::Sequence)?;
        let numbered = scene.frames.iter().enumerate().map(|(i, clean)| -> Result<Vec<f32>> {
            // Each frame is spoiled alike: the stream begins anew.
            let mut same = Stream::new(args.seed ^ CODEC_SEED, !number);
            let spoiled = self.before.apply(clean, content.0, content.1, &mut same)?;
            let mut frame = extended(&spoiled, content, size.1);
            counter::write(&mut frame, size, i);
            Ok(frame)
        });
        let frames = numbered.collect::<Result<Vec<_>>>().map_err(Trouble::Sequence)?;
        let coded = roundtrip::run(&choice, &colour, &frames, size)
            .with_context(|| format!("{} {}", choice.format, choice.encoder))
            .map_err(Trouble::Sequence)?;

        let rng = &mut Stream::new(args.seed ^ CROP_SEED, number);
        let mut rows = Vec::new();
        let wanted = args.keep.min(args.pairs - (number as usize * args.keep).min(args.pairs));
        for frame in chosen(args.frames, wanted, rng) {
            let free = (args.frame - args.crop + 1) as u64;
            let at = (rng.below(free) as usize, rng.below(free) as usize);
            let clean = cut(&scene.frames[frame], content, at, args.crop);
            let mut degraded = cut(&coded.frames[frame].rgb, size, at, args.crop);
            degraded.iter_mut().for_each(|v| *v = from_u8(to_u8(*v)));
            let name = format!("{number:06}-{frame:02}.webp");
            self.ledger.pair(&name, args.crop, &clean, &degraded).map_err(Trouble::Disk)?;
            let first = scene.pictures.first().map(String::as_str).unwrap_or_default();
            rows.push(self.row(first, |column| match column {
                "file" => name.clone(),
                "pictures" => scene.pictures.join(" "),
                "codec" => choice.codec.to_string(),
                "frame_type" => format!("{:?}", coded.frames[frame].kind),
                "format" => choice.format.to_string(),
                "matrix" => matrix.to_string(),
                "settings" => choice.encoder.clone(),
                "before" => args.before.clone(),
                "bits_per_pixel" => format!("{:.4}", coded.bits_per_pixel),
                "psnr" => format!("{:.2}", psnr(&clean, &degraded)),
                "sequence" => number.to_string(),
                "frame" => frame.to_string(),
                "seed" => args.seed.to_string(),
                _ => String::new(),
            }));
        }
        self.ledger.finish(number, &rows).map_err(Trouble::Disk)?;
        Ok(rows.len())
    }

    /// A row of the manifest: what is known of the photograph, and of what was done.
    fn row(&self, picture: &str, done: impl Fn(&str) -> String) -> Vec<String> {
        let field = |column: &&str| {
            let done = done(column);
            let known = || self.manifest.value(picture, column).unwrap_or_default().to_string();
            // Drawn scenes show no photograph and belong to nobody else.
            let drawn = || match *column {
                "tier" => "A".to_string(),
                "licence" => "drawn".to_string(),
                _ => String::new(),
            };
            if !done.is_empty() {
                done
            } else if picture.is_empty() {
                drawn()
            } else {
                known()
            }
        };
        ledger::COLUMNS.iter().map(field).collect()
    }
}

/// `count` of `0..of`, in order.
fn chosen(of: usize, count: usize, rng: &mut Stream) -> Vec<usize> {
    let mut all: Vec<usize> = (0..of).collect();
    for i in 0..count {
        let other = i + rng.below((of - i) as u64) as usize;
        all.swap(i, other);
    }
    all.truncate(count);
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(out: &Path, pairs: usize) -> Args {
        let photographs = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/photo");
        let pairs = pairs.to_string();
        let out = out.to_str().unwrap();
        let line =
            ["make", photographs, out, "--pairs", &pairs, "--keep", "3", "--frames", "6", "--crop", "96"];
        Args::parse_from(line.into_iter().chain(["--frame", "160", "--codec", "x264", "--codec", "mpeg2"]))
    }

    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = ["clean", "degraded"]
            .iter()
            .flat_map(|part| std::fs::read_dir(folder.join(part)).unwrap())
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (path.strip_prefix(folder).unwrap().display().to_string(), std::fs::read(&path).unwrap())
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_run_that_stopped_goes_on_to_the_same_files() {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // One thread pool for the process: the second build of it would fail.
        let make = |out: &Path, pairs: usize| {
            let args = args(out, pairs);
            let data = Dataset::open(
                &args.photographs,
                None,
                &DatasetOptions::default(),
                &Cancel::default(),
                |_, _| (),
                |_, _| (),
            )
            .unwrap();
            gst::init().unwrap();
            let maker = Maker {
                data,
                manifest: Manifest::default(),
                codecs: codecs::named(&args.codec).unwrap(),
                before: degrade::parse("none").unwrap(),
                ledger: Ledger::open(out, &settings(&args)).unwrap(),
                args: &args,
            };
            let sequences = pairs.div_ceil(3) as u64;
            for sequence in 0..sequences {
                if maker.ledger.pairs_of(sequence).is_none() && maker.sequence(sequence).is_err() {
                    panic!("sequence {sequence} failed");
                }
            }
            maker.ledger.manifest(sequences).unwrap()
        };
        assert_eq!(make(whole.path(), 8), 8);
        assert_eq!(make(parts.path(), 6), 6);
        // A sequence whose pictures are there, but not all of its rows.
        std::fs::remove_file(parts.path().join(".rows/000001.csv")).unwrap();
        assert_eq!(make(parts.path(), 8), 8);
        assert!(files(whole.path()) == files(parts.path()));
        assert_eq!(files(whole.path()).len(), 17);
    }

    #[test]
    fn wrong_numbers_are_named() {
        let folder = Path::new("unused");
        for (change, says) in [
            ((|a: &mut Args| a.frames = 40) as fn(&mut Args), "2 to 32"),
            (|a| a.keep = 9, "--keep is 9"),
            (|a| a.frame = 100, "--frame is 100"),
            (|a| a.crop = 500, "16 to 160"),
        ] {
            let mut args = args(folder, 6);
            change(&mut args);
            assert!(check(&args).unwrap_err().to_string().contains(says), "{says}");
        }
    }
}
