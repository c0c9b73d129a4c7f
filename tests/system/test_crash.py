# SPDX-License-Identifier: MIT
"""Workers killed at any time and at every place: clients do not notice, and no byte is lost."""

import contextlib
import errno
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import journal
from box import wait_for
from conftest import SOURCE_INSIDE, Sample
from crowd import Crowd, Foreground, Outlet, Processes, check, sessions
from test_proxy import LOCAL, tls, v2
from test_relp import OPEN, frame, frames, hear, opened, responses
from traffic import (ByHand, file_inside, finish, is_over, is_read, port_of, reset, seeded,
                     suppressed)

# Every place

ALL = Sample(1, 0)


class Death:
    """die.c, which kills workers at chosen places. PID is the supervisor's in the container."""

    PROGRAM = "/run/netd-test-die"

    def __init__(self, netd, pid):
        netd.box.run("cc", "-O2", "-D_GNU_SOURCE", f"-I{SOURCE_INSIDE}/src", "-o", self.PROGRAM,
                     f"{SOURCE_INSIDE}/tests/system/die.c")
        self.process = netd.box.popen(self.PROGRAM, pid, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)

    def _say(self, *words):
        print(*words, file=self.process.stdin, flush=True)

    def _hear(self):
        line = self.process.stdout.readline()
        assert line, "die.c ended"
        return line.split()

    def die(self, client, *places):
        """Kills workers at PLACES, each (stops at system calls, changes), while a client is served.
        CLIENT() starts it and returns a function that waits for its end. Returns the result of that
        function, how many workers were killed, and whether the last one reached its stops."""
        self._say("die", *(number for place in places for number in place))
        assert self._hear() == ["born"]
        wait_for_end = client()  # its data arrive before the worker executes anything
        self._say("live")
        result = wait_for_end()
        self._say("done")
        died, reached = map(int, self._hear())
        return result, died, bool(reached)

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@pytest.fixture
def death(netd):
    made = []

    def make(pid=None):
        made.append(Death(netd, pid or netd.pid))
        return made[-1]

    yield make
    for d in made:
        d.end()


def speaker(netd, data, end=lambda client: client.shutdown(1), first=b"", **options):
    """Returns a function that starts a client, which sends DATA and ends its stream. With FIRST it
    sends that first, and DATA when FIRST was read."""
    def begin():
        client = netd.connect(timeout=60, **options)
        port = None if "path" in options else port_of(client)

        def speak():
            client.sendall(data)
            end(client)

        if first:
            client.sendall(first)
        else:
            speak()

        def wait_for_end():
            answer = b""
            if first:
                wait_for(lambda: is_read(netd, client), "the first bytes")
                speak()
            while piece := client.recv(4096) if client.fileno() >= 0 else b"":
                answer += piece
            client.close()
            return port, answer
        return wait_for_end
    return begin


UNIX = "/run/netd/input"

# With CRLF, and a last record without a line end.
SHORT = b"one\r\ntwo"
# More than one read: the unfinished line is moved to the start of the region.
LONG = (b"a" * 7899 + b"\n") * 4 + b"b" * 2000 + b"\nrest"
# In pieces of 64 bytes; the stream ends within a frame, or without a NUL.
FRAMED = {"octet": b"3 one150 " + b"5 x\n" * 37 + b"xxline\r\n70 cut short",
          "nul": b"one\0" + b"x\n" * 70 + b"\0two"}


def places(death, client, sample, *before):
    """Kills a worker at each place after one of SAMPLE's stops, each time with a new client.
    Yields place and result, where place is None if no worker died there. Before that, workers are
    killed at the places BEFORE; it is repeated if they are not reached."""
    stops, changes, missed = sample.first % sample.every, 0, 0
    while missed < 50:
        place = stops, changes
        result, died, reached = death.die(client, *before, place)
        if died < len(before):
            missed += 1
            yield None, result
            continue
        if died == len(before) and not reached:
            yield None, result
            return
        yield (place if died > len(before) else None), result
        if died > len(before):
            changes += 1
        else:
            stops, changes = stops + sample.every, 0


def every_place(death, client, sample, *before):
    """Goes through places() and returns the clients' results."""
    found = list(places(death, client, sample, *before))
    met = [place for place, _ in found if place]
    print(f"{len(met)} places, {met[-1][0]} stops at system calls, {sample}")
    changes_least = 0 if before else 30  # a recovery late in the session has few changes
    assert met[-1][0] > 50
    assert len(met) * sample.every > met[-1][0] + changes_least
    return [result for _, result in found]


