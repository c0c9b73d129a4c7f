# SPDX-License-Identifier: MIT
"""netd.service and netd.socket: both ways of running, the sandbox, restarts, the catalog."""

import re
import socket

import pytest

from box import SOURCE, wait_for

SOCKET_ONLY = (SOURCE / "systemd/socket-only.conf").read_text(encoding="utf-8")
# A test must not wait for the second that a restart waits in earnest.
FAST_RESTART = "[Service]\nRestartSec=10ms\n"


@pytest.fixture(params=["service", "socket-only"])
def start(netd, request):
    """Starts netd in one of the two ways that are shipped; takes what netd.start() takes."""
    def start(**options):
        if request.param == "socket-only":
            options["dropin"] = SOCKET_ONLY + options.get("dropin", "")
            options["socket"] = True
        netd.start(**options)
        return netd
    return start


def exposure(box):
    said = box.run("systemd-analyze", "security", "--offline=yes", "netd.service").stdout
    return float(re.search(r"Overall exposure level for netd.service: ([\d.]+)", said)[1])


# What the units say


def test_units_have_no_mistake(box):
    result = box.run("systemd-analyze", "verify", "--man=no", "netd.service", "netd.socket")
    assert result.stdout + result.stderr == ""


def test_manuals_of_the_units_exist(box):
    for unit in "netd.service", "netd.socket":
        text = box.sh(f"systemctl cat {unit}")
        for name, section in re.findall(r"man:([\w.-]+)\((\d)\)", text):
            box.sh(f"test -e /usr/local/share/man/man{section}/{name}.{section}")


def test_exposure_as_shipped(netd):
    assert exposure(netd.box) <= 1.2


def test_exposure_socket_only(netd):
    netd.configure(dropin=SOCKET_ONLY)
    assert exposure(netd.box) <= 0.3


def test_what_the_service_is(netd):
    netd.start()
    assert netd.show("Type") == "notify"
    assert netd.show("NotifyAccess") == "main"
    assert netd.show("KillMode") == "mixed"
    assert netd.show("OOMPolicy") == "continue"
    assert netd.show("RestartPreventExitStatus") == "2 78"
    assert netd.show("LimitNOFILE") == "524288"
    assert netd.show("WatchdogUSec") == "30s"
    assert netd.show("DynamicUser") == "yes"


# Both ways


def test_both_serve_a_session(start):
    netd = start()
    data = b"plain\ncr\r\n\xff\x00binary\nhalf"
    receipt = netd.send(data)
    assert (receipt.records, receipt.bytes, receipt.end) == (4, len(data), "eof")
    events = netd.events(receipt.session)
    assert [e.text("NETD_EVENT") for e in events] == ["connect", *["data"] * 4, "disconnect"]
    assert netd.received(receipt.session) == data
    assert events[0].text("NETD_PEER_ADDRESS") == "127.0.0.1"
    assert events[0].text("NETD_LOCAL") == "127.0.0.1:3000"


def test_both_take_the_client_program(start):
    netd = start()
    session = netd.box.run("netd-client", "send", "a", "b").stdout.strip()
    assert netd.received(session) == b"a\nb\n"


def test_both_refuse_over_the_limit(start):
    netd = start(config="sessions: { max = 1; };")
    with netd.connect() as first, netd.connect() as second:
        assert netd.answer(second) == "netd error=session-limit\n"
        first.shutdown(1)
        assert netd.receipt(first).end == "eof"
    (refused,) = netd.events(event="refused")
    assert refused.text("NETD_REASON") == "session-limit"


def test_both_log_what_had_arrived_when_stopped(start):
    netd = start()
    with netd.connect() as client:
        client.sendall(b"one\ntwo")
        wait_for(lambda: netd.events(event="data"), "the first record")
        netd.stop()
        receipt = netd.receipt(client)
    assert (receipt.records, receipt.bytes, receipt.end) == (2, 7, "shutdown")
    assert netd.received(receipt.session) == b"one\ntwo"
    assert "Result=success" in netd.box.run("systemctl", "show", "netd").stdout


