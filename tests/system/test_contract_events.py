# SPDX-License-Identifier: MIT
"""Events as the journal has them: their fields, what ends a record, what MESSAGE shows."""

import re
import socket

import pytest

from box import wait_for
from traffic import (ADDRESSES, AWKWARD, EVERY_EVENT, MESSAGE_IDS, awkward, check, check_record,
                     ended, finish, is_read, message, port_of, records, reset, seeded,
                     send_and_check, session_of)

SMALL = "max_record = 64;"


def own_fields(event):
    """Names of the fields that netd gave the event, without what journald and systemd add."""
    return {name for name, _ in event.pairs if not name.startswith("_")}


# Fields


def test_fields_of_a_session(netd):
    netd.start()
    with netd.connect() as client:
        port = port_of(client)
        client.sendall(b"one\ntwo\r\nthree")
        receipt = finish(netd, client)
    connect, one, two, three, disconnect = netd.events(receipt.session, fields=None)
    for event, kind in zip((connect, one, two, three, disconnect),
                           ("connect", "data", "data", "data", "disconnect")):
        assert len(event.pairs) == len({name for name, _ in event.pairs}), "a field stands twice"
        assert event.text("NETD_EVENT") == kind
        assert event.text("MESSAGE_ID") == MESSAGE_IDS[kind]
        assert event.text("PRIORITY") == "6"
        assert event.text("SYSLOG_IDENTIFIER") == "netd"
        assert event.text("NETD_PEER") == f"127.0.0.1:{port}"
        assert re.fullmatch("[0-9a-f]{32}", event.text("NETD_SESSION_ID"))
        assert event.text("_SYSTEMD_UNIT") == "netd.service"
    assert own_fields(connect) == EVERY_EVENT | ADDRESSES
    assert own_fields(one) == EVERY_EVENT
    assert own_fields(two) == EVERY_EVENT | {"NETD_TERMINATOR"} == own_fields(three)
    assert own_fields(disconnect) == EVERY_EVENT | ADDRESSES | {
        "NETD_REASON", "NETD_RECORDS", "NETD_BYTES", "NETD_DURATION_USEC"}
    for event in connect, disconnect:
        assert event.text("NETD_PEER_ADDRESS") == "127.0.0.1"
        assert event.number("NETD_PEER_PORT") == port
        assert event.text("NETD_LOCAL") == "127.0.0.1:3000"
    assert disconnect.text("NETD_REASON") == "eof"
    assert disconnect.number("NETD_RECORDS") == 3
    assert disconnect.number("NETD_BYTES") == len(b"one\ntwo\r\nthree")
    span = disconnect.number("__REALTIME_TIMESTAMP") - connect.number("__REALTIME_TIMESTAMP")
    assert 0 <= disconnect.number("NETD_DURATION_USEC") <= span + 60_000_000


