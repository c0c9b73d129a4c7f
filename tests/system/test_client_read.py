# SPDX-License-Identifier: MIT
"""The commands of netd-client that read the journal: made-up journal files and those of netd."""

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import random
import re
import select
import signal
import struct
import termios
import time

import pytest

from box import SOURCE, wait_for
from fake_events import BOOT, IDS, START, Journal, session_id, stream
from traffic import together

# c4ca4238..., c81e728d..., eccbc87e..., a87ff679...
A, B, C, D = (session_id(n) for n in (1, 2, 3, 4))
SECOND = 1_000_000


@pytest.fixture
def directory(box):
    """A temporary directory for journal files in the box."""
    path = "/var/tmp/journals"
    box.run("rm", "-rf", path)
    yield path
    box.run("rm", "-rf", path)


def client(box, *arguments, **options):
    return box.run("netd-client", *arguments, check=False, **options)


def lines(result, status=0):
    """The lines of the output of a command that printed no errors."""
    assert (result.returncode, result.stderr) == (status, ""), result
    return result.stdout.splitlines()


def objects(result, status=0):
    return [json.loads(line) for line in lines(result, status)]


def sent(netd, data, **options):
    """Sends DATA, and returns the session ID once journald has stored the session."""
    receipt = netd.send(data, **options)
    netd.box.run("journalctl", "--sync")
    return receipt.session


def failed(result, status, line):
    assert (result.returncode, result.stdout) == (status, ""), result
    assert result.stderr == f"netd-client: {line}\n"


def cat(box, *arguments):
    result = client(box, "cat", *arguments, text=False)
    return result.stdout, result.returncode, result.stderr.decode()


def on_terminal(box, *arguments, columns=80, env=None, program=("netd-client",)):
    """The output of PROGRAM on a terminal with that many COLUMNS."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(theirs, "wb") as terminal:
        with box.popen(*program, *arguments, stdout=terminal, stderr=terminal,
                       env={"TERM": "xterm", "SYSTEMD_COLORS": "", **(env or {})}) as process:
            terminal.close()
            shown = b""
            with contextlib.suppress(OSError):  # EIO: the other side was closed
                while piece := os.read(ours, 65536):
                    shown += piece
            process.wait(30)
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


# --- syslog records ---


def syslog_session(journal, session, records):
    """RECORDS are the fields of each besides MESSAGE, and the record that they give."""
    journal.connect(session)
    for fields, data in records:
        journal.data(session, b"", "octet", MESSAGE="text", **fields)
        assert data.endswith(b"text")
    sent = b"".join(b"%d %s" % (len(data), data) for _, data in records)
    journal.disconnect(session, len(records), len(sent))
    return sent


def rfc3164(severity, program, **more):
    return {"NETD_FORMAT": "rfc3164", "PRIORITY": severity, "SYSLOG_FACILITY": 4,
            "SYSLOG_IDENTIFIER": program} | more


def two_syslog_sessions():
    journal = Journal(step=SECOND)
    sent = syslog_session(journal, A, [
        (rfc3164(3, "sshd", SYSLOG_PID=12, NETD_HOSTNAME="web1",
                 SYSLOG_TIMESTAMP="Nov 25 09:20:10 "),
         b"<35>Nov 25 09:20:10 web1 sshd[12]: text"),
        (rfc3164(3, "sshd", NETD_SEVERITY=0), b"<32>sshd: text"),
        (rfc3164(4, "sshd"), b"<36>sshd: text"),
        (rfc3164(5, "su"), b"<37>su: text"),
        (rfc3164(6, "su"), b"<38>su: text"),
        (rfc3164(7, "a\x1bb", NETD_DATA=b"<39>a\x1bb: text"), b"<39>a\x1bb: text"),
        ({"NETD_FORMAT": "rfc3164", "PRIORITY": 6, "SYSLOG_IDENTIFIER": "x"}, b"<6>x: text"),
        ({"NETD_FORMAT": "plain", "PRIORITY": 6, "SYSLOG_FACILITY": 1}, b"text"),
        ({"NETD_FORMAT": "rfc5424", "PRIORITY": 5, "SYSLOG_FACILITY": 20, "NETD_HOSTNAME": "web2",
          "SYSLOG_IDENTIFIER": "app", "SYSLOG_MSGID": "ID47",
          "SYSLOG_STRUCTURED_DATA": '[x@1 a="b"]'},
         b'<165>1 - web2 app - ID47 [x@1 a="b"] text'),
    ])
    syslog_session(journal, B, [(rfc3164(6, "su", NETD_HOSTNAME="web1"), b"<38>web1 su: text")])
    journal.session(C, [b"one"])
    return journal, sent


def test_syslog_records_are_shown_like_in_journalctl(box, directory):
    journal, sent = two_syslog_sessions()
    journal.write(box, f"{directory}/a.journal")
    command = "show", "-D", directory, A
    texts = [line.split("data octet", 1)[1].strip() for line in lines(client(box, *command))
             if "data octet" in line]
    assert texts == ["web1 sshd[12]: text", "sshd: text", "sshd: text", "su: text", "su: text",
                     "a\\x1bb: text", "x: text", "text", "web2 app: text"]
    colours = [line.split(" ")[-1] for line in
               on_terminal(box, *command, "--no-pager").splitlines() if "data octet" in line]
    assert colours == [f"\x1b[{n}mtext\x1b[0m" if n else "text" for n in
                       ("0;1;31", "0;1;31", "0;1;33", "0;1;39", "", "0;90", "", "", "0;1;39")]
    assert client(box, "cat", "-D", directory, A, text=False).stdout == sent


def test_syslog_records_in_json(box, directory):
    journal, _ = two_syslog_sessions()
    journal.write(box, f"{directory}/a.journal")
    events = [json.loads(line) for line in lines(client(box, "show", "--json", "-D", directory, A))]
    data = [e for e in events if e["event"] == "data"]
    base = {"session", "event", "peer", "time", "message", "terminator"}
    assert {k: v for k, v in data[0].items() if k not in base} == {
        "format": "rfc3164", "severity": 3, "facility": 4, "identifier": "sshd", "pid": "12",
        "hostname": "web1", "timestamp": "Nov 25 09:20:10 ",
        "record": "<35>Nov 25 09:20:10 web1 sshd[12]: text"}
    assert [e["severity"] for e in data if "severity" in e] == [3, 0, 4, 5, 6, 7, 6, 5]
    assert "record" not in data[5] and bytes(data[5]["data"]) == b"<39>a\x1bb: text"
    assert data[6]["facility"] == 0
    assert set(data[7]) - base == {"format"}
    assert (data[8]["msgid"], data[8]["structured_data"]) == ("ID47", '[x@1 a="b"]')
    assert not {"format", "severity", "identifier"} & set(events[0])


@pytest.mark.parametrize("options, sessions, records", [
    (["--identifier", "sshd"], [A], 3), (["--identifier", "su"], [A, B], 2),
    (["--identifier", "none"], [], 0), (["--hostname", "web2"], [A], 1),
    (["--priority", "err"], [A], 2), (["--priority=0"], [A], 1),
    (["--priority", "debug"], [A, B, C], 9), (["--priority", "notice"], [A], 5),
    (["--identifier=su", "--priority=info", "--hostname=web1"], [B], 0),
])
def test_records_are_selected(box, directory, options, sessions, records):
    """A severity is the one that was sent."""
    two_syslog_sessions()[0].write(box, f"{directory}/a.journal")
    found = client(box, "sessions", "-q", "-D", directory, *options)
    assert found.stdout.split() == sessions and found.returncode == (0 if sessions else 1)
    shown = [json.loads(line) for line in
             lines(client(box, "show", "--json", "-D", directory, A, *options))]
    assert len(shown) == records and all(e["event"] == "data" for e in shown)
    followed = lines(client(box, "follow", "--json", "-D", directory, A, "-n100", *options))
    assert [json.loads(line) for line in followed] == shown
    if records > 1:
        last = lines(client(box, "follow", "--json", "-D", directory, A, "-n1", *options))
        assert [json.loads(line) for line in last] == shown[-1:]


# --- sessions ---


def three_sessions():
    journal = Journal(step=SECOND)
    journal.session(A, [b"one", b"two"], peer="192.0.2.1:4711")
    journal.session(B, [b"x" * 100], peer="[2001:db8::1]:4712")
    journal.session(C, [], peer="192.0.2.10:4713")
    return journal


def sessions_of_listeners():
    """A and C are of the listener "devices", B is of "relay", D is of one without a name."""
    journal = Journal(step=SECOND)
    journal.session(A, [b"one"], peer="192.0.2.1:4711", NETD_LISTENER="devices")
    journal.session(B, [b"two"], peer="192.0.2.10:4712", NETD_LISTENER="relay",
                    reason="reset")
    journal.session(C, [b"three"], peer="unix", NETD_LISTENER="devices", reason="idle")
    journal.session(D, [b"four"], peer="[2001:db8::1]:4713")
    return journal


def test_sessions_as_a_table(box, directory):
    three_sessions().write(box, f"{directory}/a.journal")
    assert client(box, "sessions", "-D", directory, "--utc").stdout == f"""\
