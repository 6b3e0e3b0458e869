#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: packaging/deb.sh      (`cargo xtask dist` calls it)
# Makes target/dist/i2sb_VERSION-1_ARCH.deb: what `meson install` puts into /usr, stripped, with copyright,
# notices and the dependencies of this machine's Debian. The tree that it packs, target/dist/root, is also
# what `cargo deb --package i2sb-pipelines` packs.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in meson ninja dpkg-deb dpkg-shlibdeps dpkg-architecture strip; do
    command -v $tool >/dev/null || { echo "$tool is missing: apt-get install meson ninja-build dpkg-dev binutils" >&2; exit 1; }
done
target=${CARGO_TARGET_DIR:-$PWD/target}
dist=$PWD/target/dist
root=$dist/root
field() { sed -n "/^\[$2\]/,/^\[/s/^$1 = \"\(.*\)\"/\1/p" "$3"; }
version=$(field version workspace.package Cargo.toml)-1
depends=$(field depends package.metadata.deb pipelines/Cargo.toml)
suggests=$(field suggests package.metadata.deb pipelines/Cargo.toml)
maintainer=$(field maintainer package.metadata.deb pipelines/Cargo.toml)
arch=$(dpkg-architecture -qDEB_HOST_ARCH)
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)

rm -rf "$dist"
mkdir -p "$root" "$dist/debian"
meson setup --prefix /usr --libdir "lib/$multiarch" -Dtarget_dir="$target" "$dist/build" >"$dist/meson.log" ||
    { cat "$dist/meson.log" >&2; exit 1; }
DESTDIR=$root ninja -C "$dist/build" install >"$dist/meson.log" || { tail -n 40 "$dist/meson.log" >&2; exit 1; }

binaries=("$root"/usr/bin/* "$root/usr/lib/$multiarch/gstreamer-1.0"/*.so)
strip --strip-unneeded "${binaries[@]}"
chmod 644 "$root/usr/lib/$multiarch/gstreamer-1.0"/*.so
gzip -9n "$root"/usr/share/man/man1/*.1
doc=$root/usr/share/doc/i2sb
mkdir -p "$doc"
indented() { sed 's/^$/./; s/^/ /' "$1"; }
while IFS= read -r line; do
    case $line in
        @MIT@) indented LICENSE-MIT ;;
        @BSD@) indented engine/assets/lpips-alex/LICENSE ;;
        *) printf '%s\n' "$line" ;;
    esac
done <packaging/copyright >"$doc/copyright"
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
cargo xtask notices | gzip -9n >"$doc/third-party-notices.gz"
cp README.md "$doc/"

# dpkg-shlibdeps wants to stand beside a source package's control file.
printf 'Source: i2sb\n\nPackage: i2sb\nArchitecture: any\n' >"$dist/debian/control"
libraries=$(cd "$dist" && dpkg-shlibdeps -O "${binaries[@]}" 2>"$dist/shlibdeps.log" | sed -n 's/^shlibs:Depends=//p')
[ -n "$libraries" ] || { cat "$dist/shlibdeps.log" >&2; exit 1; }

mkdir "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<EOF
Package: i2sb
Version: $version
Architecture: $arch
Maintainer: $maintainer
Section: video
Priority: optional
Installed-Size: $(du -sk --apparent-size "$root/usr" | cut -f1)
Depends: ${depends//\$auto/$libraries}
Suggests: $suggests
Description: restores pictures and video with Schrödinger bridges
$(sed 's/^$/./; s/^/ /' packaging/description)
EOF
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group --build "$root" "$dist/i2sb_${version}_$arch.deb" >/dev/null
rm -r "$root/DEBIAN"
echo "$dist/i2sb_${version}_$arch.deb"
