// SPDX-License-Identifier: MIT OR Apache-2.0
//! Speed of each operation and of each network, in megapixels per second and as a share of the matrix product.
//!
//! `cargo bench --workspace --bench speed -- [WORD]`: only what has the word in its name. The table at the end can go
//! into a page under `engine/benches/record/`. Shares count direct-convolution operations, so that an algorithm
//! with fewer of them can pass 100 %.

use std::{
    cell::RefCell,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use candle_core::{DType, Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput};
use i2sb::{
    Cancel,
    combine::{Term, weighted_sum},
    memory::KeepsLarge,
    net::{
        Network, NetworkConfig,
        adm::AdmConfig,
        bridge::{BridgeNet, BridgeNetConfig, Layout, activations},
        random::RandomWeights,
    },
    noise::{NoiseKey, normal},
    ops::{Conv2d, Cpu, Precision},
    preset::{BridgeConfig, PresetConfig, SamplingConfig},
    restore::{Request, RestoreOptions, Restorer},
    tile::pad_edges,
    train::recipe::Recipe,
};

/// As in the programs.
#[global_allocator]
static MEMORY: KeepsLarge = KeepsLarge;

/// Edge of the matrices of the reference product.
const EDGE: usize = 1024;
/// Convolutions: kernel, channels, and the map's height and width (a picture of 1280×720 at that depth).
const CONVOLUTIONS: &[(usize, usize, usize, usize)] = &[
    (3, 16, 360, 640),
    (3, 32, 180, 320),
    (3, 64, 180, 320),
    (3, 128, 90, 160),
    (3, 256, 45, 80),
    (1, 64, 180, 320),
    (1, 256, 45, 80),
];
/// Networks by their recipes, with the picture's size.
const NETWORKS: &[(&str, usize, usize)] = &[
    ("jpeg-nano-v6", 720, 576),
    ("jpeg-nano-v6", 1920, 1080),
    ("jpeg-small-v6", 1280, 720),
    ("jpeg-base-v1", 640, 360),
];
/// Edge of the picture for `adm`.
const ADM: usize = 256;

/// A line of the table.
struct Line {
    name: String,
    pixels: f64,
    /// Multiply-accumulates; 0: it moves numbers only.
    macs: f64,
    /// Seconds of each sample's single run.
    times: Vec<f64>,
}

/// What has been measured.
#[derive(Default)]
struct Table(RefCell<Vec<Line>>);

impl Table {
    fn bench(
        &self,
        criterion: &mut Criterion,
        group: &str,
        name: &str,
        (pixels, macs): (usize, f64),
        mut work: impl FnMut(),
    ) {
        let mut times = Vec::new();
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(pixels as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &(), |bencher, ()| {
            bencher.iter_custom(|runs| {
                let start = Instant::now();
                (0..runs).for_each(|_| work());
                let all = start.elapsed();
                times.push(all.as_secs_f64() / runs as f64);
                all
            });
        });
        group.finish();
        if !times.is_empty() {
            self.0.borrow_mut().push(Line { name: name.into(), pixels: pixels as f64, macs, times });
        }
    }

    /// Prints medians; shares are of the first line, the matrix product.
    fn print(&self) {
        let mut lines = self.0.borrow_mut();
        let median = |line: &mut Line| {
            line.times.sort_by(f64::total_cmp);
            line.times[line.times.len() / 2]
        };
        let rates: Vec<_> = lines.iter_mut().map(|line| (median(line), line.macs)).collect();
        let Some(&(seconds, macs)) = rates.first() else { return };
        let product = macs / seconds;
        println!("\n{}, {} threads\n", Cpu::detect().name(), rayon::current_num_threads());
        println!("| what | ms | Mpx/s | GMAC/s | share of the matrix product |\n|---|---|---|---|---|");
        for (line, (seconds, macs)) in lines.iter().zip(rates) {
            let (ms, pixels) = (seconds * 1e3, line.pixels / seconds / 1e6);
            let (rate, share) = match macs {
                0.0 => (String::new(), String::new()),
                _ => {
                    let rate = macs / seconds;
                    (format!("{:.1}", rate / 1e9), format!("{:.0} %", 100.0 * rate / product))
                }
            };
            println!("| {} | {ms:.2} | {pixels:.2} | {rate} | {share} |", line.name);
        }
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let table = Table::default();
    product(&mut criterion, &table);
    convolutions(&mut criterion, &table);
    moves(&mut criterion, &table);
    networks(&mut criterion, &table);
    criterion.final_summary();
    table.print();
}

fn numbers(shape: &[usize], draw: u32) -> Tensor {
    let key = NoiseKey { seed: 1, frame: 0, draw };
    let values = normal(key, 1, 0..1, 0..shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many numbers as asked for")
}

/// What this machine can do at most: always measured, as all shares are of it.
fn product(criterion: &mut Criterion, table: &Table) {
    let (a, b) = (numbers(&[EDGE, EDGE], 0), numbers(&[EDGE, EDGE], 1));
    let name = format!("f32 {EDGE}×{EDGE}×{EDGE}");
    table.bench(criterion, "matrix product", &name, (EDGE * EDGE, (EDGE as f64).powi(3)), || {
        black_box(a.matmul(&b).expect("matrices fit"));
    });
}

fn convolutions(criterion: &mut Criterion, table: &Table) {
    for &(k, c, h, w) in CONVOLUTIONS {
        let weight = (numbers(&[c, c, k, k], 2) * (1.0 / (k * k * c) as f64).sqrt()).expect("numbers");
        let conv = Conv2d::new(weight, Some(numbers(&[c], 3)), 1).expect("a convolution");
        let x = numbers(&[1, h, w, c], 4);
        let macs = (k * k * c * c * h * w) as f64;
        let name = format!("convolution {k}×{k}, {c} channels, {w}×{h}");
        table.bench(criterion, "operation", &name, (h * w, macs), || {
            black_box(conv.forward(&x).expect("shapes fit"));
        });
    }
}

/// Operations on whole pictures that multiply little.
fn moves(criterion: &mut Criterion, table: &Table) {
    let (h, w) = (1080, 1920);
    let [x, y] = [5, 6].map(|draw| numbers(&[1, 3, h, w], draw));
    table.bench(criterion, "operation", "weighted sum of two pictures", (h * w, 0.0), || {
        let terms = [Term { weights: &[0.5], tensor: &x }, Term { weights: &[0.25], tensor: &y }];
        black_box(weighted_sum(&terms, None).expect("shapes fit"));
    });
    table.bench(criterion, "operation", "padding of a picture", (h * w, 0.0), || {
        black_box(pad_edges(&x, h + 8, w + 8).expect("larger"));
    });
    table.bench(criterion, "operation", "noise for a picture", (h * w, 0.0), || {
        black_box(normal(NoiseKey { seed: 3, frame: 0, draw: 0 }, 3, 0..h, 0..w));
    });
}

fn networks(criterion: &mut Criterion, table: &Table) {
    let bf16 = Cpu::detect().bf16.map(|_| Precision::Bf16);
    let precisions = [Some(Precision::F32), bf16, Some(Precision::Int8)];
    for &(recipe, width, height) in NETWORKS {
        for precision in precisions.into_iter().flatten() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(format!("{recipe}.toml"));
            let text = std::fs::read_to_string(&path).expect("the recipe is there");
            let network = Recipe::parse(&text, &path).expect("a recipe").preset.network;
            network_of(criterion, table, recipe, network, (width, height), precision);
        }
    }
    // Half a billion weights: only when asked for.
    if std::env::args().any(|arg| arg.contains("adm")) {
        let network = NetworkConfig::Adm(AdmConfig::released_256());
        network_of(criterion, table, "adm-256", network, (ADM, ADM), Precision::F32);
    }
}

/// Any ranges are as fast as calibrated ones.
fn in_bytes(config: &BridgeNetConfig, weights: &RandomWeights) -> Box<dyn Network> {
    let maps = activations(config).expect("a network").into_iter();
    let ranges: Vec<_> = maps.map(|(_, shape)| vec![[-4.0, 4.0]; shape[0]]).collect();
    let layout = Layout::new(config).expect("a network");
    let params = layout.gather(weights).expect("weights fit");
    Box::new(BridgeNet::in_bytes(layout, params, &ranges).expect("ranges fit"))
}

/// A network with random weights: as fast as trained ones.
fn network_of(
    criterion: &mut Criterion,
    table: &Table,
    name: &str,
    network: NetworkConfig,
    (width, height): (usize, usize),
    precision: Precision,
) {
    let weights = RandomWeights::new(&network, 1).expect("a network");
    let built = match (&network, precision) {
        (NetworkConfig::Bridge(network), Precision::Int8) => in_bytes(network, &weights),
        _ => network.build(&weights, &Device::Cpu, precision).expect("weights fit"),
    };
    let config = PresetConfig {
        name: name.into(),
        task: "bench".into(),
        description: "Random weights.".into(),
        sampling: SamplingConfig { sampler: "i2sb".into(), nfe: 1 },
        bridge: BridgeConfig::default(),
        network,
    };
    let options = RestoreOptions { precision, ..RestoreOptions::default() };
    let restorer = Restorer::from_network(built, Device::Cpu, config, options).expect("a restorer");
    let rgb = (numbers(&[3, height, width], 7) * 0.3).and_then(|x| x.flatten_all()?.to_dtype(DType::F32));
    let rgb: Vec<f32> = rgb.and_then(|x| x.to_vec1()).expect("numbers");
    let name = format!("{name}, {}, {width}×{height}", precision.name());
    let size = (width * height, restorer.macs(width, height));
    table.bench(criterion, "network", &name, size, || {
        let restored = restorer.restore(&rgb, width, height, &Request::default(), &Cancel::default());
        black_box(restored.expect("restored"));
    });
}
