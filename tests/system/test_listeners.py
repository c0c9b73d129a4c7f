# SPDX-License-Identifier: MIT
"""Several listeners: settings, limits and addresses of their own, unix sockets, reload."""

import contextlib
import itertools
import re
import socket

from box import SOURCE, wait_for
from test_contract_sockets import listen
from traffic import complaint, file_inside, finish, suppressed

PATH = "/run/netd/input"
FILE = "/root/netd-test/netd.conf"

# One of each.
SIX = """
listeners = (
  { name = "lines"; port = 3000; },
  { name = "reads"; port = 3001; framing = "raw"; receipt = false; priority = "debug"; },
  { name = "few"; port = 3002; max_sessions = 1; },
  { name = "some"; host = "*"; port = 3003; allow = ("127.0.0.0/8"); deny = ("127.0.0.2"); },
  { name = "local"; path = "/run/netd/input"; mode = "0660"; max_record = 64; },
  { name = "abstract"; path = "@netd-test"; }
);
"""


TOKENS = itertools.count()


def begin(netd, client):
    """Sends a line, and returns the session that it arrived in, and the line."""
    token = f"token-{next(TOKENS)}."
    client.sendall(f"{token}\n".encode())
    [data] = wait_for(lambda: [e for e in netd.events(event="data") if token in e.text("MESSAGE")],
                      token)
    return data.text("NETD_SESSION_ID"), f"{token}\n".encode()


def mode(netd, path=PATH):
    return netd.box.sh(f"stat -c %A:%F {path}").strip()


def exists(netd, path=PATH):
    return netd.box.run("test", "-e", path, check=False).returncode == 0


def refused_with(netd, client, reason, listener):
    with client:
        assert netd.answer(client) == f"netd error={reason}\n"
    events = [e for e in netd.events(event="refused") if e.text("NETD_LISTENER") == listener]
    assert [e.text("NETD_REASON") for e in events] == [reason]


def test_each_has_its_own_settings(netd):
    netd.start(config=SIX)
    for name, client in (("lines", netd.connect(3000)), ("few", netd.connect(3002)),
                         ("some", netd.connect(3003)), ("local", netd.connect(path=PATH)),
                         ("abstract", netd.connect(path="@netd-test"))):
        with client:
            client.sendall(b"x" * 100 + b"\n")
            session = finish(netd, client).session
        events = netd.events(session)
        assert {e.text("NETD_LISTENER") for e in events} == {name}
        # Of "local", max_record = 64.
        assert len(events) == (4 if name == "local" else 3)
        assert netd.received(session) == b"x" * 100 + b"\n"
    with netd.connect(3001) as client:
        client.sendall(b"no end")
        client.shutdown(1)
        assert netd.answer(client) == ""
    [data] = [e for e in netd.events(event="data") if e.text("NETD_LISTENER") == "reads"]
    assert data["MESSAGE"] == b"no end" and data.text("PRIORITY") == "7"


def test_the_ready_notice_names_each(netd):
    netd.start(config=SIX)
    for line in ("127.0.0.1:3000 as lines", "127.0.0.1:3001 as reads", "[::]:3003 as some",
                 "/run/netd/input as local", "@netd-test as abstract"):
        assert f"listening on {line}" in netd.log()


def test_limits_of_one_listener_and_of_all(netd):
    netd.start(config=SIX + "sessions: { max = 3; };")
    with netd.connect(3002) as first:
        begin(netd, first)
        refused_with(netd, netd.connect(3002), "session-limit", "few")
        with netd.connect(3000) as second, netd.connect(path=PATH) as third:
            begin(netd, second)
            begin(netd, third)
            refused_with(netd, netd.connect(3000), "session-limit", "lines")
            for client in second, third, first:
                finish(netd, client)


def test_limits_by_address_of_one_listener(netd):
    netd.start(config='listeners = ( { name = "a"; port = 3000; max_sessions_per_address = 1; },'
                      '{ name = "b"; port = 3001; } ); sessions: { max_per_address = 3; };')
    with netd.connect(3000) as a, netd.connect(3001) as b:
        begin(netd, a)
        begin(netd, b)
        refused_with(netd, netd.connect(3000), "address-limit", "a")
        with netd.connect(3001) as c:
            begin(netd, c)
            refused_with(netd, netd.connect(3001), "address-limit", "b")


# Who may connect


def test_allow_and_deny(netd):
    netd.start(config=SIX)
    assert netd.send(b"x\n", port=3003).records == 1
    refused_with(netd, netd.connect(3003, host="::1"), "denied", "some")
    with netd.box.socket(socket.AF_INET) as client:
        client.settimeout(30)
        client.bind(("127.0.0.2", 0))
        client.connect(("127.0.0.1", 3003))
        assert netd.answer(client) == "netd error=denied\n"


