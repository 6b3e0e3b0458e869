// SPDX-License-Identifier: MIT OR Apache-2.0
//! The restoring element, as recipe and command line ask for it, and one line of what it did.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use gst::glib;
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
    apply(args, &element)?;
    Ok(element)
}

/// Sets what the command line asks for.
pub fn apply(args: &Args, element: &gst::Element) -> Result<()> {
    for (name, value) in given(args)? {
        set(element, &name, &value)?;
    }
    Ok(())
}

/// The properties that a command line sets, by their names.
pub fn given(args: &Args) -> Result<BTreeMap<String, String>> {
    let options = [
        ("model", args.model.clone()),
        ("detail", args.detail.map(|v| v.to_string())),
        ("steps", args.steps.map(|v| v.to_string())),
        ("strength", args.strength.map(|v| v.to_string())),
        ("compare", args.compare.clone()),
        ("device", args.device.clone()),
        ("precision", args.precision.clone()),
    ];
    let options = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let mut all: BTreeMap<_, _> = options.collect();
    for text in &args.set {
        let pair = text.split_once('=');
        let (name, value) = pair.ok_or_else(|| usage(format!("--set {text}: no NAME=VALUE")))?;
        if all.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(usage(format!("--set {text}: {name} is set twice")));
        }
    }
    Ok(all)
}

/// Sets a property from text, as gst-launch would; an unknown name or a bad value is an error.
pub fn set(element: &gst::Element, name: &str, text: &str) -> Result<()> {
    let wrong = |why: &str| usage(format!("{name} cannot be {text:?}{why}"));
    let spec =
        element.find_property(name).ok_or_else(|| usage(format!("i2sbrestore has no property {name}")))?;
    let value = glib::Value::deserialize_with_pspec(text, &spec).map_err(|_| wrong(""))?;
    if let Some(range) = outside(&spec, &value) {
        return Err(wrong(&format!(": {range}; {}", spec.blurb().unwrap_or_default())));
    }
    element.set_property_from_value(name, &value);
    Ok(())
}

/// The range of a property of numbers, if a value is outside; not a number is.
fn outside(spec: &glib::ParamSpec, value: &glib::Value) -> Option<String> {
    macro_rules! kinds {
        ($($spec:ty, $number:ty;)*) => {
            None$(.or_else(|| {
                let range = spec.downcast_ref::<$spec>()?;
                let (least, most) = (range.minimum(), range.maximum());
                let inside = value.get::<$number>().is_ok_and(|number| (least..=most).contains(&number));
                (!inside).then(|| format!("from {least} to {most}"))
            }))*
        };
    }
    kinds! {
        glib::ParamSpecFloat, f32;
        glib::ParamSpecDouble, f64;
        glib::ParamSpecInt, i32;
        glib::ParamSpecUInt, u32;
        glib::ParamSpecInt64, i64;
        glib::ParamSpecUInt64, u64;
    }
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
    fields(&element.property::<gst::Structure>("stats"))
}

/// Numbers and texts of a structure, as JSON.
pub fn fields(structure: &gst::StructureRef) -> serde_json::Value {
    let fields = structure.iter().map(|(name, value)| {
        let whole = value.get::<u64>().or_else(|_| value.get::<u32>().map(Into::into)).map(Into::into);
        let number = whole.or_else(|_| value.get::<f64>().map(Into::into));
        (name.to_string(), number.unwrap_or_else(|_| value.get::<String>().unwrap_or_default().into()))
    });
    serde_json::Value::Object(fields.collect())
}
