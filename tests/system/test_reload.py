# SPDX-License-Identifier: MIT
"""systemctl reload: another configuration, another program, and all clients stay."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from box import SOURCE, wait_for
from conftest import SOURCE_INSIDE
from crowd import Crowd, Processes
from daemon import CONFIG
from traffic import (ByHand, finish, is_held, is_over, journald_stopped, lines, seeded, session_of,
                     sessions_open, suppressed)

PROGRAM = "/usr/local/sbin/netd"
SOCKET_ONLY = (SOURCE / "systemd/socket-only.conf").read_text(encoding="utf-8")


def reloads(netd):
    return len(re.findall(r"^reloaded: ", netd.log(), re.M))


def reload(netd, config=None):
    """Reloads, with another configuration file, and returns when that is in force."""
    before = reloads(netd)
    if config is not None:
        netd.box.path(CONFIG).write_text(config, encoding="utf-8")
    netd.reload()
    wait_for(lambda: reloads(netd) > before, "the reload")
    wait_for(lambda: netd.show("SubState") == "running", "systemd to know")


def environment_of(netd, pid):
    """Without the numbers of a descriptor and of the process that asked for the reload."""
    text = netd.box.run("cat", f"/proc/{pid}/environ").stdout
    return re.sub(r"(?<=NETD_RELOAD=)\d+:\d+", "", text)


# The configuration


def test_p4_300_clients_through_50_reloads(netd):
    netd.start()
    pid = netd.pid
    processes = Processes(netd)
    with Crowd(netd, 300, pause=0.5) as crowd:
        reload(netd)
        descriptors = processes.descriptors()
        environment = environment_of(netd, pid)
        worker = processes.worker()
        for _ in range(50):
            netd.reload()
            worker = processes.worker(other_than=worker)
        wait_for(lambda: netd.show("SubState") == "running", "systemd to know")
        # Nothing grows from one to the next.
        wait_for(lambda: processes.descriptors() == descriptors, "as many descriptors as before")
        assert environment_of(netd, pid) == environment
        assert netd.box.sh(f"pgrep -cP {pid}").strip() == "1"
        repeats, _ = crowd.settle()
    assert repeats == 0
    assert netd.pid == pid
    assert netd.show("NRestarts") == "0"


def test_another_port_framing_and_limits(netd):
    """Sessions keep the settings of their listener, or get the new ones where it is the same."""
    netd.start(config="port = 3000; max_record = 65536;")
    with netd.connect() as old:
        session = session_of(netd, old)
        old.sendall(b"a" * 100)
        reload(netd, "port = 3000; max_record = 64;")
        old.sendall(b"a" * 100 + b"\n")
        wait_for(lambda: len(netd.events(session, "data")) == 4, "the record in pieces")
        reload(netd, "port = 3001; framing = \"raw\"; sessions: { max = 2; };")
        with pytest.raises(ConnectionRefusedError):
            netd.connect()
        with netd.connect(3001) as new:
            new.sendall(b"one\ntwo\n")
            wait_for(lambda: sessions_open(netd) == 2, "two sessions")
            third = netd.connect(3001)
            assert netd.answer(third) == "netd error=session-limit\n"
            third.close()
            receipt = finish(netd, new)
        assert [e.record for e in netd.events(receipt.session, "data")] == [b"one\ntwo\n"]
        old.sendall(b"three\nfour")
        receipt = finish(netd, old)
    assert [e.record for e in netd.events(session, "data")][-2:] == [b"three", b"four"]
    assert (receipt.records, receipt.bytes) == (3, 211)
    assert netd.received(session) == b"a" * 200 + b"\nthree\nfour"


def test_sessions_of_many_earlier_addresses(netd):
    """However many there are, another address can follow."""
    netd.start(config="port = 3000;")
    clients = []
    for port in range(3000, 3020):
        clients.append(netd.connect(port))
        clients[-1].sendall(b"one\n")
        session_of(netd, clients[-1])
        netd.configure_file(f"port = {port + 1};")
        netd.reload()
    for client in clients:
        assert finish(netd, client).bytes == 4
        client.close()


def test_each_listener_has_its_own_idle_timeout(netd):
    """One that never ends its sessions does not keep another's alive, whatever was adopted first."""
    netd.start(config="port = 3000;")
    with netd.connect() as old:
        old.sendall(b"x\n")
        reload(netd, "port = 3001; sessions: { idle_timeout = 1; };")
        with netd.connect(3001) as new:
            new.sendall(b"one\n")
            receipt = netd.receipt(new)
            assert (receipt.bytes, receipt.end) == (4, "idle")
        assert finish(netd, old).end == "eof"


