# SPDX-License-Identifier: MIT
"""Faults of processes and of the machine: rows P2, P3 and P8 to P11 of the fault matrix. P1 and P4
to P6, the crash-only part, are in test_crash.py; P7 is in inject.py."""

import contextlib
import os
import pathlib
import re
import socket
import subprocess

import pytest

import journal
from box import wait_for
from test_matrix_j import idle_processor, injected, unharmed
from traffic import (ByHand, Feeder, check, complaint, file_inside, finish, is_held, is_over,
                     journald_stopped, processes, records_logged, served, session_of,
                     sessions_open)


def test_p2_supervisor_killed(netd):
    netd.start()
    feeders = [Feeder(netd, number) for number in range(3)]
    waiting = netd.connect()
    wait_for(lambda: records_logged(netd) > 20, "traffic")
    before = processes(netd)
    netd.box.run("kill", "-KILL", before[0])
    for feeder in feeders:  # a reset or a missing receipt, never one that is not true
        with pytest.raises((OSError, AssertionError)):
            feeder.end()
    with waiting:
        assert is_over(waiting)
    wait_for(lambda: netd.pid not in (0, before[0]), "systemd to start it again")
    wait_for(lambda: netd.show("ActiveState") == "active", "netd to be ready")
    assert netd.show("NRestarts") == "1"
    served(netd)
    # What was logged of each is a beginning of what was sent.
    sessions = {e.text("NETD_SESSION_ID"): [] for e in netd.events(event="connect")}
    for event in netd.events():
        sessions[event.text("NETD_SESSION_ID")].append(event)
    for feeder in feeders:
        found = [e for e in sessions.values()
                 if any(b"client %d line" % feeder.number in x["MESSAGE"] for x in e)]
        for events in found:
            assert feeder.sent.startswith(journal.joined(events))


def test_p3_sigterm_under_load(netd):
    netd.start()
    feeders = [Feeder(netd, number) for number in range(6)]
    wait_for(lambda: records_logged(netd) > 50, "traffic")
    netd.box.run("systemctl", "stop", "netd", timeout=60)
    assert netd.show("Result") == "success" and netd.show("ExecMainStatus") == "0"
    for feeder in feeders:
        with contextlib.suppress(OSError, AssertionError):
            feeder.end()  # it goes on sending to a server that is gone
    ends = netd.events(event="disconnect")
    assert len(ends) == len(feeders)
    for end in ends:
        assert end.text("NETD_REASON") in ("shutdown", "reset")
        received = netd.received(end.text("NETD_SESSION_ID"))
        assert end.number("NETD_BYTES") == len(received)


def test_p3_what_had_arrived_is_logged_and_receipts_are_true(netd):
    netd.start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(netd.connect(timeout=60)) for _ in range(20)]
        wait_for(lambda: sessions_open(netd) == 20, "all to be accepted")
        for n, client in enumerate(clients):
            client.sendall(b"client %d\n" % n * 300 + b"half")
        netd.stop()
        for n, client in enumerate(clients):
            receipt = netd.receipt(client)
            data = b"client %d\n" % n * 300 + b"half"
            assert receipt.bytes == len(data) and receipt.end == "shutdown"
            check(netd, receipt.session, data, reason="shutdown")


def test_p3_waiting_connections_are_served(netd):
    """No connection is accepted while the journal blocks; a stop then still serves those that wait."""
    netd.start()
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(netd.connect(timeout=60))
        with journald_stopped(netd.box):
            busy.sendall(b"busy\n" * 4000)
            wait_for(lambda: is_held(netd), "netd to be held")
            waiting = [stack.enter_context(netd.connect(timeout=60)) for _ in range(5)]
            for client in waiting:
                client.sendall(b"one\ntwo")
            netd.box.run("systemctl", "stop", "--no-block", "netd")
            wait_for(lambda: netd.show("ActiveState") == "deactivating", "netd to be told")
        assert netd.receipt(busy).bytes == 20000
        for client in waiting:
            receipt = netd.receipt(client)
            assert receipt.bytes == 7 and receipt.records == 2 and receipt.end == "shutdown"