def check_answers(netd, data, results):
    events = sessions(netd)
    for _, answer in results:
        repeats, _ = check(data, answer, events)
        assert repeats == 0


def start(netd, limits, settings=""):
    netd.start(config=f"sessions: {{ {limits} }}; {settings}",
               dropin="[Service]\nWatchdogSec=0\n")


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["short", "long"])
def test_p1_death_at_every_place_of_a_session(netd, death, sample, data):
    start(netd, "max = 16;")
    check_answers(netd, data, every_place(death(), speaker(netd, data), sample))


@pytest.mark.parametrize("framing", FRAMED)
def test_p1_death_at_every_place_among_frames(netd, death, sample, framing):
    """Also between the pieces of one: how much of it is still to come outlives the worker."""
    start(netd, "max = 16;", f'framing = "{framing}"; max_record = 64;')
    data = FRAMED[framing]
    check_answers(netd, data, every_place(death(), speaker(netd, data), sample))
    assert {e.number("NETD_RECORDS") for e in netd.events(event="disconnect")} == \
        {4 if framing == "octet" else 3}


def test_p1_death_at_every_place_of_a_header(netd, death, sample):
    """Half of it is read before the rest comes."""
    start(netd, "max = 16;", 'listeners = ({ name = "proxied"; proxy = true; });')
    header = v2(tls())
    client = speaker(netd, header[20:] + SHORT, first=header[:20])
    check_answers(netd, SHORT, every_place(death(), client, sample))
    for event in netd.events(fields=None):
        assert event.text("NETD_PEER") == "192.0.2.1:4711"
        if event.text("NETD_EVENT") != "data":
            assert event.text("NETD_PROXY").startswith("127.0.0.1:")
            assert event.text("NETD_TLS_NAME") == "client.example"


def test_p1_death_at_every_place_of_a_health_check(netd, death, sample):
    start(netd, "max = 16;", 'listeners = ({ name = "proxied"; proxy = true; });')
    results = every_place(death(), speaker(netd, v2(command=LOCAL)), sample)
    assert {answer for _, answer in results} == {b""}
    assert not netd.events()


def test_p1_death_at_every_place_of_a_unix_client(netd, death, long):
    """It has no name. With receipts, and credentials on each connect."""
    start(netd, "max = 16;", f'listeners = ( {{ name = "local"; path = "{UNIX}"; }} );')
    d, client = death(), speaker(netd, SHORT, path=UNIX)
    results = every_place(d, client, ALL) if long else some_deaths(d, client, 40)
    check_answers(netd, SHORT, results)
    connects = netd.events(event="connect", fields=None)
    assert len(connects) == len(results)
    assert {e.text("NETD_PEER_PID") for e in connects} == {"0"} # of no process inside
    assert {e.text("NETD_LISTENER") for e in netd.events()} == {"local"}


# The third one comes in pieces of 64 bytes, the last one is sent when these are acknowledged.
RELP = [b"one", b"", b"\xff\n" * 40, b"four"]
# How a session ends: what is sent last, and what netd says to it.
RELP_ENDS = {"closed": (b"7 close 0\n", b"7 rsp 0\n"), "cut-short": (b"7 syslog 9 cut", b"")}


def relp_speaker(netd, last, answer):
    """A RELP client, which must hear each response once, and see no end before its own."""
    def begin():
        client = netd.connect(timeout=60)
        client.sendall(OPEN + frames(RELP))

        def wait_for_end():
            with client:
                session = opened(client)
                hear(client, responses(len(RELP)))
                client.sendall(frame(6, b"the last") + last)
                if not answer:
                    client.shutdown(socket.SHUT_WR)
                hear(client, responses(1, 6) + answer)
                assert client.recv(1) == b""
            return session
        return wait_for_end
    return begin


@pytest.mark.parametrize("end", RELP_ENDS)
def test_p1_death_at_every_place_of_a_relp_session(netd, death, sample, end):
    start(netd, "max = 16;", 'framing = "relp"; max_record = 64;')
    ids = every_place(death(), relp_speaker(netd, *RELP_ENDS[end]), sample)
    events = sessions(netd)
    assert len(set(ids)) == len(ids) == len(events)
    records = [*RELP[:2], RELP[2][:64], RELP[2][64:], RELP[3], b"the last",
               *([b"cut"] if end == "cut-short" else [])]
    for session in ids:
        connect, *data, last = events[session]
        assert connect.text("NETD_EVENT") == "connect"
        assert [e.record for e in data] == records
        assert (last.text("NETD_REASON"), last.number("NETD_RECORDS")) == ("eof", len(records) - 1)
        assert not any("NETD_RESENT" in e for e in data)


