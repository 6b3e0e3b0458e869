// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the gradient of weights in bfloat16 reads: its inner dimension is pixels, not channels.

use half::bf16;

/// Pixels that are turned together; planes have a multiple of them.
pub(super) const TURNED: usize = 32;
/// Channels that are turned together.
const SIDE: usize = 16;

/// `planes[c][q] = x[q][c]`, zeros up to the next multiple of [`TURNED`]; `plane` values from one to the next. Only where
/// [`super::Cpu::bf16`] says that there is bfloat16.
pub(super) fn transpose(x: &[bf16], c: usize, planes: &mut [bf16], plane: usize) {
    assert!(c % SIDE == 0 && (x.len() / c).next_multiple_of(TURNED) <= plane && planes.len() >= c * plane);
    // SAFETY: the caller has asked the processor for bfloat16.
    unsafe { x86::transpose(x, c, planes, plane) }
}

/// `pairs` gets neighbouring pixels value by value: two of 16 channels at `row * per_row + block * per_block`, for `rows`
/// pairs; zeros behind the last pixel. Only where [`super::Cpu::bf16`] says that there is bfloat16.
pub(super) fn interleave(
    x: &[bf16],
    c: usize,
    rows: usize,
    (per_row, per_block): (usize, usize),
    pairs: &mut [bf16],
) {
    assert!(c % SIDE == 0);
    // SAFETY: the caller has asked the processor for bfloat16.
    unsafe { x86::interleave(x, c, rows, (per_row, per_block), pairs) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::{SIDE, TURNED};

    const ZEROS: &[bf16; SIDE] = &[bf16::ZERO; SIDE];

    /// # Safety
    /// The caller has AVX-512 with words.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn transpose(x: &[bf16], c: usize, planes: &mut [bf16], plane: usize) {
        let n = x.len() / c;
        for q in (0..n).step_by(TURNED) {
            for k in (0..c).step_by(SIDE) {
                let row = |p: usize| match p < n {
                    true => x[p * c + k..].first_chunk().expect("channels are whole blocks"),
                    false => ZEROS,
                };
                let turned = turn(std::array::from_fn(|i| pair(row(q + 2 * i), row(q + 2 * i + 1))));
                for (column, values) in planes[k * plane + q..].chunks_mut(plane).zip(turned) {
                    store(values, column);
                }
            }
        }
    }

    /// # Safety
    /// As [`transpose`].
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn interleave(
        x: &[bf16],
        c: usize,
        rows: usize,
        (per_row, per_block): (usize, usize),
        pairs: &mut [bf16],
    ) {
        let of = |pixel: &'_ [bf16], k: usize| *pixel[k..].first_chunk::<SIDE>().unwrap_or(ZEROS);
        let (whole, last) = (x.chunks_exact(2 * c), &x[x.len() / (2 * c) * 2 * c..]);
        for (block, k) in (0..c).step_by(SIDE).enumerate() {
            let mut to = pairs[block * per_block..].chunks_mut(per_row).take(rows);
            for (two, to) in whole.clone().zip(&mut to) {
                store(pair(&of(two, k), &of(&two[c..], k)), to);
            }
            for (one, to) in last.chunks_exact(c).zip(&mut to) {
                store(pair(&of(one, k), ZEROS), to);
            }
            to.for_each(|to| store(_mm512_setzero_si512(), to));
        }
    }

    /// Two pixels in each of 16 lanes, a channel each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn pair(a: &[bf16; SIDE], b: &[bf16; SIDE]) -> __m512i {
        const WORDS: [i16; TURNED] = {
            let mut words = [0; TURNED];
            let mut i = 0;
            while i < TURNED {
                words[i] = (i / 2 + i % 2 * SIDE) as i16;
                i += 1;
            }
            words
        };
        // SAFETY: all three are as long as a register, or half of one.
        unsafe {
            let [a, b] = [a, b].map(|pixel| _mm256_loadu_si256(pixel.as_ptr().cast()));
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
            _mm512_permutexvar_epi16(_mm512_loadu_si512(WORDS.as_ptr().cast()), both)
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(values: __m512i, to: &mut [bf16]) {
        let to: &mut [bf16; TURNED] = to.first_chunk_mut().expect("room for a register");
        // SAFETY: it is as long as a register.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), values) }
    }

    /// A matrix of 16×16 pairs, its columns and rows exchanged.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turn(rows: [__m512i; SIDE]) -> [__m512i; SIDE] {
        let (low, high) = (_mm512_unpacklo_epi64, _mm512_unpackhi_epi64);
        let twos: [[__m512i; 2]; 8] = std::array::from_fn(|j| {
            let (a, b) = (rows[2 * j], rows[2 * j + 1]);
            [_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)]
        });
        // Column 4·lane + i of rows 4j to 4j + 3 is in that lane of `fours[j][i]`.
        let fours: [[__m512i; 4]; 4] = std::array::from_fn(|j| {
            let ([a, b], [c, d]) = (twos[2 * j], twos[2 * j + 1]);
            [low(a, c), high(a, c), low(b, d), high(b, d)]
        });
        let mut turned = [_mm512_setzero_si512(); SIDE];
        for i in 0..4 {
            let [a, b, c, d] = fours.map(|four| four[i]);
            let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
            let (even2, odd2) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
            turned[i] = _mm512_shuffle_i32x4::<0x88>(even, even2);
            turned[4 + i] = _mm512_shuffle_i32x4::<0x88>(odd, odd2);
            turned[8 + i] = _mm512_shuffle_i32x4::<0xdd>(even, even2);
            turned[12 + i] = _mm512_shuffle_i32x4::<0xdd>(odd, odd2);
        }
        turned
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod x86 {
    use half::bf16;

    pub unsafe fn transpose(_: &[bf16], _: usize, _: &mut [bf16], _: usize) {
        unreachable!("Cpu::bf16 is none here")
    }
    pub unsafe fn interleave(_: &[bf16], _: usize, _: usize, _: (usize, usize), _: &mut [bf16]) {
        unreachable!("Cpu::bf16 is none here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Bf16;

    #[test]
    fn pixels_are_turned_and_paired_and_zeros_follow() {
        for (n, c) in [(1, 16), (31, 32), (32, 16), (33, 48), (130, 64)] {
            let x: Vec<bf16> = (0..n * c).map(|i| bf16::from_bits(1 + i as u16)).collect();
            let at = |q: usize, k: usize| if q < n { x[q * c + k] } else { bf16::ZERO };
            if !Bf16::Avx512.available() {
                return;
            }
            let (whole, plane) = (n.next_multiple_of(TURNED), n.next_multiple_of(TURNED) + 32);
            let mut planes = vec![bf16::NAN; c * plane];
            transpose(&x, c, &mut planes, plane);
            for (i, got) in planes.iter().enumerate() {
                let (k, q) = (i / plane, i % plane);
                let want = if q < whole { at(q, k) } else { bf16::NAN };
                assert_eq!(got.to_bits(), want.to_bits(), "{n} pixels, channel {k}, pixel {q}");
            }
            let rows = n / 2 + 2;
            for (per_row, per_block) in [(2 * c, 32), (32, 32 * rows)] {
                let mut pairs = vec![bf16::NAN; 2 * rows * c];
                interleave(&x, c, rows, (per_row, per_block), &mut pairs);
                for (q, k) in (0..2 * rows * c).map(|i| (i / c, i % c)) {
                    let place = q / 2 * per_row + k / 16 * per_block + k % 16 * 2 + q % 2;
                    assert_eq!(
                        pairs[place].to_bits(),
                        at(q, k).to_bits(),
                        "{n} pixels, channel {k}, pixel {q}"
                    );
                }
            }
        }
    }
}
