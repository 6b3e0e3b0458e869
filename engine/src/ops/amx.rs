// SPDX-License-Identifier: MIT OR Apache-2.0
//! The products of [`super::gemm`] in bfloat16 on AMX tiles, sums in f32.
//!
//! A tile of activations is read straight out of the channels-last map (16 pixels, `step` apart,
//! 32 values of k each): nothing is rearranged. Taps whose length is no multiple of 32 read on into
//! the next pixel against zero weights, so maps carry [`SLACK`] finite values behind their end.

use half::bf16;

use super::{gemm::Run, map::Value};

/// Values that a tap is rounded up to.
const K: usize = 32;
/// Pixels that one step computes.
const PIXELS: usize = 32;
/// Values of one packed weight tile.
const TILE: usize = 512;

/// Pixels and values of k that a run may read beyond its own.
pub(crate) fn overrun(n: usize, k: usize) -> (usize, usize) {
    (n.next_multiple_of(PIXELS), k.next_multiple_of(K))
}

/// Weights as the tiles want them: `[block of 16 channels][tap][k/32][16 pairs of k][16 channels][2]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packed {
    data: Vec<bf16>,
    /// Output channels, padded to 16.
    pub cout: usize,
}

impl Packed {
    /// `w`: `[tap][k][cout]`; `cout` is padded to a multiple of 16, k to one of 32.
    pub fn pack(&mut self, k: usize, cout: usize, w: &[f32]) {
        self.cout = cout.next_multiple_of(16);
        let taps = w.len() / (k * cout);
        self.data.clear();
        self.data.resize(self.cout / 16 * taps * k.div_ceil(K) * TILE, bf16::ZERO);
        let tiles = taps * k.div_ceil(K);
        for (row, w) in w.chunks_exact(cout).enumerate() {
            let (tap, i) = (row / k, row % k);
            let tile = tap * k.div_ceil(K) + i / K;
            for (block, w) in w.chunks(16).enumerate() {
                let at = (block * tiles + tile) * TILE + i % K / 2 * 32 + i % 2;
                for (o, w) in w.iter().enumerate() {
                    self.data[at + 2 * o] = <bf16 as Value>::from_f32(*w);
                }
            }
        }
    }
}

/// `out[p][o]` for `run.n` pixels, rows of `weights.cout` floats; `out` holds the pixels rounded up
/// to 32, what is beyond `run.n` is undefined. Only where [`super::Cpu::bf16`] says so.
pub(crate) fn forward(run: Run<'_, bf16>, weights: &Packed, out: &mut [f32]) {
    let (pixels, k) = overrun(run.n, run.k);
    run.check(pixels, k);
    assert!(out.len() >= pixels * weights.cout);
    assert_eq!(weights.data.len(), weights.cout / 16 * run.taps.len() * k / K * TILE);
    // SAFETY: bounds were checked; the caller has asked the processor for AMX.
    unsafe { tiles::forward(run, k / K, weights, out.as_mut_ptr()) }
}

