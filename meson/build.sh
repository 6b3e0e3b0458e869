#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: build.sh CARGO SOURCE TARGET_DIR OUT     (called by meson.build)
# Builds plugin and commands in one call of cargo and puts what is installed into OUT.
set -euo pipefail
cargo=$1 source=$2 target=$3 out=$4
"$cargo" build --release --locked --manifest-path "$source/Cargo.toml" --target-dir "$target" \
    -p i2sb -p gst-plugin-i2sb -p i2sb-pipelines
cp "$target"/release/{libgsti2sb.so,i2sb,i2sb-run} "$out/"
rm -rf "$out/man"
for command in i2sb i2sb-run; do
    "$out/$command" completions bash >"$out/$command.bash"
    "$out/$command" completions zsh >"$out/_$command"
    "$out/$command" completions fish >"$out/$command.fish"
    "$out/$command" man "$out/man"
done
