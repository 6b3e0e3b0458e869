// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which file is read and which is written, for every picture, before any work begins.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use clap::builder::{PathBufValueParser, TypedValueParser};
use i2sb::picture::{READABLE, WRITABLE, is_foreign, is_picture, writable};

use super::compare;

/// One picture.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    pub input: PathBuf,
    pub output: PathBuf,
    /// Where both stand side by side, if that is asked for.
    pub compared: Option<PathBuf>,
}

impl Job {
    fn new(input: PathBuf, output: PathBuf, compare: bool) -> Self {
        Self { input, compared: compare.then(|| compare::path(&output)), output }
    }

    /// All that is written.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.output).chain(&self.compared)
    }
}

/// What is added to the name of an input when no output is named.
const SUFFIX: &str = "-restored";

/// Every extension that can be written, for `--format`.
pub fn formats() -> clap::builder::PossibleValuesParser {
    WRITABLE.iter().flat_map(|kind| kind.extensions).copied().into()
}

/// What may be read, for the help.
pub fn inputs() -> String {
    let kinds: Vec<_> = READABLE.iter().map(|kind| kind.name).collect();
    format!("Pictures, or folders of pictures ({})", kinds.join(", "))
}

/// For `--output`: a name that ends like a picture is no new folder's, so it must be of a kind that can be written.
pub fn output() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match writable(&path) {
        Err(error) if (is_picture(&path) || is_foreign(&path)) && !path.is_dir() => Err(error),
        _ => Ok(path),
    })
}

/// The jobs, and one line for each input that gives none.
///
/// - `output` is a file if there is one input, a file, and the name has an extension that can be
///   written and is no folder; else it is a folder. `None`: beside the input, [`SUFFIX`] added.
/// - Folders are walked through in the order of names, links to folders not followed; the folders in
///   them are made anew below the output.
/// - `compare`: each picture also has a comparison. No two jobs write the same file.
pub fn plan(
    inputs: &[PathBuf],
    output: Option<&Path>,
    format: &str,
    compare: bool,
) -> (Vec<Job>, Vec<String>) {
    let (mut jobs, mut problems) = (Vec::new(), Vec::new());
    let single = matches!(inputs, [only] if !only.is_dir());
    for input in inputs {
        if input.is_dir() {
            let root = output.map_or_else(|| beside(input, None), Path::to_path_buf);
            let mut found = Vec::new();
            walk(input, &root, &mut found, &mut problems);
            if found.is_empty() {
                problems.push(format!("{}: holds no pictures", input.display()));
            }
            for picture in found {
                let inside = picture.strip_prefix(input).unwrap_or(&picture).with_extension(format);
                jobs.push(Job::new(picture, root.join(inside), compare));
            }
        } else {
            let name = input.file_name().map(Path::new).unwrap_or(input).with_extension(format);
            let output = match output {
                None => beside(input, Some(format)),
                Some(path) if single && is_file_name(path) => path.to_path_buf(),
                Some(folder) => folder.join(name),
            };
            jobs.push(Job::new(input.clone(), output, compare));
        }
    }
    refuse_collisions(&mut jobs, &mut problems);
    (jobs, problems)
}

fn is_file_name(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    !path.is_dir() && WRITABLE.iter().any(|kind| kind.extensions.contains(&extension.as_str()))
}

fn beside(input: &Path, extension: Option<&str>) -> PathBuf {
    // `.` and `..` have no name of their own.
    let whole = if input.file_name().is_some() { None } else { fs::canonicalize(input).ok() };
    let input = whole.as_deref().unwrap_or(input);
    let (stem, ending) = match extension {
        Some(extension) => (input.file_stem(), format!(".{extension}")),
        None => (input.file_name(), String::new()),
    };
    let mut name = stem.unwrap_or_default().to_os_string();
    name.push(SUFFIX);
    name.push(ending);
    input.with_file_name(name)
}

