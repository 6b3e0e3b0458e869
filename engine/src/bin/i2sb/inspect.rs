// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb inspect`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use i2sb::{
    Cancel,
    checkpoint::{SafetensorsFile, TorchCheckpoint, is_archive, read_options},
    net::adm::AdmConfig,
    preset::Preset,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Print what a preset or a checkpoint holds.
///
/// Takes a preset (name or folder), a safetensors file, a torch archive (.pt) or pickled settings
/// (.pkl). Reads headers only: no weight is loaded, nothing in the file is executed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File, or name or folder of a preset
    input: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Leave out the list of tensors
    #[arg(short, long)]
    summary: bool,
}

pub fn run(args: Args, _cancel: &Cancel) -> anyhow::Result<()> {
    let mut contents = read(&args.input)?;
    if args.summary {
        contents.tensors.clear();
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&contents)?);
    } else {
        print!("{}", contents.table());
    }
    Ok(())
}

/// What a file or preset holds.
#[derive(Debug, Serialize)]
struct Contents {
    kind: &'static str,
    path: String,
    tensor_count: usize,
    parameter_count: u64,
    byte_count: u64,
    facts: Map<String, Value>,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<usize>,
}

fn read(input: &Path) -> anyhow::Result<Contents> {
    if !input.is_file() {
        return preset(&Preset::open(input)?);
    }
    if input.extension().is_some_and(|e| e == "pkl") {
        let options = read_options(input)?;
        return Ok(Contents::new("settings", input, options.into_iter().collect(), Vec::new()));
    }
    if is_archive(input)? {
        return Ok(checkpoint(input, &TorchCheckpoint::open(input)?));
    }
    let file = SafetensorsFile::open(input).context("neither a torch archive nor safetensors")?;
    let mut facts = Map::new();
    facts.insert("sha256".into(), json!(file.sha256()?));
    if !file.metadata().is_empty() {
        facts.insert("metadata".into(), json!(file.metadata()));
    }
    let tensors = listed(&file);
    network_facts(&mut facts, &tensors, "");
    Ok(Contents::new("safetensors", input, facts, tensors))
}

fn preset(preset: &Preset) -> anyhow::Result<Contents> {
    let mut facts = Map::new();
    facts.insert("sha256".into(), json!(preset.hash));
    facts.insert("detail".into(), json!(preset.has_detail()));
    facts.insert("int8".into(), json!(preset.has_int8()));
    facts.insert("config".into(), serde_json::to_value(&preset.config)?);
    let path = preset.folder.clone().unwrap_or_else(|| "embedded".into());
    Ok(Contents::new("preset", &path, facts, listed(preset.weights())))
}

fn checkpoint(path: &Path, checkpoint: &TorchCheckpoint) -> Contents {
    let tensor = |(name, t): &(String, i2sb::checkpoint::TorchTensor)| Tensor {
        name: name.clone(),
        dtype: t.dtype_name().to_owned(),
        shape: t.shape.clone(),
    };
    let tensors: Vec<Tensor> = checkpoint.net().iter().map(tensor).collect();
    let mut facts = Map::new();
    if !checkpoint.prefix().is_empty() {
        facts.insert("prefix".into(), json!(checkpoint.prefix()));
    }
    if let Some(ema) = checkpoint.ema() {
        let ema = json!({"tensors": ema.len(), "decay": ema.decay, "num_updates": ema.num_updates});
        facts.insert("ema".into(), ema);
    }
    for (name, entries) in checkpoint.others() {
        facts.insert(name.clone(), json!(format!("{entries} entries")));
    }
    network_facts(&mut facts, &tensors, checkpoint.prefix());
    let kind = if checkpoint.ema().is_some() || !checkpoint.others().is_empty() {
        "training checkpoint"
    } else {
        "state dict"
    };
    Contents::new(kind, path, facts, tensors)
}

/// The ADM network that the weights belong to, if they do.
fn network_facts(facts: &mut Map<String, Value>, tensors: &[Tensor], prefix: &str) {
    let strip = |t: &Tensor| (t.name.strip_prefix(prefix).unwrap_or(&t.name).to_owned(), t.shape.clone());
    if let Ok(config) = AdmConfig::infer(&tensors.iter().map(strip).collect::<Vec<_>>()) {
        let mut config = json!(config);
        // What the weights do not tell is not claimed.
        for key in ["num_heads", "num_head_channels", "use_new_attention_order"] {
            config.as_object_mut().map(|c| c.remove(key));
        }
        facts.insert("adm network".into(), config);
    }
}

fn listed(file: &SafetensorsFile) -> Vec<Tensor> {
    let tensor = |e: &i2sb::checkpoint::Entry| Tensor {
        name: e.name.clone(),
        dtype: e.dtype.to_lowercase(),
        shape: e.shape.clone(),
    };
    file.entries().iter().map(tensor).collect()
}

/// Bytes of a value, by the name of its type.
fn size(dtype: &str) -> u64 {
    let bits = dtype.trim_start_matches(|c: char| c.is_alphabetic());
    bits.parse::<u64>().map_or(1, |bits| bits / 8)
}

impl Tensor {
    fn count(&self) -> u64 {
        self.shape.iter().map(|d| *d as u64).product()
    }
}

impl Contents {
    fn new(kind: &'static str, path: &Path, facts: Map<String, Value>, tensors: Vec<Tensor>) -> Self {
        Self {
            kind,
            path: path.display().to_string(),
            tensor_count: tensors.len(),
            parameter_count: tensors.iter().map(Tensor::count).sum(),
            byte_count: tensors.iter().map(|t| t.count() * size(&t.dtype)).sum(),
            facts,
            tensors,
        }
    }

    fn table(&self) -> String {
        let mut lines = vec![format!("{}: {}", self.path, self.kind)];
        if self.tensor_count > 0 {
            let (tensors, parameters, bytes) = (self.tensor_count, self.parameter_count, self.byte_count);
            lines.push(format!("{tensors} tensors, {parameters} parameters, {:.1} MB", bytes as f64 / 1e6));
        }
        rows(&mut lines, "", &self.facts);
        if !self.tensors.is_empty() {
            lines.push(String::new());
        }
        let width = self.tensors.iter().map(|t| t.name.len()).max().unwrap_or(0);
        for t in &self.tensors {
            lines.push(format!("{:<width$}  {:<5}  {:?}", t.name, t.dtype, t.shape));
        }
        lines.join("\n") + "\n"
    }
}

/// One line for each plain value, under its path of keys.
fn rows(lines: &mut Vec<String>, above: &str, facts: &Map<String, Value>) {
    for (key, value) in facts {
        let name = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        match value {
            Value::Object(inner) => rows(lines, &name, inner),
            Value::String(text) => lines.push(format!("{name:<40} {text}")),
            other => lines.push(format!("{name:<40} {other}")),
        }
    }
}
