// SPDX-License-Identifier: MIT OR Apache-2.0
//! `i2sb convert`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use candle_core::DType;
use i2sb::{
    Cancel, Error,
    checkpoint::{
        Adapted, SafetensorsFile, TorchCheckpoint, WeightSet, is_archive, read_options, write_safetensors,
    },
    net::{NetworkConfig, adm::AdmConfig, params::TensorSource},
    ops::Precision,
    preset::{
        BridgeConfig, CARD_FILE, CONFIG_FILE, Preset, PresetConfig, SamplingConfig, WEIGHTS_FILE, companions,
    },
};
use serde_json::Value;

/// Convert checkpoints into presets and back.
///
/// Takes a training checkpoint of the original software (latest.pt, with the options.pkl beside it), a
/// plain ADM state dict (.pt or .safetensors) or a preset. Writes a preset's folder, or a plain
/// safetensors file if OUTPUT ends in .safetensors.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File, or name or folder of a preset
    input: PathBuf,
    /// Folder of the new preset, or a file ending in .safetensors
    output: PathBuf,
    /// Settings of the training run [default: options.pkl beside INPUT, if it is there]
    #[arg(long, value_name = "FILE")]
    options: Option<PathBuf>,
    /// Take the weights that training went on from, not their moving average
    #[arg(long)]
    net: bool,
    /// What the preset restores [default: the degradation that the settings name, or restore]
    #[arg(long)]
    task: Option<String>,
    /// One sentence for the user
    #[arg(long)]
    description: Option<String>,
    /// Upper end of the noise ramp [default: from the settings, or 0.3]
    #[arg(long, value_name = "BETA")]
    beta_max: Option<f64>,
    /// A model of the deterministic bridge
    #[arg(long)]
    ot_ode: bool,
    /// Widen the entrance so that the network also sees x1, for training; new weights are random
    #[arg(long)]
    cond_x1: bool,
    /// Seed of new weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Network evaluations unless the user says otherwise
    #[arg(long, default_value_t = 10, value_parser = crate::values::steps)]
    nfe: usize,
    /// Channels of an attention head; the weights do not tell [default: 64, or all channels if fewer]
    #[arg(long, value_name = "N", conflicts_with = "num_heads")]
    num_head_channels: Option<usize>,
    /// Attention heads, if their number is fixed
    #[arg(long, value_name = "N")]
    num_heads: Option<usize>,
    /// Attention heads of the decoder, if they differ
    #[arg(long, value_name = "N", requires = "num_heads")]
    num_heads_upsample: Option<usize>,
    /// q, k and v lie outside the heads
    #[arg(long)]
    new_attention_order: bool,
    /// Number type of the written weights: f32, f16 or bf16
    #[arg(long, default_value = "f32", value_name = "TYPE", value_parser = dtype)]
    dtype: DType,
    /// Replace what stands at OUTPUT; files beside the weights that belonged to others are removed
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args, cancel: &Cancel) -> anyhow::Result<()> {
    let to_file = args.output.extension().is_some_and(|e| e == "safetensors");
    let places = if to_file {
        vec![args.output.clone()]
    } else {
        let own = [CONFIG_FILE, WEIGHTS_FILE].map(|name| args.output.join(name));
        own.into_iter().chain(companions(&args.output)).collect()
    };
    if let Some(place) = places.iter().find(|place| place.exists() && !args.force) {
        bail!("{}: is there already; --force replaces it", place.display());
    }
    match Input::open(&args)? {
        Input::Preset(preset) if to_file => args.write_file(preset.weights(), cancel),
        Input::Preset(preset) => {
            let config = PresetConfig { name: args.name()?, ..preset.config.clone() };
            let card = preset.folder.iter().map(|folder| folder.join(CARD_FILE)).find(|card| card.exists());
            let read = |card| std::fs::read_to_string(&card).map_err(Error::io(&card));
            let card = card.map_or(Ok(String::new()), read)?;
            args.write_preset(&config, preset.weights(), &card, Some(&preset), cancel)
        }
        Input::Torch(checkpoint) => {
            let network = args.network(checkpoint.infer()?)?;
            let set = if args.net { WeightSet::Net } else { WeightSet::Ema };
            let weights = checkpoint.weights(set, &network)?;
            if to_file {
                return args.write_file(&weights, cancel);
            }
            args.adapt(network, &weights, cancel)
        }
        Input::Safetensors(file) => {
            if to_file {
                return args.write_file(&file, cancel);
            }
            let network = AdmConfig::infer(&file.shapes()).map_err(|e| Error::file(&args.input, e))?;
            args.adapt(args.network(network)?, &file, cancel)
        }
    }
}