def test_ten_thousand_rules(netd):
    rules = ", ".join(f'"10.{i >> 8}.{i & 255}.0/24"' for i in range(10000))
    config = f'listeners = ( {{ name = "a"; port = 3000; deny = ({rules}, "127.0.0.3"); }} );'
    netd.start(config=config)
    assert netd.send(b"x\n").records == 1
    netd.reload()
    with netd.box.socket(socket.AF_INET) as client:
        client.settimeout(30)
        client.bind(("127.0.0.3", 0))
        client.connect(("127.0.0.1", 3000))
        assert netd.answer(client) == "netd error=denied\n"


def test_a_flood_of_refusals_is_not_logged(netd):
    """Each client is told; each has an event, or is counted by the warning."""
    netd.start(config='listeners = ( { name = "a"; port = 3000; deny = ("127.0.0.1"); },'
                      '{ name = "b"; port = 3001; } );')
    for _ in range(5):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(netd.connect(3000)) for _ in range(50)]
            assert {netd.answer(client) for client in clients} == {"netd error=denied\n"}
    assert netd.send(b"x\n", port=3001).records == 1
    netd.stop()
    events = netd.events(event="refused")
    assert re.search(r"^127\.0\.0\.1:3000: suppressed \d+ refused events?; at most 100 at once and "
                     "then one a second are logged$", netd.log(), re.M)
    assert len(events) >= 100 and len(events) + suppressed(netd) == 250


# Unix sockets


def test_unix_credentials_and_address(netd):
    netd.start(config=SIX)
    for client, local in ((netd.connect(path=PATH), PATH), (netd.connect(path="@netd-test"), "@netd-test")):
        with client:
            client.sendall(b"x\n")
            session = finish(netd, client).session
        [connect] = netd.events(session, "connect")
        assert connect.text("NETD_PEER") == connect.text("NETD_PEER_ADDRESS") == "unix"
        assert connect.text("NETD_LOCAL") == local
        assert connect.text("NETD_PEER_UID") == connect.text("NETD_PEER_GID") == "0"
        assert "NETD_PEER_PID" in connect and "NETD_PEER_PORT" not in connect


def test_the_file_comes_and_goes(netd):
    netd.start(config=SIX)
    assert mode(netd) == "srw-rw----:socket"
    netd.stop()
    assert not exists(netd)


def test_a_reload_keeps_the_socket_and_changes_its_mode(netd):
    netd.start(config=SIX)
    inode = netd.box.sh(f"stat -c %i {PATH}")
    with netd.connect(path=PATH) as client:
        session, sent = begin(netd, client)
        netd.configure_file(SIX.replace("0660", "0606"))
        netd.reload()
        assert mode(netd) == "srw----rw-:socket"
        assert netd.box.sh(f"stat -c %i {PATH}") == inode
        client.sendall(b"two\n")
        assert finish(netd, client).records == 2
    assert netd.received(session) == sent + b"two\n"


def test_a_killed_supervisor_leaves_a_file_that_is_replaced(netd):
    netd.start(config=SIX, dropin="[Service]\nRestartSec=10ms\nRuntimeDirectoryPreserve=yes\n")
    pid = netd.pid
    netd.box.run("kill", "-KILL", str(pid))
    wait_for(lambda: netd.pid not in (0, pid) and netd.show("SubState") == "running",
             "the next start")
    with netd.connect(path=PATH) as client:
        client.sendall(b"x\n")
        assert finish(netd, client).records == 1


def test_a_socket_in_use_and_what_is_no_socket(netd):
    netd.start(config=SIX)
    config = f'listeners = ( {{ name = "a";\npath = "{PATH}"; }} );'
    with file_inside(netd.box, FILE, config):
        assert complaint(netd.box, "-c", FILE, status=1) == \
            f"{FILE}:2: listeners.path: cannot listen on {PATH}: another program listens there"
    for path, why in ("/etc/passwd", "the file is not a socket"), \
            ("/nonexistent/socket", "its directory does not exist"):
        with file_inside(netd.box, FILE, config.replace(PATH, path)):
            assert complaint(netd.box, "-c", FILE, status=1) == \
                f"{FILE}:2: listeners.path: cannot listen on {path}: {why}"


# Reload


def test_a_reload_opens_changes_and_closes(netd):
    netd.start(config=SIX)
    with netd.connect(3001) as reads, netd.connect(3000) as lines, netd.connect(path=PATH) as local:
        begun = [begin(netd, c) for c in (reads, lines, local)]
        netd.configure_file("""listeners = (
            { name = "added"; port = 3009; },
            { name = "renamed"; port = 3000; receipt = false; }
        );""")
        netd.reload()
        assert not exists(netd)
        for port in 3001, 3002, 3003:
            wait_for(lambda: f":{port} " not in netd.box.sh("ss -Hltn"), f"{port} to be closed")
        assert netd.send(b"x\n", port=3009).records == 1
        for client in reads, lines, local:
            client.sendall(b"two\n")
        # A closed listener's sessions have its settings.
        assert finish(netd, local).bytes == len(begun[2][1] + b"two\n")
        for client in reads, lines:
            client.shutdown(1)
            assert netd.answer(client) == ""
    names = [{e.text("NETD_LISTENER") for e in netd.events(s)} for s, _ in begun]
    assert names == [{"reads"}, {"lines", "renamed"}, {"local"}]
    for session, sent in begun:
        assert netd.received(session) == sent + b"two\n"


