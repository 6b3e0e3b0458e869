#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: install-man.sh MANDIR     (called by `ninja install`)
# Installs every manual page: one per subcommand, as many as there are.
set -euo pipefail
case $1 in /*) to=${DESTDIR:-}$1 ;; *) to=$MESON_INSTALL_DESTDIR_PREFIX/$1 ;; esac
mkdir -p "$to"
install -m 644 "$MESON_BUILD_ROOT"/man/*.1 "$to/"
