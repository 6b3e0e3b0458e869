// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking at the state inside a network while it runs, by module name.

use candle_core::Tensor;

/// Takes a module's name and its result.
pub type Observer<'a> = dyn FnMut(&str, &Tensor) + 'a;

/// Where results of inner modules are reported: nowhere, or to an observer.
///
/// Names are those of the weights (`input_blocks.3.1`, `middle_block`, …); activations are
/// `(B, H, W, C)` in the network's number type.
pub struct Trace<'a> {
    observer: Option<&'a mut Observer<'a>>,
    prefix: String,
}

impl<'a> Trace<'a> {
    /// Nobody looks.
    pub fn off() -> Self {
        Self { observer: None, prefix: String::new() }
    }

    /// Each result goes to `observer`.
    pub fn to(observer: &'a mut Observer<'a>) -> Self {
        Self { observer: Some(observer), prefix: String::new() }
    }

    /// Names that follow lie inside the module `name`.
    pub fn enter(&mut self, name: &str) {
        if self.observer.is_some() {
            self.prefix = format!("{name}.");
        }
    }

    /// Names that follow are whole again.
    pub fn leave(&mut self) {
        self.prefix.clear();
    }

    /// Reports one result.
    pub fn see(&mut self, name: &str, value: &Tensor) {
        if let Some(observer) = &mut self.observer {
            observer(&format!("{}{name}", self.prefix), value);
        }
    }
}
