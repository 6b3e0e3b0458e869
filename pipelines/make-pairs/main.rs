// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb-make-pairs`: from photographs to pairs of frames before and after a video codec.

mod codecs;
mod colour;
mod counter;
mod kinds;
mod ledger;
mod maker;
mod planes;
mod roundtrip;
mod scene;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use i2sb::{
    Cancel, degrade,
    train::{
        dataset::{Dataset, DatasetOptions},
        manifest::{Condition, Manifest, Weight},
    },
};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use ledger::Ledger;
use maker::{GAP, Maker, Trouble};

/// What a network learns to come back to.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// What the encoder was given, its colour as coarse as the codec stores it: what video was before it was encoded
    Encoded,
    /// What was photographed, its colour whole
    Photograph,
}

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
    /// What the clean picture of a pair is
    #[arg(long, value_enum, default_value_t = Target::Encoded)]
    target: Target,
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
    let Args { photographs, only, weight, codec, before, target, seed, frames, keep, frame, crop, .. } = args;
    format!(
        "photographs {}\nonly {only:?}\nweight {weight:?}\ncodec {codec:?}\nbefore {before}\ntarget {target:?}\nseed {seed}\nframes {frames}\nkeep {keep}\nframe {frame}\ncrop {crop}\n",
        photographs.display()
    )
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

    /// On this thread: a pool of threads for the process could be made only once. Gives the number of pairs.
    fn make(args: &Args) -> usize {
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
            ledger: Ledger::open(&args.out, &settings(args)).unwrap(),
            args,
        };
        let sequences = args.pairs.div_ceil(args.keep) as u64;
        for sequence in 0..sequences {
            if maker.ledger.pairs_of(sequence).is_none() && maker.sequence(sequence).is_err() {
                panic!("sequence {sequence} failed");
            }
        }
        maker.ledger.manifest(sequences).unwrap()
    }

    #[test]
    fn a_run_that_stopped_goes_on_to_the_same_files() {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let make = |out: &Path, pairs: usize| make(&args(out, pairs));
        assert_eq!(make(whole.path(), 8), 8);
        assert_eq!(make(parts.path(), 6), 6);
        // A sequence whose pictures are there, but not all of its rows.
        std::fs::remove_file(parts.path().join(".rows/000001.csv")).unwrap();
        assert_eq!(make(parts.path(), 8), 8);
        assert!(files(whole.path()) == files(parts.path()));
        assert_eq!(files(whole.path()).len(), 17);
    }

    /// Only the clean pictures differ; what the encoder was given is nearer to what came back.
    #[test]
    fn what_was_encoded_is_nearer_than_what_was_photographed() {
        let folders = [Target::Encoded, Target::Photograph].map(|target| {
            let folder = tempfile::tempdir().unwrap();
            make(&Args { target, ..args(folder.path(), 6) });
            folder
        });
        let [encoded, photograph] = folders.each_ref().map(|folder| files(folder.path()));
        let of = |files: &[(String, Vec<u8>)], part: &str| -> Vec<(String, Vec<u8>)> {
            files
                .iter()
                .filter(|(name, _)| name.starts_with(part) && name.ends_with("webp"))
                .cloned()
                .collect()
        };
        assert!(of(&encoded, "degraded") == of(&photograph, "degraded"));
        assert!(of(&encoded, "clean") != of(&photograph, "clean"));
        let quality = |folder: &Path| -> f64 {
            let manifest = Manifest::read(&folder.join("clean")).unwrap();
            let names = of(&encoded, "clean");
            let of_one = |(name, _): &(String, Vec<u8>)| {
                let name = name.rsplit('/').next().unwrap_or_default();
                manifest.value(name, "psnr").unwrap().parse::<f64>().unwrap()
            };
            names.iter().map(of_one).sum::<f64>() / names.len() as f64
        };
        let [encoded, photograph] = folders.each_ref().map(|folder| quality(folder.path()));
        assert!(encoded > photograph, "{encoded} dB and {photograph} dB");
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
