# SPDX-License-Identifier: MIT
"""A listener whose connections begin with a PROXY header, versions 1 and 2."""

import socket
import struct

import pytest

from box import wait_for
from crowd import Processes
from traffic import finish, is_over, is_read, port_of, reset, together

CONFIG = """
listeners = (
  { name = "proxied"; port = 3000; proxy = true; },
  { name = "raw"; port = 3001; proxy = true; framing = "raw"; },
  { name = "local"; path = "/run/netd/input"; proxy = true; },
  { name = "few"; port = 3002; proxy = true; max_sessions_per_address = 1; },
  { name = "some"; port = 3003; proxy = true; deny = ("127.0.0.0/8"); },
  { name = "slow"; port = 3004; proxy = true; max_rate = 1000; },
  { name = "idle"; port = 3005; proxy = true; idle_timeout = 1; }
);
"""
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 6514\r\n"
INET = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 4711, 6514)
PROXY, LOCAL = 0x21, 0x20


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def v2(rest=b"", command=PROXY, family=0x11, addresses=INET, crc=0):
    """With a checksum, which CRC changes."""
    if command == LOCAL:
        family, addresses = 0, b""
    rest = addresses + rest
    head = SIGNATURE + struct.pack("!BBH", command, family, len(rest) + 7)
    good = crc32c(head + rest + tlv(3, bytes(4)))
    return head + rest + tlv(3, struct.pack("!I", good ^ crc))


def tls(name=b"client.example", verified=True, version=b"TLSv1.3", cipher=b"TLS_AES_256"):
    """What haproxy's send-proxy-v2-ssl-cn adds."""
    parts = tlv(0x21, version) + tlv(0x23, cipher) + tlv(0x22, name)
    return tlv(0x20, struct.pack("!BI", 3, 0 if verified else 1) + parts)


def both(netd, session):
    """Connect and disconnect of SESSION."""
    events = netd.events(session, fields=None)
    assert events[0].text("NETD_EVENT") == "connect"
    assert events[-1].text("NETD_EVENT") == "disconnect"
    return events[0], events[-1]


def exchange(netd, header, data=b"one\ntwo\n", **options):
    """A session behind HEADER, which logs DATA. Returns its id and the address that connected."""
    with netd.connect(**options) as client:
        client.sendall(header + data)
        receipt = finish(netd, client)
        assert receipt.bytes == len(data) and receipt.end == "eof"
        assert netd.received(receipt.session) == data
        return receipt.session, f"127.0.0.1:{port_of(client)}"


def assert_forwarded(netd, session, connected):
    for event in both(netd, session):
        assert event.text("NETD_PEER") == "192.0.2.1:4711"
        assert event.text("NETD_PEER_ADDRESS") == "192.0.2.1"
        assert event.text("NETD_PEER_PORT") == "4711"
        assert event.text("NETD_LOCAL") == "198.51.100.2:6514"
        assert event.text("NETD_PROXY") == connected
        assert "NETD_PEER_PID" not in event
    for event in netd.events(session, "data"):
        assert event.text("NETD_PEER") == "192.0.2.1:4711"


def end_of(netd, client):
    """The disconnect event of CLIENT's session, which got no receipt."""
    peer = f"127.0.0.1:{port_of(client)}"
    [end] = wait_for(lambda: [e for e in netd.events(event="disconnect", fields=None)
                              if e.text("NETD_PROXY") == peer], f"the end of {peer}")
    assert end.text("NETD_PEER") == peer and end.text("NETD_BYTES") == "0"
    assert [e.text("NETD_EVENT") for e in netd.events(end.text("NETD_SESSION_ID"))] == \
        ["connect", "disconnect"]
    return end


@pytest.mark.parametrize("header", [V1, v2()], ids=["v1", "v2"])
def test_addresses(netd, header):
    netd.start(config=CONFIG)
    assert_forwarded(netd, *exchange(netd, header))
    session, connected = exchange(netd, header, port=3001)
    assert_forwarded(netd, session, connected)
    with netd.connect(path="/run/netd/input") as client:
        client.sendall(header + b"x\n")
        assert_forwarded(netd, finish(netd, client).session, "unix")


