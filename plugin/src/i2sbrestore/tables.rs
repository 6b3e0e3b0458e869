// SPDX-License-Identifier: MIT OR Apache-2.0
//! Enumerations made from the engine's tables, so that no list is written twice.

use std::ffi::CString;
use std::sync::LazyLock;

use gst::glib;
use gst::glib::translate::{IntoGlib, ToGlibPtr, from_glib, from_glib_none};

use i2sb::ops::PRECISIONS;
use i2sb::sampler::SAMPLERS;

/// A registered enumeration: value 0 leaves the choice to others, value `n` is row `n − 1`.
pub struct TableEnum {
    type_: glib::Type,
    names: Vec<&'static str>,
}

/// `GstI2sbPrecision`: `auto`, then the engine's precisions.
pub static PRECISION: LazyLock<TableEnum> = LazyLock::new(|| {
    let rows = PRECISIONS.iter().map(|entry| (entry.name, entry.about));
    TableEnum::register("GstI2sbPrecision", ("auto", "Auto: f32 on a CPU, f16 on a GPU"), rows)
});

/// `GstI2sbSampler`: `model`, then the engine's samplers.
pub static SAMPLER: LazyLock<TableEnum> = LazyLock::new(|| {
    let rows = SAMPLERS.iter().map(|entry| (entry.name, entry.about));
    TableEnum::register("GstI2sbSampler", ("model", "Model: as the model advises"), rows)
});

impl TableEnum {
    fn register(
        name: &str,
        first: (&'static str, &'static str),
        rows: impl Iterator<Item = (&'static str, &'static str)>,
    ) -> Self {
        let rows: Vec<_> = std::iter::once(first).chain(rows).collect();
        let text = |text: &str| CString::new(text).unwrap_or_default().into_raw().cast_const();
        let mut values: Vec<_> = (0i32..)
            .zip(&rows)
            .map(|(value, (nick, about))| glib::gobject_ffi::GEnumValue {
                value,
                value_name: text(about),
                value_nick: text(nick),
            })
            .collect();
        let end = glib::gobject_ffi::GEnumValue {
            value: 0,
            value_name: std::ptr::null(),
            value_nick: std::ptr::null(),
        };
        values.push(end);
        let values = Box::leak(values.into_boxed_slice());
        // SAFETY: the values are never freed and end with an empty one, GObject copies the name, and
        // it is registered once, here, under a LazyLock.
        let type_ = unsafe {
            from_glib(glib::gobject_ffi::g_enum_register_static(name.to_glib_none().0, values.as_ptr()))
        };
        Self { type_, names: rows.iter().map(|(nick, _)| *nick).collect() }
    }

    /// A property of this type; its default is the first value.
    pub fn property(&self, name: &str, nick: &str, blurb: &str, flags: glib::ParamFlags) -> glib::ParamSpec {
        // SAFETY: the type is an enumeration that has the value 0; GObject copies the strings.
        unsafe {
            from_glib_none(glib::gobject_ffi::g_param_spec_enum(
                name.to_glib_none().0,
                nick.to_glib_none().0,
                blurb.to_glib_none().0,
                self.type_.into_glib(),
                0,
                flags.into_glib(),
            ))
        }
    }

    /// The row's name in a property's value; empty for the first, which leaves the choice.
    pub fn name_of(&self, value: &glib::Value) -> &'static str {
        let index = glib::EnumValue::from_value(value).map_or(0, |(_, value)| value.value());
        usize::try_from(index).ok().filter(|&i| i > 0).and_then(|i| self.names.get(i).copied()).unwrap_or("")
    }

    /// A property's value for a row's name.
    pub fn value_of(&self, name: &str) -> glib::Value {
        let index = self.names.iter().position(|row| *row == name).unwrap_or(0);
        let class = glib::EnumClass::with_type(self.type_).expect("registered as an enumeration");
        class.to_value(i32::try_from(index).unwrap_or(0)).expect("registered with this value")
    }
}
