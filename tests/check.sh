#!/bin/bash
# SPDX-License-Identifier: MIT
#
# make check: everything that is tested, on both Debian releases. Needs root and a Debian with a
# package mirror; installs what it needs. Logs stay in build/check. Ends with "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL # each step is a make of its own

LOGS=build/check
RELEASES=(bookworm trixie)
# Besides what the build needs.
PACKAGES=(clang clang-format clang-tidy cppcheck dpkg-dev git libclang-rt-dev libcmocka-dev mandoc
    mmdebstrap python3-pytest shellcheck systemd-container tzdata valgrind)

# With --long every row of the fault matrix in full, and every call and allocation that failed once
# fails for good, too; and then the system tests with sanitizers.
if [ "${1-}" = --long ]; then
    EXTENT=(--long)
else
    EXTENT=()
fi

passed=0
failed=0

note() {
    printf '%s %s\n' "$(date +%H:%M:%S)" "$*"
}

# NAME COMMAND...: one step, one line; the end of its log when it fails.
step() {
    local name=$1 before=$SECONDS
    shift
    if "$@" >"$LOGS/$name.log" 2>&1 </dev/null; then
        note "passed: $name ($((SECONDS - before)) s)"
        passed=$((passed + 1))
    else
        note "FAILED: $name ($((SECONDS - before)) s), see $LOGS/$name.log"
        tail -n 60 "$LOGS/$name.log"
        failed=$((failed + 1))
    fi
}

# What cmocka counts in the logs of the unit tests.
count_unit_tests() {
    local counts
    counts=$(sed -nE 's/^\[  (PASSED|FAILED)  \] ([0-9]+) test.*/\1 \2/p' "$@")
    passed=$((passed + $(awk '$1 == "PASSED" { n += $2 } END { print n + 0 }' <<<"$counts")))
    failed=$((failed + $(awk '$1 == "FAILED" { n += $2 } END { print n + 0 }' <<<"$counts")))
}

# The releases side by side, each line marked with its own.
system_tests() {
    local release pids=()
    for release in "${RELEASES[@]}"; do
        (
            status=0
            /usr/bin/python3 -B -m pytest tests/system --release "$release" "${EXTENT[@]}" \
                --junitxml="$LOGS/$release.xml" </dev/null 2>&1 |
                tee "$LOGS/$release.log" | sed -u "s/^/$release: /" || status=$?
            echo $status >"$LOGS/$release.status"
            exit $status
        ) &
        pids+=($!)
    done
    local pid status=0
    for pid in "${pids[@]}"; do
        wait "$pid" || status=1
    done
    return $status
}

# Of netd; netd-client's calls fail with sanitizers in inject.py. Not where a sanitizer takes too many
# calls, too much memory, or the first place among the libraries.
sanitized_tests() {
    /usr/bin/python3 -B -m pytest tests/system/test_{contract,matrix}_*.py \
        tests/system/test_{crash,reload}.py --release bookworm --sanitize \
        -k 'not at_every_place and not too_little_memory and not clock_set'
}

# From the reports. A run that broke off counts as a failure, whatever its report says.
count_system_tests() {
    local release counts
    for release in "${RELEASES[@]}"; do
        counts=$(/usr/bin/python3 -c '
import sys, xml.etree.ElementTree
suite = xml.etree.ElementTree.parse(sys.argv[1]).getroot().find("testsuite").attrib
bad = sum(int(suite[name]) for name in ("errors", "failures", "skipped"))
broken = int(sys.argv[2]) != 0 and bad == 0
print(int(suite["tests"]) - bad, bad + broken)' \
            "$LOGS/$release.xml" "$(cat "$LOGS/$release.status")") || counts="0 1"
        passed=$((passed + ${counts% *}))
        failed=$((failed + ${counts#* }))
    done
}

[ "$(id -u)" -eq 0 ] || {
    echo "make check boots containers: run it as root" >&2
    exit 1
}
rm -rf $LOGS
mkdir -p $LOGS
tests/packages.sh $LOGS/packages.log "${PACKAGES[@]}"

step lint make -k -j"$(nproc)" --output-sync=target lint
step build-gcc make -j"$(nproc)" CC=gcc WERROR=1 BUILD=build/gcc all
step build-clang make -j"$(nproc)" CC=clang WERROR=1 BUILD=build/clang all
step unit make -j"$(nproc)" CC=gcc WERROR=1 BUILD=build/gcc unit
step unit-clang make -j"$(nproc)" CC=clang WERROR=1 BUILD=build/clang unit
step unit-sanitized make -j"$(nproc)" CC=gcc WERROR=1 SANITIZE=address,undefined unit
step valgrind make -j"$(nproc)" CC=gcc WERROR=1 valgrind
step fuzz make -j2 fuzz SECONDS=60
grep FUZZ "$LOGS/fuzz.log" || true
step instructions make -j2 CC=gcc WERROR=1 BUILD=build/gcc instructions
count_unit_tests $LOGS/unit*.log

note "system tests"
system_tests || note "FAILED: system tests, see $LOGS"
count_system_tests
[ ${#EXTENT[@]} -eq 0 ] || step system-sanitized sanitized_tests

note "$((SECONDS / 60)) min $((SECONDS % 60)) s"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
