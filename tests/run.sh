#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs every check and every test: installs missing Debian packages, then `cargo xtask check`.
# Arguments are names of stages; without any, all run.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH=$HOME/.cargo/bin:$PATH
fi
command -v cargo >/dev/null || { echo "Rust is missing: see https://rustup.rs" >&2; exit 1; }
.ci/install
exec cargo xtask check "$@"
