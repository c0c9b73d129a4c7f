#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make bench: netd beside every other way into the journal, on Debian 12 and 13.

    bench.py [--release R] [--part P]... [--rounds N] [--lines N] [--size N] [--row NAME]...
             [--out DIR [--add]]
    bench.py --against REVISION ...

With --against, netd of this tree and of an earlier revision are measured instead, interleaved.

Each release is a container with a systemd of its own (tests/system/box.py). All rows of a round run
one after the other, in another order in each round; a figure is the median of the rounds. What the
rates are made of are the times that journald gave to the first and the last entry, and how many
entries the journal has afterwards. Raw numbers go to DIR/bench.json, from which the table
(bench.txt, bench.md) and the pictures are made.

Needs root, and a machine with nothing else to do: `others` in the raw numbers says how much of the
processors something else took meanwhile.
"""

import argparse
import collections
import json
import os
import pathlib
import platform
import random
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
from box import NSPAWN, RELEASES, SOURCE, Box, Files, copy_source, temporary_directory
import measure
import report
import rows

PACKAGES = "nodejs"
SOURCE_INSIDE = "/usr/src/netd"
AGAINST_INSIDE = "/usr/src/netd-against"

# The same for every row. Nothing gets rotated or vacuumed away during a run.
JOURNALD_CONF = """
[Journal]
Storage=persistent
ForwardToSyslog=no
SystemMaxUse=4G
SystemMaxFileSize=2G
"""
JOURNALD_FILES = {f"/run/systemd/{name}.conf.d/bench.conf": JOURNALD_CONF
                  for name in ("journald", "journald@netd-1", "journald@netd-2")}


def install_packages(files):
    """What the rows are made of and tests do not need, into a container that was never booted."""
    done = files.directory / "bench-packages"
    if done.exists():
        return
    subprocess.run([*NSPAWN, "--quiet", "--pipe",
                    "--resolv-conf=copy-host", f"--machine=bench-{os.getpid()}", "-D", files.box,
                    "--setenv=DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y",
                    "--no-install-recommends", *PACKAGES.split()], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    done.touch()


def prepare(box):
    copy_source(box.path(SOURCE_INSIDE))
    box.run("make", "-C", SOURCE_INSIDE, "-j2", "all", "bench-tools", timeout=600)
    box.run("make", "-C", SOURCE_INSIDE, "install", timeout=120)
    write_files(box, JOURNALD_FILES)
    box.sh(rows.CERTIFICATES)
    box.sh("systemctl disable -q --now rsyslog.service syslog.socket 2>/dev/null || true")
    box.run("systemctl", "restart", "systemd-journald")


def prepare_against(box, revision):
    """Builds netd of an earlier REVISION beside this tree's."""
    target = box.path(AGAINST_INSIDE)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    archive = subprocess.run(["git", "-C", str(SOURCE), "archive", revision], check=True,
                             stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-C", str(target), "-xf", "-"], input=archive, check=True)
    box.run("make", "-C", AGAINST_INSIDE, "-j2", "build/netd", timeout=600)


def boot(files, against):
    box = Box(files.release, files.box)
    keep = bool(os.environ.get("NETD_TEST_KEEP"))
    if not (keep and box.adopt()):
        install_packages(files)
        box.boot(keep)
    prepare(box)
    if against:
        prepare_against(box, against)
    return box


class Load:
    """The load program, which waits before it sends and before it ends."""

    def __init__(self, box, row, options, lines, size):
        self.process = box.popen(f"{rows.TOOLS}/{row.program}", "-w", *row.load, *options,
                                 "-n", lines, "-s", size, row.port, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        self.latency = None  # p50 and p99 of acknowledgements, µs
        self.expect("connected")

    def expect(self, word):
        line = self.process.stdout.readline()
        while line and not line.startswith(word):
            line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the load program ended before it said {word}")
        return line.split()[1:]

    def go_on(self, word):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.expect(word)

    def end(self):
        words = self.go_on("closed")
        self.process.stdin.close()
        self.process.wait(60)
        self.latency = list(map(float, words[2:]))
        return int(words[1])


def inside(box, path):
    """From here; /run is a mount of the container."""
    return pathlib.Path(f"/proc/{box.pid}/root") / path.lstrip("/")


def write_files(box, files):
    for path, text in files.items():
        inside(box, path).parent.mkdir(parents=True, exist_ok=True)
        inside(box, path).write_text(text, encoding="utf-8")


def remove_files(box, files):
    for path in files:
        inside(box, path).unlink(missing_ok=True)


def start_row(box, row):
    write_files(box, row.files)
    box.run("systemctl", "daemon-reload")
    if row.clients:
        box.run("systemctl", "start", *row.start.split())


def stop_row(box, row):
    box.run("systemctl", "stop", *row.start.split(), *row.stop.split(), check=False)
    box.run("systemctl", "reset-failed", check=False)
    remove_files(box, row.files)


def run_row(box, row, lines, size, options=()):
    """One run; returns its figures."""
    processes = measure.Processes(box)
    journald = ["systemd-journald.service"]
    if row.instances:
        journald = [f"systemd-journald@{name}" for name in row.namespaces]
    load = None
    try:
        start_row(box, row)
        measure.empty_journal(box, row.namespaces)
        measure.wait_until_quiet(processes, row.processes, *journald)
        since = time.time_ns() // 1000
        if row.clients:
            load = Load(box, row, options, lines, size)
            measure.wait_until_quiet(processes, row.processes, *journald)
        size_before = measure.journal_size(box)
        before = [processes.cpu(row.processes), processes.cpu(*journald), measure.machine_busy()]
        if load:
            load.go_on("waiting")
        else:
            box.run("systemctl", "start", *row.start.split())
        measure.wait_until_quiet(processes, row.processes, *journald)
        after = [processes.cpu(row.processes), processes.cpu(*journald), measure.machine_busy()]
        memory = processes.peak_memory(row.processes)
        shared = processes.shared_memory(row.processes)
        receipts = load.end() if load else 0
        entries, data, first, last = measure.count(box, f"{rows.TOOLS}/count", since,
                                                   row.match.split(), "*" if row.instances else "")
        journal_bytes = measure.journal_size(box) - size_before
    finally:
        if load and load.process.poll() is None:
            load.process.kill()
        stop_row(box, row)
    seconds = (last - first) / 1e6
    expected = lines if not row.stream else round(lines * size / 32768)
    daemon_cpu, journald_cpu = measure.spent(before[0], after[0]), measure.spent(before[1], after[1])
    lost = lines - entries if not row.stream else (lines * size - data) // size
    return {
        "entries": entries, "expected": expected, "lost": lost, "seconds": seconds,
        "records_per_second": entries / seconds, "bytes_per_second": data / seconds,
        "daemon_usec": daemon_cpu / entries, "journald_usec": journald_cpu / entries,
        "journal_bytes": journal_bytes / entries,
        "acknowledged_usec": load.latency if load else [],
        "memory": memory, "memory_shared": shared, "receipts": receipts,
        # The whole machine's work and stolen time while this ran.
        "busy_usec": after[2][0] - before[2][0], "stolen_usec": after[2][1] - before[2][1],
        "others_usec": after[2][0] - before[2][0] - daemon_cpu - journald_cpu,
    }


def run_rows(boxes, args, everything=None, size=None):
    """Every row in every round on every release, interleaved."""
    if not everything:
        everything = rows.make(args.lines, args.size)
    if args.against:
        everything = rows.make_against(args.against, AGAINST_INSIDE, SOURCE_INSIDE)
    size = size or args.size
    chosen = [row for row in everything if not args.row or row.name in args.row]
    results = {release: collections.defaultdict(list) for release in boxes}
    for number in range(args.rounds):
        for release, box in boxes.items():
            for row in random.sample(chosen, len(chosen)):
                figures = run_row(box, row, args.lines, size)
                results[release][row.name].append(figures)
                print(f"{number + 1}/{args.rounds} {release:9} {row.name:10} "
                      f"{figures['records_per_second']:9.0f} records/s "
                      f"{figures['daemon_usec']:6.2f} µs {figures['journald_usec']:6.2f} µs "
                      f"{figures['memory'] / 1e6:6.1f} MB {figures['journal_bytes']:5.0f} bytes "
                      f"lost {figures['lost']} {figures['acknowledged_usec']}", flush=True)
    return {
        "rows": [{"name": r.name, "title": r.title, "attributed": r.attributed, "stream": r.stream}
                 for r in chosen],
        "results": results,
    }


def run_listeners(boxes, args):
    """Of 120 bytes: what is in front of a counted frame needs room."""
    return run_rows(boxes, args, rows.make_listeners(), 120)


def run_syslog(boxes, args):
    return run_rows(boxes, args, rows.make_syslog(), 160)


def describe(boxes):
    """Where the figures come from."""
    def version(box, *command):
        words = box.run(*command, check=False).stdout.split("\n")[0].split()
        return next((w for w in words if any(c.isdigit() for c in w)), "")

    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="ascii")
                  if line.startswith("model name")), platform.machine())
    return {
        "processor": model, "processors": os.cpu_count(), "kernel": platform.release(),
        "releases": {release: {
            "systemd": version(box, "systemctl", "--version"),
            "rsyslog": version(box, "rsyslogd", "-v"),
            "node": version(box, "node", "--version"),
        } for release, box in boxes.items()},
    }


