// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder of photographs in memory. Whatever is not usable is named, counted and left out.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    held_out_list::HeldOutList,
    manifest::{Condition, Manifest, Weight},
};
use crate::{
    Cancel, Error, Result,
    picture::{Limits, READABLE, is_foreign, is_picture, read_rgb8},
};

/// Which pictures of a folder are used, and how much memory they may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetOptions {
    /// Pictures whose shorter side has fewer pixels are left out.
    pub min_side: usize,
    /// Bytes that all decoded pictures together may take (3 per pixel); the rest is left out.
    pub max_bytes: usize,
    /// Only pictures whose row in `MANIFEST.csv` meets all of these, such as `tier=A`.
    pub only: Vec<Condition>,
    /// How often some pictures are drawn; factors multiply.
    pub weights: Vec<Weight>,
    /// Leave out what results are measured on, see [`super::held_out_list`]. No recipe can change it.
    #[serde(skip)]
    pub refuse_held_out: bool,
}

impl Default for DatasetOptions {
    /// 64 pixels, 4 GiB, all pictures alike.
    fn default() -> Self {
        Self {
            min_side: 64,
            max_bytes: 4 << 30,
            only: Vec::new(),
            weights: Vec::new(),
            refuse_held_out: false,
        }
    }
}

/// A picture in memory, 8 bits.
#[derive(Debug)]
pub struct Stored {
    /// Name below the folder.
    pub name: String,
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Clean pixels, interleaved `(height, width, 3)`.
    pub rgb: Vec<u8>,
    /// Degraded pixels, where they are ready-made.
    pub degraded: Option<Vec<u8>>,
}

/// What became of the files of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Pictures in memory.
    pub used: usize,
    /// Pixels in memory.
    pub pixels: usize,
    /// Pictures that [`DatasetOptions::only`] leaves out.
    pub filtered: usize,
    /// Files that could not be used, each of which was reported.
    pub skipped: usize,
}

/// All usable pictures of a folder.
pub struct Dataset {
    pictures: Vec<Stored>,
    /// Running sums of the weights.
    sums: Vec<f64>,
    census: Census,
}

impl Dataset {
    /// Reads all pictures below `folder`, in the order of their names. With `pairs`, the degraded
    /// picture of each is read from the file of the same name there. `skipped` is told each file
    /// that cannot be used, and why; `progress` how many of how many files are done.
    ///
    /// # Errors
    /// [`Error::Io`] if a folder cannot be listed; [`Error::File`] if nothing usable is in it or the
    /// manifest is broken; [`Error::Setting`] for a condition on a column that is not there;
    /// [`Error::Cancelled`].
    pub fn open(
        folder: &Path,
        pairs: Option<&Path>,
        options: &DatasetOptions,
        cancel: &Cancel,
        mut skipped: impl FnMut(&Path, &str),
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let manifest = read_manifest(folder, options)?;
        let mut census = Census::default();
        let mut skip = |census: &mut Census, path: &Path, reason: &str| {
            census.skipped += 1;
            skipped(path, reason);
        };
        let mut names = Vec::new();
        for name in walk(folder)? {
            let text = name.to_string_lossy().into_owned();
            if !is_picture(&name) {
                // Worth a line, unlike text files.
                if is_foreign(&name) {
                    skip(&mut census, &name, "is a kind of picture that cannot be read");
                }
            } else if !options.only.is_empty() && !manifest.has(&text) {
                skip(&mut census, &name, "has no row in the manifest");
            } else if !options.only.iter().all(|condition| manifest.meets(&text, condition)) {
                census.filtered += 1;
            } else {
                names.push(text);
            }
        }

        let (mut pictures, mut sums, mut bytes, mut sum) = (Vec::new(), Vec::new(), 0usize, 0.0);
        // Groups bound how much is decoded beyond the limit, and let the work be stopped.
        for (group, chunk) in names.chunks(GROUP).enumerate() {
            cancel.check()?;
            let read: Vec<_> = chunk.par_iter().map(|name| load(folder, pairs, name, options)).collect();
            for (name, picture) in chunk.iter().zip(read) {
                let size = picture.as_ref().map_or(0, |p| p.rgb.len() * (1 + usize::from(pairs.is_some())));
                match picture {
                    Err(reason) => skip(&mut census, Path::new(name), &reason),
                    Ok(_) if bytes + size > options.max_bytes => {
                        let limit = format!("memory limit of {} bytes is reached", options.max_bytes);
                        skip(&mut census, Path::new(name), &limit);
                    }
                    Ok(picture) => {
                        bytes += size;
                        census.used += 1;
                        census.pixels += picture.width * picture.height;
                        let met = options.weights.iter().filter(|w| manifest.meets(name, &w.condition));
                        sum += met.map(|w| f64::from(w.factor)).product::<f64>();
                        sums.push(sum);
                        pictures.push(picture);
                    }
                }
            }
            progress((group * GROUP + chunk.len()).min(names.len()), names.len());
        }
        if pictures.is_empty() {
            let Census { filtered, skipped, .. } = census;
            let reason = format!("holds no picture to learn from ({filtered} filtered, {skipped} skipped)");
            return Err(Error::file(folder, reason));
        }
        Ok(Self { pictures, sums, census })
    }

