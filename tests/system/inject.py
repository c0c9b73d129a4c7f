#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every system call and every allocation of netd and netd-client, failed once and for good.

A life is a short script: netd starts, clients come, it reloads, more clients, it stops; or
netd-client does one of its commands. First each life runs whole, and what calls its processes make
is written down (tests/inject/inject.c). Then it runs again for each call, for each error that this
call may have, and for each call once more with all of its kind failing from there on. After each:

- no process crashed, hung, or left a sanitizer's report;
- netd refused to start with a line that says why and the right exit status, or it served;
- each receipt is true: journal and client agree byte for byte; where there is none, what the journal
  has is the beginning of what was sent, and nothing twice;
- after a single failure netd serves on, and at most one client goes without its receipt;
- netd-client's exit status is true, and other than 0 it says why.

Counted apart, each by its name: what libraries do when a call of their own fails. Where
that is a crash in a process that may have one, all of the above holds nevertheless.

Nothing is left out but by --sample: then one in EVERY of a life's calls of each kind with each error,
and at least one, beginning with number FIRST. Runs as root in namespaces of its own, in the file
system --root, with programs from `make inject`:

    inject.py [--root /] [--programs build/inject] [--mode once|good] [--life NAME] [--jobs N]
              [--sample EVERY:FIRST]
    inject.py --life journal --fault 2:17:0:once     shows one of them
"""

import argparse
import collections
import contextlib
import ctypes
# What Python imports when it is first used: --root may have another Python, or none.
import encodings.ascii
import encodings.idna
import fcntl
import glob
import multiprocessing
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time

import fake_events
import journal

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

# A life without a failure takes a tenth of a second. What takes this long hangs.
LIMIT = 60
# Not every run has as many calls as the longest one.
RETRIES = 6
# A few stay unreached where the machine is busy. More: a script leaves too much to chance.
UNREACHED_MAX = 0.01
# Calls that fail for good may keep netd from ever doing what the script waits for. It goes on then.
IMPATIENCE = 1.0

PORT, NEW_PORT, CLIENT_PORT = 3000, 3001, 40000
CONFIG = """
port = %d;
output = "%s";
sessions = { max = %d; stop_timeout = 1; };
"""
MESSAGE_IDS = {
    b"connect": b"cf8a2f824a45483794fc0d893bd9b33c",
    b"data": b"780dde514a934f698d9360e2b7999b2c",
    b"disconnect": b"9484e171ebb44f1daf42690b105b5810",
    b"refused": b"883b11a4ab9f46f6b046f5ac05c2b62e",
}

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    # Names of functions would take allocations, which may be what fails for good.
    "ASAN_OPTIONS": "log_path=/run/life/sanitizer:abort_on_error=1:allocator_may_return_null=1"
                    ":symbolize=0",
    "UBSAN_OPTIONS": "log_path=/run/life/sanitizer:print_stacktrace=1",
}

JOURNAL = "/run/fake"
SESSION, REPEATED = fake_events.session_id(1), fake_events.session_id(4)

# For a report that may be a library's: all callers by name. It takes longer.
DETAILED = {"ASAN_OPTIONS": ENVIRONMENT["ASAN_OPTIONS"].replace(":symbolize=0", ":symbolize=1")
            + ":fast_unwind_on_malloc=0"}

Fault = collections.namedtuple("Fault", "process call error mode")


class Wrong(Exception):
    """What must not be."""


class Known(Exception):
    """What a library does, after which there is nothing left to look at."""


def require(condition, what):
    if not condition:
        raise Wrong(what)


# What libraries do

LIBCONFIG = "libconfig crashes where netd has it read"
LOADER = "the loader leaks the name of a library that it cannot read"
LOCALE = "setlocale(3) leaks"
MATCH = "libsystemd asserts that it had memory for a match"


def callers(stack):
    """The functions or files of a stack in a report, innermost first, without those that inject."""
    frames = re.findall(r"^ +#\d+ 0x[0-9a-f]+ (.*)", stack, re.M)
    return [f for f in frames if not re.search(r"/lib[au]san\.|/libsanitizer/|tests/inject/", f)]


def known_leak(stack):
    frames = callers(stack)
    if frames and "/ld-linux" in frames[0] and any("in dlopen " in f for f in frames):
        return LOADER
    for i, frame in enumerate(frames):
        if re.search(r"in (__GI_)?setlocale ", frame):
            return LOCALE if not any(" src/" in f for f in frames[:i]) else None
    return None


def known(report):
    """Which of the above a sanitizer's report is of; None: it is of something that must not be."""
    if "ERROR: LeakSanitizer" in report:
        kinds = {known_leak(stack) for stack in report.split(" leak of ")[1:]}
        return kinds.pop() if len(kinds) == 1 else None
    if "AddressSanitizer: SEGV" in report:
        for frame in callers(report):
            if "/libconfig.so." in frame:
                return LIBCONFIG
            if "/libc.so." not in frame:
                break
    return None