/// What INPUT turned out to be.
enum Input {
    Preset(Box<Preset>),
    Torch(Box<TorchCheckpoint>),
    Safetensors(SafetensorsFile),
}

impl Input {
    fn open(args: &Args) -> anyhow::Result<Self> {
        let path = &args.input;
        if !path.is_file() {
            return Ok(Self::Preset(Box::new(Preset::open(path)?)));
        }
        if is_archive(path)? {
            return Ok(Self::Torch(Box::new(TorchCheckpoint::open(path)?)));
        }
        SafetensorsFile::open(path).map(Self::Safetensors).context("neither a torch archive nor safetensors")
    }
}

impl Args {
    /// The network, with what the weights do not tell.
    fn network(&self, inferred: AdmConfig) -> anyhow::Result<AdmConfig> {
        let mut config = inferred;
        config.use_new_attention_order = self.new_attention_order;
        match (self.num_heads, self.num_head_channels) {
            (Some(heads), _) => {
                config.num_head_channels = None;
                config.num_heads = heads;
                config.num_heads_upsample = self.num_heads_upsample;
            }
            (None, Some(width)) => config.num_head_channels = Some(width),
            (None, None) => {
                let widest = config.num_head_channels.unwrap_or(config.model_channels);
                config.num_head_channels = Some(widest.min(config.model_channels));
            }
        }
        NetworkConfig::Adm(config.clone()).check()?;
        Ok(config)
    }

    /// Writes a preset of an original network: three output channels, and more inputs if asked.
    fn adapt(&self, from: AdmConfig, weights: &dyn TensorSource, cancel: &Cancel) -> anyhow::Result<()> {
        let options = self.options()?;
        let bridge = self.bridge(&options)?;
        let to = AdmConfig {
            in_channels: if bridge.cond_x1 { 6 } else { from.in_channels },
            out_channels: 3,
            ..from.clone()
        };
        let adapted = Adapted::new(weights, &from, &to, self.seed)?;
        if from.out_channels != to.out_channels {
            println!("kept the first {} of {} output channels", to.out_channels, from.out_channels);
        }
        if from.in_channels != to.in_channels {
            let (seed, more) = (self.seed, to.in_channels - from.in_channels);
            println!(
                "drew random weights for {more} new input channels, seed {seed}: the network must be trained"
            );
        }
        let name = self.name()?;
        let corrupt = options.get("corrupt").and_then(Value::as_str).map(str::to_lowercase);
        let task = self.task.clone().or(corrupt).unwrap_or_else(|| "restore".to_owned());
        let source = self.input.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let description = self.description.clone().unwrap_or_else(|| format!("Converted from {source}."));
        let sampler = if bridge.ot_ode { "ot-ode" } else { "i2sb" };
        let config = PresetConfig {
            name: name.clone(),
            task,
            description,
            sampling: SamplingConfig { sampler: sampler.to_owned(), nfe: self.nfe },
            bridge,
            network: NetworkConfig::Adm(to),
        };
        let card = format!(
            "# {name}\n\nConverted by `i2sb convert` from `{source}`{}.\n\n\
             The weights keep the licence under which that file was published.\n",
            if self.net { ", without its moving average" } else { "" },
        );
        self.write_preset(&config, &adapted, &card, None, cancel)
    }

