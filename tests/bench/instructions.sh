#!/bin/bash
# SPDX-License-Identifier: MIT
#
# make instructions: how many instructions netd runs for a record and for a session, counted by
# callgrind, which says the same on a busy machine as on an idle one. Fails above the bounds below;
# who makes something faster lowers them. The kernel's share is not in it.
set -euo pipefail

PROGRAM=${1:?program}
OUT=$(dirname "$PROGRAM")
status=0

# WHAT BOUND PER CLIENTS LINES SIZE: so many instructions at most for each of PER.
check() {
    local what=$1 bound=$2 per=$3 said counted
    shift 3
    said=$(valgrind --tool=callgrind --collect-atstart=no --toggle-collect=measured_round \
        --callgrind-out-file="$OUT/callgrind.$1.$2.$3" "$PROGRAM" "$@" 2>&1)
    counted=$(awk '/Collected :/ { print $4 }' <<<"$said")
    counted=$((${counted:?$said} / per))
    printf '%-50s %6d  (bound %d)\n' "$what" $counted "$bound"
    if [ $counted -gt "$bound" ]; then
        echo "too many: see callgrind_annotate $OUT/callgrind.$1.$2.$3" >&2
        status=1
    fi
}

check "a record of 100 bytes, one busy client" 738 10000 1 10000 100
check "a record of 1000 bytes, one busy client" 1800 10000 1 10000 1000
check "a record of 100 bytes, 1000 busy clients" 975 100000 1000 100 100
check "a syslog record of 160 bytes, one busy client" 1800 10000 1 10000 160 syslog
check "a RELP record of 100 bytes, one busy client" 1310 10000 1 10000 100 relp
check "connect, one record, disconnect" 17820 1000 1000 1 100
exit $status
