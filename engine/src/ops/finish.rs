// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a convolution's sums, taken while they are in registers.

use super::{
    isa::Isa,
    lanes::{Lanes, Plain},
    map::Value,
    same3::Kernel,
    scales::Scales,
    silu::silu_lanes,
};

/// Takes the sums of one or two neighbouring rows.
pub(crate) trait Finish {
    /// Whether there is room for so many rows of `w` pixels of `c` channels.
    fn fits(&self, rows: usize, w: usize, c: usize) -> bool;

    /// Takes sums of the channels from `channel` on of pixel `x` of the first (0) or second (1) row.
    ///
    /// # Safety
    /// The pixel and a register of its channels lie in what [`Finish::fits`]. The caller has the instruction set of
    /// `L`, with AVX512_BF16 where sixteen lanes are rounded to bfloat16.
    unsafe fn take<L: Lanes>(&mut self, sums: L, row: usize, x: usize, channel: usize);
}

/// Where finished values go.
pub(crate) trait Target {
    /// True if values are rounded to fewer than 12 bits, and may be computed to no more.
    const ROUGH: bool;

    /// As [`Finish::fits`].
    fn fits(&self, rows: usize, w: usize, c: usize) -> bool;

    /// Takes the values of the channels from `channel` on of pixel `x` of the first (0) or second (1) row.
    ///
    /// # Safety
    /// As [`Finish::take`].
    unsafe fn put<L: Lanes>(&mut self, values: L, row: usize, x: usize, channel: usize);
}

/// One or two neighbouring lines of a map, borders included.
pub(crate) struct Lines<'a, T> {
    values: &'a mut [T],
    pitch: usize,
    c: usize,
}

impl<'a, T> Lines<'a, T> {
    /// - `pitch`: values from one line to the next.
    /// - `c`: channels.
    pub fn new(values: &'a mut [T], pitch: usize, c: usize) -> Self {
        Self { values, pitch, c }
    }

    fn holds(&self, rows: usize, w: usize, c: usize) -> bool {
        rows >= 1 && c == self.c && (rows - 1) * self.pitch + (w + 1) * c <= self.values.len()
    }

    /// # Safety
    /// The pixel lies in these lines.
    #[inline(always)]
    unsafe fn at(&mut self, row: usize, x: usize, channel: usize) -> *mut T {
        let at = row * self.pitch + (x + 1) * self.c + channel;
        debug_assert!(at < self.values.len());
        // SAFETY: the caller's contract.
        unsafe { self.values.as_mut_ptr().add(at) }
    }
}

/// Numbers, rounded as their type is.
impl<T: Value> Target for Lines<'_, T> {
    const ROUGH: bool = T::ROUGH;

    fn fits(&self, rows: usize, w: usize, c: usize) -> bool {
        self.holds(rows, w, c)
    }

    #[inline(always)]
    unsafe fn put<L: Lanes>(&mut self, values: L, row: usize, x: usize, channel: usize) {
        // SAFETY: the caller's contract.
        unsafe { T::store(values, self.at(row, x, channel)) }
    }
}

/// Bytes, values beyond their range at its ends.
pub(crate) struct Bytes<'a> {
    pub lines: Lines<'a, u8>,
    pub scales: &'a Scales,
}

impl Target for Bytes<'_> {
    /// Every instruction set gives the same bytes.
    const ROUGH: bool = false;

    fn fits(&self, rows: usize, w: usize, c: usize) -> bool {
        self.scales.zero().len() == c && self.lines.holds(rows, w, c)
    }

    #[inline(always)]
    unsafe fn put<L: Lanes>(&mut self, values: L, row: usize, x: usize, channel: usize) {
        // SAFETY: the caller's contract.
        unsafe { self.scales.store(values, channel, self.lines.at(row, x, channel)) }
    }
}

/// One after the other.
impl<A: Target, B: Target> Target for (A, B) {
    const ROUGH: bool = A::ROUGH && B::ROUGH;

    fn fits(&self, rows: usize, w: usize, c: usize) -> bool {
        self.0.fits(rows, w, c) && self.1.fits(rows, w, c)
    }

    #[inline(always)]
    unsafe fn put<L: Lanes>(&mut self, values: L, row: usize, x: usize, channel: usize) {
        // SAFETY: the caller's contract.
        unsafe {
            self.0.put(values, row, x, channel);
            self.1.put(values, row, x, channel);
        }
    }
}

/// If there is one.
impl<O: Target> Target for Option<O> {
    const ROUGH: bool = O::ROUGH;

    fn fits(&self, rows: usize, w: usize, c: usize) -> bool {
        self.as_ref().is_none_or(|out| out.fits(rows, w, c))
    }

    #[inline(always)]
    unsafe fn put<L: Lanes>(&mut self, values: L, row: usize, x: usize, channel: usize) {
        if let Some(out) = self {
            // SAFETY: the caller's contract.
            unsafe { out.put(values, row, x, channel) }
        }
    }
}

