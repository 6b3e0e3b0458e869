#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: pipelines/make-pairs/hash.sh FOLDER... > engine/assets/held-out/hashes.txt
# Lists perceptual hashes of the pictures and clips of the folders, which then no training will take.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
"$root/.ci/install"
(cd "$root" && cargo build --release --quiet -p i2sb-pipelines --bin i2sb-held-out)
exec "${CARGO_TARGET_DIR:-$root/target}/release/i2sb-held-out" "$@"
