# SPDX-License-Identifier: MIT
"""P7: every system call and, but for netd-tls, every allocation fails, see inject.py. A sample of
them fails, once each; with --long all of them, and also permanently."""

import pathlib
import subprocess
import sys

from box import SOURCE
from conftest import SOURCE_INSIDE

INJECT = pathlib.Path(__file__).with_name("inject.py")


def test_p7_every_call_fails(box, long, sample, capsys):
    box.run("make", "-C", SOURCE_INSIDE, "-j2", "inject", timeout=600)
    mode = [] if long else ["--mode", "once"]
    command = [sys.executable, "-B", INJECT, "--root", box.root,
               "--programs", f"{SOURCE_INSIDE}/build/inject",
               "--sample", f"{sample.every}:{sample.first}", *mode]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            cwd=SOURCE, check=False)
    assert result.returncode == 0, result.stdout[-20000:] + result.stderr
    with capsys.disabled():
        print("", result.stdout, sep="\n")
