#!/bin/bash
# SPDX-License-Identifier: MIT
#
# make check-architectures: builds for other machines and with other compilers, without a warning, and
# runs the unit tests of both programs on the other machines' processors, which qemu-user emulates:
# arm64; s390x, which is big-endian; armhf, which has 32 bits. Needs root on an amd64 Debian. Logs,
# and the file systems for the next run, are in build/architectures.
#
# qemu-user has the kernel's interface only in part, so that some tests fail in it on any processor.
# They are those that fail in qemu-x86_64, too; everything else has to pass.
set -euo pipefail
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL

DIR=build/architectures
LIBRARIES=(libc6-dev libsystemd-dev libconfig-dev libjansson-dev libssl-dev libcmocka-dev)
TOOLS=(gawk make pkg-config)
# Debian's name, the compiler's prefix, qemu's name. The first is what the others are compared with.
MACHINES=("amd64 x86_64-linux-gnu x86_64" "arm64 aarch64-linux-gnu aarch64"
    "s390x s390x-linux-gnu s390x" "armhf arm-linux-gnueabihf arm")
TIMEOUT=300 # seconds for one program of tests

die() {
    echo "check-architectures: $*" >&2
    exit 1
}

# file_system NAME RELEASE ARCHITECTURES PACKAGES [HOOK]: makes DIR/NAME, unless it is there.
file_system() {
    local root=$DIR/$1 want="$2 $3 $4"
    if [ "$(cat "$root.packages" 2>/dev/null)" != "$want" ]; then
        rm -rf "$root"
        # Debian's next release has an index that ends after some days. A mirror may be late.
        mmdebstrap --variant=minbase --architectures="$3" --include="$4" \
            --aptopt='Acquire::Retries "3"' --aptopt='Acquire::Check-Valid-Until "false"' \
            ${5:+--customize-hook="$5"} "$2" "$root" "$mirror" >"$DIR/$1.log" 2>&1 ||
            { tail -n 20 "$DIR/$1.log"; die "cannot make a file system of $2"; }
        echo "$want" >"$root.packages"
    fi
    mkdir -p "$root/src"
    find "$root/src" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
    git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' f; do if [ -e "$f" ]; then printf '%s\0' "$f"; fi; done |
        tar --null -T - -cf - | tar -C "$root/src" -xf -
}

# inside NAME COMMAND...: with a network that has only a loopback interface.
inside() {
    systemd-nspawn --register=no --keep-unit --quiet --pipe --private-network -D "$DIR/$1" \
        /src/tests/architectures.sh "${@:2}"
}

# --- In the container ---

# build DIRECTORY VARIABLE=VALUE...: the programs and the unit tests.
build() {
    local tests=(tests/unit/test-*.c)
    tests=("${tests[@]%.c}")
    make -k -s -j"$(nproc)" WERROR=1 BUILD="build/$1" "${@:2}" all "${tests[@]/#/build/$1/}" ||
        die "cannot build for $1"
}

# run_tests ARCHITECTURE PREFIX QEMU: one line for each test that fails.
run_tests() {
    local test name out status build=build/$1
    mkdir -p "$build/run"
    for test in tests/unit/test-*.c; do
        name=$(basename "$test" .c)
        out=$build/run/$name
        status=0
        NETD_TEST_PERCENT=3 LOCPATH=/tmp/locale-$1 QEMU_SET_ENV=LD_PRELOAD=/src/$build/qemu.so \
            timeout -k 5 "$TIMEOUT" "qemu-$3" "$build/tests/unit/$name" >"$out" 2>&1 </dev/null ||
            status=$?
        [ "$status" -eq 0 ] || sed -n "/^\[  FAILED  \] [a-z_0-9]*$/s/^.* /$name: /p" "$out" | sort -u
        # A program that does not come to its end.
        grep -q '^\[==========\] [0-9]* test(s) run' "$out" || echo "$name: status $status"
    done
}

machine() {
    local order=--little-endian
    build "$1" CC="$2-gcc" AR="$2-ar" PKG_CONFIG="$2-pkg-config"
    "$2-gcc" -D_GNU_SOURCE -shared -fPIC -o "build/$1/qemu.so" tests/architectures.c
    # A locale's file has the byte order of the machine.
    [ "$1" != s390x ] || order=--big-endian
    mkdir -p "/tmp/locale-$1"
    localedef "$order" -c -i C -f UTF-8 "/tmp/locale-$1/C.UTF-8" || :
    run_tests "$@" >"build/$1/failed"
}

case ${1-} in
build | machine)
    cd /src
    if [ "$1" = build ]; then build "${@:2}"; else machine "${@:2}"; fi
    exit
    ;;
esac

# --- On the host ---

[ "$(id -u)" -eq 0 ] || die "makes containers: run it as root"
[ "$(dpkg --print-architecture)" = amd64 ] || die "needs an amd64 machine"
mkdir -p $DIR
tests/packages.sh $DIR/packages.log git mmdebstrap systemd-container
# shellcheck disable=SC2016 # apt's words
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' | head -n 1)

# The newest compilers have no package without a number.
# shellcheck disable=SC2016 # mmdebstrap's shell
newest='chroot "$1" sh -ec "apt-get install -y --no-install-recommends \$(
    for c in gcc clang; do apt-cache pkgnames \$c- | grep -xE \"\$c-[0-9]+\" | sort -V | tail -n 1
    done)"'
packages=$(IFS=,; echo "${TOOLS[*]},${LIBRARIES[*]}")
file_system trixie trixie amd64 "$packages,gcc,clang"
inside trixie build gcc CC=gcc
inside trixie build clang CC=clang
echo "Debian 13: gcc and clang build without a warning"
# cmocka 2 calls deprecated what cmocka 1 has.
file_system sid sid amd64 "$packages" "$newest"
for c in gcc clang; do
    name=$(chroot $DIR/sid sh -c "cd /usr/bin && ls $c-[0-9]* | grep -xE '$c-[0-9]+' | sort -V | tail -n 1")
    inside sid build "$name" CC="$name" CFLAGS='-O2 -g -Wno-deprecated-declarations'
    echo "Debian unstable: $name builds without a warning"
done

architectures=
for m in "${MACHINES[@]}"; do
    read -r name prefix _ <<<"$m"
    architectures+=${architectures:+,}$name
    for l in "${LIBRARIES[@]}"; do packages+=,$l:$name; done
    [ "$name" = amd64 ] || packages+=,gcc-$prefix
done
file_system machines bookworm "$architectures" "$packages,gcc,locales,qemu-user"
failed=0
for m in "${MACHINES[@]}"; do
    read -r name _ <<<"$m"
    # shellcheck disable=SC2086 # words
    inside machines machine $m
    build=$DIR/machines/src/build
    passed=$(cat "$build/$name/run/"* | grep -c '^\[       OK \]')
    [ "$name" != amd64 ] || reference=$passed
    bad=$(comm -13 "$build/amd64/failed" "$build/$name/failed")
    echo "$name: $passed tests passed, $(wc -l <"$build/amd64/failed") need what qemu-user does not have"
    [ -z "$bad" ] || { printf '%s FAILED: %s\n' "$name" "$bad"; failed=1; }
    [ "$passed" -ge $((reference * 95 / 100)) ] && [ "$passed" -gt 400 ] || failed=1
done
exit $failed
