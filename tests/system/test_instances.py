# SPDX-License-Identifier: MIT
"""netd@.service and netd@.socket: several instances behind one port, a journal namespace each."""

import collections
import json

import pytest

import journal
from box import SOURCE, wait_for
from traffic import lines, together

INSTANCES = ("1", "2")
SOCKETS = [f"netd@{i}.socket" for i in INSTANCES]
SERVICES = [f"netd@{i}.service" for i in INSTANCES]

@pytest.fixture
def instances(netd):
    """Both started, that is, listening."""
    netd.box.run("systemctl", "start", *SOCKETS)
    yield netd
    netd.box.run("systemctl", "stop", *SOCKETS, *SERVICES)


def entries(box, namespace, *matches):
    where = f"--namespace={namespace}"
    box.run("journalctl", where, "--sync")
    return journal.parse(box.run("journalctl", where, "-q", "-o", "export", *matches,
                                 text=False).stdout)


def send_many(netd, count):
    """So many clients that by chance alone each instance gets some; session to what it sent."""
    data = [lines(20, 1000 * i) for i in range(count)]
    receipts = together([lambda d=d: netd.send(d) for d in data])
    for receipt, sent in zip(receipts, data):
        assert receipt.records == 20 and receipt.bytes == len(sent)
    return {receipt.session: sent for receipt, sent in zip(receipts, data)}


def test_clients_are_spread_and_each_is_whole_in_one_namespace(instances):
    sent = send_many(instances, 64)
    # The namespaces' files outlive the tests: of what is there, only this test's sessions count.
    found = {i: [e for e in entries(instances.box, f"netd-{i}", "NETD_EVENT=data")
                 if e.text("NETD_SESSION_ID") in sent] for i in INSTANCES}
    sessions = {i: {e.text("NETD_SESSION_ID") for e in found[i]} for i in INSTANCES}
    assert sessions["1"] and sessions["2"] and not sessions["1"] & sessions["2"]
    assert sessions["1"] | sessions["2"] == set(sent)
    received = collections.defaultdict(list)
    for e in found["1"] + found["2"]:
        received[e.text("NETD_SESSION_ID")].append(e)
    for session, data in sent.items():
        assert journal.joined(received[session]) == data
    for i in INSTANCES:
        assert {e.text("_SYSTEMD_UNIT") for e in found[i]} == {f"netd@{i}.service"}
    # Nothing of it in the journal that everybody else uses.
    assert not instances.events(event="data")


def test_journalctl_and_netd_client_read_all_namespaces(instances):
    box = instances.box
    sent = send_many(instances, 32)
    for i in INSTANCES:
        box.run("journalctl", f"--namespace=netd-{i}", "--sync")
    found = journal.parse(box.run("journalctl", "--namespace=*", "-q", "-o", "export",
                                  *[f"NETD_SESSION_ID={session}" for session in sent],
                                  text=False).stdout)
    assert {e.text("NETD_SESSION_ID") for e in found} == set(sent)
    listed = box.run("netd-client", "sessions", "--namespace=*", "--json", "-n", "1000").stdout
    ids = {json.loads(line)["session"] for line in listed.splitlines()}
    assert ids >= set(sent)
    for session, data in sent.items():
        assert box.run("netd-client", "cat", "--namespace=*", session,
                       text=False).stdout == data
    box.run("netd-client", "verify", "--namespace=*", *sent)


def test_an_instance_that_stops_leaves_the_port_to_the_others(instances):
    send_many(instances, 16)
    instances.box.run("systemctl", "stop", "netd@1.socket", "netd@1.service")
    send_many(instances, 16)
    assert instances.show("ActiveState", "netd@1.service") == "inactive"


def test_sessions_survive_a_worker_of_another_instance(instances):
    """An instance that dies is its own affair."""
    send_many(instances, 16)
    box = instances.box
    with instances.connect() as one, instances.connect() as two:
        clients = (one, two)
        for client in clients:
            client.sendall(b"before\n")
        pid = instances.show("MainPID", "netd@1.service")
        box.sh(f"kill -9 $(pgrep -P {pid})")
        wait_for(lambda: box.sh(f"pgrep -P {pid} || true"), "another worker")
        for client in clients:
            client.sendall(b"after\n")
            client.shutdown(1)
            assert instances.receipt(client).records == 2


# The units


def test_the_units_have_no_mistake(box):
    result = box.run("systemd-analyze", "verify", "--man=no", "netd@1.service", "netd@1.socket")
    assert result.stdout + result.stderr == ""


def test_a_service_is_netds_but_for_its_namespace_and_network(box):
    """netd@.service is a copy of netd.service, and what the drop-in has wins."""
    def settings(unit):
        said = box.run("systemctl", "show", unit).stdout
        return dict(line.split("=", 1) for line in said.splitlines())

    one, many = settings("netd.service"), settings("netd@1.service")
    for name in ("ExecStart", "WatchdogUSec", "LimitNOFILE", "SystemCallFilter", "DynamicUser",
                 "ExecPaths", "RestartPreventExitStatus"):
        assert many[name] == one[name], name
    assert many["LogNamespace"] == "netd-1"
    assert many["PrivateNetwork"] == "yes"
    assert many["RestrictAddressFamilies"] == "AF_UNIX"
    assert set(many["IPAddressDeny"].split()) == {"0.0.0.0/0", "::/0"}
    assert "netd@1.socket" in many["Requires"].split() and "netd@1.socket" in many["After"].split()


def test_a_socket_is_netds_that_shares_its_port():
    """No setting of netd.socket is forgotten in netd@.socket when it changes."""
    def settings(name):
        text = (SOURCE / "systemd" / name).read_text(encoding="utf-8")
        body = text.split("[Socket]")[1].split("[Install]")[0]
        return {line for line in body.splitlines() if line and not line.startswith("#")}

    one, many = settings("netd.socket"), settings("netd@.socket")
    assert many - one == {"ReusePort=yes"} and one <= many
