// SPDX-License-Identifier: MIT OR Apache-2.0
//! One folder for a machine with a GPU and no network: binaries, fixtures, presets, data and `run.sh`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::source;

/// Most bytes of the folder.
const LIMIT: u64 = 60_000_000;
/// Most bytes of it for pictures that are never trained on; training pictures fill what is left.
const EVAL_LIMIT: u64 = 5_000_000;
/// Endings of pictures.
const PICTURES: &[&str] = &["jpg", "jpeg", "png", "webp", "avif"];
/// Folders that go in whole: from, to.
const FOLDERS: &[(&str, &str)] =
    &[("tests/fixtures/i2sb", "fixtures"), ("weights", "weights"), ("engine/recipes", "recipes")];
/// Files of the bundle itself.
const OWN: &str = "tests/cuda/bundle";
/// Programs: package, features, file as cargo makes it, name in the bundle.
const BINARIES: &[(&str, &str, &str, &str)] = &[
    ("i2sb", "cudnn", "i2sb", "i2sb"),
    ("i2sb-cuda", "cudnn", "libi2sb_cuda.so", "libi2sb-cuda.so"),
    ("gst-plugin-i2sb", "", "libgsti2sb.so", "libgsti2sb.so"),
];
const USAGE: &str = "usage: cargo xtask bundle-cuda OUT [--train DIR] [--eval DIR] [--binaries DIR]; without DIR, \
                     the data folders beside the checkout";

struct Options {
    out: PathBuf,
    train: PathBuf,
    eval: PathBuf,
    binaries: Option<PathBuf>,
}

/// Arguments: the new folder, and where data and built binaries are.
pub fn run(args: &[String]) -> Vec<String> {
    match options(args).and_then(|options| bundle(&options)) {
        Ok(bytes) => {
            eprintln!("{:.1} MB", bytes as f64 / 1e6);
            Vec::new()
        }
        Err(reason) => vec![reason],
    }
}

fn options(args: &[String]) -> Result<Options, String> {
    let data = crate::root().join("../shared/data");
    let (mut out, mut binaries) = (None, None);
    let (mut train, mut eval) = (data.join("train-small"), data.join("eval"));
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value =
            || args.next().map(PathBuf::from).ok_or_else(|| format!("{arg} names no folder; {USAGE}"));
        match arg.as_str() {
            "--train" => train = value()?,
            "--eval" => eval = value()?,
            "--binaries" => binaries = Some(value()?),
            _ if arg.starts_with('-') || out.is_some() => return Err(format!("{arg}? {USAGE}")),
            _ => out = Some(PathBuf::from(arg)),
        }
    }
    let out = out.ok_or_else(|| USAGE.to_string())?;
    if out.exists() {
        return Err(format!("{}: exists already", out.display()));
    }
    Ok(Options { out, train, eval, binaries })
}

fn bundle(o: &Options) -> Result<u64, String> {
    let root = crate::root();
    for (name, folder) in [("--train", &o.train), ("--eval", &o.eval)] {
        if pictures(folder)?.is_empty() {
            return Err(format!("{}: holds no pictures; give another folder by {name}", folder.display()));
        }
    }
    let folder = o.out.join("bin");
    fs::create_dir_all(&folder).map_err(told(&folder))?;
    for (package, features, file, name) in BINARIES {
        let built = match &o.binaries {
            Some(folder) => folder.join(file),
            None => build(&root, package, features)?.join(file),
        };
        pack(&built, &folder.join(name))?;
    }
    let files = source::files(&root);
    for (from, to) in FOLDERS.iter().chain(&[(OWN, "")]) {
        for file in files.iter().filter(|file| file.starts_with(from)) {
            let inside = file.strip_prefix(from).unwrap_or(file);
            copy(&root.join(file), &o.out.join(to).join(inside))?;
        }
    }
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(&root).output();
    let commit = commit.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    fs::write(o.out.join("version.txt"), format!("commit {commit}")).map_err(told(&o.out))?;
    // Evenly over the folder, so that a part of it has something of everything.
    copy_some(&o.eval, &o.out.join("eval"), EVAL_LIMIT)?;
    let left = LIMIT.checked_sub(size(&o.out)?);
    let left = left.ok_or_else(|| format!("larger than {LIMIT} bytes before any training picture"))?;
    copy_some(&o.train, &o.out.join("train"), left)?;
    size(&o.out)
}