def test_p1_death_at_every_place_with_a_rate(netd, death, sample):
    """The last bytes of LONG have to wait for it."""
    netd.start(config="max_rate = 32000;", dropin="[Service]\nWatchdogSec=0\n")
    check_answers(netd, LONG, every_place(death(), speaker(netd, LONG), sample))


def test_p1_death_at_every_place_of_a_recovery(netd, death, sample, long):
    """A worker is killed, and the next one at each place of its recovery."""
    start(netd, "max = 16;")
    d = death()
    client = speaker(netd, SHORT)
    for place in some_places(d, client, long):
        print(f"after a death at {place}")
        check_answers(netd, SHORT, every_place(d, client, sample, place))


def some_places(death, client, long):
    """Places just after a change of the table that every worker reaches: one, or with LONG all."""
    def each_comes_to(place):
        return all(death.die(client, place)[1] == 1 for _ in range(5))

    if long:
        met = [place for place, _ in places(death, client, ALL) if place and place[1] > 0]
        return [place for place in met if each_comes_to(place)]
    rnd = seeded("recovery")
    while True:
        place = rnd.randint(60, 90), rnd.randint(1, 5)
        if each_comes_to(place):
            return [place]


@pytest.mark.parametrize("before", [0, 150], ids=["logged", "suppressed"])
def test_p1_death_at_every_place_of_a_refusal(netd, death, sample, before):
    """Also of one among so many that most have no event."""
    start(netd, "max = 16; max_per_address = 1;")
    client = speaker(netd, b"let me in\n")
    with netd.connect() as first:
        wait_for(lambda: netd.events(event="connect"), "the first client's session")
        results = [client()() for _ in range(before)]
        d = death()
        results += every_place(d, client, sample)
        assert {answer for _, answer in results} == {b"netd error=address-limit\n"}
        assert len(netd.events(event="connect")) == 1
        assert first.send(b"still in") == 8
    d.end()
    netd.stop()
    refused = [e.number("NETD_PEER_PORT") for e in netd.events(event="refused")]
    assert len(set(refused)) == len(refused) >= min(len(results), 100)
    assert set(refused) <= {port for port, _ in results}
    # A worker that dies between the count and the session leaves the client to be counted again.
    assert suppressed(netd) >= len(results) - len(refused)


def test_p1_death_at_every_place_of_a_reset(netd, death, sample):
    """Data received before the reset are logged."""
    start(netd, "max = 16;")

    def client():
        begin = [speaker(netd, SHORT, end=reset), speaker(netd, b"behind it")]
        ends = [one() for one in begin]
        return lambda: [end() for end in ends]

    results = every_place(death(), client, sample)
    events = sessions(netd)
    behind = [answer for _, (_, answer) in results]
    for answer in behind:
        check(b"behind it", answer, events)
    others = [own for own in events.values() if own[-1].text("NETD_REASON") != "eof"]
    for own in others:
        assert [e.text("NETD_EVENT") for e in own] == ["connect", "data", "data", "disconnect"]
        assert own[-1].text("NETD_REASON") == "reset"
        assert journal.joined(own) == SHORT
    # A connection reset before it was accepted leaves no events.
    assert len(results) * 0.8 < len(others) <= len(results)


# The entry of the first record is larger than a pipe or a socket takes at once.
TORN = b"\xff" * 3000 + b"\r\ntwo"


def some_deaths(death, client, count):
    """As every_place(), for COUNT random places."""
    rnd = seeded("some deaths")
    lives = [death.die(client, (rnd.randint(20, 120), rnd.choice((0, 0, 1, 2, 3))))
             for _ in range(count)]
    assert sum(died for _, died, _ in lives) > count / 3
    return [result for result, _, _ in lives]


def deaths_in(foreground, netd, death, data, some):
    """Deaths while clients send DATA: SOME, or with None at every place; FOREGROUND then stops."""
    d = death(foreground.pid)
    client = speaker(netd, data, port=4000)
    results = some_deaths(d, client, some) if some else every_place(d, client, ALL)
    d.end()
    assert foreground.stop() == 0
    return results


