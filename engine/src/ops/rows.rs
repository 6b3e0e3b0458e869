// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens to rows of sums, compiled for each instruction set.
//!
//! All slices hold whole pixels of `bias.len()` (or `scale.len()`) channels.

use super::{
    map::Value,
    silu::{silu, silu_slope},
    tiny::settled,
};

/// Writes a function three times, once for each instruction set, and one that chooses.
macro_rules! for_each_isa {
    ($(#[$doc:meta])* fn $name:ident $(<$t:ident>)? ($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        #[inline]
        pub(crate) fn $name $(<$t: Value>)? (isa: $crate::ops::Isa, $($arg: $ty),*) {
            #[allow(clippy::too_many_arguments)]
            #[inline(always)]
            fn plain $(<$t: Value>)? ($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments)]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512 $(<$t: Value>)? ($($arg: $ty),*) { plain($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments)]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$t: Value>)? ($($arg: $ty),*) { plain($($arg),*) }

            match isa {
                // SAFETY: an `Isa` of this value exists only where the processor has the features.
                #[cfg(target_arch = "x86_64")]
                $crate::ops::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::ops::Isa::Avx2 => unsafe { avx2($($arg),*) },
                _ => plain($($arg),*),
            }
        }
    };
}

pub(super) use for_each_isa;

for_each_isa! {
    /// `out = T(from)`.
    fn round<T>(from: &[f32], out: &mut [T]) {
        for (o, v) in out.iter_mut().zip(from) {
            *o = T::from_f32(*v);
        }
    }
}

for_each_isa! {
    /// `out += from`.
    fn add(from: &[f32], out: &mut [f32]) {
        for (o, v) in out.iter_mut().zip(from) {
            *o += v;
        }
    }
}

for_each_isa! {
    /// `out += from + bias`, settled.
    fn add_biased(from: &[f32], bias: &[f32], out: &mut [f32]) {
        let c = bias.len();
        for (out, from) in out.chunks_exact_mut(c).zip(from.chunks_exact(c)) {
            for ((o, v), b) in out.iter_mut().zip(from).zip(bias) {
                *o = settled(*o + (v + b));
            }
        }
    }
}

for_each_isa! {
    /// `keep = from + bias`, `out = T(silu(keep·(1 + scale) + shift))`.
    fn modulated<T>(from: &[f32], bias: &[f32], scale: &[f32], shift: &[f32], keep: &mut [f32], out: &mut [T]) {
        let c = bias.len();
        for ((out, keep), from) in out.chunks_exact_mut(c).zip(keep.chunks_exact_mut(c)).zip(from.chunks_exact(c)) {
            for (((((o, k), v), b), s), t) in out.iter_mut().zip(keep).zip(from).zip(bias).zip(scale).zip(shift) {
                let sum = v + b;
                *k = sum;
                *o = T::from_f32(silu(sum.mul_add(1.0 + s, *t)));
            }
        }
    }
}

for_each_isa! {
    /// The way back through [`modulated`]: `d` is the gradient of its output; adds those of scale,
    /// shift and bias, and gives that of `from` in `out`.
    fn modulated_back<T>(
        d: &[f32],
        kept: &[f32],
        scale: &[f32],
        shift: &[f32],
        d_scale: &mut [f32],
        d_shift: &mut [f32],
        d_bias: &mut [f32],
        out: &mut [T],
    ) {
        let c = scale.len();
        for ((out, kept), d) in out.chunks_exact_mut(c).zip(kept.chunks_exact(c)).zip(d.chunks_exact(c)) {
            let sums = d_scale.iter_mut().zip(d_shift.iter_mut()).zip(d_bias.iter_mut());
            let given = kept.iter().zip(d).zip(scale).zip(shift);
            for ((o, ((ds, dt), db)), (((v, d), s), t)) in out.iter_mut().zip(sums).zip(given) {
                let d = d * silu_slope(v.mul_add(1.0 + s, *t));
                *ds = d.mul_add(*v, *ds);
                *dt += d;
                let d = d * (1.0 + s);
                *db += d;
                *o = T::from_f32(d);
            }
        }
    }
}

for_each_isa! {
    /// Adds up pixels: `out[c] += Σ from[…][c]`.
    fn sum_pixels(from: &[f32], out: &mut [f32]) {
        for pixel in from.chunks_exact(out.len()) {
            for (o, v) in out.iter_mut().zip(pixel) {
                *o += v;
            }
        }
    }
}

for_each_isa! {
    /// Adds up one pixel: `sum += x − origin`, `squares += (x − origin)²`.
    fn moments(x: &[f32], origin: &[f32], sum: &mut [f32], squares: &mut [f32]) {
        for (((v, o), sum), squares) in x.iter().zip(origin).zip(sum).zip(squares) {
            let v = v - o;
            *sum += v;
            *squares = v.mul_add(v, *squares);
        }
    }
}

for_each_isa! {
    /// One pixel: `x = (x − mean)·factor + shift`, then SiLU if asked.
    fn normalise(x: &mut [f32], mean: &[f32], factor: &[f32], shift: &[f32], activate: bool) {
        for (((v, m), f), t) in x.iter_mut().zip(mean).zip(factor).zip(shift) {
            *v = (*v - m).mul_add(*f, *t);
        }
        if activate {
            for v in x {
                *v = silu(*v);
            }
        }
    }
}

for_each_isa! {
    /// The way back through [`normalise`], of one pixel: `n = (x − mean)·inverse`, and in `d`, which holds the gradient
    /// of the result, that of `n·scale + shift`.
    fn normalise_back(
        x: &[f32],
        mean: &[f32],
        inverse: &[f32],
        scale: &[f32],
        shift: &[f32],
        activated: bool,
        n: &mut [f32],
        d: &mut [f32],
    ) {
        for (((n, v), m), i) in n.iter_mut().zip(x).zip(mean).zip(inverse) {
            *n = (*v - m) * i;
        }
        if activated {
            for (((d, n), s), t) in d.iter_mut().zip(&*n).zip(scale).zip(shift) {
                *d *= silu_slope(n.mul_add(*s, *t));
            }
        }
    }
}
