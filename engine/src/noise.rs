// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only source of randomness: a counter-based generator whose every value can be recomputed alone.
//!
//! The generator is Philox4x32 with ten rounds (Salmon et al., SC 2011). It has no hidden state: a
//! 128-bit counter and a 64-bit key give four words. Normals are made from the words by the
//! Box–Muller transform with polynomials of our own that use only additions, products, quotients and
//! square roots, each rounded as IEEE 754 says; so the values are the same bits on every machine.

use std::ops::Range;

use rayon::prelude::*;

/// What a field of noise belongs to. Different keys give independent fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseKey {
    /// The user's seed.
    pub seed: u64,
    /// Number of the frame or picture.
    pub frame: u64,
    /// Which draw of this frame: one per noise tensor that a sampler asks for.
    pub draw: u32,
}

/// Unit normals for a window of a field that reaches over the whole plane: `(C, H, W)`, row-major,
/// with `H = rows.len()` and `W = cols.len()`.
///
/// A value depends only on the key, its channel and its absolute row and column; so windows of any
/// size agree where they overlap, and threads do not matter. No value is beyond ±6.8.
///
/// Rows and columns count modulo 2³² and 2³⁴.
pub fn normal(key: NoiseKey, channels: usize, rows: Range<usize>, cols: Range<usize>) -> Vec<f32> {
    let (height, width) = (rows.len(), cols.len());
    let mut out = vec![0f32; channels * height * width];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_mut(width).with_min_len(16).enumerate().for_each(|(at, row)| {
        let field = field_words(key, (at / height) as u32);
        normal_row(field, (rows.start + at % height) as u32, cols.start, row);
    });
    out
}

/// A seekable sequence of uniform numbers, for what happens one after another (training, degradation).
///
/// Its whole state is [`Stream::position`]: saving that number and [`Stream::seek`]ing to it later
/// continues the same sequence.
#[derive(Debug, Clone)]
pub struct Stream {
    field: [u32; 4],
    position: u64,
    words: [u32; 4],
}

impl Stream {
    /// The sequence of a seed and a number; different numbers give independent sequences.
    pub fn new(seed: u64, stream_id: u64) -> Self {
        let words = [stream_id as u32, (stream_id >> 32) as u32, STREAM_DRAW, STREAM_CHANNEL];
        let field = philox(words, split(seed));
        Self { field, position: 0, words: [0; 4] }
    }

    /// How many words were drawn since the start.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes to where `position` words have been drawn.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
        if !position.is_multiple_of(4) {
            self.words = self.block(position / 4);
        }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        let lane = (self.position % 4) as usize;
        if lane == 0 {
            self.words = self.block(self.position / 4);
        }
        self.position = self.position.wrapping_add(1);
        self.words[lane]
    }

    /// The next 64 random bits: two words, the low one first.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform in `[0, 1)`, a multiple of 2⁻²⁴.
    pub fn next_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Unit normal; always uses two words.
    pub fn next_normal(&mut self) -> f32 {
        let (radius, angle) = (self.next_u32(), self.next_u32());
        box_muller(radius, angle).0
    }

    /// Uniform in `0..n`, without bias; 0 if `n` is 0. Uses two words, or more in rare cases.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        // The high half of a 64×64-bit product is uniform once the low halves that would be hit
        // more often than others are refused.
        let refused = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= refused {
                return (product >> 64) as u64;
            }
        }
    }

    fn block(&self, index: u64) -> [u32; 4] {
        let [a, b, c, d] = self.field;
        philox([index as u32, (index >> 32) as u32, a, b], [c, d])
    }
}

/// Words 2 and 3 of a [`Stream`]'s key block; no noise field has so high a draw and channel.
const STREAM_DRAW: u32 = u32::MAX;
const STREAM_CHANNEL: u32 = u32::MAX;

/// Philox's multipliers and the steps of its key.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

