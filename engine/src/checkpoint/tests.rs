// SPDX-License-Identifier: MIT OR Apache-2.0
//! Torch archives made by hand: whole ones, and ones that lie.

use std::{
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use super::{TorchCheckpoint, WeightSet};
use crate::net::{adm::AdmConfig, params::TensorSource};

/// Writes a zip archive of stored entries, the way torch does; with `zip64`, every size and offset
/// stands in the 64-bit fields.
struct Zip {
    body: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
    zip64: bool,
}

impl Zip {
    fn new(zip64: bool) -> Self {
        Self { body: Vec::new(), directory: Vec::new(), count: 0, zip64 }
    }

    fn add(&mut self, name: &str, content: &[u8]) {
        let start = self.body.len() as u64;
        self.entry(name, content.len() as u64, crc32fast::hash(content), start, 0);
        let mut local = b"PK\x03\x04".to_vec();
        local.extend([0; 22]);
        local.extend((name.len() as u16).to_le_bytes());
        local.extend([3, 0]); // torch pads with an extra field
        local.extend(name.as_bytes());
        local.extend(b"abc");
        self.body.extend(local);
        self.body.extend(content);
    }

    fn entry(&mut self, name: &str, size: u64, crc: u32, start: u64, method: u16) {
        let short = |v: u64| if self.zip64 { u32::MAX } else { v as u32 };
        let mut extra = Vec::new();
        if self.zip64 {
            extra.extend([9, 0, 2, 0, 7, 7, 1, 0, 24, 0]);
            [size, size, start].iter().for_each(|v| extra.extend(v.to_le_bytes()));
        }
        let d = &mut self.directory;
        d.extend(b"PK\x01\x02\0\0\0\0\0\0");
        d.extend(method.to_le_bytes());
        d.extend([0; 4]);
        d.extend(crc.to_le_bytes());
        d.extend(short(size).to_le_bytes());
        d.extend(short(size).to_le_bytes());
        d.extend((name.len() as u16).to_le_bytes());
        d.extend((extra.len() as u16).to_le_bytes());
        d.extend([0; 10]);
        d.extend(short(start).to_le_bytes());
        d.extend(name.as_bytes());
        d.extend(extra);
        self.count += 1;
    }

    /// Directory and end records, for a directory that begins at `start`.
    fn end(&self, start: u64) -> Vec<u8> {
        let mut end = self.directory.clone();
        let size = self.directory.len() as u64;
        if self.zip64 {
            let place = start + size;
            end.extend(b"PK\x06\x06");
            end.extend(44u64.to_le_bytes());
            end.extend([0; 12]);
            end.extend(u64::from(self.count).to_le_bytes());
            end.extend(u64::from(self.count).to_le_bytes());
            end.extend(size.to_le_bytes());
            end.extend(start.to_le_bytes());
            end.extend(b"PK\x06\x07\0\0\0\0");
            end.extend(place.to_le_bytes());
            end.extend(1u32.to_le_bytes());
        }
        let short = |v: u64| if self.zip64 { u32::MAX } else { v as u32 };
        end.extend(b"PK\x05\x06\0\0\0\0");
        end.extend(self.count.to_le_bytes());
        end.extend(self.count.to_le_bytes());
        end.extend(short(size).to_le_bytes());
        end.extend(short(start).to_le_bytes());
        end.extend([2, 0]);
        end.extend(b"hi"); // a comment
        end
    }

    fn finish(self) -> Vec<u8> {
        let end = self.end(self.body.len() as u64);
        [self.body, end].concat()
    }
}

/// A tensor as the pickle describes it.
struct Described<'a> {
    name: &'a str,
    storage: &'a str,
    kind: &'a str,
    length: u32,
    offset: u32,
    shape: &'a [u32],
    strides: &'a [u32],
}

