# SPDX-License-Identifier: MIT
"""What is measured besides the rows: many sessions, latency, starting."""

import collections
import dataclasses
import math
import random
import statistics
import time

import documented
import measure
import rows
from bench import JOURNALD_CONF, Load, run_row, run_rows, start_row, stop_row, write_files

IDLE_SESSIONS = 100000
ACTIVE_SESSIONS = (1, 10, 100, 1000, 10000)
SHORT_SESSIONS = {"ceiling": 20000, "netd": 20000, "netd-rules": 20000, "accept": 1000}
SHORT_TOGETHER = 50
PROBES = {"idle": 500, "80 % load": 1000}
PACED_SECONDS = 5
TLS_SESSIONS = 1000
TLS_HANDSHAKES = 3000
PROBE_INTERVAL = 7300  # µs: in step with nothing
STARTS = 10

# Settings of journald that are held against JOURNALD_CONF.
TUNING = {
    "as in every row": "",
    "ForwardToSyslog=yes": "ForwardToSyslog=yes\n",
    "SystemMaxFileSize=16M": "SystemMaxFileSize=16M\n",
    "Compress=no": "Compress=no\n",
    "Storage=volatile": "Storage=volatile\nRuntimeMaxUse=1G\nRuntimeMaxFileSize=512M\n",
}


def by_name(args, **what):
    made = [*rows.make(**{"lines": args.lines, "size": args.size, **what}), rows.make_rules()]
    return {row.name: row for row in made}


# Sessions


def idle_sessions(box):
    """Memory of netd with nobody, and with 100,000 clients that say nothing: of as many instances as
    it takes where a process may not have so many descriptors."""
    processes = measure.Processes(box)
    limit = int(box.sh("ulimit -Hn"))
    # Room for netd's own, and for the kernel to share them out unevenly.
    instances = math.ceil(IDLE_SESSIONS / (limit - 2000))
    count = math.ceil(IDLE_SESSIONS / instances)
    row = rows.instances(instances)
    row = dataclasses.replace(row, load=("-c", count), files={
        **row.files, "/etc/netd/netd.conf": f"sessions: {{ max = {limit}; }};\n"})

    def memory():
        return [processes.shared_memory(row.processes, kind) for kind in ("Pss", "Pss_Shmem")]

    loads, receipts = [], 0
    try:
        start_row(box, row)
        before, table_before = memory()
        for _ in range(instances):
            loads.append(Load(box, row, (), 0, 100))
        measure.wait_until_quiet(processes, row.processes, "systemd-journald@")
        after, table_after = memory()
        for load in loads:
            load.go_on("waiting")
            receipts += load.end()
    finally:
        for load in loads:
            load.process.kill()
        stop_row(box, row)
    sessions = count * instances
    if receipts != sessions:
        raise AssertionError(f"{receipts} receipts for {sessions} sessions")
    table = table_after - table_before
    return {"sessions": sessions, "instances": instances, "memory_before": before, "memory": after,
            "bytes_per_session": (after - before) / sessions,
            "table_bytes_per_session": table / sessions,
            "other_bytes_per_session": (after - before - table) / sessions}


def short_sessions(box, args, name):
    """Connect, one record, disconnect: of three entries the last one counts."""
    count = SHORT_SESSIONS[name]
    row = by_name(args, lines=count, ceiling="sessions")[name]
    match = "NETD_EVENT=disconnect" if row.match == "NETD_EVENT=data" else row.match
    row = dataclasses.replace(row, load=("-1", "-c", SHORT_TOGETHER), match=match)
    figures = run_row(box, row, count, args.size)
    if figures["lost"]:
        raise AssertionError(f"{name}: {figures['lost']} of {count} sessions are not in the journal")
    return figures


def run_sessions(boxes, args):
    known = by_name(args)
    results = {}
    for release, box in boxes.items():
        of = {"idle": idle_sessions(box),
              "short": collections.defaultdict(list), "active": collections.defaultdict(list)}
        for _ in range(args.rounds):
            for name in SHORT_SESSIONS:
                of["short"][name].append(short_sessions(box, args, name))
            for count in ACTIVE_SESSIONS:
                row = dataclasses.replace(known["netd"], load=("-c", count))
                of["active"][count].append(run_row(box, row, args.lines, args.size))
        results[release] = of
    return results


# Latency


def probe(box, row, field, count):
    """Sorted µs until stored and until readable."""
    command = [f"{rows.TOOLS}/latency", rows.PORT, count, PROBE_INTERVAL, *field]
    said = box.run(*command, timeout=300).stdout
    pairs = [tuple(map(int, line.split())) for line in said.splitlines()]
    return {name: sorted(values) for name, values in zip(("stored", "readable"), zip(*pairs))}


def percentiles(values):
    return {p: values[min(len(values) - 1, int(len(values) * float(p) / 100))]
            for p in ("50", "99", "99.9")}


def run_latency(boxes, args):
    """netd and rsyslog, by turns; each loaded with four fifths of what it stored alone just now."""
    known = by_name(args)
    fields = {"netd": ("NETD_PEER", "p"), "rsyslog": ("PEER",)}
    results = {}
    for release, box in boxes.items():
        results[release] = of = {}
        for name, field in fields.items():
            row = known[name]
            rate = statistics.median(
                run_row(box, row, args.lines, args.size)["records_per_second"] for _ in range(3))
            for how, count in PROBES.items():
                load = None
                try:
                    start_row(box, row)
                    measure.empty_journal(box)
                    if how != "idle":
                        seconds = count * PROBE_INTERVAL / 1e6 + 5
                        load = Load(box, row, ("-R", round(rate * 0.8)),
                                    round(rate * 0.8 * seconds), args.size)
                        load.process.stdin.write("\n")
                        load.process.stdin.flush()
                        time.sleep(1)
                    found = probe(box, row, field, count)
                finally:
                    if load:
                        load.process.kill()
                        load.process.wait()
                    stop_row(box, row)
                of[f"{name}, {how}"] = {what: percentiles(v) for what, v in found.items()}
    return results


