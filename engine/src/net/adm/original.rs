// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configurations as the original software writes them, to [`AdmConfig`].
//!
//! Two forms exist: the constructor's arguments (`model_channels`, lists, downsampling factors) and
//! the options of the released models (`num_channels`, strings, feature sizes).

use serde_json::{Map, Value};

use super::AdmConfig;
use crate::{Error, Result};

/// Widths by level that the options mean when `channel_mult` is empty, by `image_size`.
const DEFAULT_MULT: &[(u64, &[f64])] = &[
    (512, &[0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]),
    (256, &[1.0, 1.0, 2.0, 2.0, 4.0, 4.0]),
    (128, &[1.0, 1.0, 2.0, 3.0, 4.0]),
    (64, &[1.0, 2.0, 3.0, 4.0]),
];
/// Keys without influence on one evaluation: memory, training, or already in the weights' shapes.
const WITHOUT_EFFECT: &[&str] = &["dropout", "use_checkpoint", "use_fp16"];
/// Keys that must have this value: what they switch on is not part of any I²SB network.
const FIXED: &[(&str, Value)] = &[("class_cond", Value::Bool(false)), ("num_classes", Value::Null)];

impl AdmConfig {
    /// From the constructor's arguments, `attention_resolutions` as downsampling factors.
    ///
    /// # Errors
    /// [`Error::Setting`] for a key that is missing, unknown or has another type.
    pub fn from_constructor(json: &Value) -> Result<Self> {
        let mut keys = Keys::new(json)?;
        keys.skip("image_size");
        if let Some(dims) = keys.take("dims")
            && dims != 2
        {
            return Err(Error::setting("dims", dims, 2));
        }
        let config = Self {
            in_channels: keys.number("in_channels")?,
            out_channels: keys.number("out_channels")?,
            model_channels: keys.number("model_channels")?,
            num_res_blocks: keys.number("num_res_blocks")?,
            channel_mult: keys.list("channel_mult", Value::as_f64)?,
            attention_resolutions: keys.list("attention_resolutions", as_usize)?,
            conv_resample: keys.flag("conv_resample", true)?,
            num_heads: keys.number_or("num_heads", 1)?,
            num_head_channels: keys.optional("num_head_channels")?,
            num_heads_upsample: keys.optional("num_heads_upsample")?,
            use_scale_shift_norm: keys.flag("use_scale_shift_norm", false)?,
            resblock_updown: keys.flag("resblock_updown", false)?,
            use_new_attention_order: keys.flag("use_new_attention_order", false)?,
        };
        keys.finish()?;
        Ok(config)
    }

    /// From the options of a released model: `attention_resolutions` is a string of feature sizes,
    /// `channel_mult` a string that may be empty.
    ///
    /// # Errors
    /// [`Error::Setting`] for a key that is missing, unknown or has another type.
    pub fn from_options(json: &Value) -> Result<Self> {
        let mut keys = Keys::new(json)?;
        let size = keys.number("image_size")? as u64;
        let mult = keys.numbers("channel_mult")?;
        let channel_mult = match DEFAULT_MULT.iter().find(|(s, _)| *s == size) {
            Some((_, default)) if mult.is_empty() => default.to_vec(),
            None if mult.is_empty() => {
                return Err(Error::setting("channel_mult", "empty", format!("given for image_size {size}")));
            }
            _ => mult,
        };
        let sizes = keys.numbers("attention_resolutions")?;
        let factor = |s: &f64| {
            let whole = *s >= 1.0 && s.fract() == 0.0;
            let limit = format!("feature sizes from 1 to {size}");
            if whole {
                Ok(size as usize / *s as usize)
            } else {
                Err(Error::setting("attention_resolutions", s, limit))
            }
        };
        let config = Self {
            in_channels: keys.number_or("in_channels", 3)?,
            out_channels: if keys.flag("learn_sigma", false)? { 6 } else { 3 },
            model_channels: keys.number("num_channels")?,
            num_res_blocks: keys.number("num_res_blocks")?,
            channel_mult,
            attention_resolutions: sizes.iter().map(factor).collect::<Result<_>>()?,
            conv_resample: keys.flag("conv_resample", true)?,
            num_heads: keys.number_or("num_heads", 1)?,
            num_head_channels: keys.optional("num_head_channels")?,
            num_heads_upsample: keys.optional("num_heads_upsample")?,
            use_scale_shift_norm: keys.flag("use_scale_shift_norm", false)?,
            resblock_updown: keys.flag("resblock_updown", false)?,
            use_new_attention_order: keys.flag("use_new_attention_order", false)?,
        };
        keys.finish()?;
        Ok(config)
    }
}