fn split(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

/// One block under the seed's key turns frame, draw and channel into 128 bits that key the field.
fn field_words(key: NoiseKey, channel: u32) -> [u32; 4] {
    philox([key.frame as u32, (key.frame >> 32) as u32, key.draw, channel], split(key.seed))
}

/// Blocks that are computed side by side, so that the compiler can use vector instructions.
const LANES: usize = 16;

/// Fills one row whose first value is at column `start`. A block covers four columns, cut at
/// multiples of four of the absolute column.
fn normal_row(field: [u32; 4], row: u32, start: usize, out: &mut [f32]) {
    let lead = ((4 - start % 4) % 4).min(out.len());
    let (head, body) = out.split_at_mut(lead);
    if lead > 0 {
        let from = start % 4;
        head.copy_from_slice(&normal_blocks(field, row, start / 4)[from..from + lead]);
    }
    let first = (start + lead) / 4;
    for (at, part) in body.chunks_mut(4 * LANES).enumerate() {
        let values = normal_blocks(field, row, first + at * LANES);
        part.copy_from_slice(&values[..part.len()]);
    }
}

/// The normals of [`LANES`] consecutive blocks.
fn normal_blocks(field: [u32; 4], row: u32, first: usize) -> [f32; 4 * LANES] {
    let [a, b, c, d] = field;
    let mut words = [[row; LANES], [row; LANES], [a; LANES], [b; LANES]];
    for (lane, word) in words[0].iter_mut().enumerate() {
        *word = (first + lane) as u32;
    }
    philox_lanes(&mut words, [c, d]);
    let [w, x, y, z] = words;
    let mut out = [0f32; 4 * LANES];
    for lane in 0..LANES {
        let (n0, n1) = box_muller(w[lane], x[lane]);
        let (n2, n3) = box_muller(y[lane], z[lane]);
        out[4 * lane..4 * lane + 4].copy_from_slice(&[n0, n1, n2, n3]);
    }
    out
}

/// [`philox`] on many counters: the same rounds, lane by lane.
fn philox_lanes([a, b, c, d]: &mut [[u32; LANES]; 4], [mut k0, mut k1]: [u32; 2]) {
    for _ in 0..10 {
        for lane in 0..LANES {
            let p = u64::from(MULTIPLIERS[0]) * u64::from(a[lane]);
            let q = u64::from(MULTIPLIERS[1]) * u64::from(c[lane]);
            (a[lane], b[lane]) = ((q >> 32) as u32 ^ b[lane] ^ k0, q as u32);
            (c[lane], d[lane]) = ((p >> 32) as u32 ^ d[lane] ^ k1, p as u32);
        }
        (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
    }
}

/// Philox4x32-10: ten rounds of two 32×32→64-bit products, the key raised by a Weyl constant.
#[inline(always)]
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let p = u64::from(MULTIPLIERS[0]) * u64::from(a);
        let q = u64::from(MULTIPLIERS[1]) * u64::from(c);
        (a, b, c, d) = ((q >> 32) as u32 ^ b ^ k0, q as u32, (p >> 32) as u32 ^ d ^ k1, p as u32);
        (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
    }
    [a, b, c, d]
}

/// Two independent unit normals from two words: `√(−2 ln u)·(cos 2πv, sin 2πv)`.
#[inline(always)]
fn box_muller(radius: u32, angle: u32) -> (f32, f32) {
    // u = (word + ½)/2³² is never 0. Above 2²⁴ the half is lost to rounding, which is harmless.
    let u = (radius as f32 + 0.5) * (1.0 / 4_294_967_296.0);
    let r = (-2.0 * ln(u)).max(0.0).sqrt();
    let (cos, sin) = cos_sin_turn(angle);
    (r * cos, r * sin)
}

/// Natural logarithm of a normal positive float, to about 2e-7.
///
/// `x = 2^e·m` with m in [√½, √2); `ln m = 2 artanh z` with `z = (m−1)/(m+1)`, |z| ≤ 0.1716, by its
/// odd series to z⁹ (the next term is below 7e-10).
#[inline(always)]
fn ln(x: f32) -> f32 {
    const SQRT_HALF_BITS: u32 = 0x3F35_04F3;
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF_BITS);
    let exponent = (shifted as i32) >> 23;
    let m = f32::from_bits((shifted & 0x007F_FFFF).wrapping_add(SQRT_HALF_BITS));
    let z = (m - 1.0) / (m + 1.0);
    let z2 = z * z;
    let series = z2 * (1.0 / 3.0 + z2 * (1.0 / 5.0 + z2 * (1.0 / 7.0 + z2 * (1.0 / 9.0))));
    exponent as f32 * std::f32::consts::LN_2 + (2.0 * z + 2.0 * z * series)
}

