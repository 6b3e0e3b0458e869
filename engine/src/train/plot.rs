// SPDX-License-Identifier: MIT OR Apache-2.0
//! The curves of a run as a picture: loss and gain over steps.

use crate::drawing::{Canvas, Colour, INK, Letters, PAPER};

/// Width and height of the picture.
const SIZE: (usize, usize) = (960, 480);
/// Space around a panel, in pixels.
const MARGIN: usize = 56;
/// Colours of the curves, in turn.
const COLOURS: [Colour; 6] =
    [[96, 165, 250], [251, 146, 60], [74, 222, 128], [244, 114, 182], [250, 204, 21], [167, 139, 250]];

/// One curve: its name and its points.
pub struct Curve {
    /// Name in the legend.
    pub name: String,
    /// Step and value.
    pub points: Vec<(f64, f64)>,
}

/// Draws two panels side by side: the loss on a logarithmic axis, and the gains in dB.
pub fn plot(title: &str, loss: &Curve, gains: &[Curve]) -> Canvas {
    let mut canvas = Canvas::new(SIZE.0, SIZE.1, INK);
    canvas.text((MARGIN, 8), title, Letters::Large, PAPER);
    let width = SIZE.0 / 2;
    let logarithm = Curve {
        name: format!("log10 {}", loss.name),
        points: loss.points.iter().map(|(x, y)| (*x, y.max(1e-12).log10())).collect(),
    };
    panel(&mut canvas, (0, 24), (width, SIZE.1 - 24), std::slice::from_ref(&logarithm));
    panel(&mut canvas, (width, 24), (width, SIZE.1 - 24), gains);
    canvas
}

/// Axes, numbers, curves and legend of one panel.
fn panel(canvas: &mut Canvas, at: (usize, usize), size: (usize, usize), curves: &[Curve]) {
    let all = || curves.iter().flat_map(|c| &c.points).filter(|p| p.0.is_finite() && p.1.is_finite());
    let Some(range) = all().fold(None, |r: Option<[f64; 4]>, p| {
        let [x0, x1, y0, y1] = r.unwrap_or([p.0, p.0, p.1, p.1]);
        Some([x0.min(p.0), x1.max(p.0), y0.min(p.1), y1.max(p.1)])
    }) else {
        return;
    };
    let [x0, x1, y0, y1] = range;
    let (dx, dy) = ((x1 - x0).max(1e-9), (y1 - y0).max(1e-9));
    let (w, h) = (size.0 - 2 * MARGIN, size.1 - 2 * MARGIN);
    let (left, top) = (at.0 + MARGIN, at.1 + MARGIN);
    let place = |p: &(f64, f64)| {
        let x = ((p.0 - x0) / dx * w as f64).round() as usize;
        let y = ((y1 - p.1) / dy * h as f64).round() as usize;
        (left + x, top + y)
    };
    for i in 0..=4 {
        let share = f64::from(i) / 4.0;
        let y = top + (share * h as f64) as usize;
        canvas.line((left, y), (left + w, y), [63, 63, 70]);
        canvas.text(
            (at.0 + 4, y.saturating_sub(6)),
            &format!("{:.3}", y1 - share * dy),
            Letters::Small,
            PAPER,
        );
        let x = left + (share * w as f64) as usize;
        canvas.text(
            (x.saturating_sub(12), top + h + 8),
            &format!("{:.0}", x0 + share * dx),
            Letters::Small,
            PAPER,
        );
    }
    for (i, curve) in curves.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        for pair in curve.points.windows(2).filter(|p| p.iter().all(|p| p.1.is_finite())) {
            canvas.line(place(&pair[0]), place(&pair[1]), colour);
        }
        canvas.text((left + i * (w / curves.len().max(1)), at.1 + 32), &curve.name, Letters::Small, colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_each_curve_in_its_colour_and_survives_empty_and_flat_ones() {
        let curve = |name: &str, points: &[(f64, f64)]| Curve { name: name.into(), points: points.to_vec() };
        let loss = curve("loss", &[(0.0, 1.0), (10.0, 0.1)]);
        let gains =
            [curve("jpeg:10", &[(0.0, 0.0), (10.0, 1.0)]), curve("jpeg:20", &[(0.0, 0.5), (10.0, 0.5)])];
        let canvas = plot("run", &loss, &gains);
        let count = |c: Colour| canvas.rgb().chunks_exact(3).filter(|p| **p == c).count();
        assert!(count(COLOURS[0]) > 300 && count(COLOURS[1]) > 300);
        plot("empty", &curve("loss", &[]), &[]);
        plot("one", &curve("loss", &[(1.0, f64::NAN), (2.0, 0.5)]), &[curve("g", &[(1.0, 1.0)])]);
    }
}
