// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb train`: a folder of photographs and a recipe in, a preset's folder out.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use i2sb::{
    Cancel, Error,
    device::DeviceName,
    net::bridge::BridgeNet,
    ops::Precision,
    picture::SaveOptions,
    preset::{Preset, companions, remove_companions},
    train::{
        Trainer,
        dataset::{Census, Dataset},
        held_out::HeldOut,
        plot::{Curve, plot},
        recipe::Recipe,
        sources::Sources,
        state::State,
    },
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::values;

/// Train a network from a folder of photographs and a degradation.
///
/// Stopped by Ctrl-C, it keeps its state; the same command goes on from there, to the same bits.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of photographs (PNG, JPEG, WebP, AVIF), with or without a MANIFEST.csv.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Recipe: a preset's config.toml with a table [train].
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// Folder that becomes the preset; also holds the state, the log and the curves.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of pictures that are never trained on, to measure the gain during training.
    #[arg(long, value_name = "DIR")]
    eval: Option<PathBuf>,
    /// Number type of the convolutions: f32, or bf16 where the processor multiplies it (AVX512_BF16, AMX).
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Device: auto, cpu or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Threads; 0 means all cores.
    #[arg(long, default_value_t = 0, value_parser = values::threads)]
    threads: usize,
    /// Stop after this many steps of the run, resumable.
    #[arg(long, value_name = "N")]
    until: Option<u64>,
    /// Remove detail.safetensors and int8.safetensors from the folder: they belong to the weights that are replaced.
    #[arg(long)]
    force: bool,
}

const STATE: &str = "state.safetensors";
const LOG: &str = "log.csv";
const CURVES: &str = "curves.png";

pub fn run(args: Args, cancel: &Cancel) -> anyhow::Result<()> {
    if args.threads > 0 {
        rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    }
    let text = fs::read_to_string(&args.recipe).map_err(Error::io(&args.recipe))?;
    let recipe = Recipe::parse(&text, &args.recipe)?;
    let device = args.device.open()?;
    let report = |path: &Path, reason: &str| eprintln!("skipped: {}: {reason}", path.display());
    let data = Sources::open(&args.data, &recipe.train, cancel, report)?;
    told("pictures", &data.photographs);
    data.pairs.iter().for_each(|(share, pairs)| told(&format!("pairs ({share} of the samples)"), pairs));
    let held_out = HeldOut::open(args.eval.as_deref(), &recipe.train.eval, &recipe.train.eval_pairs, cancel)?;
    fs::create_dir_all(&args.out).map_err(Error::io(&args.out))?;
    let mut trainer = Trainer::new(recipe, data, &device, args.precision)?;
    let path = args.out.join(STATE);
    if path.exists() {
        trainer.state = State::load(&path, &text, trainer.state.clone())?;
        eprintln!("going on after step {}", trainer.state.step);
    }
    let end = args.until.unwrap_or(u64::MAX).min(trainer.recipe().train.steps);
    if let (true, false, Some(path)) =
        (trainer.state.step < end, args.force, companions(&args.out).into_iter().next())
    {
        let reason = "belongs to the weights that training replaces; move it away, or --force removes it";
        return Err(Error::file(path, reason).into());
    }
    let bar = ProgressBar::new(trainer.recipe().train.steps).with_position(trainer.state.step);
    bar.set_style(ProgressStyle::with_template("{bar:24} {pos}/{len} {per_sec} left {eta} {msg}")?);
    bar.reset_eta();
    let mut log = Log::open(&args.out.join(LOG), trainer.state.step)?;
    let mut gain = String::new();
    while trainer.state.step < end {
        let every = trainer.recipe().train.every;
        let next = (trainer.state.step / every + 1) * every;
        let mut sum = (0.0, 0u32, 0.0);
        let outcome = trainer.run(next.min(end), cancel, |r| {
            sum = (sum.0 + r.loss, sum.1 + 1, r.lr);
            bar.set_position(r.step);
            bar.set_message(format!("loss {:.5} {gain}", sum.0 / f64::from(sum.1)));
        });
        if outcome.is_err() {
            // Stopped, or a loss that is no number: this is the last good step.
            trainer.state.save(&path, &text)?;
        }
        outcome?;
        let gains = averaged(&trainer, &device)
            .and_then(|network| held_out.gains(&network, &device, &trainer.recipe().preset, cancel));
        if gains.is_err() {
            // What was trained is worth more than its row.
            trainer.state.save(&path, &text)?;
        }
        let gains = gains?;
        gain = gains.iter().map(|(name, g)| format!("{name} {g:+.3} dB ")).collect();
        let loss = sum.0 / f64::from(sum.1.max(1));
        log.row(trainer.state.step, loss, sum.2, &gains)?;
        draw(&args.out, &trainer.recipe().preset.name)?;
        bar.println(format!("step {} loss {loss:.5} {gain}", trainer.state.step));
        write_preset(&trainer, &args.out)?;
        if args.force {
            let removed = remove_companions(&args.out)?;
            let told = |path: &PathBuf| eprintln!("removed {}: it belonged to other weights", path.display());
            bar.suspend(|| removed.iter().for_each(told));
        }
        // Last of all: a run that is killed before goes back to the state before, and its row is written anew.
        trainer.state.save(&path, &text)?;
    }
    bar.finish();
    eprintln!("{}: {} of {} steps", args.out.display(), trainer.state.step, trainer.recipe().train.steps);
    Ok(())
}

