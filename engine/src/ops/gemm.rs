// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolution as products over *taps*, in f32: forward, and the gradient of the weights.
//!
//! In a channels-last map the inputs of one output pixel are a few contiguous runs ("taps"): three
//! rows of `3·C` floats for a 3×3 kernel, one of `C` for 1×1, two of `2·C` for 2×2 with stride 2.
//! Neighbouring output pixels read the same runs `step` floats further on. So no picture is ever
//! rearranged: `y[p][o] = Σ_tap Σ_k x[start + p·step + tap + k] · w[tap][k][o]`.
//!
//! Each sum is one chain of fused multiply-adds in the order (tap, k), whatever the instruction
//! set, the block size or the position of the pixel: that is what makes tiles equal to wholes.

pub(crate) use super::taps::Run;
use super::{isa::Isa, lanes::Lanes, tiny::settled};

/// Output channels that one packed block holds.
pub(crate) const BLOCK: usize = 32;
/// Steps of k after which the next pixels take their turn: 128·32 floats stay in the first-level cache.
const K_BLOCK: usize = 128;

/// Weights in the order in which the kernel reads them: `[block][tap][k][channels of the block]`, zero-padded
/// to 16 channels; the last block may be half as wide.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    data: Vec<f32>,
    /// Output channels, padded to 16.
    pub cout: usize,
}

impl Packed {
    /// `w`: `[tap][k][cout]`; `cout` is padded to a multiple of 16. Tiny weights become zero.
    pub fn new(cout: usize, w: &[f32]) -> Self {
        let padded = cout.next_multiple_of(16);
        let mut data = Vec::with_capacity(w.len() / cout * padded);
        for first in (0..padded).step_by(BLOCK) {
            let (n, wide) = ((cout - first).min(BLOCK), (padded - first).min(BLOCK));
            for row in w.chunks_exact(cout) {
                data.extend(row[first..first + n].iter().map(|v| settled(*v)));
                data.extend(std::iter::repeat_n(0.0, wide - n));
            }
        }
        Self { data, cout: padded }
    }

    /// Panics unless `run` and a result of `out` values belong to these weights.
    fn check(&self, run: &Run<'_, f32>, out: usize) {
        run.check(run.n, run.k);
        assert!(out >= run.n * self.cout);
        assert_eq!(self.data.len(), run.taps.len() * run.k * self.cout);
    }
}

/// `out[p][o]` for `run.n` pixels, rows of `weights.cout` floats.
///
/// Panics if a slice is too short: that is a bug of the caller, never of a file.
pub(crate) fn forward(isa: Isa, run: Run<'_, f32>, weights: &Packed, out: &mut [f32]) {
    forward_each(isa, run, 0, std::slice::from_ref(weights), out, 0);
}

