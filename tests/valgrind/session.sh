#!/bin/bash
# SPDX-License-Identifier: MIT
#
# session.sh BUILD: netd and netd-client under valgrind: start, clients, reload, stop. What came
# out must be what went in, and valgrind must have nothing to say.
set -euo pipefail

build=$1
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
check=(valgrind --quiet --error-exitcode=99 --leak-check=full "--log-file=$place/valgrind.%p")
port=${NETD_TEST_PORT:-3777}

fail() {
    echo "valgrind: $*" >&2
    cat "$place"/valgrind.* "$place/err" >&2
    exit 1
}

# TEXT COUNT: waits until netd has said TEXT so often.
wait_for() {
    for ((i = 0; i < 600; i++)); do
        [ "$(grep -c "$1" "$place/err")" -lt "$2" ] || return 0
        sleep 0.1
    done
    fail "waited in vain for $2 times '$1'"
}

# The search for leaks reads all of the table: a small one.
printf 'port = %s;\noutput = "export";\nsessions = { max = 4; stop_timeout = 60; };\n' "$port" \
    >"$place/conf"
: >"$place/err"
LD_PRELOAD=$build/tests/valgrind/fork.so "${check[@]}" --trace-children=yes \
    "$build/netd" -c "$place/conf" >"$place/out" 2>"$place/err" &
netd=$!

wait_for listening 1
"${check[@]}" "$build/netd-client" -p "$port" send one 'two words' >"$place/id"
head -c 300000 /dev/urandom >"$place/sent"
"${check[@]}" "$build/netd-client" -p "$port" send <"$place/sent" >>"$place/id"
kill -HUP $netd
wait_for listening 2
"${check[@]}" "$build/netd-client" -p "$port" send three >>"$place/id"
kill -TERM $netd
wait $netd || fail "exit status $?"

[ "$(wc -l <"$place/id")" -eq 3 ] || fail "not every client got its receipt"
[ "$(grep -c '^NETD_EVENT=disconnect$' "$place/out")" -eq 3 ] || fail "not every session ended"
! grep -h . "$place"/valgrind.* || fail "found something"
