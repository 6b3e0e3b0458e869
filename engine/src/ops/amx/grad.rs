// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of a 3×3 kernel's weights on AMX tiles, in bfloat16.
//!
//! `grad[tap][c][o] += Σ_p x[c][p] · dy[p − shift(tap)][o]`. Both factors are rearranged: `x` to a plane for each
//! channel, `dy` to pairs of neighbouring pixels, twice, from an even pixel on and from an odd one. So `dy` can be shifted
//! by any tap while every row of every tile lies in one line of the caches.

use half::bf16;

use super::SIDE;
use crate::ops::{
    map::Map,
    planes::{TURNED, interleave, transpose},
};

/// Values of a line of the caches.
const LINE: usize = 32;
/// Pixels of 32 channels of both factors, 32 KiB, that all taps read before the next ones take their turn.
const PART: usize = 256;

/// Two factors, ready for the tiles.
struct Factors<'a> {
    /// Planes of `plane` values, `pixels` of them used, for each of `cin` channels.
    x: &'a [bf16],
    plane: usize,
    cin: usize,
    /// A multiple of 32.
    pixels: usize,
    /// `[block of 16 channels][pair of pixels][16][2]`, where a tap begins in it, `pairs` to a block.
    dy: [&'a [bf16]; 9],
    pairs: usize,
    cout: usize,
}

