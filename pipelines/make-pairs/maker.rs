// SPDX-License-Identifier: MIT OR Apache-2.0
//! One sequence: a scene, a codec, and the pairs that are cut from both.

use anyhow::{Context, Result};
use i2sb::{
    degrade::Degradation,
    noise::Stream,
    picture::{from_u8, to_u8},
    train::{dataset::Dataset, manifest::Manifest},
};

use crate::codecs::{self, Codec};
use crate::ledger::{self, Ledger};
use crate::planes::{cut, extended, psnr};
use crate::{Args, Target, colour, counter, roundtrip, scene};

/// Rows between the part of a frame that pairs are cut from and the number below it.
pub const GAP: usize = 16;
/// Set apart from the scene's draws, which may become more or fewer.
const CODEC_SEED: u64 = 0x636f_6465_6373;
const CROP_SEED: u64 = 0x6372_6f70_7365;

/// What all sequences are made with.
pub struct Maker<'a> {
    pub args: &'a Args,
    pub data: Dataset,
    pub manifest: Manifest,
    pub codecs: Vec<&'static Codec>,
    pub before: Box<dyn Degradation>,
    pub ledger: Ledger,
}

/// Why a sequence was not made: for itself, or because nothing can be written.
pub enum Trouble {
    Sequence(anyhow::Error),
    Disk(anyhow::Error),
}

impl Maker<'_> {
    /// Makes and writes one sequence; gives the number of its pairs.
    pub fn sequence(&self, number: u64) -> std::result::Result<usize, Trouble> {
        let args = self.args;
        let content = (args.frame, args.frame + GAP);
        let size = (args.frame, args.frame + GAP + counter::BLOCK);
        let scene = scene::draw(&self.data, content, args.frames, &mut Stream::new(args.seed, number));
        let rng = &mut Stream::new(args.seed ^ CODEC_SEED, number);
        let choice = codecs::choose(&self.codecs, rng).map_err(Trouble::Sequence)?;
        let (matrix, weights) = colour::MATRICES[rng.below(2) as usize];
        let colour = roundtrip::colour(&choice, weights).map_err(Trouble::Sequence)?;
        let numbered = scene.frames.iter().enumerate().map(|(i, clean)| -> Result<Vec<f32>> {
            // Each frame is spoiled alike: the stream begins anew.
            let mut same = Stream::new(args.seed ^ CODEC_SEED, !number);
            let spoiled = self.before.apply(clean, content.0, content.1, &mut same)?;
            let mut frame = extended(&spoiled, content, size.1);
            counter::write(&mut frame, size, i);
            Ok(frame)
        });
        let frames = numbered.collect::<Result<Vec<_>>>().map_err(Trouble::Sequence)?;
        let coded = roundtrip::run(&choice, &colour, &frames, size)
            .with_context(|| format!("{} {}", choice.format, choice.encoder))
            .map_err(Trouble::Sequence)?;

        let rng = &mut Stream::new(args.seed ^ CROP_SEED, number);
        let mut rows = Vec::new();
        let wanted = args.keep.min(args.pairs - (number as usize * args.keep).min(args.pairs));
        for frame in chosen(args.frames, wanted, rng) {
            let free = (args.frame - args.crop + 1) as u64;
            let at = (rng.below(free) as usize, rng.below(free) as usize);
            let mut clean = scene.frames[frame].clone();
            if args.target == Target::Encoded {
                clean = colour.decode(&colour.encode(&clean, content), content);
            }
            let mut clean = cut(&clean, content, at, args.crop);
            clean.iter_mut().for_each(|v| *v = from_u8(to_u8(*v)));
            let mut degraded = cut(&coded.frames[frame].rgb, size, at, args.crop);
            degraded.iter_mut().for_each(|v| *v = from_u8(to_u8(*v)));
            let name = format!("{number:06}-{frame:02}.webp");
            self.ledger.pair(&name, args.crop, &clean, &degraded).map_err(Trouble::Disk)?;
            let first = scene.pictures.first().map(String::as_str).unwrap_or_default();
            rows.push(self.row(first, |column| match column {
                "file" => name.clone(),
                "pictures" => scene.pictures.join(" "),
                "codec" => choice.codec.to_string(),
                "frame_type" => format!("{:?}", coded.frames[frame].kind),
                "format" => choice.format.to_string(),
                "matrix" => matrix.to_string(),
                "settings" => choice.encoder.clone(),
                "before" => args.before.clone(),
                "target" => format!("{:?}", args.target).to_lowercase(),
                "bits_per_pixel" => format!("{:.4}", coded.bits_per_pixel),
                "psnr" => format!("{:.2}", psnr(&clean, &degraded)),
                "sequence" => number.to_string(),
                "frame" => frame.to_string(),
                "seed" => args.seed.to_string(),
                _ => String::new(),
            }));
        }
        self.ledger.finish(number, &rows).map_err(Trouble::Disk)?;
        Ok(rows.len())
    }

    /// A row of the manifest: what is known of the photograph, and of what was done.
    fn row(&self, picture: &str, done: impl Fn(&str) -> String) -> Vec<String> {
        let field = |column: &&str| {
            let done = done(column);
            let known = || self.manifest.value(picture, column).unwrap_or_default().to_string();
            // Drawn scenes show no photograph and belong to nobody else.
            let drawn = || match *column {
                "tier" => "A".to_string(),
                "licence" => "drawn".to_string(),
                _ => String::new(),
            };
            if !done.is_empty() {
                done
            } else if picture.is_empty() {
                drawn()
            } else {
                known()
            }
        };
        ledger::COLUMNS.iter().map(field).collect()
    }
}

/// `count` of `0..of`, in order.
fn chosen(of: usize, count: usize, rng: &mut Stream) -> Vec<usize> {
    let mut all: Vec<usize> = (0..of).collect();
    for i in 0..count {
        let other = i + rng.below((of - i) as u64) as usize;
        all.swap(i, other);
    }
    all.truncate(count);
    all.sort_unstable();
    all
}