/// Adds the pictures below `folder`, but not those below `output`, where earlier results lie.
fn walk(folder: &Path, output: &Path, found: &mut Vec<PathBuf>, problems: &mut Vec<String>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return problems.push(format!("{}: {error}", folder.display())),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let real_folder = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        if real_folder && !same(&path, output) {
            walk(&path, output, found, problems);
        } else if is_picture(&path) && (path.is_file() || !path.exists()) {
            // A link that leads nowhere is a picture that cannot be read, and told as one.
            found.push(path);
        }
    }
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

fn refuse_collisions(jobs: &mut Vec<Job>, problems: &mut Vec<String>) {
    let mut taken: HashMap<PathBuf, PathBuf> = HashMap::new();
    jobs.retain(|job| match job.files().find_map(|file| Some((file, taken.get(file)?))) {
        None => {
            taken.extend(job.files().map(|file| (file.clone(), job.input.clone())));
            true
        }
        Some((file, first)) => {
            let (input, file) = (job.input.display(), file.display());
            problems.push(format!("{input}: {file} is written for {} already", first.display()));
            false
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(inputs: &[PathBuf], output: Option<&Path>) -> Vec<PathBuf> {
        plan(inputs, output, "png", false).0.into_iter().map(|job| job.output).collect()
    }

    #[test]
    fn a_file_goes_to_a_file_a_folder_or_beside() {
        let input = [PathBuf::from("x/photo.jpg")];
        assert_eq!(outputs(&input, None), [Path::new("x/photo-restored.png")]);
        assert_eq!(outputs(&input, Some(Path::new("y.webp"))), [Path::new("y.webp")]);
        assert_eq!(outputs(&input, Some(Path::new("y"))), [Path::new("y/photo.png")]);
        let two = [input[0].clone(), PathBuf::from("b.png")];
        assert_eq!(
            outputs(&two, Some(Path::new("y.png"))),
            [Path::new("y.png/photo.png"), Path::new("y.png/b.png")]
        );
    }

    #[test]
    fn a_folder_keeps_its_shape_and_leaves_results_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("in");
        for name in ["b.jpg", "a/c.png", "a/notes.txt", "out/old.png"] {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let out = folder.join("out");
        let inputs = [folder.clone()];
        assert_eq!(outputs(&inputs, Some(&out)), [out.join("a/c.png"), out.join("b.png")]);
        let beside = root.path().join("in-restored");
        assert_eq!(outputs(&inputs, None).last().unwrap(), &beside.join("out/old.png"));
    }

    #[test]
    fn two_inputs_never_share_an_output() {
        let inputs = ["a/x.jpg", "b/x.jpg"].map(PathBuf::from);
        let (jobs, problems) = plan(&inputs, Some(Path::new("o")), "png", false);
        assert_eq!((jobs.len(), problems.len()), (1, 1));
        assert!(problems[0].contains("a/x.jpg") && problems[0].contains("b/x.jpg"));
    }

    #[test]
    fn a_comparison_is_an_output_too() {
        for inputs in [["x.jpg", "x-compare.jpg"], ["x-compare.jpg", "x.jpg"]].map(|i| i.map(PathBuf::from)) {
            assert_eq!(plan(&inputs, Some(Path::new("o")), "png", false).0.len(), 2);
            let (jobs, problems) = plan(&inputs, Some(Path::new("o")), "png", true);
            assert_eq!((jobs.len(), problems.len()), (1, 1));
            for named in ["x.jpg", "x-compare.jpg", "o/x-compare.png"] {
                assert!(problems[0].contains(named), "{problems:?}");
            }
        }
    }

    #[test]
    fn an_empty_folder_is_a_problem() {
        let empty = tempfile::tempdir().unwrap();
        let (jobs, problems) = plan(&[empty.path().to_path_buf()], None, "png", false);
        assert!(jobs.is_empty() && problems.len() == 1);
    }
}