/// Adds the gradient of a 3×3 kernel's weights, `[tap][cin][cout]`; both maps hold all their lines, channels are multiples
/// of 16. Only where [`crate::ops::Cpu::bf16`] says AMX.
pub(crate) fn weight_grad(x: &Map<bf16>, dy: &Map<bf16>, grad: &mut [f32], scratch: &mut Vec<bf16>) {
    let (cin, cout, width) = (x.c, dy.c, x.w + 2);
    assert!((x.h, x.w) == (dy.h, dy.w) && x.lines == x.h && dy.lines == dy.h);
    assert!(cin % SIDE == 0 && cout % SIDE == 0 && grad.len() >= 9 * cin * cout);
    // From the first pixel to the last, with the border between lines, where x is zero.
    let used = x.h * width - 2;
    let pixels = used.next_multiple_of(TURNED);
    // Lines of neighbouring planes go to different sets of the cache.
    let plane = ((pixels / TURNED) | 1) * TURNED;
    let pairs = pixels / 2 + width + 1;
    let (planes, shifted) = (cin * plane, 2 * pairs * cout);
    scratch.resize(scratch.len().max(planes + 2 * shifted + LINE), bf16::ZERO);
    let aligned = scratch.as_ptr().align_offset(size_of::<[bf16; LINE]>()).min(LINE);
    let (planes, rest) = scratch[aligned..].split_at_mut(planes);
    let (even, odd) = rest.split_at_mut(shifted);
    transpose(&x.data[x.at(0, 0)..][..used * cin], cin, planes, plane);
    let all = &dy.data[..(dy.h + 2) * dy.pitch()];
    interleave(all, cout, pairs, (2 * SIDE, 2 * SIDE * pairs), even);
    interleave(&all[cout..], cout, pairs, (2 * SIDE, 2 * SIDE * pairs), odd);
    let of_tap = |t: usize| {
        let first = (2 - t / 3) * width + 2 - t % 3;
        let from: &[bf16] = if first % 2 == 0 { even } else { odd };
        &from[first / 2 * 2 * SIDE..]
    };
    let factors = Factors { x: planes, plane, cin, pixels, dy: std::array::from_fn(of_tap), pairs, cout };
    // SAFETY: the last tap that begins in a factor begins `width + 1` pairs into it, and reads `pixels / 2`; the caller has
    // asked the processor for AMX.
    unsafe { tiles::weight_grad(&factors, grad) }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles {
    use super::{
        super::tiles::{CONFIG, tile},
        Factors, PART, SIDE,
    };

    /// # Safety
    /// Factors and gradient are as long as their sizes say; the processor has AMX.
    pub unsafe fn weight_grad(f: &Factors<'_>, grad: &mut [f32]) {
        // SAFETY: the caller's contract.
        unsafe {
            tile!("ldtilecfg [{c}]"; c = &CONFIG);
            for c in (0..f.cin).step_by(2 * SIDE) {
                for o in (0..f.cout).step_by(2 * SIDE) {
                    for q in (0..f.pixels).step_by(PART) {
                        for tap in 0..9 {
                            let grad = grad.as_mut_ptr().add((tap * f.cin + c) * f.cout + o);
                            match (f.cin - c > SIDE, f.cout - o > SIDE) {
                                (false, false) => block::<1, 1>(f, tap, (c, o), q, grad),
                                (false, true) => block::<1, 2>(f, tap, (c, o), q, grad),
                                (true, false) => block::<2, 1>(f, tap, (c, o), q, grad),
                                (true, true) => block::<2, 2>(f, tap, (c, o), q, grad),
                            }
                        }
                    }
                }
            }
            tile!("tilerelease");
        }
    }

    /// [`PART`] pixels from q on of `I` tiles of input channels and `O` of output channels.
    ///
    /// # Safety
    /// As [`weight_grad`]; tiles are configured.
    #[inline(always)]
    unsafe fn block<const I: usize, const O: usize>(
        f: &Factors<'_>,
        tap: usize,
        (c, o): (usize, usize),
        q: usize,
        grad: *mut f32,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let (row, step) = (f.cout * 4, f.plane * 2);
            let below = grad.add(SIDE * f.cout);
            tile!("tileloadd tmm0, [{g} + {s}]"; g = grad, s = row);
            if O == 2 {
                tile!("tileloadd tmm1, [{g} + {s}]"; g = grad.add(SIDE), s = row);
            }
            if I == 2 {
                tile!("tileloadd tmm2, [{g} + {s}]"; g = below, s = row);
            }
            if (I, O) == (2, 2) {
                tile!("tileloadd tmm3, [{g} + {s}]"; g = below.add(SIDE), s = row);
            }
            let x = f.x.as_ptr().add(c * f.plane);
            let dy = f.dy[tap].as_ptr().add(o * 2 * f.pairs);
            for q in (q..f.pixels.min(q + PART)).step_by(32) {
                let (a, a2) = (x.add(q), x.add(q + (I - 1) * SIDE * f.plane));
                let (b, b2) = (dy.add(q * SIDE), dy.add((q + (O - 1) * 2 * f.pairs) * SIDE));
                match (I, O) {
                    (1, 1) => tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                        "tdpbf16ps tmm0, tmm4, tmm6"; a = a, b = b, s = step, t = 64usize),
                    (1, 2) => tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                        "tileloadd tmm7, [{d} + {t}]", "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7"; a = a, b = b, d = b2, s = step, t = 64usize),
                    (2, 1) => tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                        "tileloadd tmm5, [{c} + {s}]", "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm2, tmm5, tmm6"; a = a, c = a2, b = b, s = step, t = 64usize),
                    _ => tile!("tileloadd tmm4, [{a} + {s}]", "tileloadd tmm6, [{b} + {t}]",
                        "tdpbf16ps tmm0, tmm4, tmm6", "tileloadd tmm7, [{d} + {t}]",
                        "tdpbf16ps tmm1, tmm4, tmm7", "tileloadd tmm5, [{c} + {s}]",
                        "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7";
                        a = a, c = a2, b = b, d = b2, s = step, t = 64usize),
                }
            }
            tile!("tilestored [{g} + {s}], tmm0"; g = grad, s = row);
            if O == 2 {
                tile!("tilestored [{g} + {s}], tmm1"; g = grad.add(SIDE), s = row);
            }
            if I == 2 {
                tile!("tilestored [{g} + {s}], tmm2"; g = below, s = row);
            }
            if (I, O) == (2, 2) {
                tile!("tilestored [{g} + {s}], tmm3"; g = below.add(SIDE), s = row);
            }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod tiles {
    pub unsafe fn weight_grad(_: &super::Factors<'_>, _: &mut [f32]) {
        unreachable!("Cpu::bf16 is not AMX here")
    }
}
