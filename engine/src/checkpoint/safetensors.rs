// SPDX-License-Identifier: MIT OR Apache-2.0
//! Safetensors, read tensor by tensor from a file or from memory; no number in it is trusted.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fmt,
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use candle_core::Tensor;
use serde::{Deserialize, Deserializer, de};
use sha2::{Digest, Sha256};

use super::values::{WEIGHT_TYPES, read_tensor};
use crate::{Error, Result, net::params::TensorSource};

/// Longest header that is read; the released 566 tensors need 60 kB.
const HEADER_LIMIT: u64 = 16 << 20;
/// Most dimensions that a tensor may have.
const DIMS_LIMIT: usize = 8;
/// Number types of the format, with their bytes per value.
const TYPES: &[(&str, usize)] = &[
    ("F64", 8),
    ("F32", 4),
    ("F16", 2),
    ("BF16", 2),
    ("I64", 8),
    ("I32", 4),
    ("I16", 2),
    ("I8", 1),
    ("U64", 8),
    ("U32", 4),
    ("U16", 2),
    ("U8", 1),
    ("BOOL", 1),
];

/// What the header says of one tensor, checked against the file's length.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The tensor's name.
    pub name: String,
    /// Its number type as the format writes it, e.g. `F32`.
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    bytes: Range<u64>,
}

impl Entry {
    /// Bytes that the values take in the file.
    pub fn byte_len(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}

/// An opened safetensors file; only its header is in memory. Clones read the same file.
#[derive(Debug, Clone)]
pub struct SafetensorsFile {
    path: PathBuf,
    bytes: Arc<Bytes>,
    entries: Vec<Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Bytes {
    File(Mutex<File>),
    Memory(Cow<'static, [u8]>),
}

impl SafetensorsFile {
    /// Opens the file and checks its header.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::File`] if it is not a whole safetensors file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        Self::parse(path.to_path_buf(), Bytes::File(Mutex::new(file)), length)
    }

    /// Reads from memory; `name` stands for the path in errors.
    ///
    /// # Errors
    /// As [`SafetensorsFile::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        Self::parse(PathBuf::from(name), Bytes::Memory(bytes), length)
    }

