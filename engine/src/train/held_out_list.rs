// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures that may never be trained on, because results are measured on them: a list of perceptual hashes.
//!
//! A hash is made of the signs of differences between neighbouring pixels of a small grey copy, so it survives
//! compression, resizing and noise, but not cutting. `pipelines/make-pairs/hash.sh` makes the list.

use std::sync::LazyLock;

use image::{DynamicImage, RgbImage, imageops::FilterType};
use image_hasher::{HashAlg, Hasher, HasherConfig, ImageHash};

/// The list that is built in: pictures and frames of clips that results are measured on.
const LIST: &str = include_str!("../../assets/held-out/hashes.txt");
/// Sides of the grid of differences: 256 bits.
const SIDE: u32 = 16;
/// Pictures are shrunk to this before they are turned and hashed.
const COPY: u32 = 64;
/// Bits in which hashes of the same picture may differ. Variants of one picture (JPEG of quality 10, half the
/// size, blur) differ in at most 24, two pictures in at least 52 (`known_variants_are_near`).
const NEAR: u32 = 38;

/// Hashes with names.
pub struct HeldOutList {
    entries: Vec<(ImageHash<Box<[u8]>>, String)>,
    hasher: Hasher<Box<[u8]>>,
}

impl HeldOutList {
    /// The list that is built in.
    pub fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<HeldOutList> = LazyLock::new(|| HeldOutList::parse(LIST));
        &BUILT_IN
    }

    /// Reads a list: a line each with the hash in base 64, a space and the name. Other lines are left out.
    pub fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (hash, name) = line.split_once(' ')?;
            Some((ImageHash::from_base64(hash).ok()?, name.to_string()))
        };
        let hasher =
            HasherConfig::with_bytes_type::<Box<[u8]>>().hash_alg(HashAlg::Gradient).hash_size(SIDE, SIDE);
        Self { entries: text.lines().filter_map(entry).collect(), hasher: hasher.to_hasher() }
    }

    /// A line of the list for a picture of interleaved pixels `(height, width, 3)`; nothing if their number does
    /// not fit the size.
    pub fn line(&self, (width, height): (usize, usize), rgb: &[u8], name: &str) -> Option<String> {
        let hash = self.hasher.hash_image(&small(width, height, rgb)?);
        Some(format!("{} {name}", hash.to_base64()))
    }

    /// The name of the entry that the picture is a variant of, mirrored or upside down too.
    pub fn find(&self, (width, height): (usize, usize), rgb: &[u8]) -> Option<&str> {
        let (distance, name) = self.nearest((width, height), rgb)?;
        (distance <= NEAR).then_some(name)
    }

    /// The entry that is nearest, and in how many bits it differs.
    fn nearest(&self, (width, height): (usize, usize), rgb: &[u8]) -> Option<(u32, &str)> {
        let copy = small(width, height, rgb)?;
        let turned = [copy.clone(), copy.fliph(), copy.flipv(), copy.rotate180()];
        let hashes = turned.map(|copy| self.hasher.hash_image(&copy));
        let nearest = |hash: &ImageHash<Box<[u8]>>| hashes.iter().map(|other| hash.dist(other)).min();
        let all = self.entries.iter().filter_map(|(hash, name)| Some((nearest(hash)?, name.as_str())));
        all.min_by_key(|(distance, _)| *distance)
    }
}

/// A copy of `COPY` pixels a side.
fn small(width: usize, height: usize, rgb: &[u8]) -> Option<DynamicImage> {
    let whole = RgbImage::from_raw(width as u32, height as u32, rgb.to_vec())?;
    Some(DynamicImage::from(whole).resize_exact(COPY, COPY, FilterType::Triangle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        degrade,
        noise::Stream,
        picture::{interleaved, planar},
        train::synthetic,
    };
    use std::path::Path;

    const PHOTO: &str = "../tests/fixtures/photo/generator.jpg";

    fn photo() -> ((usize, usize), Vec<u8>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PHOTO);
        let (width, height, rgb) = crate::picture::read_rgb8(&path, Default::default()).unwrap();
        ((width, height), rgb)
    }

    #[test]
    fn the_built_in_list_is_whole() {
        let list = HeldOutList::built_in();
        assert_eq!(list.entries.len(), LIST.lines().filter(|line| !line.starts_with('#')).count());
        let clips: std::collections::BTreeSet<_> =
            list.entries.iter().filter_map(|(_, name)| Some(name.split_once(" at ")?.0)).collect();
        assert_eq!(clips.len(), 10);
        assert_eq!(list.entries.iter().filter(|(_, name)| !name.contains(" at ")).count(), 52);
    }

    #[test]
    fn known_variants_are_near() {
        let (size, rgb) = photo();
        let list = HeldOutList::parse("");
        let list = HeldOutList::parse(&list.line(size, &rgb, "generator").unwrap());
        for spec in ["none", "jpeg:10", "blur-gauss:2", "down-up:4", "grain:20"] {
            let spoiled = degrade::parse(spec).unwrap();
            let x1 = spoiled.apply(&planar(&rgb), size.0, size.1, &mut Stream::new(0, 0)).unwrap();
            let (distance, name) = list.nearest(size, &interleaved(&x1)).unwrap();
            assert!(distance <= 24 && name == "generator", "{spec}: {distance}");
        }
        let mirrored: Vec<u8> = rgb
            .chunks_exact(3 * size.0)
            .flat_map(|row| row.chunks_exact(3).rev().flatten().copied().collect::<Vec<_>>())
            .collect();
        assert_eq!(list.find(size, &mirrored), Some("generator"));
    }

    #[test]
    fn other_pictures_are_far() {
        let (size, rgb) = photo();
        let near = HeldOutList::built_in().nearest(size, &rgb).unwrap();
        assert!(near.0 >= 52, "{near:?}");
        for i in 0..60 {
            let drawn = interleaved(&synthetic::draw((96, 96), &mut Stream::new(5, i)));
            assert_eq!(HeldOutList::built_in().find((96, 96), &drawn), None);
        }
        assert_eq!(HeldOutList::built_in().find((3, 3), &rgb), None);
    }
}
