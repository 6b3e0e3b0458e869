// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine meets the reference numbers, and notices when they are damaged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use i2sb::verify::{self, CaseReport, KINDS};
use safetensors::{SafeTensors, tensor::TensorView};
use tempfile::TempDir;

#[test]
fn compact_copy_passes() {
    let reports = passes(&compact());
    for kind in KINDS {
        let folder = format!("{}/", kind.folder);
        assert!(reports.iter().any(|case| case.name.starts_with(&folder)), "no case of {folder}");
    }
}

/// The complete set, where the workspace has it beside it.
#[test]
fn complete_fixtures_pass() {
    let dir = root().join("../shared/i2sb/fixtures");
    if dir.is_dir() {
        passes(&dir);
    } else {
        println!("skipped: {} is not there", dir.display());
    }
}

/// What is done to a copy, and what the lines of the failing cases must hold.
struct Damage {
    what: &'static str,
    to: &'static str,
    how: fn(&Path),
    line: &'static [&'static str],
}

const DAMAGES: &[Damage] = &[
    Damage {
        what: "one value changed",
        to: "samplers/i3sb.safetensors",
        how: |path| {
            rewrite(path, |name, data| {
                if name == "nfe5.eta0.6.pred_x0" {
                    add(data, 9, 0.01)
                }
            })
        },
        line: &["samplers/i3sb nfe5.eta0.6", "xt["],
    },
    Damage {
        what: "one bit of an exact number changed",
        to: "schedule/bmax1.0_n20.safetensors",
        how: |path| {
            rewrite(path, |name, data| {
                if name == "var_f64" {
                    data[0] ^= 1
                }
            })
        },
        line: &["schedule/bmax1.0_n20 arrays", "var_f64[0]"],
    },
    Damage {
        what: "a value that is no number",
        to: "samplers/dbim.safetensors",
        how: |path| {
            rewrite(path, |name, data| {
                if name == "x_T" {
                    add(data, 0, f32::NAN)
                }
            })
        },
        line: &["samplers/dbim n4.order2", "NaN"],
    },
    Damage {
        what: "a tensor missing",
        to: "samplers/i3sb.safetensors",
        how: |path| retain(path, |name| name != "nfe2.eta0.0.xt"),
        line: &["samplers/i3sb", "nfe2.eta0.0.xt is missing"],
    },
    Damage {
        what: "a tensor too many",
        to: "samplers/i3sb.json",
        how: |path| replace(path, "\"nfe2.eta0.0\":{\"noise_count\":1},", ""),
        line: &["samplers/i3sb", "4 tensors are not understood", "nfe2.eta0.0"],
    },
    Damage {
        what: "an unknown file",
        to: "schedule/notes.txt",
        how: |path| fs::write(path, "?").unwrap(),
        line: &["schedule/notes.txt", "not understood"],
    },
    Damage {
        what: "an unknown folder",
        to: "colours",
        how: |path| fs::create_dir(path).unwrap(),
        line: &["colours", "not understood"],
    },
    Damage {
        what: "tensors without configuration",
        to: "samplers/dbim.json",
        how: |path| fs::remove_file(path).unwrap(),
        line: &["samplers/dbim.safetensors", "no dbim.json"],
    },
    Damage {
        what: "configuration without tensors",
        to: "samplers/dbim.safetensors",
        how: |path| fs::remove_file(path).unwrap(),
        line: &["samplers/dbim ", "dbim.safetensors: No such file"],
    },
    Damage {
        what: "truncated tensors",
        to: "samplers/dbim.safetensors",
        how: |path| truncate(path, 20_000),
        line: &["samplers/dbim ", "dbim.safetensors: no safetensors file"],
    },
    Damage {
        what: "truncated configuration",
        to: "samplers/dbim.json",
        how: |path| truncate(path, 200),
        line: &["samplers/dbim ", "dbim.json: no JSON"],
    },
    Damage {
        what: "a header of 2^60 bytes",
        to: "samplers/dbim.safetensors",
        how: |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
            fs::write(path, bytes).unwrap();
        },
        line: &["samplers/dbim ", "no safetensors file"],
    },
    Damage {
        what: "a wrong step list",
        to: "schedule/steps.json",
        how: |path| replace(path, "[0,333,666,999]", "[0,333,667,999]"),
        line: &["schedule/steps", "interval 1000, nfe 3: steps[2] is 666, stored 667"],
    },
    Damage {
        what: "an impossible configuration",
        to: "schedule/bmax1.0_n20.json",
        how: |path| replace(path, "\"interval\":20", "\"interval\":21"),
        line: &["schedule/bmax1.0_n20 ", "interval is 21"],
    },
    Damage {
        what: "an unknown kind",
        to: "schedule/bmax1.0_n20.json",
        how: |path| replace(path, "\"kind\":\"schedule\"", "\"kind\":\"timetable\""),
        line: &["schedule/bmax1.0_n20 ", "\"timetable\" is not understood"],
    },
    Damage {
        what: "a network outside the folders",
        to: "sampling/sde_clip.json",
        how: |path| {
            replace(path, "\"network\":\"net_uncond.safetensors\"", "\"network\":\"/net.safetensors\"")
        },
        line: &["sampling/sde_clip ", "/net.safetensors"],
    },
    Damage {
        what: "one weight changed",
        to: "sampling/net_uncond.safetensors",
        how: |path| {
            rewrite(path, |name, data| {
                if name == "state.out.2.weight" {
                    add(data, 5, 0.1)
                }
            })
        },
        line: &["sampling/sde_clip nfe5 network", "net_out"],
    },
];

