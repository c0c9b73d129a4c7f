# SPDX-License-Identifier: MIT
"""netd-tls by itself, with a stand-in for netd, and with real clients: tls_program.py."""

import subprocess
import sys

import pytest

from box import SOURCE

PROGRAM = "/usr/local/libexec/netd-tls"


@pytest.mark.parametrize("scenario", ["python", "peers", "rsyslog", "sandbox", "death",
                                      "half_open", "drain", "files"])
def test_tls_program(box, scenario):
    pid = str(box.pid)
    done = subprocess.run(
        ["nsenter", "-t", pid, "-n", sys.executable, "-B", SOURCE / "tests/system/tls_program.py",
         PROGRAM, "--root", box.root, "--pid", pid, scenario],
        capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