def test_waiting_client_of_a_closing_listener_is_served(netd):
    """Also when the journal takes nothing at that time."""
    netd.start(config="port = 3000;")
    processes = Processes(netd)
    with netd.connect(timeout=120) as talker:
        with journald_stopped(netd.box):
            talker.sendall(lines(20000))  # until the queue is full
            wait_for(lambda: is_held(netd), "a full queue")
            waiting = [netd.connect(timeout=120) for _ in range(400)]
            for client in waiting:
                client.sendall(b"in time\n")
            netd.box.path(CONFIG).write_text("port = 3001;", encoding="utf-8")
            worker = processes.worker()
            os.kill(processes.supervisor, signal.SIGHUP)
            processes.worker(other_than=worker)
        for client in waiting:
            assert finish(netd, client).bytes == 8
            client.close()
        assert finish(netd, talker).bytes == len(lines(20000))
    wait_for(lambda: not netd.box.sh("ss -Hltn sport = 3000").strip(), "the old listener to go")
    assert netd.send(b"new", port=3001).bytes == 3


def test_refused_client_of_a_closing_listener_is_told(netd):
    """Also when more wait there than the table has room for."""
    netd.start(config="port = 3000; sessions = { max = 1; };")
    processes = Processes(netd)
    with netd.connect(timeout=120) as talker:
        with journald_stopped(netd.box):
            talker.sendall(lines(20000))
            wait_for(lambda: is_held(netd), "a full queue")
            waiting = [netd.connect(timeout=120) for _ in range(600)]
            netd.box.path(CONFIG).write_text("port = 3001; sessions = { max = 1; };",
                                             encoding="utf-8")
            worker = processes.worker()
            os.kill(processes.supervisor, signal.SIGHUP)
            processes.worker(other_than=worker)
        for client in waiting:
            assert netd.answer(client) == "netd error=session-limit\n"
            client.close()
        assert finish(netd, talker).bytes == len(lines(20000))
    assert len(netd.events(event="refused")) + suppressed(netd) == len(waiting)


@pytest.mark.parametrize("text, said", [
    ("port = 70000;", "netd.conf:1: port: "),
    ("port = ;", "netd.conf:1: "),
    ("prot = 3000;", "netd.conf:1: "),
])
def test_p4_a_bad_file_changes_nothing(netd, text, said):
    netd.start()
    processes = Processes(netd)
    worker = processes.worker()
    with netd.connect() as client:
        client.sendall(b"one\n")
        netd.box.path(CONFIG).write_text(text, encoding="utf-8")
        assert netd.reload(check=False).returncode != 0
        assert said in netd.log()
        # And where somebody sends the signal without asking.
        os.kill(processes.supervisor, signal.SIGHUP)
        wait_for(lambda: "reload failed, the old configuration stays" in netd.log(), "the refusal")
        assert processes.worker() == worker
        wait_for(lambda: netd.show("SubState") == "running", "systemd to know")
        assert finish(netd, client).bytes == 4
    assert netd.send(b"two").bytes == 3


def test_p4_a_file_that_goes_bad_in_the_middle_of_a_reload(netd):
    """What was checked comes into force, and nothing is read again."""
    netd.start()
    processes = Processes(netd)
    worker = processes.worker()
    netd.configure_file("max_record = 64;")
    with netd.connect() as client:
        client.sendall(b"one\n")
        session_of(netd, client)
        os.kill(worker, signal.SIGSTOP)
        os.kill(processes.supervisor, signal.SIGHUP)
        wait_for(lambda: _has_waiting(worker, signal.SIGUSR1), "the check to be over")
        netd.box.path(CONFIG).write_text("port = 70000;", encoding="utf-8")
        os.kill(worker, signal.SIGCONT)
        processes.worker(other_than=worker)
        wait_for(lambda: reloads(netd) == 1, "the reload")
        assert finish(netd, client).bytes == 4
    assert len(netd.events(netd.send(b"x" * 65).session, "data")) == 2
    assert netd.show("NRestarts") == "0"


