// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::noise::Stream;

/// Values that bfloat16 holds exactly, so that both precisions should find the same sums.
fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut s = Stream::new(seed, 0);
    (0..n).map(|_| s.below(64) as f32 / 32.0 - 1.0).collect()
}

fn both<T: Kernel>(algorithm: Algorithm, [h, w, cin, cout]: [usize; 4]) -> (Vec<f32>, Vec<f32>) {
    let isa = Cpu::detect().isa;
    let (mut x, mut dy) = (Map::<T>::default(), Map::<T>::default());
    x.reset(h, w, cin);
    x.fill(isa, &values(h * w * cin, 1));
    dy.reset(h, w, cout);
    dy.fill(isa, &values(h * w * cout, 2));
    let conv = Conv::new(algorithm, cout, &values(9 * cin * cout, 3));
    let mut out = vec![f32::NAN; h * w * cout];
    forward(isa, &x, &conv, 0..h, &mut Scratch::default(), |y, x, sums| {
        out[(y * w + x) * cout..][..sums.len()].copy_from_slice(sums);
    });
    let mut grad = vec![0.0; 9 * cin * cout];
    T::weight_grad(isa, &x, &dy, &mut grad, &mut vec![]);
    (out, grad)
}

#[test]
fn f32_equals_the_plain_sum() {
    for (shape, algorithm) in
        [[1, 1, 16, 16], [5, 7, 16, 48], [3, 130, 32, 16], [6, 251, 48, 32], [21, 23, 256, 16]]
            .into_iter()
            .flat_map(|shape| [(shape, Algorithm::Taps), (shape, Algorithm::Winograd)])
    {
        let [h, w, cin, cout] = shape;
        let (out, grad) = both::<f32>(algorithm, shape);
        let (x, dy, k) = (values(h * w * cin, 1), values(h * w * cout, 2), values(9 * cin * cout, 3));
        let mut want_grad = vec![0f64; grad.len()];
        for (at, got) in out.iter().enumerate() {
            let (y, xx, o) = (at / cout / w, at / cout % w, at % cout);
            let mut sum = 0f64;
            for tap in 0..9 {
                let (sy, sx) = ((y + tap / 3).wrapping_sub(1), (xx + tap % 3).wrapping_sub(1));
                if sy < h && sx < w {
                    for i in 0..cin {
                        let v = f64::from(x[(sy * w + sx) * cin + i]);
                        sum += v * f64::from(k[(tap * cin + i) * cout + o]);
                        want_grad[(tap * cin + i) * cout + o] += v * f64::from(dy[at]);
                    }
                }
            }
            assert!(
                (f64::from(*got) - sum).abs() < 1e-3,
                "{algorithm:?} {h}x{w}x{cin}x{cout} at {at}: {got} {sum}"
            );
        }
        for (g, want) in grad.iter().zip(&want_grad) {
            assert!((f64::from(*g) - want).abs() < 1e-3, "gradient {g} {want}");
        }
    }
}

#[test]
fn bf16_equals_f32_where_values_are_exact() {
    if Cpu::detect().bf16.is_none() {
        println!("skipped: this processor has no bfloat16 products");
        return;
    }
    for shape in [[1, 1, 16, 16], [5, 7, 16, 32], [13, 9, 48, 48], [33, 40, 64, 16], [2, 97, 32, 80]] {
        let (a, ga) = both::<f32>(Algorithm::Taps, shape);
        let (b, gb) = both::<bf16>(Algorithm::Taps, shape);
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3), "{shape:?}");
        assert!(ga.iter().zip(&gb).all(|(a, b)| (a - b).abs() < 1e-3 * (1.0 + a.abs())), "{shape:?}");
        // Winograd rounds what it transforms: half a unit in the ninth place of each of 9·cin terms.
        let (b, _) = both::<bf16>(Algorithm::Winograd, shape);
        let far = a.iter().zip(&b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(far < 0.02 * ((9 * shape[2]) as f32).sqrt(), "{shape:?}: {far}");
    }
}

/// Sums are exact. What an earlier call left in the scratch memory is never read.
#[test]
fn gradients_in_bf16_equal_f32_on_every_kind_of_instruction() {
    type Grad = fn(&Map<bf16>, &Map<bf16>, &mut [f32], &mut Vec<bf16>);
    let isa = Cpu::detect().isa;
    for [h, w, cin, cout] in
        [[1, 1, 16, 16], [5, 7, 16, 48], [3, 30, 48, 32], [9, 61, 32, 64], [2, 15, 80, 80]]
    {
        let want = both::<f32>(Algorithm::Taps, [h, w, cin, cout]).1;
        let (mut x, mut dy) = (Map::default(), Map::default());
        x.reset(h, w, cin);
        x.fill(isa, &values(h * w * cin, 1));
        dy.reset(h, w, cout);
        dy.fill(isa, &values(h * w * cout, 2));
        for (kind, run) in [(Bf16::Avx512, dot::weight_grad as Grad), (Bf16::Amx, amx::weight_grad)] {
            if kind.available() {
                let (mut grad, mut scratch) = (vec![1.0; want.len()], vec![bf16::NAN; 1 << 18]);
                run(&x, &dy, &mut grad, &mut scratch);
                for (at, (got, want)) in grad.iter().zip(&want).enumerate() {
                    assert_eq!(*got, 1.0 + want, "{kind:?} {h}x{w}x{cin}x{cout} at {at}");
                }
            }
        }
    }
}