def test_both_reload_and_keep_sessions(start):
    netd = start()
    with netd.connect() as client:
        client.sendall(b"before\nha")
        wait_for(lambda: netd.events(event="data"), "the first record")
        before = netd.pid
        netd.configure_file("max_record = 64;")
        netd.reload()
        client.sendall(b"lf\nafter\n")
        client.shutdown(1)
        receipt = netd.receipt(client)
    assert netd.received(receipt.session) == b"before\nhalf\nafter\n"
    wait_for(lambda: [e for e in netd.events(netd.send(b"x" * 65).session, "data")
                      if e.text("NETD_TERMINATOR") == "continued"], "the new limit")
    assert netd.pid == before
    assert netd.show("NRestarts") == "0"


def test_both_survive_the_death_of_the_worker(start):
    netd = start()
    with netd.connect() as client:
        client.sendall(b"before\n")
        wait_for(lambda: netd.events(event="data"), "the first record")
        netd.box.sh(f"kill -9 $(pgrep -P {netd.pid})")
        client.sendall(b"after\n")
        client.shutdown(1)
        assert netd.receipt(client).records == 2
    assert netd.show("NRestarts") == "0"


def test_both_take_a_hundred_thousand_at_once(start):
    """The journal's rate limit is out of the way."""
    netd = start()
    session = netd.box.sh("seq 100000 | netd-client send", timeout=300).strip()
    netd.box.run("journalctl", "--sync")
    records = netd.box.sh(f"journalctl -q -o cat NETD_SESSION_ID={session} NETD_EVENT=data"
                          " | cmp - <(seq 100000)", timeout=300)
    assert records == ""


# Sockets


def test_the_service_binds_for_itself(netd):
    netd.start(config='host = "127.0.0.2"; port = 4000;')
    with netd.connect(4000, "127.0.0.2"):
        pass
    assert netd.show("ActiveState", "netd.socket") == "inactive"


def test_the_socket_starts_the_service_on_demand(netd):
    netd.start(socket=True)
    assert netd.show("ActiveState") == "inactive"
    receipt = netd.send(b"the first client\n")
    wait_for(lambda: netd.show("ActiveState") == "active", "netd to say that it is ready")
    assert netd.received(receipt.session) == b"the first client\n"


def test_clients_wait_while_the_service_restarts(netd):
    netd.start(socket=True)
    netd.send(b"up\n")
    netd.box.run("systemctl", "stop", "netd.service")
    assert netd.show("ActiveState") == "inactive"
    with netd.connect() as client:
        client.sendall(b"sent while netd is down\n")
        client.shutdown(1)
        receipt = netd.receipt(client)
    assert netd.received(receipt.session) == b"sent while netd is down\n"


def test_passed_sockets_replace_the_address_and_netd_says_so(netd):
    netd.start(config="port = 4000;", socket=True)
    netd.send(b"\n")
    (notice,) = [line for line in netd.log().splitlines() if "4000" in line]
    assert "127.0.0.1:3000" in notice
    with pytest.raises(ConnectionRefusedError):
        netd.connect(4000)


def test_the_socket_listens_where_a_drop_in_says(netd):
    netd.start(socket=True, socket_dropin="[Socket]\nListenStream=\nListenStream=4001\n")
    receipt = netd.send(b"v4\n", 4001)
    connect = netd.events(receipt.session, "connect")[0]
    assert connect.text("NETD_PEER_ADDRESS") == "127.0.0.1"
    assert netd.send(b"v6\n", 4001, "::1").records == 1


def test_socket_only_has_no_network(netd):
    netd.start(socket=True, dropin=SOCKET_ONLY)
    netd.send(b"\n")
    own = netd.box.sh("readlink /proc/1/ns/net")
    assert netd.box.sh(f"readlink /proc/{netd.pid}/ns/net") != own
    assert netd.show("RestrictAddressFamilies") == "AF_UNIX"


# Environment


def test_the_environment_file_counts(netd):
    netd.start(config="port = 4000;", env={"SERVER_PORT": 4002, "SERVER_HOST": "127.0.0.3"})
    assert netd.send(b"\n", 4002, "127.0.0.3").records == 1


def test_a_missing_environment_file_is_no_error(netd):
    netd.stop()
    netd.configure()
    path = netd.box.path("/etc/default/netd")
    path.unlink()
    netd.box.run("systemctl", "start", "netd.service")
    assert netd.send(b"\n").records == 1


