# SPDX-License-Identifier: MIT
"""Framings "nul" and "octet": which records a stream has, exact to the byte."""

import json

import pytest

import traffic
from box import wait_for
from traffic import AWKWARD, finish, seeded, session_of

OCTET = 'framing = "octet"; max_record = 64;'
NUL = 'framing = "nul"; max_record = 64;'


def check(netd, session, data, expected):
    """The session's events are the records EXPECTED, and everything gives DATA back."""
    events = traffic.check(netd, session, data, exact=False)[1:-1]
    found = [(e.record, e.get("NETD_TERMINATOR"), e.get("NETD_FRAME_LENGTH")) for e in events]
    assert found == [(*record, None)[:3] for record in expected]
    assert netd.box.run("netd-client", "cat", session, text=False).stdout == data
    assert netd.box.run("netd-client", "verify", "--json", session).stdout.startswith(
        f'{{"session":"{session}","verdict":"ok"')


LONG = b"l" * 150


@pytest.mark.parametrize("data, expected", [
    (b"5 hello5 world", [(b"hello", b"octet"), (b"world", b"octet")]),
    (b"6 hello\n1 \n2 \r\n", [(b"hello\n", b"octet"), (b"\n", b"octet"), (b"\r\n", b"octet")]),
    (b"3 5 x4 \0\xff\n\0", [(b"5 x", b"octet"), (b"\0\xff\n\0", b"octet")]),
    # What is no frame is a line.
    (b"<13>one\n5 hello<13>two\r\n3 xyz",
     [(b"<13>one", None), (b"hello", b"octet"), (b"<13>two", b"crlf"), (b"xyz", b"octet")]),
    (b"5 hello\n5 world\n", [(b"hello", b"octet"), (b"", None), (b"world", b"octet"), (b"", None)]),
    (b"0 \n", [(b"0 ", None)]),
    (b"0 x", [(b"0 x", b"none")]),
    (b"01 x\n", [(b"01 x", None)]),
    (b"1234567890 x\n", [(b"1234567890 x", None)]),
    (b"12\n12x\n12\t12\n", [(b"12", None), (b"12x", None), (b"12\t12", None)]),
    (b"123456789", [(b"123456789", b"none")]),
    (b"1234567890", [(b"1234567890", b"none")]),
    # Less comes than was announced.
    (b"999999999 x\n", [(b"x\n", b"none", b"999999999")]),
    (b"5 ", [(b"", b"none", b"5")]),
    # Pieces.
    (b"150 " + LONG + b"2 ok", [(LONG[:64], b"continued", b"150"), (LONG[:64], b"continued"),
                                (LONG[:22], b"octet"), (b"ok", b"octet")]),
    (b"64 " + LONG[:64] + b"128 " + LONG[:128],
     [(LONG[:64], b"octet"), (LONG[:64], b"continued", b"128"), (LONG[:64], b"octet")]),
    (b"200 " + LONG[:128], [(LONG[:64], b"continued", b"200"), (LONG[:64], b"continued"),
                            (b"", b"none")]),
    (LONG + b"\n2 ok", [(LONG[:64], b"continued"), (LONG[:64], b"continued"), (LONG[:22], None),
                        (b"ok", b"octet")]),
])
def test_counted_frames_and_lines(netd, data, expected):
    netd.start(config=OCTET)
    assert traffic.frames(data, 64) == [(*record, None)[:3] for record in expected]
    receipt = netd.send(data)
    check(netd, receipt.session, data, expected)
    # One byte at a time.
    with netd.connect() as client:
        for i in range(len(data)):
            client.sendall(data[i:i + 1])
        receipt = finish(netd, client)
    check(netd, receipt.session, data, expected)


def test_nul_ends_a_record(netd):
    netd.start(config=NUL)
    for data, expected in [
            (b"one\0two", [(b"one", b"nul"), (b"two", b"none")]),
            (b"\0\0", [(b"", b"nul"), (b"", b"nul")]),
            (b"one\ntwo\r\n\0", [(b"one\ntwo\r\n", b"nul")]),
            (LONG + b"\0x\0", [(LONG[:64], b"continued"), (LONG[:64], b"continued"),
                               (LONG[:22], b"nul"), (b"x", b"nul")]),
            (LONG[:64] + b"\0" + LONG[:64], [(LONG[:64], b"nul"), (LONG[:64], b"none")])]:
        assert traffic.nul_ended(data, 64) == [(*record, None)[:3] for record in expected]
        check(netd, netd.send(data).session, data, expected)