/// Adds the gradient of a 3×3 kernel's weights: `grad[tap][c][o] += Σ_q x[c][q + shift(tap)] · dy[q][o]`.
///
/// - `x`: channel planes of `plane` values each, `cin` (multiple of 16) of them.
/// - `shifts`: where each tap begins in a plane.
/// - `dy`: `[q/2][cout][2]`, `q` running over `pixels`, a multiple of 32; `cout` a multiple of 16.
/// - `grad`: `[tap][cin][cout]`.
#[allow(clippy::too_many_arguments, reason = "two operands, their shapes, and where the sums go")]
pub(crate) fn weight_grad(
    x: &[bf16],
    plane: usize,
    cin: usize,
    shifts: &[usize],
    dy: &[bf16],
    pixels: usize,
    cout: usize,
    grad: &mut [f32],
) {
    assert!(pixels % 32 == 0 && cin % 16 == 0 && cout % 16 == 0);
    assert!(x.len() >= cin * plane && shifts.iter().all(|s| s + pixels <= plane));
    assert!(dy.len() >= pixels * cout && grad.len() >= shifts.len() * cin * cout);
    // SAFETY: bounds were checked; the caller has asked the processor for AMX.
    unsafe { tiles::weight_grad(x, plane, cin, shifts, dy, pixels, cout, grad) }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles {
    use std::arch::asm;

    use half::bf16;

    use super::{PIXELS, Packed, Run, TILE};

    /// Eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Config([u8; 64]);

    const CONFIG: Config = {
        let mut c = [0u8; 64];
        c[0] = 1;
        let mut i = 0;
        while i < 8 {
            c[16 + 2 * i] = 64;
            c[48 + i] = 16;
            i += 1;
        }
        Config(c)
    };

    // The compiler never uses tile registers, so they keep their values from one block to the next.
    macro_rules! tile {
        ($($line:literal),+ $(; $($name:ident = $value:expr),*)?) => {
            asm!($($line),+ $(, $($name = in(reg) $value),*)?, options(nostack, preserves_flags))
        };
    }

    pub unsafe fn forward(run: Run<'_, bf16>, ks: usize, w: &Packed, out: *mut f32) {
        let step = run.step * 2;
        let slab = run.taps.len() * ks * TILE;
        // SAFETY: `super::forward` checked every bound.
        unsafe {
            tile!("ldtilecfg [{c}]"; c = &CONFIG);
            for p in (0..run.n).step_by(PIXELS) {
                let two = run.n - p > 16;
                let x = run.x.as_ptr().add(run.start + p * run.step);
                let mut o = 0;
                while o < w.cout {
                    let wide = w.cout - o >= 32;
                    let b = w.data.as_ptr().add(o / 16 * slab);
                    let b2 = if wide { b.add(slab) } else { b };
                    tile!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3");
                    let mut offset = 0;
                    for &tap in run.taps {
                        for i in 0..ks {
                            let a = x.add(tap + i * 32);
                            let a2 = if two { a.add(16 * run.step) } else { a };
                            let (b, b2) = (b.add(offset), b2.add(offset));
                            match (two, wide) {
                                (true, true) => {
                                    tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                                    "tdpbf16ps tmm0, tmm4, tmm6", "tileloadd tmm7, [{d} + {t}]",
                                    "tdpbf16ps tmm1, tmm4, tmm7", "tileloadd tmm5, [{c} + {s}]",
                                    "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7";
                                    a = a, c = a2, b = b, d = b2, s = step, t = 64usize)
                                }
                                (true, false) => {
                                    tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                                    "tileloadd tmm5, [{c} + {s}]", "tdpbf16ps tmm0, tmm4, tmm6",
                                    "tdpbf16ps tmm2, tmm5, tmm6"; a = a, c = a2, b = b, s = step, t = 64usize)
                                }
                                (false, true) => {
                                    tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                                    "tileloadd tmm7, [{d} + {t}]", "tdpbf16ps tmm0, tmm4, tmm6",
                                    "tdpbf16ps tmm1, tmm4, tmm7"; a = a, b = b, d = b2, s = step, t = 64usize)
                                }
                                (false, false) => {
                                    tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                                    "tdpbf16ps tmm0, tmm4, tmm6"; a = a, b = b, s = step, t = 64usize)
                                }
                            }
                            offset += TILE;
                        }
                    }
                    let y = out.add(p * w.cout + o);
                    let y2 = y.add(16 * w.cout);
                    let ld = w.cout * 4;
                    tile!("tilestored [{y} + {s}], tmm0"; y = y, s = ld);
                    if wide {
                        tile!("tilestored [{y} + {s}], tmm1"; y = y.add(16), s = ld);
                    }
                    if two {
                        tile!("tilestored [{y} + {s}], tmm2"; y = y2, s = ld);
                        if wide {
                            tile!("tilestored [{y} + {s}], tmm3"; y = y2.add(16), s = ld);
                        }
                    }
                    o += if wide { 32 } else { 16 };
                }
            }
            tile!("tilerelease");
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub unsafe fn weight_grad(
        x: &[bf16],
        plane: usize,
        cin: usize,
        shifts: &[usize],
        dy: &[bf16],
        pixels: usize,
        cout: usize,
        grad: &mut [f32],
    ) {
        let (sa, sb, ld) = (plane * 2, cout * 4, cout * 4);
        // SAFETY: `super::weight_grad` checked every bound.
        unsafe {
            tile!("ldtilecfg [{c}]"; c = &CONFIG);
            for (t, &shift) in shifts.iter().enumerate() {
                for c in (0..cin).step_by(32) {
                    let two = cin - c >= 32;
                    let a = x.as_ptr().add(c * plane + shift);
                    let a2 = if two { a.add(16 * plane) } else { a };
                    for o in (0..cout).step_by(32) {
                        let wide = cout - o >= 32;
                        let b = dy.as_ptr().add(o * 2);
                        let b2 = if wide { b.add(32) } else { b };
                        let g = grad.as_mut_ptr().add((t * cin + c) * cout + o);
                        let g2 = if two { g.add(16 * cout) } else { g };
                        tile!("tileloadd tmm0, [{g} + {s}]"; g = g, s = ld);
                        if wide {
                            tile!("tileloadd tmm1, [{g} + {s}]"; g = g.add(16), s = ld);
                        }
                        if two {
                            tile!("tileloadd tmm2, [{g} + {s}]"; g = g2, s = ld);
                            if wide {
                                tile!("tileloadd tmm3, [{g} + {s}]"; g = g2.add(16), s = ld);
                            }
                        }
                        for q in (0..pixels).step_by(32) {
                            let (a, a2) = (a.add(q), a2.add(q));
                            let (b, b2) = (b.add(q * cout), b2.add(q * cout));
                            match (two, wide) {
                                (true, true) => {
                                    tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                                    "tdpbf16ps tmm0, tmm4, tmm6", "tileloadd tmm7, [{d} + {t}]",
                                    "tdpbf16ps tmm1, tmm4, tmm7", "tileloadd tmm5, [{c} + {s}]",
                                    "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7";
                                    a = a, c = a2, b = b, d = b2, s = sa, t = sb)
                                }
                                (true, false) => {
                                    tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                                    "tileloadd tmm5, [{c} + {s}]", "tdpbf16ps tmm0, tmm4, tmm6",
                                    "tdpbf16ps tmm2, tmm5, tmm6"; a = a, c = a2, b = b, s = sa, t = sb)
                                }
                                (false, true) => {
                                    tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                                    "tileloadd tmm7, [{d} + {t}]", "tdpbf16ps tmm0, tmm4, tmm6",
                                    "tdpbf16ps tmm1, tmm4, tmm7"; a = a, b = b, d = b2, s = sa, t = sb)
                                }
                                (false, false) => {
                                    tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                                    "tdpbf16ps tmm0, tmm4, tmm6"; a = a, b = b, s = sa, t = sb)
                                }
                            }
                        }
                        tile!("tilestored [{g} + {s}], tmm0"; g = g, s = ld);
                        if wide {
                            tile!("tilestored [{g} + {s}], tmm1"; g = g.add(16), s = ld);
                        }
                        if two {
                            tile!("tilestored [{g} + {s}], tmm2"; g = g2, s = ld);
                            if wide {
                                tile!("tilestored [{g} + {s}], tmm3"; g = g2.add(16), s = ld);
                            }
                        }
                    }
                }
            }
            tile!("tilerelease");
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod tiles {
    use half::bf16;

    use super::{Packed, Run};

    pub unsafe fn forward(_: Run<'_, bf16>, _: usize, _: &Packed, _: *mut f32) {
        unreachable!("Cpu::bf16 is not AMX here")
    }
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn weight_grad(
        _: &[bf16],
        _: usize,
        _: usize,
        _: &[usize],
        _: &[bf16],
        _: usize,
        _: usize,
        _: &mut [f32],
    ) {
        unreachable!("Cpu::bf16 is not AMX here")
    }
}
