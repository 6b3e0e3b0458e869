// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb bench`.

use std::{
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use i2sb::{
    Cancel, Error, atomic,
    device::DeviceName,
    net::{NetworkConfig, adm::AdmConfig, random::RandomWeights},
    noise::{self, NoiseKey},
    ops::Precision,
    preset::{BridgeConfig, PresetConfig, SamplingConfig},
    restore::{Request, RestoreOptions, Restorer},
    train::recipe::Recipe,
};

use crate::engine_args::{EngineArgs, ModelArgs};

/// Measure how fast a network restores pictures on this machine.
///
/// `--model` also takes a recipe (.toml), whose network is then measured with random weights.
/// Times whole restorations (padding, tiles, sampler and all) in a row and, after them, as many matrix products
/// of the tensor library, f32, 1024×1024×1024: what this machine can do at most.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Size of the picture
    #[arg(long, value_name = "WxH", default_value = "1280x720")]
    size: Size,
    /// Timed runs, after a tenth of a second, or one run, that is not timed
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Restore a picture of 256x256 on the CPU in f32, too, and say how far the two results are apart; fails if it is
    /// more than the precision explains
    #[arg(long)]
    compare_cpu: bool,
    /// Write the figures as JSON into this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Networks without weights of their own: random ones are as fast.
const UNTRAINED: &[(&str, fn() -> NetworkConfig)] =
    &[("adm-256", || NetworkConfig::Adm(AdmConfig::released_256()))];

/// Time of the runs before those that count, at least one: clocks rise, memory is there.
const WARM_UP: Duration = Duration::from_millis(100);

/// Edge of the matrices of the reference product.
const GEMM_EDGE: usize = 1024;

/// What is printed and written.
#[derive(Debug, serde::Serialize)]
struct Figures {
    model: String,
    width: usize,
    height: usize,
    steps: usize,
    /// Median, smallest and largest time of a restoration.
    ms_median: f64,
    ms_min: f64,
    ms_max: f64,
    mpx_per_s: f64,
    /// 10⁹ multiply-accumulates of the network per second, halos of tiles not counted.
    gmac_per_s: f64,
    /// The same of the matrix product.
    gemm_gmac_per_s: f64,
    /// Largest resident memory of the process, in 10⁶ bytes; absent where the system does not tell.
    peak_rss_mb: Option<f64>,
    device: String,
    precision: String,
    threads: usize,
    runs: u16,
    /// Pictures that were computed again in f32, as they went beyond the precision's range.
    recomputed: u64,
    /// Largest distance to the CPU's result in f32, as a share of the largest change that the network
    /// made there.
    cpu_distance: Option<f64>,
}

pub fn run(args: Args, cancel: &Cancel) -> anyhow::Result<()> {
    args.engine.advise();
    let restorer = restorer(&args, args.engine.options())?;
    let Size { width, height } = args.size;
    let rgb = picture(width, height);
    let restore = || -> anyhow::Result<f64> {
        let begin = Instant::now();
        restorer.restore(&rgb, width, height, &Request::default(), cancel)?;
        Ok(begin.elapsed().as_secs_f64())
    };
    let gemm = Gemm::new(&args.engine.device.open()?)?;
    let mut times = in_a_row(args.runs, restore)?;
    let mut products = in_a_row(args.runs, || restorer.install(|| gemm.seconds()))?;
    let (median, product) = (median(&mut times), median(&mut products));
    let figures = Figures {
        model: restorer.config().name.clone(),
        width,
        height,
        steps: restorer.nfe(),
        ms_median: rounded(median * 1e3),
        ms_min: rounded(times[0] * 1e3),
        ms_max: rounded(times[times.len() - 1] * 1e3),
        mpx_per_s: rounded((width * height) as f64 / 1e6 / median),
        gmac_per_s: rounded(restorer.macs(width, height) / 1e9 / median),
        gemm_gmac_per_s: rounded((GEMM_EDGE as f64).powi(3) / 1e9 / product),
        peak_rss_mb: peak_rss_mb(),
        device: restorer.device(),
        precision: restorer.options().precision.name().into(),
        threads: restorer.install(rayon::current_num_threads),
        runs: args.runs,
        recomputed: restorer.recomputed(),
        cpu_distance: args.compare_cpu.then(|| distance(&args, &restorer, cancel)).transpose()?,
    };
    let json = serde_json::to_string_pretty(&figures)?;
    println!("{json}");
    if let Some(path) = &args.json {
        atomic::write_bytes(path, format!("{json}\n").as_bytes())?;
    }
    Ok(())
}

/// Seconds of `runs` calls, as the frames of a video come: one after the other, after [`WARM_UP`].
fn in_a_row(runs: u16, once: impl Fn() -> anyhow::Result<f64>) -> anyhow::Result<Vec<f64>> {
    let begin = Instant::now();
    loop {
        once()?;
        if begin.elapsed() >= WARM_UP {
            return (0..runs).map(|_| once()).collect();
        }
    }
}

fn picture(width: usize, height: usize) -> Vec<f32> {
    let key = NoiseKey { seed: 1, frame: 0, draw: 0 };
    let mut rgb = noise::normal(key, 3, 0..height, 0..width);
    rgb.iter_mut().for_each(|v| *v = (*v * 0.3).clamp(-1.0, 1.0));
    rgb
}

/// See [`Figures::cpu_distance`].
fn distance(args: &Args, restorer: &Restorer, cancel: &Cancel) -> anyhow::Result<f64> {
    const EDGE: usize = 256;
    let options =
        RestoreOptions { device: DeviceName::Cpu, precision: Precision::F32, ..args.engine.options() };
    let cpu = self::restorer(args, options)?;
    let rgb = picture(EDGE, EDGE);
    let [found, wanted] = [restorer, &cpu].map(|r| r.restore(&rgb, EDGE, EDGE, &Request::default(), cancel));
    let (found, wanted) = (found?, wanted?);
    // What is no number is as far as can be.
    let further = |most: f64, by: f64| if by > most || by.is_nan() { by } else { most };
    let largest =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, further);
    let apart = largest(&found, &wanted);
    let precision = restorer.options().precision;
    let limit = match precision {
        Precision::F32 => 1e-3,
        Precision::F16 | Precision::Bf16 => 2e-2,
        // How much bytes change is the preset's affair.
        Precision::Int8 => f64::INFINITY,
    };
    let relative = apart / largest(&wanted, &vec![0.0; wanted.len()]);
    if relative.is_nan() || relative > limit {
        let (device, name) = (restorer.device(), precision.name());
        anyhow::bail!(
            "{device} in {name} is {relative:.2e} of the picture's range away from the CPU in f32; {limit:.0e} at most \
             is right"
        );
    }
    Ok(apart / largest(&wanted, &rgb).max(1e-6))
}