# The place where lives are run


def fake_journal():
    """For the commands of netd-client that read."""
    made = fake_events.Journal()
    made.session(SESSION, [b"one", (b"t\0w\xffo", "crlf"), b"l" * 5000, (b"half", "none")])
    made.session(fake_events.session_id(2), [b"two"], peer="[2001:db8::1]:4711")
    made.connect(fake_events.session_id(3))
    made.data(fake_events.session_id(3), b"three")
    # Netd crashed, and some of it may repeat.
    made.connect(REPEATED)
    made.data(REPEATED, b"four")
    made.data(REPEATED, b"four", NETD_RESENT="0")
    made.data(REPEATED, b"five")
    made.disconnect(REPEATED, 2, 10)
    # Its beginning is gone, and its end is not there yet.
    made.data(fake_events.session_id(5), b"headless")
    return made


def enter(root):
    """Into namespaces of our own: an empty /run, and journald's socket is ours."""
    libc = ctypes.CDLL(None, use_errno=True)

    def do(result):
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def mount(source, target, kind, flags=0):
        do(libc.mount(source.encode(), target.encode(), kind.encode() if kind else None,
                      ctypes.c_ulong(flags), None))

    do(libc.unshare(CLONE_NEWNS))
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    if root != "/":
        mount("/dev", f"{root}/dev", None, MS_BIND | MS_REC)
        os.chroot(root)
        mount("proc", "/proc", "proc")
    mount("none", "/run", "tmpfs")
    os.makedirs("/run/systemd/journal")
    os.makedirs("/run/life")
    os.makedirs(JOURNAL)
    os.chdir("/run/life")
    subprocess.run([fake_events.REMOTE, "-o", f"{JOURNAL}/fake.journal", "-"], check=True,
                   input=b"".join(fake_journal().export()), stderr=subprocess.DEVNULL)


def enter_network():
    """A network of our own, with loopback only and nothing left from the life before."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket() as s:
        flags = struct.unpack_from("16xh", fcntl.ioctl(s, SIOCGIFFLAGS, b"lo".ljust(40, b"\0")))[0]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))
    pathlib.Path("/proc/sys/net/unix/max_dgram_qlen").write_text("512", encoding="ascii")


def parse_datagram(data):
    """One entry of journald's native protocol."""
    entries = journal.parse(data)
    require(len(entries) == 1, f"{len(entries)} entries in a datagram")
    return entries[0]


class Stream:
    """What a client, or a pipe, has said so far."""

    def __init__(self, source):
        self.source, self.data, self.over = source, b"", None

    def fileno(self):
        return self.source.fileno()

    def ready(self):
        try:
            piece = os.read(self.source.fileno(), 1 << 20)
        except BlockingIOError:
            return
        except OSError as error:
            self.over = error
            return
        self.data += piece
        if not piece:
            self.over = True