# Restarts


def failed_start(netd, status, **options):
    netd.start(check=False, dropin=options.pop("dropin", FAST_RESTART), **options)
    assert netd.show("ActiveState") == "failed"
    assert netd.show("ExecMainStatus") == str(status)
    assert netd.show("NRestarts") == "0"
    return netd.log()


def test_a_bad_configuration_is_not_tried_again(netd):
    log = failed_start(netd, 78, config="port = 70000;")
    assert "/etc/netd/netd.conf:1: port: 70000 is not between 0 and 65535" in log


def test_a_bad_environment_is_not_tried_again(netd):
    assert "SERVER_PORT" in failed_start(netd, 78, env={"SERVER_PORT": "80x"})


def test_wrong_usage_is_not_tried_again(netd):
    failed_start(netd, 2, dropin=FAST_RESTART +
                 "ExecStart=\nExecStart=/usr/local/sbin/netd --no-such-option\n")


def test_however_often_it_dies_it_comes_back(netd):
    """StartLimitBurst= would give up after five times in ten seconds."""
    netd.start(dropin=FAST_RESTART)
    for _ in range(7):
        before = netd.pid
        netd.box.run("kill", "-9", str(before))
        wait_for(lambda old=before: netd.pid not in (0, old), "another netd")
    wait_for(lambda: netd.show("ActiveState") == "active", "netd to be up")
    assert netd.show("NRestarts") == "7"
    assert netd.send(b"\n").records == 1


def comes_up(netd):
    wait_for(lambda: netd.show("ActiveState") == "active", "netd to be up")


def test_a_port_in_use_is_tried_again(netd):
    netd.stop()
    with netd.box.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 3000))
        other.listen()
        netd.start(check=False, dropin=FAST_RESTART)
        wait_for(lambda: int(netd.show("NRestarts")) > 1, "systemd to try again")
        assert "cannot listen on 127.0.0.1:3000: Address already in use" in netd.log()
        assert netd.show("ExecMainStatus") in ("0", "1")  # it runs just now, or did
    comes_up(netd)
    assert netd.send(b"\n").records == 1


def test_an_address_that_comes_late_is_tried_again(netd):
    netd.start(config='host = "192.0.2.7";', check=False, dropin=FAST_RESTART)
    wait_for(lambda: int(netd.show("NRestarts")) > 1, "systemd to try again")
    assert "cannot listen on 192.0.2.7:3000: Cannot assign requested address" in netd.log()
    netd.box.run("ip", "address", "add", "192.0.2.7/32", "dev", "lo")
    try:
        comes_up(netd)
        assert netd.send(b"\n", host="192.0.2.7").records == 1
    finally:
        netd.box.run("ip", "address", "del", "192.0.2.7/32", "dev", "lo")


def test_a_name_that_does_not_resolve_for_the_moment_is_tried_again(netd):
    netd.start(config='host = "netd-test.example";', check=False, dropin=FAST_RESTART)
    wait_for(lambda: int(netd.show("NRestarts")) > 1, "systemd to try again")
    assert "cannot resolve 'netd-test.example'" in netd.log()
    netd.box.sh("echo 127.0.0.7 netd-test.example >>/etc/hosts")
    try:
        comes_up(netd)
        assert netd.send(b"\n", host="127.0.0.7").records == 1
    finally:
        netd.box.sh("sed -i /netd-test/d /etc/hosts")


def test_p5_the_watchdog_ends_a_supervisor_that_hangs(netd):
    netd.start(dropin=FAST_RESTART + "WatchdogSec=2s\n")
    before = netd.pid
    netd.box.run("kill", "-STOP", str(before))
    wait_for(lambda: netd.pid not in (0, before) and netd.show("ActiveState") == "active",
             "another netd", timeout=60)
    assert netd.show("NRestarts") == "1"


# Reload


def test_a_bad_configuration_makes_the_reload_fail_visibly(netd):
    netd.start()
    before = netd.pid
    netd.configure_file("port = 70000;")
    assert netd.reload(check=False).returncode != 0
    assert "/etc/netd/netd.conf:1: port: 70000 is not between 0 and 65535" in netd.log()
    assert netd.pid == before and netd.show("ActiveState") == "active"
    assert netd.send(b"still on 3000\n").records == 1


