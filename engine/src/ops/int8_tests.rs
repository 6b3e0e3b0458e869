// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes: exact sums, exact rounding, on every instruction set.

use proptest::prelude::*;

use super::*;
use crate::{
    noise::Stream,
    ops::{finish::Sums as Written, lanes::Lanes},
};

/// Scales of steps 1/4, 1/2 and 1 in turn, with zeros anywhere.
fn scales(channels: usize, draw: &mut Stream) -> Scales {
    let ranges = |channel: usize| {
        let (step, zero) = ([0.25, 0.5, 1.0][channel % 3], draw.below(256) as f32);
        [-zero * step, (255.0 - zero) * step]
    };
    Scales::new(&(0..channels).map(ranges).collect::<Vec<_>>())
}

fn fours(packed: Packed) -> Fours {
    match packed {
        Packed::Fours(_, fours) => fours,
        Packed::Tiles(_) => unreachable!("asked for in fours"),
    }
}

proptest! {
    #[test]
    fn every_instruction_set_gives_the_exact_sums(
        n in 1usize..40, channels in 1usize..20, pixels in 1usize..4, taps in 1usize..4, cout in 1usize..80,
        step in 1usize..50, seed: u64,
    ) {
        let mut draw = Stream::new(seed, 0);
        let channels = GROUP * channels;
        let k = channels * pixels;
        let input = scales(channels, &mut draw);
        let offsets: Vec<usize> = (0..taps).map(|t| t * (k + 3)).collect();
        let x: Vec<u8> = (0..5 + (n + 16) * step + taps * (k + 3) + k + 64).map(|_| draw.below(256) as u8).collect();
        // Whole numbers of steps, the greatest among them, are rounded to themselves.
        let mut whole: Vec<f32> = (0..taps * k * cout).map(|_| draw.below(255) as f32 - 127.0).collect();
        whole[..cout].fill(127.0);
        let w: Vec<f32> =
            whole.iter().enumerate().map(|(at, w)| w / input.step[at / cout % channels]).collect();
        let run = Run { x: &x, start: 5, step, taps: &offsets, k, n };
        let padded = cout.next_multiple_of(16);
        let mut want = vec![0f32; n * padded];
        for (at, want) in want.iter_mut().enumerate() {
            let (p, o) = (at / padded, at % padded);
            if o < cout {
                let byte = |t: usize, i: usize| i32::from(x[5 + p * step + offsets[t] + i]);
                let term = |r: usize| {
                    (byte(r / k, r % k) - i32::from(input.zero[r % channels])) * whole[r * cout + o] as i32
                };
                *want = (0..taps * k).map(term).sum::<i32>() as f32;
            }
        }
        let check = |name: &str, got: Vec<f32>| {
            prop_assert_eq!(got, want.clone(), "{}", name);
            Ok(())
        };
        for int8 in Int8::every() {
            let mut got = vec![f32::NAN; want.len()];
            let packed = Packed::new(int8, taps, cout, &w, &input);
            let mut written = Written { out: &mut got, c: padded };
            finish(Isa::every()[0], run, &packed, 1, &mut vec![], &mut written);
            check(&format!("{int8:?}"), got)?;
        }
        #[cfg(target_arch = "x86_64")]
        if Int8::Avx512Vnni.available() {
            let mut got = vec![f32::NAN; want.len()];
            // SAFETY: `forward` has checked the same bounds; AVX-512 VL is part of what was asked for.
            unsafe { x86::evex_vnni(run, &fours(Packed::new(Int8::Portable, taps, cout, &w, &input)), got.as_mut_ptr()) };
            check("eight sums", got)?;
        }
    }

    #[test]
    fn registers_round_as_single_numbers_do(seed: u64) {
        let mut draw = Stream::new(seed, 1);
        let input = scales(16, &mut draw);
        let mut v = [0f32; 16];
        v.iter_mut().for_each(|v| *v = draw.next_normal() * 100.0);
        let check = |got: [u8; 16]| {
            for (c, byte) in got.into_iter().enumerate() {
                let value = (f32::from(byte) - input.offset[c]) * input.step[c];
                prop_assert_eq!(value, input.rounded(c, v[c]), "{} of channel {}", v[c], c);
            }
            Ok(())
        };
        let mut got = [0; 16];
        // SAFETY: sixteen floats and sixteen bytes; plain Rust.
        unsafe {
            use super::super::lanes::Plain;
            input.store(Plain::load(v.as_ptr()), 0, got.as_mut_ptr());
            input.store(Plain::load(v.as_ptr().add(8)), 8, got.as_mut_ptr().add(8));
        }
        check(got)?;
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{__m256, __m512};

            use crate::ops::Isa;

            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2(input: &Scales, v: &[f32; 16], to: &mut [u8; 16]) {
                // SAFETY: the caller's contract; two registers of eight.
                unsafe {
                    input.store(<__m256 as Lanes>::load(v.as_ptr()), 0, to.as_mut_ptr());
                    input.store(<__m256 as Lanes>::load(v.as_ptr().add(8)), 8, to.as_mut_ptr().add(8));
                }
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn avx512(input: &Scales, v: &[f32; 16], to: &mut [u8; 16]) {
                // SAFETY: the caller's contract; one register.
                unsafe { input.store(<__m512 as Lanes>::load(v.as_ptr()), 0, to.as_mut_ptr()) }
            }
            if Isa::every().contains(&Isa::Avx2) {
                // SAFETY: the processor has it.
                unsafe { avx2(&input, &v, &mut got) };
                check(got)?;
            }
            if Isa::every().contains(&Isa::Avx512) {
                // SAFETY: the processor has it.
                unsafe { avx512(&input, &v, &mut got) };
                check(got)?;
            }
        }
    }
}

#[test]
fn weights_are_rounded_to_half_a_step_and_zero_is_exact() {
    let mut draw = Stream::new(3, 0);
    let w: Vec<f32> = (0..16 * 5).map(|_| draw.next_normal()).collect();
    let input = Scales::new(&[[-0.3, 2.0]; 16]);
    let packed = fours(Packed::new(Int8::Portable, 1, 5, &w, &input));
    // A map of the bytes of 0 gives 0; one value of one step gives the weight.
    let mut x: [u8; 16] = input.zero().try_into().unwrap();
    let mut out = [f32::NAN; 16];
    let sums = |x: &[u8], out: &mut [f32]| {
        forward(Int8::Portable, Run { x, start: 0, step: 0, taps: &[0], k: 16, n: 1 }, &packed, out);
    };
    sums(&x, &mut out);
    assert!(out.iter().all(|v| *v == 0.0), "{out:?}");
    for row in 0..16 {
        x[row] += 1;
        sums(&x, &mut out);
        x[row] -= 1;
        for o in 0..5 {
            let most = (0..16).fold(0f32, |most, row| most.max(w[row * 5 + o].abs()));
            let gap = (out[o] / input.step[row] - w[row * 5 + o]).abs();
            assert!(gap <= 0.501 * most / 127.0, "{gap} of {most}");
        }
    }
}

#[test]
fn a_channel_of_zeros_stays_zero() {
    let w = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0];
    let packed = fours(Packed::new(Int8::Portable, 1, 2, &w, &Scales::new(&[[-1.0, 1.0]; 4])));
    let mut out = [f32::NAN; 16];
    let run = Run { x: &[200; 4], start: 0, step: 0, taps: &[0], k: 4, n: 1 };
    forward(Int8::Portable, run, &packed, &mut out);
    assert!(out[0] == 0.0 && out[1] > 0.0 && out[2..].iter().all(|v| *v == 0.0));
}