    /// The pictures, by name.
    pub fn pictures(&self) -> &[Stored] {
        &self.pictures
    }

    /// What became of the files.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// The picture at a point of the weights, `unit` in [0, 1).
    pub fn pick(&self, unit: f64) -> &Stored {
        let total = self.sums.last().copied().unwrap_or(1.0);
        let at = self.sums.partition_point(|sum| *sum <= unit * total);
        &self.pictures[at.min(self.pictures.len() - 1)]
    }
}

/// Pictures that are decoded side by side.
const GROUP: usize = 32;

fn read_manifest(folder: &Path, options: &DatasetOptions) -> Result<Manifest> {
    let conditions = || options.only.iter().chain(options.weights.iter().map(|w| &w.condition));
    if conditions().next().is_none() {
        return Ok(Manifest::default());
    }
    let manifest = Manifest::read(folder)?;
    conditions().try_for_each(|condition| manifest.check(condition))?;
    Ok(manifest)
}

/// All files below `folder`, relative to it, sorted by name. Links to folders are not followed, so a
/// loop of links cannot trap the walk; hidden names are left out.
pub fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(inside) = open.pop() {
        let path = folder.join(&inside);
        for entry in std::fs::read_dir(&path).map_err(Error::io(&path))? {
            let entry = entry.map_err(Error::io(&path))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let name = inside.join(entry.file_name());
            if entry.file_type().map_err(Error::io(entry.path()))?.is_dir() {
                open.push(name);
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn load(
    folder: &Path,
    pairs: Option<&Path>,
    name: &str,
    options: &DatasetOptions,
) -> std::result::Result<Stored, String> {
    let limits =
        Limits { max_pixels: Limits::default().max_pixels.min(options.max_bytes / 3), ..Limits::default() };
    let read = |path: &Path| read_rgb8(path, limits).map_err(|err| reason(&err));
    let (width, height, rgb) = read(&folder.join(name))?;
    if width.min(height) < options.min_side {
        return Err(format!("{width}×{height} pixels are fewer than {} to a side", options.min_side));
    }
    if options.refuse_held_out
        && let Some(known) = HeldOutList::built_in().find((width, height), &rgb)
    {
        return Err(format!("is held out for evaluation, as {known}"));
    }
    let degraded = match pairs {
        None => None,
        Some(pairs) => {
            let twin = twin(pairs, name).ok_or("has no degraded picture of the same name")?;
            let (w, h, degraded) = read(&twin)?;
            if (w, h) != (width, height) {
                return Err(format!("{width}×{height} pixels, but degraded {w}×{h}"));
            }
            Some(degraded)
        }
    };
    Ok(Stored { name: name.to_string(), width, height, rgb, degraded })
}

/// The file of this name in the other folder, with whatever extension a picture may have.
pub fn twin(folder: &Path, name: impl AsRef<Path>) -> Option<PathBuf> {
    let same = folder.join(name);
    let others = READABLE.iter().flat_map(|kind| kind.extensions).map(|e| same.with_extension(e));
    std::iter::once(same.clone()).chain(others).find(|path| path.is_file())
}

/// The reason alone: whoever reports it names the file.
fn reason(err: &Error) -> String {
    match err {
        Error::File { reason, .. } => reason.clone(),
        Error::Io { source, .. } => source.to_string(),
        err => err.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Picture, SaveOptions};

    fn fixtures() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pictures")
    }

    fn open(folder: &Path, options: &DatasetOptions) -> Result<(Dataset, Vec<String>)> {
        let mut lines = Vec::new();
        let skipped = |path: &Path, reason: &str| lines.push(format!("{}: {reason}", path.display()));
        let data = Dataset::open(folder, None, options, &Cancel::default(), skipped, |_, _| {})?;
        Ok((data, lines))
    }

    #[test]
    fn every_file_is_used_or_named() {
        let options = DatasetOptions { min_side: 32, ..Default::default() };
        let (data, lines) = open(&fixtures(), &options).unwrap();
        let known = |name: &PathBuf| is_picture(name) || is_foreign(name);
        let files = walk(&fixtures()).unwrap().into_iter().filter(known).count();
        assert_eq!(data.census().used + lines.len(), files);
        for wrong in ["truncated.jpg", "truncated.png", "truncated.webp", "empty.png", "text.png", "huge.png"]
        {
            assert_eq!(lines.iter().filter(|line| line.starts_with(wrong)).count(), 1, "{wrong}: {lines:?}");
        }
        for right in
            ["full.avif", "half.avif", "cmyk.jpg", "rgb16.png", "animated.webp", "really-png.jpg", "grey.jpg"]
        {
            assert!(data.pictures().iter().any(|p| p.name == right), "{right}");
        }
        let (_, lines) = open(&fixtures(), &DatasetOptions { min_side: 36, ..options.clone() })
            .err()
            .map_or_else(|| panic!("all pictures are 35 pixels high"), |err| ((), vec![err.to_string()]));
        assert!(lines[0].contains("no picture to learn from"), "{lines:?}");
        let tight = DatasetOptions { max_bytes: 10_000, ..options };
        assert_eq!(open(&fixtures(), &tight).unwrap().0.census().used, 2);
    }

    #[test]
    fn the_manifest_chooses_and_weighs() {
        let dir = tempfile::tempdir().unwrap();
        for (i, name) in ["a.png", "b.png", "c.png", "d.png"].into_iter().enumerate() {
            let picture = Picture::from_rgb8(8, 8, &[i as u8; 192]).unwrap();
            picture.save(dir.path().join(name), SaveOptions::default()).unwrap();
        }
        std::fs::write(
            dir.path().join("MANIFEST.csv"),
            "file,tier,package\na.png,A,p\nb.png,A,q\nc.png,B,q\n",
        )
        .unwrap();
        let options: DatasetOptions =
            toml::from_str("min_side = 1\nonly = ['tier=A']\nweights = ['package=q:0.5']").unwrap();
        let (data, lines) = open(dir.path(), &options).unwrap();
        assert_eq!(lines, ["d.png: has no row in the manifest"]);
        assert_eq!(data.census(), &Census { used: 2, pixels: 128, filtered: 1, skipped: 1 });
        let name = |unit| data.pick(unit).name.as_str();
        assert_eq!([name(0.0), name(0.66), name(0.67), name(0.9999)], ["a.png", "a.png", "b.png", "b.png"]);
        let wrong: DatasetOptions = toml::from_str("only = ['tiers=A']").unwrap();
        assert!(open(dir.path(), &wrong).err().unwrap().to_string().contains("file, tier, package"));
    }

    #[test]
    fn pairs_are_read_by_name() {
        let (clean, spoiled) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let save = |dir: &Path, name: &str, side: usize, value: u8| {
            let picture = Picture::from_rgb8(side, side, &vec![value; 3 * side * side]).unwrap();
            picture.save(dir.join(name), SaveOptions::default()).unwrap();
        };
        save(clean.path(), "a.png", 8, 1);
        save(clean.path(), "b.png", 8, 1);
        save(clean.path(), "c.png", 8, 1);
        save(spoiled.path(), "a.webp", 8, 9);
        save(spoiled.path(), "b.png", 9, 9);
        let mut lines = Vec::new();
        let options = DatasetOptions { min_side: 1, ..Default::default() };
        let skipped = |_: &Path, reason: &str| lines.push(reason.to_string());
        let data = Dataset::open(
            clean.path(),
            Some(spoiled.path()),
            &options,
            &Cancel::default(),
            skipped,
            |_, _| {},
        )
        .unwrap();
        assert_eq!(data.pictures()[0].degraded.as_deref(), Some(&[9u8; 192][..]));
        assert_eq!(lines, ["8×8 pixels, but degraded 9×9", "has no degraded picture of the same name"]);
    }
}