impl Described<'_> {
    fn whole<'a>(name: &'a str, storage: &'a str, shape: &'a [u32], strides: &'a [u32]) -> Described<'a> {
        let length = shape.iter().product();
        Described { name, storage, kind: "FloatStorage", length, offset: 0, shape, strides }
    }

    fn pickled(&self) -> Vec<u8> {
        let text = |s: &str| [b"X".as_slice(), &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat();
        let int = |v: u32| [[b'\x8a', 8].as_slice(), &u64::from(v).to_le_bytes()].concat();
        let ints =
            |v: &[u32]| [b"(".to_vec(), v.iter().flat_map(|v| int(*v)).collect(), b"t".to_vec()].concat();
        [
            text(self.name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            format!("ctorch\n{}\n", self.kind).into_bytes(),
            text(self.storage),
            text("cpu"),
            int(self.length),
            b"tQ".to_vec(),
            int(self.offset),
            ints(self.shape),
            ints(self.strides),
            b"\x89}tR".to_vec(),
        ]
        .concat()
    }
}

fn dict(tensors: &[Described]) -> Vec<u8> {
    [b"\x80\x02}(".to_vec(), tensors.iter().flat_map(Described::pickled).collect(), b"u.".to_vec()].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn archive(pickle: &[u8], storages: &[(&str, Vec<u8>)], zip64: bool) -> Vec<u8> {
    let mut zip = Zip::new(zip64);
    zip.add("a/data.pkl", pickle);
    zip.add("a/byteorder", b"little");
    for (key, content) in storages {
        zip.add(&format!("a/data/{key}"), content);
    }
    zip.finish()
}

/// Opens the bytes as a checkpoint and reads every tensor.
fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<f32>)>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hostile.pt");
    std::fs::write(&path, bytes).unwrap();
    read_file(&path)
}

fn read_file(path: &Path) -> Result<Vec<(String, Vec<f32>)>, String> {
    let all = || {
        let checkpoint = TorchCheckpoint::open(path)?;
        let weights = checkpoint.weights(WeightSet::Net, &AdmConfig::released_256())?;
        let value = |(name, _): (String, Vec<usize>)| {
            let values = weights.read(&name)?.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?;
            Ok((name, values))
        };
        weights.shapes().into_iter().map(value).collect::<crate::Result<Vec<_>>>()
    };
    all().map_err(|e: crate::Error| e.to_string())
}

#[test]
fn reads_whole_strided_and_shared_storages() {
    let tensors = [
        Described::whole("a", "0", &[2, 3], &[3, 1]),
        Described::whole("a.transposed", "0", &[3, 2], &[1, 3]),
        Described { length: 6, offset: 4, ..Described::whole("a.end", "0", &[2], &[1]) },
        Described { kind: "HalfStorage", ..Described::whole("h", "1", &[1], &[1]) },
        Described::whole("scalar", "2", &[], &[]),
    ];
    let half = half::f16::from_f32(0.5).to_le_bytes().to_vec();
    let storages = [("0", floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])), ("1", half), ("2", floats(&[9.0]))];
    for zip64 in [false, true] {
        let found = read(&archive(&dict(&tensors), &storages, zip64)).unwrap();
        let values: Vec<_> = found.iter().map(|(_, v)| v.as_slice()).collect();
        let expected: [&[f32]; 5] =
            [&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0], &[4.0, 5.0], &[0.5], &[9.0]];
        assert_eq!(values, expected);
    }
}

#[test]
fn reads_beyond_four_gigabytes() {
    // A file with a hole: 5 GB long, a few blocks on the disk.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.pt");
    let mut zip = Zip::new(true);
    zip.add("a/data.pkl", &dict(&[Described::whole("w", "0", &[2], &[1])]));
    let far = 5u64 << 30;
    let content = floats(&[1.5, -2.5]);
    zip.entry("a/data/0", 8, crc32fast::hash(&content), far, 0);
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&zip.body).unwrap();
    file.seek(SeekFrom::Start(far)).unwrap();
    let mut local = b"PK\x03\x04".to_vec();
    local.extend([0; 22]);
    local.extend([8, 0, 0, 0]);
    local.extend(b"a/data/0");
    local.extend(&content);
    file.write_all(&local).unwrap();
    file.write_all(&zip.end(far + local.len() as u64)).unwrap();
    drop(file);
    assert_eq!(read_file(&path).unwrap(), [("w".to_string(), vec![1.5, -2.5])]);
}