def _has_waiting(pid, number):
    """True when the process has been sent the signal, and could not look at it yet."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        mask = int(re.search(r"^ShdPnd:\t([0-9a-f]+)$", status.read(), re.M)[1], 16)
    return mask & 1 << (number - 1) != 0


def test_a_reload_while_the_journal_takes_nothing(netd):
    netd.start()
    processes = Processes(netd)
    with Crowd(netd, 20, pause=0.001) as crowd:
        with journald_stopped(netd.box):
            wait_for(lambda: is_held(netd), "a full queue")
            for _ in range(5):
                worker = processes.worker()
                os.kill(processes.supervisor, signal.SIGHUP)
                processes.worker(other_than=worker)
        repeats, _ = crowd.settle()
    assert repeats == 0


def test_p4_a_storm_of_signals(netd):
    netd.start()
    processes = Processes(netd)
    with Crowd(netd, 20) as crowd:
        for _ in range(1000):
            os.kill(processes.supervisor, signal.SIGHUP)
            time.sleep(0.001)
        wait_for(lambda: netd.show("SubState") == "running", "the last reload to end")
        repeats, _ = crowd.settle()
    assert repeats == 0
    assert 1 <= reloads(netd) < 500
    assert netd.show("NRestarts") == "0"


def test_a_stop_in_the_middle_of_a_reload(netd, long):
    """All sessions end with a true receipt, whatever the reload is at."""
    rnd = seeded("stop")
    for _ in range(50 if long else 10):
        netd.start()
        processes = Processes(netd)
        clients = [netd.connect() for _ in range(5)]
        for client in clients:
            client.sendall(b"one\ntwo")
        wait_for(lambda: sessions_open(netd) == 5, "all clients to be in")
        os.kill(processes.supervisor, signal.SIGHUP)
        time.sleep(rnd.random() * 0.06)
        os.kill(processes.supervisor, signal.SIGTERM)
        for client in clients:
            receipt = netd.receipt(client)
            assert (receipt.records, receipt.bytes, receipt.end) == (2, 7, "shutdown")
            client.close()
        wait_for(lambda: netd.show("ActiveState") == "inactive", "the end")
        assert netd.show("Result") == "success"


def test_p5_a_stop_while_the_worker_hangs(netd):
    """It does not wait for ever, and says that it failed."""
    netd.start(config="sessions = { stop_timeout = 0; };")
    processes = Processes(netd)
    worker = processes.worker()
    with netd.connect() as client:
        client.sendall(b"half")
        wait_for(lambda: sessions_open(netd) == 1, "the client to be in")
        os.kill(worker, signal.SIGSTOP)
        netd.box.run("systemctl", "stop", "netd.service")
        assert netd.show("Result") == "exit-code"
        assert "the worker did not stop in time" in netd.log()
        assert not os.path.exists(f"/proc/{worker}")
        assert is_over(client)


def test_a_stop_that_comes_when_the_worker_has_yielded(netd):
    """Another one has to end the sessions, be it of this program or the next."""
    netd.start()
    processes = Processes(netd)
    worker = processes.worker()
    with netd.connect() as client:
        client.sendall(b"one\ntwo")
        wait_for(lambda: sessions_open(netd) == 1, "the client to be in")
        os.kill(worker, signal.SIGSTOP)
        os.kill(processes.supervisor, signal.SIGHUP)
        wait_for(lambda: _has_waiting(worker, signal.SIGUSR1), "the check to be over")
        os.kill(processes.supervisor, signal.SIGSTOP)
        os.kill(worker, signal.SIGCONT)
        wait_for(lambda: processes.worker_if_any() is None, "the worker to yield")
        os.kill(processes.supervisor, signal.SIGTERM)
        os.kill(processes.supervisor, signal.SIGCONT)
        receipt = netd.receipt(client)
    assert (receipt.records, receipt.bytes, receipt.end) == (2, 7, "shutdown")
    wait_for(lambda: netd.show("ActiveState") == "inactive", "the end")
    assert netd.show("Result") == "success"


def test_a_kill_in_the_middle_of_a_reload(netd):
    netd.start()
    processes = Processes(netd)
    rnd = seeded("kill in reload")
    with Crowd(netd, 20) as crowd:
        for _ in range(30):
            worker = processes.worker()
            os.kill(processes.supervisor, signal.SIGHUP)
            time.sleep(rnd.random() * 0.06)
            processes.kill_worker()
            processes.worker(other_than=worker)
        assert crowd.settle()[0] == 0
    assert netd.show("NRestarts") == "0"


# What cannot come into force


def refused(netd, config, reason):
    """A reload that fails for REASON, said in one line, and changes nothing; returns the line."""
    pid = netd.pid
    before = netd.log().count("reload failed")
    netd.configure_file(config)
    assert netd.reload(check=False).returncode != 0
    lines_ = [line for line in netd.log().splitlines() if "reload failed" in line]
    assert len(lines_) == before + 1 and reason in lines_[-1], lines_
    assert netd.pid == pid and netd.show("ActiveState") == "active"
    wait_for(lambda: netd.show("SubState") == "running", "systemd to know")
    assert netd.send(b"still on 3000\n").records == 1
    return lines_[-1]


def test_p4_an_address_that_cannot_be_bound(netd):
    """systemctl reload fails, and the old address stays."""
    netd.start(config="port = 3000;")
    with netd.connect() as client, netd.box.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 4000))
        other.listen()
        client.sendall(b"one\n")
        refused(netd, "port = 4000;", "netd.conf:1: port: cannot listen on 127.0.0.1:4000: "
                "Address already in use")
        refused(netd, 'host = "192.0.2.7";', "netd.conf:1: host: cannot listen on 192.0.2.7:3000: "
                "Cannot assign requested address")
        line = refused(netd, "port = 514;", "netd.conf:1: port: cannot listen on 127.0.0.1:514: "
                       "Permission denied; ")
        assert "netd.socket" in line and "AmbientCapabilities=CAP_NET_BIND_SERVICE" in line
        netd.configure_file("port = 3000;")
        netd.reload()
        assert finish(netd, client).bytes == 4
    assert netd.show("NRestarts") == "0"


def test_p4_reloads_that_wait_their_turn(netd):
    """Each is told what became of its own."""
    netd.start()
    requests = [netd.box.popen("systemctl", "reload", "netd", stderr=subprocess.DEVNULL)
                for _ in range(5)]
    for _ in range(20):
        os.kill(Processes(netd).supervisor, signal.SIGHUP)
    for request in requests:
        assert request.wait(60) == 0
    netd.configure_file("port = 70000;")
    requests = [netd.box.popen("systemctl", "reload", "netd", stderr=subprocess.DEVNULL)
                for _ in range(5)]
    for request in requests:
        assert request.wait(60) != 0
    assert netd.send(b"served\n").records == 1


def test_reload_option_checks_the_process(box):
    """The signal would be the end of others, and of PID 1's other children."""
    for pid in "1", str(os.getpid() + 1000000):
        result = box.run("netd", f"--reload={pid}", check=False)
        assert result.returncode == 1 and f"process {pid}" in result.stderr
    assert box.run("netd", "--reload=x", check=False).returncode == 2


