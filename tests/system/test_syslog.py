# SPDX-License-Identifier: MIT
"""format = "syslog": what programs send is found by its severity, program and time, and can be put
together again byte for byte."""

import json

import pytest

import corpus
from box import wait_for
from traffic import AWKWARD, finish, seeded, session_of, worker

SYSLOG = 'format = "syslog";'
NAMES = set(corpus.NAMES.values()) | {"PRIORITY", "SYSLOG_FACILITY", "NETD_SEVERITY"}


def verify(netd, session, data):
    """Both programs that read the session give DATA back."""
    assert netd.received(session) == data
    assert netd.box.run("netd-client", "cat", session, text=False).stdout == data
    said = json.loads(netd.box.run("netd-client", "verify", "--json", session).stdout
                      .splitlines()[0])
    assert said["verdict"] in ("ok", "repeats") and said["bytes"] == len(data)
    return said


# Programs


LOGGER = ["logger", "-n", "127.0.0.1", "-P", "3000", "-T", "-t", "sshd"]
STRUCTURED = '[zoo@123 tiger="hungry"]'
# Options of logger, and what else the entry then has.
LOGGERS = [
    ((), {}),
    (("--id=4711",), {"SYSLOG_PID": "4711"}),
    (("-i",), {}),
    (("--rfc3164",), {"NETD_FORMAT": "rfc3164", "SYSLOG_PID": None}),
    (("--rfc3164", "--id=4711"), {"NETD_FORMAT": "rfc3164", "SYSLOG_PID": "4711"}),
    (("--rfc3164", "-i"), {"NETD_FORMAT": "rfc3164"}),
    (("--rfc5424",), {}),
    (("--rfc5424=notime,notq,nohost",),
     {"NETD_HOSTNAME": None, "SYSLOG_TIMESTAMP": None, "SYSLOG_STRUCTURED_DATA": None}),
    (("--rfc5424=notq", "--msgid", "ID47", "--sd-id", "zoo@123", "--sd-param", 'tiger="hungry"'),
     {"SYSLOG_MSGID": "ID47", "SYSLOG_STRUCTURED_DATA": STRUCTURED}),
]


def test_logger_is_found_by_program_and_severity(netd):
    """With each of its options, in lines and in counted frames."""
    netd.start(config=SYSLOG)
    forms = [(framing, *form) for framing in ((), ("--octet-count",)) for form in LOGGERS]
    for i, (framing, words, _) in enumerate(forms):
        netd.box.run(*LOGGER, *framing, *words, "-p", "auth.err", f"Failed password {i}")
        netd.box.run(*LOGGER, *framing, *words, "-p", "auth.info", "Accepted")
    # logger does not wait for anything.
    wait_for(lambda: len(netd.events(event="disconnect")) == 2 * len(forms), "all messages")
    found = netd.box.run("journalctl", "-q", "-t", "sshd", "-p", "err", "-o", "json",
                         f"--cursor={netd.since}").stdout
    entries = {entry["MESSAGE"]: entry for entry in map(json.loads, found.splitlines())}
    assert len(entries) == len(found.splitlines()) == len(forms)
    for i, (framing, words, fields) in enumerate(forms):
        entry = entries[f"Failed password {i}"]
        wanted = {"NETD_FORMAT": "rfc5424", "NETD_DATA": None, "PRIORITY": "3",
                  "SYSLOG_FACILITY": "4", "NETD_TERMINATOR": "octet" if framing else None, **fields}
        assert {name: entry.get(name) for name in wanted} == wanted, words
        assert ("NETD_HOSTNAME" in entry) == ("NETD_HOSTNAME" not in fields)
        if "-i" in words:
            assert entry["SYSLOG_PID"].isdigit()


# The corpus


def expected(message):
    """The fields of a data event that depend on the record."""
    fields = dict(message.fields)
    if message.severity < 3:
        fields |= {"PRIORITY": b"3", "NETD_SEVERITY": b"%d" % message.severity}
    if message.format == "plain":
        fields["SYSLOG_IDENTIFIER"] = b"netd"
    return fields


def shown(value):
    """As the journal shows a value that has such bytes."""
    return b"".join(b"\\x%02x" % c if (c < 32 and c != 9) or c == 127 else bytes([c])
                    for c in value)


def is_text(message):
    try:
        return message.data.decode().isprintable()
    except UnicodeDecodeError:
        return False


def test_fields_are_those_of_the_corpus(netd):
    """Local messages have there what journald makes of them: test_syslog_journald.py."""
    netd.start(config=SYSLOG)
    messages = corpus.read()
    data = b"".join(b"%d %s" % (len(m.data), m.data) for m in messages)
    session = netd.send(data).session
    events = netd.events(session, "data")
    assert len(events) == len(messages) > 350
    for message, event in zip(messages, events):
        assert event["NETD_FORMAT"] == message.format.encode()
        assert event.record == message.data
        if is_text(message):
            assert {n: event[n] for n in NAMES if n in event} == expected(message), message
            assert ("NETD_DATA" in event) == (not message.exact), message
        elif all(c < 128 for c in message.data):
            assert {n: event[n] for n in NAMES if n in event} == \
                {n: shown(v) for n, v in expected(message).items()}, message
    verify(netd, session, data)


