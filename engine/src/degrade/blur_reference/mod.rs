// SPDX-License-Identifier: MIT OR Apache-2.0
//! The blur tasks of the reference, with the spectrum misaligned as it is there, and without
//! (SPEC 11.3).

mod svd;

use std::sync::{Arc, Mutex};

use super::{Arguments, Degradation, Degraded, check};
use crate::{Error, Result, noise::Stream};

/// Which of the two operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlurOperator {
    /// What the reference computes: blur and ringing.
    Reference,
    /// The plain convolution with the same taps.
    Ideal,
}

/// One-dimensional kernels by task name, as f64 and before the last tap is dropped.
pub const KERNELS: &[(&str, fn() -> Vec<f64>)] = &[
    ("blur-uni", || vec![1.0 / 9.0; 9]),
    ("blur-gauss", || {
        let taps = [-2.0f64, -1.0, 0.0, 1.0, 2.0].map(|i| (-0.5 * (i / 10.0) * (i / 10.0)).exp());
        let sum: f64 = taps.iter().sum();
        taps.iter().map(|v| v / sum).collect()
    }),
];

/// Singular values below this are zeroed.
const THRESHOLD: f64 = 0.03;

/// Largest side that [`BlurOperator::Reference`] accepts: its decomposition takes side³ operations.
const MAX_SIDE: usize = 512;

/// Singular vectors of one axis, row-major `(side, side)`, and its thresholded singular values.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    /// Left vectors in columns.
    pub u: Vec<f64>,
    /// Right vectors in columns.
    pub v: Vec<f64>,
    /// Descending.
    pub singulars: Vec<f64>,
}

impl Components {
    /// Decomposes the blur matrix of `side` pixels.
    pub fn new(kernel: &[f64], side: usize) -> Self {
        let half = kernel.len() / 2;
        let mut a = vec![0.0; side * side];
        for (i, row) in a.chunks_exact_mut(side).enumerate() {
            for (tap, &weight) in kernel[..2 * half].iter().enumerate() {
                if let Some(at) = (i + tap).checked_sub(half).filter(|at| *at < side) {
                    row[at] = weight;
                }
            }
        }
        let svd::Svd { u, mut singulars, v } = svd::svd(&a, side);
        singulars.iter_mut().filter(|s| **s < THRESHOLD).for_each(|s| *s = 0.0);
        Self { u, v, singulars }
    }

    fn side(&self) -> usize {
        self.singulars.len()
    }
}

/// The order in which the reference visits the products of singular values: descending, ties as
/// they come.
pub fn permutation(rows: &Components, columns: &Components) -> Vec<usize> {
    let product = |at: usize| rows.singulars[at / columns.side()] * columns.singulars[at % columns.side()];
    let mut order: Vec<usize> = (0..rows.side() * columns.side()).collect();
    order.sort_by(|&a, &b| product(b).total_cmp(&product(a)));
    order
}

/// The reference's operator on `(3, height, width)`: component of rank p in channel c is multiplied
/// by the singular value of rank `(3p + c) mod height·width`.
pub fn misaligned(x0: &[f32], rows: &Components, columns: &Components, order: &[usize]) -> Vec<f32> {
    let (height, width) = (rows.side(), columns.side());
    let plane = height * width;
    let ranked: Vec<f64> =
        order.iter().map(|&at| rows.singulars[at / width] * columns.singulars[at % width]).collect();
    let (v_rows, u_columns) = (transposed(&rows.v, height), transposed(&columns.u, width));
    let mut x1 = Vec::with_capacity(x0.len());
    for (c, channel) in x0.chunks_exact(plane).enumerate() {
        let unit: Vec<f64> = channel.iter().map(|&v| (f64::from(v) + 1.0) / 2.0).collect();
        // Z = Vᵀ·X·V
        let mut z = product(&product(&v_rows, &unit, height), &columns.v, width);
        for (p, &at) in order.iter().enumerate() {
            z[at] *= ranked[(3 * p + c) % plane];
        }
        // Y = U·Z·Uᵀ
        let y = product(&product(&rows.u, &z, height), &u_columns, width);
        x1.extend(y.iter().map(|v| (2.0 * v - 1.0) as f32));
    }
    x1
}

