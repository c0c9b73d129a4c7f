# SPDX-License-Identifier: MIT
"""Programs that send syslog messages, by the configuration in netd(8): what arrives, and that it is
exactly what they sent."""

import collections
import contextlib
import re
import socket
import threading

import pytest

import documented
from box import EXTRACTED, wait_for
from crowd import Processes
from senders import (ADDRESS, INPUT, MESSAGE, box_has, feed, named, node, rsyslog, syslog_ng)
from traffic import file_inside, journald_restart, journald_stopped, port_of

SECTIONS = RECEIVER, SENDERS = "INSTEAD OF RSYSLOG", "SENDERS"
PORTS = 514, 2514, 5514

# Fields of a message.
FIELDS = {"MESSAGE", "PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID",
          "SYSLOG_TIMESTAMP", "SYSLOG_MSGID", "SYSLOG_STRUCTURED_DATA", "NETD_HOSTNAME",
          "NETD_FORMAT"}
# Those that differ from time to time, or from machine to machine.
VARYING = {"SYSLOG_PID", "SYSLOG_TIMESTAMP", "SYSLOG_STRUCTURED_DATA"}


class Relay:
    """Passes connections to ADDRESS on to netd at 127.0.0.1, and keeps what clients sent."""

    def __init__(self, box):
        self.box = box
        self.connections = []  # (port of the connection to netd, bytes)
        self.sockets = [self._listen(port) for port in PORTS]

    def _listen(self, port):
        listening = self.box.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ADDRESS, port))
        listening.listen()
        threading.Thread(target=self._accept, args=(listening, port), daemon=True).start()
        return listening

    def _accept(self, listening, port):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = self.box.connect(port, timeout=None)
                sent = bytearray()
                self.connections.append((port_of(server), sent))
                self.sockets += [client, server]
                for ends in (client, server, sent), (server, client, bytearray()):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    @staticmethod
    def _pass(source, target, passed):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                passed += piece
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        for s in self.sockets:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


def documented_config(host="127.0.0.1"):
    config = documented.files(RECEIVER)["/etc/netd/netd.conf"]
    assert all(f"port = {port};" in config for port in PORTS)
    return config.replace('host = "*"', f'host = "{host}"')


def start(netd, config):
    (dropin,) = [b for b in documented.blocks("DESCRIPTION") if "CAP_NET_BIND_SERVICE" in b]
    netd.start(config=config, dropin=dropin)


@pytest.fixture
def network(box):
    with named(box):
        yield


@pytest.fixture
def relay(netd, network):  # pylint: disable=redefined-outer-name,unused-argument
    start(netd, documented_config())
    relay = Relay(netd.box)
    yield relay
    relay.close()


def the_event(netd):
    """The one data event of the message."""
    (event,) = wait_for(lambda: [e for e in netd.events(event="data", fields=None)
                                 if b"91 % full" in e["MESSAGE"]], "the message")
    return event


def assert_documented(netd, block, event=None):
    """The message, which is EVENT if given, arrived as the fields behind BLOCK say."""
    blocks = documented.blocks(SENDERS)
    (after,) = [b for a, b in zip(blocks, blocks[1:]) if a == block]
    wanted = dict(line.split("=", 1) for line in after.splitlines())
    event = event or the_event(netd)
    shown = {name: event.text(name) for name in FIELDS if name in event}
    for name in VARYING - set(wanted):
        shown.pop(name, None)
    assert shown == wanted


def assert_exact(netd, relay):
    """netd-client cat returns what the relay saw."""
    assert relay.connections
    for port, sent in relay.connections:
        (connect,) = netd.journal(f"NETD_PEER=127.0.0.1:{port}", "NETD_EVENT=connect")
        command = ["netd-client", "cat", connect.text("NETD_SESSION_ID")]
        wait_for(lambda c=command, s=sent: netd.box.run(*c, text=False).stdout == s,
                 f"{bytes(sent)} to be all")