/// As [`forward`] for several products one after the other: inputs of the next begin `input` values further on,
/// its results `product` values.
pub(crate) fn forward_each(
    isa: Isa,
    run: Run<'_, f32>,
    input: usize,
    weights: &[Packed],
    out: &mut [f32],
    product: usize,
) {
    for (i, weights) in weights.iter().enumerate() {
        weights.check(&Run { start: run.start + i * input, ..run }, out.len().saturating_sub(i * product));
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa` says that the processor has it; bounds were checked above.
        Isa::Avx512 => unsafe { x86::forward_avx512(run, input, weights, out.as_mut_ptr(), product) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { x86::forward_avx2(run, input, weights, out.as_mut_ptr(), product) },
        // SAFETY: plain Rust on checked bounds.
        _ => unsafe { each::<super::lanes::Plain>(run, input, weights, out.as_mut_ptr(), product) },
    }
}

/// Adds the gradient of the weights: `grad[tap][k][o] += Σ_p x[…p, tap, k] · dy[p][o]`.
///
/// - `rows`: the first pixel of each row of the picture, as offsets in `x` and in `dy`.
/// - `run.n`: pixels per row; `dy` has `cout` (a multiple of 16) floats per pixel.
/// - `grad`: `[tap][k][cout]`.
pub(crate) fn weight_grad(
    isa: Isa,
    run: Run<'_, f32>,
    rows: &[(usize, usize)],
    dy: &[f32],
    cout: usize,
    grad: &mut [f32],
) {
    for &(x0, y0) in rows {
        Run { start: x0, ..run }.check(run.n, run.k);
        assert!(y0 + run.n * cout <= dy.len());
    }
    assert!(grad.len() >= run.taps.len() * run.k * cout && cout % 16 == 0);
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa` says that the processor has it; bounds were checked above.
        Isa::Avx512 => unsafe { x86::grad_avx512(run, rows, dy.as_ptr(), cout, grad.as_mut_ptr()) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { x86::grad_avx2(run, rows, dy.as_ptr(), cout, grad.as_mut_ptr()) },
        _ => {
            // SAFETY: plain Rust on checked bounds.
            unsafe { grad_lanes::<super::lanes::Plain>(run, rows, dy.as_ptr(), cout, grad.as_mut_ptr()) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{Packed, Run, each, grad_lanes};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn forward_avx512(
        run: Run<'_, f32>,
        input: usize,
        w: &[Packed],
        out: *mut f32,
        product: usize,
    ) {
        // SAFETY: same contract.
        unsafe { each::<__m512>(run, input, w, out, product) }
    }
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn forward_avx2(run: Run<'_, f32>, input: usize, w: &[Packed], out: *mut f32, product: usize) {
        // SAFETY: same contract.
        unsafe { each::<__m256>(run, input, w, out, product) }
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn grad_avx512(
        run: Run<'_, f32>,
        rows: &[(usize, usize)],
        dy: *const f32,
        cout: usize,
        grad: *mut f32,
    ) {
        // SAFETY: same contract.
        unsafe { grad_lanes::<__m512>(run, rows, dy, cout, grad) }
    }
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn grad_avx2(
        run: Run<'_, f32>,
        rows: &[(usize, usize)],
        dy: *const f32,
        cout: usize,
        grad: *mut f32,
    ) {
        // SAFETY: same contract.
        unsafe { grad_lanes::<__m256>(run, rows, dy, cout, grad) }
    }
}

/// Calls `$f::<L, P, V>(args)` with `P = $p`, 1 to 12, known to the compiler.
macro_rules! with_rows {
    ($p:expr, $f:ident, [$($l:ty,)?], $v:literal, $args:tt) => {
        match $p {
            1 => call!($f, [$($l,)?], 1, $v, $args),
            2 => call!($f, [$($l,)?], 2, $v, $args),
            3 => call!($f, [$($l,)?], 3, $v, $args),
            4 => call!($f, [$($l,)?], 4, $v, $args),
            5 => call!($f, [$($l,)?], 5, $v, $args),
            6 => call!($f, [$($l,)?], 6, $v, $args),
            7 => call!($f, [$($l,)?], 7, $v, $args),
            8 => call!($f, [$($l,)?], 8, $v, $args),
            9 => call!($f, [$($l,)?], 9, $v, $args),
            10 => call!($f, [$($l,)?], 10, $v, $args),
            11 => call!($f, [$($l,)?], 11, $v, $args),
            _ => call!($f, [$($l,)?], 12, $v, $args),
        }
    };
}
macro_rules! call {
    ($f:ident, [$($l:ty,)?], $n:literal, $v:literal, ($($a:expr),*)) => { $f::<$($l,)? $n, $v>($($a),*) };
}

/// Rows of a register block: 12 with 32 registers, 6 with 16.
const fn block_rows<L: Lanes>() -> usize {
    if L::N == 16 { 12 } else { 6 }
}

/// # Safety
/// As [`forward_each`] checks.
#[inline(always)]
unsafe fn each<L: Lanes>(run: Run<'_, f32>, input: usize, w: &[Packed], out: *mut f32, product: usize) {
    for (i, w) in w.iter().enumerate() {
        // SAFETY: the caller's contract.
        unsafe { forward_lanes::<L>(Run { start: run.start + i * input, ..run }, w, out.add(i * product)) };
    }
}

/// # Safety
/// `run` must lie inside its slice, `out` be good for `run.n · w.cout` floats.
#[inline(always)]
unsafe fn forward_lanes<L: Lanes>(run: Run<'_, f32>, w: &Packed, out: *mut f32) {
    // Where the compiler knows how far apart pixels lie, they take one register together.
    // SAFETY: the caller's contract.
    unsafe {
        match (run.step, run.k, w.cout) {
            (16, 16, 16) => forward_apart::<L>(Run { step: 16, k: 16, ..run }, w, 16, out),
            (32, 32, 32) => forward_apart::<L>(Run { step: 32, k: 32, ..run }, w, 32, out),
            (64, 64, 64) => forward_apart::<L>(Run { step: 64, k: 64, ..run }, w, 64, out),
            (128, 128, 128) => forward_apart::<L>(Run { step: 128, k: 128, ..run }, w, 128, out),
            (.., cout) => forward_apart::<L>(run, w, cout, out),
        }
    }
}

/// # Safety
/// As [`forward_lanes`]; `cout` is that of `w`.
#[inline(always)]
unsafe fn forward_apart<L: Lanes>(run: Run<'_, f32>, w: &Packed, cout: usize, out: *mut f32) {
    let most = block_rows::<L>();
    let slab = run.taps.len() * run.k * BLOCK;
    for block in 0..cout.div_ceil(BLOCK) {
        let columns = (cout - block * BLOCK).min(BLOCK);
        let mut first = true;
        for (t, &tap) in run.taps.iter().enumerate() {
            for k0 in (0..run.k).step_by(K_BLOCK) {
                let k = (run.k - k0).min(K_BLOCK);
                // SAFETY: inside the packed weights and the checked run.
                unsafe {
                    let wk = w.data.as_ptr().add(block * slab + (t * run.k + k0) * columns);
                    let xk = run.x.as_ptr().add(run.start + tap + k0);
                    let mut p = 0;
                    while p < run.n {
                        let (x, y) = (xk.add(p * run.step), out.add(p * cout + block * BLOCK));
                        if L::N == 16 && columns == 16 && run.n - p >= 24 {
                            forward_block::<L, 24, 1>(x, run.step, k, wk, columns, y, cout, first);
                            p += 24;
                            continue;
                        }
                        let rows = (run.n - p).min(most);
                        let mut c = 0;
                        while c < columns {
                            let (wc, yc) = (wk.add(c), y.add(c));
                            if columns - c >= 2 * L::N {
                                with_rows!(
                                    rows,
                                    forward_block,
                                    [L,],
                                    2,
                                    (x, run.step, k, wc, columns, yc, cout, first)
                                );
                                c += 2 * L::N;
                            } else {
                                with_rows!(
                                    rows,
                                    forward_block,
                                    [L,],
                                    1,
                                    (x, run.step, k, wc, columns, yc, cout, first)
                                );
                                c += L::N;
                            }
                        }
                        p += rows;
                    }
                }
                first = false;
            }
        }
    }
}

/// `P` pixels × `V` registers of output channels, `k` products each.
///
/// # Safety
/// Pointers must be good for the block; the caller has the instruction set of `L`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "two operands, where they lie, and where the sums go")]
unsafe fn forward_block<L: Lanes, const P: usize, const V: usize>(
    x: *const f32,
    step: usize,
    k: usize,
    w: *const f32,
    columns: usize,
    y: *mut f32,
    ld: usize,
    first: bool,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [[L::splat(0.0); V]; P];
        if !first {
            for (p, row) in acc.iter_mut().enumerate() {
                for (v, a) in row.iter_mut().enumerate() {
                    *a = L::load(y.add(p * ld + v * L::N));
                }
            }
        }
        for i in 0..k {
            let mut wv = [L::splat(0.0); V];
            for (v, w_) in wv.iter_mut().enumerate() {
                *w_ = L::load(w.add(i * columns + v * L::N));
            }
            for (p, row) in acc.iter_mut().enumerate() {
                let xv = L::splat(*x.add(p * step + i));
                for (v, a) in row.iter_mut().enumerate() {
                    *a = xv.mul_add(wv[v], *a);
                }
            }
        }
        for (p, row) in acc.iter().enumerate() {
            for (v, a) in row.iter().enumerate() {
                a.store(y.add(p * ld + v * L::N));
            }
        }
    }
}

/// # Safety
/// As [`weight_grad`] checks.
#[inline(always)]
unsafe fn grad_lanes<L: Lanes>(
    run: Run<'_, f32>,
    rows: &[(usize, usize)],
    dy: *const f32,
    cout: usize,
    grad: *mut f32,
) {
    let most = block_rows::<L>();
    for (t, &tap) in run.taps.iter().enumerate() {
        let mut k = 0;
        while k < run.k {
            let ks = (run.k - k).min(most);
            let mut c = 0;
            while c < cout {
                // SAFETY: bounds were checked by the caller.
                unsafe {
                    let g = grad.add((t * run.k + k) * cout + c);
                    let x = run.x.as_ptr().add(tap + k);
                    let d = dy.add(c);
                    if cout - c >= 2 * L::N {
                        with_rows!(ks, grad_block, [L,], 2, (x, run.step, run.n, rows, d, cout, g));
                        c += 2 * L::N;
                    } else {
                        with_rows!(ks, grad_block, [L,], 1, (x, run.step, run.n, rows, d, cout, g));
                        c += L::N;
                    }
                }
            }
            k += ks;
        }
    }
}

/// # Safety
/// Pointers must be good for the block; the caller has the instruction set of `L`.
#[inline(always)]
unsafe fn grad_block<L: Lanes, const P: usize, const V: usize>(
    x: *const f32,
    step: usize,
    n: usize,
    rows: &[(usize, usize)],
    dy: *const f32,
    ld: usize,
    grad: *mut f32,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [[L::splat(0.0); V]; P];
        for &(x0, y0) in rows {
            for i in 0..n {
                let d = dy.add(y0 + i * ld);
                let mut dv = [L::splat(0.0); V];
                for (v, d_) in dv.iter_mut().enumerate() {
                    *d_ = L::load(d.add(v * L::N));
                }
                for (p, row) in acc.iter_mut().enumerate() {
                    let xv = L::splat(*x.add(x0 + i * step + p));
                    for (v, a) in row.iter_mut().enumerate() {
                        *a = xv.mul_add(dv[v], *a);
                    }
                }
            }
        }
        let one = L::splat(1.0);
        for (p, row) in acc.iter().enumerate() {
            for (v, a) in row.iter().enumerate() {
                let g = grad.add(p * ld + v * L::N);
                a.mul_add(one, L::load(g)).store(g);
            }
        }
    }
}

pub(super) use {call, with_rows};

#[cfg(test)]
#[path = "gemm_tests.rs"]
mod tests;
