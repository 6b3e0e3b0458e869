#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: packaging/bare.sh SUITE FOLDER DEB     (as root)
# Makes FOLDER a bare Debian (`folder.sh`). Installs DEB there as docs/install.md says, cleans a clip, removes it
# again, and fails if a file is left. Every command comes from the page or is shown as it runs.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 3 ] || { sed -n '3s/^# //p' "$0" >&2; exit 2; }
suite=$1 root=$(realpath -m "$2") deb=$3
. packaging/folder.sh
make_folder "$suite"

# Shows a command, then runs it; what apt says is shown only if it fails.
step() {
    printf '# %s\n' "$1"
    if ! inside bash -euc "cd /root; $1" >"$root/tmp/step" 2>&1; then
        tail -n 30 "$root/tmp/step" >&2
        return 1
    fi
    case $1 in *apt-get*) grep -E '^(Setting up|Removing|Purging).* ?i2sb' "$root/tmp/step" || true ;; *) cat "$root/tmp/step" ;; esac
}

step 'cat /etc/debian_version'
step 'apt-get update'
# What an earlier call has left.
rm -rf "$root"/root/*
cp "$deb" "$root/root/i2sb.deb"
cp tests/fixtures/clips/cockatoo.mp4 "$root/root/in.mp4"

# The page's commands for Debian, one after another.
sed -n '/^```sh debian$/,/^```$/p' docs/install.md | sed '/^```/d' >"$root/root/commands"
[ -s "$root/root/commands" ] || { echo "docs/install.md has no commands for Debian" >&2; exit 1; }
while IFS= read -r command; do step "$command"; done <"$root/root/commands"

left=$(inside find / -xdev -iname '*i2sb*' -not -path '/root/*' -not -path '/proc/*')
[ -z "$left" ] || { echo "left behind: $left" >&2; exit 1; }
echo "nothing is left behind"
