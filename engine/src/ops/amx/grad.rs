// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of a kernel's weights on AMX tiles, in bfloat16.

use half::bf16;

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
    use half::bf16;

    use super::super::tiles::{CONFIG, tile};

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