def test_a_reload_that_fails_changes_nothing(netd):
    netd.start(config=SIX)
    netd.configure_file(SIX.replace("3001", "3008").replace("@netd-test", "/etc/passwd"))
    assert netd.reload(check=False).returncode != 0
    assert "cannot listen on /etc/passwd: the file is not a socket" in netd.log()
    assert netd.send(b"x\n", port=3000).records == 1
    assert ":3008 " not in netd.box.sh("ss -Hltn")
    with netd.connect(3001), netd.connect(path="@netd-test") as client:
        client.sendall(b"x\n")
        assert finish(netd, client).records == 1


def test_workers_die_and_listeners_come_and_go(netd):
    netd.start(config=SIX)
    pid = netd.pid
    clients = [netd.connect(3000), netd.connect(3003), netd.connect(path=PATH),
               netd.connect(path="@netd-test")]
    begun = [begin(netd, c) for c in clients]
    for i in range(10):
        netd.configure_file(SIX if i % 2 else SIX.replace("3001", "3007"))
        netd.reload()
        before = netd.box.sh(f"pgrep -P {pid}").split()
        netd.box.run("kill", "-KILL", *before)
        wait_for(lambda: netd.box.run("pgrep", "-P", str(pid), check=False).stdout.split()
                 not in ([], before), "the next worker")
        for client in clients:
            client.sendall(b"line\n")
    for client, (session, sent) in zip(clients, begun):
        with client:
            assert finish(netd, client).records == 11
        assert netd.received(session) == sent + b"line\n" * 10
    assert netd.pid == pid


# Passed by systemd


def test_passed_sockets_by_name(netd):
    dropin = listen("127.0.0.1:4000") + "FileDescriptorName=reads\n"
    netd.start(config=SIX, socket=True, socket_dropin=dropin)
    netd.box.run("systemctl", "start", "netd.service")
    with netd.connect(4000) as client:
        client.sendall(b"x")
        client.shutdown(1)
        assert netd.answer(client) == "" # its receipt = false
    [data] = netd.events(event="data")
    assert data.text("NETD_LISTENER") == "reads"
    assert "systemd passed a socket for 127.0.0.1:4000; the configured 127.0.0.1 port 3001 is not " \
        "used" in netd.log()
    assert netd.send(b"x\n", port=3000).records == 1
    assert ":3001 " not in netd.box.sh("ss -Hltn")
    netd.reload()
    assert netd.send(b"x\n", port=3000).records == 1


def test_a_passed_socket_without_a_listener_s_name_is_the_first_one_s(netd):
    netd.start(config=SIX, socket=True, socket_dropin=listen("127.0.0.1:4000"))
    receipt = netd.send(b"x\n", port=4000)
    assert {e.text("NETD_LISTENER") for e in netd.events(receipt.session)} == {"lines"}
    assert ":3000 " not in netd.box.sh("ss -Hltn")


def test_unit_of_the_manual_works_as_printed(netd):
    page = (SOURCE / "man/netd.8").read_text(encoding="utf-8")
    [unit] = re.findall(r"^\.Bd -literal -offset indent\n(\[Socket\]\nListenStream=/run.*?)^\.Ed$",
                        page, re.M | re.S)
    netd.stop()
    with file_inside(netd.box, "/etc/systemd/system/netd-local.socket", unit):
        netd.configure(SIX)
        netd.box.run("systemctl", "daemon-reload")
        netd.box.run("systemctl", "start", "netd-local.socket")
        try:
            with netd.connect(path="/run/netd-local.socket") as client:
                client.sendall(b"x" * 100 + b"\n")
                session = finish(netd, client).session
            assert netd.send(b"x\n", port=3000).records == 1
            netd.reload()
            assert not exists(netd) # the listener has the passed one instead
        finally:
            netd.box.run("systemctl", "stop", "netd-local.socket", "netd.service")
    netd.box.run("systemctl", "daemon-reload")
    events = netd.events(session)
    assert {e.text("NETD_LISTENER") for e in events} == {"local"} and len(events) == 4
    assert events[0].text("NETD_LOCAL") == "/run/netd-local.socket"


# netd -T


def test_the_configuration_in_force_is_printed(box):
    with file_inside(box, FILE, SIX):
        first = box.run("netd", "-T", "-c", FILE, "-p", "3999").stdout
    assert "    {\n        name = \"lines\";\n" in first and "port = 3999;" in first
    with file_inside(box, FILE, first):
        assert box.run("netd", "--print-config", "-c", FILE).stdout == first
    with file_inside(box, FILE, "port = 70000;"):
        assert complaint(box, "-T", "-c", FILE).endswith("70000 is not between 0 and 65535")


def test_printing_says_when_it_cannot(box):
    result = box.run("sh", "-c", "netd -T -c /dev/null >/dev/full", check=False)
    assert result.returncode == 1
    assert result.stderr == "netd: standard output: No space left on device\n"
