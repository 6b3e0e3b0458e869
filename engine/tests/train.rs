// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training runs: resume to the bit, learn something, stop on a loss that is not finite.

use std::path::{Path, PathBuf};

use candle_core::Device;
use i2sb::{
    Cancel, Error,
    net::{NetworkConfig, bridge::Layout},
    noise::Stream,
    ops::Precision,
    picture::{Picture, SaveOptions},
    train::{Trainer, recipe::Recipe, sources::Sources, state::State},
};

const RECIPE: &str = r#"
name = "test"
task = "jpeg"
description = "A network too small to be of use."
[sampling]
sampler = "ot-ode"
nfe = 1
[bridge]
beta_max = 0.3
[network]
family = "bridge"
in_channels = 3
unshuffle = 2
widths = [16, 32]
encoder = [1]
middle = 1
decoder = [1]
time_features = 8
[train]
degrade = "jpeg:10"
steps = 60
batch = 8
accumulate = 2
lr = 2e-3
warmup = 5
endpoint_share = 0.9
[train.crop]
width = 32
height = 32
"#;

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/photo")
}

fn trainer(recipe: &str) -> Trainer {
    let recipe = Recipe::parse(recipe, "recipe.toml").unwrap();
    let report = |path: &Path, reason: &str| println!("skipped: {}: {reason}", path.display());
    let data = Sources::open(&pictures(), &recipe.train, &Cancel::default(), report).unwrap();
    Trainer::new(recipe, data, &Device::Cpu, Precision::F32).unwrap()
}

/// A folder of ready-made pairs: the photograph, and what JPEG leaves of it.
fn pairs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let photo = Picture::load(pictures().join("generator.jpg")).unwrap();
    let (width, height) = (photo.width, photo.height);
    let spoiled = i2sb::degrade::parse("jpeg:20").unwrap();
    let spoiled = spoiled.apply(&photo.rgb, width, height, &mut Stream::new(0, 0)).unwrap();
    for (part, rgb) in [("clean", photo.rgb), ("degraded", spoiled)] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
        let picture = Picture::new(width, height, rgb).unwrap();
        picture.save(folder.path().join(part).join("a.png"), SaveOptions::default()).unwrap();
    }
    folder
}

#[test]
fn stopped_and_resumed_gives_the_same_bits() {
    stopped_and_resumed(RECIPE);
}

#[test]
fn stopped_and_resumed_gives_the_same_bits_with_pairs() {
    let pairs = pairs();
    let table = format!("[[train.pairs]]\nfolder = {:?}\nshare = 0.5\n", pairs.path());
    let mixed = format!("{RECIPE}{table}");
    let (mut with, mut without) = (trainer(&mixed), trainer(RECIPE));
    with.run(1, &Cancel::default(), |_| ()).unwrap();
    without.run(1, &Cancel::default(), |_| ()).unwrap();
    assert!(with.state != without.state, "pairs make no difference");
    stopped_and_resumed(&mixed);
    for (share, says) in [("0", "train.pairs.share is 0"), ("1.5", "train.pairs.share is 1.5")] {
        let wrong = mixed.replace("share = 0.5", &format!("share = {share}"));
        let error = Recipe::parse(&wrong, "r.toml").unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

fn stopped_and_resumed(recipe: &str) {
    let cancel = Cancel::default();
    let mut whole = trainer(recipe);
    whole.run(7, &cancel, |_| ()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let mut first = trainer(recipe);
    let stop = Cancel::default();
    let outcome = first.run(7, &stop, |r| {
        if r.step == 3 {
            stop.cancel();
        }
    });
    assert!(matches!(outcome, Err(Error::Cancelled)));
    first.state.save(&path, recipe).unwrap();
    let mut second = trainer(recipe);
    second.state = State::load(&path, recipe, second.state.clone()).unwrap();
    assert_eq!(second.state.step, 3);
    assert_ne!(second.state, whole.state);
    second.run(7, &cancel, |_| ()).unwrap();
    assert!(second.state == whole.state, "the resumed run differs");

    let other = State::load(&path, "another recipe", whole.state.clone()).unwrap_err().to_string();
    assert!(other.contains("belongs to another recipe"), "{other}");
}

#[test]
fn the_loss_falls() {
    let mut losses = vec![];
    trainer(RECIPE).run(60, &Cancel::default(), |r| losses.push(r.loss)).unwrap();
    let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
    assert_eq!(losses.len(), 60);
    let (early, late) = (mean(&losses[..10]), mean(&losses[50..]));
    assert!(late < 0.97 * early, "{early} {late}");
}

#[test]
fn a_loss_that_is_not_finite_keeps_the_last_good_state() {
    let mut t = trainer(RECIPE);
    t.run(2, &Cancel::default(), |_| ()).unwrap();
    t.state.params[100] = f32::INFINITY;
    let before = t.state.clone();
    let error = t.run(5, &Cancel::default(), |_| ()).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
    assert_eq!((t.state.step, t.state.adam.steps), (before.step, before.adam.steps));
}

#[test]
fn wrong_recipes_name_the_value_and_the_limit() {
    let cases = [
        ("steps = 60", "steps = 0", "train.steps is 0"),
        ("lr = 2e-3", "lr = 3.0", "train.lr is 3"),
        ("accumulate = 2", "accumulate = 3", "a divisor of train.batch"),
        ("batch = 8", "batches = 8", "batches"),
        ("widths = [16, 32]", "widths = [15, 32]", "multiples of 16"),
    ];
    for (from, to, says) in cases {
        let error = Recipe::parse(&RECIPE.replace(from, to), "r.toml").unwrap_err().to_string();
        assert!(error.contains(says), "{to}: {error}");
    }
}

/// Largest cost in kMAC per pixel and largest number of parameters of each size.
const BUDGETS: [(&str, f64, usize); 3] =
    [("nano", 8.0, usize::MAX), ("small", 50.0, usize::MAX), ("base", 720.0, 15_000_000)];

#[test]
fn every_recipe_parses_and_keeps_its_budget() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let mut seen = [0; BUDGETS.len()];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let recipe = Recipe::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
        let name = recipe.preset.name.clone();
        assert_eq!(path.file_stem().unwrap().to_str(), Some(name.as_str()));
        let NetworkConfig::Bridge(config) = &recipe.preset.network else { panic!("{name}: no bridge") };
        let layout = Layout::new(config).unwrap();
        let (kmac, parameters) = (layout.macs_per_pixel() / 1e3, layout.len());
        println!("{name}: {kmac:.1} kMAC per pixel, {parameters} parameters");
        let size = BUDGETS.iter().position(|(size, ..)| name.contains(&format!("-{size}-"))).expect(&name);
        let (_, most_kmac, most_parameters) = BUDGETS[size];
        assert!(kmac <= most_kmac && parameters <= most_parameters, "{name}: {kmac} kMAC, {parameters}");
        let (crop, stride) = (&recipe.train.crop, config.stride());
        assert!(crop.width % stride == 0 && crop.height % stride == 0, "{name}: stride {stride}");
        seen[size] += 1;
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}