@pytest.mark.parametrize("header", [V1, v2(tls())], ids=["v1", "v2"])
def test_one_byte_at_a_time(netd, header):
    netd.start(config=CONFIG)
    with netd.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header + b"x\n":
            client.sendall(bytes([byte]))
        session = finish(netd, client).session
        assert_forwarded(netd, session, f"127.0.0.1:{port_of(client)}")
    assert netd.received(session) == b"x\n"


def test_tls(netd):
    netd.start(config=CONFIG)
    for event in both(netd, exchange(netd, v2(tls()))[0]):
        assert event.text("NETD_TLS_VERSION") == "TLSv1.3"
        assert event.text("NETD_TLS_CIPHER") == "TLS_AES_256"
        assert event.text("NETD_TLS_NAME") == "client.example"
    # A name that nobody verified says nothing.
    for event in both(netd, exchange(netd, v2(tls(verified=False)))[0]):
        assert event.text("NETD_TLS_VERSION") == "TLSv1.3" and "NETD_TLS_NAME" not in event
    # No text can add, change or end a field; one of any length fits.
    for event in both(netd, exchange(netd, v2(tls(b"a\nNETD_EVENT=x\0\xff")))[0]):
        assert event.text("NETD_TLS_NAME") == "a\\x0aNETD_EVENT=x\\x00\\xff"
    long = b"\n" * 1000
    for event in both(netd, exchange(netd, v2(tls(long, True, long, long)))[0]):
        assert event.text("NETD_TLS_NAME") == "\\x0a" * 256
        assert event.text("NETD_TLS_CIPHER") == "\\x0a" * 64


BAD = {
    "no header": b"hello\n",
    "a greeting of TLS": b"\x16\x03\x01\x02\0",
    "108 bytes of version 1": b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",
    "5,000 bytes of version 2": SIGNATURE + struct.pack("!BBH", PROXY, 0x11, 4984) + bytes(4984),
    "a wrong checksum": v2(crc=1),
    "a family that is unknown": v2(family=0x41),
    "a command that is unknown": v2(command=0x22),
    "a TLV that is longer than the header": v2(b"\x04\xff\xff"),
    "a TLV in the TLS part that is longer": v2(tlv(0x20, b"\3\0\0\0\0" + b"\x22\0\x09x")),
    "a host name": b"PROXY TCP4 localhost 192.0.2.1 1 2\r\n",
}


def test_bad_headers(netd):
    netd.start(config=CONFIG)
    for what, header in BAD.items():
        with netd.connect() as client:
            client.sendall(header)
            assert is_over(client), what
            assert end_of(netd, client).text("NETD_REASON") == "protocol", what
    # One warning a minute; the next listener has its own.
    with netd.connect(3001) as client:
        client.sendall(v2(crc=1))
        assert is_over(client)
        peer = f"127.0.0.1:{port_of(client)}"
    warnings = [line for line in netd.log().splitlines() if "no valid PROXY header" in line]
    assert len(warnings) == 2
    assert warnings[0].endswith(": not found at the start of the connection")
    assert warnings[1].endswith(f"127.0.0.1:3001: a client ({peer}) sent no valid PROXY header: "
                                "checksum mismatch")


def test_headers_that_end(netd):
    """Nothing, a part, and a reset."""
    netd.start(config=CONFIG)
    for part in b"", V1[:20], v2()[:-1]:
        with netd.connect() as client:
            client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            assert is_over(client)
            assert end_of(netd, client).text("NETD_REASON") == "protocol"
    client = netd.connect()
    client.sendall(V1[:20])
    peer = f"127.0.0.1:{port_of(client)}"
    reset(client)
    [end] = wait_for(lambda: [e for e in netd.events(event="disconnect")
                              if e.text("NETD_PEER") == peer], "the reset")
    assert end.text("NETD_REASON") == "reset"


