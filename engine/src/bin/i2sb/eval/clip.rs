// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder of numbered frames as one clip, and how steady its versions are.

use std::path::{Path, PathBuf};

use i2sb::{
    Error,
    metric::{StillMeter, WarpMeter},
};

/// Columns that the CSV file of a clip has more, filled in the last row.
pub const COLUMNS: &str = "deviation_in,deviation_out,warp_original,warp_in,warp_out";

/// Both meters, for the degraded and the restored version.
pub struct Clip {
    size: (usize, usize),
    frames: usize,
    still: StillMeter<2>,
    warp: WarpMeter<2>,
}

impl Clip {
    /// For frames of this width and height.
    pub fn new((width, height): (usize, usize)) -> Self {
        Self {
            size: (width, height),
            frames: 0,
            still: StillMeter::new(width, height),
            warp: WarpMeter::new(width, height),
        }
    }

    /// Adds the next frame: original, degraded, restored.
    pub fn push(&mut self, path: &Path, size: (usize, usize), planes: [&[f32]; 3]) -> i2sb::Result<()> {
        if size != self.size {
            let ((w, h), (width, height)) = (size, self.size);
            return Err(Error::file(
                path,
                format!("{w}×{h} pixels, but the clip's first frame {width}×{height}"),
            ));
        }
        let [original, degraded, restored] = planes;
        self.still.push(original, [degraded, restored])?;
        self.warp.push(original, [degraded, restored])?;
        self.frames += 1;
        Ok(())
    }

    /// For people.
    pub fn text(&self) -> String {
        let ratio = |before: f64, after: f64| {
            if before > 0.0 {
                format!("{:.2} times the input's", after / before)
            } else {
                "input: none".into()
            }
        };
        let share = |share: f64| format!("{:.0} %", 100.0 * share);
        let still = match self.still.deviation() {
            Some([a, b]) => {
                format!("{a:.3} -> {b:.3} levels, {} ({} still)", ratio(a, b), share(self.still.share()))
            }
            None => "nothing stands still".into(),
        };
        let warp = match self.warp.errors() {
            Some((original, [a, b])) => format!(
                "{a:.3} -> {b:.3} levels, {}, original {original:.3} ({} followed)",
                ratio(a, b),
                share(self.warp.share())
            ),
            None => "no motion could be followed".into(),
        };
        format!("{} frames\ntemporal deviation  {still}\nwarping error       {warp}\n", self.frames)
    }

    /// The fields of [`COLUMNS`].
    pub fn csv(&self) -> String {
        let field = |value: Option<f64>| value.map(|v| format!("{v:.4}")).unwrap_or_default();
        let (still, warp) = (self.still.deviation(), self.warp.errors());
        let values = [
            still.map(|s| s[0]),
            still.map(|s| s[1]),
            warp.map(|w| w.0),
            warp.map(|w| w.1[0]),
            warp.map(|w| w.1[1]),
        ];
        values.map(field).join(",")
    }
}

/// The frames by their numbers: the last digits of each name.
pub fn in_order(names: Vec<PathBuf>) -> i2sb::Result<Vec<PathBuf>> {
    let mut numbered = Vec::with_capacity(names.len());
    for name in names {
        let stem = name.file_stem().unwrap_or_default().to_string_lossy();
        let digits = &stem[stem.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
        match digits.parse::<u64>() {
            Ok(number) => numbered.push((number, name)),
            Err(_) => return Err(Error::file(name, "a frame's name must end in its number")),
        }
    }
    numbered.sort();
    match numbered.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            let other = pair[0].1.display();
            Err(Error::file(&pair[1].1, format!("the same frame number as {other}; a folder holds one clip")))
        }
        None => Ok(numbered.into_iter().map(|(_, name)| name).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_in_order_of_their_numbers() {
        let order = |names: &[&str]| in_order(names.iter().map(PathBuf::from).collect());
        let sorted = order(&["f10.png", "f9.png", "f008.png"]).unwrap();
        assert_eq!(sorted, ["f008.png", "f9.png", "f10.png"].map(PathBuf::from));
        for (names, word) in [(["a.png", "b1.png"], "number"), (["a/01.png", "b/1.png"], "same frame number")]
        {
            assert!(order(&names).unwrap_err().to_string().contains(word));
        }
    }

    #[test]
    fn a_flickering_input_and_a_steady_output() {
        let flat = |v: f32| vec![v; 3 * 16 * 16];
        let mut clip = Clip::new((16, 16));
        let step = 2.0 / 255.0;
        for n in 0..4 {
            let degraded = flat(if n % 2 == 0 { 2.0 * step } else { -2.0 * step });
            clip.push(Path::new("x"), (16, 16), [&flat(0.0), &degraded, &flat(0.0)]).unwrap();
        }
        assert_eq!(clip.csv(), "2.0000,0.0000,0.0000,4.0000,0.0000");
        assert!(clip.text().contains("2.000 -> 0.000 levels, 0.00 times the input's (100 % still)"));
        assert!(clip.push(Path::new("x"), (8, 16), [&[]; 3]).unwrap_err().to_string().contains("8×16"));
    }
}
