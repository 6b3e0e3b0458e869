#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: packaging/build.sh SUITE FOLDER [TEST…]     (as root)
# Builds the last commit against another Debian's GStreamer: makes FOLDER a Debian SUITE, installs there what
# `.ci/debian-packages` lists, makes the package with this machine's Rust, and prints its path. Words after the folder
# are tests of the element, which are run there too: `packaging/build.sh trixie FOLDER strength_zero formats`.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n '3s/^# //p' "$0" >&2; exit 2; }
suite=$1 root=$(realpath -m "$2")
shift 2
. packaging/folder.sh
make_folder "$suite"
rust=$(rustc --print sysroot) crates=${CARGO_HOME:-$HOME/.cargo}

rm -rf "$root/root/new"
git clone --quiet --no-hardlinks . "$root/root/new"
# Kept between calls: what cargo has compiled.
[ ! -d "$root/root/i2sb/target" ] || mv "$root/root/i2sb/target" "$root/root/new/"
rm -rf "$root/root/i2sb"
mv "$root/root/new" "$root/root/i2sb"

step() { echo "# $1" >&2; inside bash -euc "cd /root/i2sb; $1" >&2; }
step 'cat /etc/debian_version'
step 'apt-get update >/tmp/apt 2>&1 || { cat /tmp/apt; exit 1; }'
step '.ci/install'
step 'pkg-config --modversion gstreamer-1.0'
step 'cargo xtask dist'
for test in "$@"; do
    step "cargo test --quiet --release --locked --workspace --test element $test"
done
ls "$root"/root/i2sb/target/dist/*.deb
