#!/bin/bash
# SPDX-License-Identifier: MIT
#
# make check: all tests, on both Debian releases. Needs root and a Debian with a package mirror;
# installs missing packages. Logs are in build/check. The last line is "N passed, N failed".
#
# The system tests of both releases mostly wait. They run in the background, and everything else,
# which mostly computes, runs beside them at a lower priority.
set -euo pipefail
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL # each step is a make of its own

LOGS=build/check
RELEASES=(bookworm trixie)
# Besides what the build needs.
PACKAGES=(clang clang-format clang-tidy cppcheck dpkg-dev git libclang-rt-dev libcmocka-dev mandoc
    mmdebstrap openssl python3-prometheus-client python3-pytest shellcheck systemd-container tzdata
    valgrind)

# With --long, every row of the fault matrix runs in full; every place and every failing call is
# tried instead of a sample, and calls fail permanently, too; fuzzers run longer; and the system
# tests run again with sanitizers.
if [ "${1-}" = --long ]; then
    EXTENT=(--long)
    FUZZ_SECONDS=60
    TIDY_NODES=225000
    VALGRIND_PERCENT=10
else
    EXTENT=()
    FUZZ_SECONDS=5
    TIDY_NODES=20000
    VALGRIND_PERCENT=3
fi

passed=0
failed=0

note() {
    printf '%s %s\n' "$(date +%H:%M:%S)" "$*"
}

# step NAME COMMAND...: prints a line with the result, and the end of the log if COMMAND fails.
step() {
    local name=$1 before=$SECONDS
    shift
    if (renice -n 10 $BASHPID >/dev/null && "$@") >"$LOGS/$name.log" 2>&1 </dev/null; then
        note "passed: $name ($((SECONDS - before)) s)"
        passed=$((passed + 1))
    else
        note "FAILED: $name ($((SECONDS - before)) s), see $LOGS/$name.log"
        tail -n 60 "$LOGS/$name.log"
        failed=$((failed + 1))
    fi
}

# count_unit_tests LOG...: adds up the totals that cmocka printed.
count_unit_tests() {
    local counts
    counts=$(sed -nE 's/^\[  (PASSED|FAILED)  \] ([0-9]+) test.*/\1 \2/p' "$@")
    passed=$((passed + $(awk '$1 == "PASSED" { n += $2 } END { print n + 0 }' <<<"$counts")))
    failed=$((failed + $(awk '$1 == "FAILED" { n += $2 } END { print n + 0 }' <<<"$counts")))
}

# Processes of the system tests, one for each release.
pids=()
viewers=()
# What each tries is what the other leaves out: the fixture "sample" of tests/system/conftest.py.
export NETD_TEST_SAMPLE=${NETD_TEST_SAMPLE:-$((RANDOM % 32))}

# Starts the system tests of all releases. Lines of output are prefixed with the release.
start_system_tests() {
    local release out
    for release in "${RELEASES[@]}"; do
        exec {out}> >(tee "$LOGS/$release.log" | sed -u "s/^/$release: /")
        viewers+=($!)
        /usr/bin/python3 -B -m pytest tests/system --release "$release" "${EXTENT[@]}" \
            --junitxml="$LOGS/$release.xml" </dev/null >&"$out" 2>&1 {out}>&- &
        pids+=($!)
        exec {out}>&-
    done
    # pytest removes its containers when it gets SIGTERM.
    trap 'kill "${pids[@]}" 2>/dev/null || :; wait "${pids[@]}"' EXIT
}

wait_for_system_tests() {
    local i status
    for i in "${!RELEASES[@]}"; do
        status=0
        wait "${pids[i]}" || status=$?
        tail -s 0.1 -f /dev/null --pid="${viewers[i]}"
        [ $status -eq 0 ] || note "FAILED: system tests, see $LOGS/${RELEASES[i]}.log"
        count_system_tests "${RELEASES[i]}" $status
    done
    trap - EXIT
}

# Not tests in which sanitizers make too many calls, use too much memory, or are not the first of
# the preloaded libraries; and not netd-client, which inject.py runs with sanitizers.
sanitized_tests() {
    /usr/bin/python3 -B -m pytest tests/system/test_{contract,matrix}_*.py \
        tests/system/test_{crash,reload}.py --release bookworm --sanitize \
        -k 'not at_every_place and not too_little_memory and not clock_set'
}

# count_system_tests RELEASE STATUS: adds the totals of the report. An incomplete run is a failure.
count_system_tests() {
    local counts
    counts=$(/usr/bin/python3 -c '
import sys, xml.etree.ElementTree
suite = xml.etree.ElementTree.parse(sys.argv[1]).getroot().find("testsuite").attrib
bad = sum(int(suite[name]) for name in ("errors", "failures", "skipped"))
broken = int(sys.argv[2]) != 0 and bad == 0
print(int(suite["tests"]) - bad, bad + broken)' "$LOGS/$1.xml" "$2") || counts="0 1"
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
}

[ "$(id -u)" -eq 0 ] || {
    echo "make check boots containers: run it as root" >&2
    exit 1
}
rm -rf $LOGS
mkdir -p $LOGS
tests/packages.sh $LOGS/packages.log "${PACKAGES[@]}"

note "system tests begin"
start_system_tests

step lint make -k -j"$(nproc)" --output-sync=target lint TIDY_NODES=$TIDY_NODES
step build-gcc make -j"$(nproc)" CC=gcc WERROR=1 BUILD=build/gcc all
step build-clang make -j"$(nproc)" CC=clang WERROR=1 BUILD=build/clang all
step unit make -j"$(nproc)" CC=gcc WERROR=1 BUILD=build/gcc unit
step unit-clang make -j"$(nproc)" CC=clang WERROR=1 BUILD=build/clang unit
step unit-sanitized make -j"$(nproc)" CC=gcc WERROR=1 SANITIZE=address,undefined unit
step instructions make -j2 CC=gcc WERROR=1 BUILD=build/gcc instructions
step valgrind make -j"$(nproc)" CC=gcc WERROR=1 valgrind PERCENT=$VALGRIND_PERCENT
step fuzz make -j2 fuzz SECONDS=$FUZZ_SECONDS
grep FUZZ "$LOGS/fuzz.log" || true
[ ${#EXTENT[@]} -gt 0 ] || note "shortened: fuzzers $FUZZ_SECONDS s each, valgrind with" \
    "$VALGRIND_PERCENT % of the random rounds, clang's analyser with $TIDY_NODES states, packages in" \
    "make check-packages; all in make check-long"
count_unit_tests $LOGS/unit*.log

wait_for_system_tests
[ ${#EXTENT[@]} -eq 0 ] || step system-sanitized sanitized_tests
[ ${#EXTENT[@]} -eq 0 ] || step architectures tests/architectures.sh

note "$((SECONDS / 60)) min $((SECONDS % 60)) s"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
