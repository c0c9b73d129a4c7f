#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make soak MINUTES=...: clients of every kind against an installed netd, in a container, while
journald is restarted, stopped and rotated, workers are killed, hang, and reloads go on. In the last
third the workers are left alone, so that what one of them would leak adds up. At the end every
session is compared byte for byte with what its client sent. Exits 1 on any difference, on a
descriptor left behind, and when netd was ever down.

    soak.py [--minutes 30] [--release bookworm] [--clients 24] [--seed 1]

Wants root, as the system tests do (conftest.py), and like them keeps its container where
NETD_TEST_KEEP says.
"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

import journal
import traffic
from box import RELEASES, Box, Files, temporary_directory, wait_for
from conftest import install
from daemon import Netd

CONFIG = "sessions = { max = 400; idle_timeout = 20; buffer_memory = 4194304; };\n"
DROPIN = "[Unit]\nStartLimitIntervalSec=0\n"
# Nothing may be vacuumed away before it is compared.
JOURNALD = ("/etc/systemd/journald.conf.d/soak.conf",
            "[Journal]\nSystemMaxUse=20G\nSystemKeepFree=1\nSystemMaxFiles=100000\nForwardToSyslog=no\n")
SAMPLE_SECONDS = 5
GROWTH_MAX = 1 << 20  # bytes that netd at rest may be larger in the end, but for programs

# What became of one connection. DATA is made anew from SEED when it is compared.
Sent = collections.namedtuple("Sent", "kind seed port size answer")
# ALONE: while nobody kills workers. MEMORY: bytes by kind.
Sample = collections.namedtuple("Sample", "alone time memory")
KINDS = {"Anon": "its own", "Shmem": "table and clients' bytes", "File": "programs"}


def data_of(kind, seed):
    rnd = random.Random(seed)
    if kind == "long":
        return rnd.randbytes(1000).replace(b"\n", b"") * rnd.randint(100, 1500)
    if kind in ("slow", "idle"):
        return traffic.awkward(rnd, rnd.randint(10, 400))
    return traffic.awkward(rnd, rnd.randint(100, 60000))


