# SPDX-License-Identifier: MIT
"""The receipt, the limits on sessions, and time."""

import contextlib
import re
import socket
import time

import pytest

import journal
from box import wait_for
from traffic import (ADDRESSES, EVERY_EVENT, check, ended, finish, is_held, journald_stopped, lines,
                     port_of, processes, served, session_of, sessions_open)


def silent(client, seconds=0.5):
    """Nothing comes for a while."""
    client.settimeout(seconds)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(30)


# The receipt


def test_nothing_is_written_to_a_client_that_is_still_sending(netd):
    netd.start()
    with netd.connect() as client:
        client.sendall(b"one\ntwo\n")
        session = session_of(netd, client)
        wait_for(lambda: len(netd.events(session, "data")) == 2, "both lines")
        silent(client)
        assert finish(netd, client) == (session, 2, 8, "eof")


def test_the_receipt_counts_records_and_bytes(netd):
    netd.start(config="max_record = 64;")
    for data, count in (b"", 0), (b"\n", 1), (b"a\r\nb", 2), (b"x" * 200, 1), (b"x" * 200 + b"\n", 1):
        receipt = netd.send(data)
        assert receipt[1:] == (count, len(data), "eof"), data
        check(netd, receipt.session, data, 64)


def test_the_receipt_comes_only_after_the_journal_has_everything(netd):
    netd.start()
    with netd.connect(timeout=60) as client:
        session_of(netd, client)
        with journald_stopped(netd.box):
            client.sendall(lines(5000))
            client.shutdown(socket.SHUT_WR)
            silent(client, 2)
        receipt = netd.receipt(client)
    assert receipt.records == 5000
    check(netd, receipt.session, lines(5000))


def test_without_receipt(netd):
    netd.start(config="receipt = false;")
    with netd.connect() as client:
        client.sendall(b"a\nb")
        session = session_of(netd, client)
        client.shutdown(socket.SHUT_WR)
        assert netd.answer(client) == ""
    check(netd, session, b"a\nb")


def test_after_the_receipt_the_connection_is_closed_in_order(netd):
    netd.start()
    for _ in range(20):  # a reset would be an exception in answer()
        with netd.connect() as client:
            client.sendall(lines(200))
            finish(netd, client)
    wait_for(lambda: sessions_open(netd) == 0, "all to be over")


# Refusals


def fields_of_a_refusal(netd, client_port, reason):
    refused, = netd.journal("NETD_EVENT=refused", f"NETD_PEER_PORT={client_port}", fields=None)
    names = {name for name, _ in refused.pairs if not name.startswith("_")}
    assert names == EVERY_EVENT | ADDRESSES | {"NETD_REASON"}
    assert refused.text("NETD_REASON") == reason
    assert len(refused.text("NETD_SESSION_ID")) == 32
    assert netd.events(refused.text("NETD_SESSION_ID")) == [refused] or \
        len(netd.events(refused.text("NETD_SESSION_ID"))) == 1  # no session follows


def test_session_limit(netd):
    netd.start(config="sessions = { max = 3; };")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(netd.connect()) for _ in range(3)]
        wait_for(lambda: len(netd.events(event="connect")) == 3, "three sessions")
        for _ in range(2):
            with netd.connect() as fourth:
                assert netd.answer(fourth) == "netd error=session-limit\n"
                fields_of_a_refusal(netd, port_of(fourth), "session-limit")
        for client in clients:
            client.sendall(b"x\n")
            assert finish(netd, client).bytes == 2
    served(netd)


def test_a_refused_client_that_sends_hears_why(netd):
    """Its bytes are drained: a reset would take the answer away."""
    netd.start(config="sessions = { max = 1; };")
    with netd.connect() as first:
        session_of(netd, first)
        for _ in range(10):
            with netd.connect() as second:
                with contextlib.suppress(BrokenPipeError):
                    second.sendall(b"x" * 1000)
                assert netd.answer(second) == "netd error=session-limit\n"
    assert not netd.events(event="data")


def test_address_limit(netd):
    netd.start(config='host = "0.0.0.0"; sessions = { max_per_address = 2; };')
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(netd.connect()) for _ in range(2)]
        wait_for(lambda: len(netd.events(event="connect")) == 2, "two sessions")
        with netd.connect() as third:
            assert netd.answer(third) == "netd error=address-limit\n"
            fields_of_a_refusal(netd, port_of(third), "address-limit")
        with netd.box.socket() as other:  # from another address
            other.bind(("127.0.0.77", 0))
            other.connect(("127.0.0.1", 3000))
            other.sendall(b"other\n")
            assert finish(netd, other).bytes == 6
        finish(netd, clients[0])
        served(netd)  # there is room again
    assert netd.events(event="connect")[-1].text("NETD_PEER_ADDRESS") == "127.0.0.1"


def test_the_program_says_why_it_was_refused(netd):
    netd.start(config="sessions = { max = 1; };")
    with netd.connect() as first:
        session_of(netd, first)
        result = netd.box.run("netd-client", "send", "x", check=False)
    assert result.returncode == 1 and "session-limit" in result.stderr


# Time


def test_bytes_keep_a_session_from_being_idle(netd):
    netd.start(config="sessions = { idle_timeout = 2; };")
    with netd.connect() as client:
        for _ in range(8):
            client.sendall(b".")
            silent(client)
        receipt = netd.receipt(client)
    assert receipt.bytes == 8 and receipt.end == "idle"


