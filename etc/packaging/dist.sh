#!/bin/bash
# SPDX-License-Identifier: MIT
#
# make dist: the tree as build/netd-VERSION.tar.gz. With git the files that it tracks; without, as
# in an unpacked tarball, all of them. The same files give the same bytes, wherever and whenever.
set -euo pipefail
cd "$(dirname "$0")/../.."

files() {
    if [ -e .git ]; then
        git -c safe.directory='*' ls-files -z
    else
        find . \( -path ./build -o -name __pycache__ -o -name .pytest_cache \) -prune \
            -o ! -type d -printf '%P\0'
    fi
}

version=$(sed -n 's/^#define NETD_VERSION "\(.*\)"$/\1/p' src/common/names.h)
date=$(sed -n "s/^## \[${version//./\\.}\] - //p" CHANGELOG.md)
[[ $date =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] || {
    echo "CHANGELOG.md: no date of version $version (NETD_VERSION in src/common/names.h)" >&2
    exit 1
}
mkdir -p build
tarball=build/netd-$version.tar.gz
files | LC_ALL=C sort -z |
    tar --null --files-from=- --transform="flags=r;s,^,netd-$version/," --format=ustar \
        --owner=0 --group=0 --numeric-owner --mode=a+rX,u+w,go-w --mtime="$date 00:00Z" -cf - |
    gzip -9n >"$tarball.$$"
mv "$tarball.$$" "$tarball"
sha256sum "$tarball"
