# SPDX-License-Identifier: MIT
"""What a row costs: processor time and memory of its processes, and what the journal has of it."""

import contextlib
import os
import pathlib
import re
import time

# clock_getcpuclockid(3): the clock of all threads of a process, the dead ones too, in nanoseconds.
CPUCLOCK_SCHED = 2


class Processes:
    """The processes of units in a box, by the beginnings of the units' names, which
    blanks may separate."""

    def __init__(self, box):
        self.namespace = os.stat(f"/proc/{box.pid}/ns/pid").st_ino

    def find(self, *units):
        names = " ".join(units).split()
        pattern = re.compile("/(" + "|".join(map(re.escape, names)) + ")")
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if (os.stat(path / "ns/pid").st_ino == self.namespace
                        and pattern.search((path / "cgroup").read_text(encoding="utf-8"))):
                    yield int(path.name)

    def cpu(self, *units):
        """Process to the microseconds that it has run so far."""
        used = {}
        for pid in self.find(*units):
            with contextlib.suppress(OSError):
                used[pid] = time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED) / 1000
        return used

    def peak_memory(self, *units):
        """Bytes: the sum of what each process had resident at most. What they share is counted in
        each."""
        total = 0
        for pid in self.find(*units):
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
                total += int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)[1]) * 1024
        return total

    def shared_memory(self, unit, kind="Pss"):
        """Bytes resident now, what several processes share counted once (proportional set size);
        KIND: a line of smaps_rollup, such as Pss_Shmem."""
        total = 0
        for pid in self.find(unit):
            with contextlib.suppress(OSError):
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
                total += int(re.search(rf"^{kind}:\s+(\d+) kB$", text, re.M)[1]) * 1024
        return total


def spent(before, after):
    """Microseconds between two results of Processes.cpu()."""
    return sum(used - before.get(pid, 0) for pid, used in after.items())


def machine_busy():
    """Microseconds that all processors of this machine have worked, and that they were stolen."""
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = list(map(int, stat.readline().split()[1:9]))
    scale = 1000000 / os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq) * scale, steal * scale


def wait_until_quiet(processes, *units, timeout=120):
    """Until they have nothing to do: three times 50 ms with next to no processor time."""
    deadline, quiet, last = time.monotonic() + timeout, 0, processes.cpu(*units)
    while quiet < 3:
        time.sleep(0.05)
        now = processes.cpu(*units)
        quiet = quiet + 1 if spent(last, now) < 300 else 0
        last = now
        if time.monotonic() > deadline:
            raise AssertionError(f"still busy: {units}")


def empty_journal(box, namespaces=()):
    """Every run begins with a new journal file: what values it knows already makes a difference."""
    for name in ["", *namespaces]:
        where = [f"--namespace={name}"] if name else []
        box.run("journalctl", *where, "--rotate", check=False)
        box.run("journalctl", *where, "--vacuum-size=1", check=False)


def journal_size(box):
    """Bytes of the journal files up to the end of the last object in each: what is allocated behind
    it, and tables that a new file begins with, is the same for one entry and for many."""
    total = 0
    for path in box.path("/var/log/journal").glob("*/system.journal"):
        with open(path, "rb") as file:
            total += int.from_bytes(file.read(144)[136:], "little")  # Header.tail_object_offset
    return total


def count(box, program, since, matches, namespace=""):
    """What the journal has since SINCE: entries, bytes of their messages, and the first and last
    time (µs) that journald gave to them."""
    where = [f"--namespace={namespace}"] if namespace else []
    box.run("journalctl", *where, "--sync", timeout=120)
    words = box.run(program, namespace, since, *matches, timeout=300).stdout.split()
    return tuple(map(int, words))