fn build(root: &Path, package: &str, features: &str) -> Result<PathBuf, String> {
    // Apart from the other builds: with CUDA every dependency on candle is another one.
    let target = root.join(if features.is_empty() { "target" } else { "target/cuda" });
    let status = Command::new("cargo")
        .args(["build", "--release", "-p", package, "--features", features])
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(root)
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !status.success() {
        return Err(format!(
            "{package} does not build with features [{features}]; docs/cuda.md names the toolkit"
        ));
    }
    Ok(target.join("release"))
}

/// Without debug information, gzipped.
fn pack(from: &Path, to: &Path) -> Result<(), String> {
    let named = |end: &str| PathBuf::from(format!("{}{end}", to.display()));
    let status = Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(from).status();
    if !status.map_err(|error| format!("cannot start strip: {error}"))?.success() {
        return Err(format!("{}: strip failed", from.display()));
    }
    let status = Command::new("gzip").args(["-9", "-n", "-f"]).arg(to).status();
    if !status.map_err(|error| format!("cannot start gzip: {error}"))?.success() || !named(".gz").is_file() {
        return Err(format!("{}: gzip failed", to.display()));
    }
    Ok(())
}

/// As many pictures as fit, evenly over the folder, and its manifest.
fn copy_some(from: &Path, to: &Path, limit: u64) -> Result<(), String> {
    let mut left = limit;
    let manifest = from.join("MANIFEST.csv");
    if manifest.is_file() {
        left = left.saturating_sub(length(&manifest)?);
        copy(&manifest, &to.join("MANIFEST.csv"))?;
    }
    let all = pictures(from)?;
    let bytes = all.iter().map(|file| length(file)).sum::<Result<u64, String>>()?;
    // Pictures before this one took their share; this one is taken while the share is behind.
    let share = (left as f64 / bytes.max(1) as f64).min(1.0);
    let (mut seen, mut taken) = (0.0, 0);
    for file in &all {
        let n = length(file)?;
        seen += n as f64 * share;
        if taken + n <= left && (taken as f64) < seen {
            copy(file, &to.join(file.file_name().unwrap_or_default()))?;
            taken += n;
        }
    }
    Ok(())
}

fn pictures(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(told(folder))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|e| PICTURES.iter().any(|p| e.eq_ignore_ascii_case(p))));
    files.sort();
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(told(folder))?;
    }
    fs::copy(from, to).map(drop).map_err(told(from))
}

fn length(file: &Path) -> Result<u64, String> {
    fs::metadata(file).map(|m| m.len()).map_err(told(file))
}

fn size(folder: &Path) -> Result<u64, String> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).map_err(told(folder))? {
        let path = entry.map_err(told(folder))?.path();
        sum += if path.is_dir() { size(&path)? } else { length(&path)? };
    }
    Ok(sum)
}

fn told(path: &Path) -> impl FnOnce(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_folder_is_spread_over_it_and_keeps_the_limit() {
        let folder = std::env::temp_dir().join(format!("bundle-cuda-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(&from).unwrap();
        for i in 0..100 {
            fs::write(from.join(format!("{i:03}.jpg")), vec![0; 1000]).unwrap();
        }
        fs::write(from.join("MANIFEST.csv"), vec![b'x'; 500]).unwrap();
        copy_some(&from, &to, 20_500).unwrap();
        let taken = pictures(&to).unwrap();
        assert_eq!((taken.len(), size(&to).unwrap()), (20, 20_500));
        assert!(taken[0].ends_with("000.jpg") && taken[19].ends_with("095.jpg"), "{taken:?}");
        fs::remove_dir_all(&to).unwrap();
        copy_some(&from, &to, 1_000_000).unwrap();
        assert_eq!(pictures(&to).unwrap().len(), 100);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn wrong_arguments_are_told() {
        let told = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            options(&args).err().unwrap_or_default()
        };
        assert!(told(&[]).starts_with("usage"));
        assert!(told(&["a", "b"]).starts_with("b?"));
        assert!(told(&["a", "--train"]).contains("names no folder"));
        assert!(told(&["/"]).contains("exists already"));
    }
}
