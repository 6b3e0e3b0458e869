// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single blocks of ADM networks, and the embedding of time (SPEC section 7.2).

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use serde_json::Value;

use super::{Fixture, Folder, Json, unet::channels_first};
use crate::{
    Cancel, Result,
    net::{
        adm::{
            Trace,
            attention::Order,
            embedding::timestep_embedding,
            layers::{Given, Module, Style, affine},
            norm::EPS,
            plan::{GROUPS, Layer, Resample},
        },
        params::Params,
    },
};

/// Largest difference of a block's result, where the JSON states none.
const LIMIT: f64 = 2e-5;
/// Largest difference of an embedding up to t = 1, and above: f32 angles near 1000 are 6e-5 apart.
const EMBEDDING_LIMITS: (f64, f64) = (1e-6, 2e-4);

pub(super) fn run(folder: &mut Folder, fixture: &Fixture, stem: &str) -> Result<()> {
    let limit = fixture.tolerance("y_abs", LIMIT)?;
    let emb = fixture.tensor_if_any("emb")?;
    for name in fixture.json.keys("/cases")? {
        let state_prefix = format!("{name}.state.");
        let state = match fixture.names().any(|n| n.starts_with(&state_prefix)) {
            true => fixture.state(&state_prefix)?,
            false => BTreeMap::new(),
        };
        let (x, y) = (fixture.tensor(&format!("{name}.x"))?, fixture.tensor(&format!("{name}.y"))?);
        let device = folder.device();
        folder.case(stem, name, |case| {
            let block = Described { json: &fixture.json, name };
            let root = Params::new(&state, device);
            let given = x.permute((0, 2, 3, 1))?.contiguous()?;
            let found = block.run(&root, &given, emb.as_ref())?;
            root.finish()?;
            case.close("y", &channels_first(&found, &y)?, &y, limit)
        });
    }
    embeddings(folder, fixture, stem)
}

fn embeddings(folder: &mut Folder, fixture: &Fixture, stem: &str) -> Result<()> {
    if !fixture.has("temb.t") {
        return Ok(());
    }
    let times: Vec<f32> = fixture.numbers("temb.t")?.into_iter().map(|t| t as f32).collect();
    let names: Vec<String> =
        fixture.names().filter(|n| n.starts_with("temb.dim")).map(str::to_owned).collect();
    for name in names {
        let want = fixture.tensor(&name)?;
        let device = folder.device();
        folder.case(stem, &name, |case| {
            let got = timestep_embedding(&times, want.dim(1)?, device)?;
            if got.dims() != want.dims() {
                return case.close(&name, &got, &want, 0.0);
            }
            for (row, t) in times.iter().enumerate() {
                let limit = if *t <= 1.0 { EMBEDDING_LIMITS.0 } else { EMBEDDING_LIMITS.1 };
                case.close(&format!("{name} at {t}"), &got.get(row)?, &want.get(row)?, limit)?;
            }
            Ok(())
        });
    }
    Ok(())
}

/// One case as the JSON describes it.
struct Described<'a> {
    json: &'a Json,
    name: &'a str,
}

impl Described<'_> {
    fn at(&self, key: &str) -> String {
        format!("/cases/{}/{key}", self.name)
    }

    fn find(&self, key: &str) -> Option<&Value> {
        self.json.find(&self.at(key))
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.find(key).map_or(Ok(false), |_| self.json.flag(&self.at(key)))
    }

    /// Whether every key is one of `known`; others change the block in a way that is not understood.
    fn only(&self, known: &[&str]) -> Result<()> {
        for key in self.json.keys(&format!("/cases/{}", self.name))? {
            if !known.contains(&key) && !["type", "uses_emb"].contains(&key) {
                return Err(self.json.error(format!("cases.{}.{key} is not understood", self.name)));
            }
        }
        Ok(())
    }

    fn run(&self, root: &Params, x: &Tensor, emb: Option<&Tensor>) -> Result<Tensor> {
        let channels = x.dim(3)?;
        let count = |key: &str| self.json.count(&self.at(key));
        let layer = match self.json.text(&self.at("type"))? {
            "resblock" => {
                self.only(&["in_ch", "out_ch", "scale_shift", "skip", "down", "up"])?;
                if self.find("skip").is_some_and(|v| v != "1x1") {
                    return Err(self.json.error("a skip connection that is no 1x1 is not understood"));
                }
                let resample = match (self.flag("down")?, self.flag("up")?) {
                    (false, false) => Resample::Keep,
                    (true, false) => Resample::Down,
                    (false, true) => Resample::Up,
                    (true, true) => {
                        return Err(self.json.error("a block both down and up is not understood"));
                    }
                };
                Layer::Res { input: count("in_ch")?, output: count("out_ch")?, resample }
            }
            "attention" => {
                self.only(&["ch", "heads", "head_channels", "order"])?;
                let width = self.find("head_channels").and_then(Value::as_u64).filter(|w| *w > 0);
                let heads = match width {
                    Some(width) => count("ch")? / width as usize,
                    None => count("heads")?,
                };
                Layer::Attention { channels: count("ch")?, heads }
            }
            kind @ ("downsample" | "upsample") => {
                self.only(&["ch", "conv"])?;
                let resample = if kind == "downsample" { Resample::Down } else { Resample::Up };
                Layer::Resample { channels, resample, conv: self.flag("conv")? }
            }
            "groupnorm" => {
                self.only(&["groups", "ch", "eps"])?;
                if count("groups")? != GROUPS || self.json.number(&self.at("eps"))? != EPS {
                    return Err(self
                        .json
                        .error(format!("only {GROUPS} groups and eps {EPS} are understood")));
                }
                return affine(root, channels)?.norm(x, false);
            }
            other => return Err(self.json.error(format!("block type {other:?} is not understood"))),
        };
        let order = match self.find("order").and_then(Value::as_str) {
            Some("new") => Order::New,
            None | Some("legacy") => Order::Legacy,
            Some(other) => return Err(self.json.error(format!("order {other:?} is not understood"))),
        };
        let time = match emb {
            Some(emb) => emb.silu()?,
            None => Tensor::zeros((x.dim(0)?, 1), DType::F32, x.device())?,
        };
        let scale_shift = self.flag("scale_shift")?;
        let style = Style { time: time.dim(1)?, scale_shift, order, dtype: DType::F32 };
        let given = Given { time: &time, cancel: &Cancel::default() };
        Module::build(&layer, style, root)?.forward(x, &given, &mut Trace::off())
    }
}
