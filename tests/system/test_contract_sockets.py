# SPDX-License-Identifier: MIT
"""Addresses: every address, IPv6, and sockets that systemd passes."""

import re
import socket

import pytest

from box import wait_for
from traffic import (ByHand, check, complaint, finish, lines, port_of, served, session_of)

UNIX = "/run/netd-test.sock"


def listen(*streams):
    """A drop-in of netd.socket that listens on STREAMS instead."""
    return "[Socket]\nListenStream=\n" + "".join(f"ListenStream={s}\n" for s in streams)


# Bound by netd itself


def test_every_address_is_one_dual_stack_listener(netd):
    netd.start(config='host = "*";')
    sockets = netd.box.sh("ss -Hltn 'sport = 3000'").splitlines()
    assert len(sockets) == 1, sockets
    for host, shown in ("127.0.0.1", "127.0.0.1"), ("127.0.0.5", "127.0.0.1"), ("::1", "::1"):
        with netd.connect(host=host) as client:
            port = port_of(client)
            client.sendall(b"x\n")
            session = finish(netd, client).session
        connect = netd.events(session, "connect")[0]
        v6 = ":" in host
        # A client over IPv4 is shown as such, not as ::ffff:127.0.0.1.
        assert connect.text("NETD_PEER_ADDRESS") == shown
        assert connect.text("NETD_PEER") == (f"[{shown}]:{port}" if v6 else f"{shown}:{port}")
        assert connect.text("NETD_LOCAL") == ("[::1]:3000" if v6 else f"{host}:3000")


def test_ipv6_peer(netd):
    netd.start(config='host = "::1"; port = 3006;')
    with netd.connect(host="::1", port=3006) as client:
        port = port_of(client)
        client.sendall(b"x\n")
        session = finish(netd, client).session
    for event in netd.events(session):
        assert event.text("NETD_PEER") == f"[::1]:{port}"
    with pytest.raises(ConnectionRefusedError):
        netd.connect(port=3006)


def test_the_default_is_not_reached_from_elsewhere(netd):
    netd.start()
    with pytest.raises(ConnectionRefusedError):
        netd.connect(host="::1")
    with pytest.raises(ConnectionRefusedError):
        netd.connect(host="127.0.0.2")


# Passed by systemd


def test_socket_activation(netd):
    netd.start(socket=True)
    assert netd.show("ActiveState") == "inactive"
    served(netd)
    assert netd.show("ActiveState") == "active"
    assert re.search(r"^listening on 127\.0\.0\.1:3000 \(passed by systemd\)$", netd.log(), re.M)
    assert "is not used" not in netd.log()  # it is where the configuration has it


def test_passed_sockets_replace_the_address_and_one_notice_says_so(netd):
    netd.start(config="port = 4000;", env={"SERVER_HOST": "::1"}, socket=True,
               socket_dropin=listen("127.0.0.1:3500"))
    served(netd, port=3500)
    with pytest.raises(ConnectionRefusedError):
        netd.connect(port=4000, host="::1")
    notices = [e for e in netd.journal("_SYSTEMD_UNIT=netd.service")
               if b"127.0.0.1:3500" in e["MESSAGE"] and b"4000" in e["MESSAGE"]]
    assert len(notices) == 1 and notices[0].text("PRIORITY") == "5"


def test_several_passed_sockets(netd):
    netd.start(socket=True, socket_dropin=listen("127.0.0.1:3501", "[::1]:3502", UNIX))
    served(netd, port=3501)
    served(netd, host="::1", port=3502)
    with netd.connect(path=UNIX) as client:
        client.sendall(b"x")
        finish(netd, client)


def test_unix_socket(netd):
    netd.start(socket=True, socket_dropin=listen(UNIX))
    data = lines(1000) + b"\x00half"
    with netd.connect(path=UNIX) as client:
        client.sendall(data)
        receipt = finish(netd, client)
    assert receipt[1:] == (1001, len(data), "eof")
    events = check(netd, receipt.session, data)
    for event in events:
        assert event.text("NETD_PEER") == "unix"
    for event in events[0], events[-1]:
        assert event.text("NETD_PEER_ADDRESS") == "unix"
        assert event.text("NETD_LOCAL") == UNIX
        assert "NETD_PEER_PORT" not in event


def test_abstract_unix_socket(netd):
    netd.start(socket=True, socket_dropin=listen("@netd-test"))
    with netd.box.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect("\0netd-test")
        client.sendall(b"x\n")
        receipt = finish(netd, client)
    assert netd.events(receipt.session, "connect")[0].text("NETD_LOCAL") == "@netd-test"


def test_clients_wait_while_netd_restarts(netd):
    netd.start(socket=True)
    served(netd)
    netd.box.run("systemctl", "stop", "netd.service")
    with netd.connect() as client:  # starts it again
        client.sendall(b"while it was away\n")
        assert finish(netd, client).bytes == 18