class Soak:
    def __init__(self, netd, arguments):
        self.netd, self.arguments = netd, arguments
        self.over, self.alone = threading.Event(), threading.Event()
        self.sent, self.faults, self.samples, self.errors = [], collections.Counter(), [], []
        self.lock = threading.Lock()
        self.others = set()  # sessions that are not compared

    # Clients

    def one_session(self, kind, seed):
        """Connects, sends what it can, and notes what it heard."""
        rnd = random.Random(f"{seed} timing")
        data, done, answer = data_of(kind, seed), 0, None
        client = self.netd.connect(timeout=90)
        port = traffic.port_of(client)
        stop = rnd.randint(0, len(data)) if kind == "broken" else len(data)
        try:
            while done < stop:
                piece = rnd.randint(1, 20 if kind == "slow" else 20000)
                done += client.send(data[done:min(done + piece, stop)])
                time.sleep(rnd.uniform(0, 0.3 if kind == "slow" else 0.02))
            if kind == "broken":
                traffic.reset(client)
            elif kind == "idle":
                answer = self.netd.answer(client)
            elif kind == "deaf":
                client.shutdown(1)
            else:
                client.shutdown(1)
                answer = self.netd.answer(client)
        except (OSError, TimeoutError) as error:
            answer = f"{type(error).__name__}: {error}"
        finally:
            client.close()
        with self.lock:
            self.sent.append(Sent(kind, seed, port, done, answer))

    def crowd(self, rnd):
        """Connections at once that say nothing."""
        for client in [self.netd.connect() for _ in range(rnd.randint(5, 40))]:
            client.close()

    def client(self, number):
        rnd = random.Random(f"{self.arguments.seed} client {number}")
        count = 0
        while not self.over.is_set():
            count += 1
            kind = rnd.choices(["honest", "slow", "long", "broken", "deaf", "idle", "crowd"],
                               [40, 20, 5, 15, 10, 3, 3])[0]
            try:
                if kind == "crowd":
                    self.crowd(rnd)
                else:
                    self.one_session(kind, f"{self.arguments.seed} {number} {count}")
            except OSError as error:
                self.errors.append(f"no connection: {error}")
            self.over.wait(rnd.uniform(0, 1))

    # Faults

    def restart_journald(self):
        traffic.journald_restart(self.netd.box)

    def stop_journald(self):
        with traffic.journald_stopped(self.netd.box):
            self.over.wait(2)

    def rotate(self):
        self.netd.box.run("journalctl", "--rotate")

    def kill_worker(self):
        self.netd.box.sh(f"kill -9 {traffic.worker(self.netd)} || true")

    def stop_worker(self):
        pid = traffic.worker(self.netd)
        self.netd.box.sh(f"kill -STOP {pid} && sleep 1; kill -CONT {pid} || true")

    def hang_worker(self):
        """Until the supervisor has seen that its heart does not beat."""
        pid = traffic.worker(self.netd)
        self.netd.box.sh(f"kill -STOP {pid} || true")
        wait_for(lambda: pid not in traffic.processes(self.netd), "another worker", timeout=60)

    def reload(self):
        self.netd.reload()

    def disturb(self):
        rnd = random.Random(f"{self.arguments.seed} faults")
        of_journald = {self.restart_journald: 3, self.stop_journald: 3, self.rotate: 3}
        of_all = {**of_journald, self.kill_worker: 6, self.stop_worker: 3, self.hang_worker: 1,
                  self.reload: 3}
        while not self.over.wait(rnd.uniform(0.5, 3)):
            faults = of_journald if self.alone.is_set() else of_all
            fault = rnd.choices([*faults], [*faults.values()])[0]
            self.faults[fault.__name__] += 1
            try:
                fault()
            except (AssertionError, OSError) as error:
                self.errors.append(f"{fault.__name__}: {error}")

    # Measures

    def at_rest(self):
        """Memory of netd's two processes, and descriptors, without clients."""
        wait_for(lambda: traffic.sessions_open(self.netd) == 0, "the last session", timeout=120)
        time.sleep(4)  # the last connections linger; pages are given back a second later
        return traffic.memory_by_kind(self.netd), traffic.open_descriptors(self.netd, self.netd.pid)

    def sample(self):
        while not self.over.wait(SAMPLE_SECONDS):
            alone = self.alone.is_set()
            try:
                memory = traffic.memory_by_kind(self.netd)
                self.samples.append(Sample(alone, time.monotonic(), memory))
            except AssertionError:
                pass  # a worker was gone between two looks

    def slope(self, alone, kind):
        """Bytes a minute that memory grew by, by least squares."""
        samples = [s for s in self.samples if s.alone == alone]
        n = len(samples)
        if n < 2:
            return 0
        x0 = sum(s.time for s in samples) / n
        y0 = sum(s.memory[kind] for s in samples) / n
        spread = sum((s.time - x0) ** 2 for s in samples)
        return 60 * sum((s.time - x0) * (s.memory[kind] - y0) for s in samples) / spread

    def run(self):
        jobs = [lambda i=i: self.client(i) for i in range(self.arguments.clients)]
        threads = [threading.Thread(target=job, daemon=True)
                   for job in (*jobs, self.disturb, self.sample)]
        for thread in threads:
            thread.start()
        start, length = time.monotonic(), 60 * self.arguments.minutes
        while (left := start + length - time.monotonic()) > 0:
            time.sleep(min(60, left))
            if time.monotonic() >= start + length * 2 / 3:
                self.alone.set()
            print(f"{len(self.sent)} sessions, {sum(self.faults.values())} faults", flush=True)
        self.over.set()
        for thread in threads:
            thread.join(200)
            if thread.is_alive():
                self.errors.append("a client got no end")

    # The comparison

    def sessions(self):
        """netd's sessions since the beginning, each a list of its events, as they end: all of them
        together would not fit into memory."""
        self.netd.box.run("journalctl", "--sync")
        command = ["journalctl", "-q", "-o", "export", "--cursor", self.netd.since,
                   "--output-fields=" + ",".join(journal.FIELDS), "SYSLOG_IDENTIFIER=netd"]
        going_on = collections.defaultdict(list)
        with self.netd.box.popen(*command, stdout=subprocess.PIPE) as process:
            for entry in entries(process.stdout):
                if "NETD_EVENT" not in entry:
                    continue
                going_on[entry["NETD_SESSION_ID"]].append(entry)
                if entry["NETD_EVENT"] in (b"disconnect", b"refused"):
                    yield going_on.pop(entry["NETD_SESSION_ID"])
        yield from going_on.values()

    def compare(self):
        """Every connection with its session. Returns what differs."""
        by_port, wrong, known, silent = collections.defaultdict(list), {}, set(), []
        for sent in self.sent:
            by_port[sent.port].append(sent)
            if sent.size > 0:
                wrong[sent] = "no session"

        def match(events):
            # A port may be used again by a later client: the data tells them apart.
            for sent in by_port[int(events[0]["NETD_PEER"].rpartition(b":")[2])]:
                why = differs(sent, data_of(sent.kind, sent.seed)[:sent.size], events)
                if not why:
                    wrong.pop(sent, None)
                    by_port[sent.port].remove(sent)
                    return True
                wrong[sent] = why
            return False

        for events in self.sessions():
            session = events[0]["NETD_SESSION_ID"]
            if session in known:
                wrong[session] = "goes on after its end"
            known.add(session)
            if not journal.joined(events):
                silent.append(events)
            elif not match(events) and session not in self.others:
                wrong[session] = "nobody sent that"
        # What is left for these: a reset that overtook everything, and who never sent anything.
        for events in silent:
            match(events)
        return [f"{what}: {why}" for what, why in wrong.items()]


