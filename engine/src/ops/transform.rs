// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Bᵀ d B`: squares of 4×4 inputs to the points that [`super::winograd`] multiplies.

use super::{
    isa::Isa,
    lanes::{Lanes, Plain},
    map::Value,
    same3::Kernel,
    winograd::{LANES, POINTS},
};

/// `out[point][square][c] = Bᵀ d B` for `n` squares, two pixels apart, `lines` the offsets of their
/// four rows; `point` values from one point to the next.
pub(super) fn transform<T: Kernel>(
    isa: Isa,
    x: &[T],
    lines: [usize; 4],
    c: usize,
    out: &mut [T],
    point: usize,
    n: usize,
) {
    assert!(c % LANES == 0 && n * c <= point && out.len() >= (POINTS - 1) * point + n * c);
    let lines = lines.map(|line| x[line..][..(2 * n + 2) * c].as_ptr());
    let out = out.as_mut_ptr();
    match isa {
        // SAFETY: `Isa` says that the processor has it; bounds were checked above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if T::ROUNDED => unsafe { x86::transform_bf16(lines, c, out, point, n) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::transform_avx512(lines, c, out, point, n) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::transform_avx2(lines, c, out, point, n) },
        // SAFETY: plain Rust on checked bounds.
        _ => unsafe { transform_lanes::<Plain, T>(lines, c, out, point, n) },
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{Kernel, transform_lanes};

    macro_rules! compile {
        ($transform:ident, $lanes:ty, $features:literal) => {
            #[target_feature(enable = $features)]
            pub unsafe fn $transform<T: Kernel>(
                x: [*const T; 4],
                c: usize,
                out: *mut T,
                point: usize,
                n: usize,
            ) {
                // SAFETY: same contract.
                unsafe { transform_lanes::<$lanes, T>(x, c, out, point, n) }
            }
        };
    }
    compile!(transform_avx512, __m512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
    compile!(transform_bf16, __m512, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma");
    compile!(transform_avx2, __m256, "avx2,fma");
}

/// `Bᵀ d`.
///
/// # Safety
/// The caller has the instruction set of `L`.
#[inline(always)]
unsafe fn differences<L: Lanes>(d: [L; 4]) -> [L; 4] {
    // SAFETY: the caller's contract.
    unsafe { [d[0].minus(d[2]), d[1].plus(d[2]), d[2].minus(d[1]), d[1].minus(d[3])] }
}

/// `Bᵀ d` of one column of pixels.
///
/// # Safety
/// The lines must be good for a register from `at` on; the caller has the instruction set of `L`.
#[inline(always)]
unsafe fn column<L: Lanes, T: Value>(lines: [*const T; 4], at: usize) -> [L; 4] {
    // SAFETY: the caller's contract.
    unsafe {
        differences([
            T::load(lines[0].add(at)),
            T::load(lines[1].add(at)),
            T::load(lines[2].add(at)),
            T::load(lines[3].add(at)),
        ])
    }
}

/// # Safety
/// As [`transform`] checks.
#[inline(always)]
unsafe fn transform_lanes<L: Lanes, T: Value>(
    lines: [*const T; 4],
    c: usize,
    out: *mut T,
    point: usize,
    n: usize,
) {
    // SAFETY: the lines hold 2n + 2 pixels of c values, `out` sixteen points of at least n·c.
    unsafe {
        for i in (0..c).step_by(L::N) {
            // A square shares its last two columns with the next.
            let (mut a, mut b): ([L; 4], [L; 4]) = (column(lines, i), column(lines, c + i));
            for square in 0..n {
                let right = (2 * square + 2) * c + i;
                let (p, q) = (column(lines, right), column(lines, right + c));
                let to = out.add(square * c + i);
                for row in 0..4 {
                    let points = differences([a[row], b[row], p[row], q[row]]);
                    for (j, both) in points.as_chunks::<2>().0.iter().enumerate() {
                        let at = to.add((4 * row + 2 * j) * point);
                        T::store_both(*both, [at, at.add(point)]);
                    }
                }
                (a, b) = (p, q);
            }
        }
    }
}