def test_p2_the_supervisor_dies_during_a_reload(netd):
    """Who waits for the outcome does not wait for ever."""
    netd.start()
    processes = Processes(netd)
    os.kill(processes.worker(), signal.SIGSTOP)
    with netd.box.popen("systemctl", "reload", "netd", stderr=subprocess.DEVNULL) as request:
        wait_for(lambda: netd.show("SubState") == "reload", "the reload to begin")
        os.kill(processes.supervisor, signal.SIGKILL)
        assert request.wait(60) != 0


def test_a_supervisor_that_dies_answers_no_request(box):
    with ByHand(box, "-o", "text", "-p", "0") as program:
        program.ready()
        supervisor = box.sh(f"cat {program.PID}").strip()
        box.sh(f"kill -STOP $(pgrep -P {supervisor})")  # so that the reload does not come to its end
        with box.popen("netd", f"--reload={supervisor}", stderr=subprocess.PIPE) as request:
            wait_for(lambda: box.sh(f"grep ShdPnd /proc/$(pgrep -P {supervisor} | head -n1)/status")
                     != "ShdPnd:\t0000000000000000\n", "the worker to be told")
            program.kill("KILL")
            assert request.wait(60) == 1
            assert request.stderr.read() == f"netd: process {supervisor} ended during the reload\n".encode()


# Names


class Resolver(threading.Thread):
    """The name server of a box: answers ANSWERS questions for an IPv4 address, 127.0.0.1, and
    none after that."""

    ADDRESS = "127.0.0.53"
    CONFIGURATION = f"nameserver {ADDRESS}\noptions timeout:3 attempts:1\n"

    def __init__(self, box, answers=0):
        super().__init__(daemon=True)
        self.box, self.answers, self.questions = box, answers, 0
        self.socket = box.socket(kind=socket.SOCK_DGRAM)
        self.socket.bind((self.ADDRESS, 53))

    def run(self):
        while True:
            question, client = self.socket.recvfrom(512)
            if not question:
                return
            kind = question[question.index(b"\0", 12) + 1:][:2]
            if kind == b"\0\1":
                self.questions += 1
            if self.questions <= self.answers:
                found = kind == b"\0\1"
                reply = question[:2] + b"\x81\x80\0\1" + bytes([0, found]) + bytes(4) + question[12:]
                if found:
                    reply += b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\0\0\1"
                self.socket.sendto(reply, client)

    def __enter__(self):
        self.saved = self.box.sh("cat /etc/resolv.conf || true")
        self.box.path("/etc/resolv.conf").write_text(self.CONFIGURATION, encoding="ascii")
        self.start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):  # not connected, but whoever waits there is woken
            self.socket.shutdown(socket.SHUT_RD)
        self.join()
        self.socket.close()
        self.box.path("/etc/resolv.conf").write_text(self.saved, encoding="ascii")


