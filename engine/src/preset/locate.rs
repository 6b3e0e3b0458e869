// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where presets live, and how a short name becomes a folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::config::is_name;
use crate::{Error, Result};

/// Variable with folders that are searched first, separated as in `PATH`.
pub const MODEL_PATH_VARIABLE: &str = "I2SB_MODEL_PATH";

/// Folders that hold preset folders, in the order of the search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchPath(Vec<PathBuf>);

impl SearchPath {
    /// `$I2SB_MODEL_PATH`; `./weights`; the user's data folder (`$XDG_DATA_HOME/i2sb/weights`, by
    /// default `~/.local/share/i2sb/weights`; on Windows `%LOCALAPPDATA%\i2sb\weights`); then
    /// `/usr/local/share/i2sb/weights` and `/usr/share/i2sb/weights`.
    pub fn from_env() -> Self {
        Self::from_vars(|name| env::var_os(name).map(PathBuf::from).filter(|v| !v.as_os_str().is_empty()))
    }

    /// Exactly these folders.
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(folders.into_iter().collect())
    }

    /// The folders in the order of the search.
    pub fn folders(&self) -> &[PathBuf] {
        &self.0
    }

    fn from_vars(var: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let mut folders: Vec<PathBuf> = Vec::new();
        if let Some(paths) = var(MODEL_PATH_VARIABLE) {
            folders.extend(env::split_paths(&paths).filter(|p| !p.as_os_str().is_empty()));
        }
        folders.push(PathBuf::from("weights"));
        let user = var("XDG_DATA_HOME")
            .or_else(|| var("LOCALAPPDATA"))
            .or_else(|| var("HOME").map(|home| home.join(".local").join("share")));
        folders.extend(user.map(|data| data.join("i2sb").join("weights")));
        if cfg!(unix) {
            folders.extend(
                ["/usr/local/share", "/usr/share"].map(|s| Path::new(s).join("i2sb").join("weights")),
            );
        }
        Self(folders)
    }

    /// The folder of `model`: a path to a preset's folder, a full name (`jpeg-small-v2`: the first
    /// folder of the search that has it), or a name without its version (`jpeg-small`: the highest
    /// version anywhere on the search path).
    ///
    /// # Errors
    /// [`Error::Setting`] with the whole list of places that were searched; [`Error::File`] for a
    /// folder that is no preset's.
    pub fn find(&self, model: impl AsRef<Path>) -> Result<PathBuf> {
        let model = model.as_ref();
        if is_preset(model) {
            return Ok(model.to_path_buf());
        }
        if let Some(name) = model.to_str().filter(|name| is_name(name)) {
            if let Some(found) = self.0.iter().map(|f| f.join(name)).find(|p| is_preset(p)) {
                return Ok(found);
            }
            // max_by_key keeps the last of equals, so the search runs backwards: the first wins.
            let newest = self.0.iter().rev().flat_map(|f| versions(f, name)).max_by_key(|(v, _)| *v);
            if let Some((_, found)) = newest {
                return Ok(found);
            }
        }
        if model.is_dir() {
            let what = format!("holds no {}, so it is no preset's folder", super::CONFIG_FILE);
            return Err(Error::file(model, what));
        }
        let places: Vec<String> = self.0.iter().map(|f| f.display().to_string()).collect();
        let limit = format!(
            "a folder with config.toml and model.safetensors, or the name of one below: {}",
            places.join(", ")
        );
        Err(Error::setting("model", model.display(), limit))
    }
}

fn is_preset(folder: &Path) -> bool {
    folder.join(super::CONFIG_FILE).is_file()
}

/// Presets `<name>-v<N>` in one folder of the search.
fn versions(folder: &Path, name: &str) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let version = |path: PathBuf| {
        let digits = path.file_name()?.to_str()?.strip_prefix(name)?.strip_prefix("-v")?.to_string();
        let canonical = digits.bytes().all(|b| b.is_ascii_digit());
        canonical.then(|| digits.parse().ok()).flatten().map(|v| (v, path))
    };
    entries.filter_map(|e| version(e.path())).filter(|(_, p)| is_preset(p)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(root: &Path, folder: &str) -> PathBuf {
        let path = root.join(folder);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("config.toml"), "").unwrap();
        path
    }

    #[test]
    fn newest_version_wins_and_first_folder_among_equals() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let search = SearchPath::new([a.clone(), b.clone(), dir.path().join("absent")]);
        let a2 = place(&a, "jpeg-small-v2");
        let b2 = place(&b, "jpeg-small-v2");
        assert_eq!(search.find("jpeg-small").unwrap(), a2);
        let b10 = place(&b, "jpeg-small-v10");
        place(&b, "jpeg-small-v+11");
        fs::create_dir_all(a.join("jpeg-small-v12")).unwrap();
        assert_eq!(search.find("jpeg-small").unwrap(), b10);
        assert_eq!(search.find("jpeg-small-v2").unwrap(), a2);
        assert_eq!(search.find(&b2).unwrap(), b2);
    }

    #[test]
    fn error_lists_every_place() {
        let search = SearchPath::new([PathBuf::from("/nowhere/1"), PathBuf::from("/nowhere/2")]);
        for name in ["absent", "../../etc", "", "a/b"] {
            let err = search.find(name).unwrap_err().to_string();
            assert!(err.contains("/nowhere/1, /nowhere/2"), "{err}");
        }
    }

    #[test]
    fn documented_order() {
        let vars = |name: &str| match name {
            MODEL_PATH_VARIABLE => Some(env::join_paths(["/one", "/two"]).unwrap().into()),
            "XDG_DATA_HOME" => Some(PathBuf::from("/data")),
            _ => None,
        };
        let found = SearchPath::from_vars(vars);
        let expected = ["/one", "/two", "weights", "/data/i2sb/weights"].map(PathBuf::from);
        assert_eq!(found.folders()[..4], expected);
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/h"));
        assert_eq!(SearchPath::from_vars(home).folders()[1], Path::new("/h/.local/share/i2sb/weights"));
    }
}