#[test]
fn every_lie_is_one_clear_error() {
    let good = Described::whole("w", "0", &[2], &[1]);
    let two = [("0", floats(&[1.0, 2.0]))];
    let with = |t: Described| archive(&dict(&[t]), &two, false);
    let describe = |shape: &'static [u32], strides: &'static [u32], offset: u32| {
        with(Described { length: 2, offset, ..Described::whole("w", "0", shape, strides) })
    };
    let big: &[u32] = &[u32::MAX, u32::MAX, u32::MAX];
    let mut damaged = with(Described { ..good });
    let at = damaged.windows(4).position(|w| w == 2f32.to_le_bytes()).unwrap();
    damaged[at] ^= 1;
    let mut bomb = Zip::new(false);
    bomb.add("a/data.pkl", &dict(&[]));
    bomb.entry("a/data/0", 8, 0, 0, 8);
    let mut outside = Zip::new(false);
    outside.add("a/data.pkl", &dict(&[Described::whole("w", "0", &[2], &[1])]));
    outside.entry("a/data/0", 1 << 31, 0, 0, 0);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "hostile.pt"),
        ("text", b"hello".to_vec(), "end record"),
        ("product overflow", describe(big, big, 0), "does not fit"),
        ("repeated value", describe(&[1 << 30], &[0], 0), "does not fit"),
        ("out of range", describe(&[2], &[1], 1), "storage of 2 values"),
        ("long stride", describe(&[2], &[5], 0), "storage of 2 values"),
        ("no values", describe(&[0, 7], &[1, 1], 0), "no values"),
        ("shape and strides", describe(&[2], &[1, 1], 0), "not described"),
        ("wrong length", with(Described { length: 3, ..Described::whole("w", "0", &[2], &[1]) }), "8 bytes"),
        (
            "wrong type",
            with(Described { kind: "LongStorage", length: 1, ..Described::whole("w", "0", &[1], &[1]) }),
            "float32",
        ),
        ("missing storage", with(Described::whole("w", "1", &[2], &[1])), "missing"),
        (
            "unknown storage",
            with(Described { kind: "ComplexStorage", ..Described::whole("w", "0", &[2], &[1]) }),
            "torch.ComplexStorage",
        ),
        (
            "NaN",
            archive(
                &dict(&[Described::whole("w", "0", &[2], &[1])]),
                &[("0", floats(&[1.0, f32::NAN]))],
                false,
            ),
            "NaN",
        ),
        ("unknown class", archive(b"cos\nsystem\n.", &two, false), "os.system"),
        ("no tensors", archive(b"}.", &two, false), "no tensors"),
        ("no dict", archive(b"].", &two, false), "no dictionary"),
        ("text in dict", archive(b"}U\x01aU\x01bs.", &two, false), "no tensor"),
        ("damaged", damaged, "checksum"),
        ("compressed", bomb.finish(), "compressed"),
        ("entry outside", outside.finish(), "outside"),
        (
            "no pickle",
            {
                let mut z = Zip::new(false);
                z.add("x", b"y");
                z.finish()
            },
            "data.pkl",
        ),
        (
            "big-endian",
            {
                let mut z = Zip::new(false);
                z.add("a/data.pkl", &dict(&[]));
                z.add("a/byteorder", b"big");
                z.finish()
            },
            "little-endian",
        ),
    ];
    for (what, bytes, expected) in cases {
        let err = read(&bytes).unwrap_err();
        assert!(err.contains("hostile.pt") && err.contains(expected) && !err.contains('\n'), "{what}: {err}");
    }
}

#[test]
fn every_cut_is_an_error() {
    let whole =
        archive(&dict(&[Described::whole("w", "0", &[2], &[1])]), &[("0", floats(&[1.0, 2.0]))], true);
    assert!(read(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length} of {}", whole.len());
    }
}

#[test]
fn the_average_must_fit_the_network() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/i2sb/fixtures/checkpoint/jpeg-tiny/latest.pt");
    if !path.exists() {
        return println!("skipped: no {}", path.display());
    }
    let checkpoint = TorchCheckpoint::open(&path).unwrap();
    let mut config = checkpoint.infer().unwrap();
    config.num_head_channels = Some(32);
    assert_eq!((checkpoint.prefix(), checkpoint.ema().unwrap().len()), ("diffusion_model.", 88));
    let weights = checkpoint.weights(WeightSet::Ema, &config).unwrap();
    assert_eq!(weights.shapes(), config.plan().unwrap().tensors());
    let err = checkpoint.weights(WeightSet::Ema, &AdmConfig::released_256()).err().unwrap().to_string();
    assert!(err.contains("88 tensors, but the network 566"), "{err}");
    config.model_channels = 64;
    let err = checkpoint.weights(WeightSet::Ema, &config).err().unwrap().to_string();
    assert!(err.contains("tensor 0 of the moving average"), "{err}");
}