    /// The tensors in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The free text that the header carries.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// SHA-256 of all bytes of the file, as 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::Io`] if reading fails.
    pub fn sha256(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        match &*self.bytes {
            Bytes::Memory(bytes) => hasher.update(bytes),
            Bytes::File(file) => {
                let mut file = file.lock().unwrap_or_else(|e| e.into_inner());
                file.rewind().map_err(Error::io(&self.path))?;
                let mut piece = vec![0; 1 << 20];
                loop {
                    let n = file.read(&mut piece).map_err(Error::io(&self.path))?;
                    if n == 0 {
                        break;
                    }
                    hasher.update(&piece[..n]);
                }
            }
        }
        Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    fn parse(path: PathBuf, mut bytes: Bytes, length: u64) -> Result<Self> {
        let wrong = |reason: String| Error::file(&path, reason);
        if length < 8 {
            return Err(wrong(format!("{length} bytes long, a safetensors file has at least 8")));
        }
        let mut prefix = [0; 8];
        bytes.read_at(0, &mut prefix).map_err(Error::io(&path))?;
        let header_len = u64::from_le_bytes(prefix);
        let limit = HEADER_LIMIT.min(length - 8);
        if header_len > limit {
            return Err(wrong(format!("header of {header_len} bytes, at most {limit} are possible here")));
        }
        let mut header = vec![0; header_len as usize];
        bytes.read_at(8, &mut header).map_err(Error::io(&path))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|e| wrong(format!("safetensors header: {e}")))?;
        let data = 8 + header_len..length;
        let entries = header.entries.into_iter().map(|(name, raw)| entry(&data, name, raw));
        let mut entries = entries.collect::<std::result::Result<Vec<_>, _>>().map_err(wrong)?;
        entries.sort_by_key(|e| (e.bytes.start, e.bytes.end));
        let mut end = data.start;
        for e in &entries {
            if e.bytes.start != end {
                let reason = format!("tensor {:?} starts at byte {}, {end} expected", e.name, e.bytes.start);
                return Err(Error::file(&path, reason));
            }
            end = e.bytes.end;
        }
        if end != length {
            let reason = format!("{length} bytes long, but its tensors end at byte {end}");
            return Err(Error::file(&path, reason));
        }
        Ok(Self { path, bytes: Arc::new(bytes), entries, metadata: header.metadata })
    }
}

impl TensorSource for SafetensorsFile {
    fn origin(&self) -> &Path {
        &self.path
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.entries.iter().map(|e| (e.name.clone(), e.shape.clone())).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let Some(e) = self.entries.iter().find(|e| e.name == name) else {
            return Err(Error::file(&self.path, format!("no tensor {name:?}")));
        };
        let Some((dtype, ..)) = WEIGHT_TYPES.iter().find(|(_, st, _)| *st == e.dtype) else {
            let reason = format!("tensor {name:?} is {}, but weights are F32, F16 or BF16", e.dtype);
            return Err(Error::file(&self.path, reason));
        };
        match &*self.bytes {
            Bytes::File(file) => {
                let mut file = file.lock().unwrap_or_else(|e| e.into_inner());
                file.seek(SeekFrom::Start(e.bytes.start)).map_err(Error::io(&self.path))?;
                read_tensor(&mut *file, *dtype, &e.shape, &self.path, name)
            }
            Bytes::Memory(bytes) => {
                let mut bytes = &bytes[e.bytes.start as usize..e.bytes.end as usize];
                read_tensor(&mut bytes, *dtype, &e.shape, &self.path, name)
            }
        }
    }
}

impl Bytes {
    /// Fills `to` from byte `at`, which the caller knows to lie inside.
    fn read_at(&mut self, at: u64, to: &mut [u8]) -> std::io::Result<()> {
        match self {
            Self::File(file) => {
                let file = file.get_mut().unwrap_or_else(|e| e.into_inner());
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(to)
            }
            Self::Memory(bytes) => (&bytes[at as usize..]).read_exact(to),
        }
    }
}

/// One entry of the header against the bytes that are really there.
fn entry(data: &Range<u64>, name: String, raw: RawEntry) -> std::result::Result<Entry, String> {
    let Some((dtype, size)) = TYPES.iter().find(|(n, _)| *n == raw.dtype) else {
        return Err(format!("tensor {name:?} has the unknown type {:?}", raw.dtype));
    };
    if raw.shape.len() > DIMS_LIMIT {
        return Err(format!(
            "tensor {name:?} has {} dimensions, at most {DIMS_LIMIT} are read",
            raw.shape.len()
        ));
    }
    if raw.shape.contains(&0) {
        return Err(format!("tensor {name:?} of shape {:?} has no values", raw.shape));
    }
    let needed = raw.shape.iter().try_fold(*size as u64, |n, d| n.checked_mul(*d));
    let [start, end] = raw.data_offsets;
    let held = data.end - data.start;
    if start > end || end > held {
        return Err(format!("tensor {name:?} lies at bytes {start} to {end}, the file holds {held}"));
    }
    if needed != Some(end - start) {
        let shape = &raw.shape;
        return Err(format!(
            "tensor {name:?} of shape {shape:?} and type {dtype} does not fit its {} bytes",
            end - start
        ));
    }
    let shape = raw.shape.iter().map(|d| usize::try_from(*d)).collect::<std::result::Result<_, _>>();
    let shape =
        shape.map_err(|_| format!("tensor {name:?}: shape {:?} is too large for this machine", raw.shape))?;
    Ok(Entry { name, dtype, shape, bytes: data.start + start..data.start + end })
}

/// The header: a JSON object whose keys may not repeat.
struct Header {
    entries: Vec<(String, RawEntry)>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> de::Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
        let mut header = Header { entries: Vec::new(), metadata: BTreeMap::new() };
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(de::Error::custom(format!("{name:?} stands there twice")));
            }
            if name == "__metadata__" {
                header.metadata = map.next_value()?;
            } else {
                header.entries.push((name, map.next_value()?));
            }
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Result<SafetensorsFile> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        SafetensorsFile::from_bytes("w.safetensors", bytes)
    }

    #[test]
    fn reads_values_and_metadata() {
        let header = r#"{"__metadata__":{"k":"v"},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},
            "a":{"dtype":"F16","shape":[],"data_offsets":[0,2]}}"#;
        let mut data = half::f16::from_f32(0.5).to_le_bytes().to_vec();
        data.extend([1.0f32, -2.0].iter().flat_map(|v| v.to_le_bytes()));
        let f = file(header, &data).unwrap();
        assert_eq!(f.metadata()["k"], "v");
        assert_eq!(f.shapes(), [("a".to_string(), vec![]), ("b".to_string(), vec![2])]);
        assert_eq!(f.read("b").unwrap().to_vec1::<f32>().unwrap(), [1.0, -2.0]);
        assert_eq!(f.read("a").unwrap().to_scalar::<half::f16>().unwrap().to_f32(), 0.5);
        assert!(f.read("c").is_err());
    }

    #[test]
    fn hash_is_sha256() {
        let f = SafetensorsFile::from_bytes("w", b"\x02\0\0\0\0\0\0\0{}".as_slice()).unwrap();
        assert_eq!(f.sha256().unwrap(), "411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd");
    }

    #[test]
    fn every_lie_is_one_clear_error() {
        let one = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let cases = [
            (one("F32", "[2]", "[0,8]"), 7, "holds 7"),
            (one("F32", "[2]", "[0,8]"), 9, "end at byte"),
            (one("F32", "[3]", "[0,8]"), 8, "does not fit"),
            (one("F32", "[4294967296,4294967296,4294967296]", "[0,8]"), 8, "does not fit"),
            (one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "9 dimensions"),
            (one("F32", "[0,9]", "[0,0]"), 0, "no values"),
            (one("Q4", "[2]", "[0,8]"), 8, "unknown type"),
            (one("F32", "[2]", "[8,0]"), 8, "8 to 0"),
            (one("F32", "[-1]", "[0,8]"), 8, "header"),
            (one("F32", "[2]", "[4,12]"), 12, "starts at byte"),
            ("[]".into(), 0, "header"),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.into(), 4, "twice"),
        ];
        for (header, data, expected) in cases {
            let err = file(&header, &vec![0; data]).unwrap_err().to_string();
            assert!(err.contains("w.safetensors") && err.contains(expected), "{header}: {err}");
        }
        let mut huge = (1u64 << 60).to_le_bytes().to_vec();
        huge.extend_from_slice(b"{}");
        let err = SafetensorsFile::from_bytes("w", huge).unwrap_err().to_string();
        assert!(err.contains("1152921504606846976"), "{err}");
        assert!(SafetensorsFile::from_bytes("w", b"abc".as_slice()).is_err());
        let f = file(&one("I64", "[1]", "[0,8]"), &[0; 8]).unwrap();
        assert!(f.read("a").unwrap_err().to_string().contains("I64"));
    }
}