# The sandbox


def test_the_processes_have_no_rights(netd):
    netd.start()
    pids = netd.box.sh(f"echo {netd.pid} $(pgrep -P {netd.pid})").split()
    assert len(pids) == 2
    for pid in pids:
        status = netd.box.sh(f"cat /proc/{pid}/status")
        assert re.search(r"^CapEff:\s0+$", status, re.M)
        assert re.search(r"^CapBnd:\s0+$", status, re.M)
        assert re.search(r"^NoNewPrivs:\s1$", status, re.M)
        assert re.search(r"^Seccomp:\s2$", status, re.M)
        uid = int(re.search(r"^Uid:\s(\d+)", status, re.M)[1])
        assert 61184 <= uid <= 65519  # DynamicUser=


def in_sandbox(netd, *command, check=True):
    """Runs COMMAND with the file systems that netd has."""
    return netd.box.run("nsenter", "-t", str(netd.pid), "-m", *command, check=check)


def test_nothing_but_netd_can_be_executed(netd):
    netd.start()
    assert in_sandbox(netd, "/usr/local/sbin/netd", "-V").returncode == 0
    result = in_sandbox(netd, "/bin/sh", "-c", "true", check=False)
    assert result.returncode == 126 and "Permission denied" in result.stderr


def test_an_upgraded_program_can_be_executed(netd):
    """A bind mount of the file, and not of its folder, would show the old one for ever."""
    netd.start()
    program = "/usr/local/sbin/netd"
    netd.box.sh(f"cp {program} {program}.new && mv {program}.new {program}")
    inode = netd.box.sh(f"stat -c %i {program}")
    assert in_sandbox(netd, program, "-V").returncode == 0
    seen = netd.box.sh(f"stat -c %i /proc/{netd.pid}/root{program}")
    assert seen == inode


@pytest.mark.parametrize("path", ["/", "/etc/netd", "/usr/local/sbin", "/usr/lib", "/var/log"])
def test_nothing_can_be_written(netd, path):
    """Not even where something can be executed."""
    netd.start()
    options = netd.box.sh(f"findmnt -n -o OPTIONS -T {path} -N {netd.pid}").strip().split(",")
    assert "ro" in options
    assert ("noexec" in options) == (path not in ("/usr/local/sbin", "/usr/lib"))


# The catalog


def identifiers():
    names = (SOURCE / "src/common/names.h").read_text(encoding="utf-8")
    return re.findall(r'#define ID_\w+\s+"([0-9a-f]{32})"', names)


@pytest.mark.parametrize("identifier", identifiers())
def test_the_catalog_has_every_event(box, identifier):
    text = box.run("journalctl", "--dump-catalog", identifier).stdout
    assert re.search(r"^Subject: \S", text, re.M)
    assert "Defined-By: netd\n" in text
    assert len(text.partition("\n\n")[2].splitlines()) > 2
    assert not [line for line in text.splitlines() if len(line) > 76]


def test_the_catalog_explains_real_events(netd):
    """Every @FIELD@ of an entry is a field of the event; what is not comes out as its bare name."""
    netd.start(config="sessions: { max = 1; };")
    with netd.connect() as first, netd.connect() as second:
        netd.answer(second)
        first.sendall(b"some text\n")
        first.shutdown(1)
        session = netd.receipt(first).session
    netd.box.run("journalctl", "--sync")
    said = netd.box.sh("journalctl -q --no-hostname -x --cursor"
                       f" '{netd.since}' SYSLOG_IDENTIFIER=netd")
    explained = [line[3:] for line in said.splitlines() if line.startswith("░░ ")]
    text = "\n".join(explained)
    for subject in ("A client connected: 127.0.0.1:", "A record from 127.0.0.1:",
                    "A session ended: 127.0.0.1:", "A client was refused: 127.0.0.1:"):
        assert f"Subject: {subject}" in text
    assert f"NETD_SESSION_ID={session}" in text
    assert "Records: 1. Bytes received: 10." in text
    fields = re.findall(r"@(\w+)@", (SOURCE / "systemd/netd.catalog").read_text(encoding="utf-8"))
    for field in set(fields):
        assert not re.search(rf"(?<!=)\b{field}\b(?!=)", text), field
