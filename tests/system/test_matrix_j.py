# SPDX-License-Identifier: MIT
"""Faults of the journal: rows J1 to J8 of the fault matrix.

For every row: no crash, no spin, other clients served, and what was lost, if anything, shows."""

import contextlib
import re
import subprocess
import time

import pytest

import journal
from box import wait_for
from traffic import (Feeder, check, cpu_ticks, finish, is_held, journald_pid, journald_restart,
                     journald_stopped, lines, memory, open_descriptors, processes, records_logged,
                     seeded, served, session_of, sessions_open, worker)

JOURNALD = ["systemd-journald.socket", "systemd-journald-dev-log.socket",
            "systemd-journald-audit.socket", "systemd-journald.service"]


@contextlib.contextmanager
def unharmed(netd):
    """No process of netd ends in here, no descriptor is left behind, and the next client is served."""
    before = processes(netd)
    assert len(before) == 2
    descriptors = open_descriptors(netd, before[0])
    yield
    assert processes(netd) == before
    served(netd)
    wait_for(lambda: sessions_open(netd) == 0, "all sessions to be over")
    # One more: the journal's socket. Connections linger for a moment.
    wait_for(lambda: open_descriptors(netd, before[0]) <= descriptors + 1, "their descriptors")


@contextlib.contextmanager
def idle_processor(netd, seconds):
    """In SECONDS of the block netd uses less than five per cent of a core, and a little to begin."""
    pids = processes(netd)
    before, since = cpu_ticks(netd, pids), time.monotonic()
    yield
    time.sleep(max(0, since + seconds - time.monotonic()))
    assert cpu_ticks(netd, pids) - before < 5 * (time.monotonic() - since) + 10


