# SPDX-License-Identifier: MIT
"""RELP: a record is acknowledged when the journal has it, in order, and never before or twice."""

import fcntl
import re
import signal
import socket
import struct
import termios
import time

import pytest

from traffic import ended, session_of

RELP = 'framing = "relp";'
OPEN = b"1 open 30 relp_version=0\ncommands=syslog\n"
OPENED = b"1 rsp 102 200 OK\nrelp_version=0\nrelp_software=netd\ncommands=syslog\nnetd_session="


def frame(number, data):
    return b"%d syslog %d%s\n" % (number, len(data), b" " + data if data else b"")


def frames(records, first=2):
    return b"".join(frame(i, r) for i, r in enumerate(records, first))


def unsent(client):
    """Bytes that the peer's kernel has not acknowledged, see SIOCOUTQ in tcp(7)."""
    return struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0]


def responses(n, first=2):
    return b"".join(b"%d rsp 6 200 OK\n" % i for i in range(first, first + n))


def hear_bytes(client, count):
    heard = b""
    while len(heard) < count and (piece := client.recv(count - len(heard))):
        heard += piece
    return heard


def hear(client, expected):
    """Reads exactly EXPECTED."""
    assert hear_bytes(client, len(expected)) == expected


def opened(client):
    """Reads the response to OPEN, and returns the session ID that it offers."""
    hear(client, OPENED)
    found = re.fullmatch(rb"([0-9a-f]{32})\n", hear_bytes(client, 33))
    return found[1].decode()


def rest(client):
    heard = b""
    try:
        while piece := client.recv(65536):
            heard += piece
    except ConnectionResetError:
        pass
    return heard


def data_of(netd, session, **options):
    return netd.events(session, "data", **options)


def check(netd, session, records, reason="eof"):
    end = ended(netd, session)
    assert [e.record for e in data_of(netd, session)] == records
    assert end.text("NETD_REASON") == reason
    assert end.number("NETD_RECORDS") == len(records)
    assert end.number("NETD_BYTES") == sum(map(len, records))
    text = b"".join(r + b"\n" for r in records)
    assert netd.box.run("netd-client", "cat", session, text=False).stdout == text
    assert netd.box.run("netd-client", "verify", session).returncode == 0


RECORDS = [b"hello", b"", b"a\nb", b"\0\xff", b"x" * 1000]


@pytest.mark.parametrize("step", [1, 7, 100000])
def test_records_are_acknowledged_in_order(netd, step):
    """One byte a segment, and all commands in one."""
    netd.start(config=RELP)
    data = OPEN + frames(RECORDS) + b"%d close 0\n" % (len(RECORDS) + 2)
    with netd.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(0, len(data), step):
            client.sendall(data[i:i + step])
        session = opened(client)
        hear(client, responses(len(RECORDS)) + b"%d rsp 0\n" % (len(RECORDS) + 2))
        assert rest(client) == b""
        assert session == session_of(netd, client)
    check(netd, session, RECORDS)
    assert {e.text("NETD_TERMINATOR") for e in data_of(netd, session)} == {"relp"}


def test_a_window_of_10000(netd):
    netd.start(config=RELP)
    records = [b"record %d" % i for i in range(10000)]
    with netd.connect() as client:
        client.sendall(OPEN + frames(records) + b"10002 close 0\n")
        session = opened(client)
        hear(client, responses(10000) + b"10002 rsp 0\n")
    check(netd, session, records)


def test_pieces(netd):
    """What is longer than max_record comes in pieces; a frame that is cut short is no answer's."""
    netd.start(config=RELP + "max_record = 64;")
    with netd.connect() as client:
        client.sendall(OPEN + frame(2, b"l" * 150) + b"3 syslog 9 cut")
        session = opened(client)
        hear(client, responses(1))
        client.shutdown(1)
        assert rest(client) == b""
    end = ended(netd, session)
    assert [(e.record, e.text("NETD_TERMINATOR"), e.text("NETD_FRAME_LENGTH"))
            for e in data_of(netd, session)] == [
                (b"l" * 64, "continued", "150"), (b"l" * 64, "continued", None),
                (b"l" * 22, "relp", None), (b"cut", "none", "9")]
    assert (end.number("NETD_RECORDS"), end.number("NETD_BYTES")) == (2, 153)
    assert netd.box.run("netd-client", "cat", session, text=False).stdout == b"l" * 150 + b"\ncut"
    assert netd.box.run("netd-client", "verify", session).returncode == 0


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.0\r\n\r\n", OPEN + frame(2, b"one") + b"4 x",
                                     OPEN + frame(2, b"one") + b"3 syslog 1 ab\n"])