SESSION                           BEGIN (UTC)          DURATION  PEER                RECORDS  BYTES  END
{A}  2026-11-22 08:00:01    1.500s  192.0.2.1:4711            2      8  eof
{B}  2026-11-22 08:00:05    1.500s  [2001:db8::1]:4712        1    101  eof
{C}  2026-11-22 08:00:08    1.500s  192.0.2.10:4713           0      0  eof
"""
    local = client(box, "sessions", "-D", directory, env={"TZ": "CET-1"}).stdout.splitlines()
    assert local[0].split()[1] == "BEGIN" and "2026-11-22 09:00:01" in local[1]


def test_sessions_as_json(box, directory):
    three_sessions().write(box, f"{directory}/a.journal")
    first, *_ = objects(client(box, "--json", "-D", directory, "sessions"))
    assert first == {
        "session": A, "begin": START + SECOND, "begin_logged": True, "end": START + 4 * SECOND,
        "duration": 1_500_000, "peer": "192.0.2.1:4711", "local": "127.0.0.1:3000",
        "records": 2, "bytes": 8, "state": "ended", "reason": "eof", "host": None,
        "listener": None}


@pytest.mark.parametrize("arguments, expected", [
    ([], [A, B, C]),
    (["-n", "2"], [B, C]),
    (["-n", "100"], [A, B, C]),
    (["--peer", "192.0.2.1"], [A]),
    (["--peer", "2001:db8::1"], [B]),
    (["--peer", "[2001:0DB8:0::1]"], [B]),
    (["--peer", "::ffff:192.0.2.10"], [C]),
    (["--since", "2026-11-22 08:00:05 UTC"], [B, C]),
    (["--since", "2026-11-22 08:00:05.000001 UTC"], [C]),
    (["--until", "2026-11-22 08:00:05 UTC"], [A, B]),
    (["-S", "@1795334402", "-U", "@1795334406"], [B]),
    (["-S", "@1795334402", "-n", "1"], [C]),
    (["-U", "@1795334406", "-n", "1"], [B]),
    (["-r"], [C, B, A]),
    (["--reverse", "-n", "2"], [C, B]),
    (["-r", "--until", "2026-11-22 08:00:05 UTC"], [B, A]),
])
def test_filters_of_sessions(box, directory, arguments, expected):
    three_sessions().write(box, f"{directory}/a.journal")
    assert lines(client(box, "sessions", "-q", "-D", directory, *arguments)) == expected


@pytest.mark.parametrize("arguments, expected", [
    (["--listener", "devices"], [A, C]),
    (["--listener=devices", "-n", "1"], [C]),
    (["--listener", "relay"], [B]),
    (["--listener", "devices", "--peer", "unix"], [C]),
    (["--reason", "eof"], [A, D]),
    (["--reason", "reset"], [B]),
    (["--reason", "eof", "-n", "1", "--peer", "192.0.2.1"], [A]),
    (["--reason", "idle", "--listener", "devices"], [C]),
])
def test_sessions_of_a_listener_or_with_a_reason(box, directory, arguments, expected):
    sessions_of_listeners().write(box, f"{directory}/a.journal")
    assert lines(client(box, "sessions", "-q", "-D", directory, *arguments)) == expected


@pytest.mark.parametrize("arguments", [
    ["--listener", "device"], ["--listener", "devices2"], ["--listener", "DEVICES"],
    ["--listener", "relay", "--reason", "eof"], ["--reason", "re"], ["--reason", "open"]])
def test_no_session_of_a_listener_or_with_a_reason(box, directory, arguments):
    sessions_of_listeners().write(box, f"{directory}/a.journal")
    failed(client(box, "sessions", "-D", directory, *arguments), 1,
           "no sessions in the journal match")


def test_an_open_session_has_a_listener_and_no_reason(box, directory):
    journal = Journal(NETD_LISTENER="devices")
    journal.connect(A)
    journal.data(B, b"without connect and disconnect events")
    journal.disconnect(C, 0, 0)
    journal.write(box, f"{directory}/a.journal")
    assert set(lines(client(box, "sessions", "-q", "-D", directory, "--listener", "devices"))) == {
        A, B, C}
    assert lines(client(box, "sessions", "-q", "-D", directory, "--reason", "eof")) == [C]


def test_the_listener_in_json_and_show(box, directory):
    sessions_of_listeners().write(box, f"{directory}/a.journal")
    where = ["-D", directory]
    assert [s["listener"] for s in objects(client(box, "sessions", "--json", *where))] == [
        "devices", "relay", "devices", None]
    for session, listener in (B, "relay"), (D, None):
        events = objects(client(box, "show", "--json", session, *where))
        assert [e.get("listener") for e in events] == [listener] * 3
    assert "Listener: relay" in lines(client(box, "show", B, *where))[3]
    assert "Listener" not in client(box, "show", D, *where).stdout


def test_sessions_of_several_hosts(box, directory):
    first, second = Journal(step=SECOND, _HOSTNAME="alpha"), Journal(step=SECOND)
    first.session(A, [b"one"])
    first.write(box, f"{directory}/a.journal")
    table = client(box, "sessions", "-D", directory).stdout
    assert "HOST" not in table and "alpha" not in table
    assert "Host" not in client(box, "show", A, "-D", directory).stdout
    second.time += 10 * SECOND
    second.session(B, [b"two"], _HOSTNAME="beta\x1b.example")
    second.session(C, [b"three"])
    second.write(box, f"{directory}/b.journal")
    titles, *rows = [line.split() for line in lines(client(box, "sessions", "-D", directory))]
    assert titles == ["SESSION", "BEGIN", "DURATION", "HOST", "PEER", "RECORDS", "BYTES", "END"]
    assert [row[4] for row in rows] == ["alpha", "beta\\x1b.example", "-"]
    for session, host in (A, "alpha"), (B, "beta\\x1b.example"), (C, ""):
        shown = lines(client(box, "show", session, "-D", directory))
        assert shown[1].strip() == f"Host: {host}".strip()
    narrow = on_terminal(box, "sessions", "-D", directory, columns=65, env={"NO_COLOR": "1"})
    assert narrow.splitlines()[0].split() == ["SESSION", "BEGIN", "HOST", "PEER", "END"]


def test_hosts_without_sessions_count(box, directory):
    """The journal has entries of two hosts, and netd runs on one of them."""
    journal = Journal(_HOSTNAME="alpha")
    journal.session(A, [b"one"])
    journal.add({"MESSAGE": "not of netd", "_HOSTNAME": "beta"})
    journal.write(box, f"{directory}/a.journal")
    assert " alpha " in client(box, "sessions", "-D", directory).stdout
    assert "Host: alpha\n" in client(box, "show", A, "-D", directory).stdout


def test_the_host_is_always_in_json(box, directory):
    journal = Journal(_HOSTNAME="alpha")
    journal.session(A, [b"one"])
    journal.data(B, b"without a beginning")
    journal.write(box, f"{directory}/a.journal")
    where = ["--json", "-D", directory]
    assert [s["host"] for s in objects(client(box, "sessions", *where))] == ["alpha"] * 2
    assert [e["host"] for e in objects(client(box, "show", A, *where))] == ["alpha"] * 3


def times_in_words():
    day, weekday = time.strftime("%Y-%m-%d"), time.strftime("%a")
    words = ["now", "today", "yesterday", "tomorrow", "-1h30min", "+2h", "2 days ago", "90 min ago",
             "-1.5d", "3h left", "-2000", f"@{int(time.time()) - 5000}", day, day[2:], "08:00",
             "08:00:30", f"{day} 08:10", f"{weekday} {day} 08:10", f"{day} 08:00:30.25",
             f"{day}T08:00", f"{day} 08:00Z", f"{day}T08:00:00Z", f"{day}T08:00:00.5+02:00"]
    zones = ["UTC", "+02:00", "-0330", "+01"]
    return words + [f"{word} {zone}" for zone in zones for word in ("today", f"{day} 08:00", "20:00")]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_times_are_those_of_journalctl(box, directory, zone):
    """If journalctl accepts the timestamp: on Debian 12 it does not accept all offsets."""
    now = time.time_ns() // 1000
    journal = Journal()
    for i in range(-4 * 48, 3 * 48):
        journal.connect(session_id(i), time=now + (1800 * i + 600) * SECOND,
                        __MONOTONIC_TIMESTAMP=str(10**9 + i * SECOND))
    journal.write(box, f"{directory}/a.journal")

    def theirs(*arguments):
        result = box.run("journalctl", "-q", "-D", directory, "-o", "cat", *arguments,
                         "--output-fields=NETD_SESSION_ID", env={"TZ": zone}, check=False)
        return result.stdout.split() if result.returncode == 0 else None

    compared = 0
    for word in times_in_words():
        for option in "--since", "--until":
            before = theirs(option, word)
            if before is not None:
                ours = lines(client(box, "sessions", "-q", "-D", directory, option, word,
                                    env={"TZ": zone}))
                # Time passes between the commands.
                assert ours == before or ours == theirs(option, word), (option, word)
                compared += 1
    assert compared >= 40


@pytest.mark.parametrize("address, expected", [
    ("fe80::1", [A, B]),
    ("fe80::1%eth0", [A]),
    ("[fe80:0::1%eth1]", [B]),
    ("fe80::1%eth", []),
    ("fe80::", []),
])
def test_link_local_peers(box, directory, address, expected):
    """The interfaces are those of the host of netd."""
    journal = Journal()
    journal.session(A, [], peer="[fe80::1%eth0]:4711")
    journal.session(B, [], peer="[fe80::1%eth1]:4711")
    journal.session(C, [], peer="[fe80::11]:4711")
    journal.write(box, f"{directory}/a.journal")
    result = client(box, "sessions", "-q", "-D", directory, "--peer", address)
    assert result.stdout.split() == expected


def test_no_session_matches(box, directory):
    three_sessions().write(box, f"{directory}/a.journal")
    for arguments in ["--peer", "192.0.2.2"], ["--since", "@1795334500"], ["--open"], ["-n", "0"]:
        failed(client(box, "sessions", "-D", directory, *arguments), 1,
               "no sessions in the journal match")


def test_sessions_in_several_files(box, directory):
    first, second = three_sessions(), Journal(start=START + 100 * SECOND)
    first.connect(session_id(4))
    first.write(box, f"{directory}/a.journal")
    second.disconnect(session_id(4), 0, 0)
    second.session(session_id(5), [b"x"])
    second.write(box, f"{directory}/b.journal")
    assert lines(client(box, "sessions", "-q", "-D", directory)) == [
        A, B, C, session_id(4), session_id(5)]


def test_sessions_with_the_same_start_are_sorted_by_id(box, directory):
    journal = Journal()
    for session in C, A, B:
        journal.connect(session, time=START)
    journal.write(box, f"{directory}/a.journal")
    assert lines(client(box, "sessions", "-q", "-D", directory)) == [A, B, C]


def test_the_last_sessions_with_missing_connect_events(box, directory):
    """Including those whose start is calculated or unknown."""
    journal = Journal(step=SECOND)
    journal.data(C, b"data only")
    journal.disconnect(B, 0, 0)
    journal.session(A, [b"x"])
    journal.write(box, f"{directory}/a.journal")
    for n, expected in (3, [C, B, A]), (2, [B, A]), (1, [A]):
        assert lines(client(box, "sessions", "-q", "-D", directory, "-n", n)) == expected


def test_invalid_events_are_ignored(box, directory):
    journal = three_sessions()
    journal.edge("connect", A)  # once more
    journal.edge("connect", session_id(4), NETD_EVENT="bogus")
    for bad in "", "x", A[:31], A.upper(), A + "0":
        journal.session(bad, [b"x"])
    journal.write(box, f"{directory}/a.journal")
    assert lines(client(box, "sessions", "-q", "-D", directory)) == [A, B, C]
    assert lines(client(box, "verify", "-D", directory))[-1] == "3 sessions: 3 ok"


def test_no_sessions_to_verify(box, directory):
    journal = Journal()
    journal.edge("refused", A, NETD_REASON="session-limit")
    journal.write(box, f"{directory}/a.journal")
    failed(client(box, "verify", "-D", directory), 1, "no sessions in the journal")


def test_show_without_a_connect_event(box, directory):
    journal = Journal()
    journal.data(A, b"x")
    journal.write(box, f"{directory}/a.journal")
    assert "    Begin: not in the journal" in lines(client(box, "show", "-D", directory, A))


def test_refused_clients_are_no_sessions(box, directory):
    journal = three_sessions()
    journal.edge("refused", "c4" + "0" * 30, NETD_REASON="session-limit")
    journal.write(box, f"{directory}/a.journal")
    assert lines(client(box, "sessions", "-q", "-D", directory)) == [A, B, C]
    assert lines(client(box, "show", "-D", directory, "c4"))[0].split()[1] == A
    failed(client(box, "show", "-D", directory, "c40"), 1, "no session begins with 'c40'")


def test_connect_events_that_were_rotated_away(box, directory):
    journal = Journal(step=SECOND)
    journal.data(A, b"late")
    journal.disconnect(A, 1, 5, duration=60 * SECOND)
    journal.data(B, b"still there")
    journal.session(C, [b"x"])
    journal.write(box, f"{directory}/a.journal")
    table = lines(client(box, "sessions", "-D", directory, "--utc"))
    assert re.fullmatch(rf"{B} +- +- +192\.0\.2\.1:4711 +- +- +unknown", table[1])
    assert re.fullmatch(rf"{A}  ~2026-11-22 07:59:02 +1min 0s  192\.0\.2\.1:4711 +1 +5  eof",
                        table[2])
    assert table[3].startswith(C)
    b, a, _ = objects(client(box, "sessions", "-D", directory, "--json"))
    assert (b["begin"], b["begin_logged"], b["state"]) == (None, False, "unknown")
    assert (a["begin"], a["begin_logged"]) == (START - 58 * SECOND, False)
    # The start of one is unknown, that of the other before --since.
    assert lines(client(box, "sessions", "-q", "-D", directory, "--since", f"@{START // SECOND}")
                 ) == [C]


def test_open_abandoned_and_unknown(netd):
    """According to the invocation of the unit, the boot, and the process."""
    box = netd.box
    netd.start()
    boot = box.run("cat", "/proc/sys/kernel/random/boot_id").stdout.strip().replace("-", "")
    machine = box.run("cat", "/etc/machine-id").stdout.strip()
    here = {"_BOOT_ID": boot, "_MACHINE_ID": machine, "_SYSTEMD_UNIT": "netd.service",
            "_SYSTEMD_INVOCATION_ID": netd.show("InvocationID")}
    rows = [
        ("open", {}),
        ("open", {"_PID": "4194000"}),  # another worker has been started since
        ("abandoned", {"_SYSTEMD_INVOCATION_ID": "0" * 32}),
        ("abandoned", {"_SYSTEMD_UNIT": "gone.service"}),
        ("abandoned", {"_BOOT_ID": BOOT}),
        ("unknown", {"_MACHINE_ID": "1" * 32}),
        # started in a login session
        ("open", {"_SYSTEMD_UNIT": "session-1.scope", "_PID": "1", "_COMM": "systemd"}),
        ("abandoned", {"_SYSTEMD_UNIT": "session-1.scope", "_PID": "1", "_COMM": "netd"}),
        ("abandoned", {"_SYSTEMD_UNIT": "session-1.scope", "_PID": "4194000"}),
        # from output = "export"
        ("unknown", {"_SYSTEMD_UNIT": "", "_PID": "", "_COMM": "", "_MACHINE_ID": ""}),
    ]
    journal = Journal()
    for number, (_, fields) in enumerate(rows):
        fields = here | fields
        for name in [name for name, value in fields.items() if not value]:
            del fields[name]
        keep = journal.fields
        journal.fields = {} if "_PID" in rows[number][1] and not rows[number][1]["_PID"] else keep
        journal.connect(session_id(number), **fields)
        journal.fields = keep
    directory = journal.write(box, "/var/tmp/journals/a.journal")
    try:
        found = objects(client(box, "sessions", "--json", "-D", directory))
        assert [s["state"] for s in found] == [state for state, _ in rows]
        still = lines(client(box, "sessions", "-q", "--open", "-D", directory))
        assert still == [session_id(n) for n, (state, _) in enumerate(rows) if state == "open"]
        netd.stop()
        found = objects(client(box, "sessions", "--json", "-D", directory, "-n", "9"))
        assert found[0]["state"] == "abandoned"
    finally:
        box.run("rm", "-r", directory)


def test_a_killed_netd_abandons_its_sessions(netd):
    netd.start(config="flush_timeout = 0;", dropin="[Service]\nRestart=no\n")
    with netd.connect() as s:
        s.sendall(b"hello\nthere")
        wait_for(lambda: netd.events(event="data"), "the record")
        (session,) = lines(client(netd.box, "sessions", "-q", "--open"))
        # At once: each waits for an end.
        shown, (out, status, err), quiet = together([
            lambda: client(netd.box, "show", session).stdout,
            lambda: cat(netd.box, session),
            lambda: cat(netd.box, "-q", session)])
        assert re.search(r"\n +End: open\n", shown)
        assert (out, status) == (b"hello\n", 0)
        assert err == f"netd-client: session {session} is open: this is what there is so far\n"
        assert quiet == (b"hello\n", 0, "")
        netd.box.run("systemctl", "kill", "-s", "KILL", "netd.service", check=False)
        wait_for(lambda: netd.show("ActiveState") == "failed", "systemd to notice")
        last = lines(client(netd.box, "sessions", "-n", "1"))[1]
        assert last.startswith(session) and last.endswith("  abandoned")
        out, status, err = cat(netd.box, session)
        assert (out, status) == (b"hello\n", 1)
        assert err == f"netd-client: session {session}: no end: more may be missing\n"


# --- Output ---


@pytest.mark.parametrize("columns, titles", [
    (200, ["SESSION", "BEGIN", "DURATION", "PEER", "RECORDS", "BYTES", "END"]),
    (80, ["SESSION", "BEGIN", "DURATION", "PEER", "RECORDS", "BYTES", "END"]),
    (60, ["SESSION", "BEGIN", "PEER", "BYTES", "END"]),
    (40, ["SESSION", "BEGIN", "END"]),
])
def test_the_table_fits_the_terminal(box, directory, columns, titles):
    three_sessions().write(box, f"{directory}/a.journal")
    shown = on_terminal(box, "sessions", "-D", directory, columns=columns, env={"NO_COLOR": "1"})
    assert shown.splitlines()[0].split() == titles
    assert all(len(line) <= columns for line in shown.splitlines())
    assert shown.splitlines()[1].split()[0] == (A if columns == 200 else A[:8])


def test_abbreviated_ids_are_unique(box, directory):
    journal = Journal()
    for last in "0123456789":
        journal.session("c4ca4238a0b92382" + last + "0" * 15, [b"x"])
    journal.write(box, f"{directory}/a.journal")
    shown = on_terminal(box, "sessions", "-D", directory, columns=60).splitlines()[1:]
    ids = [line.split()[0] for line in shown]
    assert {len(i) for i in ids} == {17} and len(set(ids)) == 10


def test_colour_only_where_it_is_wanted(box, directory):
    three_sessions().write(box, f"{directory}/a.journal")
    command = ["sessions", "-D", directory]
    assert "\x1b[" in on_terminal(box, *command)
    assert "\x1b" not in on_terminal(box, *command, env={"NO_COLOR": "1"})
    assert "\x1b" not in on_terminal(box, *command, env={"TERM": "dumb"})
    assert "\x1b[" in on_terminal(box, *command, env={"NO_COLOR": ""})
    for no in "0", "no", "False", "off":
        assert "\x1b" not in on_terminal(box, *command, env={"SYSTEMD_COLORS": no})
    for yes in "1", "yes", "TRUE", "16", "256", "24bit":
        for other in {"NO_COLOR": "1"}, {"TERM": "dumb"}:
            assert "\x1b[" in on_terminal(box, *command, env={"SYSTEMD_COLORS": yes} | other)
    assert "\x1b[" in client(box, *command, env={"SYSTEMD_COLORS": "1"}).stdout
    assert "\x1b" not in client(box, "--json", *command, env={"SYSTEMD_COLORS": "1"}).stdout
    assert "\x1b" not in client(box, *command, env={"TERM": "xterm"}).stdout


def test_the_pager(box, directory):
    three_sessions().write(box, f"{directory}/a.journal")
    pager, other = "sed s/^/paged:/", "sed s/^/other:/"
    for arguments in ["sessions"], ["show", A], ["verify"]:
        command = [*arguments, "-D", directory]
        shown = on_terminal(box, *command, env={"SYSTEMD_PAGER": pager, "PAGER": other})
        assert all(line.startswith("paged:") for line in shown.splitlines())
        for env in ({"SYSTEMD_PAGER": ""}, {"SYSTEMD_PAGER": "cat"},
                    {"SYSTEMD_PAGER": pager, "TERM": "dumb"}):
            assert "paged:" not in on_terminal(box, *command, env=env)
        assert "paged:" not in on_terminal(box, *command, "--no-pager",
                                           env={"SYSTEMD_PAGER": pager})
        assert "paged:" not in client(box, *command, env={"SYSTEMD_PAGER": pager}).stdout
    for command in ["cat", A, "-D", directory], ["sessions", "--json", "-D", directory]:
        assert "paged:" not in on_terminal(box, *command, env={"SYSTEMD_PAGER": pager})
    echo = {"SYSTEMD_PAGER": "echo $LESS $LESSSECURE; cat >/dev/null"}
    for env, shown in (({}, "FRSXMK 1\n"), ({"SYSTEMD_LESS": "-S"}, "-S 1\n"),
                       ({"SYSTEMD_PAGERSECURE": "no"}, "FRSXMK 0\n"),
                       ({"SYSTEMD_PAGERSECURE": "x", "LESSSECURE": "0"}, "FRSXMK 1\n")):
        assert on_terminal(box, "sessions", "-D", directory, env=echo | env) == shown


def test_the_default_pager(box, directory):
    """PAGER, or less, more or cat."""
    three_sessions().write(box, f"{directory}/a.journal")
    unset = ["env", "-u", "SYSTEMD_PAGER", "-u", "PAGER"]
    command = ["show", A, "-D", directory]
    shown = on_terminal(box, *command, program=[*unset, "PAGER=sed s/^/paged:/", "netd-client"])
    assert all(line.startswith("paged:") for line in shown.splitlines())
    box.sh("mkdir /run/bin; ln -s /bin/sh /bin/cat /run/bin")  # neither less nor more
    shown = on_terminal(box, *command,
                        program=[*unset, "PATH=/run/bin", "/usr/local/bin/netd-client"])
    box.run("rm", "-r", "/run/bin")
    assert f"  Session: {A}\n" in shown


def test_the_width_of_a_terminal(box, directory):
    """COLUMNS, the width of the terminal, or 80."""
    three_sessions().write(box, f"{directory}/a.journal")
    command = ["sessions", "-D", directory]
    narrow = on_terminal(box, *command, columns=60)
    assert on_terminal(box, *command, columns=200, env={"COLUMNS": "60"}) == narrow
    for bad in "", "0", "x", "99999":
        assert on_terminal(box, *command, columns=60, env={"COLUMNS": bad}) == narrow
    assert on_terminal(box, *command, columns=0) == on_terminal(box, *command, columns=80) != narrow


def test_no_control_byte_reaches_a_terminal(netd):
    netd.start()
    evil = bytes(range(256)).replace(b"\n", b"") + "\u202e\u2066\u009b\u2028gr\u00fc\u00df".encode()
    session = sent(netd, evil + b"\n")
    for env in {}, {"LANG": "C"}:
        for arguments in ["show", session], ["follow", session], ["show", "--json", session]:
            shown = netd.box.run("netd-client", *arguments, env=env, text=False).stdout
            assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", shown.replace(b"\n", b""))
            for forbidden in "\u202e", "\u2066", "\u009b":
                assert forbidden.encode() not in shown
            if "--json" not in arguments:
                assert ("gr\u00fc\u00df".encode() in shown) == (not env)
                assert env == {} or shown.isascii()


def test_forged_values_are_escaped_everywhere(box, directory):
    """Any process that may log can write NETD fields."""
    evil = "\x1b[31m\nx"
    journal = Journal()
    journal.connect(A, peer=f"{evil}:1", NETD_LOCAL=evil)
    journal.data(A, MESSAGE=evil.encode(), NETD_TERMINATOR=evil.encode())
    journal.edge("disconnect", A, peer=f"{evil}:1", NETD_REASON=evil, NETD_RECORDS=evil,
                 NETD_BYTES=evil, NETD_DURATION_USEC=evil, ERRNO=evil)
    journal.write(box, f"{directory}/a.journal")
    for command in "sessions", "show", "follow", "verify":
        arguments = [A] if command != "sessions" else []
        shown = client(box, command, "-D", directory, *arguments).stdout
        assert "\x1b" not in shown and A[:8] in shown + A
        for line in client(box, command, "--json", "-D", directory, *arguments).stdout.splitlines():
            json.loads(line)


# --- show ---


def test_show(box, directory):
    journal = Journal(step=SECOND)
    journal.session(A, [b"plain", (b"windows", "crlf"), (b"\x1b[31mred", None),
                        (b"a" * 10, "continued"), (b"rest", "none")])
    journal.write(box, f"{directory}/a.journal")
    assert client(box, "show", "--utc", "-D", directory, A[:4]).stdout == f"""\
  Session: {A}
     Peer: 192.0.2.1:4711
    Local: 127.0.0.1:3000
    Begin: 2026-11-22 08:00:01 UTC
      End: 2026-11-22 08:00:07 UTC
   Reason: eof
 Duration: 1.500s
    Total: 4 records, 38 bytes