/// `out = silu(sums + bias)`, settled.
pub(crate) struct Activated<'a, O> {
    pub bias: &'a [f32],
    pub out: O,
}

impl<O: Target> Finish for Activated<'_, O> {
    fn fits(&self, rows: usize, w: usize, c: usize) -> bool {
        self.bias.len() == c && self.out.fits(rows, w, c)
    }

    #[inline(always)]
    unsafe fn take<L: Lanes>(&mut self, sums: L, row: usize, x: usize, channel: usize) {
        debug_assert!(channel + L::N <= self.bias.len());
        // SAFETY: the caller's contract.
        unsafe {
            let sum = sums.add(L::load(self.bias.as_ptr().add(channel)));
            let active = if O::ROUGH { sum.silu_rough() } else { silu_lanes(sum) };
            self.out.put(active.settled(), row, x, channel);
        }
    }
}

/// `out = rest + (sums + bias)`, settled.
pub(crate) struct Added<'a, T, O> {
    pub bias: &'a [f32],
    /// Pixels of the same rows, without borders.
    pub rest: Option<[&'a [T]; 2]>,
    pub out: O,
}

impl<T: Value, O: Target> Finish for Added<'_, T, O> {
    fn fits(&self, rows: usize, w: usize, c: usize) -> bool {
        let rest = self.rest.is_none_or(|rest| rest[..rows.min(2)].iter().all(|row| row.len() >= w * c));
        self.bias.len() == c && rows <= 2 && rest && self.out.fits(rows, w, c)
    }

    #[inline(always)]
    unsafe fn take<L: Lanes>(&mut self, sums: L, row: usize, x: usize, channel: usize) {
        debug_assert!(channel + L::N <= self.bias.len());
        // SAFETY: the caller's contract.
        unsafe {
            let mut sum = sums.add(L::load(self.bias.as_ptr().add(channel)));
            if let Some(rest) = self.rest {
                let at = x * self.bias.len() + channel;
                debug_assert!(at + L::N <= rest[row].len());
                sum = T::load::<L>(rest[row].as_ptr().add(at)).add(sum);
            }
            self.out.put(sum.settled(), row, x, channel);
        }
    }
}

/// The sums as they are, of one row of `c` channels.
pub(crate) struct Sums<'a> {
    pub out: &'a mut [f32],
    pub c: usize,
}

impl Finish for Sums<'_> {
    fn fits(&self, rows: usize, w: usize, c: usize) -> bool {
        rows <= 1 && c == self.c && w * c <= self.out.len()
    }

    #[inline(always)]
    unsafe fn take<L: Lanes>(&mut self, sums: L, _: usize, x: usize, channel: usize) {
        // SAFETY: the caller's contract.
        unsafe { sums.store(self.out.as_mut_ptr().add(x * self.c + channel)) }
    }
}