    fn options(&self) -> anyhow::Result<BTreeMap<String, Value>> {
        let beside = self.input.with_file_name("options.pkl");
        let path = match &self.options {
            Some(path) => path.clone(),
            None if beside.is_file() => beside,
            None => return Ok(BTreeMap::new()),
        };
        let options = read_options(&path)?;
        println!("settings from {}", path.display());
        Ok(options)
    }

    fn bridge(&self, options: &BTreeMap<String, Value>) -> anyhow::Result<BridgeConfig> {
        let number = |key: &str, default: f64| match options.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                value.as_f64().with_context(|| format!("setting {key} is {value}, but must be a number"))
            }
        };
        let flag = |key: &str| options.get(key).and_then(Value::as_bool).unwrap_or(false);
        let default = BridgeConfig::default();
        let interval = number("interval", default.interval as f64)?;
        Ok(BridgeConfig {
            interval: interval as usize,
            beta_max: self.beta_max.map_or_else(|| number("beta_max", default.beta_max), Ok)?,
            t0: number("t0", default.t0)?,
            t_end: number("T", default.t_end)?,
            ot_ode: self.ot_ode || flag("ot_ode"),
            cond_x1: self.cond_x1 || flag("cond_x1"),
            add_x1_noise: flag("add_x1_noise"),
            clip_denoise: flag("clip_denoise"),
        })
    }

    /// The preset's name is its folder's.
    fn name(&self) -> anyhow::Result<String> {
        let absolute = std::path::absolute(&self.output).map_err(Error::io(&self.output))?;
        let name = absolute.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        name.with_context(|| format!("{}: its last part names the preset", self.output.display()))
    }

    fn write_preset(
        &self,
        config: &PresetConfig,
        weights: &dyn TensorSource,
        card: &str,
        from: Option<&Preset>,
        cancel: &Cancel,
    ) -> anyhow::Result<()> {
        let watched = Watched { inner: weights, cancel };
        Preset::write_from(&self.output, config, &watched, card, self.dtype)?;
        let carried = match from {
            Some(preset) => preset.write_companions(&self.output, self.dtype, cancel)?,
            None => vec![],
        };
        let written =
            |path: &Path| carried.iter().any(|(other, left_out)| other == path && left_out.is_none());
        let stale: Vec<_> = companions(&self.output).into_iter().filter(|path| !written(path)).collect();
        for path in stale {
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
            println!("removed {}, which belonged to the weights before", path.display());
        }
        for (path, left_out) in &carried {
            match left_out {
                None => println!("wrote {}", path.display()),
                Some(reason) => println!("left out {}: {reason}", path.display()),
            }
        }
        let preset = Preset::open(&self.output)?;
        report(&self.output, preset.weights())?;
        println!("sha256 {}", preset.hash);
        Ok(())
    }

    fn write_file(&self, weights: &dyn TensorSource, cancel: &Cancel) -> anyhow::Result<()> {
        let watched = Watched { inner: weights, cancel };
        let none = BTreeMap::new();
        let read = |name: &str| watched.read(name);
        write_safetensors(&self.output, &weights.shapes(), self.dtype, &none, read)?;
        report(&self.output, weights)
    }
}

/// A number type that weights are stored in.
fn dtype(name: &str) -> i2sb::Result<DType> {
    let stored = name.parse::<Precision>().ok().and_then(Precision::dtype);
    stored.ok_or_else(|| Error::setting("dtype", name, "one of f32, f16, bf16"))
}

fn report(path: &Path, weights: &dyn TensorSource) -> anyhow::Result<()> {
    let shapes = weights.shapes();
    let parameters: usize = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    println!("wrote {}: {} tensors, {parameters} parameters", path.display(), shapes.len());
    Ok(())
}

