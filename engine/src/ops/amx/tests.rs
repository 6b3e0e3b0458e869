// SPDX-License-Identifier: MIT OR Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::{
    noise::Stream,
    ops::{Bf16, Int8, finish::Sums, lanes::Lanes},
};

/// What each place was given, and how often.
struct Kept {
    rows: [Vec<Option<f32>>; 2],
    c: usize,
}

impl Finish for Kept {
    fn fits(&self, rows: usize, w: usize, c: usize) -> bool {
        rows <= 2 && c == self.c && w * c <= self.rows[0].len()
    }

    unsafe fn take<L: Lanes>(&mut self, sums: L, row: usize, x: usize, channel: usize) {
        let mut values = [0.0; 16];
        assert!(L::N <= 16);
        // SAFETY: there is room for a register.
        unsafe { sums.store(values.as_mut_ptr()) };
        for (place, value) in self.rows[row][x * self.c + channel..].iter_mut().zip(&values[..L::N]) {
            assert!(place.replace(*value).is_none(), "each sum once");
        }
    }
}

proptest! {
    /// Whole numbers: sums are exact in whatever order, so they must be equal to the bit.
    #[test]
    fn tiles_equal_the_plain_sum(
        n in 1usize..150, k in 1usize..200, taps in 1usize..4, blocks in 1usize..6, narrow in 0usize..16,
        step in 1usize..80, row in 0usize..2, double: bool, seed: u64,
    ) {
        // Where each pixel gives two, their channels are whole blocks.
        let (per, cout) = if double { (2, blocks * 32) } else { (1, blocks * 16 - narrow) };
        let offsets: Vec<usize> = (0..taps).map(|t| t * (k + 3)).collect();
        let values = 5 + (n + 16) * step + taps * (k + 3) + k + 64;
        let mut stream = Stream::new(seed, 0);
        let mut draw = |n: usize, most: u64| -> Vec<u8> { (0..n).map(|_| stream.below(most) as u8).collect() };
        let (x, w) = (draw(values, 256), draw(taps * k * cout, 15));
        let weight = |t: usize, i: usize, o: usize| i32::from(w[(t * k + i) * cout + o]) - 7;
        let padded = cout.next_multiple_of(16);
        let start: Vec<i32> = (0..padded).map(|o| o as i32 * 3 - 20).collect();
        let sum = |p: usize, o: usize| -> i32 {
            let term = |t: usize, i: usize| i32::from(x[5 + p * step + offsets[t] + i]) * weight(t, i, o);
            (0..taps).flat_map(|t| (0..k).map(move |i| (t, i))).map(|(t, i)| term(t, i)).sum()
        };
        let compare = |kept: &Kept, begin: &dyn Fn(usize) -> f32, scale: f32| {
            for (at, got) in kept.rows[row].iter().enumerate() {
                let (p, o) = (at / padded, at % padded);
                let want = if o < cout { sum(p, o) as f32 } else { 0.0 };
                assert_eq!(*got, Some(scale * (want + begin(o))), "pixel {p} channel {o}");
            }
            assert!(kept.rows[1 - row].iter().all(Option::is_none), "the other row is left alone");
        };
        let kept = || Kept { rows: [vec![None; n * padded], vec![None; n * padded]], c: padded / per };
        if Bf16::Amx.available() {
            let w: Vec<bf16> = w.iter().map(|w| bf16::from_f32(f32::from(*w) - 7.0)).collect();
            let x: Vec<bf16> = x.iter().map(|x| bf16::from_f32(f32::from(*x))).collect();
            let run = Run { x: &x, start: 5, step, taps: &offsets, k, n };
            let (packed, mut kept) = (Packed::bf16(k, cout, &w), kept());
            finish(run, &packed, (row, per), &mut kept);
            compare(&kept, &|_| 0.0, 1.0);
            let mut out = vec![f32::NAN; n * padded];
            finish(run, &packed, (0, 1), &mut Sums { out: &mut out, c: padded });
            let same = out.iter().zip(&kept.rows[row]).all(|(a, b)| Some(*a) == *b);
            prop_assert!(same, "written down as they are");
        }
        if Int8::Amx.available() {
            let w: Vec<i8> = w.iter().map(|w| *w as i8 - 7).collect();
            let run = Run { x: &x[..], start: 5, step, taps: &offsets, k, n };
            let (packed, mut kept) = (Packed::<u8>::new(k, cout, &w, start.clone(), vec![0.25; padded]), kept());
            finish(run, &packed, (row, per), &mut kept);
            compare(&kept, &|o| start[o] as f32, 0.25);
        }
    }
}
