#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Times the engine against PyTorch, ONNX Runtime and OpenVINO on the same networks; --help tells more.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
"$here/../python.sh" "$here/requirements.txt"
if [ -z "${I2SB:-}" ]; then
    (cd "$root" && cargo build --release --quiet -p i2sb)
    I2SB=${CARGO_TARGET_DIR:-$root/target}/release/i2sb
fi
cd "$root"
exec "$here/../.venv/bin/python" "$here/measure.py" --i2sb "$I2SB" "$@"
