// SPDX-License-Identifier: MIT OR Apache-2.0
//! ADM networks and their blocks (SPEC sections 7 and 8).

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::{Fixture, Folder, blocks};
use crate::{
    Cancel, Result,
    net::{
        Network,
        adm::{AdmConfig, AdmNet, Trace},
    },
    ops::Precision,
};

/// Largest difference of output and activations in f32, where the JSON states none.
const F32_LIMIT: f64 = 1e-4;
/// The JSON grants ten times the reference's own distance to f64, where that is larger. Activations
/// get it, as some of them are ten times the size of the output.
const GAPS: f64 = 10.0;
/// Mean and largest difference of the output in f16: rounding alone moves it that far.
const F16_LIMITS: (f64, f64) = (1e-2, 1e-1);

pub(super) fn run(folder: &mut Folder) -> Result<()> {
    for stem in folder.stems() {
        folder.fixture(&stem, |folder, fixture| match fixture.json.text("/kind")? {
            "unet_forward" => network(folder, fixture, &stem),
            "blocks" => blocks::run(folder, fixture, &stem),
            other => Err(fixture.json.error(format!("kind {other:?} is not understood"))),
        });
    }
    Ok(())
}

fn network(folder: &mut Folder, fixture: &Fixture, stem: &str) -> Result<()> {
    let config = AdmConfig::from_constructor(fixture.json.value("/config")?)?;
    let state = fixture.state("state.")?;
    let (x, out) = (fixture.tensor("x")?, fixture.tensor("out")?);
    let times: Vec<f32> = fixture.numbers("timesteps")?.into_iter().map(|t| t as f32).collect();
    let stored: Vec<&str> = fixture.names().filter_map(|name| name.strip_prefix("act.")).collect();
    let stored = stored.into_iter().map(|name| Ok((name, fixture.tensor(&format!("act.{name}"))?)));
    let stored = stored.collect::<Result<BTreeMap<_, _>>>()?;
    let limit = fixture.tolerance("out_abs", F32_LIMIT)?;
    let device = folder.device();

    let mut seen: BTreeMap<String, Tensor> = BTreeMap::new();
    folder.case(stem, "f32", |case| {
        let count: usize = state.values().map(Tensor::elem_count).sum();
        for (key, found) in [("/state_tensor_count", state.len()), ("/state_param_count", count)] {
            if fixture.json.find(key).is_some() {
                case.equal(key, &[found], &[fixture.json.count(key)?]);
            }
        }
        let net = AdmNet::build(&config, &state, device, Precision::F32)?;
        let mut observer = |name: &str, value: &Tensor| {
            if stored.contains_key(name) {
                seen.insert(name.to_owned(), value.clone());
            }
        };
        let y = net.forward_traced(&x, &times, &Cancel::default(), &mut Trace::to(&mut observer))?;
        case.close("out", &y, &out, limit)
    });
    if !stored.is_empty() {
        let gap = fixture.json.find("/fp64_gap").and_then(|v| v.as_f64()).unwrap_or(0.0);
        let limit = limit.max(GAPS * gap.min(F32_LIMIT));
        folder.case(stem, "activations", |case| {
            for (name, want) in &stored {
                let Some(got) = seen.get(*name) else {
                    return Err(fixture.error(format!("act.{name}: no module of this name was seen")));
                };
                case.close(name, &channels_first(got, want)?, want, limit)?;
            }
            Ok(())
        });
    }
    if let Some(want) = fixture.tensor_if_any("out_fp16")? {
        folder.case(stem, "f16", |case| {
            let net = AdmNet::build(&config, &state, device, Precision::F16)?;
            let difference = (net.forward(&x, &times, &Cancel::default())? - want)?.abs()?.flatten_all()?;
            let mean = f64::from(difference.mean(0)?.to_scalar::<f32>()?);
            let worst = f64::from(difference.max(0)?.to_scalar::<f32>()?);
            case.error(mean, F16_LIMITS.0, || format!("out differs by {mean:e} in the mean"));
            case.error(worst, F16_LIMITS.1, || format!("out differs by up to {worst:e}"));
            Ok(())
        });
    }
    Ok(())
}

/// A channels-last activation in the layout of the fixtures: `(B, C, H, W)`, or `(B, C, T)` if `like`
/// has three dimensions.
pub(super) fn channels_first(x: &Tensor, like: &Tensor) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?;
    let x = if x.rank() == 4 { x.permute((0, 3, 1, 2))?.contiguous()? } else { x };
    Ok(if like.rank() == 3 && x.rank() == 4 { x.flatten_from(2)? } else { x })
}
