// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the gradient of weights in bfloat16 reads: its inner dimension is pixels, not channels.

use half::bf16;

/// `planes[c][q] = x[q][c]`, sixteen pixels by sixteen channels at a time.
pub(super) fn transpose(x: &[bf16], c: usize, planes: &mut [bf16], plane: usize) {
    let n = x.len() / c;
    for q0 in (0..n).step_by(16) {
        let qs = (n - q0).min(16);
        for c0 in (0..c).step_by(16) {
            let mut block = [[bf16::ZERO; 16]; 16];
            for (q, row) in block.iter_mut().enumerate().take(qs) {
                row.copy_from_slice(&x[(q0 + q) * c + c0..][..16]);
            }
            for i in 0..16 {
                let out = &mut planes[(c0 + i) * plane + q0..][..qs];
                for (q, o) in out.iter_mut().enumerate() {
                    *o = block[q][i];
                }
            }
        }
    }
}

/// `pairs[q/2][c][q%2] = dy[q][c]` for the first `n` pixels.
pub(super) fn interleave(dy: &[bf16], n: usize, c: usize, pairs: &mut [bf16]) {
    for (q, out) in pairs.chunks_exact_mut(2 * c).enumerate() {
        if 2 * q >= n {
            break;
        }
        let a = &dy[2 * q * c..][..c];
        let b = &dy[(2 * q + 1) * c..][..c];
        let odd = 2 * q + 1 < n;
        for ((o, a), b) in out.chunks_exact_mut(2).zip(a).zip(b) {
            o[0] = *a;
            o[1] = if odd { *b } else { bf16::ZERO };
        }
    }
}