@pytest.mark.parametrize("kind", Outlet.KINDS)
def test_p1_death_at_every_place_with_standard_output(netd, death, kind, long):
    """The next worker completes the entry that was being written: the output can be imported, is
    complete, and nothing in it repeats."""
    with Foreground(netd, "-o", "export", kind=kind) as foreground:
        results = deaths_in(foreground, netd, death, TORN, None if long else 25)
    check_export(netd, foreground.outlet.everything(), TORN, results)


def check_export(netd, said, data, results):
    """Compares what netd has SAID with the sessions of RESULTS, each of which sent DATA."""
    events = {}
    for event in journal.parse(said):
        events.setdefault(event.text("NETD_SESSION_ID"), []).append(event)
    for port, answer in results:
        repeats, records = check(data, answer, events)
        assert repeats == 0 and records > 1, port
    check_import(netd.box, said, len(events))


@pytest.mark.parametrize("framing, kind", [("nul", "pipe"), ("octet", "socket")])
def test_p1_death_among_frames_with_standard_output(netd, death, framing, kind, long):
    data = FRAMED[framing]
    with file_inside(netd.box, "/root/netd-test/netd.conf",
                     f'framing = "{framing}"; max_record = 64;'), \
            Foreground(netd, "-o", "export", "-c", "/root/netd-test/netd.conf",
                       kind=kind) as foreground:
        results = deaths_in(foreground, netd, death, data, None if long else 15)
    check_export(netd, foreground.outlet.everything(), data, results)


@pytest.mark.parametrize("framing", ["line", *FRAMED])
def test_p1_death_with_text_on_standard_output(netd, death, framing, long):
    """Each record is a line, once. After a death in the middle of one, it is completed."""
    data = FRAMED.get(framing, TORN)
    with file_inside(netd.box, "/root/netd-test/netd.conf", f'framing = "{framing}";'), \
            Foreground(netd, "-o", "text", "-c", "/root/netd-test/netd.conf",
                       kind="pipe") as foreground:
        results = deaths_in(foreground, netd, death, data, None if long else 10)
    said = foreground.outlet.everything().splitlines()
    records = {"line": TORN.split(b"\r\n"), "nul": [b"one", b"x\n" * 70, b"two"],
               "octet": [b"one", b"5 x\n" * 37 + b"xx", b"line", b"cut short"]}[framing]
    for port, answer in results:
        session = answer.split(b"session=")[1][:32]
        own = [line.split(b" ", 2)[2] for line in said if line.split(b" ")[1] == session]
        assert own[0] == b"connect 127.0.0.1:%d" % port
        assert own[1:-1] == [b"data " + escaped(record) for record in records]
        assert own[-1].startswith(b"disconnect 127.0.0.1:%d disconnected: eof, " % port)
    assert len(said) == len(results) * (len(records) + 2)


def escaped(record):
    return re.sub(rb"[^ -~]", lambda byte: b"\\x%02x" % ord(byte[0]), record)


def check_import(box, said, sessions_logged):
    """systemd-journal-remote imports all of it, and each session in the result is complete."""
    with file_inside(box, "/root/netd-import/events", said):
        box.run("/lib/systemd/systemd-journal-remote", "-o", "/root/netd-import/all.journal",
                "/root/netd-import/events")
        try:
            verified = box.run("netd-client", "verify", "-D", "/root/netd-import").stdout
        finally:
            box.sh("rm /root/netd-import/*.journal")
    assert verified.count(" ok ") == sessions_logged, verified[-2000:]


# At any time


def test_p1_many_kills_under_load(netd, long):
    """200 kills, with --long 500: each byte is logged once, and no connection ends."""
    netd.start()
    processes = Processes(netd)
    netd.send(b"opens the connection to the journal")
    descriptors = processes.descriptors()
    rnd = seeded("kills")
    with Crowd(netd, 50) as crowd:
        killed = None
        for _ in range(500 if long else 200):
            processes.worker(other_than=killed)
            time.sleep(rnd.random() * 0.05)  # before it is ready, or while it works
            killed = processes.kill_worker()
        repeats, records = crowd.settle()
    print(f"{repeats} of {records} records repeated")
    assert repeats == 0
    assert records > 1000
    assert processes.supervisor == Processes(netd).supervisor
    # No descriptor and no process is left.
    wait_for(lambda: processes.descriptors() == descriptors, "as many descriptors as before")
    assert netd.box.sh(f"pgrep -cP {netd.pid}").strip() == "1"


