#!/bin/sh
# SPDX-License-Identifier: MIT
#
# make quickstart: from a minimal Debian 12 or 13 to a client's first events. Builds, installs and
# starts netd, sends it a line and shows the resulting events. Prints each command before running
# it. Without systemd (in a container or chroot) netd runs in the foreground and prints its events.
# Can be repeated at any time.
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

# Waits up to ten seconds until a command succeeds.
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

# netd_log MATCH...: messages of netd since its start, without those of systemd about it.
netd_log() {
    journalctl --sync
    journalctl -q -o cat -S "@$begin" _SYSTEMD_UNIT=netd.service _TRANSPORT=stdout "$@"
}

# Names the cause, and what to do about it.
fail_start() {
    reason=$(netd_log | tail -n 1)
    [ -n "$reason" ] || reason=$(journalctl -q -u netd -S "@$begin" -n 3 -o cat)
    printf '%s\n' "$reason" >&2
    case $reason in
    *"Address already in use"*)
        fail "another program listens there (ss -ltnp shows which): stop it, or choose another" \
            "port in /etc/netd/netd.conf, and run make quickstart again"
        ;;
    *) fail "netd did not start: fix the error above, and run make quickstart again" ;;
    esac
}

# Sets address, host and port to the first address in netd's messages on standard input.
address_of() {
    address=$(sed -n 's/.*listening on \([^ ,;]*:[0-9][0-9]*\).*/\1/p' | head -n 1)
    port=${address##*:}
    host=${address%:*}
    case $host in
    '*' | 0.0.0.0) host=127.0.0.1 ;;
    '[::]') host=::1 ;;
    '['*) host=${host#[} host=${host%]} ;;
    esac
    [ -n "$port" ]
}

address_in_journal() {
    address_of <<EOF
$(netd_log "_PID=$(systemctl show -P MainPID netd)")
EOF
}

address_in_log() {
    address_of <"$directory/log"
}

logged() {
    journalctl --sync
    [ -n "$(journalctl -q -o cat "NETD_SESSION_ID=$1" NETD_EVENT=disconnect)" ]
}

send() {
    printf "\n+ netd-client -H %s -p %s send 'Hello, journal'\n" "$host" "$port"
    session=$(netd-client -H "$host" -p "$port" send 'Hello, journal') ||
        fail "netd listens on $address, but did not confirm that the message was logged"
    echo "$session"
}

with_systemd() {
    begin=$(date +%s)
    step systemctl restart netd || fail_start
    wait_for address_in_journal || fail "netd does not say where it listens: journalctl -u netd"
    send
    wait_for logged "$session" || fail "the journal has no end of session $session"
    step journalctl --no-pager -q -o short-precise "NETD_SESSION_ID=$session"
    echo
    echo "netd listens on $address and writes to the journal. Its configuration is in"
    echo "/etc/netd/netd.conf."
    echo "To have it started at boot: systemctl enable netd"
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
    wait_for address_in_log || {
        cat "$directory/log" >&2
        fail "netd did not start"
    }
    cat "$directory/log"
    send
    wait_for has_lines 3 "$directory/events" || fail "three events were expected"
    echo
    cat "$directory/events"
    kill "$netd"
    wait "$netd" || fail "netd failed to stop cleanly"
    echo
    echo "systemd is not running, so netd printed its events. With systemd, they go to the journal."
}

[ "$(id -u)" -eq 0 ] || fail "installs packages and netd: run it as root"
[ -e /proc/self ] || fail "netd needs /proc, which is not mounted here: mount -t proc proc /proc"
install_packages
step make -s
step make -s install
if [ -d /run/systemd/system ]; then
    with_systemd
else
    without_systemd
fi