def test_socket_only_drop_in(netd):
    """Without any network of its own everything goes on as ever."""
    example = netd.box.sh("cat /usr/local/share/doc/netd/socket-only.conf")
    netd.start(socket=True, dropin=example, socket_dropin=listen("3000"))
    served(netd)
    for host in "127.0.0.1", "::1":
        with netd.connect(host=host) as client:
            client.sendall(b"one\ntwo\r\n\x1b[0m\xff\nhalf")
            session = session_of(netd, client) if host != "::1" else None
            receipt = finish(netd, client)
        assert session in (None, receipt.session)
        events = check(netd, receipt.session, b"one\ntwo\r\n\x1b[0m\xff\nhalf")
        assert events[0].text("NETD_PEER_ADDRESS") == host


@pytest.mark.parametrize("dropin, most", [(False, 1.2), (True, 0.3)])
def test_exposure(netd, dropin, most):
    """What systemd-analyze says of the sandbox; that netd works in it is what the others test."""
    text = netd.box.sh("cat /usr/local/share/doc/netd/socket-only.conf") if dropin else None
    netd.configure(dropin=text)
    said = netd.box.run("systemd-analyze", "security", "--no-pager", "netd.service").stdout
    level = re.search(r"Overall exposure level for netd\.service: ([\d.]+)", said)
    assert float(level[1]) <= most, said


# Sockets passed wrongly


def activate(box, python, status=78, environment=""):
    """Runs netd with whatever the piece of PYTHON leaves as descriptor 3, as systemd would."""
    script = f"import os, socket\n{python}\n" \
             "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n" \
             f"{environment}\n" \
             "os.execv('/usr/local/sbin/netd', ['netd', '-o', 'text', '-p', '0'])\n"
    return complaint(box, program=("python3", "-c", script), status=status)


BAD_SOCKETS = {
    "datagram": "s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))\n"
                "os.dup2(s.fileno(), 3)",
    "not listening": "s = socket.socket(); s.bind(('127.0.0.1', 0)); os.dup2(s.fileno(), 3)",
    "connected": "l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()\n"
                 "s = socket.create_connection(l.getsockname()); s2 = l.accept()[0]\n"
                 "os.dup2(s2.fileno(), 3)",
    "closed": "os.closerange(3, 100)",
    "file": "os.dup2(os.open('/etc/passwd', os.O_RDONLY), 3)",
    "pipe": "os.dup2(os.pipe()[0], 3)",
    "sequential packets": "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
                          "s.bind('\\0netd-seq'); s.listen(); os.dup2(s.fileno(), 3)",
}


def test_p11_a_passed_descriptor_that_is_no_listening_stream_socket(box):
    for what, python in BAD_SOCKETS.items():
        assert "LISTEN_FDS" in activate(box, python), what


GOOD = "s = socket.socket(); s.bind(('127.0.0.1', 3777)); s.listen(); os.dup2(s.fileno(), 3)"


def test_p11_listen_fds_that_make_no_sense(box):
    for count in "0", "-1", "x", "99999999999", "1000000", "65", "1x":
        assert "LISTEN_FDS" in activate(box, GOOD, environment=f"os.environ['LISTEN_FDS']='{count}'")


@pytest.mark.parametrize("environment", [
    "os.environ['LISTEN_PID']='1'", "del os.environ['LISTEN_PID']", "del os.environ['LISTEN_FDS']",
])
def test_p11_sockets_of_another_process_are_left_alone(box, environment):
    """Then netd binds for itself, and no descriptor that it found open is taken for a client."""
    script = f"import os, socket\n{GOOD}\n" \
             "os.set_inheritable(3, True)\n" \
             "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n" \
             f"{environment}\n" \
             "os.execv('/usr/local/sbin/netd', ['netd', '-o', 'text', '-p', '0'])\n"
    with ByHand(box, program=("python3", "-c", script)) as program:
        address = program.ready()
        assert address.startswith("127.0.0.1:") and not address.endswith(":3777")
        assert program.stop() == b""


def test_a_passed_good_socket_by_hand(box):
    script = f"import os, socket\n{GOOD}\n" \
             "os.set_inheritable(3, True)\n" \
             "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n" \
             "os.execv('/usr/local/sbin/netd', ['netd', '-o', 'text', '-p', '3777'])\n"
    with ByHand(box, program=("python3", "-c", script)) as program:
        assert program.ready() == "127.0.0.1:3777 (passed by systemd)"
        with box.connect(3777) as client:
            client.sendall(b"hello\n")
            client.shutdown(socket.SHUT_WR)
            assert b"records=1" in client.recv(4096)
        assert b"hello" in program.stop()


def test_a_socket_of_a_full_queue_is_served_in_the_end(netd):
    """Clients that came before netd did are all served."""
    netd.start(socket=True, dropin="[Service]\nExecStartPre=/bin/sleep 1\nNoExecPaths=\n")
    clients = [netd.connect() for _ in range(50)]
    for i, client in enumerate(clients):
        client.sendall(b"%d\n" % i)
    for client in clients:
        with client:
            assert finish(netd, client).records == 1
    wait_for(lambda: netd.show("StatusText").startswith("0 sessions, 50 records"), "STATUS=")
