# SPDX-License-Identifier: MIT
"""TLS sessions while workers are killed, certificates are replaced and netd is upgraded; the death
of netd-tls and of the supervisor; and a netd-tls that does not start."""

import contextlib
import os
import random
import re
import signal
import ssl
import subprocess
import threading
import time

import pytest

import journal
from box import wait_for
from crowd import Processes, RECEIPT, check, sessions
from test_crash import ALL, check_answers, death, every_place, some_deaths  # pylint: disable=unused-import
from test_tls import DIRECTORY, certificates, context  # pylint: disable=unused-import
from traffic import finish, is_read, port_of, records_logged, seeded

PROGRAMS = ("/usr/local/sbin/netd", "/usr/local/libexec/netd-tls")


def config(certificate="server", more=""):
    return "listeners = (" + ",".join(f"""
        {{ name = "{name}"; port = {port}; tls = {{ certificate = "{certificate}.pem";
           key = "{certificate}-key.pem"; {client} }}; }}""" for name, port, client in (
               ("secure", 6514, ""),
               ("mutual", 6515, 'client_ca = "ca.pem"; client_names = ("client.example");'))) \
        + more + ");\n"


class Tls:
    """A TLS client that can end its own direction and read on, as an SSLSocket cannot."""

    def __init__(self, plain, made, skip=0):
        """Through PLAIN, where the first SKIP bytes have been sent already."""
        self.plain, self.skip, self.port = plain, skip, port_of(plain)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = made.wrap_bio(self.incoming, self.outgoing)
        self._until_done(self.tls.do_handshake)

    def _until_done(self, function, *arguments):
        while True:
            try:
                result = function(*arguments)
                self._flush()
                return result
            except ssl.SSLWantReadError:
                self._flush()
                piece = self.plain.recv(65536)
                self.incoming.write(piece) if piece else self.incoming.write_eof()

    def _flush(self):
        self.plain.sendall(self.outgoing.read()[self.skip:])
        self.skip = 0

    def sendall(self, data):
        self.tls.write(data)
        self._flush()

    def certificate(self):
        return ssl.DER_cert_to_PEM_cert(self.tls.getpeercert(binary_form=True)).strip()

    def finish(self):
        """Sends close_notify, and returns what comes until netd's."""
        self.notify()
        return self.answer()

    def notify(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()

    def answer(self):
        received = b""
        while piece := self._read():
            received += piece
        return received

    def _read(self):
        try:
            return self._until_done(self.tls.read, 65536)
        except ssl.SSLZeroReturnError:
            return b""

    def close(self):
        self.plain.close()


def connect(netd, port=6514, certificate=None, version=None, timeout=30):
    made = context(certificate)
    if version:
        made.maximum_version = version
    return Tls(netd.connect(port=port, timeout=timeout), made)


class Sender(threading.Thread):
    """Sends COUNT numbered records at each step, in writes that end anywhere in one."""

    def __init__(self, netd, number, certificate, count):
        super().__init__(daemon=True)
        self.certificate = certificate if number % 2 else None
        self.client = connect(netd, 6515 if self.certificate else 6514, self.certificate,
                              ssl.TLSVersion.TLSv1_2 if number % 4 > 1 else None, timeout=600)
        self.port = self.client.port
        self.number, self.count, self.random = number, count, random.Random(number)
        self.pieces, self.sent, self.answer, self.error = [], b"", b"", None
        self.step, self.done, self.steps = 0, 0, threading.Semaphore(0)
        self.over = False
        self.start()

    def go_on(self):
        self.step += 1
        self.steps.release()

    def end(self):
        """After all steps."""
        self.over = True
        self.steps.release()

    def _send(self):
        data = b"".join(b"client %d record %d %s\n" % (
            self.number, self.done * self.count + i, b"." * self.random.randint(0, 80))
            for i in range(self.count))
        self.pieces.append(data)
        while data:
            size = self.random.randint(1, 20000)
            self.client.sendall(data[:size])
            data = data[size:]
        self.done += 1

    def run(self):
        try:
            while True:
                self.steps.acquire()  # pylint: disable=consider-using-with
                if self.over and self.done == self.step:
                    break
                self._send()
            self.pieces.append(b"the last, without an end")
            self.client.sendall(self.pieces[-1])
            self.answer = self.client.finish()
        except OSError as error:
            self.error = error
        self.sent = b"".join(self.pieces)
        self.client.close()


@pytest.fixture
def upgrade(netd):
    """Replaces both programs, as a package manager does it, by ones that differ."""
    box = netd.box
    version = box.run("netd", "-V").stdout.split()[1]
    other = re.sub("[0-9]", "9", version)

    def replace(script):
        for program in PROGRAMS:
            box.sh(f"{script.format(program)}; chmod 755 {program}.new; "
                   f"mv {program}.new {program}")

    def install():
        replace(f"cp -p {{0}} {{0}}.original; "
                f"sed 's/{re.escape(version)}/{other}/g' {{0}} >{{0}}.new")
        return other

    yield install
    if box.path(PROGRAMS[0] + ".original").exists():
        replace("mv {0}.original {0}.new")


def check_receipts(netd, senders):
    """Each is true: what it names is in the journal, byte for byte. Returns the sessions."""
    found = {}
    for sender in senders:
        receipt = RECEIPT.fullmatch(sender.answer)
        assert receipt, f"not a receipt: {sender.answer!r}"
        records = sender.done * sender.count + 1
        assert (int(receipt[2]), int(receipt[3]), receipt[4]) == \
            (records, len(sender.sent), b"eof"), sender.answer
        session = receipt[1].decode()
        received = netd.box.run("netd-client", "cat", session, text=False, timeout=600).stdout
        assert len(received) == len(sender.sent) and received == sender.sent
        found[sender.port] = session
    assert len(set(found.values())) == len(senders)
    verified = netd.box.run("netd-client", "verify", *found.values(), timeout=600).stdout
    assert len(re.findall(" ok ", verified)) == len(senders)
    assert "repeat" not in verified
    return found


def check_events(netd, senders, found):
    """One connect and one disconnect of each, with what TLS knows of it."""
    for event, more in (("connect", {}), ("disconnect", {"NETD_REASON": b"eof"})):
        events = {e.number("NETD_PEER_PORT"): e for e in netd.events(event=event, fields=None)
                  if e.text("NETD_SESSION_ID") in found.values()}
        assert len(events) == len(senders)
        for sender in senders:
            own = events[sender.port]
            more = more | {"NETD_SESSION_ID": found[sender.port].encode(),
                           "NETD_LISTENER": b"mutual" if sender.certificate else b"secure",
                           "NETD_TLS_NAME": b"client.example" if sender.certificate else None,
                           "NETD_TLS_VERSION": b"TLSv1.2" if sender.number % 4 > 1 else b"TLSv1.3"}
            assert {name: own.get(name) for name in more} == more


def test_p1_tls_through_kills_reloads_and_an_upgrade(netd, certificates, upgrade, long):
    """With --long 100 clients, 1,000,000 records, 50 kills, 10 reloads."""
    count, records, kills, reloads = (100, 1000000, 50, 10) if long else (20, 20000, 8, 3)
    netd.box.sh(f"""cd {DIRECTORY}; openssl req -newkey rsa:2048 -nodes -x509 -days 30 \\
        -subj /CN=other -keyout other-key.pem -out other.pem; chmod 644 other*.pem""")
    pems = [netd.box.sh(f"cat {DIRECTORY}/{name}.pem").strip() for name in ("server", "other")]
    netd.start(config=config())
    processes, rnd, killed = Processes(netd), seeded("tls"), None
    senders, begin, replaced, share = [], time.monotonic(), 0, records // kills // count
    try:
        for step in range(kills):
            # Some are served by each netd-tls that there is.
            wanted = count * (1 + step * reloads // kills) // reloads
            while len(senders) < min(wanted, count):
                senders.append(Sender(netd, len(senders), certificates, share))
            for sender in senders:
                sender.go_on()
            processes.worker(other_than=killed)
            time.sleep(rnd.random() * 0.2)
            killed = processes.kill_worker()
            if (step + 1) * reloads // kills > replaced:
                replaced += 1
                netd.configure_file(config(("server", "other")[replaced % 2]))
                netd.reload()
                probe = connect(netd)
                assert probe.certificate() == pems[replaced % 2]
                probe.finish()
                probe.close()
            if step == kills // 2:
                version = upgrade()
                netd.reload()
                assert f"reloaded: version {version}" in netd.log()
            # Kills are to meet traffic: as many steps behind as clients have in flight.
            wait_for(lambda step=step: all(s.done >= s.step - 1 or s.error for s in senders),
                     "clients to send", 300)
        for sender in senders:  # those that came late send as much as the others
            for _ in range(kills - sender.step):
                sender.go_on()
            sender.end()
        for sender in senders:
            sender.join(600)
            assert not sender.is_alive() and sender.error is None, sender.error
    finally:
        for sender in senders:
            sender.end()
    assert records == sum(s.done * s.count for s in senders)
    seconds = time.monotonic() - begin
    found = check_receipts(netd, senders)
    check_events(netd, senders, found)
    assert netd.log().count("worker died of signal 9") == kills
    assert processes.supervisor == Processes(netd).supervisor
    print(f"{len(senders)} clients, {records} records, {sum(len(s.sent) for s in senders)} bytes, "
          f"{kills} kills, {replaced} reloads and an upgrade in {seconds:.0f} s")
    if long:  # what follows need not read all of it
        netd.box.run("journalctl", "--rotate", "--vacuum-size=100M")


# Death

SHORT = b"one\r\ntwo"
PLAIN = ', { name = "plain"; port = 3000; }'


def speaker(netd, orderly):
    """As that of test_crash.py."""
    def begin():
        client = connect(netd, timeout=60)
        client.sendall(SHORT)
        if orderly:
            client.notify()
        else:
            client.close()

        def wait_for_end():
            answer = client.answer() if orderly else b""
            client.close()
            return client.port, answer
        return wait_for_end
    return begin


def by_port(netd):
    """Maps each client's port to its events."""
    found = {}
    for event in netd.events(fields=None):
        found.setdefault(event.text("NETD_PEER").rpartition(":")[2], []).append(event)
    return {int(port): events for port, events in found.items()}


@pytest.mark.parametrize("orderly", [True, False], ids=["orderly", "cut-off"])
def test_p1_death_at_every_place_of_a_tls_session(netd, certificates, death, long, orderly):
    netd.start(config="sessions: { max = 16; };" + config(), dropin="[Service]\nWatchdogSec=0\n")
    d, client = death(), speaker(netd, orderly)
    results = every_place(d, client, ALL) if long else some_deaths(d, client, 25)
    if orderly:
        check_answers(netd, SHORT, results)
        return
    # Of so many clients some have the same port.
    events = wait_for(lambda: len(found := sessions(netd)) == len(results) and all(
        own[-1].text("NETD_EVENT") == "disconnect" for own in found.values()) and found, "the ends")
    for own in events.values():
        assert [e.text("NETD_EVENT") for e in own] == ["connect", "data", "data", "disconnect"]
        assert own[-1].text("NETD_REASON") == "reset" and journal.joined(own) == SHORT


def netd_tls(netd, other_than=()):
    """The process id of the netd-tls started last."""
    def find():
        pids = [int(pid) for pid in netd.box.sh("pgrep -nx netd-tls || true").split()]
        return pids if pids and pids[0] not in other_than else None
    return wait_for(find, "a netd-tls")[0]


class Strace:
    """strace(1) of the process PID in the box, with further WORDS; .calls: what it has called."""

    OUTPUT = "/run/netd-test-strace"

    def __init__(self, box, pid, *words):
        self.box = box
        self.process = box.popen("strace", "-o", self.OUTPUT, *words, "-p", pid,
                                 stderr=subprocess.PIPE, text=True)
        assert "attached" in self.process.stderr.readline()

    def end(self):
        self.process.terminate()  # SIGINT is ignored where the tests run in a shell's background
        self.process.communicate(timeout=60)
        return re.findall(r"^(\w+)\(", self.box.sh(f"cat {self.OUTPUT}"), re.M)


def attempt(netd):
    """A client's whole session. Returns its port, and what it is told; b"" if that is cut off."""
    plain = netd.connect(port=6514)
    try:
        client = Tls(plain, context())
        client.sendall(SHORT)
        return port_of(plain), client.finish()
    except OSError:
        return port_of(plain), b""
    finally:
        plain.close()


def check_cut_off(own):
    """The events of a client that got no receipt."""
    kinds = [e.text("NETD_EVENT") for e in own]
    assert kinds == ["connect", *["data"] * (len(kinds) - 2), "disconnect"]
    received, end = journal.joined(own), own[-1]
    assert SHORT.startswith(received) and end.number("NETD_BYTES") == len(received)
    assert end.text("NETD_REASON") == "reset" or \
        (end.text("NETD_REASON"), received) == ("eof", SHORT)


def test_p1_death_of_netd_tls_at_every_call(netd, certificates, sample):
    """Its sessions are reset; all others, those of an earlier netd-tls too, go on."""
    netd.start(config=config(more=PLAIN))
    others = [netd.connect(), connect(netd)]
    ports = {port_of(others[0]), others[1].port}
    for client in others:
        client.sendall(b"one\n")
    netd.reload()
    pid = netd_tls(netd)
    trace = Strace(netd.box, pid)
    port, answer = attempt(netd)
    calls, results, died = trace.end(), [(port, answer)], 0
    assert RECEIPT.fullmatch(answer) and len(calls) > 20
    places = [(call, calls[:i + 1].count(call)) for i, call in enumerate(calls)]
    places = places[sample.first % min(len(places), sample.every)::sample.every]
    for call, number in places:
        netd.reload()  # also: a new supervisor does not know how often one has died
        pid = netd_tls(netd, other_than=[pid])
        trace = Strace(netd.box, pid, "-e", f"inject={call}:signal=KILL:when={number}")
        results.append(attempt(netd))
        trace.end()
        if netd.box.run("test", "-e", f"/proc/{pid}", check=False).returncode:
            died += 1
            pid = netd_tls(netd, other_than=[pid])
        results.append(attempt(netd))
        assert RECEIPT.fullmatch(results[-1][1]), (call, number)
    print(f"{died} deaths at {len(places)} of {len(calls)} calls, {sample}")
    assert died > len(places) / 2  # the number of calls differs a little between runs
    for client in others:
        client.sendall(b"two")
    assert finish(netd, others[0]).bytes == 7
    assert b" bytes=7 end=eof" in others[1].finish()
    events = {own[0].number("NETD_PEER_PORT"): own for own in sessions(netd).values()}
    for port in ports:
        assert journal.joined(events[port]) == b"one\ntwo"
    events, answers = sessions(netd), [answer for _, answer in results if answer]
    for answer in answers:
        check(SHORT, answer, events)
        del events[RECEIPT.fullmatch(answer)[1].decode()]
    cut_off = [own for own in events.values() if own[0].number("NETD_PEER_PORT") not in ports]
    assert len(cut_off) <= len(results) - len(answers)
    for own in cut_off:
        check_cut_off(own)


def test_p2_the_supervisor_is_killed_under_tls(netd, certificates):
    """As for clients without TLS: the journal has nothing wrong, and another netd serves."""
    netd.start(config=config())
    processes = Processes(netd)
    senders = [Sender(netd, i, certificates, 100) for i in range(10)]
    for sender in senders:
        for _ in range(20):
            sender.go_on()
    wait_for(lambda: records_logged(netd) > 1000, "traffic")
    os.kill(processes.supervisor, signal.SIGKILL)
    for sender in senders:
        sender.end()
        sender.join(60)
        # netd-tls may see the worker's end, and close in order, before it is killed, too.
        assert not sender.is_alive() and not sender.answer
    wait_for(lambda: netd.pid not in (0, processes.supervisor), "systemd to start another", 60)
    wait_for(lambda: netd.show("ActiveState") == "active", "netd to be ready again", 60)
    events = by_port(netd)
    for sender in senders:
        own = events[sender.port]
        assert {e.text("NETD_EVENT") for e in own} == {"connect", "data"}
        assert sender.sent.startswith(journal.joined(own))
    assert RECEIPT.fullmatch(attempt(netd)[1])


# A netd-tls that does not start

# Good at the check, and then not.
FAILING = """#!/bin/sh
test "$1" = --check && exec {0}.original --check
test -e /run/netd-test-fail || exec {0}.original
{1}
"""
# It needs a shell, which needs system calls.
RELAXED = "[Service]\nNoExecPaths=\nSystemCallFilter=\nRestart=no\n"
SAYS_WHY = r"printf 'error 0 /etc/netd/server.pem: changed meanwhile\n' >&4; exit {}"


@pytest.fixture
def failing(netd):
    """Replaces netd-tls by one that does as it is told while a file exists."""
    program, box = PROGRAMS[1], netd.box

    def install(script):
        box.sh(f"test -e {program}.original || cp -p {program} {program}.original; "
               f"cat >{program}.new; chmod 755 {program}.new; mv {program}.new {program}; "
               "touch /run/netd-test-fail", input=FAILING.format(program, script))

    yield install
    box.sh(f"rm -f /run/netd-test-fail; ! test -e {program}.original || "
           f"mv {program}.original {program}")


@pytest.mark.parametrize("status", [1, 78])
def test_netd_does_not_start_without_netd_tls(netd, certificates, failing, status):
    """1, and 78 where the configuration is at fault: systemd tries again, or not."""
    failing(SAYS_WHY.format(status))
    result = netd.start(config=config(), dropin=RELAXED, check=False)
    assert result.returncode != 0
    assert netd.show("ExecMainStatus") == str(status)
    assert "TLS: /etc/netd/server.pem: changed meanwhile\n" in netd.log()
    assert "ready:" not in netd.log()


@pytest.mark.parametrize("script", [SAYS_WHY.format(1), "kill -KILL $$"], ids=["error", "death"])
def test_a_reload_fails_without_the_new_netd_tls(netd, certificates, failing, script):
    """The old one goes on, and clients with and without TLS are served."""
    netd.start(config=config(), dropin=RELAXED)
    failing(script)
    client = connect(netd)
    netd.configure_file(config(more=', { name = "plain"; port = 3000; }'))
    assert netd.reload(check=False).returncode != 0
    why = {"k": "netd-tls died of signal 9 (Killed)", "p": "/etc/netd/server.pem: changed meanwhile"}
    assert f"reload failed for TLS, all else has the new configuration: {why[script[0]]}\n" in \
        netd.log()
    for each in client, connect(netd):
        each.sendall(b"one\n")
        assert b" bytes=4 end=eof" in each.finish()
        each.close()
    assert netd.send(b"one\n").bytes == 4
    netd.box.sh("rm /run/netd-test-fail")
    netd.reload()
    assert connect(netd).finish()


def test_the_first_listener_with_tls_waits_for_netd_tls(netd, certificates, failing):
    """It comes with a reload, which fails; netd tries again by itself."""
    netd.start(dropin=RELAXED)
    failing(SAYS_WHY.format(1))
    netd.configure_file(config())
    assert netd.reload(check=False).returncode != 0
    netd.box.sh("rm /run/netd-test-fail")
    client = connect(netd, timeout=60)
    assert b" bytes=0 end=eof" in client.finish()


def test_a_reload_that_a_netd_tls_holds_up(netd, certificates, failing, long):
    """With --long until its time is up; else it is ended earlier."""
    netd.start(config=config(), dropin=RELAXED)
    failing("exec sleep 1000")
    with netd.box.popen("systemctl", "reload", "netd") as request:
        if not long:
            wait_for(lambda: netd.box.sh("pgrep -x sleep || true"), "the new netd-tls")
            netd.box.sh("pkill -x sleep")
        assert request.wait(60) != 0
    assert "not ready within 30 seconds" in netd.log() or not long
    assert connect(netd).finish()


# A listener that is closed


def test_a_handshake_outlives_its_listener(netd, certificates):
    """For as long as a handshake may take."""
    plain = ', { name = "plain"; port = 3000; }'
    netd.start(config=config(more=plain))
    half = netd.connect(port=6514)
    half.sendall(b"\x16")  # the first byte of a handshake
    wait_for(lambda: is_read(netd, half), "netd-tls to read it")
    netd.configure_file(config().replace('"secure"; port = 6514', '"secure"; port = 6516'))
    netd.reload()
    with pytest.raises(ConnectionRefusedError):  # when the listeners without TLS are closed
        netd.connect(port=3000)
    client = Tls(half, context(), skip=1)
    client.sendall(b"one\n")
    assert b" bytes=4 end=eof" in client.finish()
