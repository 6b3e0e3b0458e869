// SPDX-License-Identifier: MIT OR Apache-2.0
//! The f32 kernels against plain sums, to the bit, on every instruction set.

use super::*;
use proptest::prelude::*;

fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut s = seed.wrapping_mul(2654435761).wrapping_add(12345);
    (0..n)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 17;
            s ^= s << 5;
            (s >> 8) as f32 / 8388608.0 - 1.0
        })
        .collect()
}

proptest! {
    #[test]
    fn forward_equals_the_plain_sum(n in 1usize..40, k in 1usize..300, taps in 1usize..4, cout in 1usize..80, step in 1usize..50, seed: u32) {
        let offsets: Vec<usize> = (0..taps).map(|t| t * (k + 3)).collect();
        let x = values(5 + n * step + taps * (k + 3) + k, seed);
        let w = values(taps * k * cout, seed ^ 1);
        let run = Run { x: &x, start: 5, step, taps: &offsets, k, n };
        let packed = Packed::new(cout, &w);
        let mut want = vec![0.0f32; n * packed.cout];
        for p in 0..n { for o in 0..cout { let mut s = 0.0f32; for t in 0..taps { for i in 0..k {
            s = x[5 + p * step + offsets[t] + i].mul_add(w[(t * k + i) * cout + o], s);
        } } want[p * packed.cout + o] = s; } }
        for isa in Isa::every() {
            let mut got = vec![f32::NAN; n * packed.cout];
            forward(isa, run, &packed, &mut got);
            prop_assert_eq!(&got, &want, "{:?}", isa);
        }
    }

    #[test]
    fn weight_grad_equals_the_plain_sum(n in 1usize..20, rows in 1usize..4, k in 1usize..40, cout16 in 1usize..5, seed: u32) {
        let cout = cout16 * 16;
        let taps = [0, 7];
        let rows: Vec<(usize, usize)> = (0..rows).map(|r| (3 + r * (n * 4 + 50), r * n * cout)).collect();
        let x = values(rows.len() * (n * 4 + 50) + k + 20, seed);
        let dy = values(rows.len() * n * cout, seed ^ 2);
        let run = Run { x: &x, start: 0, step: 4, taps: &taps, k, n };
        let mut want = vec![1.0f32; 2 * k * cout];
        for t in 0..2 { for i in 0..k { for o in 0..cout { let mut s = 0.0f32; for &(x0, y0) in &rows { for p in 0..n {
            s = x[x0 + p * 4 + taps[t] + i].mul_add(dy[y0 + p * cout + o], s);
        } } want[(t * k + i) * cout + o] += s; } } }
        for isa in Isa::every() {
            let mut got = vec![1.0f32; 2 * k * cout];
            weight_grad(isa, run, &rows, &dy, cout, &mut got);
            prop_assert_eq!(&got, &want, "{:?}", isa);
        }
    }
}