def block(begins):
    (found,) = [b for b in documented.blocks(SENDERS) if b.startswith(begins)]
    return found


def test_logger(netd, relay):
    text = block("$ logger")
    netd.box.sh(text.removeprefix("$ "))
    assert_documented(netd, text)
    assert_exact(netd, relay)
    found = netd.box.run("journalctl", "-q", "-t", "backup", "-p", "warning",
                         f"--cursor={netd.since}").stdout
    assert "disk 91 % full" in found


@pytest.mark.parametrize("name", ["netd", "netd-relp"])
def test_rsyslog(netd, peer, relay, name):
    text = documented.files(SENDERS)[f"/etc/rsyslog.d/{name}.conf"]
    rsyslog(netd, peer, text)
    feed(netd.box)
    assert_documented(netd, text)
    if name == "netd":
        assert_exact(netd, relay)


def test_syslog_ng(netd, peer, relay):
    text = documented.files(SENDERS)["/etc/syslog-ng/conf.d/netd.conf"]
    syslog_ng(netd, peer, text)
    feed(netd.box)
    assert_documented(netd, text)
    assert_exact(netd, relay)


def test_python(netd, relay):
    text = block("# python3\n")
    (path,) = netd.box.path(f"{EXTRACTED}/usr/lib").glob("python3.*")
    netd.box.run("python3", "-c", text, env={"PYTHONPATH": f"{EXTRACTED}/usr/lib/{path.name}"})
    assert_documented(netd, text)
    assert_exact(netd, relay)


def test_node(netd, relay, peer):
    text = block("// node")
    with node(netd, peer, text):
        assert_documented(netd, text)
    assert_exact(netd, relay)


def test_a_switch(netd, relay):
    text = block("<188>")
    netd.box.run("ncat", "--send-only", ADDRESS, "514", input=text)
    assert_documented(netd, text)
    assert_exact(netd, relay)


@pytest.fixture
def netlogd(box, release, peer):
    """systemd-netlogd, which Debian 12 does not have; it forwards a namespace of its own."""
    program = f"{EXTRACTED}/usr/lib/systemd/systemd-netlogd"
    assert box_has(box, program) == (release != "bookworm")
    space, state = "netdpeer", "/run/systemd/netif/state"
    stop = f"systemctl stop 'systemd-journald*@{space}.*'; rm -rf /var/log/journal/*.{space}"

    def start(text):
        """Returns what sends the message; with TEXT in its configuration."""
        if release == "bookworm":
            return None
        # systemd-networkd's word that there is a network.
        box.sh(f"mkdir -p /run/systemd/netif; echo OPER_STATE=routable >{state}; "
               f"systemd-run -q --wait -pLogNamespace={space} true; "
               f"systemd-sysusers {EXTRACTED}/usr/lib/sysusers.d/systemd-netlogd.conf")
        box.path("/etc/systemd/netlogd.conf").write_text(f"{text}Namespace={space}\n")
        peer(program, properties=["StateDirectory=systemd/journal-netlogd"])
        return lambda: box.run("systemd-run", "-q", "--wait", f"-pLogNamespace={space}", "logger",
                               *MESSAGE)

    yield start
    box.sh(f"rm -rf {state} /var/lib/systemd/journal-netlogd /etc/systemd/netlogd.conf; {stop}")


def test_systemd_netlogd(netd, relay, netlogd):
    path = "/etc/systemd/netlogd.conf"
    text = documented.files(SENDERS)[path]
    if send := netlogd(text):
        send()
        assert_documented(netd, text)
        assert_exact(netd, relay)


# Many messages


