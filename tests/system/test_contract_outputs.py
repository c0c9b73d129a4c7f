# SPDX-License-Identifier: MIT
"""Events on standard output: a person's lines, or the Journal Export Format; and where "auto" goes."""

import contextlib
import fcntl
import re
import socket
import sys
import tempfile
import termios

import pytest

import corpus
import journal
from box import wait_for
from traffic import (ADDRESSES, AWKWARD, EVERY_EVENT, MESSAGE_IDS, ByHand, awkward, check_record,
                     complaint, file_inside, message, records, seeded)

NASTY = b"one\ntwo\r\n\x1b[31mred\n\xff\xfe\n" + b"".join(AWKWARD) + b"\nMESSAGE=x\n\nhalf"

PROCESSES_ONLY = ("unshare", "-m", "sh", "-c",
                  'mount -t proc -o subset=pid proc /proc; exec netd "$@"', "netd")


def run_with(box, output, data, *words, **options):
    """What a netd with this output says, into a file, about one client that sends DATA."""
    with tempfile.TemporaryFile() as out, \
            ByHand(box, "-o", output, "-p", "0", *words, stdout=out, **options) as program:
        port = int(program.ready().rpartition(":")[2])
        with box.connect(port) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            receipt = b""
            while piece := client.recv(4096):
                receipt += piece
        assert b" bytes=%d end=eof\n" % len(data) in receipt
        program.stop()
        out.seek(0)
        return out.read()


def test_text(box):
    out = run_with(box, "text", NASTY).decode()
    lines = out.split("\n")
    assert lines.pop() == ""
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d"
    found = [re.fullmatch(stamp + r" ([0-9a-f]{32}) (connect|data|disconnect) ?(.*)", line)
             for line in lines]
    assert all(found), lines
    assert len({f[1] for f in found}) == 1
    assert [f[2] for f in found] == \
        ["connect"] + ["data"] * len(records(NASTY)) + ["disconnect"]
    assert found[1][3] == "one" and found[3][3] == r"\x1b[31mred" and found[4][3] == r"\xff\xfe"
    assert "eof" in found[-1][3]
    # Safe on a terminal.
    assert not [c for c in out if ord(c) < 0x20 and c not in "\n\t"]


@pytest.mark.parametrize("data", [NASTY, awkward(seeded("export"), 200_000)], ids=len)
def test_export(box, data):
    events = journal.parse(run_with(box, "export", data))
    assert events[0].text("NETD_EVENT") == "connect"
    assert events[-1].text("NETD_EVENT") == "disconnect"
    assert events[-1].number("NETD_BYTES") == len(data)
    assert len(events) - 2 == len(records(data))
    for event, (record, terminator) in zip(events[1:-1], records(data)):
        check_record(event, record, terminator)
    for event in events:
        names = {name for name, _ in event.pairs}
        assert names >= EVERY_EVENT | {"__REALTIME_TIMESTAMP"}
        assert event.text("MESSAGE_ID") == MESSAGE_IDS[event.text("NETD_EVENT")]
        assert len(event.pairs) == len(names)
    assert ADDRESSES <= set(events[0]) and ADDRESSES <= set(events[-1])
    assert journal.joined(events) == data


def test_export_has_the_boot_id_where_it_is_known(box):
    """As in the unit's sandbox, where /proc has processes only: an empty one is no boot id, and
    systemd-journal-remote refuses every entry that has it."""
    known, unknown = (journal.parse(run_with(box, "export", b"one\n", program=program))
                      for program in (("netd",), PROCESSES_ONLY))
    boot_id = box.sh("tr -d - </proc/sys/kernel/random/boot_id").strip()
    assert {event.text("_BOOT_ID") for event in known} == {boot_id}
    assert len(unknown) == 3 and not any("_BOOT_ID" in event for event in unknown)


def test_export_is_understood_by_systemd_journal_remote(box):
    box.sh("rm -rf /root/netd-remote; mkdir /root/netd-remote")
    try:
        box.path("/root/netd-remote/events").write_bytes(run_with(box, "export", NASTY))
        box.run("/usr/lib/systemd/systemd-journal-remote",
                "--output=/root/netd-remote/remote.journal", "/root/netd-remote/events")
        read = box.run("journalctl", "-o", "export", "--file=/root/netd-remote/remote.journal",
                       text=False).stdout
    finally:
        box.sh("rm -r /root/netd-remote")
    events = journal.parse(read)
    assert len(events) == len(records(NASTY)) + 2
    assert journal.joined(events) == NASTY
    assert events[-1].text("NETD_REASON") == "eof"