def about_run(boxes, args):
    revision = subprocess.run(["git", "-C", str(SOURCE), "describe", "--always", "--dirty"],
                              stdout=subprocess.PIPE, check=False, text=True).stdout.strip()
    return {"date": time.strftime("%Y-%m-%d"), "revision": revision, "lines": args.lines,
            "rounds": args.rounds, "machine": describe(boxes)}


def main():
    import parts  # pylint: disable=import-outside-toplevel; it needs this file's functions
    known = {"rows": run_rows, "listeners": run_listeners, "syslog": run_syslog,
             "relp": parts.run_relp, "tls": parts.run_tls,
             "sessions": parts.run_sessions, "latency": parts.run_latency,
             "start": parts.run_start, "tuning": parts.run_tuning}
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--release", action="append", choices=RELEASES)
    parser.add_argument("--part", action="append", choices=known)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=200000)
    parser.add_argument("--size", type=int, default=100, help="bytes of a line, its end included")
    parser.add_argument("--row", action="append")
    parser.add_argument("--against", metavar="REVISION")
    parser.add_argument("--add", action="store_true", help="keep the other parts of DIR/bench.json")
    parser.add_argument("--out", type=pathlib.Path, default=SOURCE / "build/bench")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    keep = os.environ.get("NETD_TEST_KEEP")
    top = pathlib.Path(keep) if keep else temporary_directory()
    boxes = {}
    try:
        for release in args.release or RELEASES:
            files = Files(top / f"bench-{release}", release)
            files.create()
            boxes[release] = boot(files, args.against)
        data = {"size": args.size, "runs": {}}
        if args.add:
            data = json.loads((args.out / "bench.json").read_text(encoding="utf-8"))
        for part in args.part or (["rows"] if args.against else known):
            data[part] = known[part](boxes, args)
            data["runs"][part] = about_run(boxes, args)
            (args.out / "bench.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
        report.write(data, args.out)
    finally:
        if not keep:
            for box in boxes.values():
                box.kill()
            shutil.rmtree(top)


if __name__ == "__main__":
    sys.modules["bench"] = sys.modules["__main__"]
    main()