def wait_for_numbers(netd, count):
    """Until all that load() sends have arrived; returns how many came again."""
    box, of_load = netd.box, [f"--cursor={netd.since}", "NETD_EVENT=data", "SYSLOG_IDENTIFIER=load"]

    def everything():
        box.run("journalctl", "--sync")
        written = box.run("journalctl", "-q", "-ocat", "--output-fields=MESSAGE", *of_load,
                          timeout=300)
        found = collections.Counter(map(int, written.stdout.split()))
        return found if len(found) == count else None

    # rsyslog's disk queue does not keep the order: the last may arrive before the others.
    wait_for(lambda: box.run("journalctl", "-q", "-n1", *of_load, f"MESSAGE={count}").stdout,
             f"message {count}", timeout=300)
    found = wait_for(everything, "all messages", timeout=300)
    assert set(found) == set(range(1, count + 1))
    return sum(found.values()) - count


def load(netd, count):
    """Has `seq COUNT` sent."""
    return netd.box.popen("sh", "-c", f"seq {count} | logger --socket {INPUT} -t load")


def clients(box, port):
    lines = box.run("ss", "-Htn", "state", "established", f"sport = :{port}").stdout.splitlines()
    return {line.split()[3] for line in lines}


def acknowledged(netd):
    metrics = netd.box.sh("cat /run/netd/metrics.prom")
    return sum(map(int, re.findall(r"^netd_relp_acknowledged_total\S* (\d+)$", metrics, re.M)))


def test_relp_loses_nothing(netd, peer, network, long):
    """Over kills of the worker, reloads, restarts of journald, and when journald hangs for longer
    than omrelp waits for an answer. Some messages are logged twice."""
    count, kills = (1_000_000, 20) if long else (30_000, 2)
    start(netd, documented_config("*"))
    text = documented.files(SENDERS)["/etc/rsyslog.d/netd-relp.conf"]
    rsyslog(netd, peer, text.replace('port="2514"', 'port="2514" timeout="1"'))
    with load(netd, count) as feeder:
        with journald_stopped(netd.box):
            first = wait_for(lambda: clients(netd.box, 2514), "rsyslog to connect")
            wait_for(lambda: clients(netd.box, 2514) - first, "rsyslog to connect again", 60)
        processes = Processes(netd)
        for number in range(kills):
            wait_for(lambda done=number: acknowledged(netd) >= count * done // (2 * kills),
                     "more messages to be acknowledged", timeout=300)
            processes.worker(other_than=processes.kill_worker())
            if number % 2 == 0:
                netd.reload()
            if number % 4 == 0:
                journald_restart(netd.box)
    assert feeder.wait() == 0
    repeats = wait_for_numbers(netd, count)
    print(f"{repeats} of {count} messages were logged twice")


def test_tcp_over_reloads(netd, peer, network):
    """Every message arrives, and once. In lines, which rsyslog sends unless told otherwise."""
    start(netd, documented_config("*"))
    text = documented.files(SENDERS)["/etc/rsyslog.d/netd.conf"]
    rsyslog(netd, peer, text.replace('TCP_Framing="octet-counted"', ""))
    with load(netd, 20_000) as feeder:
        for _ in range(3):
            netd.reload()
    assert feeder.wait() == 0
    assert wait_for_numbers(netd, 20_000) == 0
    assert not netd.journal("NETD_TERMINATOR=octet")


# rsyslog as receiver


def test_instead_of_rsyslog(netd, peer, network):
    """Its documented configuration stores a message, but with other words in the field that
    `journalctl -t` looks at."""
    with file_inside(netd.box, "/etc/peer-rsyslog.conf",
                     documented.files(RECEIVER)["/etc/rsyslog.d/remote.conf"]) as path:
        peer("rsyslogd", "-n", "-i", "NONE", "-f", path, port=514)
    netd.box.sh(block("$ logger").removeprefix("$ "))
    (entry,) = wait_for(lambda: netd.journal("MESSAGE=disk 91 % full", "_COMM=rsyslogd"),
                        "the message")
    assert entry.text("SYSLOG_IDENTIFIER") == "backup[42]" and "NETD_HOSTNAME" not in entry