def test_header_never_finished(netd):
    """The deadline is the session's: no byte moves it, and a session with its header has none."""
    netd.start(config=CONFIG)
    with netd.connect() as silent, netd.connect() as half, netd.connect() as good, \
            netd.connect() as slow:
        half.sendall(V1[:-1])
        slow.sendall(V1[:5])
        good.sendall(V1)
        wait_for(lambda: is_read(netd, slow), "a part of the header")
        slow.sendall(V1[5:6])
        together([lambda c=c: is_over(c) for c in (silent, half, slow)])
        for client in silent, half, slow:
            end = end_of(netd, client)
            assert end.text("NETD_REASON") == "protocol"
            assert int(end.text("NETD_DURATION_USEC")) >= 5000000
        good.sendall(b"x\n")
        assert finish(netd, good).records == 1


def test_local(netd):
    """A health check leaves no event; with a byte it is a session of the proxy's own."""
    netd.start(config=CONFIG)
    for header in v2(command=LOCAL), v2(tls(), command=LOCAL):
        with netd.connect() as client:
            client.sendall(header)
            client.shutdown(socket.SHUT_WR)
            assert netd.answer(client) == ""
        client = netd.connect()
        client.sendall(header)
        wait_for(lambda c=client: is_read(netd, c), "the header")
        reset(client)
    with netd.connect(3005) as client:
        client.sendall(v2(command=LOCAL))
        assert is_over(client)
    assert netd.events() == []
    with netd.connect() as client:
        client.sendall(v2(command=LOCAL))
        wait_for(lambda: is_read(netd, client), "the header")
        client.sendall(b"x\n")
        session = finish(netd, client).session
        for event in both(netd, session):
            assert event.text("NETD_PEER") == f"127.0.0.1:{port_of(client)}"
            assert event.text("NETD_PROXY") == event.text("NETD_PEER")
            assert event.text("NETD_LOCAL") == "127.0.0.1:3000"
    with netd.connect() as client:
        client.sendall(v2(command=LOCAL))
        wait_for(lambda: is_read(netd, client), "the header")
        netd.stop()
        assert netd.answer(client) == ""
    assert {e.text("NETD_SESSION_ID") for e in netd.events()} == {session}


def test_limits_and_rules(netd):
    """By address: that of the header. Who may connect: the proxy."""
    netd.start(config=CONFIG)
    with netd.connect(3002) as first, netd.connect(3002) as second, netd.connect(3002) as third:
        for client in first, second, third:
            client.sendall(v2(addresses=INET[:3] + bytes([1 + (client == third)]) + INET[4:]))
            wait_for(lambda c=client: is_read(netd, c), "the header")
        assert netd.answer(second) == "netd error=address-limit\n"
        [refused] = netd.events(event="refused")
        assert refused.text("NETD_PEER") == "192.0.2.1:4711"
        for client in first, third:
            client.sendall(b"x\n")
            assert finish(netd, client).records == 1
    with netd.connect(3003) as client:
        assert netd.answer(client) == "netd error=denied\n"
    # The address is free again, and the header has no part in max_rate.
    exchange(netd, V1, port=3002)
    exchange(netd, v2(tlv(4, bytes(3000))), port=3004)


@pytest.mark.parametrize("header", [V1, v2(tls())], ids=["v1", "v2"])
def test_kills_and_reload(netd, header):
    netd.start(config=CONFIG)
    processes = Processes(netd)
    with netd.connect() as client:
        client.sendall(header[:20])
        wait_for(lambda: is_read(netd, client), "half the header")
        netd.reload()
        killed = processes.kill_worker()
        processes.worker(other_than=killed)
        client.sendall(header[20:] + b"one\nha")
        wait_for(lambda: is_read(netd, client), "the header")
        killed = processes.kill_worker()
        processes.worker(other_than=killed)
        netd.configure_file(CONFIG.replace("proxy = true", "proxy = false"))
        netd.reload()
        client.sendall(b"lf\n")
        session = finish(netd, client).session
        assert_forwarded(netd, session, f"127.0.0.1:{port_of(client)}")
    assert netd.received(session) == b"one\nhalf\n"
    if header != V1:
        assert all(e.text("NETD_TLS_NAME") == "client.example" for e in both(netd, session))
    # The next one is no proxy's.
    with netd.connect() as client:
        client.sendall(b"x\n")
        assert "NETD_PROXY" not in both(netd, finish(netd, client).session)[0]
