#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The session table's layout is another one after each change of what programs share, and the same
# after every other change.

set -e
cd "$(dirname "$0")/.."
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
status=0

text() {
    make -s --no-print-directory -C "$tree" table-text
}

# changes same|other WHAT FILE SED: what the edit of FILE makes of the layout.
changes() {
    rm -rf "$tree/src"
    cp -R src Makefile "$tree"
    before=$(text)
    sed -i "$4" "$tree/src/$3"
    if cmp -s "src/$3" "$tree/src/$3"; then
        echo "layout: $2: $3 has no such line"
        status=1
    fi
    after=$(text)
    if [ "$1" = same ] && [ "$before" = "$after" ]; then
        return
    fi
    if [ "$1" = other ] && [ "$before" != "$after" ]; then
        return
    fi
    echo "layout: $2: from $before to $after"
    status=1
}

echo "  TEST   tests/layout.sh"
table=netd/session/table.h session=netd/session/session.h
changes other "two members swapped" $table 's/transfer receive, answer,/transfer answer, receive,/'
changes other "a member renamed" $session 's/uint8_t poisoned;/uint8_t corrupt;/'
changes other "a type of the same size" $session 's/int32_t fd;/uint32_t fd;/'
changes other "enumerators swapped" $session 's/^    REASON_EOF,/    REASON_RESET, REASON_EOF,/'
changes other "a struct in a struct" common/address.h 's/uint16_t port; /uint16_t gate; /'
changes other "the size of an array" netd/output/batch.h 's/^#define BATCH_MAX .*/#define BATCH_MAX 255/'
changes other "a counter of netd-tls" netd-tls/interface.h 's/uint64_t refusals_unreported;/& int64_t x;/'
changes same "a comment" $session 's,/\* SO_COOKIE: tells,/* SO_COOKIE: says,'
changes same "a function" $table 's/^int table_grow(/int table_shrink(void);\n&/'
changes same "a struct of one process" $table 's/uint64_t resident_bytes;/& int more;/'
exit $status
