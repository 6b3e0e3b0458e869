#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: pipelines/make-pairs/run.sh PHOTOGRAPHS OUT [options]     (--help lists the options)
# Builds the program, installs missing Debian packages, and makes pairs of frames before and after a codec.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH=$HOME/.cargo/bin:$PATH
fi
command -v cargo >/dev/null || { echo "Rust is missing: see https://rustup.rs" >&2; exit 1; }
"$root/.ci/install"
(cd "$root" && cargo build --release --quiet -p i2sb-pipelines --bin i2sb-make-pairs)
exec "${CARGO_TARGET_DIR:-$root/target}/release/i2sb-make-pairs" "$@"