/// Hands on sums that are in memory: whole pixels of `c` channels, a multiple of 16, from pixel `first` of a row on.
pub(crate) fn give<T: Kernel, F: Finish>(
    isa: Isa,
    sums: &[f32],
    c: usize,
    row: usize,
    first: usize,
    finish: &mut F,
) {
    assert!(c % 16 == 0 && sums.len() % c == 0 && finish.fits(row + 1, first + sums.len() / c, c));
    match isa {
        // SAFETY: bounds were checked; `Isa` says that the processor has it; kernels of rounded numbers exist only with
        // AVX512_BF16.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if T::ROUNDED => unsafe { x86::give_bf16(sums, c, row, first, finish) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::give_avx512(sums, c, row, first, finish) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::give_avx2(sums, c, row, first, finish) },
        // SAFETY: plain Rust on checked bounds.
        _ => unsafe { give_lanes::<Plain, F>(sums, c, row, first, finish) },
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{Finish, give_lanes};

    macro_rules! compile {
        ($name:ident, $lanes:ty, $features:literal) => {
            #[target_feature(enable = $features)]
            pub unsafe fn $name<F: Finish>(sums: &[f32], c: usize, row: usize, first: usize, finish: &mut F) {
                // SAFETY: same contract.
                unsafe { give_lanes::<$lanes, F>(sums, c, row, first, finish) }
            }
        };
    }
    compile!(give_avx512, __m512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
    compile!(give_bf16, __m512, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma");
    compile!(give_avx2, __m256, "avx2,fma");
}

/// # Safety
/// As [`give`].
#[inline(always)]
unsafe fn give_lanes<L: Lanes, F: Finish>(sums: &[f32], c: usize, row: usize, first: usize, finish: &mut F) {
    for (x, pixel) in sums.chunks_exact(c).enumerate() {
        for i in (0..c).step_by(L::N) {
            // SAFETY: the caller's contract; a pixel has a multiple of every register's channels.
            unsafe { finish.take(L::load(pixel.as_ptr().add(i)), row, first + x, i) };
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::{
        noise::Stream,
        ops::{
            Cpu,
            map::Map,
            same3::{self, Algorithm, Conv, Scratch},
            silu::silu,
            tiny::settled,
        },
    };

    /// What is finished in registers has the bits of sums that are written first and finished one by one.
    fn equals_the_slow_way<T: Kernel>(isa: Isa, algorithm: Algorithm, [h, w, c]: [usize; 3]) {
        let mut draw = Stream::new(9, (h * w) as u64);
        let mut some = |n: usize| -> Vec<f32> { (0..n).map(|_| draw.next_normal()).collect() };
        let (mut x, mut rest) = (Map::<T>::default(), Map::<T>::default());
        x.reset(h, w, c);
        x.fill(isa, &some(h * w * c));
        rest.reset(h, w, c);
        rest.fill(isa, &some(h * w * c));
        let (conv, bias) = (Conv::<T>::new(algorithm, c, &some(9 * c * c)), some(c));
        let mut scratch = Scratch::default();
        let mut sums = vec![f32::NAN; h * w * c];
        same3::forward(isa, &x, &conv, 0..h, &mut scratch, |y, x, part| {
            sums[(y * w + x) * c..][..part.len()].copy_from_slice(part);
        });
        let (mut active, mut added) = (Map::<T>::default(), Map::<T>::default());
        active.reset(h, w, c);
        added.reset(h, w, c);
        let pitch = added.pitch();
        for y in (0..h).step_by(2) {
            let (rows, from) = (y..(y + 2).min(h), (y + 1) * pitch);
            let lines = from..from + rows.len() * pitch;
            let out = Lines::new(&mut active.data[lines.clone()], pitch, c);
            let mut finish = Activated { bias: &bias, out };
            same3::finish(isa, &x, &conv, rows.clone(), &mut scratch, &mut finish);
            let mut finish = Added {
                bias: &bias,
                rest: Some([rest.row(y), rest.row(rows.end - 1)]),
                out: Lines::new(&mut added.data[lines], pitch, c),
            };
            same3::finish(isa, &x, &conv, rows, &mut scratch, &mut finish);
        }
        for y in 0..h {
            for i in 0..w * c {
                let (sum, at) = (sums[y * w * c + i] + bias[i % c], format!("{isa:?} {algorithm:?} {y} {i}"));
                let want = T::from_f32(settled(rest.row(y)[i].to_f32() + sum));
                assert_eq!(added.row(y)[i].to_f32().to_bits(), want.to_f32().to_bits(), "{at}");
                let (got, want) = (active.row(y)[i].to_f32(), T::from_f32(settled(silu(sum))).to_f32());
                // What is rounded to bfloat16 may have been computed to 12 bits: one more of its steps.
                let most = if T::ROUGH { want.abs() / 128.0 + 1e-9 } else { 0.0 };
                assert!((got - want).abs() <= most, "{at}: {got} {want}");
            }
        }
        let border = |map: &Map<T>, y: usize| map.data[map.above(y)..][..c].iter().all(|v| v.to_f32() == 0.0);
        assert!((0..h + 2).all(|y| border(&added, y)), "what lies beside the rows stays zero");
    }

    #[test]
    fn every_instruction_set_finishes_as_the_slow_way_does() {
        for shape in [[1, 1, 16], [2, 3, 16], [5, 7, 48], [3, 101, 32], [6, 50, 16]] {
            for algorithm in [Algorithm::Taps, Algorithm::Winograd] {
                for isa in Isa::every() {
                    equals_the_slow_way::<f32>(isa, algorithm, shape);
                }
                if Cpu::detect().bf16.is_some() {
                    equals_the_slow_way::<bf16>(Cpu::detect().isa, algorithm, shape);
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (c, w) = (16, 5);
        let pitch = (w + 2) * c;
        let (bias, row, mut values) = (vec![0.0; c], vec![0.0; w * c], vec![0.0f32; 2 * pitch]);
        let short = &row[..w * c - 1];
        let mut fits = |len: usize, rest, rows, w, c| {
            let out = Lines::new(&mut values[..len], pitch, 16);
            Added::<f32, _> { bias: &bias, rest, out }.fits(rows, w, c)
        };
        assert!(fits(2 * pitch, None, 2, w, c) && fits(2 * pitch, Some([&row, &row]), 2, w, c));
        // The border to the right is not written; a row or a pixel more is.
        assert!(fits(pitch, None, 1, w, c) && !fits(pitch, None, 2, w, c) && !fits(2 * pitch, None, 3, w, c));
        assert!(!fits(2 * pitch, None, 2, w + 2, c) && !fits(2 * pitch, None, 2, w, 2 * c));
        assert!(
            fits(2 * pitch, Some([&row, short]), 1, w, c) && !fits(2 * pitch, Some([&row, short]), 2, w, c)
        );
    }
}
