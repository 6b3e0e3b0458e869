#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs what a requirements file names into tests/peers/.venv, once.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="$here/.venv"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
mark="$venv/$(cksum < "$1" | cut -d' ' -f1).installed"
if [ ! -e "$mark" ]; then
    "$venv/bin/pip" install --quiet --requirement "$1"
    touch "$mark"
fi
