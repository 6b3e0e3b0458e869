#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: pipelines/run.sh JOB IN OUT [options]     (pipelines/run.sh JOB --help lists the options)
# JOB is a folder beside this script. In a source tree the plugin and the runner are built first, and
# missing Debian packages installed; where an installed `i2sb-run` is found instead, that one runs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

jobs_list() { for recipe in "$here"/*/pipeline.toml; do basename "$(dirname "$recipe")"; done; }
if [ $# -lt 1 ] || [ ! -f "$here/$1/pipeline.toml" ]; then
    sed -n '3,5s/^# //p' "$0" >&2
    echo "jobs: $(jobs_list | tr '\n' ' ')" >&2
    exit 2
fi
recipe=$here/$1/pipeline.toml
shift

if [ -f "$root/Cargo.toml" ]; then
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH=$HOME/.cargo/bin:$PATH
    fi
    command -v cargo >/dev/null || { echo "Rust is missing: see https://rustup.rs" >&2; exit 1; }
    "$root/.ci/install"
    (cd "$root" && cargo build --release --quiet -p gst-plugin-i2sb -p i2sb-pipelines)
    exec "${CARGO_TARGET_DIR:-$root/target}/release/i2sb-run" --recipe "$recipe" "$@"
fi
# Installed: the runner of the same prefix, else the one on PATH.
runner=$here/../../../bin/i2sb-run
[ -x "$runner" ] || runner=$(command -v i2sb-run) || {
    echo "i2sb-run is not installed: run 'ninja -C build install'" >&2
    exit 1
}
exec "$runner" --recipe "$recipe" "$@"