def test_p8_no_descriptors_left(netd):
    """accept pauses, says so once, and goes on when there is room."""
    netd.start(dropin="[Service]\nLimitNOFILE=64\n")
    before = processes(netd)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(netd.connect(timeout=60)) for _ in range(90)]
        for n, client in enumerate(clients):
            client.sendall(b"%d\n" % n)
        wait_for(lambda: 30 < sessions_open(netd) < 90, "most to be accepted")
        with idle_processor(netd, 3):
            pass
        for n, client in enumerate(clients):  # those that wait are served as others end
            assert finish(netd, client).records == 1
    assert processes(netd) == before
    served(netd)
    assert len(re.findall("^out of file descriptors or memory; pausing accept$", netd.log(),
                          re.M)) == 1


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"])
def test_p8_errors_of_accept(netd, error):
    netd.start()
    with unharmed(netd):
        with injected(netd, f"accept4:error={error}:when=1..3"):
            clients = [netd.connect(timeout=60) for _ in range(5)]
            for client in clients:
                with client:
                    client.sendall(b"x\n")
                    assert finish(netd, client).records == 1
        assert len(re.findall("^out of file descriptors or memory; pausing accept$", netd.log(),
                          re.M)) == 1


def test_p8_other_errors_of_accept_are_named(netd):
    netd.start()
    with unharmed(netd):
        with injected(netd, "accept4:error=EINVAL:when=1..3"):
            with netd.connect(timeout=60) as client:
                client.sendall(b"x\n")
                assert finish(netd, client).records == 1
    assert netd.log().count(
        "cannot accept at 127.0.0.1:3000: Invalid argument; pausing accept") == 1


def test_p9_too_little_memory_to_start(netd):
    """The address space is limited: this fails where MemoryMax= would kill, and says why."""
    result = netd.start(dropin="[Service]\nLimitAS=32M\nRestart=no\n", check=False)
    assert result.returncode
    assert netd.show("ExecMainStatus") in ("1", "127")  # 127: not even the libraries fit
    assert re.search("memory|map", netd.log())
    netd.start()
    served(netd)


MEMORY = pathlib.Path("/sys/fs/cgroup/memory")  # of a machine with cgroups of version 1


def test_p9_memory_max_far_too_small(netd):
    """The kernel kills the worker, the supervisor, or both; then all goes on."""
    netd.start(dropin="[Service]\nMemoryMax=3M\n")
    cgroup = MEMORY / f"netd-test-p9-{netd.box.release}-{os.getpid()}"
    if MEMORY.exists():
        cgroup.mkdir(exist_ok=True)
        (cgroup / "memory.limit_in_bytes").write_text("3M", encoding="ascii")
        for pid in processes(netd):
            (cgroup / "cgroup.procs").write_text(str(outside(netd.box, pid)), encoding="ascii")
    try:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(netd.connect(timeout=60)) for _ in range(100)]
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(b"x" * 60000)
            wait_for(lambda: re.search("signal 9|oom-kill|status=9/KILL", netd.log()),
                     "memory to run out", 60)
        # Once there is memory, nobody has to start it.
        if MEMORY.exists():
            (cgroup / "memory.limit_in_bytes").write_text("-1", encoding="ascii")
        netd.configure()
        wait_for(lambda: is_served(netd), "netd to be back", 60)
    finally:
        netd.box.run("systemctl", "restart", "netd", check=False)
        if MEMORY.exists():
            wait_for(lambda: not (cgroup / "cgroup.procs").read_text(encoding="ascii"), "its end")
            cgroup.rmdir()
    netd.start()
    served(netd)


def is_served(netd):
    try:
        return netd.send(b"still served\n", timeout=5).records == 1
    except (OSError, AssertionError):
        return False