2026-11-22 08:00:01.000000 connect         192.0.2.1:4711 to 127.0.0.1:3000
2026-11-22 08:00:02.000000 data            plain
2026-11-22 08:00:03.000000 data crlf       windows
2026-11-22 08:00:04.000000 data            \\x1b[31mred
2026-11-22 08:00:05.000000 data continued  aaaaaaaaaa
2026-11-22 08:00:06.000000 data none       rest
2026-11-22 08:00:07.000000 disconnect      eof, 4 records, 38 bytes, 1.500s
"""


def failed_session():
    """A session with all fields."""
    journal = Journal(step=SECOND)
    journal.connect(A)
    journal.data(A, b"gr\xc3\xbc\xff\0", "crlf", NETD_RESENT="0", NETD_FRAME_LENGTH="9")
    journal.disconnect(A, 1, 10, reason="error", ERRNO="104")
    return journal


def piece_of_relp():
    journal = Journal(step=SECOND)
    journal.connect(D)
    journal.data(D, b"cut", "none", NETD_FRAME_LENGTH="9", NETD_FRAMING="relp")
    journal.disconnect(D, 1, 3)
    return journal


def test_show_as_json(box, directory):
    failed_session().write(box, f"{directory}/a.journal")
    connect, data, disconnect = objects(client(box, "show", "--json", "-D", directory, A))
    common = {"session": A, "peer": "192.0.2.1:4711"}
    assert connect == common | {"time": START + SECOND, "event": "connect",
                                "local": "127.0.0.1:3000", "message": "192.0.2.1:4711 connect"}
    assert data == common | {"time": START + 2 * SECOND, "event": "data",
                             "message": "gr\\xc3\\xbc\\xff\\x00", "terminator": "crlf",
                             "data": list(b"gr\xc3\xbc\xff\0"), "resent": 0, "frame_length": 9}
    assert disconnect["errno"] == 104 and disconnect["duration"] == 1_500_000
    text = client(box, "show", "-D", directory, A).stdout
    assert "data crlf resent gr\\xc3" in text
    assert "error (Connection reset by peer), 1 record, 10 bytes" in text


def test_the_record_from_json(box, directory):
    """`.data // .message`, as in the manual."""
    assert ".data // .message" in (SOURCE / "man/netd-client.1").read_text(encoding="utf-8")
    records = [b"plain", b"gr\xc3\xbc\xc3\x9f", b"\x1b[31m\xff", b"", b"\\x1b"]
    journal = Journal()
    journal.connect(A)
    journal.data(A, records[0])
    journal.data(A, MESSAGE=records[1])  # valid UTF-8
    for record in records[2:]:
        journal.data(A, record)
    journal.write(box, f"{directory}/a.journal")
    events = objects(client(box, "show", "--json", "-D", directory, A))
    values = [e.get("data") or e["message"] for e in events if e["event"] == "data"]
    assert [v.encode() if isinstance(v, str) else bytes(v) for v in values] == records


def test_numbers_are_exact(box, directory):
    """Up to 2^64 - 1; any process that may log can write such numbers."""
    most = 2**64 - 1
    for number in 2**53 + 1, 2**63 - 1, 2**63, most:
        journal = Journal()
        journal.connect(A)
        journal.data(A, b"x", NETD_RESENT=str(most - 2))
        journal.disconnect(A, number, number, duration=number, ERRNO=str(number))
        journal.write(box, f"{directory}/a.journal")
        session, = objects(client(box, "sessions", "--json", "-D", directory))
        _, data, event = objects(client(box, "show", "--json", "-D", directory, A))
        for object_ in session, event:
            assert (object_["records"], object_["bytes"], object_["duration"]) == (number,) * 3
        assert (data["resent"], event["errno"]) == (most - 2, number)
        verdict, _ = objects(client(box, "verify", "--json", "-D", directory), 1)
        assert (verdict["expected_records"], verdict["expected_bytes"]) == (number, number)
        assert (verdict["records"], verdict["bytes"], verdict["verdict"]) == (1, 2, "gap")
        assert lines(client(box, "verify", "-D", directory), 1)[0] == (
            f"{A}  gap           1 of {number} records, 2 of {number} bytes")
        box.run("rm", "-r", directory)


def json_keys(value):
    """The keys of all objects in VALUE."""
    if isinstance(value, dict):
        return set(value).union(*map(json_keys, value.values()))
    return set().union(*map(json_keys, value)) if isinstance(value, list) else set()


def test_the_manual_lists_the_keys_of_json(box, directory):
    failed_session().write(box, f"{directory}/a.journal")
    two_syslog_sessions()[0].write(box, f"{directory}/b.journal")
    piece_of_relp().write(box, f"{directory}/c.journal")
    keys = json_keys([objects(client(box, *command, "--json", "-D", directory))
                      for command in (["sessions"], ["show", A], ["show", D], ["follow", A],
                                      ["verify"])])
    section = (SOURCE / "man/netd-client.1").read_text(encoding="utf-8")
    section = re.search(r"^\.Ss JSON\n(.*?)^The object of\n", section, re.M | re.S)[1]
    named = [line.split()[1:] for line in section.replace(".It Va", ".Va").splitlines()
             if line.startswith(".Va ")]
    verdicts = {"ok", "repeats", "gap", "surplus", "no-beginning", "no-end", "open"}
    assert ({word for words in named for word in words} - {",", "Va"}) | verdicts == keys


# --- Session arguments ---


def test_a_unique_prefix_names_a_session(box, directory):
    three_sessions().write(box, f"{directory}/a.journal")
    for name in A, A[:31], "c4", "C4CA":
        assert cat(box, "-D", directory, name)[0] == b"one\ntwo\n"
    wrong = [(command, name) for command in ("show", "cat", "follow", "verify")
             for name in ("0", A[:-1] + "0", A + "0", "", "xyz", "c4%", "*")]
    # At once: each waits for an id that is not there yet.
    results = together([lambda c=command, n=name: client(box, c, "-D", directory, n)
                        for command, name in wrong])
    for (_, name), result in zip(wrong, results):
        failed(result, 1, f"no session begins with '{name}'")


@pytest.mark.parametrize("command", ["show", "cat", "follow", "verify"])
def test_an_ambiguous_prefix_lists_the_sessions(box, directory, command):
    journal = Journal(step=SECOND)
    journal.data("c0" * 16, b"without a beginning")
    journal.session(B, [b"two"], peer="\x1b[31m")
    journal.session(A, [b"one"])
    journal.edge("refused", "c1" * 16, NETD_REASON="denied")
    journal.session(D, [b"four"])
    journal.write(box, f"{directory}/a.journal")
    result = client(box, command, "-D", directory, "C", env={"TZ": "CET-1"})
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"""\
netd-client: 3 sessions begin with 'C':
  {"c0" * 16}  -                    192.0.2.1:4711
  {B}  2026-11-22 09:00:02  \\x1b[31m
  {A}  2026-11-22 09:00:05  192.0.2.1:4711
"""
    if command in ("show", "follow"):
        shown = client(box, command, "-D", directory, "--utc", "c").stderr
        assert f"\n  {A}  2026-11-22 08:00:05 UTC  192.0.2.1:4711\n" in shown


def test_verify_continues_after_an_unknown_session(box, directory):
    three_sessions().write(box, f"{directory}/a.journal")
    result = client(box, "verify", "-D", directory, "c4", "0", "c8")
    assert result.returncode == 1
    assert result.stderr == "netd-client: no session begins with '0'\n"
    assert result.stdout.splitlines()[-1] == "2 sessions: 2 ok"


@contextlib.contextmanager
def journald_stopped(box):
    """Entries stay in the socket of journald."""
    box.run("systemctl", "kill", "-s", "STOP", "systemd-journald.service")
    try:
        yield
    finally:
        box.run("systemctl", "kill", "-s", "CONT", "systemd-journald.service")


def waits_for_the_journal(box, *command):
    """Starts COMMAND, and returns its process when it waits for the journal or has exited."""
    process = box.popen("netd-client", *command, stdout=-1, stderr=-1, text=True)
    watching = "ls -l /proc/$(pgrep -x netd-client)/fd 2>&1 | grep -c inotify || true"
    wait_for(lambda: process.poll() is not None or box.sh(watching) != "0\n",
             "the command to watch the journal")
    return process


@pytest.mark.parametrize("command", ["show", "cat", "follow", "verify"])
def test_a_session_that_is_not_stored_yet(netd, command):
    """Such as directly after the receipt."""
    netd.start()
    with journald_stopped(netd.box):
        session = netd.send(b"hello\n").session
        process = waits_for_the_journal(netd.box, command, session)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert {"show": " 1 record, 6 bytes", "cat": "hello\n", "follow": " 1 record, 6 bytes",
            "verify": "1 session: 1 ok\n"}[command] in out


@pytest.mark.parametrize("command", ["show", "cat", "verify"])
def test_an_end_that_is_not_stored_yet(netd, command):
    netd.start()
    with netd.connect() as s:
        s.sendall(b"hello\n")
        data = wait_for(lambda: netd.events(event="data"), "the record")[0]
        with journald_stopped(netd.box):
            s.shutdown(1)
            assert netd.receipt(s).bytes == 6
            process = waits_for_the_journal(netd.box, command, data.text("NETD_SESSION_ID"))
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert {"show": "\n   Reason: eof\n", "cat": "hello\n",
            "verify": "1 session: 1 ok\n"}[command] in out


def test_a_session_that_is_open_stays_open(netd):
    """The wait for its end is limited."""
    netd.start()
    with netd.connect() as s:
        s.sendall(b"hello\n")
        data = wait_for(lambda: netd.events(event="data"), "the record")[0]
        session = data.text("NETD_SESSION_ID")
        assert lines(client(netd.box, "verify", session, session), 1)[-1] == "2 sessions: 2 open"
        assert "\n      End: open\n" in client(netd.box, "show", session).stdout


# --- cat ---


@pytest.mark.parametrize("size, kind", [(5_000_000, "binary"), (500_000, "text")])
def test_round_trip(netd, size, kind):
    generator = random.Random(f"{size} {kind}")
    data = generator.randbytes(size)
    if kind == "text":
        data = bytes(b % 16 + 0x30 if b % 16 else 10 for b in data)
    netd.start()
    session = sent(netd, data)
    received, status, err = cat(netd.box, session)
    assert (status, err) == (0, "")
    assert hashlib.sha256(received).hexdigest() == hashlib.sha256(data).hexdigest()
    assert client(netd.box, "verify", "-q", session).returncode == 0


def test_large_pieces(netd):
    """Above the data threshold of sd_journal_set_data_threshold(3), and compressed."""
    netd.start(config="max_record = 131072;")
    for data in b"x" * 300_000 + b"\n", b"\0" * 300_000:
        assert cat(netd.box, sent(netd, data)) == (data, 0, "")


def test_cat_into_a_closed_pipe(box, directory):
    journal = Journal()
    journal.session(A, [b"x" * 1000] * 2000)
    journal.write(box, f"{directory}/a.journal")
    script = f"set +e; netd-client -D {directory} cat {A} | head -c1; echo ${{PIPESTATUS[0]}}"
    assert int(box.sh(script).lstrip("x")) in (1, 128 + signal.SIGPIPE)
    result = box.run("bash", "-c", f"netd-client -D {directory} cat {A} >/dev/full", check=False)
    failed(result, 1, "standard output: No space left on device")


# --- verify, and missing events ---


def damaged():
    """Sessions with missing or repeated events, and the verdict on each."""
    def whole(j, s):
        return j.session(s, [b"one", b"two"])

    def gap(j, s):
        j.connect(s)
        j.data(s, b"two")
        j.disconnect(s, 2, 8)
        return b"two\n"

    def gap_at_the_end(j, s):
        """The last piece of a split record, which is empty."""
        j.connect(s)
        j.data(s, b"piece", "continued")
        j.disconnect(s, 1, 5)
        return b"piece"

    def surplus(j, s):
        j.connect(s)
        j.data(s, b"one")
        j.data(s, b"one")
        j.disconnect(s, 1, 4)
        return b"one\none\n"

    def missing_connect_and_data(j, s):
        j.data(s, b"two")
        j.disconnect(s, 2, 8)
        return b"two\n"

    def missing_connect(j, s):
        j.data(s, b"two")
        j.disconnect(s, 1, 4)
        return b"two\n"

    def no_end(j, s):
        j.connect(s)
        j.data(s, b"one")
        return b"one\n"

    def repeats(j, s):
        j.connect(s)
        j.data(s, b"one")
        j.data(s, b"two")
        j.data(s, b"two", NETD_RESENT="4")
        j.data(s, b"three", NETD_RESENT="8")
        j.disconnect(s, 3, 14)
        return b"one\ntwo\nthree\n"

    def resent_for_nothing(j, s):
        j.connect(s)
        j.data(s, b"same")
        j.data(s, b"same", NETD_RESENT="5")
        j.disconnect(s, 2, 10)
        return b"same\nsame\n"

    def resent_for_nothing_without_an_end(j, s):
        """Only the offset distinguishes it from a repeat."""
        j.connect(s)
        j.data(s, b"same")
        j.data(s, b"same", NETD_RESENT="5")
        return b"same\nsame\n"

    def last_piece_twice(j, s):
        j.connect(s)
        j.data(s, b"piece", "continued")
        j.data(s, b"", "none")
        j.data(s, b"piece", "continued", NETD_RESENT="0")
        j.data(s, b"", "none", NETD_RESENT="5")
        j.disconnect(s, 1, 5)
        return b"piece"

    def cut_elsewhere(j, s):
        j.connect(s)
        j.data(s, b"long rec", "continued")
        j.data(s, b"long record", "crlf", NETD_RESENT="0")
        j.disconnect(s, 1, 13)
        return b"long record\r\n"

    def crash_while_repeating(j, s):
        j.connect(s)
        for line in b"one", b"two", b"three":
            j.data(s, line)
        j.data(s, b"two", NETD_RESENT="4")
        for line, offset in (b"two", 4), (b"three", 8), (b"four", 14):
            j.data(s, line, NETD_RESENT=str(offset))
        j.disconnect(s, 4, 19)
        return b"one\ntwo\nthree\nfour\n"

    def repeats_behind_a_gap(j, s):
        j.connect(s)
        j.data(s, b"one")
        for _ in range(2):
            j.data(s, b"three", NETD_RESENT="8")
        j.disconnect(s, 3, 14)
        return b"one\nthree\n"

    return [
        (whole, "ok"), (gap, "gap"), (gap_at_the_end, "gap"), (surplus, "surplus"),
        (missing_connect_and_data, "no-beginning"), (missing_connect, "no-beginning"),
        (no_end, "no-end"),
        (repeats, "repeats"), (resent_for_nothing, "ok"),
        (resent_for_nothing_without_an_end, "no-end"), (last_piece_twice, "repeats"),
        (cut_elsewhere, "repeats"), (crash_while_repeating, "repeats"),
        (repeats_behind_a_gap, "gap"),
    ]


def test_verify_and_cat_on_damaged_sessions(box, directory):
    machine = box.run("cat", "/etc/machine-id").stdout.strip()
    journal = Journal(_MACHINE_ID=machine)  # of another boot
    data = [make(journal, session_id(n)) for n, (make, _) in enumerate(damaged())]
    journal.write(box, f"{directory}/a.journal")
    for n, (make, word) in enumerate(damaged()):
        good = word in ("ok", "repeats")
        result = client(box, "verify", "-D", directory, session_id(n))
        assert result.stdout.split()[:2] == [session_id(n), word], make
        assert result.stdout.splitlines()[1] == f"1 session: 1 {word}", make
        assert result.returncode == (0 if good else 1), make
        received, status, err = cat(box, "-D", directory, session_id(n))
        assert received == data[n], make
        assert (status, err.count("\n")) == ((0, 0) if good or make.__name__ == "missing_connect"
                                             else (1, 1)), make
    result = client(box, "verify", "-D", directory)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == (
        "14 sessions: 2 ok, 4 repeats, 3 gap, 1 surplus, 2 no-beginning, 2 no-end")


def test_verify_skips_sessions_of_other_hosts(box, directory):
    journal = Journal(_MACHINE_ID="1" * 32)
    journal.connect(A)
    journal.data(A, b"more may come")
    journal.connect(B)
    journal.data(B, b"one")
    journal.disconnect(B, 1, 4)
    journal.write(box, f"{directory}/a.journal")
    result = client(box, "verify", "-D", directory)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "1 session: 1 ok")
    assert result.stderr == (
        "netd-client: 1 session without an end not checked: may be open on another host\n")
    assert client(box, "verify", "-q", "-D", directory).stderr == ""
    assert client(box, "verify", "-D", directory, A).stdout.split()[1] == "no-end"


def test_verify_the_sessions_of_a_listener(box, directory):
    journal = sessions_of_listeners()
    journal.connect(session_id(5), NETD_LISTENER="relay")
    journal.disconnect(session_id(5), 1, 1, NETD_LISTENER="relay")
    journal.write(box, f"{directory}/a.journal")
    *shown, summary = lines(client(box, "verify", "-D", directory, "--listener", "devices"))
    assert {line.split()[0] for line in shown} == {A, C} and summary == "2 sessions: 2 ok"
    *shown, summary = lines(client(box, "verify", "-D", directory, "--listener", "relay"), 1)
    assert {line.split()[0] for line in shown} == {B, session_id(5)}
    assert summary == "2 sessions: 1 ok, 1 gap"
    failed(client(box, "verify", "-D", directory, "--listener", "x"), 1,
           "no sessions in the journal match")


def test_output_for_a_gap(box, directory):
    journal = Journal()
    journal.connect(A)
    journal.data(A, b"two")
    journal.disconnect(A, 2, 8)
    journal.write(box, f"{directory}/a.journal")
    assert lines(client(box, "verify", "-D", directory), 1) == [
        f"{A}  gap           1 of 2 records, 4 of 8 bytes", "1 session: 1 gap"]
    assert cat(box, "-D", directory, A) == (b"two\n", 1, (
        f"netd-client: session {A}: gap: 1 of 2 records, 4 of 8 bytes are in the journal\n"))
    one, summary = objects(client(box, "verify", "--json", "-D", directory), 1)
    assert one == {"session": A, "verdict": "gap", "holds": False, "records": 1, "bytes": 4,
                   "repeats": 0, "expected_records": 2, "expected_bytes": 8}
    assert summary["summary"]["sessions"] == summary["summary"]["gap"] == 1
    assert lines(client(box, "verify", "-q", "-D", directory), 1) == []


def test_verify_reports_a_rate_limit(netd):
    netd.start(dropin="[Service]\nLogRateLimitIntervalSec=1h\nLogRateLimitBurst=50\n")
    receipt = netd.send(b"line\n" * 5000)
    assert receipt.records == 5000
    netd.box.run("journalctl", "--sync")
    result = client(netd.box, "verify", receipt.session)
    assert result.returncode == 1  # the disconnect event exceeds the limit, too
    assert result.stdout.split()[1] in ("gap", "no-end", "open")


def test_a_gap_caused_by_journald(netd):
    """Dropped data events: the disconnect event is logged in the next interval of the limit."""
    # Resets the limit, which another test may have reached: the connect event must be logged.
    netd.box.run("systemctl", "restart", "systemd-journald.service")
    netd.start(dropin="[Service]\nLogRateLimitIntervalSec=2s\nLogRateLimitBurst=50\n")
    with netd.connect() as s:
        s.sendall(b"line\n" * 5000)
        (session,) = wait_for(lambda: client(netd.box, "sessions", "-q", "--open").stdout.split(),
                              "the session")

        def quiet():
            before = len(netd.events(event="data"))
            s.sendall(b"later\n")
            return len(netd.events(event="data")) > before

        wait_for(quiet, "the limit to be over")
        s.shutdown(1)
        receipt = netd.receipt(s)
    netd.box.run("journalctl", "--sync")
    assert client(netd.box, "verify", session).stdout.split()[1] == "gap"
    received, status, err = cat(netd.box, session)
    assert status == 1 and 0 < len(received) < receipt.bytes
    assert f"session {session}: gap: " in err


def test_crashes_while_sending(netd):
    """Workers killed under load: the session is complete, without repeats."""
    netd.start()
    data = b"".join(b"line %d\n" % (n % 7) for n in range(100_000))
    with netd.connect(timeout=120) as s:
        s.sendall(data[:1000])
        (session,) = wait_for(lambda: client(netd.box, "sessions", "-q", "--open").stdout.split(),
                              "the session")
        for part in range(5):
            s.sendall(data[1000 + part * 100_000:1000 + (part + 1) * 100_000])
            worker = netd.box.run("pgrep", "-P", str(netd.pid)).stdout.split()
            netd.box.run("kill", "-9", *worker)
            wait_for(lambda old=worker: netd.box.run("pgrep", "-P", str(netd.pid), check=False)
                     .stdout.split() not in ([], old), "another worker")
        s.sendall(data[1000 + 5 * 100_000:])
        s.shutdown(1)
        receipt = netd.receipt(s)
    assert receipt.bytes == len(data) and receipt.session == session
    netd.box.run("journalctl", "--sync")
    result = client(netd.box, "verify", session)
    assert (result.returncode, result.stdout.split()[1] in ("ok", "repeats")) == (0, True), result
    assert cat(netd.box, session) == (data, 0, "")


# --- follow ---


@contextlib.contextmanager
def following(box, *arguments):
    """The running command."""
    with box.popen("netd-client", "follow", *arguments, stdout=-1, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_follow_across_rotation(netd):
    netd.start()
    session = sent(netd, b"before\n")
    with following(netd.box, "--json", "-n", "1") as process:
        first = json.loads(process.stdout.readline())
        assert (first["session"], first["event"]) == (session, "disconnect")
        for n in range(3):
            session = netd.send(b"line %d\n" % n).session
            events = [json.loads(process.stdout.readline()) for _ in range(3)]
            assert [e["event"] for e in events] == ["connect", "data", "disconnect"]
            assert {e["session"] for e in events} == {session}
            assert events[1]["message"] == f"line {n}"
            netd.box.run("journalctl", "--rotate")
        assert process.poll() is None


def test_follow_without_notifications(netd):
    """inotify(7) may say nothing of an entry that was appended."""
    netd.start()
    session = sent(netd, b"before\n")
    command = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=inotify_add_watch:retval=1",
               "netd-client", "follow", "--json", "-n", "1"]
    with netd.box.popen(*command, stdin=-3, stdout=-1, bufsize=0) as process:
        assert json.loads(process.stdout.readline())["session"] == session
        for _ in range(3):  # the first may be there before it waits
            session = netd.send(b"one\n").session
            shown = b""
            while shown.count(session.encode()) < 3:
                assert select.select([process.stdout], [], [], 10)[0]
                shown += os.read(process.stdout.fileno(), 65536)
        process.kill()


def test_follow_begins_with_the_last_events(netd):
    netd.start()
    session = sent(netd, b"".join(b"%d\n" % n for n in range(20)))
    for arguments, expected in (["-n", "3"], 3), ([], 10), (["-n", "22"], 22), (["-n", "100"], 22):
        shown = lines(client(netd.box, "follow", *arguments, session))
        assert len(shown) == expected
        assert shown[-1].split()[2] == "disconnect"
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} data +19$", shown[-2])
    with following(netd.box, "-n", "1") as process:
        assert process.stdout.readline().split()[2:4] == [session[:8], "disconnect"]


def test_follow_a_session_to_its_end(netd):
    netd.start()
    with netd.connect() as s, netd.connect() as other:
        s.sendall(b"first\n")
        data = wait_for(lambda: netd.events(event="data"), "the first record")[0]
        session = data.text("NETD_SESSION_ID")
        with following(netd.box, "--json", session) as process:
            events = [json.loads(process.stdout.readline()) for _ in range(2)]
            assert [e["event"] for e in events] == ["connect", "data"]
            other.sendall(b"not of interest\n")
            s.sendall(b"second\n")
            assert json.loads(process.stdout.readline())["message"] == "second"
            s.close()
            assert json.loads(process.stdout.readline())["event"] == "disconnect"
            assert process.stdout.read() == "" and process.wait(30) == 0


def test_follow_a_session_that_has_ended(box, directory):
    """No more events will follow."""
    journal = Journal(_BOOT_ID=this_boot(box), _PID="1", _COMM="gone")
    journal.session(A, [b"one"])
    abandoned = session_id(4)
    journal.connect(abandoned)
    journal.write(box, f"{directory}/a.journal")
    assert lines(client(box, "follow", "-D", directory, "-n", "0", A)) == []
    result = client(box, "follow", "-D", directory, abandoned)
    assert (result.returncode, result.stdout.split()[2]) == (0, "connect")
    assert result.stderr == (f"netd-client: session {abandoned} was abandoned: netd is gone and "
                             "will not log its end\n")
    assert len(lines(client(box, "follow", "-q", "-D", directory, abandoned))) == 1


def test_follow_ends_when_its_output_is_closed(box, directory):
    three_sessions().write(box, f"{directory}/a.journal")
    with following(box, "-D", directory) as process:
        assert process.stdout.readline()
        assert process.poll() is None
        process.stdout.close()
        assert process.wait(30) == 0


def followed(box, count, *arguments):
    """The messages of the first COUNT events."""
    with following(box, "--json", *arguments) as process:
        return [json.loads(process.stdout.readline())["message"] for _ in range(count)]


@pytest.mark.parametrize("arguments, expected", [
    (["--peer", "192.0.2.10"], ["192.0.2.10:4712 connect", "two", "192.0.2.10:4712 disconnect"]),
    (["--peer", "unix", "-n", "2"], ["three", "unix disconnect"]),
    (["--peer", "2001:db8::1", "-n", "1"], ["[2001:db8::1]:4713 disconnect"]),
    (["--listener", "relay", "-n", "2"], ["two", "192.0.2.10:4712 disconnect"]),
    (["--listener", "devices", "-n", "4"],
     ["192.0.2.1:4711 disconnect", "unix connect", "three", "unix disconnect"]),
    (["--listener", "devices", "--peer", "192.0.2.1"],
     ["192.0.2.1:4711 connect", "one", "192.0.2.1:4711 disconnect"]),
])
def test_follow_begins_with_the_last_events_of_a_peer_or_listener(box, directory, arguments,
                                                                  expected):
    sessions_of_listeners().write(box, f"{directory}/a.journal")
    assert followed(box, len(expected), "-D", directory, *arguments) == expected


def test_follow_new_events_of_a_peer_or_listener(box):
    """Of the journal of this machine, to which the events of a made-up netd are added."""
    def log(session, peer, listener):
        box.run("logger", "--journald", text=True, input="\n".join([
            f"MESSAGE={session}", f"MESSAGE_ID={IDS['connect']}", "NETD_EVENT=connect",
            f"NETD_SESSION_ID={session}", f"NETD_PEER={peer}", f"NETD_LISTENER={listener}", ""]))

    wanted = ["--peer", "192.0.2.1"], ["--listener", "devices"], [
        "--peer", "192.0.2.1", "--listener", "devices"]
    log(session_id(9), "192.0.2.1:1", "devices")
    box.run("journalctl", "--sync")
    with contextlib.ExitStack() as stack:
        shown = [stack.enter_context(following(box, "--json", "-n", "1", *w)) for w in wanted]
        for process in shown:
            assert json.loads(process.stdout.readline())["session"] == session_id(9)
        log(A, "192.0.2.10:1", "relay")
        log(B, "192.0.2.1:1", "relay")
        log(C, "192.0.2.10:1", "devices")
        log(D, "192.0.2.1:1", "devices")
        for process, expected in zip(shown, ([B, D], [C, D], [D])):
            for session in expected:
                assert json.loads(process.stdout.readline())["session"] == session


def test_follow_refused_clients_of_a_peer(box, directory):
    journal = Journal(NETD_LISTENER="relay")
    journal.edge("refused", A, NETD_REASON="denied")
    journal.edge("refused", B, peer="192.0.2.2:1", NETD_REASON="denied")
    journal.write(box, f"{directory}/a.journal")
    assert followed(box, 1, "-D", directory, "--peer", "192.0.2.2", "--listener", "relay") == [
        "192.0.2.2:1 refused"]


# --- Journal files and namespaces ---


def test_namespaces(netd):
    sessions = {}
    for space in "one", "two", None:
        dropin = f"[Service]\nLogNamespace=netd{space}\n" if space else None
        netd.start(dropin=dropin)
        sessions[space] = sent(netd, f"{space}\n".encode())
        if space:
            netd.box.run("journalctl", f"--namespace=netd{space}", "--sync")
    ids = {name: client(netd.box, "sessions", "-q", *arguments).stdout.split()
           for name, arguments in {
               None: [], "": ["--namespace="], "one": ["--namespace", "netdone"], "*": ["--namespace=*"],
               "+": ["--namespace", "+netdtwo"]}.items()}
    assert ids["one"][-1] == sessions["one"] and sessions["two"] not in ids["one"]
    assert sessions[None] in ids[None] and sessions["one"] not in ids[None]
    assert ids[""] == ids[None]
    assert set(sessions.values()) <= set(ids["*"])
    assert sessions["one"] not in ids["+"]
    assert {sessions["two"], sessions[None]} <= set(ids["+"])
    assert cat(netd.box, "--namespace", "netdtwo", sessions["two"]) == (b"two\n", 0, "")
    elsewhere = ["--namespace", "netdtwo"]
    assert " data            two\n" in client(netd.box, "show", *elsewhere, sessions["two"]).stdout
    assert lines(client(netd.box, "verify", *elsewhere, sessions["two"]))[-1] == "1 session: 1 ok"
    with following(netd.box, *elsewhere, "--json", "-n", "2") as process:
        said = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [s["event"] for s in said] == ["data", "disconnect"]
    assert {s["session"] for s in said} == {sessions["two"]}


def test_no_journal_in_the_given_place(box, directory):
    empty = f"{directory}/empty"
    box.run("mkdir", "-p", empty)
    for command in ["sessions"], ["show", A], ["cat", A], ["follow"], ["verify"]:
        failed(client(box, *command, "-D", empty), 3, f"{empty}: no journal to read")
        failed(client(box, *command, "-D", f"{directory}/gone"), 3,
               f"{directory}/gone: No such file or directory")
        failed(client(box, *command, "--namespace", "gone"), 3,
               "no journal to read in namespace 'gone'")
    three_sessions().write(box, f"{directory}/a.journal")
    failed(client(box, "sessions", "-D", f"{directory}/a.journal"), 3,
           f"{directory}/a.journal: Not a directory")


def test_no_journal(box):
    hidden = "mount -t tmpfs none /var/log/journal && mount -t tmpfs none /run/log && exec \"$@\""
    for command in ["sessions"], ["verify"], ["show", A]:
        failed(box.run("unshare", "-m", "sh", "-c", hidden, "sh", "netd-client", *command,
                       check=False), 3, "no journal to read")


def test_follow_cannot_write(box, directory):
    """It exits, although more entries may follow."""
    journal = three_sessions()
    journal.edge("refused", session_id(4), NETD_REASON="session-limit")
    journal.write(box, f"{directory}/a.journal")
    failed(box.run("sh", "-c", f"exec netd-client follow -D {directory} >/dev/full", check=False),
           1, "standard output: No space left on device")


def test_follow_shows_refused_clients(box, directory):
    journal = Journal()
    journal.edge("refused", A, NETD_REASON="address-limit")
    journal.write(box, f"{directory}/a.journal")
    with following(box, "-D", directory, "--utc") as process:
        assert process.stdout.readline() == (
            f"2026-11-22 08:00:00.001000 {A[:8]} refused         192.0.2.1:4711: address-limit\n")


def this_boot(box):
    return box.run("cat", "/proc/sys/kernel/random/boot_id").stdout.strip().replace("-", "")


def test_duration_of_an_open_session(box, directory):
    journal = Journal(_BOOT_ID=this_boot(box), _PID="1", _COMM="systemd")
    began = int(time.time()) - 49 * 3600
    journal.connect(A, time=began * SECOND, __MONOTONIC_TIMESTAMP="1")
    journal.write(box, f"{directory}/a.journal")
    row = lines(client(box, "sessions", "-D", directory))[1].split()
    assert row[3:5] == ["2d", "1h"] and row[-1] == "open"


def test_netd_as_a_user_service(box, directory):
    """A user manager keeps the invocation IDs of its units in another directory."""
    units = "/run/user/4242/systemd/units"
    journal = Journal(_BOOT_ID=this_boot(box), _SYSTEMD_UNIT="user@4242.service",
                      _SYSTEMD_USER_UNIT="netd.service", _SYSTEMD_OWNER_UID="4242",
                      _SYSTEMD_INVOCATION_ID="ab" * 16)
    journal.connect(A)
    journal.write(box, f"{directory}/a.journal")
    try:
        for start, state in ("ab" * 16, "open"), ("cd" * 16, "abandoned"), (None, "abandoned"):
            box.sh(f"mkdir -p {units}; rm -f {units}/*")
            if start:
                box.run("ln", "-s", start, f"{units}/invocation:netd.service")
            session, = objects(client(box, "sessions", "--json", "-D", directory))
            assert session["state"] == state
    finally:
        box.run("rm", "-r", "/run/user/4242")


def test_permission_to_read_some_files(box, directory):
    three_sessions().write(box, f"{directory}/a.journal")
    other = Journal(start=START + 100 * SECOND)
    other.session(session_id(4), [b"x"])
    other.write(box, f"{directory}/b.journal")
    box.sh(f"chmod 0644 {directory}/a.journal; chmod 0600 {directory}/b.journal")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    result = box.run(*nobody, "netd-client", "sessions", "--json", "-D", directory, check=False)
    assert result.stderr == ("netd-client: no permission to read the whole journal: members of the "
                             "groups systemd-journal and adm have it\n")
    assert [json.loads(line)["session"] for line in result.stdout.splitlines()] == [A, B, C]
    assert lines(box.run(*nobody, "netd-client", "sessions", "-q", "-D", directory)) == [A, B, C]
    box.run("chmod", "0700", directory)
    failed(box.run(*nobody, "netd-client", "sessions", "-D", directory, check=False), 3,
           "no permission to read the journal: members of the groups systemd-journal and adm have it")


def test_no_permission(box, directory):
    three_sessions().write(box, f"{directory}/a.journal")
    box.run("chmod", "0640", f"{directory}/a.journal")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534"]
    no_permission = ("no permission to read the journal: members of the groups systemd-journal "
                     "and adm have it")
    for arguments in ["sessions"], ["sessions", "-D", directory], ["verify", "-q"]:
        result = box.run(*nobody, "--clear-groups", "netd-client", *arguments, check=False)
        failed(result, 3, no_permission)
    group = box.run("getent", "group", "systemd-journal").stdout.split(":")[2]
    result = box.run(*nobody, f"--groups={group}", "netd-client", "sessions", "-n", "1", "-q",
                     check=False)
    assert result.returncode in (0, 1) and result.stderr == ""


@pytest.mark.parametrize("arguments, line", [
    (["show"], "show requires a SESSION"),
    (["cat"], "cat requires a SESSION"),
    (["show", "a", "b"], "show: unexpected argument 'b'"),
    (["cat", "a", "b"], "cat: unexpected argument 'b'"),
    (["sessions", "a"], "sessions: unexpected argument 'a'"),
    (["follow", "a", "b"], "follow: unexpected argument 'b'"),
    (["-o", "json", "sessions"], "unknown option '-o'; see --help"),
    (["--json=x", "sessions"], "--json takes no value"),
    (["sessions", "-D", ""], "--directory is empty"),
    (["cat", "a", "--json"], "cat: unexpected option '--json'"),
    (["show", "a", "--open"], "show: unexpected option '--open'"),
    (["verify", "--since", "today"], "verify: unexpected option '--since'"),
    (["--utc", "verify"], "verify: unexpected option '--utc'"),
    (["sessions", "--since", "never"], "--since: 'never' is not a time"),
    (["sessions", "--until", ""], "--until: '' is not a time"),
    (["sessions", "--until", "08:00 Asia/Tokyo"],
     "--until: '08:00 Asia/Tokyo' names a time zone; use UTC, an offset such as +01:00, or TZ"),
    (["sessions", "--since", "now", "--until", "-1h"], "--since is later than --until"),
    (["sessions", "-n", "x"], "--lines: 'x' is not a number"),
    (["sessions", "--listener", ""], "--listener is empty"),
    (["sessions", "--reason="], "--reason is empty"),
    (["sessions", "--identifier="], "--identifier is empty"),
    (["show", "a", "--hostname", ""], "--hostname is empty"),
    (["cat", "a", "--identifier", "x"], "cat: unexpected option '--identifier'"),
] + [
    (["follow", "--priority", bad], f"--priority: invalid level '{bad}'; expected one of emerg, "
     "alert, crit, err, warning, notice, info, debug, or 0 to 7") for bad in ("", "8", "-1", "ERR")
] + [
    (["sessions", "--open", "--reason", "eof"], "--open and --reason are mutually exclusive"),
    (["show", "a", "--peer", "192.0.2.1"], "show: unexpected option '--peer'"),
    (["verify", "-r"], "verify: unexpected option '--reverse'"),
    (["follow", "--reason", "eof"], "follow: unexpected option '--reason'"),
    (["cat", "a", "--listener", "x"], "cat: unexpected option '--listener'"),
    (["follow", "a", "--peer", "192.0.2.1"],
     "follow: --peer cannot be combined with a session"),
    (["follow", "a", "--listener", "x"], "follow: --listener cannot be combined with a session"),
    (["verify", "a", "--listener", "x"], "verify: --listener cannot be combined with a session"),
    (["sessions", "-D", "/", "--namespace", "x"],
     "--directory and --namespace are mutually exclusive"),
] + [
    (["sessions", "--peer", bad], f"--peer: '{bad}' is not an IPv4 or IPv6 address")
    for bad in ("", "host.example", "127.0.0", "127.1", "1", "0x7f.0.0.1", "192.0.2.1:4711",
                "[192.0.2.1]", "192.0.2.1%eth0", "[::1", "::1]", "[::1]:4711", "fe80::1%", "%eth0",
                "[]", "[", "x" * 64)
])
def test_wrong_usage(box, arguments, line):
    failed(client(box, *arguments), 2, line)


def test_stream_of_pieces():
    """A helper of these tests."""
    assert stream([(b"a", None), (b"b", "crlf"), (b"c", "continued"), (b"d", "none")]) == (
        b"a\nb\r\ncd")