fn restorer(args: &Args, options: RestoreOptions) -> anyhow::Result<Restorer> {
    let options = RestoreOptions { nfe: args.engine.steps.or(Some(1)), ..options };
    let named = args.model.model.as_deref();
    let (name, network) = match named.filter(|named| named.ends_with(".toml")) {
        // A recipe: its network before it is trained.
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
            let preset = Recipe::parse(&text, path)?.preset;
            (preset.name, preset.network)
        }
        None => match UNTRAINED.iter().find(|(name, _)| Some(*name) == named) {
            Some((name, network)) => ((*name).into(), network()),
            None => return Ok(Restorer::new(&args.model.open()?, options)?),
        },
    };
    let config = PresetConfig {
        name,
        task: "bench".into(),
        description: "Random weights.".into(),
        sampling: SamplingConfig { sampler: "i2sb".into(), nfe: 1 },
        bridge: BridgeConfig::default(),
        network,
    };
    let device = options.device.open()?;
    let weights = RandomWeights::new(&config.network, 1)?;
    let built = config.network.build(&weights, &device, options.precision)?;
    Ok(Restorer::from_network(built, device, config, options)?)
}

/// The reference product, its operands at hand.
struct Gemm {
    a: Tensor,
    b: Tensor,
}

impl Gemm {
    fn new(device: &Device) -> anyhow::Result<Self> {
        let operand = |draw: u32| -> anyhow::Result<Tensor> {
            let values = noise::normal(NoiseKey { seed: 2, frame: 0, draw }, 1, 0..GEMM_EDGE, 0..GEMM_EDGE);
            Ok(Tensor::from_vec(values, (GEMM_EDGE, GEMM_EDGE), device)?.to_dtype(DType::F32)?)
        };
        Ok(Self { a: operand(0)?, b: operand(1)? })
    }

    /// Time of one product: the mean of a few, as one alone is short.
    fn seconds(&self) -> anyhow::Result<f64> {
        const REPEATS: u32 = 4;
        let begin = Instant::now();
        for _ in 0..REPEATS {
            let product = self.a.matmul(&self.b)?;
            // Reading one number waits for the device.
            product.get(0)?.get(0)?.to_scalar::<f32>().context("reference product")?;
        }
        Ok(begin.elapsed().as_secs_f64() / f64::from(REPEATS))
    }
}

/// Four significant digits: more would be noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Sorts, and returns the middle (of an even number, the upper of the two).
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// `VmHWM` of Linux.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(rounded(kib * 1024.0 / 1e6))
}

/// Width and height, written `1280x720`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    width: usize,
    height: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const MOST: usize = 1 << 16;
        let side = |text: &str| text.parse().ok().filter(|side| (1..=MOST).contains(side));
        let (width, height) = text.split_once(['x', '×']).ok_or("must be WIDTHxHEIGHT, e.g. 1280x720")?;
        match (side(width), side(height)) {
            (Some(width), Some(height)) => Ok(Self { width, height }),
            _ => Err(format!("both sides must be 1 to {MOST} pixels")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!("1280x720".parse(), Ok(Size { width: 1280, height: 720 }));
        for wrong in ["", "1280", "0x3", "3x0", "-1x5", "70000x1", "axb", "1x2x3"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [1.0]), 1.0);
    }
}
