// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checkpoints of the original software, and lists of what they hold (SPEC section 9).

use std::path::{Path, PathBuf};

use candle_core::DType;
use serde_json::Value;

use super::{Fixture, Folder, Json, folder::entries};
use crate::{
    Cancel, Result,
    checkpoint::{TorchCheckpoint, WeightSet, read_options},
    net::{
        Network,
        adm::{AdmConfig, AdmNet},
        params::TensorSource,
    },
    ops::Precision,
    schedule::{Schedule, ScheduleConfig},
};

/// Largest difference of an output, and relative difference of a sum over weights.
const OUT_LIMIT: f64 = 1e-4;
const SUM_LIMIT: f64 = 1e-6;
/// Largest difference of a noise level: one unit in the last place of f32 at 1000.
const LEVEL_LIMIT: f64 = 6.2e-5;

pub(super) fn run(folder: &mut Folder) -> Result<()> {
    for name in folder.entries().to_vec() {
        let path = folder.path().join(&name);
        if path.is_dir() {
            if let Err(error) = run_folder(folder, &path, &name) {
                folder.fail(&name, error);
            }
        } else if let Some(stem) = name.strip_suffix(".json") {
            folder.fixture(stem, |folder, fixture| index(folder, &fixture.json, stem));
        } else {
            folder.fail(&name, "not understood: neither a folder nor .json");
        }
    }
    Ok(())
}

/// A list of names and shapes, and of the changes that make its variants.
fn index(folder: &mut Folder, json: &Json, stem: &str) -> Result<()> {
    if json.text("/kind")? != "state_dict_index" {
        return Err(json.error("kind is not understood, state_dict_index expected"));
    }
    let variants =
        json.keys("")?.into_iter().filter(|key| json.find(&format!("/{key}/param_count")).is_some());
    let variants: Vec<String> = variants.map(str::to_owned).collect();
    let base = variants.iter().find(|key| json.find(&format!("/{key}/tensors")).is_some());
    let base = base.ok_or_else(|| json.error("no list of tensors"))?;
    let tensors = json.list(&format!("/{base}/tensors"))?.iter().map(|row| named_shape(json, row));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    for variant in &variants {
        folder.case(stem, variant, |case| {
            let mut expected = tensors.clone();
            if variant != base {
                for change in json.list(&format!("/{variant}/differences_from_{base}"))? {
                    let (name, shape) = named_shape(json, change)?;
                    let place = expected.iter_mut().find(|(n, _)| *n == name);
                    place.ok_or_else(|| json.error(format!("{name} is not in the list")))?.1 = shape;
                }
            }
            let found = AdmConfig::infer(&expected)?;
            // Heads leave no trace in names and shapes, so any will do.
            let found = AdmConfig { num_heads: 1, num_head_channels: None, ..found }.plan()?.tensors();
            case.equal("tensors", &found, &expected);
            let count: usize = found.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            case.equal("param_count", &[count], &[json.count(&format!("/{variant}/param_count"))?]);
            if let Some(count) = json.find(&format!("/{variant}/tensor_count")) {
                case.equal("tensor_count", &[found.len() as u64], &[count.as_u64().unwrap_or(0)]);
            }
            Ok(())
        });
    }
    Ok(())
}

fn named_shape(json: &Json, row: &Value) -> Result<(String, Vec<usize>)> {
    let read = || {
        let dim = |d: &Value| d.as_u64().and_then(|d| usize::try_from(d).ok());
        let shape = row.get(1)?.as_array()?.iter().map(dim).collect::<Option<Vec<_>>>();
        Some((row.get(0)?.as_str()?.to_owned(), shape?))
    };
    read().ok_or_else(|| json.error(format!("{row} is no name with a shape")))
}

