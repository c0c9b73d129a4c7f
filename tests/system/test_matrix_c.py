# SPDX-License-Identifier: MIT
"""Clients that are slow, many, greedy, broken or gone: rows C1 to C11 of the fault matrix."""

import bisect
import collections
import contextlib
import errno
import resource
import socket
import subprocess
import time

import pytest

import journal
from box import wait_for
from test_matrix_j import idle_processor, injected, unharmed
from traffic import (check, ended, finish, is_over, is_read, lines, memory, open_descriptors, port_of,
                     processes, records_logged, reset, seeded, served, session_of, sessions_open,
                     suppressed, together, worker)


@contextlib.contextmanager
def descriptors(count):
    """Room for so many connections in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), max(hard, count)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def by_session(netd, **options):
    """All events since the test began, by their session."""
    found = collections.defaultdict(list)
    for event in netd.events(**options):
        found[event.text("NETD_SESSION_ID")].append(event)
    return found


def test_c1_one_byte_at_a_time_for_ever(netd, long):
    pause = 10 if long else 1
    netd.start(config=f"sessions: {{ idle_timeout = {2 * pause}; }};")
    with unharmed(netd), netd.connect() as client, netd.connect(timeout=60) as silent:
        for _ in range(30 if long else 4):
            client.sendall(b"x")
            time.sleep(pause)
        assert netd.receipt(silent).end == "idle"
        client.sendall(b"\n")
        assert finish(netd, client)[1:] == (1, (30 if long else 4) + 1, "eof")


def test_c2_ten_thousand_idle_sessions(netd, long):
    count = 10_000 if long else 3000
    netd.start()
    with unharmed(netd), descriptors(count + 1000), contextlib.ExitStack() as stack:
        before = memory(netd)
        clients = [stack.enter_context(netd.connect()) for _ in range(count)]
        for client in clients:
            client.sendall(b"half")
        wait_for(lambda: sessions_open(netd) == count, "all of them", 120)
        served(netd) if count < 10_000 else None
        # A second after the last byte, a session has the pages of its unfinished record left.
        wait_for(lambda: memory(netd) - before < count * 6 * 1024, "the memory to be bounded")
        assert memory(netd) - before < 64 << 20
        with idle_processor(netd, 2):
            pass
        for client in clients[::100]:
            client.sendall(b" whole\n")
            assert finish(netd, client).records == 1


def test_c3_connection_flood(netd, long):
    netd.start(config="sessions: { max = 50; };")
    count = 20_000 if long else 1500
    with unharmed(netd), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(netd.connect()) for _ in range(50)]
        wait_for(lambda: sessions_open(netd) == 50, "all places to be taken")
        for _ in range(count):
            with netd.connect() as another:
                answer = netd.answer(another)
                assert answer == "netd error=session-limit\n"
        assert sessions_open(netd) == 50
        for i, client in enumerate(clients):
            client.sendall(b"client %d\n" % i)
            assert finish(netd, client).records == 1
    netd.stop()
    kinds = collections.Counter(e.text("NETD_EVENT") for e in netd.events())
    kinds["refused"] += suppressed(netd)
    assert kinds == {"connect": 51, "data": 51, "disconnect": 51, "refused": count}


def test_c3_refused_clients_that_stay(netd):
    """They neither read the refusal nor close. At most 256 connections are kept besides sessions."""
    netd.start(config="sessions: { max = 20; };")
    pid, most = netd.pid, 0
    with unharmed(netd), contextlib.ExitStack() as stack:
        before = open_descriptors(netd, pid)
        for n in range(1000):
            stack.enter_context(netd.connect())
            if n % 50 == 49:
                most = max(most, open_descriptors(netd, pid))
        wait_for(lambda: netd.box.sh("ss -Hltn 'sport = 3000'").split()[1] == "0",
                 "all to be accepted")
        wait_for(lambda: sessions_open(netd) == 20, "those that were first to be in")
    netd.stop()
    assert len(netd.events(event="refused", fields=["NETD_EVENT"])) + suppressed(netd) == 980
    assert 20 <= most - before <= 20 + 256 + 1  # and the journal's socket


def test_c3_flood_that_hangs_up_at_once(netd):
    netd.start()
    with unharmed(netd):
        for n in range(1000):
            client = netd.connect()
            reset(client) if n % 2 else client.close()
        wait_for(lambda: sessions_open(netd) == 0, "all to be over")
    for events in by_session(netd).values():
        assert [e.text("NETD_EVENT") for e in events if e["NETD_EVENT"] != b"data"] == \
            ["connect", "disconnect"]


def test_c4_one_address_takes_all(netd):
    netd.start(config='host = "0.0.0.0"; sessions: { max = 60; max_per_address = 20; };')
    with unharmed(netd), contextlib.ExitStack() as stack:
        def connect(source):
            s = stack.enter_context(netd.box.socket())
            s.settimeout(30)
            s.bind((source, 0))
            s.connect(("127.0.0.1", 3000))
            return s

        greedy = [connect("127.0.0.2") for _ in range(100)]
        for client in greedy[20:]:  # connections are accepted in their order
            assert netd.answer(client) == "netd error=address-limit\n"
        for source in "127.0.0.3", "127.0.0.4":
            client = connect(source)
            client.sendall(b"polite\n")
            assert finish(netd, client).records == 1
        for client in greedy[:20]:
            assert finish(netd, client).records == 0
    refused = netd.events(event="refused")
    assert len(refused) == 80
    assert {e.text("NETD_REASON") for e in refused} == {"address-limit"}
    assert {e.text("NETD_PEER_ADDRESS") for e in refused} == {"127.0.0.2"}


def test_c5_keepalive_is_on(netd):
    netd.start()
    with netd.connect() as client:
        session_of(netd, client)
        shown = netd.box.sh(f"ss -Htno state established 'sport = 3000 and dport = {port_of(client)}'")
        assert "timer:(keepalive," in shown


def test_c5_a_dead_peer_is_a_timeout(netd):
    """The kernel says so once; what came before is still read."""
    netd.start()
    with unharmed(netd), netd.connect() as client:
        client.sendall(b"half")
        session = session_of(netd, client)
        with injected(netd, "recvmmsg:error=ETIMEDOUT:when=1"):
            client.sendall(b"more\n")
            client.shutdown(socket.SHUT_WR)
            ended(netd, session)
        check(netd, session, b"halfmore\n", reason="timeout")


def test_c5_a_peer_whose_link_is_gone(netd, long):
    """The real thing takes two minutes; shortened, the link comes back, and nothing is lost."""
    box = netd.box
    box.sh("""
        ip netns add far
        ip link add near0 type veth peer name far0 netns far
        ip addr add 10.99.0.1/24 dev near0; ip link set near0 up
        ip -n far addr add 10.99.0.2/24 dev far0; ip -n far link set far0 up
    """)
    try:
        netd.start(config='host = "10.99.0.1";')
        client = box.popen("ip", "netns", "exec", "far", "sh", "-c",
                           "(echo one; cat) | nc -N 10.99.0.1 3000", stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE)
        wait_for(lambda: records_logged(netd) == 1, "the first line")
        session = netd.events(event="connect")[0].text("NETD_SESSION_ID")
        box.sh("ip link set near0 down")
        if long:
            wait_for(lambda: netd.events(session, "disconnect"), "the end", 200)
            assert ended(netd, session).text("NETD_REASON") == "timeout"
            client.kill()
            client.communicate()
        else:
            client.stdin.write(b"two\n")
            client.stdin.flush()
            box.sh("ip link set near0 up")
            out, _ = client.communicate(timeout=60)
            assert b"records=2" in out
            check(netd, session, b"one\ntwo\n")
        with netd.connect(host="10.99.0.1") as other:
            assert finish(netd, other).bytes == 0
    finally:
        netd.stop()
        box.sh("ip link del near0; ip netns del far")


def test_c6_packets_lost_and_reordered(netd):
    netd.start()
    box = netd.box
    box.sh("""
        nft add table inet netdtest
        nft 'add chain inet netdtest in { type filter hook input priority 0; }'
        nft add rule inet netdtest in tcp dport 3000 numgen random mod 100 lt 8 drop
        nft add rule inet netdtest in tcp sport 3000 numgen random mod 100 lt 8 drop
    """)
    try:
        rnd = seeded("c6")
        data = [b"".join(rnd.randbytes(rnd.randint(0, 300)).replace(b"\n", b"") + b"\n"
                         for _ in range(300)) for _ in range(4)]
        receipts = together([lambda d=d: netd.send(d, timeout=120) for d in data])
    finally:
        box.sh("nft delete table inet netdtest")
    for receipt, text in zip(receipts, data):
        check(netd, receipt.session, text)
    served(netd)


def test_c7_resets(netd):
    """In mid record, while idle, right after accept, and with much unread."""
    netd.start()
    with unharmed(netd):
        for data in b"whole\nhalf", b"whole\n", b"":
            client = netd.connect()
            client.sendall(data)
            session = session_of(netd, client)
            count = data.count(b"\n")
            wait_for(lambda s=session, n=count: len(netd.events(s, "data")) == n, "its lines")
            reset(client)
            ended(netd, session)
            check(netd, session, data, reason="reset")
        client = netd.connect()
        session = session_of(netd, client)
        data = lines(3000)
        client.sendall(data)
        reset(client)
        end = ended(netd, session)
        received = netd.received(session)
        assert data.startswith(received)
        assert end.number("NETD_BYTES") == len(received)
        assert end.text("NETD_REASON") == "reset"


def test_c7_a_connection_destroyed_by_the_administrator(netd):
    """What had arrived and was not read yet is logged; then comes the error."""
    netd.start()
    with unharmed(netd), netd.connect() as client:
        client.sendall(b"half")
        session = session_of(netd, client)
        wait_for(lambda: is_read(netd, client), "it to be read")
        netd.box.run("kill", "-STOP", worker(netd))
        client.sendall(b"more\n" * 14)
        netd.box.sh(f"ss -K 'sport = 3000 and dport = {port_of(client)}' >/dev/null")
        assert is_over(client)
        netd.box.run("kill", "-CONT", worker(netd))
        ended(netd, session)
        end = check(netd, session, b"half" + b"more\n" * 14, reason="error")[-1]
        assert end.number("ERRNO") == errno.ECONNABORTED


def test_c8_half_close_then_read(netd):
    netd.start()
    with unharmed(netd):
        data = lines(3000) + b"half"
        with netd.connect() as client:
            client.sendall(data)
            receipt = finish(netd, client)
        check(netd, receipt.session, data)


def test_c8_full_close_with_unread_receipt(netd):
    netd.start()
    with unharmed(netd):
        for n in range(20):
            with netd.connect() as client:
                client.sendall(b"%d\nhalf" % n)
        wait_for(lambda: len(netd.events(event="disconnect")) == 20, "twenty ends")
    found = by_session(netd).values()
    assert sorted(map(journal.joined, found)) == \
        sorted([*(b"%d\nhalf" % n for n in range(20)), b"still served\n"])
    for events in found:
        assert events[-1].text("NETD_EVENT") == "disconnect"
        assert events[-1].number("NETD_BYTES") == len(journal.joined(events))


def test_c8_client_that_never_reads(netd):
    netd.start(config="sessions: { idle_timeout = 1; };")
    with unharmed(netd):
        client = netd.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.sendall(b"x\n")
        session = session_of(netd, client)
        ended(netd, session)  # idle: netd answers, and nobody reads it, nor closes
        wait_for(lambda: sessions_open(netd) == 0, "the session to be over")
        descriptors_now = len(netd.box.sh(f"ls /proc/{netd.pid}/fd").split())
        wait_for(lambda: len(netd.box.sh(f"ls /proc/{netd.pid}/fd").split()) < descriptors_now or
                 not netd.box.sh("ss -Htn 'sport = 3000'").strip(), "the connection to be closed")
        client.close()


def test_c9_firehose_beside_polite_clients(netd):
    """A polite client's line is logged within a second. Measured in what does not depend on the
    machine's speed: how many other records are logged between its sending and its logging."""
    netd.start()
    over = []

    def firehose():
        with netd.connect(timeout=120) as client:
            count = 0
            while not over:
                client.sendall((b"firehose " * 10 + b"\n") * 50)
                count += 50
            assert finish(netd, client).records == count

    def polite():
        with contextlib.ExitStack() as stack:
            stack.callback(over.append, True)
            clients = [stack.enter_context(netd.connect(timeout=120)) for _ in range(100)]
            wait_for(lambda: records_logged(netd) > 5000, "the firehoses to run", 120)
            assert netd.send(b"late\n", timeout=30).records == 1  # nor is who comes only now
            for _ in range(3):
                for client in clients:
                    client.sendall(b"polite %d\n" % (time.time() * 1e6))
                time.sleep(0.1)
            over.append(True)
            for client in clients:
                assert finish(netd, client).records == 3

    with unharmed(netd):
        together([firehose] * 3 + [polite])
    events = netd.events(event="data", fields=["MESSAGE", "NETD_EVENT"])
    times = [e.number("__REALTIME_TIMESTAMP") for e in events]
    ahead = sorted(i - bisect.bisect(times, int(e["MESSAGE"].split()[1]))
                   for i, e in enumerate(events) if e["MESSAGE"].startswith(b"polite"))
    assert len(ahead) == 300
    assert ahead[297] < 20_000, ahead[::30]  # journald takes more than that in a second


