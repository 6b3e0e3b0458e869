// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scripts that no other test runs at least parse, and the page about them names them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers")
}

/// Scripts of the measuring programs with this extension.
fn scripts(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [peers(), peers().join("speed"), peers().join("quality")] {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        found.extend(entries.filter(|path| path.extension().is_some_and(|e| e == extension)));
    }
    found
}

#[test]
fn scripts_of_the_measuring_programs_parse() {
    let python = "import ast, sys\nfor path in sys.argv[1:]: ast.parse(open(path).read(), path)";
    let files = scripts("py");
    assert!(files.len() >= 10, "{files:?}");
    let done = Command::new("python3").args(["-c", python]).args(files).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let shells = scripts("sh");
    assert!(shells.len() >= 3, "{shells:?}");
    for shell in shells {
        let done = Command::new("sh").arg("-n").arg(&shell).output().unwrap();
        assert!(done.status.success(), "{}: {}", shell.display(), String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn the_page_names_both_commands() {
    let page = fs::read_to_string(peers().join("README.md")).unwrap();
    for program in ["speed", "quality"] {
        assert!(peers().join(program).join("run.sh").exists());
        assert!(page.contains(&format!("./tests/peers/{program}/run.sh")), "{program}");
    }
}

#[test]
fn what_a_gpu_shall_train_has_its_recipe_and_its_beginning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let queue = fs::read_to_string(root.join("tests/cuda/bundle/queue.txt")).unwrap();
    assert!(queue.lines().count() >= 3);
    for line in queue.lines() {
        let (name, minutes) = line.split_once(' ').unwrap_or_else(|| panic!("{line}: NAME MINUTES"));
        assert!(minutes.parse::<u32>().is_ok_and(|minutes| minutes > 0), "{line}");
        let recipe = fs::read_to_string(root.join(format!("engine/recipes/{name}.toml"))).expect(name);
        let init = recipe.lines().find_map(|line| line.strip_prefix("init = "));
        if let Some(init) = init {
            let folder = root.join(init.trim_matches('"'));
            assert!(folder.join("model.safetensors").is_file(), "{name} begins with {}", folder.display());
        }
    }
}