#[test]
fn damaged_copies_fail_with_a_clear_line() {
    for damage in DAMAGES {
        let folder = damage.to.split('/').next().unwrap();
        let copy = TempDir::new().unwrap();
        let kinds = if KINDS.iter().any(|kind| kind.folder == folder) { folder } else { "schedule" };
        copy_folder(&compact().join(kinds), &copy.path().join(kinds));
        let intact = run(copy.path());
        assert!(intact.iter().all(CaseReport::passed), "{}: {intact:#?}", damage.what);

        (damage.how)(&copy.path().join(damage.to));
        let failures: Vec<String> =
            run(copy.path()).iter().filter(|case| !case.passed()).map(CaseReport::to_string).collect();
        let clear =
            |line: &String| damage.line.iter().all(|part| line.contains(part)) && !line.contains('\n');
        assert!(failures.iter().any(clear), "{}: {failures:#?}", damage.what);
    }
}

#[test]
fn a_folder_without_cases_is_an_error() {
    let empty = TempDir::new().unwrap();
    let error = verify::run(empty.path(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("holds none of the folders schedule"), "{error}");
    assert!(verify::run(empty.path().join("absent"), &mut |_| {}).is_err());
    fs::create_dir(empty.path().join("schedule")).unwrap();
    assert!(!verify::run(empty.path(), &mut |_| {}).unwrap().is_pass());
}

fn passes(dir: &Path) -> Vec<CaseReport> {
    let reports = run(dir);
    let failures: Vec<_> = reports.iter().filter(|case| !case.passed()).map(CaseReport::to_string).collect();
    assert!(failures.is_empty() && !reports.is_empty(), "{failures:#?}");
    reports
}

fn run(dir: &Path) -> Vec<CaseReport> {
    let mut reports = Vec::new();
    let summary = verify::run(dir, &mut |case| reports.push(case.clone())).unwrap();
    assert_eq!(summary.passed + summary.failed, reports.len());
    assert_eq!(summary.is_pass(), reports.iter().all(CaseReport::passed) && !reports.is_empty());
    reports
}

/// Writes the tensors anew after `change` has seen each one's name and bytes.
fn rewrite(path: &Path, mut change: impl FnMut(&str, &mut Vec<u8>)) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let parts: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let mut data = view.data().to_vec();
            change(&name, &mut data);
            (name, view.dtype(), view.shape().to_vec(), data)
        })
        .collect();
    let views = parts
        .iter()
        .map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn retain(path: &Path, keep: impl Fn(&str) -> bool) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let views = file.tensors().into_iter().filter(|(name, _)| keep(name));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Adds to one f32 of a tensor's bytes.
fn add(data: &mut [u8], index: usize, delta: f32) {
    let four = &mut data[4 * index..4 * index + 4];
    let value = f32::from_le_bytes(four.try_into().unwrap());
    four.copy_from_slice(&(value + delta).to_le_bytes());
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} holds no {from}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn truncate(path: &Path, bytes: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::write(to.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
    }
}

fn compact() -> PathBuf {
    root().join("tests/fixtures/i2sb")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