/// The plain convolution `A·X·Aᵀ` with zeros outside and the last tap dropped, of
/// `(3, height, width)`.
pub fn convolve_reference(x0: &[f32], width: usize, height: usize, kernel: &[f64]) -> Vec<f32> {
    let half = kernel.len() / 2;
    let reach = |at: usize, len: usize| {
        let taps = kernel[..2 * half].iter().enumerate();
        taps.filter_map(move |(tap, w)| (at + tap).checked_sub(half).filter(|i| *i < len).map(|i| (i, w)))
    };
    let mut x1 = Vec::with_capacity(x0.len());
    for channel in x0.chunks_exact(width * height) {
        let unit = |i: usize| (f64::from(channel[i]) + 1.0) / 2.0;
        let across =
            |i: usize| reach(i % width, width).map(|(x, w)| w * unit(i - i % width + x)).sum::<f64>();
        let across: Vec<f64> = (0..channel.len()).map(across).collect();
        let down =
            |i: usize| reach(i / width, height).map(|(y, w)| w * across[y * width + i % width]).sum::<f64>();
        x1.extend((0..channel.len()).map(|i| (2.0 * down(i) - 1.0) as f32));
    }
    x1
}

struct Blur {
    task: &'static str,
    operator: BlurOperator,
    kernel: Vec<f64>,
    /// Decompositions by side, made when first needed.
    known: Mutex<Vec<Arc<Components>>>,
}

pub(super) fn build_uni(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(task(0, arguments))
}

pub(super) fn build_gauss(arguments: &mut Arguments) -> Result<Box<dyn Degradation>> {
    Ok(task(1, arguments))
}

/// The task of a row of [`KERNELS`]; the operator may be named in the next argument.
fn task(row: usize, arguments: &mut Arguments) -> Box<dyn Degradation> {
    let (task, kernel) = KERNELS[row];
    let operator =
        arguments.choice(&[("reference", BlurOperator::Reference), ("ideal", BlurOperator::Ideal)]);
    let operator = operator.unwrap_or(BlurOperator::Reference);
    Box::new(Blur { task, operator, kernel: kernel(), known: Mutex::default() })
}

impl Blur {
    fn components(&self, side: usize) -> Arc<Components> {
        // A thread that panicked while it held the list has at worst not added to it.
        let known = || self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(found) = known().iter().find(|c| c.side() == side) {
            return found.clone();
        }
        let made = Arc::new(Components::new(&self.kernel, side));
        known().push(made.clone());
        made
    }
}

impl Degradation for Blur {
    fn degrade(&self, x0: &[f32], width: usize, height: usize, _: &mut Stream) -> Result<Degraded> {
        check(x0, width, height)?;
        if self.operator == BlurOperator::Ideal {
            return Ok(Degraded { x1: convolve_reference(x0, width, height, &self.kernel), mask: None });
        }
        if width.max(height) > MAX_SIDE {
            let limit = format!("at most {MAX_SIDE}×{MAX_SIDE} pixels, or `{}:ideal`", self.task);
            return Err(Error::setting(
                "picture for the reference's blur",
                format!("{width}×{height}"),
                limit,
            ));
        }
        let (rows, columns) = (self.components(height), self.components(width));
        Ok(Degraded { x1: misaligned(x0, &rows, &columns, &permutation(&rows, &columns)), mask: None })
    }
}

fn transposed(m: &[f64], n: usize) -> Vec<f64> {
    (0..n * n).map(|i| m[i % n * n + i / n]).collect()
}

/// `(·, inner) × (inner, ·)`, row-major.
fn product(a: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
    let width = b.len() / inner;
    let mut out = vec![0.0; a.len() / inner * width];
    for (row, line) in a.chunks_exact(inner).zip(out.chunks_exact_mut(width)) {
        for (weight, other) in row.iter().zip(b.chunks_exact(width)) {
            line.iter_mut().zip(other).for_each(|(o, v)| *o += weight * v);
        }
    }
    out
}