def test_idle_timeout_0_is_never(netd):
    netd.start()
    with netd.connect() as client:
        client.sendall(b"half")
        silent(client, 3)
        assert finish(netd, client).end == "eof"


def test_no_session_is_idle_while_none_is_read(netd):
    netd.start(config="sessions = { idle_timeout = 2; };")
    with netd.connect() as client, netd.connect() as pusher:
        session = session_of(netd, client)
        with journald_stopped(netd.box):
            pusher.sendall(lines(20000))
            wait_for(lambda: is_held(netd), "netd to be held")
            client.sendall(b"while nobody reads\n")
            time.sleep(3)
        receipt = finish(netd, client)
    assert receipt == (session, 1, 19, "eof")


def test_stop_logs_what_clients_have_sent(netd):
    netd.start()
    data = (b"." * 99 + b"\n") * 500 + b"half"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(netd.connect()) for _ in range(10)]
        for client in clients:
            client.sendall(data)
        netd.stop()
        for client in clients:
            receipt = netd.receipt(client)
            assert receipt.bytes == 50004 and receipt.end == "shutdown"
            check(netd, receipt.session, data, reason="shutdown")


def test_p3_stop_timeout(netd):
    """A stop ends in time though the journal blocks it, and no client gets a false receipt."""
    netd.start(config="sessions = { stop_timeout = 1; };")
    with netd.connect() as client:
        session = session_of(netd, client)
        with journald_stopped(netd.box):
            client.sendall(lines(20000))
            wait_for(lambda: is_held(netd), "netd to be held")
            netd.box.run("systemctl", "stop", "netd", timeout=30)
        with pytest.raises(ConnectionResetError):
            netd.answer(client)
    assert netd.show("ActiveState") != "active"
    assert "they were reset" in netd.log()
    assert lines(20000).startswith(netd.received(session))


# Memory


def test_buffer_memory(netd):
    """Unfinished records beyond it are logged in pieces, the largest first, and stay exact."""
    netd.start(config="sessions = { buffer_memory = 1048576; };")
    data = b"a" * 60000
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(netd.connect()) for _ in range(40)]
        for client in clients:
            client.sendall(data)
        wait_for(lambda: netd.events(event="data"), "pieces")
        assert {e.text("NETD_TERMINATOR") for e in netd.events(event="data")} == {"continued"}
        for client in clients:
            client.sendall(b"b" * 1000 + b"\n")
            receipt = finish(netd, client)
            assert receipt.records == 1
            check(netd, receipt.session, data + b"b" * 1000 + b"\n", exact=False)


# Bytes a second


def test_max_rate_is_no_reason_to_end(netd):
    """A client that waits for it is not silent; a reload may take it away; and a stop reads on."""
    config = "max_rate = 1000; flush_timeout = 1; sessions: { idle_timeout = 2; };"
    data = lines(4000)
    netd.start(config=config)
    with netd.connect() as one, netd.connect() as two:
        one.sendall(data)
        two.sendall(data)
        session = session_of(netd, one)
        wait_for(lambda: len(journal.joined(netd.events(session, "data"))) > 5000, "some of it")
        assert len(netd.received(session)) < len(data)
        netd.stop()
        receipts = netd.receipt(one), netd.receipt(two)
    for receipt in receipts:
        assert receipt[1:] == (4000, len(data), "shutdown")
        check(netd, receipt.session, data, reason="shutdown")
    netd.start(config=config)
    with netd.connect() as client:
        client.sendall(data)
        session = session_of(netd, client)
        netd.configure_file("max_rate = 0;")
        netd.reload()
        assert finish(netd, client) == (session, 4000, len(data), "eof")
    check(netd, session, data)


def test_many_entries_in_a_row_are_not_rate_limited(netd):
    """More than journald would take of a service in 30 seconds, without a note of suppression."""
    netd.start()
    receipt = netd.send(b"\n" * 60000)
    assert len(netd.events(receipt.session, "data", fields=["NETD_EVENT"])) == 60000
    assert not [e for e in netd.journal("_SYSTEMD_UNIT=systemd-journald.service")
                if b"Suppressed" in e["MESSAGE"] and b"netd" in e["MESSAGE"]]
    assert ended(netd, receipt.session).number("NETD_RECORDS") == 60000


# Idle


def wake_ups(netd):
    """How often both processes have gone to sleep so far."""
    text = netd.box.sh("cat " + " ".join(f"/proc/{pid}/status" for pid in processes(netd)))
    return sum(map(int, re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.M)))


def test_idle_sessions_wake_nobody(netd, long):
    """At most ten times a minute: systemd's watchdog is fed, and the worker asked whether it lives."""
    netd.start(config="sessions: { idle_timeout = 3600; };")
    clients = [netd.connect() for _ in range(100)]
    for client in clients:
        client.sendall(b"one\nunfinished")
    wait_for(lambda: len(netd.events(event="data")) == 200, "the unfinished records")
    before = 0
    while wake_ups(netd) != before:  # pages are given back, say
        before = wake_ups(netd)
        time.sleep(4)
    before = wake_ups(netd)
    time.sleep(60 if long else 15)
    assert wake_ups(netd) - before <= (10 if long else 5)
    for client in clients:
        client.close()