@pytest.mark.parametrize("framing", FRAMED)
def test_p1_kills_and_reloads_among_frames(netd, long, framing):
    """Most records come in pieces, and clients stop for a moment anywhere in one."""
    netd.start(config=f'framing = "{framing}"; max_record = 64;')
    processes = Processes(netd)
    rnd = seeded("frames")
    with Crowd(netd, 20, framing=framing) as crowd:
        killed = None
        for i in range(200 if long else 50):
            if i % 10 == 0:
                netd.reload()
            processes.worker(other_than=killed)
            time.sleep(rnd.random() * 0.05)
            killed = processes.kill_worker()
        repeats, records = crowd.settle()
    assert repeats == 0
    assert records > 1000
    # All that it names: earlier tests have left sessions without an end.
    netd.box.run("netd-client", "verify", "-q", *crowd.session_ids())


def test_p1_a_rate_is_kept_over_kills(netd):
    """Bytes are counted when they are received, by whichever worker; and a client waits for the
    rate, not for the next worker."""
    rate, killed = 100000, None
    data = b"".join(b"%0100d\n" % n for n in range(6000))
    netd.start(config=f"max_rate = {rate};")
    processes, rnd = Processes(netd), seeded("rate")
    begin = time.monotonic()
    with netd.connect(timeout=120) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        while sender.is_alive():
            processes.worker(other_than=killed)
            time.sleep(rnd.random() * 0.3)
            killed = processes.kill_worker()
        sender.join()
        receipt = finish(netd, client)
    assert receipt[1:] == (6000, len(data), "eof")
    received = 0
    events = netd.events(receipt.session, "data")
    assert journal.joined(events) == data
    for event in events:
        received += len(event.record) + 1
        assert received <= rate * (event.number("__MONOTONIC_TIMESTAMP") / 1e6 - begin) + rate


@pytest.mark.parametrize("output", ["text", "export"])
def test_p1_standard_output_is_not_adopted(box, output):
    """Standard output may be a connected stream socket, like a client's connection."""
    box.sh("echo 'sessions = { idle_timeout = 3; };' >/tmp/netd-idle.conf")
    ours, theirs = socket.socketpair()
    with ours, ByHand(box, "-o", output, "-p", "0", "-c", "/tmp/netd-idle.conf",
                      stdout=theirs) as program:
        theirs.close()
        port = int(program.ready().rpartition(":")[2])
        worker = f"pgrep -P $(cat {program.PID})"
        with box.connect(port) as client:
            for _ in range(3):
                killed = box.sh(worker).strip()
                box.sh(f"kill -KILL {killed}")
                wait_for(lambda: box.sh(f"{worker} || true").strip() not in ("", killed),
                         "another worker")
                client.sendall(b"one\n")
            answer = client.recv(4096)  # anything adopted before would be idle by then, too
            assert b" records=3 bytes=12 end=idle\n" in answer, answer
        with box.connect(port) as client:
            client.sendall(b"two\n")
            client.shutdown(socket.SHUT_WR)
            assert b"end=eof" in client.recv(4096)
        program.kill()
        assert program.process.wait(30) == 0
        said = b""
        while piece := ours.recv(65536):
            said += piece
    assert said.count(b"NETD_EVENT=connect\n" if output == "export" else b" connect ") == 2
    assert b"unix" not in said


@pytest.mark.parametrize("locked", [True, False])
def test_p1_memory_that_may_not_be_locked(box, locked):
    """As for an unprivileged user in a container: one warning names the consequence."""
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    limit = () if locked else ("prlimit", "--memlock=0")
    warning = b"netd: cannot lock the session table in memory: Operation not permitted; a worker " \
              b"that is killed while memory is swapped out may lose or repeat a record\n"
    with ByHand(box, "-o", "text", "-p", "0", program=(*limit, *user, "netd")) as program:
        if not locked:
            assert program.process.stderr.readline() == warning
        port = int(program.ready().rpartition(":")[2])
        worker = f"pgrep -P $(cat {program.PID})"
        killed = box.sh(worker).strip()
        box.sh(f"kill -KILL {killed}")
        assert b"worker died" in program.process.stderr.readline()
        with box.connect(port) as client:
            client.sendall(b"one\n")
            client.shutdown(socket.SHUT_WR)
            assert b"end=eof" in client.recv(4096)
        assert program.stop().count(b" data one\n") == 1  # without other messages


