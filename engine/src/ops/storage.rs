// SPDX-License-Identifier: MIT OR Apache-2.0
//! candle's storage as slices, for operations of our own.

use candle_core::{CpuStorage, Layout, Result, WithDType, bail};

/// The values of a contiguous tensor of type `T`.
///
/// # Errors
/// If they are of another type or not contiguous.
pub(crate) fn contiguous<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice()?[start..end]),
        None => bail!("an operation on values that are not contiguous"),
    }
}