def test_severity_of_a_trusted_client(netd):
    """Only there PRIORITY is what the client says."""
    netd.start(config="""listeners = (
        { name = "any"; port = 3000; format = "syslog"; identifier = "%l"; },
        { name = "trusted"; port = 3001; format = "syslog"; trust_severity = true; });""")
    for port, priorities in (3000, "3333456766"), (3001, "0123456766"):
        data = b"".join(b"<%d>app: x\n" % i for i in range(8)) + b"text\n<192>app: x\n"
        events = netd.events(netd.send(data, port=port).session, "data")
        assert "".join(e.text("PRIORITY") for e in events) == priorities
        assert ["NETD_SEVERITY" in e for e in events] == [
            e["PRIORITY"] != b"%d" % i and i < 8 for i, e in enumerate(events)]
        assert [e.get("SYSLOG_FACILITY") for e in events] == [None] * 8 + [b"1"] * 2
        assert events[8]["SYSLOG_IDENTIFIER"] == (b"any" if port == 3000 else b"netd")
        assert [e.text("NETD_FORMAT") for e in events] == \
            ["rfc3164"] * 8 + ["plain"] + ["rfc3164"]


# Any bytes


def mixed(rnd, messages, size):
    """Counted messages, messages in lines, and what no sender sends."""
    out, length = [], 0
    while length < size:
        body = rnd.choice(messages) if rnd.random() < 0.7 else \
            b"".join(rnd.choices(AWKWARD + [b"<13>", b"1 ", b"- ", b"app[1]: "], k=6))
        if rnd.random() < 0.2:
            at = rnd.randrange(len(body) + 1)
            body = body[:at] + rnd.choice(AWKWARD) + body[at:]
        piece = rnd.choice([b"%d %s" % (len(body), body), body + b"\n", body + b"\r\n"])
        out.append(piece)
        length += len(piece)
    return b"".join(out)


@pytest.mark.parametrize("framing", ["octet", "line", "nul", "raw"])
def test_any_stream_comes_back(netd, framing):
    """Also where records are longer than max_record, and over a worker that dies in the middle."""
    netd.start(config=f'{SYSLOG} framing = "{framing}"; max_record = 128;')
    data = mixed(seeded(f"syslog {framing}"), [m.data for m in corpus.read()], 60_000)
    with netd.connect() as client:
        session = session_of(netd, client)
        client.sendall(data[:20_000])
        netd.box.run("kill", "-KILL", worker(netd))
        client.sendall(data[20_000:40_000])
        netd.reload()
        client.sendall(data[40_000:])
        receipt = finish(netd, client)
    assert receipt.bytes == len(data)
    verify(netd, session, data)
    formats = {e.text("NETD_FORMAT") for e in netd.events(session, "data")}
    assert formats == {"plain", "rfc3164", "rfc5424"}


def test_a_session_keeps_its_format(netd):
    """Over a reload with another one, and a crash."""
    netd.start(config=SYSLOG)
    with netd.connect() as client:
        session = session_of(netd, client)
        client.sendall(b"<13>one: x\n")
        wait_for(lambda: len(netd.events(session, "data")) == 1, "a record")
        netd.configure_file('format = "plain";')
        netd.reload()
        netd.box.run("kill", "-KILL", worker(netd))
        client.sendall(b"<13>two: y\n")
        finish(netd, client)
    events = netd.events(session, "data")
    assert [e.text("SYSLOG_IDENTIFIER") for e in events] == ["one", "two"]
    (event,) = netd.events(netd.send(b"<13>three: z\n").session, "data")
    assert event["MESSAGE"] == b"<13>three: z" and "NETD_FORMAT" not in event


def test_pieces_of_a_long_record(netd):
    """Only the first is parsed, and says how long the frame is."""
    netd.start(config=f'{SYSLOG} max_record = 64; identifier = "%l-";')
    record = b"<11>app[1]: " + b"x" * 100 + b"<11>app[1]: and more text of it"
    data = b"%d %s" % (len(record), record)
    session = netd.send(data).session
    first, *others = netd.events(session, "data")
    assert [first.text(name) for name in ("NETD_FORMAT", "PRIORITY", "SYSLOG_IDENTIFIER",
                                          "NETD_FRAME_LENGTH", "NETD_TERMINATOR")] == \
        ["rfc3164", "3", "app", str(len(record)), "continued"]
    assert len(others) == 2
    for event in others:
        assert [event.text(name) for name in ("NETD_FORMAT", "PRIORITY", "SYSLOG_IDENTIFIER",
                                              "NETD_FRAME_LENGTH")] == ["plain", "6", "-", None]
    verify(netd, session, data)
