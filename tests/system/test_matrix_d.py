# SPDX-License-Identifier: MIT
"""Awkward data: rows D1 to D6 of the fault matrix. What MESSAGE shows of which bytes is tested row
by row in test_contract_events.py; here generators make what no table has."""

import http.client
import re
import socket
import ssl
import subprocess

import pytest

from test_matrix_j import unharmed
from traffic import (AWKWARD, check, finish, memory, records, seeded, send_and_check)


def test_d1_a_gigabyte_without_a_newline(netd, long):
    size = 1_000_000_000 if long else 40_000_000
    netd.start()
    with unharmed(netd):
        netd.send(b"x" * 300_000)  # what a session needs at most is there
        before = memory(netd)
        client = netd.box.popen("sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x | "
                                "netd-client send", stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)
        peak = 0
        while client.poll() is None:
            peak = max(peak, memory(netd))
        out, err = client.communicate()
        assert client.returncode == 0 and err == b""
        assert peak - before < 2 << 20
    session = out.decode().strip()
    events = netd.events(session, fields=["MESSAGE", "NETD_EVENT", "NETD_TERMINATOR", "NETD_BYTES",
                                          "NETD_RECORDS"])
    pieces = events[1:-1]
    assert [e.text("NETD_TERMINATOR") for e in pieces] == \
        ["continued"] * (len(pieces) - 1) + ["none"]
    assert all(len(e["MESSAGE"]) == 65536 and not e["MESSAGE"].strip(b"x") for e in pieces[:-1])
    assert sum(len(e["MESSAGE"]) for e in pieces) == size == events[-1].number("NETD_BYTES")
    assert events[-1].number("NETD_RECORDS") == 1


@pytest.mark.parametrize("size", [64, 1000, 65536])
def test_d2_records_around_the_size_limit(netd, size):
    netd.start(config=f"max_record = {size};")
    rnd = seeded(f"d2 {size}")
    with unharmed(netd):
        for _ in range(6):
            data = b"".join(
                b"x" * rnd.choice([0, 1, size - 2, size - 1, size, size + 1, size + 2, 2 * size])
                + b"\r" * rnd.choice([0, 0, 1, 1, 2]) + rnd.choice([b"\n", b"\n", b"y", b""])
                for _ in range(15))
            send_and_check(netd, data, max_record=size)
            send_and_check(netd, data + b"\r", max_record=size)


def test_d3_bytes_that_are_no_text(netd):
    netd.start(config="max_record = 300;")
    rnd = seeded("d3")
    leads = [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0", b"\xe0\x9f", b"\xf4\x90", b"\xc0"]
    with unharmed(netd):
        for _ in range(4):
            data = b"".join(rnd.choice([rnd.randbytes(1), rnd.choice(leads), b"\x80", b"\xbf", b"a",
                                        "é€😀\ud7ff\ue000".encode(), b"\0", b"\n"])
                            for _ in range(4000))
            with netd.connect() as client:  # split over reads
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                at = 0
                while at < len(data):
                    end = at + rnd.choice([1, 2, 3, 500])
                    client.sendall(data[at:end])
                    at = end
                receipt = finish(netd, client)
            check(netd, receipt.session, data, 300)


def test_d4_nothing_reaches_a_terminal(netd):
    netd.start()
    points = [*range(0x80, 0xa0), *range(0x202a, 0x202f), *range(0x2066, 0x206a)]
    data = b"".join(b"a%sb\n" % chr(c).encode() for c in points) + b"\x1b[2J\x1b]0;title\x07\x08\n"
    with unharmed(netd):
        events = send_and_check(netd, data)
    assert all("NETD_DATA" in e for e in events[1:-1])
    session = events[0].text("NETD_SESSION_ID")
    shown = netd.box.run("journalctl", "-q", f"NETD_SESSION_ID={session}").stdout
    assert not [c for c in shown if ord(c) in points or (ord(c) < 0x20 and c != "\n")]


def test_d5_fields_and_entries_as_data(netd):
    netd.start()
    rnd = seeded("d5")
    pieces = [b"_PID=1", b"MESSAGE=forged", b"PRIORITY=0", b"NETD_EVENT=disconnect", b"", b"\0",
              b"MESSAGE\n\x06\0\0\0\0\0\0\0forged", b"__CURSOR=x", b"NETD_DATA", b"NETD_TERMINATOR=",
              b".", b"_", b"=", b"A=" + b"b" * 300]
    data = b"".join(rnd.choice(pieces) + rnd.choice([b"\n", b"\n\n", b"\r\n", b""])
                    for _ in range(400))
    with unharmed(netd):
        receipt = netd.send(data)
        check(netd, receipt.session, data)
        before = {e.text("NETD_SESSION_ID") for e in netd.journal("SYSLOG_IDENTIFIER=netd")
                  if "NETD_SESSION_ID" in e}
        assert before == {receipt.session}
        for event in netd.events(receipt.session, fields=None):
            names = [name for name, _ in event.pairs]
            assert len(names) == len(set(names))
            assert event.text("PRIORITY") == "6" and event.text("_PID") != "1"
        assert not netd.journal("MESSAGE=forged", "PRIORITY=0")
        assert len(records(data)) == receipt.records


def client_hello():
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="netd.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_d6_other_protocols_are_data_like_any_other(netd):
    netd.start()
    with unharmed(netd):
        hello = client_hello()
        assert hello[0] == 0x16
        for data in (hello, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"%s%n%s%n%1000000d\n" * 5,
                     b"SSH-2.0-OpenSSH_9.2\r\n", b"EHLO example\r\n", b"\x03\0\0\x13\x0e\xe0\0\0",
                     b"$(reboot)`reboot`;reboot\n", b"' OR 1=1 --\n", b"../../etc/passwd\n"):
            send_and_check(netd, data)


def test_d6_an_http_client(netd):
    netd.start()
    with unharmed(netd):
        request = http.client.HTTPConnection("127.0.0.1", 3000, timeout=30)
        request.sock = netd.connect()
        request.request("POST", "/path", body=b"body\x00\n", headers={"X-Test": "1"})
        request.sock.shutdown(socket.SHUT_WR)
        receipt = netd.receipt(request.sock)
        request.close()
    received = netd.received(receipt.session)
    assert re.match(rb"POST /path HTTP/1\.1\r\n(.*\r\n)+\r\nbody\x00\n$", received)


def test_d6_all_that_is_awkward_in_every_order(netd):
    netd.start(config="max_record = 64;")
    rnd = seeded("d6")
    with unharmed(netd):
        for _ in range(8):
            send_and_check(netd, b"".join(rnd.choices(AWKWARD, k=500)), max_record=64)