def test_c10_every_byte_in_its_own_segment(netd):
    netd.start(config="max_record = 100;")
    rnd = seeded("c10")
    data = bytes(rnd.choices(b"ab\r\n\xc3\xa9\x00", k=2000)) + b"l" * 250 + b"\r\nend"
    with unharmed(netd), netd.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            client.send(data[i:i + 1])
        receipt = finish(netd, client)
    check(netd, receipt.session, data, 100)


def test_c11_many_unfinished_records(netd, long):
    count, limit = (2000, 64 << 20) if long else (600, 8 << 20)
    netd.start(config=f"sessions: {{ buffer_memory = {limit}; }};")
    sent = {}
    with unharmed(netd), descriptors(count + 1000), contextlib.ExitStack() as stack:
        served(netd)
        before = memory(netd, processes(netd)[1:])
        clients = [stack.enter_context(netd.connect(timeout=60)) for _ in range(count)]
        for i, client in enumerate(clients):
            client.sendall(b"%05d" % i * 12000)
            if i % 50 == 0:
                assert memory(netd, processes(netd)[1:]) - before < limit + (16 << 20)
        wait_for(lambda: netd.events(event="data", fields=["NETD_EVENT"]), "pieces")
        assert memory(netd, processes(netd)[1:]) - before < limit + (16 << 20)
        for i, client in enumerate(clients):
            client.sendall(b"end\n")
            receipt = finish(netd, client)
            assert receipt.records == 1
            sent[receipt.session] = b"%05d" % i * 12000 + b"end\n"
    sessions = by_session(netd)
    for session, data in sent.items():
        assert journal.joined(sessions[session]) == data


@pytest.mark.parametrize("error", ["ECONNABORTED", "EINTR", "EPERM", "EPROTO", "ENETDOWN"])
def test_c3_errors_of_accept_are_the_connections_own(netd, error):
    netd.start()
    with unharmed(netd):
        with injected(netd, f"accept4:error={error}:when=1+2"):
            clients = [netd.connect() for _ in range(10)]
            for client in clients:
                with client:
                    client.sendall(b"x\n")
                    assert finish(netd, client).records == 1