NAMED = 'host = "netd-test.example";'


def test_a_reload_whose_resolver_never_answers(netd):
    """Clients are served meanwhile, by the same worker, the watchdog is fed, and then it fails."""
    netd.start(dropin="[Service]\nWatchdogSec=1s\n")
    processes = Processes(netd)
    worker = processes.worker()
    netd.configure_file(NAMED)
    with Resolver(netd.box) as resolver, netd.connect() as client:
        client.sendall(b"one\n")
        with netd.box.popen("systemctl", "reload", "netd", stderr=subprocess.DEVNULL) as request:
            wait_for(lambda: resolver.questions, "the question")
            assert netd.send(b"served\n").records == 1
            assert request.poll() is None
            assert request.wait(60) != 0
        assert processes.worker() == worker
        assert finish(netd, client).bytes == 4
    assert "netd.conf:1: host: cannot resolve 'netd-test.example'" in netd.log()
    assert netd.show("NRestarts") == "0"


def test_p3_a_stop_while_a_resolver_does_not_answer(netd):
    """During a reload, and at a start."""
    netd.start()
    netd.configure_file(NAMED)
    with Resolver(netd.box) as resolver, netd.connect() as client:
        client.sendall(b"one\n")
        session_of(netd, client)
        os.kill(Processes(netd).supervisor, signal.SIGHUP)
        wait_for(lambda: resolver.questions, "the question")
        netd.box.run("systemctl", "stop", "netd")
        assert netd.receipt(client).end == "shutdown"
        assert netd.show("Result") == "success"
        netd.box.run("systemctl", "start", "--no-block", "netd")
        wait_for(lambda: resolver.questions > 1, "the question")
        netd.box.run("systemctl", "stop", "netd")
        assert netd.show("Result") == "success"
    assert "cannot resolve" not in netd.log()


def test_a_reload_resolves_once(netd):
    """A resolver that answers the check and then goes silent holds nobody up."""
    netd.start()
    netd.configure_file(NAMED + "max_record = 64;")
    with Resolver(netd.box, answers=1) as resolver, netd.connect() as client:
        client.sendall(b"one\n")
        netd.reload()
        assert resolver.questions == 1
        assert len(netd.events(netd.send(b"x" * 65).session, "data")) == 2
        assert finish(netd, client).bytes == 4


def test_passed_sockets_need_no_name(netd):
    """Nothing is looked up where it would not be used, or could not."""
    netd.start(config=NAMED, socket=True, dropin=SOCKET_ONLY)
    with Resolver(netd.box) as resolver, netd.connect() as client:
        client.sendall(b"one\n")
        session_of(netd, client)
        netd.configure_file(NAMED + "max_record = 64;")
        netd.reload()
        assert len(netd.events(netd.send(b"x" * 65).session, "data")) == 2
        assert finish(netd, client).bytes == 4
        assert resolver.questions == 0
    assert "the configured netd-test.example port 3000 is not used" in netd.log()


# The program


@pytest.fixture
def programs(netd):
    """Installs a netd with a changed source, programs(path, before, after), or any file."""
    box = netd.box
    box.sh(f"cp -p {PROGRAM} /run/netd-original")

    def install(path=None, before=None, after=None, content=None):
        if path:
            box.sh(f"""
                cp -a {SOURCE_INSIDE} /run/netd-changed
                cd /run/netd-changed
                grep -q {before!r} {path}
                sed -i {f's/{before}/{after}/'!r} {path}
                make -s -j2 CFLAGS=-O0 HARDENING= build/netd
                cp build/netd /run/netd-other
                rm -r /run/netd-changed
            """, timeout=600)
        else:
            box.run("sh", "-c", "cat >/run/netd-other", input=content, text=False)
        # As a package manager does it.
        box.sh(f"install -m 755 /run/netd-other {PROGRAM}.new && mv {PROGRAM}.new {PROGRAM}")

    yield install
    box.sh(f"cp -p /run/netd-original {PROGRAM}.new && mv {PROGRAM}.new {PROGRAM}")
    box.sh("rm -rf /run/netd-*")