/// Stops between two tensors when asked to.
struct Watched<'a> {
    inner: &'a dyn TensorSource,
    cancel: &'a Cancel,
}

impl TensorSource for Watched<'_> {
    fn origin(&self) -> &Path {
        self.inner.origin()
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.inner.shapes()
    }

    fn read(&self, name: &str) -> i2sb::Result<candle_core::Tensor> {
        self.cancel.check()?;
        self.inner.read(name)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn convert(line: &[&str]) -> anyhow::Result<()> {
        let line = Line::try_parse_from([&["convert"], line].concat())?;
        run(line.args, &Cancel::default())
    }

    fn latest() -> String {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/i2sb/checkpoint/jpeg-tiny");
        folder.join("latest.pt").to_str().unwrap().to_owned()
    }

    #[test]
    fn a_checkpoint_becomes_a_preset_and_a_plain_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let wrong = convert(&[&latest(), &at("a-v1"), "--num-head-channels", "48"]).unwrap_err();
        assert!(wrong.to_string().contains("num_head_channels is 48"), "{wrong}");
        assert!(!Path::new(&at("a-v1")).exists());
        convert(&[&latest(), &at("a-v1"), "--num-head-channels", "32"]).unwrap();
        let preset = Preset::open(at("a-v1")).unwrap();
        assert_eq!((preset.config.name.as_str(), preset.config.task.as_str()), ("a-v1", "jpeg-5"));
        let twice = convert(&[&latest(), &at("a-v1")]).unwrap_err().to_string();
        assert!(twice.contains("--force"), "{twice}");
        convert(&[&latest(), &at("a-v1"), "--net", "--force"]).unwrap();
        let net = Preset::open(at("a-v1")).unwrap();
        assert_ne!(net.hash, preset.hash);
        convert(&[&at("a-v1"), &at("plain.safetensors")]).unwrap();
        assert_eq!(SafetensorsFile::open(at("plain.safetensors")).unwrap().sha256().unwrap(), net.hash);
        convert(&[&at("plain.safetensors"), &at("b-v1"), "--num-head-channels", "32"]).unwrap();
        assert_eq!(Preset::open(at("b-v1")).unwrap().hash, net.hash);
        let bad = convert(&[&latest(), &at("Bad Name")]).unwrap_err();
        assert!(format!("{bad:#}").contains("Bad Name"), "{bad:#}");
        assert!(!Path::new(&at("Bad Name")).exists());
    }

    #[test]
    fn a_learned_sigma_head_loses_its_variances() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let config = AdmConfig {
            model_channels: 32,
            num_res_blocks: 1,
            channel_mult: vec![1.0],
            attention_resolutions: vec![],
            out_channels: 6,
            ..AdmConfig::released_256()
        };
        let tensors =
            NetworkConfig::Adm(AdmConfig { num_head_channels: Some(32), ..config }).tensors().unwrap();
        let shape = |name: &str| tensors.iter().find(|(n, _)| n == name).unwrap().1.clone();
        let read = |name: &str| Ok(Tensor::zeros(shape(name), DType::F32, &Device::Cpu)?);
        write_safetensors(at("adm.safetensors"), &tensors, DType::F32, &BTreeMap::new(), read).unwrap();
        convert(&[&at("adm.safetensors"), &at("c-v1"), "--cond-x1", "--dtype", "f16"]).unwrap();
        let preset = Preset::open(at("c-v1")).unwrap();
        assert_eq!(preset.config.network.in_channels(), 6);
        let shapes: BTreeMap<_, _> = preset.weights().shapes().into_iter().collect();
        assert_eq!(
            (&shapes["out.2.bias"], &shapes["input_blocks.0.0.weight"]),
            (&vec![3], &vec![32, 6, 3, 3])
        );
        assert!(preset.weights().entries().iter().all(|e| e.dtype == "F16"));
    }
}