def entries(stream):
    """As journal.parse(), one after the other."""
    pairs = []
    while line := stream.readline():
        if line == b"\n":
            yield journal.Entry(pairs)
            pairs = []
        elif b"=" in line:
            name, _, value = line[:-1].partition(b"=")
            pairs.append((name.decode(), value))
        else:
            size = int.from_bytes(stream.read(8), "little")
            pairs.append((line[:-1].decode(), stream.read(size)))
            stream.read(1)


def differs(sent, data, events):
    """Why EVENTS are not the session of SENT, or None."""
    kinds = [e.text("NETD_EVENT") for e in events]
    if kinds == ["refused"]:
        return None if "session=" not in str(sent.answer) else "refused with a receipt"
    if kinds[0] != "connect" or kinds[-1] != "disconnect" or set(kinds[1:-1]) - {"data"}:
        return f"events {kinds[:2]}...{kinds[-2:]}"
    logged = journal.joined(events)
    if events[-1].number("NETD_BYTES") != len(logged):
        return f"{len(logged)} bytes, disconnect says {events[-1].number('NETD_BYTES')}"
    if sent.kind == "broken":  # the reset may have overtaken its last bytes
        return None if data.startswith(logged) else f"{len(logged)} of {len(data)} bytes, others"
    if logged != data:
        return f"{len(logged)} of {len(data)} bytes"
    if sent.kind == "deaf":
        return None
    end = "idle" if sent.kind == "idle" else "eof"
    line = (f"netd session={events[0].text('NETD_SESSION_ID')} "
            f"records={events[-1].text('NETD_RECORDS')} bytes={len(data)} end={end}\n")
    # A slow client that was not read for long enough counts as idle, and is told so.
    told = (line, line.replace("end=eof", "end=idle"))
    return None if sent.answer in told else f"it was told {sent.answer!r}"


def soak(box, arguments):
    path, text = JOURNALD
    netd = Netd(box)
    netd.reset()
    with traffic.file_inside(box, path, text):
        traffic.journald_restart(box)
        netd.start(config=CONFIG, dropin=DROPIN)
        warm = netd.send(b"warm\n")
        run = Soak(netd, arguments)
        run.others.add(warm.session.encode())
        pid, (memory, descriptors) = netd.pid, run.at_rest()
        run.run()
        memory_after, descriptors_after = run.at_rest()
        wrong = run.compare()
        same = netd.pid == pid
        netd.reset()
    traffic.journald_restart(box)

    kinds = collections.Counter(s.kind for s in run.sent)
    size = sum(s.size for s in run.sent)
    print(f"{len(run.sent)} sessions ({', '.join(f'{n} {k}' for k, n in kinds.most_common())}), "
          f"{size / 1e6:.1f} MB")
    print("faults: " + ", ".join(f"{n} {name}" for name, n in run.faults.most_common()))
    for kind, name in KINDS.items():
        print(f"memory, {name}: at rest {memory[kind] >> 10} KiB before, {memory_after[kind] >> 10} "
              f"KiB after; under load {run.slope(False, kind) / 1024:+.1f} KiB a minute, "
              f"of one worker {run.slope(True, kind) / 1024:+.1f}")
    print(f"descriptors {descriptors} before, {descriptors_after} after")
    if not same:
        wrong.append("netd's main process was not the same in the end")
    if descriptors_after > descriptors:
        wrong.append("descriptors were left behind")
    if sum(memory_after[kind] - memory[kind] for kind in ("Anon", "Shmem")) > GROWTH_MAX:
        wrong.append("memory grew")
    wrong += run.errors
    for what in wrong[:50]:
        print(f"WRONG: {what}"[:600])
    print(f"{len(wrong)} differences")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", default="1")
    arguments = parser.parse_args()

    keep = os.environ.get("NETD_TEST_KEEP")
    top = pathlib.Path(keep) if keep else temporary_directory()
    files = Files(top / arguments.release, arguments.release)
    box = Box(arguments.release, files.box)
    try:
        files.create()
        if not (keep and box.adopt()):
            box.boot(bool(keep))
        install(box)
        return soak(box, arguments)
    finally:
        if not keep:
            box.kill()
            shutil.rmtree(top)


if __name__ == "__main__":
    sys.exit(main())