def test_what_is_no_relp_ends_the_session(netd, garbage):
    netd.start(config=RELP)
    with netd.connect() as client:
        client.sendall(garbage)
        whole = garbage.startswith(OPEN)
        if whole:
            opened(client)
        assert rest(client) == (responses(1) if whole else b"")
        session = session_of(netd, client)
    check(netd, session, [b"one"] if whole else [], "protocol")


@pytest.mark.parametrize("reset", [False, True])
def test_whole_frames_of_a_client_that_has_gone_are_logged(netd, reset):
    """rsyslog forgets what was not acknowledged when it stops."""
    netd.start(config=RELP)
    records = [b"record %d" % i for i in range(5000)]
    client = netd.connect()
    client.sendall(OPEN)
    session = opened(client)
    client.sendall(frames(records))
    # With answers unread any close() is a reset, which discards what is still on its way.
    while unsent(client):
        time.sleep(0.01)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    end = ended(netd, session)
    assert [e.record for e in data_of(netd, session)] == records
    assert end.text("NETD_REASON") in ("eof", "reset")


def test_a_stop_says_so(netd):
    netd.start(config=RELP)
    with netd.connect() as client:
        client.sendall(OPEN + frames([b"one", b"two"]))
        session = opened(client)
        hear(client, responses(2))
        netd.stop()
        assert rest(client) == b"0 serverclose 0\n"
    check(netd, session, [b"one", b"two"], "shutdown")


def test_nothing_is_acknowledged_while_the_journal_takes_nothing(netd):
    """But open commands are answered, also of clients that connect then."""
    netd.start(config=RELP)
    records = [b"%d " % i + b"x" * 100 for i in range(3000)]
    with netd.connect() as early:
        early.sendall(OPEN)
        session = opened(early)
        netd.box.run("systemctl", "kill", "--kill-who=main", "-s", "STOP",
                     "systemd-journald.service")
        try:
            early.setblocking(False)
            data = frames(records)
            sent = 0
            until = time.monotonic() + 3
            while sent < len(data) and time.monotonic() < until:
                try:
                    sent += early.send(data[sent:])
                except BlockingIOError:
                    time.sleep(0.05)
            early.setblocking(True)
            early.settimeout(30)
            with netd.connect() as late:
                late.sendall(OPEN[:10])
                time.sleep(0.2)
                late.sendall(OPEN[10:] + frame(2, b"late"))
                opened(late)
                late.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    late.recv(1)
                late.settimeout(30)
                netd.box.run("systemctl", "kill", "--kill-who=main", "-s", "CONT",
                             "systemd-journald.service")
                hear(late, responses(1))
        finally:
            netd.box.run("systemctl", "kill", "--kill-who=main", "-s", "CONT",
                         "systemd-journald.service")
        early.sendall(data[sent:])
        hear(early, responses(len(records)))
        early.sendall(b"%d close 0\n" % (len(records) + 2))
        hear(early, b"%d rsp 0\n" % (len(records) + 2))
    check(netd, session, records)


def test_reloads_and_kills_with_a_window_open(netd):
    """Of a sender of syslog behind a proxy."""
    netd.start(config="""listeners = ({ name = "relay"; framing = "relp"; format = "syslog";
                                        proxy = true; });""")
    records = [b"<11>app[7]: record %d" % i for i in range(4000)]
    with netd.connect() as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 514\r\n" + OPEN)
        session = opened(client)
        for i in range(0, len(records), 500):
            client.sendall(frames(records[i:i + 500], i + 2))
            if i % 1000 == 0:
                worker = netd.box.run("pgrep", "-P", str(netd.pid)).stdout.split()[-1]
                netd.box.run("kill", f"-{signal.SIGKILL.value}", worker)
            else:
                netd.reload()
        hear(client, responses(len(records)))
        client.sendall(b"4002 close 0\n")
        hear(client, b"4002 rsp 0\n")
    check(netd, session, records)
    events = netd.events(session)
    assert {e.text("NETD_PEER") for e in events} == {"192.0.2.1:4711"}
    for event in events[1:-1]:
        assert [event.text(name) for name in ("PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID")] == \
            ["3", "app", "7"]