/// A checkpoint, its options, and what is known of both.
fn run_folder(folder: &mut Folder, path: &Path, name: &str) -> Result<()> {
    let mut files = Files::default();
    for entry in entries(path)? {
        let place = match entry.rsplit_once('.') {
            Some((_, "json")) => &mut files.json,
            Some((_, "safetensors")) => &mut files.tensors,
            Some((_, "pt" | "pth")) => &mut files.weights,
            Some((_, "pkl" | "pickle")) => &mut files.options,
            _ => {
                folder.fail(
                    &format!("{name}/{entry}"),
                    "not understood: neither .json, .safetensors, .pt nor .pkl",
                );
                continue;
            }
        };
        if place.is_some() {
            folder.fail(&format!("{name}/{entry}"), "not understood: a second file of this kind");
        } else {
            *place = Some(entry);
        }
    }
    let missing = |what: &str| crate::Error::file(path, format!("there is no {what} in it"));
    let stem = files.json.as_deref().and_then(|f| f.strip_suffix(".json")).ok_or_else(|| missing(".json"))?;
    let fixture = Fixture::open(path, stem, folder.device())?;
    if fixture.json.text("/kind")? != "checkpoint" {
        return Err(fixture.json.error("kind is not understood, checkpoint expected"));
    }
    let weights = path.join(files.weights.as_deref().ok_or_else(|| missing(".pt"))?);
    let one = One { fixture: &fixture, weights };
    one.weights(folder, name)?;
    match files.options {
        Some(options) => one.options(folder, &format!("{name}/{options}"), &path.join(&options)),
        None if fixture.json.find("/options").is_some() => folder.fail(name, "the options' .pkl is missing"),
        None => {}
    }
    match fixture.unused().first() {
        Some(unused) => Err(fixture.error(format!("tensor {unused} is not understood"))),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Files {
    json: Option<String>,
    tensors: Option<String>,
    weights: Option<String>,
    options: Option<String>,
}

struct One<'a> {
    fixture: &'a Fixture,
    weights: PathBuf,
}

impl One<'_> {
    fn weights(&self, folder: &mut Folder, name: &str) -> Result<()> {
        let (fixture, json) = (self.fixture, &self.fixture.json);
        let config = AdmConfig::from_options(json.value("/network")?)?;
        let cond = json.find("/options/cond_x1").and_then(Value::as_bool).unwrap_or(false);
        let config = AdmConfig { in_channels: if cond { 6 } else { config.in_channels }, ..config };
        let checkpoint = TorchCheckpoint::open(&self.weights)?;
        let x = fixture.tensor("x")?;
        let levels: Vec<f32> = fixture.numbers("net_t")?.into_iter().map(|t| t as f32).collect();
        folder.case(name, "names and facts", |case| {
            let found: Vec<_> = checkpoint.net().iter().map(|(n, t)| (n.clone(), t.shape.clone())).collect();
            let plan = config.plan()?.tensors();
            let prefixed: Vec<_> =
                plan.into_iter().map(|(n, s)| (checkpoint.prefix().to_owned() + &n, s)).collect();
            case.equal("parameters of the network", &prefixed, &found);
            let rows = json.list("/parameters_in_order")?;
            let name = |row: &Value| row["name"].as_str().unwrap_or_default().to_owned();
            let shape = |row: &Value| serde_json::from_value(row["shape"].clone()).unwrap_or_default();
            let listed: Vec<(String, Vec<usize>)> = rows.iter().map(|row| (name(row), shape(row))).collect();
            case.equal("parameters_in_order", &found, &listed);
            let ema = checkpoint.ema();
            let decay = json.find("/ema/decay").and_then(Value::as_f64);
            case.equal("ema.decay", &[ema.and_then(|e| e.decay)], &[decay]);
            let updates = json.find("/ema/num_updates").and_then(Value::as_u64);
            case.equal("ema.num_updates", &[ema.and_then(|e| e.num_updates)], &[updates]);
            if json.find("/optimizer_state_params").is_some() {
                let found = checkpoint.others().iter().find(|(n, _)| n == "optimizer").map_or(0, |(_, n)| *n);
                case.equal("optimizer's states", &[found], &[json.list("/optimizer_state_params")?.len()]);
            }
            Ok(())
        });
        self.levels(folder, name, &levels)?;
        for (set, key) in [(WeightSet::Net, "net"), (WeightSet::Ema, "ema")] {
            let source = checkpoint.weights(set, &config)?;
            folder.case(name, &format!("{key} sums"), |case| {
                for row in json.list("/parameters_in_order")? {
                    let name = row["name"].as_str().unwrap_or_default();
                    let name = name.strip_prefix(checkpoint.prefix()).unwrap_or(name);
                    let values = source.read(name)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                    let found = [
                        ("sum", values.iter().sum::<f64>()),
                        ("l2", values.iter().map(|v| v * v).sum::<f64>().sqrt()),
                        ("first", values[0]),
                        ("last", values[values.len() - 1]),
                    ];
                    let limit = self.fixture.tolerance("checksums_rel", SUM_LIMIT)?;
                    for (what, got) in found {
                        let want = row[key][what].as_f64().unwrap_or(f64::NAN);
                        let error = (got - want).abs() / want.abs().max(1e-3);
                        case.error(error, limit, || format!("{name} {what} is {got:e}, stored {want:e}"));
                    }
                }
                Ok(())
            });
            let want = fixture.tensor(&format!("out_{key}"))?;
            let limit = fixture.tolerance("out_abs", OUT_LIMIT)?;
            let device = folder.device();
            folder.case(name, &format!("{key} output"), |case| {
                let net = AdmNet::build(&config, &source, device, Precision::F32)?;
                case.close("out", &net.forward(&x, &levels, &Cancel::default())?, &want, limit)
            });
        }
        Ok(())
    }

    /// `net_t` is what the schedule tells the network at `step`.
    fn levels(&self, folder: &mut Folder, name: &str, levels: &[f32]) -> Result<()> {
        let (fixture, json) = (self.fixture, &self.fixture.json);
        if !fixture.has("step") {
            return Ok(());
        }
        let steps = fixture.indices("step")?;
        folder.case(name, "noise levels", |case| {
            let schedule = Schedule::new(ScheduleConfig {
                interval: json.count("/options/interval")?,
                beta_max: json.number("/options/beta_max")?,
                t0: json.number("/options/t0")?,
                t_end: json.number("/options/T")?,
            })?;
            let level = |n: &usize| schedule.noise_levels.get(*n).map_or(f64::NAN, |v| f64::from(*v));
            let found: Vec<f64> = steps.iter().map(level).collect();
            let stored: Vec<f64> = levels.iter().map(|v| f64::from(*v)).collect();
            case.values("net_t", &found, &stored, LEVEL_LIMIT)
        });
        Ok(())
    }

    /// Every fact of the JSON stands in the pickle with the same value.
    fn options(&self, folder: &mut Folder, name: &str, path: &Path) {
        folder.case(name, "", |case| {
            let found = read_options(path)?;
            for key in self.fixture.json.keys("/options")? {
                let want = self.fixture.json.find(&format!("/options/{key}")).unwrap_or(&Value::Null);
                match found.get(key) {
                    Some(got) => case.equal(key, &[got], &[want]),
                    None => return Err(crate::Error::file(path, format!("setting {key} is missing"))),
                }
            }
            Ok(())
        });
    }
}