def outside(box, pid):
    """The number here of the process that the box numbers PID."""
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            found = re.search(r"^NSpid:\t(\d+)\t(\d+)$", status.read_text(errors="replace"), re.M)
            if found and int(found[2]) == pid and \
                    (status.parent / "ns/pid").readlink() == \
                    pathlib.Path(f"/proc/{box.pid}/ns/pid").readlink():
                return int(found[1])
    raise AssertionError(f"no process {pid}")


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *ret)
{
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(clock, ret), fd;
    char text[32] = "";
    if (clock != CLOCK_REALTIME || (fd = open("/run/netd-clock", O_RDONLY)) < 0)
        return r;
    if (read(fd, text, sizeof(text) - 1) > 0)
        ret->tv_sec += atol(text);
    close(fd);
    return r;
}
"""


def test_p10_clock_set_a_day_back_or_forward(box):
    """Nothing expires, and durations stay true: only the time stamps move."""
    with contextlib.ExitStack() as stack:
        box.path("/root/netd-clock.c").write_text(CLOCK, encoding="ascii")
        stack.callback(box.sh, "rm -f /root/netd-clock.* /run/netd-clock")
        box.sh("cc -shared -fPIC -o /root/netd-clock.so /root/netd-clock.c -ldl")
        stack.enter_context(file_inside(box, "/root/netd-test/netd.conf",
                                        "sessions: { idle_timeout = 3600; };"))
        program = stack.enter_context(
            ByHand(box, "-o", "export", "-p", "0", "-c", "/root/netd-test/netd.conf",
                   env={"LD_PRELOAD": "/root/netd-clock.so"}))
        port = int(program.ready().rpartition(":")[2])
        client = stack.enter_context(box.connect(port))
        client.sendall(b"now\n")
        for offset in 86400, -86400, 0:
            box.sh(f"echo {offset} >/run/netd-clock")
            with box.connect(port) as other:
                other.sendall(b"offset %d\n" % offset)
                other.shutdown(1)
                assert b"records=1" in other.recv(4096)
            client.sendall(b"still here\n")
        client.shutdown(1)
        assert b"records=4 bytes=37 end=eof" in client.recv(4096)
        events = journal.parse(program.stop())
    stamps = {e["MESSAGE"]: e.number("__REALTIME_TIMESTAMP") for e in events}
    assert stamps[b"offset 86400"] - stamps[b"offset -86400"] > 170_000_000_000  # it did move
    for event in events:
        if event.text("NETD_EVENT") == "disconnect":
            assert event.number("NETD_DURATION_USEC") < 3_600_000_000


def test_p3_a_stop_is_asked_for_twice(netd):
    """The first one goes on as it was."""
    netd.start()
    pid = netd.pid
    with netd.connect() as client:
        client.sendall(b"one\ntwo")
        wait_for(lambda: sessions_open(netd) == 1, "the client to be in")
        netd.box.run("kill", "-TERM", pid)
        wait_for(lambda: netd.show("ActiveState") == "deactivating", "the stop")
        netd.box.run("kill", "-TERM", pid, check=False)
        receipt = netd.receipt(client)
        assert (receipt.records, receipt.bytes, receipt.end) == (2, 7, "shutdown")
    wait_for(lambda: netd.show("ActiveState") == "inactive", "the end")
    assert netd.show("Result") == "success"
    assert len(netd.events(receipt.session, "disconnect")) == 1


def test_p11_no_dev_null(netd):
    hidden = "mount -t tmpfs none /dev && exec netd -t <&-"
    result = netd.box.run("unshare", "-m", "sh", "-c", hidden, check=False)
    assert result.returncode == 1
    assert result.stderr == "netd: /dev/null: No such file or directory\n"


def test_p11_no_proc(box):
    """Where no worker can ever start, netd says so and ends."""
    hidden = "umount -l /proc && exec netd -o text -p 0"
    line = complaint(box, program=("unshare", "-m", "sh", "-c", hidden), status=1)
    assert line == "cannot start a worker: /proc/self/fd: No such file or directory"


def test_as_many_descriptors_as_there_may_be(netd):
    limited = ["prlimit", "--nofile=100:3000", "netd", "-p", "3011", "-o", "text"]
    with netd.box.popen(*limited, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE) as process:
        assert any(b"listening on" in line for line in process.stderr)
        limits = netd.box.sh("cat /proc/$(pgrep -o -x netd)/limits")
        assert re.search(r"^Max open files +3000 +3000 ", limits, re.M)
        netd.box.run("pkill", "-TERM", "-o", "-x", "netd")
        assert process.wait(60) == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_p11_standard_descriptors_closed(netd, closed):
    """No client's connection, listener or journal socket becomes descriptor 0, 1 or 2."""
    box = netd.box
    shell = f'exec netd -o journal -p 3011 {closed}'
    with ByHand(box, program=("sh", "-c", shell)) as program:
        wait_for(lambda: box.sh("ss -Hltn 'sport = 3011'").strip(), "netd to listen")
        with box.connect(3011) as client:
            client.sendall(b"one\n")
            session = session_of(netd, client)
            numbers = box.sh(f"ls -l /proc/$(cat {program.PID})/fd")
            for number in range(3):
                assert not re.search(rf" {number} -> (socket|/memfd)", numbers), numbers
            assert finish(netd, client) == (session, 1, 4, "eof")
        check(netd, session, b"one\n")
        program.kill()
        assert program.process.wait(30) == 0