/// Says what became of a folder.
fn told(what: &str, data: &Dataset) {
    let Census { used, pixels, filtered, skipped } = data.census();
    eprintln!("{used} {what}, {:.1} Mpx; {filtered} left out, {skipped} skipped", *pixels as f64 / 1e6);
}

/// The network with the averaged weights.
fn averaged(trainer: &Trainer, device: &Device) -> i2sb::Result<BridgeNet> {
    BridgeNet::new(trainer.layout().clone(), trainer.state.ema.shadow.clone(), device, Precision::F32)
}

fn write_preset(trainer: &Trainer, out: &Path) -> anyhow::Result<()> {
    let mut tensors = BTreeMap::new();
    for e in trainer.layout().entries() {
        let values = &trainer.state.ema.shadow[e.offset..e.offset + e.len()];
        tensors.insert(e.name.clone(), Tensor::from_slice(values, e.shape.as_slice(), &Device::Cpu)?);
    }
    let recipe = trainer.recipe();
    let card = fs::read_to_string(out.join("card.md")).unwrap_or_else(|_| {
        // Written once: what somebody adds to it stays.
        format!("# {}\n\n{}\n", recipe.preset.name, recipe.preset.description)
    });
    // Half precision halves the file and moves no pixel by a tenth of a level; the state keeps all bits.
    Preset::write_from(out, &recipe.preset, &tensors, &card, DType::F16).context("cannot write the preset")
}

/// Draws the log's curves beside it.
fn draw(out: &Path, name: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(out.join(LOG)).map_err(Error::io(out.join(LOG)))?;
    let mut loss = Curve { name: "loss".into(), points: vec![] };
    let mut gains: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for row in text.lines().skip(1) {
        let mut fields = row.split(',');
        let mut number = || fields.next().and_then(|f| f.parse::<f64>().ok());
        let (Some(step), Some(value)) = (number(), number()) else { continue };
        loss.points.push((step, value));
        for gain in fields.nth(1).unwrap_or_default().split(';') {
            let Some((name, Ok(db))) = gain.split_once('=').map(|(n, v)| (n, v.parse())) else { continue };
            gains.entry(format!("{name} dB")).or_default().push((step, db));
        }
    }
    let gains: Vec<_> = gains.into_iter().map(|(name, points)| Curve { name, points }).collect();
    plot(name, &loss, &gains).to_picture()?.save(out.join(CURVES), SaveOptions::default())?;
    Ok(())
}

/// The CSV log; rows after the step that a run goes on from are dropped.
struct Log(fs::File);

impl Log {
    fn open(path: &Path, step: u64) -> anyhow::Result<Self> {
        let old = fs::read_to_string(path).unwrap_or_default();
        let keep = |line: &&str| {
            line.split(',').next().and_then(|s| s.parse::<u64>().ok()).is_some_and(|s| s <= step)
        };
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).open(path).map_err(Error::io(path))?;
        writeln!(file, "step,loss,lr,gain_db")?;
        for line in old.lines().filter(keep) {
            writeln!(file, "{line}")?;
        }
        Ok(Self(file))
    }

    fn row(&mut self, step: u64, loss: f64, lr: f64, gains: &[(String, f64)]) -> anyhow::Result<()> {
        let gains: Vec<_> = gains.iter().map(|(name, g)| format!("{name}={g:.4}")).collect();
        writeln!(self.0, "{step},{loss:.6},{lr:.3e},{}", gains.join(";"))?;
        Ok(())
    }
}
