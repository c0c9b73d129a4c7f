# SPDX-License-Identifier: MIT
"""The main job: what a client sends is in the journal, whatever journald does meanwhile."""

import subprocess
import time

import pytest

import journal
from box import wait_for
from traffic import (check, ended, finish, is_held, journald_restart, journald_stopped, lines,
                     memory, reset, seeded, send_and_check, served, session_of, together)

COUNT = 100000


def client_program(netd, *words):
    """netd-client send with its standard input to be written to."""
    return netd.box.popen("netd-client", "send", *words, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def the_session(program):
    """What the client program says when it has ended well."""
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0 and err == b"", err.decode()
    return out.decode().strip()


def numbers_logged(netd, session):
    """100,000 data events in order, between one connect and one disconnect."""
    events = netd.events(session, fields=["MESSAGE", "NETD_EVENT", "NETD_TERMINATOR"])
    assert [e.text("NETD_EVENT") for e in events] == \
        ["connect"] + COUNT * ["data"] + ["disconnect"]
    assert journal.joined(events) == lines(COUNT)


def test_a_hundred_thousand_lines(netd):
    netd.start()
    session = netd.box.sh(f"seq {COUNT} | netd-client send").strip()
    numbers_logged(netd, session)


def test_journald_restarted_five_times_meanwhile(netd):
    netd.start()
    program = client_program(netd)
    for part in range(10):
        program.stdin.write(lines(COUNT // 10, 1 + part * COUNT // 10))
        program.stdin.flush()
        if part % 2:
            journald_restart(netd.box)
    numbers_logged(netd, the_session(program))


def test_journald_hanging_for_five_seconds(netd):
    netd.start()
    program = client_program(netd)
    program.stdin.write(lines(1000))
    program.stdin.flush()
    wait_for(lambda: len(netd.events(event="data")) == 1000, "the first thousand lines")
    before = memory(netd)
    with journald_stopped(netd.box):
        # More than the socket of the journal, those of TCP and a pipe could take together.
        rest = lines(COUNT - 1000, 1001)
        with pytest.raises(subprocess.TimeoutExpired):
            program.communicate(rest, timeout=5)
        assert is_held(netd)
        assert memory(netd) - before < 2 << 20
    numbers_logged(netd, the_session(program))


def test_journald_hanging_before_many_clients(netd):
    """The memory that back-pressure costs does not depend on how many push."""
    netd.start()
    served(netd)
    data = (b"." * 99 + b"\n") * 300
    clients = [netd.connect(timeout=120) for _ in range(100)]
    wait_for(lambda: len(netd.events(event="connect")) == 101, "all to be connected")
    before = memory(netd)
    with journald_stopped(netd.box):
        for client in clients:
            client.sendall(data)
        wait_for(lambda: is_held(netd), "netd to be held")
        time.sleep(1)
        assert memory(netd) - before < 2 << 20
    for client in clients:
        with client:
            receipt = finish(netd, client)
            assert receipt.records == 300 and receipt.bytes == len(data)
            assert netd.received(receipt.session) == data


def test_20_MB_of_random_bytes(netd, long):
    netd.start()
    send_and_check(netd, seeded("20 MB").randbytes(20_000_000 if long else 4_000_000))


def test_a_hundred_clients_at_once(netd, long):
    netd.start()
    size = 30_000 if long else 10_000
    data = [seeded(i).randbytes(size) for i in range(100)]
    receipts = together([lambda i=i: netd.send(data[i]) for i in range(100)])
    assert len({r.session for r in receipts}) == 100
    for i in range(100):
        assert receipts[i].bytes == size
        check(netd, receipts[i].session, data[i])


def test_a_reset_in_mid_record(netd):
    netd.start()
    client = netd.connect()
    client.sendall(b"whole\nhal")
    session = session_of(netd, client)
    wait_for(lambda: netd.events(session, "data"), "the first line")
    reset(client)
    ended(netd, session)
    check(netd, session, b"whole\nhal", reason="reset")