@contextlib.contextmanager
def injected(netd, what):
    """strace tampers with the worker's system calls; WHAT as strace -e inject= has it."""
    tracer = netd.box.popen("strace", "-f", "-p", worker(netd), "-e", "trace=" + what.split(":")[0],
                            "-e", "inject=" + what, "-o", "/run/netd-strace",
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    line = tracer.stderr.readline()
    assert b"attached" in line, line
    try:
        yield
    finally:
        netd.box.sh("kill $(pidof strace)")
        tracer.communicate(timeout=30)


def trace(netd):
    return netd.box.sh("cat /run/netd-strace")


def test_j1_journald_stopped(netd, long):
    netd.start()
    served(netd)
    with unharmed(netd):
        before = memory(netd)
        feeders = [Feeder(netd, number) for number in range(4)]
        wait_for(lambda: records_logged(netd) > 100, "traffic")
        with journald_stopped(netd.box):
            wait_for(lambda: is_held(netd), "netd to be held")
            with idle_processor(netd, 60 if long else 4):
                pass
            assert memory(netd) - before < 2 << 20
            # Nobody is read, and nobody is accepted, but whoever comes may wait.
            late = netd.connect()
            late.sendall(b"late\n")
        for feeder in feeders:
            check(netd, feeder.end().session, feeder.sent)
        with late:
            assert finish(netd, late).records == 1


def test_j2_journald_restarted_again_and_again(netd, long):
    netd.start()
    with unharmed(netd):
        feeders = [Feeder(netd, number) for number in range(4)]
        for _ in range(60 if long else 5):
            journald_restart(netd.box)
        for feeder in feeders:
            check(netd, feeder.end().session, feeder.sent)


def test_j2_journald_killed_again_and_again(netd, long):
    """Accepted by the journal means taken by its socket, which outlives journald. A journald that is
    killed may lose entries that it had taken off the socket and not yet stored; verify shows that.
    netd itself loses nothing."""
    netd.start()
    kills = 60 if long else 5
    with unharmed(netd):
        feeders = [Feeder(netd, number, pause=0.02) for number in range(4)]
        for _ in range(kills):
            netd.box.run("systemctl", "reset-failed", "systemd-journald.service")
            pid = journald_pid(netd.box)
            netd.box.run("kill", "-KILL", pid)
            wait_for(lambda old=pid: journald_pid(netd.box) not in (0, old), "journald")
        # It is there before it can be asked anything.
        wait_for(lambda: netd.box.run("journalctl", "--sync", check=False).returncode == 0,
                 "journald to answer")
        lost = 0
        for feeder in feeders:
            receipt = feeder.end()
            assert receipt.bytes == len(feeder.sent)
            sent = feeder.sent.split(b"\n")[:-1]
            got = [e["MESSAGE"] for e in netd.events(receipt.session, "data")]
            position = iter(sent)
            assert all(line in position for line in got), "something repeats, or is out of order"
            lost += len(sent) - len(got)
            whole = len(netd.events(receipt.session)) == len(sent) + 2
            assert not whole or verify(netd, receipt.session).returncode == 0
            assert len(got) == len(sent) or verify(netd, receipt.session).returncode == 1
        assert lost <= kills


@pytest.mark.parametrize("removed", [False, True])
def test_j3_journal_socket_absent(netd, removed):
    netd.start()
    box = netd.box
    with unharmed(netd):
        client = netd.connect()
        client.sendall(b"before\n")
        session = session_of(netd, client)
        wait_for(lambda: netd.events(session, "data"), "the first line")
        box.run("systemctl", "stop", *JOURNALD)
        try:
            if removed:
                box.sh("rm -f /run/systemd/journal/socket")
            client.sendall(lines(5000))
            client.shutdown(1)
            reason = "No such file or directory" if removed else "Connection refused"
            wait_for(lambda: "waiting for the journal: " + reason in netd.show("StatusText"),
                     "STATUS= to say so")
            client.settimeout(1)
            with idle_processor(netd, 2), pytest.raises(TimeoutError):
                client.recv(1)
        finally:
            box.run("systemctl", "start", *JOURNALD)
        client.settimeout(60)
        with client:
            assert netd.receipt(client) == (session, 5001, 7 + len(lines(5000)), "eof")
        check(netd, session, b"before\n" + lines(5000))
        wait_for(lambda: not is_held(netd), "STATUS= to say that it goes on")


def test_j3_netd_starts_without_a_journal(netd):
    box = netd.box
    netd.stop()
    box.run("systemctl", "stop", *JOURNALD)
    try:
        box.run("systemctl", "start", "--no-block", "netd")
        wait_for(lambda: netd.show("ActiveState") == "active", "netd to run")
        with netd.connect() as client:
            client.sendall(b"early\n")
            client.shutdown(1)
            wait_for(lambda: is_held(netd), "netd to be held")
            box.run("systemctl", "start", *JOURNALD)
            receipt = netd.receipt(client)
    finally:
        box.run("systemctl", "start", *JOURNALD)
    check(netd, receipt.session, b"early\n")


@pytest.mark.parametrize("error", ["EAGAIN", "ENOBUFS", "EINTR", "ENOMEM", "ECONNREFUSED",
                                   "ENOTCONN", "EPIPE", "EMSGSIZE"])
def test_j4_and_j5_errors_of_sendmmsg(netd, error):
    """Every second call fails. EMSGSIZE (J5), which must not come about, would not lose anything
    either."""
    netd.start(config="receipt = false;")  # which is sent with the same call
    data = [lines(300, 1 + 1000 * n) + b"\x00half" for n in range(4)]
    with unharmed_without_receipts(netd):
        clients = [netd.connect() for _ in data]
        sessions = [session_of(netd, client) for client in clients]
        with injected(netd, f"sendmmsg:error={error}:when=1+2"):
            for client, text in zip(clients, data):
                client.sendall(text)
                client.shutdown(1)
            for client in clients:
                with client:
                    assert netd.answer(client) == ""
        assert error in trace(netd)
        for session, text in zip(sessions, data):
            check(netd, session, text)


@contextlib.contextmanager
def unharmed_without_receipts(netd):
    before = processes(netd)
    yield
    assert processes(netd) == before
    with netd.connect() as client:
        client.sendall(b"still served\n")
        session = session_of(netd, client)
    wait_for(lambda: netd.events(session, "disconnect"), "the last session to be logged")


def test_j4_partial_batches(netd):
    """journald's queue is full in the middle of a batch; every order is kept."""
    netd.start()
    with unharmed(netd):
        data = [lines(1500, 1 + 10000 * n) for n in range(4)]
        clients = [netd.connect(timeout=60) for _ in data]
        with injected(netd, "sendmmsg:delay_enter=1"):
            with journald_stopped(netd.box):
                for client, text in zip(clients, data):
                    client.sendall(text)
                wait_for(lambda: is_held(netd), "netd to be held")
            receipts = [finish(netd, client) for client in clients]
        calls = re.findall(r"\], (\d+), MSG_DONTWAIT\|MSG_NOSIGNAL\) = (\d+)", trace(netd))
        assert any(int(taken) < int(given) for given, taken in calls), calls[:20]
        for receipt, text in zip(receipts, data):
            check(netd, receipt.session, text)


def test_j5_no_entry_is_too_large_for_the_socket(netd):
    """The largest entries there are, over the real socket: EMSGSIZE never comes about."""
    netd.start(config="max_record = 131072;")
    rnd = seeded("j5")
    with unharmed(netd):
        data = b"".join(rnd.choice([b"\xff", b"a"]) * rnd.choice([1, 20000, 98000, 131072])
                        + b"\n" for _ in range(40))
        with injected(netd, "sendmmsg:delay_enter=1"):
            receipt = netd.send(data)
        assert "EMSGSIZE" not in trace(netd)
        check(netd, receipt.session, data, 131072)


def verify(netd, *words):
    return netd.box.run("netd-client", "verify", *words, check=False)


def test_j6_journal_disk_full(netd):
    """journald makes room by deleting what is old: netd goes on, and verify shows the gap."""
    netd.start()
    box = netd.box
    machine = box.sh("cat /etc/machine-id").strip()
    directory = f"/var/log/journal/{machine}"
    box.sh(f"mkdir -p {directory}; mount -t tmpfs -o size=24M tmpfs {directory}")
    try:
        journald_restart(box)
        before = processes(netd)
        rnd = seeded("j6")
        data = b"".join(rnd.randbytes(3000).replace(b"\n", b"") + b"\n" for _ in range(6000))
        receipt = netd.send(data, timeout=120)
        assert receipt.bytes == len(data)  # journald took all of it
        box.run("journalctl", "--sync")
        got = journal.joined(netd.events(receipt.session, "data", everything=True))
        assert len(got) < len(data), "the disk was not full"
        said = verify(netd, receipt.session)
        assert said.returncode == 1, said
        assert processes(netd) == before
        again = netd.send(b"still served\n")
        assert journal.joined(netd.events(again.session, everything=True)) == b"still served\n"
    finally:
        box.sh(f"umount -l {directory}")
        journald_restart(box)
    served(netd)


def test_j7_rotation_and_vacuum(netd, long):
    netd.start()
    with unharmed(netd):
        feeders = [Feeder(netd, number, pause=0.02) for number in range(4)]
        for _ in range(100 if long else 6):
            netd.box.run("journalctl", "--rotate", "--vacuum-time=1d", "--vacuum-size=3G")
        for feeder in feeders:
            receipt = feeder.end()
            check(netd, receipt.session, feeder.sent)
            assert verify(netd, receipt.session).returncode == 0


def test_j8_rate_limit_of_a_foreign_drop_in(netd):
    netd.start(dropin="[Service]\nLogRateLimitIntervalSec=1h\nLogRateLimitBurst=50\n")
    receipt = netd.send(lines(100_000))
    assert receipt.records == 100_000  # journald took them, and threw them away
    got = len(netd.events(receipt.session, "data"))
    assert got < 100_000
    said = verify(netd, receipt.session)
    assert said.returncode == 1, said
    assert sessions_open(netd) == 0 or wait_for(lambda: sessions_open(netd) == 0, "its end")