/// Cosine and sine of `word/2³²` turns, to about 1e-7: the two high bits name the quarter, the rest
/// is an angle within ±⅛ turn of the quarter's middle, where short Taylor series suffice.
#[inline(always)]
fn cos_sin_turn(word: u32) -> (f32, f32) {
    // Signed distance to the nearest quarter turn: |t| ≤ π/4.
    let quarter = word.wrapping_add(1 << 29) >> 30;
    let rest = word.wrapping_sub(quarter << 30) as i32;
    let t = rest as f32 * (std::f32::consts::TAU / 4_294_967_296.0);
    let t2 = t * t;
    let sin = t - t * t2 * (1.0 / 6.0 - t2 * (1.0 / 120.0 - t2 * (1.0 / 5040.0 - t2 * (1.0 / 362_880.0))));
    let cos = 1.0 - t2 * (0.5 - t2 * (1.0 / 24.0 - t2 * (1.0 / 720.0 - t2 * (1.0 / 40_320.0))));
    let (c, s) = if quarter & 1 == 0 { (cos, sin) } else { (-sin, cos) };
    if quarter & 2 == 0 { (c, s) } else { (-c, -s) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The three known answers for "philox4x32 10" that its authors publish.
    #[test]
    fn philox_gives_the_published_answers() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (pi, [0xa409_3822, 0x299f_31d0], [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ];
        for (counter, key, answer) in cases {
            assert_eq!(philox(counter, key), answer);
        }
    }

    /// Bits written down once: a change of the noise changes every seeded picture.
    #[test]
    fn values_never_change() {
        let key = NoiseKey { seed: 7, frame: 3, draw: 1 };
        let bits: Vec<u32> = normal(key, 1, 5..6, 2..8).iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [1066576068, 3213201470, 3173884058, 3214435502, 3180812106, 1051153823]);
        let mut stream = Stream::new(7, 3);
        assert_eq!([stream.next_u32(), stream.next_u32()], [2108716214, 2490667204]);
    }

    #[test]
    fn polynomials_follow_the_functions() {
        for at in 0..200_000u32 {
            let word = at.wrapping_mul(2_654_435_761) | at;
            let u = (f64::from(word) + 0.5) / 4_294_967_296.0;
            let want = (u as f32 as f64).ln();
            assert!((f64::from(ln(u as f32)) - want).abs() <= 3e-7 * want.abs().max(1e-1), "ln {u}");
            let (cos, sin) = cos_sin_turn(word);
            let angle = f64::from(word) / 4_294_967_296.0 * std::f64::consts::TAU;
            assert!((f64::from(cos) - angle.cos()).abs() < 2e-7, "cos {angle}");
            assert!((f64::from(sin) - angle.sin()).abs() < 2e-7, "sin {angle}");
        }
    }

    #[test]
    fn moments_are_those_of_a_unit_normal() {
        let n = normal(NoiseKey { seed: 1, frame: 2, draw: 3 }, 3, 0..512, 0..512);
        let mean_of = |power: i32| n.iter().map(|&v| f64::from(v).powi(power)).sum::<f64>() / n.len() as f64;
        // Six standard errors of each mean, 786432 values.
        for (power, want, limit) in [(1, 0.0, 0.0068), (2, 1.0, 0.0096), (3, 0.0, 0.0263), (4, 3.0, 0.0663)] {
            let got = mean_of(power);
            assert!((got - want).abs() < limit, "moment {power}: {got}");
        }
        assert!(n.iter().all(|v| v.is_finite() && v.abs() < 6.8));
        let far = n.iter().filter(|v| v.abs() > 3.0).count() as f64 / n.len() as f64;
        assert!((far - 0.0027).abs() < 0.0004, "{far} beyond 3");
    }

    /// Neighbours in every direction and fields of neighbouring keys do not correlate.
    #[test]
    fn fields_are_independent() {
        let base = NoiseKey { seed: 9, frame: 0, draw: 0 };
        let field = |key: NoiseKey, y: usize, x: usize| normal(key, 2, y..y + 256, x..x + 256);
        let zero = field(base, 0, 0);
        let (first, second) = zero.split_at(256 * 256);
        let others = [
            second.to_vec(),
            field(base, 0, 1),
            field(base, 0, 2),
            field(base, 0, 4),
            field(base, 1, 0),
            field(NoiseKey { seed: 10, ..base }, 0, 0),
            field(NoiseKey { seed: 9 + (1 << 32), ..base }, 0, 0),
            field(NoiseKey { frame: 1, ..base }, 0, 0),
            field(NoiseKey { frame: 1 << 32, ..base }, 0, 0),
            field(NoiseKey { draw: 1, ..base }, 0, 0),
        ];
        for (which, other) in others.iter().enumerate() {
            let dot: f64 = first.iter().zip(other).map(|(a, b)| f64::from(a * b)).sum();
            let correlation = dot / first.len() as f64;
            assert!(correlation.abs() < 6.0 / 256.0, "pair {which}: {correlation}");
        }
    }

    #[test]
    fn stream_draws_are_uniform_below_n() {
        let mut stream = Stream::new(5, 0);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[stream.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 560), "{counts:?}");
        assert_eq!(stream.below(1), 0);
        assert_eq!(stream.below(0), 0);
        assert!((0..10_000).all(|_| (0.0..1.0).contains(&stream.next_f32())));
    }

    proptest! {
        /// Any window of a field equals the same window cut out of a larger one.
        #[test]
        fn windows_agree(
            seed: u64, frame: u64, draw: u32, channels in 1usize..4,
            y in 0usize..40, x in 0usize..40, height in 1usize..20, width in 1usize..20,
        ) {
            let key = NoiseKey { seed, frame, draw };
            let whole = normal(key, channels, 0..64, 0..64);
            let window = normal(key, channels, y..y + height, x..x + width);
            for c in 0..channels {
                for row in 0..height {
                    let from = (c * 64 + y + row) * 64 + x;
                    let at = (c * height + row) * width;
                    prop_assert_eq!(&window[at..at + width], &whole[from..from + width]);
                }
            }
        }

        /// A stream continues from its saved position.
        #[test]
        fn streams_resume(seed: u64, id: u64, skip in 0u64..100) {
            let mut one = Stream::new(seed, id);
            (0..skip).for_each(|_| { one.next_u32(); });
            let mut two = Stream::new(seed, id);
            two.seek(one.position());
            for _ in 0..9 {
                prop_assert_eq!(one.next_u32(), two.next_u32());
            }
        }
    }
}