def running_version(netd):
    return netd.box.run(f"/proc/{netd.pid}/exe", "-V").stdout.strip()


def test_an_upgrade(netd, programs):
    netd.start()
    pid = netd.pid
    programs("src/common/names.h", 'NETD_VERSION .*', 'NETD_VERSION "99.99"')
    with Crowd(netd, 20) as crowd:
        assert running_version(netd) != "netd 99.99"
        reload(netd)
        assert running_version(netd) == "netd 99.99"
        assert "reloaded: version 99.99, events go to the journal" in netd.log()
        reload(netd)
        assert crowd.settle()[0] == 0
    assert netd.pid == pid


def test_an_upgrade_with_another_table(netd, programs):
    """It cannot take the sessions over: they end in an orderly way, with true receipts."""
    netd.start()
    pid = netd.pid
    programs("src/netd/session/table.h", "struct transfer receive, answer, greeting;",
             "struct transfer answer, receive, greeting;")
    clients = [netd.connect() for _ in range(20)]
    for client in clients:
        client.sendall(b"one\ntwo")
    wait_for(lambda: sessions_open(netd) == 20, "all clients to be in")
    netd.reload()
    for client in clients:
        receipt = netd.receipt(client)
        assert (receipt.records, receipt.bytes, receipt.end) == (2, 7, "shutdown")
        assert netd.received(receipt.session) == b"one\ntwo"
        client.close()
    wait_for(lambda: netd.log().count("listening on") == 2, "the new program")
    assert netd.send(b"served\n").records == 1
    assert netd.pid == pid
    assert "has another session table" in netd.log()


def test_a_program_replaced_during_a_reload(netd, programs):
    """It does not know what the one that was checked had found: the old configuration stays."""
    programs("src/netd/config/config.h", "CONFIG_ORIGIN_MAX 512", "CONFIG_ORIGIN_MAX 600")
    netd.box.sh(f"cp -p /run/netd-original {PROGRAM}.new && mv {PROGRAM}.new {PROGRAM}")
    netd.start()
    processes = Processes(netd)
    worker = processes.worker()
    netd.configure_file("max_record = 64;")
    with netd.connect() as client:
        client.sendall(b"one\n")
        session_of(netd, client)
        os.kill(worker, signal.SIGSTOP)
        with netd.box.popen("systemctl", "reload", "netd", stderr=subprocess.DEVNULL) as request:
            wait_for(lambda: _has_waiting(worker, signal.SIGUSR1), "the check to be over")
            netd.box.sh(f"cp -p /run/netd-other {PROGRAM}.new && mv {PROGRAM}.new {PROGRAM}")
            os.kill(worker, signal.SIGCONT)
            assert request.wait(60) != 0
        assert "reload failed, the old configuration stays: /usr/local/sbin/netd: replaced during " \
               "the reload" in netd.log()
        assert finish(netd, client).bytes == 4
    assert len(netd.events(netd.send(b"x" * 65).session, "data")) == 1
    reload(netd)
    assert len(netd.events(netd.send(b"x" * 65).session, "data")) == 2


@pytest.mark.parametrize("content", [b"", b"\x7fELF, but no more", b"#!/bin/sh\nexit 1\n",
                                     b"#!/bin/sh\nkill -SEGV $$\n"],
                         ids=["empty", "cut", "fails", "crashes"])
def test_a_broken_program_is_refused(netd, programs, content):
    netd.start()
    processes = Processes(netd)
    worker = processes.worker()
    with netd.connect() as client:
        client.sendall(b"one\n")
        programs(content=content)
        assert netd.reload(check=False).returncode != 0
        os.kill(processes.supervisor, signal.SIGHUP)
        wait_for(lambda: "reload failed, the old configuration stays" in netd.log(), "the refusal")
        assert processes.worker() == worker
        assert finish(netd, client).bytes == 4
    assert netd.send(b"two").bytes == 3


def test_exposure_is_unchanged(netd):
    """systemd-analyze security, as before there was a supervisor (netd.service alone: 1.1)."""
    said = netd.box.run("systemd-analyze", "security", "--no-pager", "netd.service",
                        check=False).stdout
    assert float(re.search(r"exposure level for netd.service: ([0-9.]+)", said)[1]) <= 1.2
