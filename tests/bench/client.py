#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How fast netd-client reads: its commands over a journal of a million entries and 10,000 sessions,
and over one session of 600,000 records.

    client.py NETD_CLIENT [DIRECTORY]

Makes the journals in DIRECTORY (default: build/bench-client; a minute or two, kept for the next
run) with systemd-journal-remote, runs each command three times, and prints the best time, what of
it was spent in the processors, and the largest anonymous memory.
"""

import os
import pathlib
import random
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
from fake_events import REMOTE, Journal, session_id

SESSIONS, RECORDS = 10_000, 98
LONG = 600_000
ROUNDS = 3

# What journald adds to the entries of a service.
TRUSTED = {
    "_SYSTEMD_UNIT": "netd.service", "_SYSTEMD_INVOCATION_ID": "ab" * 16, "_UID": "61234",
    "_GID": "61234", "_EXE": "/usr/local/sbin/netd", "_CMDLINE": "/usr/local/sbin/netd",
    "_CAP_EFFECTIVE": "0", "_SYSTEMD_CGROUP": "/system.slice/netd.service",
    "_SYSTEMD_SLICE": "system.slice", "_MACHINE_ID": "cd" * 16, "_HOSTNAME": "host",
    "_RUNTIME_SCOPE": "system", "_TRANSPORT": "journal",
}


def make(directory, sessions, records):
    """A directory of journal files with that many sessions of that many records."""
    if (directory / "made").exists():
        return
    print(f"making {directory}", file=sys.stderr)
    directory.mkdir(parents=True, exist_ok=True)
    peers = random.Random(1)
    journal = Journal(step=100, **TRUSTED)
    with subprocess.Popen([REMOTE, "-o", directory / "x.journal", "-"],
                          stdin=subprocess.PIPE) as remote:
        for number in range(sessions):
            journal.session(session_id(number),
                            [b"%d record of session %d" % (n, number) for n in range(records)],
                            peer=f"192.0.2.{peers.randrange(1, 255)}:{peers.randrange(1024, 65536)}")
            for entry in journal.export():
                remote.stdin.write(entry)
            journal.entries.clear()
    (directory / "made").touch()


def anonymous(pid, over, peak):
    """Notes the largest RssAnon in PEAK[0], KiB. (Mapped journal files are the kernel's to keep.)"""
    while not over.wait(0.01):
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                peak[0] = max(peak[0], int(line.split()[1]))


def measure(command):
    """Best time, processor time of that run (both in seconds) and peak memory (KiB)."""
    best, peak = None, [0]
    for _ in range(ROUNDS):
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        over = threading.Event()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            watcher = threading.Thread(target=anonymous, args=(process.pid, over, peak))
            watcher.start()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            taken = time.clock_gettime(time.CLOCK_MONOTONIC) - before
            over.set()
            watcher.join()
            _, process.returncode, usage = os.wait4(process.pid, 0)
        assert process.returncode == 0, command
        best = min(best or (taken, 0), (taken, usage.ru_utime + usage.ru_stime))
    return best[0], best[1], peak[0]


def main():
    program = sys.argv[1]
    top = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "build/bench-client")
    many, one = top / "many", top / "one"
    make(many, SESSIONS, RECORDS)
    make(one, 1, LONG)
    entries = SESSIONS * (RECORDS + 2)
    for name, count, arguments in [
            ("sessions", SESSIONS, ["sessions", "-D", many]),
            ("sessions -n 10", 10, ["sessions", "-n", "10", "-D", many]),
            ("verify", entries, ["verify", "-D", many]),
            ("show", LONG, ["show", "-D", one, session_id(0)]),
            ("cat", LONG, ["cat", "-D", one, session_id(0)]),
    ]:
        taken, busy, memory = measure([program, *map(str, arguments)])
        print(f"{name:15} {taken:7.3f} s  {busy:7.3f} s busy  {count / taken:10.0f} /s  "
              f"{memory:7} KiB")


if __name__ == "__main__":
    main()