def run_relp(boxes, args):
    """The rows; and, with the window of omrelp, how long acknowledgements take."""
    data = run_rows(boxes, args, rows.make_relp(), 160)
    data["latency"] = latency = {}
    for release, box in boxes.items():
        for row in rows.make_relp():
            if row.name not in ("netd-128", "rsyslog-128"):
                continue
            rate = statistics.median(r["records_per_second"]
                                     for r in data["results"][release][row.name])
            for how, paced in ("idle", 137), ("80 % load", round(rate * 0.8)):
                run = run_row(box, row, paced * PACED_SECONDS, 160, ("-R", paced))
                latency.setdefault(release, {})[f"{row.title}, {how}"] = run["acknowledged_usec"]
                print(release, row.title, how, run["acknowledged_usec"], "µs, lost", run["lost"],
                      flush=True)
    return data


# TLS


def tls_memory(box, row):
    """Bytes a session, of sessions that have sent a message each and are idle."""
    processes = measure.Processes(box)
    load = None
    try:
        start_row(box, row)
        measure.wait_until_quiet(processes, row.processes)
        before = processes.shared_memory(row.processes)
        load = Load(box, row, ("-c", TLS_SESSIONS), TLS_SESSIONS, 160)
        load.go_on("waiting")
        measure.wait_until_quiet(processes, row.processes, "systemd-journald.service")
        return (processes.shared_memory(row.processes) - before) / TLS_SESSIONS
    finally:
        if load:
            load.process.kill()
            load.process.wait()
        stop_row(box, row)


def tls_handshakes(box, row):
    """Sessions of one message: figures for each, as for a record."""
    match = row.match.replace("NETD_EVENT=data", "NETD_EVENT=disconnect")
    row = dataclasses.replace(row, load=("-1", "-c", SHORT_TOGETHER, *row.load), match=match)
    return run_row(box, row, TLS_HANDSHAKES, 160)


def run_tls(boxes, args):
    recipe = documented.files("TLS WITH HAPROXY")
    everything = rows.make_tls(recipe)
    data = run_rows(boxes, args, everything, 160)
    data["sessions"] = {}
    for release, box in boxes.items():
        of = {"handshakes": collections.defaultdict(list), "memory": {}}
        for row in rows.make_handshakes(recipe):
            for _ in range(args.rounds):
                of["handshakes"][row.title].append(tls_handshakes(box, row))
            print(release, row.title, *(f"{r['records_per_second']:.0f} handshakes/s, "
                                        f"{r['daemon_usec']:.0f} µs, lost {r['lost']};"
                                        for r in of["handshakes"][row.title]), flush=True)
        for row in everything[:3]:
            of["memory"][row.title] = tls_memory(box, row)
            print(release, row.title, of["memory"][row.title], "bytes a session", flush=True)
        data["sessions"][release] = of
    return data


# Start


def milliseconds(box, unit):
    """From the moment that systemd began to start UNIT until it was ready."""
    shown = box.run("systemctl", "show", "-p", "InactiveExitTimestampMonotonic",
                    "-p", "ActiveEnterTimestampMonotonic", unit).stdout
    times = dict(line.split("=") for line in shown.split())
    return (int(times["ActiveEnterTimestampMonotonic"])
            - int(times["InactiveExitTimestampMonotonic"])) / 1000


def run_start(boxes, args):
    results = {}
    for release, box in boxes.items():
        started, first = [], []
        row = by_name(args)["netd"]
        for _ in range(STARTS):
            start_row(box, row)
            started.append(milliseconds(box, "netd.service"))
            stop_row(box, row)
        for _ in range(STARTS):
            box.run("systemctl", "start", "netd.socket")
            since = time.time_ns() // 1000
            with box.connect(3000) as client:
                client.sendall(b"first\n")
                client.shutdown(1)
                while client.recv(100):
                    pass
            time.sleep(0.1)
            stored = measure.count(box, f"{rows.TOOLS}/count", since, ["NETD_EVENT=connect"])[2]
            first.append((stored - since) / 1000)
            box.run("systemctl", "stop", "netd.socket", "netd.service")
        results[release] = {"systemctl start until ready": started,
                            "first connection to netd.socket until its event": first}
    return results


# Tuning


def configure_journald(box, more):
    write_files(box, {"/run/systemd/journald.conf.d/bench.conf": JOURNALD_CONF + more})
    box.sh("systemctl reset-failed systemd-journald; systemctl restart systemd-journald")


def run_tuning(boxes, args):
    """One netd with a hundred connections, by turns with each setting."""
    row = by_name(args)["netd-100"]
    results = {release: {name: [] for name in TUNING} for release in boxes}
    for _ in range(args.rounds):
        for release, box in boxes.items():
            for name in random.sample(list(TUNING), len(TUNING)):
                configure_journald(box, TUNING[name])
                results[release][name].append(run_row(box, row, args.lines, args.size))
            configure_journald(box, "")
    return results
