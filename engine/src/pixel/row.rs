// SPDX-License-Identifier: MIT OR Apache-2.0
//! One row of one component: bytes to f32 samples, and differences added back to the bytes.
//!
//! Samples are whole numbers in `0..2^depth`, exact in f32. Everything is `inline(always)` so that
//! it is compiled for the instruction set of its caller.

use super::format::{Component, Packing};

/// Reads `out.len()` samples of `component` from `row` ([`super::view::View::row_range`]).
#[inline(always)]
pub fn read(packing: Packing, component: Component, row: &[u8], out: &mut [f32]) {
    match packing {
        Packing::Byte => match component.step {
            1 => out.iter_mut().zip(&row[component.offset..]).for_each(|(o, &v)| *o = f32::from(v)),
            2 => strided::<2>(row, component.offset, out),
            3 => strided::<3>(row, component.offset, out),
            4 => strided::<4>(row, component.offset, out),
            _ => {
                let bytes = row[component.offset..].iter().step_by(component.step);
                out.iter_mut().zip(bytes).for_each(|(o, &v)| *o = f32::from(v));
            }
        },
        Packing::Le16 => words16(component, row, out, u16::from_le_bytes),
        Packing::Be16 => words16(component, row, out, u16::from_be_bytes),
        Packing::Le32 => words32(component, row, out, u32::from_le_bytes),
        Packing::Be32 => words32(component, row, out, u32::from_be_bytes),
        Packing::Tens32 | Packing::TensLe | Packing::TensBe => {
            for (index, o) in out.iter_mut().enumerate() {
                let (at, shift) = ten(packing, component.offset + index * component.step);
                // A sample that the stride leaves out is neutral chroma.
                let fits = at + word_bytes(packing) <= row.len();
                *o = if fits { ((word(packing, row, at) >> shift) & 0x3ff) as f32 } else { 512.0 };
            }
        }
    }
}

#[inline(always)]
fn strided<const STEP: usize>(row: &[u8], offset: usize, out: &mut [f32]) {
    for (o, pixel) in out.iter_mut().zip(row[offset..].chunks(STEP)) {
        *o = f32::from(pixel[0]);
    }
}

#[inline(always)]
fn words16(component: Component, row: &[u8], out: &mut [f32], word: impl Fn([u8; 2]) -> u16) {
    let (shift, mask) = (component.shift, mask(component.depth));
    let sample = |bytes: &[u8]| f32::from((word([bytes[0], bytes[1]]) >> shift) & mask as u16);
    let row = &row[component.offset..];
    match component.step {
        2 => out.iter_mut().zip(row.chunks_exact(2)).for_each(|(o, v)| *o = sample(v)),
        4 => out.iter_mut().zip(row.chunks(4)).for_each(|(o, v)| *o = sample(v)),
        step => out.iter_mut().zip(row.chunks(step)).for_each(|(o, v)| *o = sample(v)),
    }
}

#[inline(always)]
fn words32(component: Component, row: &[u8], out: &mut [f32], word: impl Fn([u8; 4]) -> u32) {
    let (shift, mask) = (component.shift, mask(component.depth));
    for (o, v) in out.iter_mut().zip(row.chunks_exact(4)) {
        *o = ((word([v[0], v[1], v[2], v[3]]) >> shift) & mask) as f32;
    }
}

/// Adds `delta` (in sample units, finite) to the samples of `component` in `row`, rounding to the
/// nearest and limiting to the depth. All other bits of the row stay as they are.
#[inline(always)]
pub fn add(packing: Packing, component: Component, row: &mut [u8], delta: &[f32]) {
    match packing {
        Packing::Byte => match component.step {
            1 => {
                let row = &mut row[component.offset..];
                row.iter_mut().zip(delta).for_each(|(v, &d)| *v = sum(f32::from(*v), d, 255.0) as u8);
            }
            step => {
                for (pixel, &d) in row[component.offset..].chunks_mut(step).zip(delta) {
                    pixel[0] = sum(f32::from(pixel[0]), d, 255.0) as u8;
                }
            }
        },
        Packing::Le16 => add16(component, row, delta, u16::from_le_bytes, u16::to_le_bytes),
        Packing::Be16 => add16(component, row, delta, u16::from_be_bytes, u16::to_be_bytes),
        Packing::Le32 => add32(component, row, delta, u32::from_le_bytes, u32::to_le_bytes),
        Packing::Be32 => add32(component, row, delta, u32::from_be_bytes, u32::to_be_bytes),
        Packing::Tens32 | Packing::TensLe | Packing::TensBe => {
            for (index, &d) in delta.iter().enumerate() {
                let (at, shift) = ten(packing, component.offset + index * component.step);
                if at + word_bytes(packing) > row.len() {
                    continue;
                }
                let old = word(packing, row, at);
                let new = sum(((old >> shift) & 0x3ff) as f32, d, 1023.0);
                put_word(packing, row, at, (old & !(0x3ff << shift)) | (new << shift));
            }
        }
    }
}

