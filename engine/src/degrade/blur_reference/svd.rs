// SPDX-License-Identifier: MIT OR Apache-2.0
//! Singular value decomposition of small square matrices, by one-sided Jacobi rotations.

/// `A = U·diag(s)·Vᵀ`, all row-major.
pub(super) struct Svd {
    pub(super) u: Vec<f64>,
    pub(super) singulars: Vec<f64>,
    pub(super) v: Vec<f64>,
}

/// Decomposes `a`, row-major `(n, n)`; singular values descending, U and V orthogonal even where
/// singular values are zero. Time grows as n³: a second at n = 256.
pub(super) fn svd(a: &[f64], n: usize) -> Svd {
    // Rows of `left` are columns of A·V, rows of `right` those of V: rotations touch whole rows.
    let mut left: Vec<f64> = (0..n * n).map(|i| a[i % n * n + i / n]).collect();
    let mut right: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    let scale = a.iter().map(|v| v * v).sum::<f64>();
    // Convergence is quadratic at the end; sizes of use here need about ten sweeps.
    for _ in 0..60 {
        let mut rotated = false;
        for p in 0..n {
            for q in p + 1..n {
                rotated |= rotate(&mut left, &mut right, n, p, q, scale);
            }
        }
        if !rotated {
            break;
        }
    }
    let norms: Vec<f64> = left.chunks_exact(n).map(|row| dot(row, row).sqrt()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| norms[j].total_cmp(&norms[i]));
    let largest = norms[order[0]].max(f64::MIN_POSITIVE);

    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(n);
    for &i in &order {
        let row = &left[i * n..(i + 1) * n];
        // A direction that A does not reach is free: any that is orthogonal to the others.
        let direction = (norms[i] > 1e-11 * largest).then(|| row.iter().map(|v| v / norms[i]).collect());
        let direction = direction.unwrap_or_else(|| orthogonal_to(&basis, n));
        basis.push(direction);
    }
    Svd {
        u: (0..n * n).map(|i| basis[i % n][i / n]).collect(),
        singulars: order.iter().map(|&i| norms[i]).collect(),
        v: (0..n * n).map(|i| right[order[i % n] * n + i / n]).collect(),
    }
}

/// Makes rows `p` and `q` of `left` orthogonal; true if they were not.
fn rotate(left: &mut [f64], right: &mut [f64], n: usize, p: usize, q: usize, scale: f64) -> bool {
    let (head, tail) = left.split_at_mut(q * n);
    let (x, y) = (&mut head[p * n..(p + 1) * n], &mut tail[..n]);
    let (xx, yy, xy) = (dot(x, x), dot(y, y), dot(x, y));
    if xy.abs() <= 1e-15 * (xx * yy).sqrt() || xy.abs() <= 1e-30 * scale {
        return false;
    }
    let zeta = (yy - xx) / (2.0 * xy);
    let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = c * t;
    turn(x, y, c, s);
    let (head, tail) = right.split_at_mut(q * n);
    turn(&mut head[p * n..(p + 1) * n], &mut tail[..n], c, s);
    true
}

fn turn(x: &mut [f64], y: &mut [f64], c: f64, s: f64) {
    for (x, y) in x.iter_mut().zip(y) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// A unit vector orthogonal to all of `basis`, which has fewer than n vectors: the unit axis that is
/// farthest from their span, projected twice.
fn orthogonal_to(basis: &[Vec<f64>], n: usize) -> Vec<f64> {
    let inside = |axis: usize| basis.iter().map(|b| b[axis] * b[axis]).sum::<f64>();
    let axis = (0..n).min_by(|&i, &j| inside(i).total_cmp(&inside(j))).unwrap_or(0);
    let mut free: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i == axis))).collect();
    for _ in 0..2 {
        for b in basis {
            let along = dot(&free, b);
            free.iter_mut().zip(b).for_each(|(f, b)| *f -= along * b);
        }
        let norm = dot(&free, &free).sqrt();
        free.iter_mut().for_each(|f| *f /= norm);
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;

    fn check(a: &[f64], n: usize) {
        let Svd { u, singulars, v } = svd(a, n);
        assert!(singulars.windows(2).all(|w| w[0] >= w[1]) && singulars[n - 1] >= 0.0);
        for i in 0..n {
            for j in 0..n {
                let sum = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
                let unit = f64::from(u8::from(i == j));
                assert!((sum(&|k| u[k * n + i] * u[k * n + j]) - unit).abs() < 1e-9, "U {i} {j}");
                assert!((sum(&|k| v[k * n + i] * v[k * n + j]) - unit).abs() < 1e-9, "V {i} {j}");
                let back = sum(&|k| u[i * n + k] * singulars[k] * v[j * n + k]);
                assert!((back - a[i * n + j]).abs() < 1e-9, "A {i} {j}");
            }
        }
    }

    #[test]
    fn parts_are_orthogonal_and_multiply_back() {
        let mut rng = Stream::new(1, 1);
        for n in [1, 2, 3, 8, 33] {
            let a: Vec<f64> = (0..n * n).map(|_| f64::from(rng.next_f32()) - 0.5).collect();
            check(&a, n);
            // Rank one, and nothing at all.
            check(&(0..n * n).map(|i| (i / n + 1) as f64 * (i % n) as f64).collect::<Vec<_>>(), n);
            check(&vec![0.0; n * n], n);
        }
    }
}