def test_exported_syslog_records_come_back(box):
    """Through systemd-journal-remote, with netd-client. As text, records stand as they came."""
    messages = [m.data for m in corpus.read()]
    data = b"".join(b"%d %s" % (len(m), m) for m in messages) + b"<13>in: a line\n"
    directory = "/root/netd-remote"
    with file_inside(box, "/root/netd-syslog.conf", 'format = "syslog";'):
        events = run_with(box, "export", data, "-c", "/root/netd-syslog.conf")
        text = run_with(box, "text", data, "-c", "/root/netd-syslog.conf")
    session = journal.parse(events)[0].text("NETD_SESSION_ID")
    try:
        box.sh(f"mkdir {directory}")
        box.path(f"{directory}/events").write_bytes(events)
        box.run("/usr/lib/systemd/systemd-journal-remote", f"--output={directory}/a.journal",
                f"{directory}/events")
        assert box.run("netd-client", "cat", "-D", directory, session, text=False).stdout == data
        box.run("netd-client", "verify", "-q", "-D", directory, session)
    finally:
        box.sh(f"rm -r {directory}")
    shown = [line.split(b" ", 3)[3] for line in text.splitlines()[1:-1]]
    assert shown == [message(m) for m in [*messages, b"<13>in: a line"]]


def test_output_of_the_configuration_and_of_the_option(netd):
    netd.start(config='output = "text";')
    session = netd.send(b"hello\n").session
    assert netd.events(session) == []
    assert any(f"{session} data hello".encode() in e["MESSAGE"]
               for e in netd.journal("_SYSTEMD_UNIT=netd.service"))


def test_auto_is_the_journal_where_its_socket_exists(netd):
    box = netd.box
    out = run_with(box, "auto", b"to the journal by hand\n")
    assert out == b""
    assert [e.text("NETD_EVENT") for e in netd.journal("MESSAGE=to the journal by hand")] == ["data"]


def test_auto_is_text_where_it_does_not(box):
    """In a mount namespace of its own there is no /run/systemd."""
    out = run_with(box, "auto", b"no journal here\n",
                   program=("unshare", "-m", "sh", "-c",
                            'mount -t tmpfs tmpfs /run/systemd; exec netd "$@"', "netd"))
    assert b" data no journal here\n" in out


def test_a_file_size_limit_is_an_error(box):
    """Whether it is in the session table's way or in the output's: one line, and no signal."""
    said = complaint(box, "-p", "0", status=1, program=("prlimit", "--fsize=1000000", "netd"))
    assert said == "cannot create the session table: File too large"

    limit = 10**10
    with tempfile.TemporaryFile() as out:
        out.seek(limit - 500)
        with ByHand(box, "-o", "text", "-p", "0", stdout=out,
                    program=("prlimit", f"--fsize={limit}", "netd")) as program:
            port = int(program.ready().rpartition(":")[2])
            with box.connect(port) as client:
                client.sendall(b"x\n" * 100)
                assert program.process.wait(30) == 1
            assert program.process.stderr.read() == b"netd: standard output: File too large\n"


def test_a_gone_reader_ends_netd_with_1(box):
    with ByHand(box, "-o", "text", "-p", "0") as program:
        port = int(program.ready().rpartition(":")[2])
        program.process.stdout.close()
        with box.connect(port) as client:
            client.sendall(b"x\n")
            assert program.process.wait(30) == 1
            said = program.process.stderr.read()
        program.process.stdout = None
    assert re.search(rb"^netd: standard output: Broken pipe$", said, re.M), said


@pytest.mark.parametrize("output", ["text", "export"])
@pytest.mark.parametrize("closed", [">&-", "0</dev/null 1>&0"])
def test_p11_a_standard_output_that_cannot_be_written(box, output, closed):
    """Nobody is told that it was logged."""
    shell = f"exec netd -o {output} -p 0 {closed}"
    with ByHand(box, program=("sh", "-c", shell)) as program:
        port = int(program.ready().rpartition(":")[2])
        with box.connect(port) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(b"x\n")
                with contextlib.suppress(OSError):  # ENOTCONN where netd has ended already
                    client.shutdown(socket.SHUT_WR)
                assert client.recv(4096) == b""
            assert program.process.wait(30) == 1
            said = program.process.stderr.read()
    assert re.search(rb"^netd: standard output: Bad file descriptor$", said, re.M), said


def test_a_slow_reader_is_waited_for(box):
    data = b"".join(b"%d %s\n" % (i, b"." * 80) for i in range(20000))
    with ByHand(box, "-o", "export", "-p", "0") as program:
        port = int(program.ready().rpartition(":")[2])
        with box.connect(port) as client:
            client.settimeout(1)
            with pytest.raises(TimeoutError):  # nobody reads standard output: no receipt
                client.sendall(data[:100000])
                client.shutdown(socket.SHUT_WR)
                client.recv(1)
            program.kill("TERM")
            out, err = program.process.communicate(timeout=30)
    assert err == b"" and program.process.returncode == 0
    assert journal.joined(journal.parse(out)) == data[:100000]