def test_p1_a_kill_while_clients_have_all_descriptors(netd):
    """No descriptor is left to examine those of the dead worker."""
    netd.start(dropin="[Service]\nLimitNOFILE=60\n")
    processes = Processes(netd)
    clients = [netd.connect() for _ in range(100)]
    try:
        wait_for(lambda: "pausing accept" in netd.log(), "clients to have all descriptors")
        for client in clients:
            client.sendall(b"one\n")
        killed = processes.kill_worker()
        processes.worker(other_than=killed)
        for client in clients:
            client.sendall(b"two")
            client.shutdown(1)
        # Each session that ends makes room for one that waits to be accepted.
        for client in clients:
            assert netd.receipt(client).bytes == 7
    finally:
        for client in clients:
            client.close()


def test_p5_a_worker_that_hangs_is_replaced(netd):
    netd.start()
    processes = Processes(netd)
    with Crowd(netd, 3) as crowd:
        stopped = processes.worker()
        os.kill(stopped, signal.SIGSTOP)
        processes.worker(other_than=stopped)
        assert crowd.settle()[0] == 0
    assert re.search(r"^worker \d+ does not respond; killing it$", netd.log(), re.M)


def test_p1_workers_that_always_die(netd):
    """netd exits after a number of crashes in a row, and leaves the restart to systemd."""
    netd.start(dropin="[Service]\nRestart=no\n")
    processes = Processes(netd)

    def kill_or_failed():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            worker = processes.worker_if_any()
            if worker:
                os.kill(worker, signal.SIGABRT)  # sanitizers do not report it
        return netd.show("ActiveState") == "failed"

    wait_for(kill_or_failed, "netd to give up", 120)
    assert netd.show("ExecMainStatus") == "1"
    assert netd.log().count("the worker died 16 times in a row; giving up") == 1


def test_p5_both_processes_stopped_for_a_moment(netd):
    netd.start()
    processes = Processes(netd)
    with Crowd(netd, 3) as crowd:
        pids = processes.supervisor, processes.worker()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                os.kill(pid, number)
            time.sleep(1)
        assert crowd.settle()[0] == 0
    assert (processes.supervisor, processes.worker()) == pids


# Sessions that crash the worker


@pytest.fixture
def poisoned(netd):
    """A netd whose session code crashes on a certain record."""
    netd.box.sh(f"""
        cd {SOURCE_INSIDE}
        cc -O1 -D_GNU_SOURCE -Isrc -c -o /run/poison.o tests/system/poison.c
        wrap=$(printf ' -Wl,--wrap=framing_%s_next' line nul octet)
        make -s BUILD=/run/poison LDFLAGS="/run/poison.o $wrap" /run/poison/netd
        install /run/poison/netd /usr/local/sbin/netd-poisoned
    """, timeout=600)
    yield "[Service]\nExecStart=\nExecStart=/usr/local/sbin/netd-poisoned\n"
    netd.box.sh("rm -r /run/poison* /usr/local/sbin/netd-poisoned")


def test_p6_a_poison_record_ends_its_session_only(netd, poisoned):
    poison = {"line": b"good\nPOISON\nnever looked at\n", "nul": b"good\0POISON\0never looked at\0",
              "octet": b"4 goodPOISON\n15 never looked at", "local": b"POISON\nnever looked at\n"}
    netd.start(dropin=poisoned, config=f"""listeners = (
        {{ name = "line"; port = 3000; }},
        {{ name = "nul"; port = 3001; framing = "nul"; }},
        {{ name = "octet"; port = 3002; framing = "octet"; }},
        {{ name = "local"; path = "{UNIX}"; }} );""")
    processes = Processes(netd)
    places = ({"port": 3000}, {"port": 3001}, {"port": 3002}, {"path": UNIX})
    with Crowd(netd, 10) as crowd:
        for (name, data), place in zip(poison.items(), places):
            with netd.connect(**place) as client:
                client.sendall(data)
                assert is_over(client)
            end = wait_for(lambda: [e for e in netd.events(event="disconnect")
                                    if e.text("NETD_LISTENER") == name], f"the end at {name}")[0]
            assert (end.text("NETD_REASON"), end.number("ERRNO")) == ("error", errno.EBADMSG)
            # The journal has a prefix of the data, and the disconnect event shows that it is one.
            assert end.number("NETD_BYTES") == len(data)
            assert data.partition(b"POISON")[0].startswith(netd.received(
                end.text("NETD_SESSION_ID")))
        assert crowd.settle()[0] == 0
    assert netd.log().count("worker died of signal 6") == 2 * len(poison)
    assert processes.supervisor == Processes(netd).supervisor


