// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scores as a table for people and as CSV.

/// Distances of one picture to the original.
#[derive(Debug, Clone, Copy)]
pub struct Scores {
    /// dB over the three channels; infinite for equal pictures.
    pub psnr: f64,
    pub ssim: f64,
    pub lpips: Option<f64>,
}

/// One picture.
#[derive(Debug, Clone)]
pub struct Row {
    pub image: String,
    /// Of the degraded picture.
    pub before: Scores,
    /// Of the restored picture.
    pub after: Scores,
}

/// Columns of the CSV file, in order.
const COLUMNS: &str = "image,psnr_in,psnr_out,ssim_in,ssim_out,lpips_in,lpips_out";

/// The row `mean`: of each column over all rows.
pub fn mean(rows: &[Row]) -> Row {
    let scores = |of: fn(&Row) -> Scores| {
        let mean = |value: &dyn Fn(&Scores) -> f64| {
            rows.iter().map(|row| value(&of(row))).sum::<f64>() / rows.len().max(1) as f64
        };
        let lpips = rows.iter().all(|row| of(row).lpips.is_some());
        Scores {
            psnr: mean(&|s| s.psnr),
            ssim: mean(&|s| s.ssim),
            lpips: lpips.then(|| mean(&|s| s.lpips.unwrap_or_default())),
        }
    };
    Row { image: "mean".into(), before: scores(|row| row.before), after: scores(|row| row.after) }
}

/// One line per row; LPIPS is empty where it was left out. `last`: names of more columns, and what they hold in
/// the last row; empty in the others.
pub fn csv(rows: &[Row], last: Option<(&str, String)>) -> String {
    let more = |value: &str| if last.is_some() { format!(",{value}") } else { String::new() };
    let mut text = format!("{COLUMNS}{}\n", more(last.as_ref().map_or("", |(names, _)| names)));
    for (at, Row { image, before, after }) in rows.iter().enumerate() {
        let lpips = |s: &Scores| s.lpips.map(|v| format!("{v:.6}")).unwrap_or_default();
        text.push_str(&format!(
            "{},{:.4},{:.4},{:.6},{:.6},{},{}{}\n",
            quoted(image),
            before.psnr,
            after.psnr,
            before.ssim,
            after.ssim,
            lpips(before),
            lpips(after),
            match &last {
                Some((_, values)) if at + 1 == rows.len() => more(values),
                Some((names, _)) => more(&",".repeat(names.matches(',').count())),
                None => String::new(),
            }
        ));
    }
    text
}

/// The table with gains, for a terminal.
pub fn text(rows: &[Row]) -> String {
    let wide = rows.iter().map(|row| row.image.chars().count()).max().unwrap_or(0).max("image".len());
    let mut text = format!(
        "{:wide$}  {:^23}  {:^24}  {:^24}\n{:wide$}  {:>7} {:>7} {:>7}  {:>7} {:>7} {:>8}  {:>7} {:>7} {:>8}\n",
        "",
        "PSNR (dB)",
        "SSIM",
        "LPIPS",
        "image",
        "in",
        "out",
        "gain",
        "in",
        "out",
        "gain",
        "in",
        "out",
        "gain"
    );
    for (at, Row { image, before, after }) in rows.iter().enumerate() {
        if at + 1 == rows.len() {
            text.push_str(&format!("{}\n", "-".repeat(wide + 77)));
        }
        let lpips = match (before.lpips, after.lpips) {
            (Some(a), Some(b)) => format!("{a:7.4} {b:7.4} {:+8.4}", b - a),
            _ => String::new(),
        };
        // A picture that is the original has no noise, so its ratio is infinite and the gain no number.
        let gain = match after.psnr - before.psnr {
            gain if gain.is_finite() => format!("{gain:+.2}"),
            _ => "–".into(),
        };
        text.push_str(&format!(
            "{image:wide$}  {:7.2} {:7.2} {gain:>7}  {:7.4} {:7.4} {:+8.4}  {lpips}\n",
            before.psnr,
            after.psnr,
            before.ssim,
            after.ssim,
            after.ssim - before.ssim,
        ));
    }
    text
}

fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(image: &str, psnr: f64, lpips: Option<f64>) -> Row {
        let scores = Scores { psnr, ssim: 0.5, lpips };
        Row { image: image.into(), before: scores, after: Scores { psnr: psnr + 1.0, ..scores } }
    }

    #[test]
    fn the_last_row_is_the_mean() {
        let mut rows = vec![row("a,b.png", 20.0, Some(0.25)), row("c.png", 30.0, Some(0.75))];
        rows.push(mean(&rows));
        let more = csv(&rows, Some(("p,q", "1,2".into())));
        let csv = csv(&rows, None);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "image,psnr_in,psnr_out,ssim_in,ssim_out,lpips_in,lpips_out");
        assert_eq!(lines[1], "\"a,b.png\",20.0000,21.0000,0.500000,0.500000,0.250000,0.250000");
        assert_eq!(lines[3], "mean,25.0000,26.0000,0.500000,0.500000,0.500000,0.500000");
        assert!(text(&rows).lines().last().unwrap().contains("+1.00"));
        let more: Vec<&str> = more.lines().collect();
        for (line, end) in [(0, ",p,q"), (1, ",,"), (2, ",,"), (3, ",1,2")] {
            assert_eq!(more[line], format!("{}{end}", lines[line]));
        }
    }

    #[test]
    fn left_out_scores_leave_empty_fields_and_originals_have_no_gain() {
        let rows = [row("a", f64::INFINITY, None)];
        assert!(csv(&rows, None).ends_with("a,inf,inf,0.500000,0.500000,,\n"));
        // One that is the original and is harmed, one that is left alone: neither they nor their mean gain a number.
        let mut rows = vec![row("harmed", f64::INFINITY, None), row("left", f64::INFINITY, None)];
        rows[0].after.psnr = 40.0;
        rows.push(mean(&rows));
        let text = text(&rows);
        for (name, out) in [("harmed", "40.00"), ("left", "inf"), ("mean", "inf")] {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            assert_eq!(line.split_whitespace().collect::<Vec<_>>()[..4], [name, "inf", out, "–"], "{text}");
        }
    }
}