@pytest.mark.parametrize("kill", [False, True], ids=["reload", "kill"])
def test_a_reader_that_stalls_holds_no_reload_up(box, kill):
    """And what it had got a part of goes on where it ended."""
    data = b"\xff" * 50_000 + b"\n" + b"x" * 50_000 + b"\ny"
    with ByHand(box, "-o", "export", "-p", "0") as program:
        port = int(program.ready().rpartition(":")[2])
        worker = f"pgrep -P $(cat {program.PID}) || true"
        before = box.sh(worker).strip()
        with box.connect(port) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            wait_for(lambda: is_full(program.process.stdout), "the pipe to be full")
            if kill:
                box.sh(f"kill -KILL {before}")
            else:
                program.kill("HUP")
            wait_for(lambda: box.sh(worker).strip() not in ("", before), "another worker")
            out = b""
            while not out.endswith(b"\n\n") or b"NETD_EVENT=disconnect" not in out:
                out += program.process.stdout.read1(1 << 20)
            assert b"end=eof" in client.recv(4096)
        program.kill("TERM")
        out += program.process.communicate(timeout=30)[0]
        assert program.process.returncode == 0
    events = journal.parse(out)
    assert [e.text("NETD_EVENT") for e in events] == ["connect", *["data"] * 3, "disconnect"]
    assert journal.joined(events) == data and b"NETD_RESENT" not in out


def test_a_stop_while_what_a_dead_worker_left_stalls(box):
    """There is nothing to stop yet: it ends in time all the same, and says who was not logged."""
    box.sh("echo 'sessions = { stop_timeout = 1; };' >/tmp/netd-patience.conf")
    with ByHand(box, "-o", "export", "-p", "0", "-c", "/tmp/netd-patience.conf") as program:
        port = int(program.ready().rpartition(":")[2])
        worker = f"pgrep -P $(cat {program.PID}) || true"
        before = box.sh(worker).strip()
        with box.connect(port) as client:
            client.sendall(b"\xff" * 50_000 + b"\n")
            wait_for(lambda: is_full(program.process.stdout), "the pipe to be full")
            box.sh(f"kill -KILL {before}")
            assert b"worker died" in program.process.stderr.readline()
            wait_for(lambda: box.sh(worker).strip() not in ("", before), "another worker")
            program.kill("TERM")
            with pytest.raises(ConnectionResetError):
                while client.recv(4096):
                    pass
            assert program.process.wait(30) == 1
        assert program.process.stderr.read() == \
            b"netd: stopped before the journal took the last of 1 sessions; they were reset\n"


def is_full(reader):
    """True when a pipe has as much as it takes, but for less than a page."""
    unread = fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4)
    size = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
    return size - int.from_bytes(unread, sys.byteorder) < 4096


def test_a_slow_reader_of_another_user_holds_nothing_up(box):
    """netd cannot open that pipe anew to write without waiting. It stops all the same."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    box.sh("echo 'sessions = { stop_timeout = 1; };' >/tmp/netd-patience.conf")
    with ByHand(box, "-o", "export", "-p", "0", "-c", "/tmp/netd-patience.conf",
                program=(*nobody, "netd")) as program:
        port = int(program.ready().rpartition(":")[2])
        with box.connect(port) as client:
            client.sendall(b"." * 100_000 + b"\n" + b"\n" * 1000)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(1)
            with pytest.raises(TimeoutError):
                client.recv(1)
            program.kill("TERM")
            assert program.process.wait(30) == 1
            assert program.process.stderr.read() == \
                b"netd: stopped before the journal took the last of 1 sessions; they were reset\n"


def test_disk_full_is_waited_for(box):
    """A file on a full file system takes no more for a while: nothing is lost."""
    assert complaint(box, "-o", "file", status=2)
    box.sh("mkdir -p /run/netd-full; mount -t tmpfs -o size=1M tmpfs /run/netd-full")
    try:
        box.sh("head -c 900K /dev/zero >/run/netd-full/ballast")
        data = b"".join(b"%d %s\n" % (i, b"." * 80) for i in range(1000))
        shell = 'exec netd "$@" >/run/netd-full/out'
        with ByHand(box, "-o", "export", "-p", "0", program=("sh", "-c", shell, "sh")) as program:
            port = int(program.ready().rpartition(":")[2])
            with box.connect(port) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                client.settimeout(1)
                with pytest.raises(TimeoutError):
                    client.recv(1)
                client.settimeout(30)
                box.sh("rm /run/netd-full/ballast")
                assert b"records=1000" in client.recv(4096)
            program.kill()
            assert program.process.wait(30) == 0
        out = box.run("cat", "/run/netd-full/out", text=False).stdout
        assert journal.joined(journal.parse(out)) == data
    finally:
        box.sh("umount /run/netd-full; rmdir /run/netd-full")
