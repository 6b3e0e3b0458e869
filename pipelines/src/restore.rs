// SPDX-License-Identifier: MIT OR Apache-2.0
//! The restoring element, as recipe and command line ask for it, and one line of what it did.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use gst::prelude::*;

use crate::Args;
use crate::exit::usage;

/// `i2sbrestore` with a recipe's properties and the user's above them.
pub fn element(args: &Args, properties: &BTreeMap<String, toml::Value>) -> Result<gst::Element> {
    let element = gst::ElementFactory::make("i2sbrestore").name("restore").build()?;
    for (name, value) in properties {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        set(&element, name, &text)?;
    }
    let given = [
        ("model", args.model.clone()),
        ("steps", args.steps.map(|v| v.to_string())),
        ("strength", args.strength.map(|v| v.to_string())),
        ("compare", args.compare.clone()),
        ("device", args.device.clone()),
        ("precision", args.precision.clone()),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            set(&element, name, &value)?;
        }
    }
    Ok(element)
}

/// Sets a property from text, as gst-launch would; an unknown name or a bad value is an error.
pub fn set(element: &gst::Element, name: &str, text: &str) -> Result<()> {
    let wrong = |why: &str| usage(format!("{name} cannot be {text:?}{why}"));
    let spec =
        element.find_property(name).ok_or_else(|| usage(format!("i2sbrestore has no property {name}")))?;
    let value = gst::glib::Value::deserialize_with_pspec(text, &spec).map_err(|_| wrong(""))?;
    let outside = spec.clone().downcast_ref::<gst::glib::ParamSpecFloat>().is_some_and(|range| {
        value.get::<f32>().is_ok_and(|v| !(range.minimum()..=range.maximum()).contains(&v))
    });
    if outside {
        return Err(wrong(&format!(": {}", spec.blurb().unwrap_or_default())));
    }
    element.set_property_from_value(name, &value);
    Ok(())
}

/// What `stats` says, in one line.
pub fn summary(element: &gst::Element, took: Duration) -> String {
    let stats: gst::Structure = element.property("stats");
    let count = |name: &str| stats.get::<u64>(name).unwrap_or_default();
    let text = |name: &str| stats.get::<String>(name).unwrap_or_default();
    let (frames, seconds) = (count("frames-out"), took.as_secs_f64());
    let mut line = format!(
        "{} restored of {frames} frames in {seconds:.1} s ({:.2} frames/s) with {} on {}",
        count("restored"),
        frames as f64 / seconds.max(1e-9),
        text("model"),
        text("device"),
    );
    for (name, word) in [("repeated", "repeated"), ("bypassed", "passed through"), ("failed", "failed")] {
        if count(name) > 0 {
            line += &format!(", {} {word}", count(name));
        }
    }
    line
}

/// What `stats` says, as JSON.
pub fn counted(element: &gst::Element) -> serde_json::Value {
    let stats: gst::Structure = element.property("stats");
    let fields = stats.iter().map(|(name, value)| {
        let number = value.get::<u64>().map(Into::into).or_else(|_| value.get::<f64>().map(Into::into));
        (name.to_string(), number.unwrap_or_else(|_| value.get::<String>().unwrap_or_default().into()))
    });
    serde_json::Value::Object(fields.collect())
}