def dumped(pid):
    """The bytes that a core file of PID would have: all mappings but those with MADV_DONTDUMP."""
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )",
                        pathlib.Path(f"/proc/{pid}/smaps").read_text(encoding="ascii"), flags=re.M)
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for mapping in mappings[1:]:
            first, last, mode = re.match(r"(\w+)-(\w+) (....)", mapping).groups()
            if mode[0] == "r" and not re.search(r"^VmFlags:.* dd( |$)", mapping, re.M) \
                    and "[v" not in mapping.split("\n")[0]:  # vdso and its data
                memory.seek(int(first, 16))
                yield mapping.split("\n")[0], memory.read(int(last, 16) - int(first, 16))


@pytest.mark.parametrize("output", ["journal", "export"])
def test_p6_clients_bytes_are_in_no_core_file(netd, output):
    secret = seeded("secret").randbytes(100).hex().encode()
    with Foreground(netd, "-o", output) as foreground:
        pids = foreground.supervisor, foreground.processes.worker()
        with netd.connect(port=4000) as client, netd.connect(port=4000) as ending:
            ending.sendall(b"\xff" + secret + b"\n")
            for i in range(60):  # escaped or not, and larger than a datagram
                client.sendall(b"%d " % i + secret * (i % 7 // 6 * 300) + b"\xff" * (i % 4) + secret
                               + b"\n")
            ending.shutdown(socket.SHUT_WR)
            assert netd.receipt(ending).end == "eof"
            client.sendall(b"unfinished " + secret)
            wait_for(lambda: is_read(netd, client), "the last bytes to be read")
            found = [name for pid in pids for name, content in dumped(pid) if secret in content]
        assert found == []


def test_p2_the_supervisor_is_killed(netd):
    """systemd starts netd again; clients are disconnected, and the journal has nothing wrong."""
    netd.start()
    processes = Processes(netd)
    with Crowd(netd, 20) as crowd:
        wait_for(lambda: len(netd.events(event="data")) > 200, "traffic")
        os.kill(processes.supervisor, signal.SIGKILL)
        wait_for(lambda: not os.path.exists(f"/proc/{processes.supervisor}"), "its end")
        for client in crowd.clients:
            client.over.set()
            client.join(60)
            assert not client.is_alive() and client.answer == b""
        wait_for(lambda: netd.pid not in (0, processes.supervisor), "systemd to start another", 60)
        wait_for(lambda: netd.show("ActiveState") == "active", "netd to be ready again", 60)
    for own in sessions(netd).values():
        kinds = [e.text("NETD_EVENT") for e in own]
        assert kinds == ["connect"] + ["data"] * (len(kinds) - 1)
        label = own[1].record.rpartition(b" record ")[0] if len(own) > 1 else b""
        sent = [c.sent for c in crowd.clients if c.label.startswith(label + b" ")] or [b""]
        assert sent[0].startswith(journal.joined(own))
    verify = netd.box.run("netd-client", "verify", check=False)
    assert "differs" not in verify.stdout + verify.stderr, verify
    assert netd.send(b"again").bytes == 5


# Without systemd


@pytest.mark.parametrize("output", ["text", "export"])
def test_a_plain_process_survives_the_same(netd, output):
    with Foreground(netd, "-o", output) as foreground:
        with netd.connect(port=4000) as client:
            client.sendall(b"one\ntw")
            killed = foreground.processes.kill_worker()
            foreground.processes.worker(other_than=killed)
            os.kill(foreground.supervisor, signal.SIGHUP)
            wait_for(lambda: b"reloaded" in foreground.errors.read_bytes(), "the reload")
            client.sendall(b"o\nthree")
            client.shutdown(1)
            receipt = netd.receipt(client)
            assert (receipt.records, receipt.bytes, receipt.end) == (3, 13, "eof")
        assert foreground.stop() == 0
    said = foreground.output.read_bytes()
    if output == "export":
        assert journal.joined(journal.parse(said)) == b"one\ntwo\nthree"
    else:
        assert [said.count(word) for word in (b"one", b"two", b"three")] == [1, 1, 1]