class Client(Stream):
    def __init__(self, life, name, port):
        client = socket.socket()
        # Of its own: the kernel gives the same one to clients of different ports.
        self.port = CLIENT_PORT + len(life.clients)
        client.bind(("127.0.0.1", self.port))
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        super().__init__(client)
        self.name, self.life = name, life
        self.sent = b""
        life.streams.append(self)
        life.clients.append(self)

    def send(self, data):
        """Whatever the kernel takes; the connection may be over."""
        with contextlib.suppress(OSError):
            while data:
                n = self.source.send(data)
                self.sent += data[:n]
                data = data[n:]

    def finish(self):
        with contextlib.suppress(OSError):
            self.source.shutdown(socket.SHUT_WR)
        self.life.until(lambda: self.over, f"the end of client {self.name}")

    @property
    def receipt(self):
        found = re.fullmatch(rb"netd session=([0-9a-f]{32}) records=(\d+) bytes=(\d+) end=(\w+)\n",
                             self.data)
        return found and (found[1], int(found[2]), int(found[3]), found[4])


class Life:
    """One run of a program under inject, with a stand-in for journald and for systemd."""

    def __init__(self, inject, fault, detailed=False):
        self.inject, self.fault, self.detailed = inject, fault, detailed
        self.entries, self.notes, self.clients, self.streams = [], b"", [], []
        self.known, self.endings = set(), set()
        self.status = self.pid = None
        enter_network()
        for path in glob.glob("/run/life/*"):
            os.unlink(path)
        self.journald = self._datagrams("/run/systemd/journal/socket")
        self.notify = self._datagrams("/run/life/notify")

    @staticmethod
    def _datagrams(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(path)
        s.setblocking(False)
        return s

    def run(self, *command, stdin=subprocess.DEVNULL, listener=None, **environment):
        """Starts COMMAND under inject."""
        report, theirs = os.pipe()
        words = [self.inject, "-T", str(LIMIT), "-r", str(theirs)]
        if self.fault:
            words += ["-f", "{}:{}:{}:{}".format(*self.fault)]
        words += ["--", *command]
        keep = [theirs]
        if listener:
            keep.append(listener.fileno())
            words[words.index("--") + 1:] = [
                "/bin/bash", "-c", f'exec 3<&{listener.fileno()} {listener.fileno()}<&-; '
                'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "bash", *command]
        self.process = subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, pass_fds=keep,
                                        env=ENVIRONMENT | environment
                                        | (DETAILED if self.detailed else {}))
        os.close(theirs)
        self.report = Stream(os.fdopen(report, "rb"))
        self.out, self.err = Stream(self.process.stdout), Stream(self.process.stderr)
        self.streams += [self.report, self.out, self.err]
        self.until(lambda: b"\n" in self.report.data or self.report.over, "the program", LIMIT + 5)
        self.pid = int(self.report.data.split()[1])

    # Waiting

    def take_entries(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(self.journald, 1 << 18, 4)
                for fd in fds:
                    data = os.pread(fd, os.fstat(fd).st_size, 0)
                    os.close(fd)
                self.entries.append(parse_datagram(data))

    def take_notes(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.notes += self.notify.recv(4096) + b"\n"

    def pump(self, seconds):
        sources = [s for s in self.streams if not s.over and s.fileno() >= 0]
        ready, _, _ = select.select([self.journald, self.notify, *sources], [], [], seconds)
        for s in ready:
            if s is self.journald:
                self.take_entries()
            elif s is self.notify:
                self.take_notes()
            else:
                s.ready()

    def ended(self):
        if self.status is None and self.report.over:
            self.status = self.process.wait()
        return self.status is not None

    def until(self, condition, what, patience=None):
        """Waits for CONDITION, or the end of the program. Returns whether it came true."""
        if patience is None:
            patience = IMPATIENCE if self.fault and self.fault.mode == "good" else LIMIT + 5
        deadline = time.monotonic() + patience
        while not condition():
            if self.pid and self.ended():
                self.pump(0)
                return condition()
            left = deadline - time.monotonic()
            if left <= 0:
                require(patience < LIMIT, f"waited in vain for {what}")
                return False
            self.pump(left)
        return True

    def until_end(self):
        self.until(self.ended, "the end of the program", LIMIT + 5)
        for s in (self.out, self.err):
            while not s.over:
                s.ready()
        self.take_entries()
        for c in self.clients:
            while not c.over:
                c.ready()

    def times_ready(self):
        """It says it twice, first in a line. Either may fail; a reload that fails has no line."""
        return max(self.err.data.count(b"listening"), self.notes.count(b"READY=1"))

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def close(self):
        if self.pid and self.status is None:
            self.signal(signal.SIGKILL)
            self.process.wait()
        for s in (self.journald, self.notify, *self.streams):
            (s.source if isinstance(s, Stream) else s).close()

    # What must hold whatever happened

    def failed(self):
        """What inject says that it failed: the call's name, or None where the life ended before."""
        found = re.search(r"^failed \d+ \d+ (\S+) (\d+)$", self.report.data.decode(), re.M)
        return found and found[1]

    def lines(self):
        return [line for line in self.err.data.decode(errors="replace").split("\n") if line]

    def reports(self):
        """Of the sanitizers."""
        for path in glob.glob("/run/life/sanitizer*"):
            report = pathlib.Path(path).read_text(errors="replace")
            # LeakSanitizer stops the process to look at it, and may come too late.
            report = re.sub(r"^==\d+==Unable to get registers from thread .*$", "", report,
                            flags=re.M)
            if report.strip():
                yield report

    def check_sound(self):
        """No crash, no hang, no report."""
        for report in self.reports():
            kind = known(report)
            require(kind, report)
            self.known.add(kind)
        if any(re.fullmatch("Assertion .* match_free.*", line) for line in self.lines()):
            self.known.add(MATCH)
        # All but the first are the end of the program itself.
        if self.known - {LIBCONFIG}:
            raise Known
        require(b"\nhang\n" not in self.report.data, "it hangs")
        require(self.status < 120 or self.status in self.endings, f"exit status {self.status}")
        for line in self.lines():
            require(not re.search("of signal|not respond|Sanitizer|runtime error", line), line)

    def check_exit(self, program, allowed):
        """An exit status other than 0 has its line."""
        if self.status in self.endings:
            return
        require(self.status in allowed, f"exit status {self.status}")
        for line in self.lines():
            require(line.startswith((program + ": ", "\r")), f"what line is this: {line!r}")
        if self.status != 0 and self.failed() not in ("sendto", "write", "poll", "writev"):
            require(self.lines(), f"exit status {self.status} without a line")


# netd


def check_entry(entry):
    kind = entry.get("NETD_EVENT")
    require(MESSAGE_IDS.get(kind) == entry.get("MESSAGE_ID"), f"what entry is this: {entry}")
    for name in ("MESSAGE", "PRIORITY", "NETD_SESSION_ID", "NETD_PEER"):
        require(name in entry, f"an entry without {name}: {entry}")
    if kind == b"disconnect":
        for name in ("NETD_REASON", "NETD_RECORDS", "NETD_BYTES", "NETD_DURATION_USEC"):
            require(name in entry, f"a disconnect without {name}: {entry}")


def check_client(client, events):
    """One client's answer against the events of its session."""
    kinds = [e["NETD_EVENT"] for e in events]
    data = [e for e in events if e["NETD_EVENT"] == b"data"]
    who = f"client {client.name}"
    if kinds == [b"refused"] or (not kinds and b"error=" in client.data):
        require(client.data in (b"netd error=session-limit\n", b""), f"{who}: {client.data}")
        return
    require(len({e["NETD_SESSION_ID"] for e in events}) <= 1, f"{who} has several sessions")
    require(kinds.count(b"connect") <= 1 and b"connect" not in kinds[1:], f"{who}: {kinds}")
    require(kinds.count(b"disconnect") <= 1 and b"disconnect" not in kinds[:-1], f"{who}: {kinds}")
    require(b"connect" in kinds or not kinds, f"{who}: {kinds}")
    got = journal.joined(data)
    require(client.sent.startswith(got), f"{who} sent {client.sent[:99]}, logged {got[:99]}")
    if kinds[-1:] == [b"disconnect"]:
        require(events[-1].number("NETD_BYTES") == len(got), f"{who}: {events[-1]}, {len(got)}")
        require(events[-1].number("NETD_RECORDS") ==
                sum(e.get("NETD_TERMINATOR") != b"continued" for e in data), f"{who}: records")
    if client.receipt is None:
        require(client.data == b"", f"{who} was told {client.data}")
        return
    session, records, number, end = client.receipt
    require(kinds[:1] == [b"connect"] and kinds[-1:] == [b"disconnect"], f"{who}: {kinds}")
    require(session == events[0]["NETD_SESSION_ID"], f"{who}: a receipt of another session")
    require(number == len(got), f"{who}: {len(got)} bytes logged, receipt {client.data}")
    require(records == events[-1].number("NETD_RECORDS"), f"{who}: records in {client.data}")
    require(end == events[-1]["NETD_REASON"], f"{who}: reason in {client.data}")
    if end == b"eof":
        require(got == client.sent, f"{who}: {len(got)} of {len(client.sent)} bytes, {client.data}")


def is_served(client, end=b"eof"):
    """It got a receipt for all that it sent."""
    return client.receipt is not None and client.receipt[2:] == (len(client.sent), end)


def check_netd(life, served):
    """SERVED: of those clients that were to be served, whether they were."""
    life.check_sound()
    life.check_exit("netd", (0, 1, 78))
    entries = life.entries or journal.parse(life.out.data)
    by_peer = collections.defaultdict(list)
    for e in entries:
        check_entry(e)
        by_peer[e["NETD_PEER"]].append(e)
    for c in life.clients:
        check_client(c, by_peer.pop(b"127.0.0.1:%d" % c.port, []))
    require(not by_peer, f"events of nobody: {by_peer}")
    if not life.clients:
        # Whoever could not start says it with his exit status, unless he waited to be stopped.
        require(life.status != 0 or not life.fault or life.fault.mode == "good", "never ready")
        return "refused"
    if any(line.startswith("netd: standard output: ") for line in life.lines()):
        # What it writes to is broken: it says so and ends.
        require(life.status == 1, f"exit status {life.status}")
        return "refused"
    if not life.fault or life.fault.mode == "once":
        missing = [name for name, ok in served.items() if not ok]
        require(len(missing) <= (1 if life.fault else 0), f"not served: {missing}")
        require(life.status == 0 or missing, f"exit status {life.status}")
    return "served" if all(served.values()) else "degraded"


def start_netd(life, programs, output="journal", **options):
    """Returns whether it serves."""
    pathlib.Path("/run/life/netd.conf").write_text(CONFIG % (PORT, output, 2), encoding="ascii")
    life.run(f"{programs}/netd", "-c", "/run/life/netd.conf", NOTIFY_SOCKET="/run/life/notify",
             **options)
    if life.until(lambda: life.times_ready() > 0, "readiness"):
        return True
    # It may not yet be so far that it catches this.
    life.endings.add(128 + signal.SIGTERM)
    life.signal(signal.SIGTERM)
    return False


def reload_netd(life, output="journal", port=NEW_PORT):
    """Returns when it is over, well or not."""
    pathlib.Path("/run/life/netd.conf").write_text(CONFIG % (port, output, 3), encoding="ascii")
    before = life.times_ready()
    life.signal(signal.SIGHUP)
    life.until(lambda: life.times_ready() > before, "the reload's end")


def connect(life, name, *ports):
    """A client of the first of PORTS where somebody listens; None: nowhere."""
    for port in ports:
        with contextlib.suppress(OSError):
            return Client(life, name, port)
    return None


def logged(life, client, count=1):
    """True when COUNT events of CLIENT's are in the journal, or it will never have them."""
    peer = b"127.0.0.1:%d" % client.port
    return client.over or sum(e["NETD_PEER"] == peer for e in life.entries) >= count


def journal_life(life, programs):
    """Everything that netd does, with the journal."""
    if not start_netd(life, programs):
        life.until_end()
        return check_netd(life, {})
    binary = bytes(range(256)) * 120  # an entry over 96 KiB: it goes in a memfd
    served = {}

    a = connect(life, "a", PORT)
    if a:
        a.send(b"one\r\ntwo\0\xff\n")
        a.send(binary.replace(b"\n", b"") + b"\nhalf")
        a.finish()
    b, c = connect(life, "b", PORT), connect(life, "c", PORT)
    for client in filter(None, (b, c)):
        client.send(b"first\nunfini")
        life.until(lambda client=client: logged(life, client, 2), "the first record")
    d = connect(life, "d", PORT)
    if d:
        d.finish()
    reload_netd(life)
    if b:
        b.send(b"shed\n")
        b.finish()
    e = connect(life, "e", NEW_PORT, PORT)
    if e:
        e.send(b"late\n")
        e.finish()
    life.signal(signal.SIGTERM)
    if c:
        life.until(lambda: c.over, "the last receipt")
        c.source.close()
    life.until_end()
    for client in filter(None, (a, b, e)):
        served[client.name] = is_served(client)
    if c:
        served["c"] = is_served(c, b"shutdown")
    return check_netd(life, served)


def export_life(life, programs):
    """Standard output instead of the journal."""
    if not start_netd(life, programs, "export"):
        life.until_end()
        return check_netd(life, {})
    a, b = connect(life, "a", PORT), connect(life, "b", PORT)
    if a:
        a.send(b"one\ntwo\0\nhalf")
        a.finish()
    reload_netd(life, "export")
    if b:
        b.send(b"late\n")
        b.finish()
    life.signal(signal.SIGTERM)
    life.until_end()
    return check_netd(life, {c.name: is_served(c) for c in (a, b) if c})


def passed_life(life, programs):
    """A socket passed by systemd."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", PORT + 2))
        listener.listen(16)
        ready = start_netd(life, programs, listener=listener)
    if not ready:
        life.until_end()
        return check_netd(life, {})
    a = connect(life, "a", PORT + 2)
    reload_netd(life)
    if a:
        a.send(b"one\n")
        a.finish()
    b = connect(life, "b", PORT + 2)
    if b:
        b.send(b"late\n")
        b.finish()
    life.signal(signal.SIGTERM)
    life.until_end()
    return check_netd(life, {c.name: is_served(c) for c in (a, b) if c})


# netd-client


class FakeNetd(Stream):
    """Takes what one client sends, and gives it a receipt."""

    def __init__(self, life):
        listener = socket.socket()
        listener.bind(("127.0.0.1", PORT))
        listener.listen()
        listener.setblocking(False)
        super().__init__(listener)
        self.listening, self.answered = True, False
        life.streams.append(self)

    def ready(self):
        if self.listening:
            client, _ = self.source.accept()
            self.source.close()
            self.source, self.listening = client, False
            return
        super().ready()
        if self.over:
            with contextlib.suppress(OSError):
                self.source.sendall(b"netd session=%s records=3 bytes=%d end=eof\n"
                                    % (SESSION.encode(), len(self.data)))
                self.answered = self.over is True
            self.source.close()


def send_life(life, programs):
    """Arguments and standard input; the peer is no netd, but says what a true one would."""
    netd = FakeNetd(life)
    pathlib.Path("/run/life/input").write_bytes(b"two\n" * 1000)
    with open("/run/life/input", "rb") as stdin:
        life.run(f"{programs}/netd-client", "-v", "send", "one", "-", "three", stdin=stdin)
        life.until_end()
    life.check_sound()
    life.check_exit("netd-client", (0, 1, 3))
    sent = b"one\n" + b"two\n" * 1000 + b"three\n"
    require(sent.startswith(netd.data), f"it sent {netd.data[:99]}")
    if life.status == 0:
        require(netd.data == sent and netd.answered, "exit status 0 without a receipt")
        require(life.out.data == SESSION.encode() + b"\n", f"it printed {life.out.data}")
    return "served" if life.status == 0 else "refused"


def reading_life(*words, statuses=(0, 1, 3)):
    """A command that reads the journal: prints what it prints without a failure, or says why not."""
    expected = []

    def run(life, programs):
        life.run(f"{programs}/netd-client", *words, "-D", JOURNAL)
        life.until_end()
        life.check_sound()
        life.check_exit("netd-client", statuses)
        if not life.fault and not expected:
            expected.append(life.out.data)
        elif not expected:
            expected.append(subprocess.run([f"{programs}/netd-client", *words, "-D", JOURNAL],
                                           env=ENVIRONMENT, check=True, capture_output=True).stdout)
        if life.status == 0:
            require(life.out.data == expected[0], f"it printed {life.out.data}")
        return "served" if life.status == 0 else "refused"
    return run


def follow_life(life, programs):
    """It waits for more, until nobody reads it any more."""
    life.run(f"{programs}/netd-client", "follow", "--json", "-n", "1", "-D", JOURNAL)
    life.until(lambda: b"\n" in life.out.data, "an event")
    life.out.source.close()
    life.out.over = True
    life.until_end()
    life.check_sound()
    life.check_exit("netd-client", (0, 1, 3))
    return "served" if life.status == 0 else "refused"


LIVES = {
    "journal": journal_life,
    "export": export_life,
    "passed": passed_life,
    "send": send_life,
    "sessions": reading_life("sessions", "--json", "--since", "2000-01-01 UTC"),
    "show": reading_life("show", SESSION),
    "follow": reading_life("follow", "--json", "-n", "10", SESSION),
    "follow-all": follow_life,
    "cat": reading_life("cat", SESSION),
    "verify": reading_life("verify", "--json", SESSION, REPEATED),
}


# All of them


def live(name, arguments, fault=None, detailed=False):
    """Runs one life. Returns its outcome, and the life."""
    life = Life(f"{arguments.programs}/inject", fault, detailed)
    leaks = False
    try:
        outcome = LIVES[name](life, arguments.programs)
    except Known:
        outcome = "known"
    except (Wrong, OSError, ValueError) as error:
        leaks = any("LeakSanitizer" in report for report in life.reports())
        outcome = f"WRONG {type(error).__name__}: {error}"
    finally:
        life.close()
    if leaks and not detailed:
        return live(name, arguments, fault, True)
    return outcome, life


def calls_of(name, arguments):
    """The calls of a life where nothing fails: {(process, call): (name, errors, good)}. How often a
    process waits is not the same in every run: of several, each process's middle one counts."""
    runs = collections.defaultdict(list)
    for _ in range(5):
        calls = collections.defaultdict(dict)
        outcome, life = live(name, arguments)
        if outcome.startswith("WRONG") or outcome == "refused":
            raise SystemExit(f"{name}: without a failure: {outcome}\n" + "\n".join(life.lines()))
        for line in life.report.data.decode().splitlines():
            words = line.split()
            if words[0] == "call":
                calls[int(words[1])][int(words[2])] = words[3], int(words[4]), int(words[5])
        for process, its in calls.items():
            runs[process].append(its)
    middle = {process: sorted(of, key=len)[len(of) // 2] for process, of in runs.items()}
    return {(process, call): what for process, its in middle.items() for call, what in its.items()}


def faults_of(calls, mode, every, first):
    alike = collections.defaultdict(list)
    for (process, call), (name, errors, good) in sorted(calls.items()):
        for error in range(errors if mode == "once" else good):
            alike[name, error].append(Fault(process, call, error, mode))
    for (name, _), faults in alike.items():
        for fault in faults[first % min(every, len(faults))::every]:
            yield name, fault


def work(arguments, number, jobs, results):
    # A life's processes mostly wait for each other, which is quickest on one processor.
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[number % len(processors)]})
    enter(arguments.root)
    for name, call, fault in iter(jobs.get, None):
        for _ in range(RETRIES):
            outcome, life = live(name, arguments, fault)
            if life.failed():
                break
        else:
            outcome = "unreached"
        detail = "" if not outcome.startswith("WRONG") else "\n".join(life.lines())
        results.put((name, life.failed() or call, fault, outcome, detail, life.known))


def record(arguments, names, results):
    enter(arguments.root)
    results.put({name: calls_of(name, arguments) for name in names})


def apart(context, function, *arguments):
    """FUNCTION in a process of its own, which may go into namespaces."""
    process = context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def run_all(arguments, names, modes):
    context = multiprocessing.get_context("fork")
    jobs, results = context.Queue(), context.Queue()
    recorder = apart(context, record, arguments, names, results)
    while recorder.is_alive() and results.empty():
        recorder.join(0.1)
    if results.empty() and recorder.exitcode:
        return 1
    calls = results.get()
    total = 0
    for name in names:
        kinds = collections.Counter(call[0] for call in calls[name].values())
        print(f"{name}: {sum(kinds.values())} calls of {len(kinds)} kinds: "
              + ", ".join(f"{kind} {n}" for kind, n in kinds.most_common()), flush=True)
        for mode in modes:
            for call, fault in faults_of(calls[name], mode, *arguments.sample):
                jobs.put((name, call, fault))
                total += 1
    workers = []
    for number in range(arguments.jobs):
        jobs.put(None)
        workers.append(apart(context, work, arguments, number, jobs, results))
    outcomes = collections.defaultdict(collections.Counter)
    of_libraries = collections.Counter()
    wrong = 0
    for _ in range(total):
        name, call, fault, outcome, detail, kinds = results.get(timeout=3 * LIMIT)
        outcomes[name, fault.mode][outcome.split()[0]] += 1
        of_libraries.update(kinds)
        if outcome.startswith("WRONG"):
            wrong += 1
            print(f"\n--life {name} --fault {':'.join(map(str, fault))} ({call}): {outcome}\n{detail}",
                  flush=True)
    for worker in workers:
        worker.join()
    for (name, mode), counter in sorted(outcomes.items()):
        print(f"{name}, {mode}: {sum(counter.values())} lives: "
              + ", ".join(f"{n} {outcome}" for outcome, n in counter.most_common()))
    for kind, n in of_libraries.most_common():
        print(f"{n} times: {kind}")
    unreached = sum(counter["unreached"] for counter in outcomes.values())
    print(f"{total} lives, {wrong} wrong, {unreached} that never came to their call")
    every, first = arguments.sample
    if every > 1:
        print(f"sampled 1 in {every}, beginning with number {first}")
    return 1 if wrong or unreached > total * UNREACHED_MAX else 0


def show_one(arguments):
    """One life by itself, with all it says."""
    enter(arguments.root)
    words = arguments.fault.split(":")
    fault = Fault(*map(int, words[:3]), words[3])
    outcome, life = live(arguments.life, arguments, fault, detailed=True)
    print(outcome, *life.known, f"status {life.status}", *life.lines(), *life.notes.decode().split("\n"),
          sep="\n")
    print([line for line in life.report.data.decode().splitlines() if line.startswith("failed")])
    for c in life.clients:
        print(c.name, len(c.sent), c.data, c.over)
    return outcome.startswith("WRONG")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="/")
    parser.add_argument("--programs", default=str(pathlib.Path("build/inject").resolve()),
                        help="directory of netd, netd-client and inject, inside the root")
    parser.add_argument("--mode", choices=("once", "good"))
    parser.add_argument("--life", choices=LIVES)
    parser.add_argument("--fault")
    parser.add_argument("--sample", metavar="EVERY:FIRST", default=(1, 0),
                        type=lambda text: tuple(map(int, text.split(":"))))
    parser.add_argument("--jobs", type=int, default=4 * (os.cpu_count() or 1))
    arguments = parser.parse_args()
    if arguments.fault:
        return show_one(arguments)
    return run_all(arguments, [arguments.life] if arguments.life else list(LIVES),
                   [arguments.mode] if arguments.mode else ["once", "good"])


if __name__ == "__main__":
    sys.exit(main())