def test_duration_is_in_microseconds(netd):
    netd.start()
    with netd.connect() as client:
        session = session_of(netd, client)
        client.settimeout(1.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(30)
        finish(netd, client)
    assert 1_200_000 <= ended(netd, session).number("NETD_DURATION_USEC") < 600_000_000


def test_session_ids_are_random(netd):
    netd.start()
    ids = [netd.send(b"x").session for _ in range(20)]
    assert len(set(ids)) == 20
    for position in range(32):  # no digit is always the same, as a version or a counter would be
        assert len({i[position] for i in ids}) > 1


def test_a_client_that_sends_nothing(netd):
    netd.start()
    receipt = netd.send(b"")
    assert receipt[1:] == (0, 0, "eof")
    check(netd, receipt.session, b"")


def test_sessions_interleave_and_each_keeps_its_order(netd):
    netd.start()
    clients = [netd.connect() for _ in range(5)]
    data = [b"".join(b"%d of %d\n" % (i, n) for i in range(40)) for n in range(5)]
    for i in range(0, len(data[0]), 7):
        for n, client in enumerate(clients):
            client.sendall(data[n][i:i + 7])
    for n, client in enumerate(clients):
        client.sendall(data[n][(len(data[0]) + 6) // 7 * 7:])
        with client:
            receipt = finish(netd, client)
        check(netd, receipt.session, data[n])


def test_the_catalog_explains_each_event(netd):
    netd.start(config="sessions = { max = 1; };")
    with netd.connect() as client:
        client.sendall(b"x\n")
        session_of(netd, client)
        with netd.connect() as refused:
            netd.answer(refused)
        finish(netd, client)
    for kind, identifier in MESSAGE_IDS.items():
        assert netd.events(event=kind)
        shown = netd.box.run("journalctl", "-x", "-n1", f"MESSAGE_ID={identifier}").stdout
        assert "Defined-By: netd" in shown, kind
        assert not re.search(r"@[A-Z_]+@", shown), f"a field that {kind} does not have"


# What ends a record


TERMINATORS = [
    (b"a\n", [(b"a", None)]),
    (b"a\r\n", [(b"a", b"crlf")]),
    (b"a", [(b"a", b"none")]),
    (b"\n", [(b"", None)]),
    (b"\r\n", [(b"", b"crlf")]),
    (b"\n\n\r\n\n", [(b"", None), (b"", None), (b"", b"crlf"), (b"", None)]),
    (b"\r", [(b"\r", b"none")]),
    (b"a\r", [(b"a\r", b"none")]),
    (b"a\r\r\n", [(b"a\r", b"crlf")]),
    (b"a\rb\n", [(b"a\rb", None)]),
    (b"\n\r", [(b"", None), (b"\r", b"none")]),
    (b"a\n\0", [(b"a", None), (b"\0", b"none")]),
]


def test_terminators(netd):
    netd.start()
    for data, expected in TERMINATORS:
        assert records(data) == expected  # the model itself
        send_and_check(netd, data)


def test_a_record_longer_than_max_record_comes_in_pieces(netd):
    netd.start(config=SMALL)
    _, first, second, third, fourth, _ = send_and_check(
        netd, b"a" * 64 + b"b" * 64 + b"c\nd\n", max_record=64)
    assert [e.get("NETD_TERMINATOR") for e in (first, second, third, fourth)] == \
        [b"continued", b"continued", None, None]
    assert third.record == b"c"


# The time limit


def pieces(netd, session):
    """The session's records, or pieces of one, with what ended each."""
    return [(e.record, e.get("NETD_TERMINATOR")) for e in netd.events(session, "data")]


def test_what_has_no_end_yet_is_seen(netd):
    """A client that writes without a line end and stays: "aaa", then "bbb"."""
    netd.start(config="flush_timeout = 1;")
    with netd.connect() as client:
        session = session_of(netd, client)
        client.sendall(b"aaa")
        client.sendall(b"bbb")
        wait_for(lambda: pieces(netd, session) == [(b"aaabbb", b"continued")], "what it sent")
        client.sendall(b"ccc\nddd\r")
        wait_for(lambda: pieces(netd, session)[1:] == [(b"ccc", None), (b"ddd", b"continued")],
                 "the rest")
        client.sendall(b"\neee")
        wait_for(lambda: pieces(netd, session)[3:] == [(b"", b"crlf"), (b"eee", b"continued")],
                 "the end of the second record")
        assert finish(netd, client) == (session, 3, 18, "eof")
    check(netd, session, b"aaabbbccc\nddd\r\neee", exact=False)
    assert pieces(netd, session)[5:] == [(b"", b"none")]
    cat = netd.box.run("netd-client", "cat", session, text=False).stdout
    assert cat == b"aaabbbccc\nddd\r\neee"
    netd.box.run("netd-client", "verify", session)


def test_flush_timeout_0_is_never(netd):
    netd.start(config="flush_timeout = 0; sessions: { idle_timeout = 4; };")
    with netd.connect() as client:
        client.sendall(b"half")
        receipt = netd.receipt(client)
        assert receipt[1:] == (1, 4, "idle")
    check(netd, receipt.session, b"half", reason="idle")


def test_two_clients_at_once_are_told_apart(netd):
    netd.start(config='identifier = "%p";')
    with netd.connect() as one, netd.connect() as two:
        expected = []
        for text in "one", "two":
            for client in one, two:
                client.sendall(f"{text}\n".encode())
                expected.append((f"127.0.0.1:{port_of(client)}", text))
                wait_for(lambda: len(netd.events(event="data")) == len(expected), "the record")
        assert finish(netd, one).bytes == finish(netd, two).bytes == 8
    shown = netd.box.run("journalctl", "-q", "-o", "short", "--cursor", netd.since,
                         "NETD_EVENT=data").stdout
    assert re.findall(r" ([0-9.:]+)\[\d+\]: (.*)", shown) == expected


def test_identifiers(netd):
    for template, pattern in (("netd", "netd"), ("100%% %a/%s", "100% 127.0.0.1/{id:.8}")):
        netd.start(config=f'identifier = "{template}";')
        session = netd.send(b"x\nSYSLOG_IDENTIFIER=y\n").session
        assert {e.text("SYSLOG_IDENTIFIER") for e in netd.events(session)} == \
            {pattern.format(id=session)}
        netd.box.run("netd-client", "verify", session)


def test_the_time_limit_holds_over_a_reload(netd):
    netd.start(config="flush_timeout = 3600;")
    with netd.connect() as client:
        client.sendall(b"half")
        session = session_of(netd, client)
        wait_for(lambda: is_read(netd, client), "it to be read")
        netd.configure_file("flush_timeout = 1;")
        netd.reload()
        wait_for(lambda: pieces(netd, session) == [(b"half", b"continued")], "what it sent")
        client.sendall(b"\n")
        assert finish(netd, client).records == 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"", b"\r\r\n", b"\rx\n", b"\n\n"])
def test_at_the_size_limit(netd, end):
    """One byte less and more than max_record, and each end of it there."""
    netd.start(config=SMALL)
    for length in (62, 63, 64, 65, 66, 127, 128, 129):
        send_and_check(netd, b"a" * length + end, max_record=64)
        send_and_check(netd, b"a" * length + end + b"b" * 10 + end, max_record=64)


def test_the_size_limit_does_not_depend_on_segments(netd):
    netd.start(config=SMALL)
    data = b"".join(b"a" * n + end for n in (63, 64, 65, 128)
                    for end in (b"\n", b"\r\n", b"\r", b"\r\r\n"))
    with netd.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            client.sendall(data[i:i + 1])
        receipt = finish(netd, client)
    check(netd, receipt.session, data, 64)


@pytest.mark.parametrize("rest", [b"\n", b"x\n", b"\r\n", b""])
def test_a_cr_at_the_size_limit_waits_for_the_next_byte(netd, rest):
    """After max_record bytes and a CR, only the next byte tells whether it was a record's end."""
    netd.start(config=SMALL)
    with netd.connect() as client:
        session = session_of(netd, client)
        client.sendall(b"a" * 64 + b"\r")
        wait_for(lambda: is_read(netd, client), "netd to have read it")
        client.sendall(rest)
        finish(netd, client)
    check(netd, session, b"a" * 64 + b"\r" + rest, 64)


@pytest.mark.parametrize("size", [64, 65, 4096, 65535, 65536, 65537, 131071, 131072])
def test_max_record(netd, size):
    netd.start(config=f"max_record = {size};")
    rnd = seeded(f"max_record {size}")
    printable = bytes(rnd.choices(range(0x20, 0x7f), k=size + 1))
    raw = bytes(b for b in rnd.randbytes(size * 2) if b != 0x0a)[:size + 1]
    for text in printable, raw:
        data = text[:size - 1] + b"\n" + text[:size] + b"\n" + text + b"\n" + text[:size] + b"\r\n"
        send_and_check(netd, data, max_record=size)


def test_a_record_of_131072_bytes_that_are_all_escaped(netd):
    """The largest entry of all: four bytes of MESSAGE and one of NETD_DATA for each byte."""
    netd.start(config="max_record = 131072;")
    for data in b"\x01" * 131072, b"\xff" * 131072 + b"\n" + b"a" * 131072 + b"\n":
        send_and_check(netd, data, max_record=131072)


def test_many_large_records_keep_their_order_among_small_ones(netd):
    netd.start(config="max_record = 131072;")
    rnd = seeded("large among small")
    data = b"".join(b"%d %s\n" % (i, rnd.randbytes(rnd.choice([0, 10, 60000, 120000]))
                                  .replace(b"\n", b"")) for i in range(60))
    send_and_check(netd, data, max_record=131072)


# Raw framing


def test_raw_framing_is_byte_for_byte(netd):
    netd.start(config='framing = "raw"; max_record = 1000;')
    data = awkward(seeded("raw"), 100_000)
    receipt = netd.send(data)
    events = check(netd, receipt.session, data, max_record=1000, exact=False)
    assert {e.get("NETD_TERMINATOR") for e in events[1:-1]} == {b"none"}
    assert receipt.bytes == len(data) and receipt.records == len(events) - 2


def test_raw_framing_makes_a_record_of_each_read(netd):
    netd.start(config='framing = "raw";')
    with netd.connect() as client:
        session = session_of(netd, client)
        for n, piece in enumerate((b"one", b"two\n", b"\r\n", b"\n\n", b"a\nb\n")):
            client.sendall(piece)
            wait_for(lambda n=n: len(netd.events(session, "data")) > n, f"piece {n}")
        finish(netd, client)
    assert [e.record for e in netd.events(session, "data")] == \
        [b"one", b"two\n", b"\r\n", b"\n\n", b"a\nb\n"]


# MESSAGE


def test_every_byte_value_alone(netd):
    netd.start(config='framing = "line";')
    values = [bytes([i]) for i in range(256) if i != 0x0a]
    events = send_and_check(netd, b"".join(v + b"|\n" for v in values))
    for event, value in zip(events[1:-1], values):
        clean = value == b"\t" or 0x20 <= value[0] < 0x7f
        assert ("NETD_DATA" in event) == (not clean), value
        assert event["MESSAGE"] == (value + b"|" if clean else b"\\x%02x|" % value[0])


def test_every_pair_of_bytes(netd):
    """All beginnings of a character with all that can follow, inside and at the end of a record."""
    netd.start(config="max_record = 131072;")
    seconds = [b for b in range(256) if b != 0x0a]
    data = b"".join(b"".join(bytes([a, b]) + b" " for b in seconds) + bytes([a]) + b"\n"
                    for a in range(0x7f, 256))
    send_and_check(netd, data, max_record=131072)


VALID = [
    "", "plain", "tab\there", "é", "€", "😀", "\u00a0", "\ufeff", "\u200e\u200f", "\ud7ff\ue000",
    "\U0010ffff", "\u0800", "\U00010000", "e\u0301", "\u2029", "\u2065\u206a", "\u2029\u202f",
    "back\\x41slash", "=", "\ufffd", "\uffff",
]


def test_valid_text_is_shown_as_it_is(netd):
    netd.start()
    for text in VALID:
        event = send_and_check(netd, text.encode() + b"\n")[1]
        assert event["MESSAGE"] == text.encode() and "NETD_DATA" not in event


OFFENDING = [
    (b"\x00", rb"\x00"), (b"a\x1b[0mb", rb"a\x1b[0mb"), (b"\x7f", rb"\x7f"),
    (b"\xc2\x80", rb"\xc2\x80"), (b"\xc2\x9f", rb"\xc2\x9f"),
    (b"\xe2\x80\xaa", rb"\xe2\x80\xaa"), (b"\xe2\x80\xae", rb"\xe2\x80\xae"),
    (b"\xe2\x81\xa6", rb"\xe2\x81\xa6"), (b"\xe2\x81\xa9", rb"\xe2\x81\xa9"),
    (b"\xc0\xaf", rb"\xc0\xaf"), (b"\xc1\xbf", rb"\xc1\xbf"), (b"\xe0\x9f\xbf", rb"\xe0\x9f\xbf"),
    (b"\xf0\x8f\xbf\xbf", rb"\xf0\x8f\xbf\xbf"), (b"\xed\xa0\x80", rb"\xed\xa0\x80"),
    (b"\xed\xbf\xbf", rb"\xed\xbf\xbf"), (b"\xf4\x90\x80\x80", rb"\xf4\x90\x80\x80"),
    (b"\xf5\x80\x80\x80", rb"\xf5\x80\x80\x80"), (b"\x80", rb"\x80"), (b"\xbf\xbf", rb"\xbf\xbf"),
    (b"\xc3", rb"\xc3"), (b"\xe2\x82", rb"\xe2\x82"), (b"\xf0\x9f\x98", rb"\xf0\x9f\x98"),
    (b"\xc3(", rb"\xc3("), (b"\xe2\x28\xa1", rb"\xe2(\xa1"),
    (b"\xc3\xa9\xff\xc3\xa9", b"\xc3\xa9\\xff\xc3\xa9"), (b"\\x00\x00", rb"\x00\x00"),
    (b"\rx", rb"\x0dx"), (b"\xfe\xff", rb"\xfe\xff"),
]


def test_every_offending_byte_is_shown_in_hex(netd):
    netd.start()
    for record, shown in OFFENDING:
        assert message(record) == shown  # the model itself
        event = send_and_check(netd, record + b"\n")[1]
        assert event["MESSAGE"] == shown and event["NETD_DATA"] == record


def test_a_character_split_over_reads_is_whole(netd):
    netd.start()
    text = "é€😀\u202e\n".encode()
    with netd.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = session_of(netd, client)
        for i in range(len(text)):
            client.sendall(text[i:i + 1])
        finish(netd, client)
    _, event, _ = check(netd, session, text)
    check_record(event, text[:-1], None)


def test_a_character_split_by_the_size_limit_is_exact(netd):
    netd.start(config=SMALL)
    send_and_check(netd, ("é" * 100 + "\n" + "€" * 100 + "\na" + "😀" * 100).encode(), 64)


@pytest.mark.parametrize("data", [b"".join(piece + b" " for piece in AWKWARD)] + [
    awkward(seeded(f"awkward {n}"), 30_000) for n in range(4)], ids=lambda d: str(len(d)))
def test_awkward_streams_come_back_exactly(netd, data):
    netd.start(config="max_record = 500;")
    send_and_check(netd, data, max_record=500)


# Nothing a client sends can add, change or end a field, or an entry

INJECTIONS = [
    b"x\nPRIORITY=0\n_PID=1\n\nMESSAGE=forged\n\n",
    b"x\0\nMESSAGE\n\x06\0\0\0\0\0\0\0forged\n\n",
    b"NETD_EVENT=disconnect\nNETD_SESSION_ID=" + b"0" * 32 + b"\nNETD_REASON=eof\n\n",
    b"__CURSOR=s=1\n__REALTIME_TIMESTAMP=1\nMESSAGE=forged\n\n",
    b"NETD_DATA\n\xff\xff\xff\xff\xff\xff\xff\xff\n",
    b"\nSYSLOG_IDENTIFIER=sshd\nMESSAGE=forged\n\n",
    b"<0>emergency\n<3>error\n",
    b"\r\n.\r\n\r\n",
]


@pytest.mark.parametrize("config", ["", 'framing = "raw";'])
def test_nothing_is_injected(netd, config):
    netd.start(config=config)
    since = len(netd.events())
    with netd.connect() as client:
        client.sendall(b"".join(INJECTIONS))
        receipt = finish(netd, client)
    check(netd, receipt.session, b"".join(INJECTIONS), exact=not config)
    events = netd.events(fields=None)[since:]
    assert {e.text("NETD_SESSION_ID") for e in events} == {receipt.session}
    for event in events:
        assert event.text("PRIORITY") == "6" and event.text("SYSLOG_IDENTIFIER") == "netd"
        assert event.text("_COMM") == "netd"
        assert len(event.pairs) == len({name for name, _ in event.pairs})
        if event.text("NETD_EVENT") == "data":
            assert own_fields(event) <= EVERY_EVENT | {"NETD_DATA", "NETD_TERMINATOR"}
    assert not netd.journal("MESSAGE=forged", "PRIORITY=0")


def test_urgent_data_stays_in_the_stream(netd):
    netd.start()
    with netd.connect() as client:
        client.sendall(b"abc")
        client.send(b"d", socket.MSG_OOB)
        client.sendall(b"ef\n")
        client.send(b"g", socket.MSG_OOB)
        receipt = finish(netd, client)
    check(netd, receipt.session, b"abcdef\ng")


# Why a session ended


def test_reason_shutdown(netd):
    netd.start()
    with netd.connect() as client:
        client.sendall(b"one\ntwo")
        session = session_of(netd, client)
        netd.stop()
        receipt = netd.receipt(client)
    assert receipt == (session, 2, 7, "shutdown")
    check(netd, session, b"one\ntwo", reason="shutdown")


def test_reason_idle(netd):
    netd.start(config="sessions = { idle_timeout = 1; };")
    with netd.connect() as client:
        client.sendall(b"one\ntwo")
        receipt = netd.receipt(client)
    assert receipt.end == "idle" and receipt.bytes == 7
    end = check(netd, receipt.session, b"one\ntwo", reason="idle")[-1]
    assert end.number("NETD_DURATION_USEC") >= 1_000_000


def test_reason_reset(netd):
    netd.start()
    client = netd.connect()
    session = session_of(netd, client)
    reset(client)
    ended(netd, session)
    events = check(netd, session, b"", reason="reset")
    assert "ERRNO" not in events[-1]