/// The keys of an object, taken one by one until none may be left.
struct Keys(Map<String, Value>);

impl Keys {
    fn new(json: &Value) -> Result<Self> {
        let Value::Object(map) = json else {
            return Err(Error::setting("network", json, "an object"));
        };
        let mut keys = Self(map.clone());
        for (name, needed) in FIXED {
            match keys.take(name) {
                Some(value) if value != *needed => return Err(Error::setting(name, value, needed)),
                _ => {}
            }
        }
        WITHOUT_EFFECT.iter().for_each(|name| keys.skip(name));
        Ok(keys)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    fn skip(&mut self, name: &str) {
        self.0.remove(name);
    }

    fn number(&mut self, name: &'static str) -> Result<usize> {
        let value = self.take(name).unwrap_or(Value::Null);
        as_usize(&value).ok_or_else(|| Error::setting(name, &value, "a whole number from 0 up"))
    }

    fn number_or(&mut self, name: &'static str, default: usize) -> Result<usize> {
        if self.0.contains_key(name) { self.number(name) } else { Ok(default) }
    }

    /// −1 and null both mean that it is not set.
    fn optional(&mut self, name: &'static str) -> Result<Option<usize>> {
        match self.0.get(name) {
            None | Some(Value::Null) => {
                self.skip(name);
                Ok(None)
            }
            Some(value) if value.as_i64() == Some(-1) => {
                self.skip(name);
                Ok(None)
            }
            Some(_) => self.number(name).map(Some),
        }
    }

    fn flag(&mut self, name: &'static str, default: bool) -> Result<bool> {
        let value = self.take(name).unwrap_or(Value::Bool(default));
        value.as_bool().ok_or_else(|| Error::setting(name, &value, "true or false"))
    }

    fn list<T>(&mut self, name: &'static str, item: fn(&Value) -> Option<T>) -> Result<Vec<T>> {
        let value = self.take(name).unwrap_or(Value::Null);
        let items = value.as_array().and_then(|a| a.iter().map(item).collect::<Option<Vec<T>>>());
        items.ok_or_else(|| Error::setting(name, &value, "a list of numbers"))
    }

    /// Numbers separated by commas in a string.
    fn numbers(&mut self, name: &'static str) -> Result<Vec<f64>> {
        let value = self.take(name).unwrap_or(Value::Null);
        let number = |s: &str| s.trim().parse::<f64>().ok();
        let parts =
            value.as_str().map(|s| s.split(',').filter(|p| !p.trim().is_empty()).map(number).collect());
        let wrong = || Error::setting(name, &value, "numbers separated by commas, in a string");
        parts.unwrap_or(None::<Vec<f64>>).ok_or_else(wrong)
    }

    fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(key) => Err(Error::setting("network", key, "made of known keys only")),
        }
    }
}

fn as_usize(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|v| usize::try_from(v).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options() -> Value {
        json!({"image_size": 256, "num_channels": 256, "num_res_blocks": 2, "channel_mult": "", "learn_sigma": false,
            "class_cond": false, "use_checkpoint": false, "attention_resolutions": "32,16,8", "num_heads": 4,
            "num_head_channels": 64, "num_heads_upsample": -1, "use_scale_shift_norm": true, "dropout": 0.0,
            "resblock_updown": true, "use_fp16": false, "use_new_attention_order": false})
    }

    #[test]
    fn the_released_options_give_the_released_network() {
        assert_eq!(AdmConfig::from_options(&options()).unwrap(), AdmConfig::released_256());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (key, value, expected) in [
            ("class_cond", json!(true), "class_cond is true"),
            ("attention_resolutions", json!("32,x"), "attention_resolutions"),
            ("attention_resolutions", json!("0"), "feature sizes"),
            ("num_channels", json!(-3), "num_channels is -3"),
            ("image_size", json!(100), "channel_mult is empty"),
            ("learn_sigma", json!(1), "learn_sigma is 1"),
            ("use_rope", json!(1), "use_rope"),
        ] {
            let mut json = options();
            json[key] = value;
            let err = AdmConfig::from_options(&json).unwrap_err().to_string();
            assert!(err.contains(expected), "{err}");
        }
        assert!(AdmConfig::from_constructor(&json!([])).is_err());
        assert!(AdmConfig::from_constructor(&json!({"in_channels": 3})).is_err());
    }
}
