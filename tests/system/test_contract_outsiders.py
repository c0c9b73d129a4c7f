# SPDX-License-Identifier: MIT
"""Programs that were not written for netd: whatever speaks TCP can log to it."""

import re

from traffic import check, lines


def session_in(said):
    return re.search(r"netd session=([0-9a-f]{32}) records=\d+ bytes=\d+ end=eof", said)[1]


def test_nc(netd):
    netd.start()
    said = netd.box.sh("seq 1000 | nc -N 127.0.0.1 3000")
    check(netd, session_in(said), lines(1000))


def test_socat(netd):
    netd.start()
    said = netd.box.sh("printf 'one\\ntwo' | socat -t30 - TCP:127.0.0.1:3000")
    check(netd, session_in(said), b"one\ntwo")


def test_bash(netd):
    netd.start()
    netd.box.sh("printf 'from a shell\\n' >/dev/tcp/127.0.0.1/3000")
    found = netd.journal("MESSAGE=from a shell")
    check(netd, found[0].text("NETD_SESSION_ID"), b"from a shell\n")


def test_logger(netd):
    """Syslog over TCP is lines, or counted octets: data like any other."""
    netd.start()
    for words in "--rfc3164", "--rfc5424", "--octet-count":
        netd.box.run("logger", "--tcp", "--server", "127.0.0.1", "--port", "3000", words,
                     f"hello from logger {words}")
    data = [e for e in netd.events(event="data") if b"hello from logger" in e["MESSAGE"]]
    assert len(data) == 3
    assert [e.get("NETD_TERMINATOR") for e in data][:2] == [None, None]
    ends = netd.events(event="disconnect")
    assert len(ends) == 3 and {e.text("NETD_REASON") for e in ends} <= {"eof", "reset"}


def test_journalctl_finds_a_session_by_its_fields(netd):
    netd.start()
    session = netd.send(b"needle\n").session
    for match in f"NETD_SESSION_ID={session}", "NETD_EVENT=data":
        shown = netd.box.run("journalctl", "-q", "-o", "cat", "-n3", match).stdout
        assert "needle" in shown
    assert "needle" in netd.box.run("journalctl", "-q", "-t", "netd", "-n5").stdout