@pytest.mark.parametrize("value", ["", "/nonexistent/socket", "@nobody", "relative", "/etc/passwd",
                                   "x" * 300])
def test_p11_notify_socket_bogus(box, value):
    with ByHand(box, "-o", "text", "-p", "0", env={"NOTIFY_SOCKET": value}) as program:
        port = int(program.ready().rpartition(":")[2])
        with box.connect(port) as client:
            client.sendall(b"x\n")
            client.shutdown(1)
            assert b"records=1" in client.recv(4096)
        program.stop()


def notified(receiver):
    """All the messages that wait in a notification socket's queue."""
    receiver.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(receiver.recv(4096).decode())
    return "\n".join(found)


def fill(box, where):
    """Sends to a datagram socket until its queue is full. A sender has only so much room itself."""
    with box.network(), contextlib.suppress(BlockingIOError):
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(b"FILLED=1", where)


@pytest.mark.parametrize("name", ["@netd-notify-test", "/run/netd-notify-test"])
def test_p11_a_notification_socket_that_nobody_reads(box, name):
    """Neither the worker's next life nor a stop waits for it, and what it missed is sent again."""
    box.sh("rm -f /run/netd-notify-test")
    with box.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        # A path of the container; the abstract names are its network's, where both sockets are.
        where = f"/proc/{box.pid}/root{name}" if name[0] == "/" else "\0" + name[1:]
        receiver.bind(where)
        fill(box, where)
        with ByHand(box, "-o", "text", "-p", "0", env={"NOTIFY_SOCKET": name}) as program:
            port = int(program.ready().rpartition(":")[2])
            supervisor = int(box.sh(f"cat {program.PID}"))
            before = box.sh(f"pgrep -P {supervisor}")
            box.sh(f"kill -9 {before}")
            wait_for(lambda: box.sh(f"pgrep -r S -P {supervisor} || true") not in ("", before),
                     "another worker")
            with box.connect(port) as client:
                client.sendall(b"x\n")
                client.shutdown(1)
                assert b"records=1" in client.recv(4096)
            assert "READY=1" not in notified(receiver)
            wait_for(lambda: "READY=1" in notified(receiver), "what did not go out before")
            fill(box, where)
            program.kill()
            assert program.process.wait(30) == 0
    box.sh("rm -f /run/netd-notify-test")


def test_p11_descriptors_that_were_left_open(netd):
    """What the caller left open is closed, and is never taken for a client."""
    box = netd.box
    script = "import os, socket\n" \
             "l = socket.socket(); l.bind(('127.0.0.1', 3012)); l.listen()\n" \
             "c = socket.create_connection(l.getsockname()); s = l.accept()[0]\n" \
             "[os.set_inheritable(x.fileno(), True) for x in (l, c, s)]\n" \
             "c.sendall(b'not a client\\n')\n" \
             "os.execv('/usr/local/sbin/netd', ['netd', '-o', 'text', '-p', '0'])\n"
    with ByHand(box, program=("python3", "-c", script)) as program:
        program.ready()
        with pytest.raises(ConnectionRefusedError):
            box.connect(3012)
        assert program.stop() == b""


def test_p11_a_table_in_the_environment_is_not_believed(box):
    """Of the variables that netd gives itself at a reload, none crashes it."""
    for value in "", "x", "3:4", "-1:-1", "0:0", "99999:99999", "3:4:5":
        result = box.run("netd", "-o", "text", "-p", "0", env={"NETD_TABLE": value}, check=False,
                         timeout=20)
        assert result.returncode == 1 and result.stdout == ""
        assert re.fullmatch(r"netd: NETD_TABLE: [\x20-\x7e]+\n", result.stderr), result.stderr
