// SPDX-License-Identifier: MIT OR Apache-2.0
//! `options.pkl`: the settings of a training run by the original software (SPEC section 9.1).

use std::{collections::BTreeMap, io::Read, path::Path};

use serde_json::{Value as Json, json};

use super::{
    globals::Class,
    pickle::{Id, PICKLE_LIMIT, Pickle, Value},
};
use crate::{Error, Result};

/// Deepest nesting of a setting, and longest list, that is shown.
const DEPTH_LIMIT: usize = 4;
const ITEMS_LIMIT: usize = 64;

/// Reads a pickled namespace or dictionary of settings as plain values.
///
/// Paths become their text; what has no plain value becomes `null`.
///
/// # Errors
/// [`Error::Io`], or [`Error::File`] if it is too long, broken, names an unknown class or is no
/// namespace.
pub fn read_options(path: impl AsRef<Path>) -> Result<BTreeMap<String, Json>> {
    let path = path.as_ref();
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    file.take(PICKLE_LIMIT + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    parse_options(path, bytes)
}

/// The same from memory; `path` is for errors.
///
/// # Errors
/// As [`read_options`].
pub fn parse_options(path: impl AsRef<Path>, bytes: Vec<u8>) -> Result<BTreeMap<String, Json>> {
    let path = path.as_ref();
    let pickle = Pickle::read(bytes).map_err(|reason| Error::file(path, reason))?;
    let attributes = pickle.attributes(pickle.root());
    let attributes = attributes.ok_or_else(|| Error::file(path, "holds no namespace of settings"))?;
    let setting = |(key, value): &(Id, Id)| Some((pickle.text(*key)?.to_owned(), plain(&pickle, *value, 0)));
    Ok(attributes.iter().filter_map(setting).collect())
}

fn plain(pickle: &Pickle, id: Id, depth: usize) -> Json {
    if depth == DEPTH_LIMIT {
        return Json::Null;
    }
    match pickle.value(id) {
        Value::Bool(v) => json!(v),
        Value::Int(v) => json!(v),
        Value::Float(v) => json!(v),
        Value::Text(_) => json!(pickle.text(id)),
        Value::List(items) => items.iter().take(ITEMS_LIMIT).map(|i| plain(pickle, *i, depth + 1)).collect(),
        Value::Dict(entries) => {
            let entry = |(k, v): &(Id, Id)| Some((pickle.text(*k)?.to_owned(), plain(pickle, *v, depth + 1)));
            Json::Object(entries.iter().take(ITEMS_LIMIT).filter_map(entry).collect())
        }
        Value::Object { class: Class::Path, arguments, .. } => {
            let parts = pickle.list(*arguments).unwrap_or_default();
            let parts: Vec<&str> = parts.iter().take(ITEMS_LIMIT).filter_map(|p| pickle.text(*p)).collect();
            json!(parts.join("/").replacen("//", "/", 1))
        }
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_namespace_with_a_path() {
        // argparse.Namespace(name='a', load=pathlib.PosixPath('/', 'x'), t0=1) by protocol 2.
        let program = b"\x80\x02cargparse\nNamespace\n)\x81}(X\x04\0\0\0nameX\x01\0\0\0aX\x04\0\0\0loadcpathlib\nPosixPath\nX\x01\0\0\0/X\x01\0\0\0x\x86RX\x02\0\0\0t0K\x01ub.";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("options.pkl");
        std::fs::write(&path, program).unwrap();
        let options = read_options(&path).unwrap();
        assert_eq!(serde_json::to_value(&options).unwrap(), json!({"name": "a", "load": "/x", "t0": 1}));
        std::fs::write(&path, b"N.").unwrap();
        assert!(read_options(&path).unwrap_err().to_string().contains("no namespace"));
        std::fs::write(&path, b"cos\nsystem\n.").unwrap();
        let err = read_options(&path).unwrap_err().to_string();
        assert!(err.contains("options.pkl") && err.contains("os.system"), "{err}");
    }
}
