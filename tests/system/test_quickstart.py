# SPDX-License-Identifier: MIT
"""make quickstart on a minimal Debian, without a compiler."""

import os
import re
import subprocess

import pytest

from box import NSPAWN

TREE = "/usr/src/netd"


def quickstart(box, check=True):
    return box.run("make", "-C", TREE, "quickstart", timeout=600, check=check)


def check_shown(box, said, address):
    """SAID ends with the three events of a session at ADDRESS."""
    host, port = address.rsplit(":", 1)
    assert f"+ netd-client -H {host.strip('[]')} -p {port} send 'Hello, journal'\n" in said
    assert f"netd listens on {address} and writes to the journal." in said
    session = re.search(r"^([0-9a-f]{32})$", said, re.M)[1]
    shown = re.findall(r"^\w{3} \d\d [\d:.]+ \S+ netd\[\d+\]: (.*)$", said, re.M)
    assert len(shown) == 3 and shown[1] == "Hello, journal", said
    kinds = box.sh(f"journalctl -o cat --output-fields=NETD_EVENT NETD_SESSION_ID={session}")
    assert kinds.split() == ["connect", "data", "disconnect"]
    assert box.run("systemctl", "is-active", "netd").stdout == "active\n"


def test_with_systemd(pristine):
    box = pristine(boot=True)
    assert box.run("which", "make", "cc", "pkg-config", check=False).stdout == ""
    box.sh("apt-get -qq update && apt-get -qq install -y make", timeout=300)
    for _ in range(2):  # it can be repeated
        check_shown(box, quickstart(box).stdout, "127.0.0.1:3000")
    assert box.run("netd-client", "send", "and again").returncode == 0

    # With another address, from each source.
    box.sh("echo 'port = 4000;' >/etc/netd/netd.conf")
    check_shown(box, quickstart(box).stdout, "127.0.0.1:4000")
    box.sh("echo SERVER_HOST=::1 >/etc/default/netd")
    check_shown(box, quickstart(box).stdout, "[::1]:4000")
    box.sh("rm /etc/default/netd; systemctl stop netd; systemctl start netd.socket")
    check_shown(box, quickstart(box).stdout, "127.0.0.1:3000")
    box.sh("systemctl stop netd.socket netd")

    # Errors name the cause and the remedy.
    with box.socket() as other:
        other.bind(("127.0.0.1", 4000))
        other.listen()
        result = quickstart(box, check=False)
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if not line.startswith(("make", "Job", "See"))]
    assert re.search(r"127\.0\.0\.1:4000: Address already in use$", said[0]), said
    assert said[1].startswith("quickstart: another program listens there (ss -ltnp shows which)")
    box.sh("echo 'port = 70000;' >/etc/netd/netd.conf")
    result = quickstart(box, check=False)
    assert "/etc/netd/netd.conf:1: port: 70000 is not between 0 and 65535\n" in result.stderr
    box.sh("rm /etc/netd/netd.conf")
    check_shown(box, quickstart(box).stdout, "127.0.0.1:3000")


@pytest.mark.only_on("trixie")
def test_without_systemd(pristine):
    root = pristine().root
    inside = [*NSPAWN, "--quiet", "--pipe", "--private-network", "--resolv-conf=off",
              f"--machine=netd-{os.getpid()}-bare", "-D", str(root), "--as-pid2", "sh", "-euc"]
    script = f"""
        test ! -e /run/systemd/system
        apt-get -qq update
        apt-get -qq install -y make
        make -C {TREE} quickstart
        echo ====
        make -C {TREE} quickstart
    """

    def run(*command):
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False, timeout=600)

    result = run(*inside, script)
    assert result.returncode == 0, result.stdout + result.stderr
    for said in result.stdout.split("====\n"):
        session = re.search(r"^([0-9a-f]{32})$", said, re.M)[1]
        events = said.partition(session)[2].split("\n\n")[1].splitlines()
        assert len(events) == 3 and "Hello, journal" in events[1], said

    result = run("chroot", root, "make", "-C", TREE, "quickstart")
    assert result.returncode != 0
    assert result.stderr.splitlines()[0] == (
        "quickstart: netd needs /proc, which is not mounted here: mount -t proc proc /proc")