#[inline(always)]
fn add16(
    component: Component,
    row: &mut [u8],
    delta: &[f32],
    get: impl Fn([u8; 2]) -> u16,
    put: impl Fn(u16) -> [u8; 2],
) {
    let (shift, mask) = (component.shift, mask(component.depth));
    let limit = mask as f32;
    let update = |bytes: &mut [u8], d: f32| {
        let old = u32::from(get([bytes[0], bytes[1]]));
        let new = sum(((old >> shift) & mask) as f32, d, limit);
        let word = put(((old & !(mask << shift)) | (new << shift)) as u16);
        bytes[0] = word[0];
        bytes[1] = word[1];
    };
    let row = &mut row[component.offset..];
    match component.step {
        2 => row.chunks_exact_mut(2).zip(delta).for_each(|(v, &d)| update(v, d)),
        step => row.chunks_mut(step).zip(delta).for_each(|(v, &d)| update(v, d)),
    }
}

#[inline(always)]
fn add32(
    component: Component,
    row: &mut [u8],
    delta: &[f32],
    get: impl Fn([u8; 4]) -> u32,
    put: impl Fn(u32) -> [u8; 4],
) {
    let (shift, mask) = (component.shift, mask(component.depth));
    for (v, &d) in row.chunks_exact_mut(4).zip(delta) {
        let old = get([v[0], v[1], v[2], v[3]]);
        let new = sum(((old >> shift) & mask) as f32, d, mask as f32);
        v.copy_from_slice(&put((old & !(mask << shift)) | (new << shift)));
    }
}

#[inline(always)]
fn mask(depth: u32) -> u32 {
    (1 << depth) - 1
}

/// `round(old + delta)` within `0..=limit`: adding 1.5·2²³ leaves the rounded number in the low
/// bits of the f32, which costs no conversion and vectorises.
#[inline(always)]
fn sum(old: f32, delta: f32, limit: f32) -> u32 {
    const MAGIC: f32 = 12_582_912.0;
    ((old + delta).max(0.0).min(limit) + MAGIC).to_bits() & 0xffff
}

/// Where the `index`-th 10-bit sample of a row is: byte of its word, shift in the word.
#[inline(always)]
fn ten(packing: Packing, index: usize) -> (usize, u32) {
    match packing {
        Packing::Tens32 => (index / 3 * 4, (index % 3) as u32 * 10),
        Packing::TensLe => (index * 10 / 8, (index * 10 % 8) as u32),
        _ => (index * 10 / 8, 6 - (index * 10 % 8) as u32),
    }
}

#[inline(always)]
fn word_bytes(packing: Packing) -> usize {
    if packing == Packing::Tens32 { 4 } else { 2 }
}

#[inline(always)]
fn word(packing: Packing, row: &[u8], at: usize) -> u32 {
    match packing {
        Packing::Tens32 => u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]),
        Packing::TensLe => u32::from(u16::from_le_bytes([row[at], row[at + 1]])),
        _ => u32::from(u16::from_be_bytes([row[at], row[at + 1]])),
    }
}

#[inline(always)]
fn put_word(packing: Packing, row: &mut [u8], at: usize, word: u32) {
    match packing {
        Packing::Tens32 => row[at..at + 4].copy_from_slice(&word.to_le_bytes()),
        Packing::TensLe => row[at..at + 2].copy_from_slice(&(word as u16).to_le_bytes()),
        _ => row[at..at + 2].copy_from_slice(&(word as u16).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::PIXEL_FORMATS;
    use super::super::view::View;
    use super::*;

    /// Every value of every depth, in every format: what is added can be read back, and adding
    /// nothing changes no bit.
    #[test]
    fn every_value_comes_back() {
        for format in PIXEL_FORMATS {
            let (width, stride) = (13, [256; 4]);
            let mut bytes: Vec<u8> = (0..4096u32).map(|i| (i * 151 % 256) as u8).collect();
            let view = View::new(format, (width, 2), [0, 1024, 2048, 3072], stride, bytes.len()).unwrap();
            for index in 0..format.count() {
                let component = format.components[index];
                let columns = view.columns(index);
                let (mut old, mut new) = (vec![0.0; columns], vec![0.0; columns]);
                let range = view.row_range(index, 0);
                for value in 0..1u32 << component.depth {
                    if component.depth > 12 && value % 97 != 0 {
                        continue;
                    }
                    let row = &mut bytes[range.clone()];
                    read(format.packing, component, row, &mut old);
                    let before = row.to_vec();
                    add(format.packing, component, row, &vec![0.0; columns]);
                    assert_eq!(before, row, "{}", format.name);
                    let delta: Vec<f32> = old.iter().map(|old| value as f32 - old).collect();
                    add(format.packing, component, row, &delta);
                    read(format.packing, component, row, &mut new);
                    assert!(new.iter().all(|&v| v == value as f32), "{} {value}: {new:?}", format.name);
                }
            }
        }
    }

    #[test]
    fn sums_round_and_stay_within_the_depth() {
        assert_eq!(sum(10.0, 0.4, 255.0), 10);
        assert_eq!(sum(10.0, 0.6, 255.0), 11);
        assert_eq!(sum(10.0, -11.0, 255.0), 0);
        assert_eq!(sum(65535.0, 3.0, 65535.0), 65535);
    }
}
