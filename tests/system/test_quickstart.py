# SPDX-License-Identifier: MIT
"""The README's commands, as a new user types them on a Debian that never had a compiler."""

import os
import re
import subprocess

from box import NSPAWN

TREE = "/usr/src/netd"


def test_with_systemd(pristine):
    box = pristine(boot=True)
    assert box.run("which", "make", "cc", "pkg-config", check=False).stdout == ""
    box.sh("apt-get -qq update && apt-get -qq install -y make", timeout=300)
    for _ in range(2):  # it may be run again
        said = box.run("make", "-C", TREE, "quickstart", timeout=600).stdout
        session = re.search(r"^([0-9a-f]{32})$", said, re.M)[1]
        shown = re.findall(r"^\w{3} \d\d [\d:.]+ \S+ netd\[\d+\]: (.*)$", said, re.M)
        assert len(shown) == 3 and shown[1] == "Hello, journal", said
        kinds = box.sh(f"journalctl -o cat --output-fields=NETD_EVENT NETD_SESSION_ID={session}")
        assert kinds.split() == ["connect", "data", "disconnect"]
        assert box.run("systemctl", "is-active", "netd").stdout == "active\n"
    assert box.run("netd-client", "send", "and again").returncode == 0


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
    result = subprocess.run([*inside, script], stdin=subprocess.DEVNULL, capture_output=True,
                            text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    for said in result.stdout.split("====\n"):
        session = re.search(r"^([0-9a-f]{32})$", said, re.M)[1]
        events = said.partition(session)[2].split("\n\n")[1].splitlines()
        assert len(events) == 3 and "Hello, journal" in events[1], said
