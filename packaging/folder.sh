# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# A bare Debian in a folder, for `bare.sh` and `build.sh`, which source this (as root).

[ "$(id -u)" = 0 ] || { echo "this needs root, for debootstrap and chroot" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }

# make_folder SUITE: makes $root one (minbase; kept if it is one already) from the mirrors that this machine's apt uses.
make_folder() {
    if [ ! -x "$root/usr/bin/apt-get" ]; then
        local mirror
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | head -n 1)
        debootstrap --variant=minbase "$1" "$root" "$mirror" >"$root.log" 2>&1 || { tail "$root.log" >&2; exit 1; }
    fi
    # This machine's way to the mirrors: proxies, time-outs.
    apt-config dump Acquire | grep -E '^Acquire::[A-Za-z]+::(Proxy|Timeout)|^Acquire::Retries' \
        >"$root/etc/apt/apt.conf.d/90host" || true
    # The folder is thrown away after use: no waiting for its disk.
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/bare"
    cp /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
}

# inside COMMAND…: runs it in $root; mounts end with it. With $rust, a folder of a Rust toolchain, and $crates, of
# cargo's downloads, these lie at /opt/rust and /opt/cargo.
inside() {
    rust=${rust:-} crates=${crates:-} unshare --mount --pid --fork bash -ec '
        root=$1; shift
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        path=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
        if [ -n "$rust" ]; then
            mkdir -p "$root/opt/rust" "$root/opt/cargo"
            mount --bind "$rust" "$root/opt/rust"
            mount --bind "$crates" "$root/opt/cargo"
            path=/opt/rust/bin:$path
        fi
        exec chroot "$root" /usr/bin/env -i HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
            CARGO_HOME=/opt/cargo PATH=$path "$@"' bare "$root" "$@"
}