def mixed(rnd, size):
    """Frames, lines and what is neither, as no sender would mix them."""
    out, length = [], 0
    while length < size:
        body = b"".join(rnd.choices(AWKWARD, k=rnd.randint(0, 6))) * rnd.randint(1, 5)
        announced = len(body) if rnd.random() < 0.95 else rnd.randint(0, 300)
        piece = rnd.choice([b"%d %s" % (announced, body), body + b"\n", body + b"\0",
                            b"<13>text\n", b"0%d %s\n" % (announced, body)])
        out.append(piece)
        length += len(piece)
    return b"".join(out)


@pytest.mark.parametrize("config, oracle", [(OCTET, traffic.frames), (NUL, traffic.nul_ended)],
                         ids=["octet", "nul"])
def test_any_stream_comes_back(netd, config, oracle):
    netd.start(config=config)
    data = mixed(seeded("framings"), 100_000)
    check(netd, netd.send(data).session, data, oracle(data, 64))


def test_half_a_frame_is_seen_and_goes_on(netd):
    """As a piece; what follows is not looked at for a head. A reload changes nothing about that,
    nor does one that changes the framing: it is that of new sessions."""
    netd.start(config='framing = "octet"; flush_timeout = 1;')
    with netd.connect() as client:
        session = session_of(netd, client)
        client.sendall(b"3 one20 5 xx\n")
        wait_for(lambda: len(netd.events(session, "data")) == 2, "half a frame")
        netd.configure_file('framing = "line"; flush_timeout = 1;')
        netd.reload()
        client.sendall(b"7 yy\n\0")
        wait_for(lambda: len(netd.events(session, "data")) == 3, "a bit more of it")
        netd.reload()
        client.sendall(b"8 zz\n12345 67890 after\n6 after\n")
        receipt = finish(netd, client)
    assert receipt.session == session
    check(netd, session, b"3 one20 5 xx\n7 yy\n\0008 zz\n12345 67890 after\n6 after\n", [
        (b"one", b"octet"), (b"5 xx\n", b"continued", b"20"), (b"7 yy\n\0", b"continued"),
        (b"8 zz\n1234", b"octet"), (b"67890", b"octet"), (b" after", None), (b"after\n", b"octet")])
    assert netd.events(netd.send(b"5 line\n").session, "data")[0].record == b"5 line"


# netd-client


@pytest.mark.parametrize("framing, sent, terminator", [
    ("line", b"one\ntwo words\n", None),
    ("nul", b"one\0two words\0", b"nul"),
    ("octet", b"3 one9 two words", b"octet"),
])
def test_client_sends_framed_messages(netd, framing, sent, terminator):
    netd.start(config=f'framing = "{framing}";')
    session = netd.box.run("netd-client", "send", "--framing", framing, "one",
                           "two words").stdout.strip()
    check(netd, session, sent, [(b"one", terminator), (b"two words", terminator)])


def test_client_sends_standard_input_unchanged(netd):
    netd.start(config='framing = "octet";')
    session = netd.box.run("netd-client", "send", "--framing=octet", "a\nb", "-", "c",
                           input="2 xyline\n").stdout.strip()
    check(netd, session, b"3 a\nb2 xyline\n1 c", [
        (b"a\nb", b"octet"), (b"xy", b"octet"), (b"line", None), (b"c", b"octet")])
    session = netd.box.run("netd-client", "send", "--framing", "octet", "x" * 100_000,
                           "y" * 100_000, "z" * 120_000).stdout.strip()
    assert netd.received(session) == \
        b"100000 " + b"x" * 100_000 + b"100000 " + b"y" * 100_000 + b"120000 " + b"z" * 120_000
    for words, line in [
            (["--framing=octet", "x", ""],
             "send: message 2 is empty; a counted frame has at least one byte"),
            (["--framing=relp", "x"],
             "--framing: invalid framing 'relp'; expected one of line, nul, octet")]:
        result = netd.box.run("netd-client", "send", *words, check=False)
        assert (result.returncode, result.stdout, result.stderr) == \
            (2, "", f"netd-client: {line}\n")


def test_client_shows_frames(netd):
    netd.start(config='framing = "octet"; max_record = 64;')
    session = netd.send(b"70 " + b"x" * 70 + b"1 y").session
    shown = netd.box.run("netd-client", "show", "--json", session).stdout
    events = [json.loads(line) for line in shown.splitlines()][1:-1]
    assert [(e["message"], e["terminator"], e.get("frame_length")) for e in events] == [
        ("x" * 64, "continued", 70), ("x" * 6, "octet", None), ("y", "octet", None)]
    shown = netd.box.run("netd-client", "show", session).stdout
    assert " data octet      y\n" in shown
