// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may import whom: a module of the engine uses only modules of lower layers.

use std::path::Path;

use crate::source;

/// The engine's modules by layer; a module may use only modules of a smaller number, and modules of
/// equal number never see each other. ARCHITECTURE.md explains the order.
const LAYERS: &[(usize, &[&str])] = &[
    (0, &["error", "memory"]),
    (1, &["cancel", "atomic", "pixel", "schedule", "noise", "device"]),
    (2, &["ops", "picture", "combine", "tile"]),
    (3, &["bridge", "net", "degrade", "drawing", "metric"]),
    (4, &["denoiser", "checkpoint"]),
    (5, &["sampler"]),
    (6, &["preset"]),
    (7, &["restore", "train"]),
    (8, &["verify"]),
];

/// Names at the crate's root that belong to a module.
const FACES: &[(&str, &str)] = &[("Error", "error"), ("Result", "error"), ("Cancel", "cancel")];

/// What may never be named in a module's code, though its layer would allow it.
const FORBIDDEN: &[(&str, &str)] =
    &[("schedule", "candle_core"), ("noise", "candle_core"), ("net", "crate::schedule")];

/// Folders whose files are rows of one table and never import a sibling.
const TABLES: &[&str] = &["sampler", "degrade"];

/// What the plugin may use of the engine.
const PLUGIN_MAY_USE: &[&str] = &[
    "Cancel", "Error", "Result", "device", "error", "memory", "metric", "ops", "picture", "pixel", "preset",
    "restore", "sampler", "tile",
];

pub fn run(_: &[String]) -> Vec<String> {
    let root = crate::root();
    let mut findings = Vec::new();
    for file in source::files(&root) {
        if file.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        if let Ok(inside) = file.strip_prefix("engine/src") {
            let code = source::code(&root.join(&file));
            let wrong = match module_of(inside) {
                Some(module) => engine_file(&module, inside, &code),
                None => Vec::new(),
            };
            findings.extend(wrong.into_iter().map(|what| format!("{}: {what}", file.display())));
        } else if file.starts_with("plugin/src") {
            let names = source::names_after(&source::code(&root.join(&file)), "i2sb::");
            let wrong = names.into_iter().filter(|name| !PLUGIN_MAY_USE.contains(&name.as_str()));
            findings
                .extend(wrong.map(|name| format!("{}: the plugin may not use i2sb::{name}", file.display())));
        }
    }
    findings
}

/// `net/adm/mod.rs` → `net`; `None` for the crate's root and the command.
fn module_of(inside: &Path) -> Option<String> {
    let first = inside.components().next()?.as_os_str().to_str()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!["lib", "bin"].contains(&module)).then(|| module.to_string())
}

fn engine_file(module: &str, inside: &Path, code: &str) -> Vec<String> {
    let Some(own) = layer(module) else {
        return vec![format!("module {module} has no layer; give it one in xtask/src/layers.rs")];
    };
    let mut wrong = Vec::new();
    for name in source::names_after(code, "crate::") {
        let used = FACES.iter().find(|(face, _)| *face == name).map_or(name.as_str(), |(_, module)| module);
        if used == module {
            continue;
        }
        match layer(used) {
            Some(other) if other < own => {}
            Some(other) => wrong.push(format!("layer {own} ({module}) uses layer {other} ({used})")),
            None => wrong.push(format!("crate::{used} has no layer; give it one in xtask/src/layers.rs")),
        }
    }
    for (_, word) in FORBIDDEN.iter().filter(|(of, _)| *of == module) {
        if code.contains(word) {
            wrong.push(format!("{module} may not name {word}"));
        }
    }
    if TABLES.contains(&module) && inside.file_name().is_some_and(|name| name != "mod.rs") {
        wrong.extend(sibling_imports(module, inside, code));
    }
    wrong
}

fn sibling_imports(module: &str, inside: &Path, code: &str) -> Vec<String> {
    let folder = crate::root().join("engine/src").join(inside);
    let own = inside.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is_sibling = |name: &String| {
        *name != own
            && folder.with_file_name(format!("{name}.rs")).is_file()
            && inside.components().count() == 2
    };
    let prefix = format!("crate::{module}::");
    let names = source::names_after(code, "super::").into_iter().chain(source::names_after(code, &prefix));
    names
        .filter(is_sibling)
        .map(|name| format!("files of {module}/ never import a sibling ({name})"))
        .collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|(layer, _)| *layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upward_and_sideways_imports_are_found() {
        let check = |module: &str, code: &str| engine_file(module, Path::new("x.rs"), code).len();
        assert_eq!(check("tile", "use crate::{Error, Result};"), 0);
        assert_eq!(check("tile", "use crate::restore::Restorer;"), 1);
        assert_eq!(check("tile", "use crate::{metric, Error};"), 1);
        assert_eq!(check("net", "use crate::schedule::Schedule;"), 1);
        assert_eq!(check("nowhere", ""), 1);
    }

    #[test]
    fn the_workspace_keeps_its_layers() {
        assert_eq!(run(&[]), Vec::<String>::new());
    }
}
