#!/bin/sh
# SPDX-License-Identifier: MIT
#
# make quickstart: from a bare Debian 12 or 13 to a client's first events. Builds, installs, starts
# netd, sends it a line and shows what netd made of it. Says every command before it runs it.
# Without systemd (a container, a chroot) netd runs in the foreground and prints its events.
# May be run again at any time.
set -eu
cd "$(dirname "$0")/.."

step() {
    printf '\n+ %s\n' "$*"
    "$@"
}

fail() {
    printf 'quickstart: %s\n' "$*" >&2
    exit 1
}

# Up to ten seconds for a condition.
wait_for() {
    tries=100
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

install_packages() {
    # shellcheck disable=SC2046 # a list of words
    set -- $(make -s --no-print-directory packages)
    if [ "$(dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>/dev/null | grep -cx installed)" -lt $# ]
    then
        export DEBIAN_FRONTEND=noninteractive
        step apt-get -qq update
        printf '\n+ apt-get install -y --no-install-recommends %s\n' "$*"
        apt-get -qq install -y --no-install-recommends "$@" >/dev/null
    fi
}

logged() {
    journalctl --sync
    [ -n "$(journalctl -q -o cat "NETD_SESSION_ID=$1" NETD_EVENT=disconnect)" ]
}

with_systemd() {
    step systemctl restart netd || {
        journalctl -q -u netd -n 5 -o cat >&2
        fail "netd did not start"
    }
    printf "\n+ netd-client send 'Hello, journal'\n"
    session=$(netd-client send 'Hello, journal')
    echo "$session"
    wait_for logged "$session" || fail "the journal has no end of session $session"
    step journalctl --no-pager -q -o short-precise "NETD_SESSION_ID=$session"
    echo
    echo "netd runs, listens where /etc/netd/netd.conf says, and writes to the journal."
    echo "To have it started at boot: systemctl enable netd"
}

# Sets port from netd's own log.
port_in() {
    port=$(sed -n 's/.*127\.0\.0\.1:\([0-9]*\).*/\1/p' "$1" | head -n 1)
    [ -n "$port" ]
}

has_lines() {
    [ "$(wc -l <"$2")" -ge "$1" ]
}

without_systemd() {
    directory=$(mktemp -d)
    trap 'rm -rf "$directory"' EXIT
    printf '\n+ netd -H 127.0.0.1 -p 0 -o text &\n'
    netd -H 127.0.0.1 -p 0 -o text >"$directory/events" 2>"$directory/log" &
    netd=$!
    # shellcheck disable=SC2064 # this process, not a later one
    trap "kill $netd 2>/dev/null || :; rm -rf '$directory'" EXIT
    wait_for port_in "$directory/log" || {
        cat "$directory/log" >&2
        fail "netd did not start"
    }
    cat "$directory/log"
    printf "\n+ netd-client -p %s send 'Hello, journal'\n" "$port"
    netd-client -H 127.0.0.1 -p "$port" send 'Hello, journal'
    wait_for has_lines 3 "$directory/events" || fail "three events were expected"
    echo
    cat "$directory/events"
    kill "$netd"
    wait "$netd" || fail "netd did not stop in an orderly way"
    echo
    echo "No systemd runs here, so netd printed its events; with systemd they go to the journal."
}

[ "$(id -u)" -eq 0 ] || fail "this installs packages and netd: run it as root"
install_packages
step make -s
step make -s install
if [ -d /run/systemd/system ]; then
    with_systemd
else
    without_systemd
fi
