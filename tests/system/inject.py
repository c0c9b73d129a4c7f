#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes every system call of netd, netd-tls and netd-client fail, once and permanently, and every
allocation of netd and netd-client (those of netd-tls: tests/unit/test-tls-alloc.c).

A scenario is a short script: netd starts, clients connect, it reloads, more clients, it stops; or
netd-client runs one of its commands. First each scenario runs without a failure, and the calls of
its processes are recorded (tests/inject/inject.c). Then it runs again for each error of each call,
and for each call with that and all later calls of its kind failing. After each run:

- no process crashed, hung, or left a sanitizer's report;
- netd either served, or exited with a message and the right exit status;
- each receipt is true: the journal has exactly what the client sent. Without a receipt, the journal
  has a prefix of what was sent, and nothing twice;
- after a single failure netd continues to serve, and at most one client gets no receipt;
- a TLS stream ends with "eof" only if all of it and its close_notify were sent;
- netd-client's exit status is right, and unless it is 0 there is a message.

Known misbehaviour of libraries when a call of their own fails is counted separately. If that is a
crash in a process that is allowed to crash, all of the above holds nevertheless.

With --sample only one in EVERY calls of a kind, for each error, fails, starting at index FIRST, but
at least one; of the calls of netd-tls, whose runs take longer, one in 4 * EVERY in all. Runs as
root in namespaces of its own, in the file system --root, with programs from `make inject`:

    inject.py [--root /] [--programs build/inject] [--mode once|good] [--scenario NAME] [--jobs N]
              [--sample EVERY:FIRST]
    inject.py --scenario journal --fault 2:17:0:once     shows one run
"""

import argparse
import collections
import contextlib
import ctypes
# Python would import these on first use: --root may have another Python, or none.
import encodings.ascii
import encodings.idna
import fcntl
import glob
import multiprocessing
import os
import pathlib
import queue
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time

import fake_events
import journal

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

# Seconds. Without a failure a scenario takes a tenth of a second.
LIMIT = 60
# The number of calls differs a little between runs.
RETRIES = 10
# Calls that are never reached, of all: some vary on a busy machine.
UNREACHED_MAX = 0.03
# Seconds. After a permanent failure, what the script waits for may never happen; it then continues.
IMPATIENCE = 1.0

PORT, NEW_PORT, RELP_PORT, TLS_PORT, CLIENT_PORT = 3000, 3001, 3003, 6514, 40000
CONFIG = """
port = %d;
output = "%s";
sessions = { max = %d; stop_timeout = 1; };
"""
LOCAL = "/run/inject/local"
# Before and after a reload, which closes one listener, opens another, and changes the first.
LISTENERS = [f"""
output = "journal";
sessions = {{ stop_timeout = 1; }};
listeners = (
    {{ name = "first"; port = {PORT}; max_rate = 20000; deny = ("127.0.0.9"); }},
    {{ name = "relp"; port = {RELP_PORT}; framing = "relp"; format = "syslog"; }},
    {{ name = "{name}"; {settings} }}
);
""" for name, settings in (("local", f'path = "{LOCAL}"; framing = "nul"; max_sessions = 2;'),
                           ("other", f'port = {NEW_PORT}; framing = "octet"; '
                                     'allow = ("127.0.0.0/24"); identifier = "%l %p";'))]
# Of the server, of clients, and their CA.
CERTIFICATE, KEY = "/run/tls/certificate.pem", "/run/tls/key.pem"
TLS_LISTENERS = f"""
output = "journal";
sessions = {{ stop_timeout = 1; }};
listeners = (
    {{ name = "plain"; port = {PORT}; }},
    {{ name = "tls"; port = {TLS_PORT}; tls = {{
        certificate = "{CERTIFICATE}"; key = "{KEY}"; client_ca = "{CERTIFICATE}"; }}; }}
);
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
    # Symbolizing allocates memory, which may be what fails.
    "ASAN_OPTIONS": "log_path=/run/inject/sanitizer:abort_on_error=1:allocator_may_return_null=1"
                    ":symbolize=0",
    "LSAN_OPTIONS": "print_suppressions=0",
    "UBSAN_OPTIONS": "log_path=/run/inject/sanitizer:print_stacktrace=1",
}

JOURNAL = "/run/fake"
SESSION, REPEATED = fake_events.session_id(1), fake_events.session_id(4)

# For a report that may be a library's: with full stacks. Slower.
DETAILED = {"ASAN_OPTIONS": ENVIRONMENT["ASAN_OPTIONS"].replace(":symbolize=0", ":symbolize=1")
            + ":fast_unwind_on_malloc=0"}

Fault = collections.namedtuple("Fault", "process call error mode")


class Wrong(Exception):
    """A requirement is not met."""


class Known(Exception):
    """Known misbehaviour of a library, after which nothing else can be checked."""


def require(condition, what):
    if not condition:
        raise Wrong(what)


# Known misbehaviour of libraries

LIBCONFIG = "libconfig crashes in the process that parses"
LOADER = "the loader leaks the name of a library that it cannot read"
LOCALE = "setlocale(3) leaks"
MATCH = "libsystemd asserts on a match that it could not allocate"


def callers(stack):
    """The functions or files of a stack in a report, innermost first, without inject's own."""
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
    """Which of the above a sanitizer's report is about, or None."""
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


# The environment


def fake_journal():
    """For the commands of netd-client that read."""
    made = fake_events.Journal()
    made.session(SESSION, [b"one", (b"t\0w\xffo", "crlf"), b"l" * 5000, (b"half", "none")])
    made.session(fake_events.session_id(2), [b"two"], peer="[2001:db8::1]:4711")
    made.connect(fake_events.session_id(3))
    made.data(fake_events.session_id(3), b"three")
    # netd crashed: a repeat.
    made.connect(REPEATED)
    made.data(REPEATED, b"four")
    made.data(REPEATED, b"four", NETD_RESENT="0")
    made.data(REPEATED, b"five")
    made.disconnect(REPEATED, 2, 10)
    # Without connect and disconnect.
    made.data(fake_events.session_id(5), b"headless")
    return made


def enter(root):
    """Enters new namespaces with an empty /run, where journald's socket is ours."""
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
    os.makedirs("/run/inject")
    os.makedirs(JOURNAL)
    os.chdir("/run/inject")
    subprocess.run([fake_events.REMOTE, "-o", f"{JOURNAL}/fake.journal", "-"], check=True,
                   input=b"".join(fake_journal().export()), stderr=subprocess.DEVNULL)
    os.makedirs(os.path.dirname(KEY))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", KEY, "-out", CERTIFICATE],
                   check=True, stderr=subprocess.DEVNULL)


def enter_network():
    """Enters a new network namespace, so that nothing is left of the previous run."""
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
    """What was received from a socket or pipe so far."""

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
    def __init__(self, scenario, name, where, host="127.0.0.1"):
        """WHERE is a port, or the path of a unix socket; HOST is the client's own address."""
        client = socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX)
        self.peer = b"unix"
        if isinstance(where, int):
            # Explicit: the kernel may give the same port to clients of different servers.
            port = CLIENT_PORT + len(scenario.clients)
            self.peer = f"{host}:{port}".encode()
            client.bind((host, port))
        client.connect(("127.0.0.1", where) if isinstance(where, int) else where)
        client.setblocking(False)
        super().__init__(client)
        self.name, self.scenario = name, scenario
        self.sent = b""
        scenario.streams.append(self)
        scenario.clients.append(self)

    def send(self, data):
        """Sends what the kernel takes; the connection may have ended."""
        with contextlib.suppress(OSError):
            while data:
                n = self.source.send(data)
                self.sent += data[:n]
                data = data[n:]

    def finish(self):
        with contextlib.suppress(OSError):
            self.source.shutdown(socket.SHUT_WR)
        self.scenario.until(lambda: self.over, f"the end of client {self.name}")

    @property
    def receipt(self):
        found = re.fullmatch(rb"netd session=([0-9a-f]{32}) records=(\d+) bytes=(\d+) end=(\w+)\n",
                             self.data)
        return found and (found[1], int(found[2]), int(found[3]), found[4])


class TlsClient(Client):
    """Sends and receives in TLS, and ends with close_notify."""

    def __init__(self, *words, certificate=True, **options):
        super().__init__(*words, **options)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(CERTIFICATE)
        if certificate:
            context.load_cert_chain(CERTIFICATE, KEY)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        self.unsent, self.ending, self.notified = b"", False, False
        self.advance()

    def advance(self):
        """Does what is possible with what has arrived; a failure of TLS ends the connection."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.do_handshake()
            if self.unsent:
                self.tls.write(self.unsent)
                self.unsent = b""
            if self.ending and not self.notified:
                self.notified = True
                with contextlib.suppress(ssl.SSLWantReadError):
                    self.tls.unwrap()
            while piece := self.tls.read(65536):
                self.data += piece
        with contextlib.suppress(OSError):
            self.source.sendall(self.outgoing.read())

    def ready(self):
        decrypted, self.data = self.data, b""
        super().ready()
        self.incoming.write(self.data)
        self.data = decrypted
        self.advance()

    def send(self, data):
        self.sent += data
        self.unsent += data
        self.advance()

    def finish(self):
        self.ending = True
        self.advance()
        self.scenario.until(lambda: self.over, f"the end of client {self.name}")
        self.source.close()

    def cut(self):
        """Ends without close_notify."""
        self.scenario.until(lambda: self.over or not self.unsent, "the handshake")
        super().finish()


OPENED = re.compile(rb"1 rsp 102 200 OK\nrelp_version=0\nrelp_software=netd\ncommands=syslog\n"
                    rb"netd_session=[0-9a-f]{32}\n")
SERVERCLOSE = b"0 serverclose 0\n"


class RelpClient(Client):
    def __init__(self, *words, **options):
        super().__init__(*words, **options)
        self.records = []
        self.send(b"1 open 0\n")

    def send_records(self, *records):
        for record in records:
            self.records.append(record)
            self.send(b"%d syslog %d %s\n" % (len(self.records) + 1, len(record), record))

    def close(self):
        """Sends the close command."""
        self.send(b"%d close 0\n" % (len(self.records) + 2))
        self.scenario.until(lambda: self.over, f"the end of client {self.name}")

    @property
    def closed(self):
        """The response to that."""
        return b"%d rsp 0\n" % (len(self.records) + 2)

    @property
    def acknowledged(self):
        """How many records it was told are logged; they are the first ones."""
        opened = OPENED.match(self.data)
        heard = self.data[opened.end():] if opened else self.data
        count = heard.count(b" rsp 6 200 OK\n")
        expected = b"".join(b"%d rsp 6 200 OK\n" % (i + 2) for i in range(count))
        require(heard in (expected, expected + SERVERCLOSE, expected + self.closed) and
                (opened or count == 0), f"client {self.name} received {self.data}")
        return count


class Scenario:
    """One run of a program under inject, with fakes of journald and systemd."""

    def __init__(self, inject, fault, detailed=False):
        self.inject, self.fault, self.detailed = inject, fault, detailed
        self.entries, self.notes, self.clients, self.streams = [], b"", [], []
        self.known, self.endings = set(), set()
        self.status = self.pid = None
        enter_network()
        for path in glob.glob("/run/inject/*"):
            os.unlink(path)
        self.journald = self._datagrams("/run/systemd/journal/socket")
        self.notify = self._datagrams("/run/inject/notify")

    @staticmethod
    def _datagrams(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(path)
        s.setblocking(False)
        return s

    def run(self, *command, stdin=subprocess.DEVNULL, listener=None, only=None, **environment):
        """Starts COMMAND under inject; calls fail in processes that execute ONLY."""
        report, theirs = os.pipe()
        words = [self.inject, "-T", str(LIMIT), "-r", str(theirs)]
        if self.fault:
            words += ["-f", "{}:{}:{}:{}".format(*self.fault)]
        if only:
            words += ["-o", only]
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
        """Waits for CONDITION or the end of the program. Returns whether it became true."""
        if patience is None:
            patience = IMPATIENCE if self.fault and self.fault.mode == "good" else LIMIT + 5
        deadline = time.monotonic() + patience
        while not condition():
            if self.pid and self.ended():
                self.pump(0)
                return condition()
            left = deadline - time.monotonic()
            if left <= 0:
                require(patience < LIMIT, f"timed out waiting for {what}")
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
        """Readiness is reported twice, first by messages, one for each listener. Either may fail; a
        reload that fails has no message."""
        messages = re.findall(rb"(?:^.*listening.*\n)+", self.err.data, re.M)
        return max(len(messages), self.notes.count(b"READY=1"))

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def close(self):
        if self.pid and self.status is None:
            self.signal(signal.SIGKILL)
            self.process.wait()
        for s in (self.journald, self.notify, *self.streams):
            (s.source if isinstance(s, Stream) else s).close()

    # Requirements

    def failed(self):
        """The name of the call that failed, or None if the run ended before."""
        found = re.search(r"^failed \d+ \d+ (\S+) (\d+)$", self.report.data.decode(), re.M)
        return found and found[1]

    def lines(self):
        return [line for line in self.err.data.decode(errors="replace").split("\n") if line]

    def reports(self):
        """Of the sanitizers."""
        for path in glob.glob("/run/inject/sanitizer*"):
            report = pathlib.Path(path).read_text(errors="replace")
            # LeakSanitizer attaches to the process, which may have ended.
            report = re.sub(r"^==\d+==Unable to get registers from thread .*$", "", report,
                            flags=re.M)
            if report.strip():
                yield report

    def check_sound(self):
        """No crash, no hang, no sanitizer report."""
        for report in self.reports():
            kind = known(report)
            require(kind, report)
            self.known.add(kind)
        if any(re.fullmatch("Assertion .* match_free.*", line) for line in self.lines()):
            self.known.add(MATCH)
        # All others end the program itself.
        if self.known - {LIBCONFIG}:
            raise Known
        require(b"\nhang\n" not in self.report.data, "it hangs")
        require(self.status < 120 or self.status in self.endings, f"exit status {self.status}")
        for line in self.lines():
            require(not re.search("of signal|not respond|not ready within|Sanitizer|runtime error",
                                  line), line)

    def check_exit(self, program, allowed):
        """An exit status other than 0 has a message."""
        if self.status in self.endings:
            return
        require(self.status in allowed, f"exit status {self.status}")
        for line in self.lines():
            require(line.startswith((program + ": ", "\r")), f"unexpected line: {line!r}")
        if self.status != 0 and self.failed() not in ("sendto", "write", "poll", "writev"):
            require(self.lines(), f"exit status {self.status} without a message")


# netd


def check_entry(entry):
    kind = entry.get("NETD_EVENT")
    require(MESSAGE_IDS.get(kind) == entry.get("MESSAGE_ID"), f"unexpected entry: {entry}")
    for name in ("MESSAGE", "PRIORITY", "NETD_SESSION_ID", "NETD_PEER"):
        require(name in entry, f"an entry without {name}: {entry}")
    if kind == b"disconnect":
        for name in ("NETD_REASON", "NETD_RECORDS", "NETD_BYTES", "NETD_DURATION_USEC"):
            require(name in entry, f"a disconnect without {name}: {entry}")


def check_client(client, events):
    """Compares the answer to a client with the events of its session."""
    kinds = [e["NETD_EVENT"] for e in events]
    data = [e for e in events if e["NETD_EVENT"] == b"data"]
    who = f"client {client.name}"
    if kinds == [b"refused"] or (not kinds and b"error=" in client.data):
        require(client.data in (b"netd error=session-limit\n", b"netd error=denied\n", b""),
                f"{who}: {client.data}")
        return
    require(len({e["NETD_SESSION_ID"] for e in events}) <= 1, f"{who} has several sessions")
    require(kinds.count(b"connect") <= 1 and b"connect" not in kinds[1:], f"{who}: {kinds}")
    require(kinds.count(b"disconnect") <= 1 and b"disconnect" not in kinds[:-1], f"{who}: {kinds}")
    require(b"connect" in kinds or not kinds, f"{who}: {kinds}")
    relp = isinstance(client, RelpClient)
    got = b"".join(e.record for e in data) if relp else journal.joined(data)
    if relp:
        records = [e.record for e in data]
        require(client.records[:len(data)] == records, f"{who} sent {client.records}: {records}")
    else:
        require(client.sent.startswith(got), f"{who} sent {client.sent[:99]}, logged {got[:99]}")
    if kinds[-1:] == [b"disconnect"]:
        require(events[-1].number("NETD_BYTES") == len(got), f"{who}: {events[-1]}, {len(got)}")
        require(events[-1].number("NETD_RECORDS") ==
                sum(e.get("NETD_TERMINATOR") != b"continued" for e in data), f"{who}: records")
    if relp:
        require(client.acknowledged <= len(data), f"{who}: {len(data)} logged, {client.data}")
        return
    if isinstance(client, TlsClient) and kinds[-1:] == [b"disconnect"] \
            and events[-1]["NETD_REASON"] == b"eof":
        require(client.notified and got == client.sent, f"{who} was cut off: {events[-1]}")
    if client.receipt is None:
        require(client.data == b"", f"{who} received {client.data}")
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
    """True if it got a receipt for everything it sent, or all responses."""
    if isinstance(client, RelpClient):
        return client.acknowledged == len(client.records) and client.data.endswith(client.closed)
    return client.receipt is not None and client.receipt[2:] == (len(client.sent), end)


def check_netd(scenario, served):
    """SERVED maps each client that should be served to whether it was."""
    scenario.check_sound()
    scenario.check_exit("netd", (0, 1, 78))
    entries = scenario.entries or journal.parse(scenario.out.data)
    by_peer = collections.defaultdict(list)
    for e in entries:
        check_entry(e)
        by_peer[e["NETD_PEER"]].append(e)
    for c in scenario.clients:
        check_client(c, by_peer.pop(c.peer, []))
    require(not by_peer, f"events of nobody: {by_peer}")
    if not scenario.clients:
        # If it could not start, the exit status is not 0, unless it kept trying until stopped.
        require(scenario.status != 0 or not scenario.fault or scenario.fault.mode == "good",
                "never ready")
        return "refused"
    if any(line.startswith("netd: standard output: ") for line in scenario.lines()):
        # Standard output is broken: netd reports it and exits.
        require(scenario.status == 1, f"exit status {scenario.status}")
        return "refused"
    if not scenario.fault or scenario.fault.mode == "once":
        missing = [name for name, ok in served.items() if not ok]
        require(len(missing) <= (1 if scenario.fault else 0), f"not served: {missing}")
        require(scenario.status == 0 or missing, f"exit status {scenario.status}")
    return "served" if all(served.values()) else "degraded"


def write_config(text):
    pathlib.Path("/run/inject/netd.conf").write_text(text, encoding="ascii")


def start_netd(scenario, programs, output="journal", config=None, **options):
    """Returns whether netd became ready."""
    write_config(config or CONFIG % (PORT, output, 2))
    scenario.run(f"{programs}/netd", "-c", "/run/inject/netd.conf",
                 NOTIFY_SOCKET="/run/inject/notify", **options)
    if scenario.until(lambda: scenario.times_ready() > 0, "readiness"):
        return True
    # It may not have a handler for the signal yet.
    scenario.endings.add(128 + signal.SIGTERM)
    scenario.signal(signal.SIGTERM)
    return False


def reload_netd(scenario, output="journal", config=None):
    """Returns when the reload has succeeded or failed."""
    write_config(config or CONFIG % (NEW_PORT, output, 3))
    before = scenario.times_ready()
    scenario.signal(signal.SIGHUP)
    scenario.until(lambda: scenario.times_ready() > before, "the reload's end")


def connect(scenario, name, *places, kind=Client, **options):
    """Connects to the first of PLACES that accepts; returns None if none does."""
    for place in places:
        with contextlib.suppress(OSError):
            return kind(scenario, name, place, **options)
    return None


def logged(scenario, client, count=1):
    """True if the journal has COUNT events of CLIENT, or the connection has ended."""
    return client.over or sum(e["NETD_PEER"] == client.peer for e in scenario.entries) >= count


def journal_scenario(scenario, programs):
    """All functions of netd, with output to the journal."""
    if not start_netd(scenario, programs):
        scenario.until_end()
        return check_netd(scenario, {})
    binary = bytes(range(256)) * 120  # an entry over 96 KiB: it goes in a memfd
    served = {}

    a = connect(scenario, "a", PORT)
    if a:
        a.send(b"one\r\ntwo\0\xff\n")
        a.send(binary.replace(b"\n", b"") + b"\nhalf")
        a.finish()
    b, c = connect(scenario, "b", PORT), connect(scenario, "c", PORT)
    for client in filter(None, (b, c)):
        client.send(b"first\nunfini")
        scenario.until(lambda client=client: logged(scenario, client, 2), "the first record")
    d = connect(scenario, "d", PORT)
    if d:
        d.finish()
    reload_netd(scenario)
    if b:
        b.send(b"shed\n")
        b.finish()
    e = connect(scenario, "e", NEW_PORT, PORT)
    if e:
        e.send(b"late\n")
        e.finish()
    scenario.signal(signal.SIGTERM)
    if c:
        scenario.until(lambda: c.over, "the last receipt")
        c.source.close()
    scenario.until_end()
    for client in filter(None, (a, b, e)):
        served[client.name] = is_served(client)
    if c:
        served["c"] = is_served(c, b"shutdown")
    return check_netd(scenario, served)


def export_scenario(scenario, programs):
    """Standard output instead of the journal."""
    if not start_netd(scenario, programs, "export"):
        scenario.until_end()
        return check_netd(scenario, {})
    a, b = connect(scenario, "a", PORT), connect(scenario, "b", PORT)
    if a:
        a.send(b"one\ntwo\0\nhalf")
        a.finish()
    reload_netd(scenario, "export")
    if b:
        b.send(b"late\n")
        b.finish()
    scenario.signal(signal.SIGTERM)
    scenario.until_end()
    return check_netd(scenario, {c.name: is_served(c) for c in (a, b) if c})


def passed_scenario(scenario, programs):
    """A socket passed by systemd."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", PORT + 2))
        listener.listen(16)
        ready = start_netd(scenario, programs, listener=listener)
    if not ready:
        scenario.until_end()
        return check_netd(scenario, {})
    a = connect(scenario, "a", PORT + 2)
    reload_netd(scenario)
    if a:
        a.send(b"one\n")
        a.finish()
    b = connect(scenario, "b", PORT + 2)
    if b:
        b.send(b"late\n")
        b.finish()
    scenario.signal(signal.SIGTERM)
    scenario.until_end()
    return check_netd(scenario, {c.name: is_served(c) for c in (a, b) if c})


def listeners_scenario(scenario, programs):
    """Several listeners: rules, a rate, a unix socket, RELP, and a reload that changes each."""
    if not start_netd(scenario, programs, config=LISTENERS[0]):
        scenario.until_end()
        return check_netd(scenario, {})
    a = connect(scenario, "a", PORT)
    if a:
        a.send(b"limited\n" * 2700) # more than a second's worth
    denied = connect(scenario, "denied", PORT, host="127.0.0.9")
    if denied:
        denied.finish()
    local = connect(scenario, "local", LOCAL)
    if local:
        local.send(b"one\0tw")
        scenario.until(lambda: logged(scenario, local, 2), "the first record")
    relp = connect(scenario, "relp", RELP_PORT, kind=RelpClient)
    if relp:
        relp.send_records(b"<14>app: one", b"t\0wo\n")
        scenario.until(lambda: relp.over or relp.acknowledged == 2, "the responses")
        relp.send_records(b"three")
    if a:
        a.finish()
    reload_netd(scenario, config=LISTENERS[1])
    if relp:
        relp.close()
    if local:
        local.send(b"o\0three")
        local.finish()
    b = connect(scenario, "b", NEW_PORT, PORT)
    if b:
        b.send(b"3 one9 cut")
        b.finish()
    scenario.signal(signal.SIGTERM)
    scenario.until_end()
    served = {c.name: is_served(c) for c in (a, local, relp, b) if c}
    if denied:
        served["denied"] = denied.data == b"netd error=denied\n"
    return check_netd(scenario, served)


def tls_scenario(scenario, programs):
    """netd-tls: clients with and without certificate, a stream cut off, and a reload."""
    if not start_netd(scenario, programs, config=TLS_LISTENERS, only="netd-tls"):
        scenario.until_end()
        return check_netd(scenario, {})
    plain = connect(scenario, "plain", PORT)
    a, b, c = (connect(scenario, name, TLS_PORT, kind=TlsClient) for name in "abc")
    for client in filter(None, (plain, b, c)):
        client.send(b"first\nunfini")
        scenario.until(lambda client=client: logged(scenario, client, 2), "the first record")
    if a:
        a.send(b"one\r\ntwo\0\xff\n" + bytes(range(256)) * 120 + b"half")
        a.finish()
    stranger = connect(scenario, "stranger", TLS_PORT, kind=TlsClient, certificate=False)
    if stranger:
        stranger.send(b"secret\n")
        stranger.finish()
    cut = connect(scenario, "cut", TLS_PORT, kind=TlsClient)
    if cut:
        cut.send(b"one\ntwo")
        cut.cut()
    reload_netd(scenario, config=TLS_LISTENERS)
    for client in filter(None, (plain, b)):
        client.send(b"shed\n")
        client.finish()
    d = connect(scenario, "d", TLS_PORT, kind=TlsClient)
    if d:
        d.send(b"late\n")
        d.finish()
    scenario.signal(signal.SIGTERM)
    if c:
        scenario.until(lambda: c.over, "the last receipt")
        c.source.close()
    scenario.until_end()
    served = {client.name: is_served(client) for client in (plain, a, b, d) if client}
    if c:
        served["c"] = is_served(c, b"shutdown")
    ends = {(e["NETD_PEER"], e["NETD_REASON"]) for e in scenario.entries if "NETD_REASON" in e}
    for client, reason in ((stranger, b"tls"), (cut, b"reset")):
        if client:
            served[client.name] = (client.peer, reason) in ends
    return check_netd(scenario, served)


# netd-client


class FakeNetd(Stream):
    """A server that receives from one client and sends it a receipt."""

    def __init__(self, scenario):
        listener = socket.socket()
        listener.bind(("127.0.0.1", PORT))
        listener.listen()
        listener.setblocking(False)
        super().__init__(listener)
        self.listening, self.answered = True, False
        scenario.streams.append(self)

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


def send_scenario(scenario, programs):
    """Sends arguments and standard input to FakeNetd."""
    netd = FakeNetd(scenario)
    pathlib.Path("/run/inject/input").write_bytes(b"two\n" * 1000)
    with open("/run/inject/input", "rb") as stdin:
        scenario.run(f"{programs}/netd-client", "-v", "send", "one", "-", "three", stdin=stdin)
        scenario.until_end()
    scenario.check_sound()
    scenario.check_exit("netd-client", (0, 1, 3))
    sent = b"one\n" + b"two\n" * 1000 + b"three\n"
    require(sent.startswith(netd.data), f"it sent {netd.data[:99]}")
    if scenario.status == 0:
        require(netd.data == sent and netd.answered, "exit status 0 without a receipt")
        require(scenario.out.data == SESSION.encode() + b"\n", f"it printed {scenario.out.data}")
    return "served" if scenario.status == 0 else "refused"


def reading_scenario(*words, statuses=(0, 1, 3)):
    """A command that reads the journal: its output is the same as without a failure, or there is an
    error message."""
    expected = []

    def run(scenario, programs):
        scenario.run(f"{programs}/netd-client", *words, "-D", JOURNAL)
        scenario.until_end()
        scenario.check_sound()
        scenario.check_exit("netd-client", statuses)
        if not scenario.fault and not expected:
            expected.append(scenario.out.data)
        elif not expected:
            expected.append(subprocess.run([f"{programs}/netd-client", *words, "-D", JOURNAL],
                                           env=ENVIRONMENT, check=True, capture_output=True).stdout)
        if scenario.status == 0:
            require(scenario.out.data == expected[0], f"it printed {scenario.out.data}")
        return "served" if scenario.status == 0 else "refused"
    return run


def follow_scenario(scenario, programs):
    """Waits for more events until its output is closed."""
    scenario.run(f"{programs}/netd-client", "follow", "--json", "-n", "1", "-D", JOURNAL)
    scenario.until(lambda: b"\n" in scenario.out.data, "an event")
    scenario.out.source.close()
    scenario.out.over = True
    scenario.until_end()
    scenario.check_sound()
    scenario.check_exit("netd-client", (0, 1, 3))
    return "served" if scenario.status == 0 else "refused"


SCENARIOS = {
    "journal": journal_scenario,
    "export": export_scenario,
    "passed": passed_scenario,
    "listeners": listeners_scenario,
    "tls": tls_scenario,
    "send": send_scenario,
    "sessions": reading_scenario("sessions", "--json", "--since", "2000-01-01 UTC"),
    "show": reading_scenario("show", SESSION),
    "follow": reading_scenario("follow", "--json", "-n", "10", SESSION),
    "follow-all": follow_scenario,
    "cat": reading_scenario("cat", SESSION),
    "verify": reading_scenario("verify", "--json", SESSION, REPEATED),
}


# All runs


def live(name, arguments, fault=None, detailed=False):
    """Runs one scenario. Returns the outcome and the Scenario object."""
    scenario = Scenario(f"{arguments.programs}/inject", fault, detailed)
    leaks = False
    try:
        outcome = SCENARIOS[name](scenario, arguments.programs)
    except Known:
        outcome = "known"
    except (Wrong, OSError, ValueError) as error:
        leaks = any("LeakSanitizer" in report for report in scenario.reports())
        outcome = f"WRONG {type(error).__name__}: {error}"
    finally:
        scenario.close()
    if leaks and not detailed:
        return live(name, arguments, fault, True)
    return outcome, scenario


def calls_of(name, arguments):
    """The calls of a scenario without a failure: {(process, call): (name, errors, good)}. The
    number of waits differs between runs: takes the median of several for each process."""
    runs = collections.defaultdict(list)
    for _ in range(5):
        calls = collections.defaultdict(dict)
        outcome, scenario = live(name, arguments)
        if outcome.startswith("WRONG") or outcome == "refused":
            raise SystemExit("\n".join([f"{name}: without a failure: {outcome}",
                                        *scenario.lines()]))
        for line in scenario.report.data.decode().splitlines():
            words = line.split()
            if words[0] == "call":
                calls[int(words[1])][int(words[2])] = words[3], int(words[4]), int(words[5])
        for process, its in calls.items():
            runs[process].append(its)
    middle = {process: sorted(of, key=len)[len(of) // 2] for process, of in runs.items()}
    return {(process, call): what for process, its in middle.items() for call, what in its.items()}


def faults_of(name, calls, mode, every, first):
    if name in ("listeners", "tls") and every > 1:
        # Most calls of the former are made for the same purpose as those of "journal".
        every *= 4
    alike = collections.defaultdict(list)
    for (process, call), (kind, errors, good) in sorted(calls.items()):
        for error in range(errors if mode == "once" else good):
            group = name if name == "tls" else (kind, error)
            alike[group].append((kind, Fault(process, call, error, mode)))
    for faults in alike.values():
        yield from faults[first % min(every, len(faults))::every]


def work(arguments, number, jobs, results):
    # The processes of a scenario mostly wait for each other, which is fastest on one processor.
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[number % len(processors)]})
    enter(arguments.root)
    for name, call, fault in iter(jobs.get, None):
        results.put((number, name, fault, None))
        for _ in range(RETRIES):
            outcome, scenario = live(name, arguments, fault)
            if scenario.failed():
                break
        else:
            outcome = "unreached"
        detail = "" if not outcome.startswith("WRONG") else "\n".join(scenario.lines())
        results.put((number, name, fault,
                     (scenario.failed() or call, outcome, detail, scenario.known)))


def record(arguments, names, results):
    enter(arguments.root)
    results.put({name: calls_of(name, arguments) for name in names})


def apart(context, function, *arguments):
    """Calls FUNCTION in a process of its own, which may enter namespaces."""
    process = context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def results_of(workers, results, total):
    """Yields the results of TOTAL runs. Ends the program when no more come."""
    running, heard = {}, time.monotonic()
    while total > 0:
        try:
            number, name, fault, result = results.get(timeout=1)
        except queue.Empty:
            dead = {n: w.exitcode for n, w in enumerate(workers) if w.exitcode}
            if not dead and time.monotonic() - heard < 3 * LIMIT:
                continue
            for n, (name, fault) in running.items():
                print(f"worker {n}, {f'died: {dead[n]}' if n in dead else 'alive'}, runs "
                      f"--scenario {name} --fault {':'.join(map(str, fault))}")
            raise SystemExit(f"{total} runs without a result, {len(dead)} of {len(workers)} "
                             f"workers died: exit status {sorted(dead.values())}") from None
        heard = time.monotonic()
        running[number] = name, fault
        if result:
            del running[number]
            total -= 1
            yield name, fault, *result


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
            for call, fault in faults_of(name, calls[name], mode, *arguments.sample):
                jobs.put((name, call, fault))
                total += 1
    workers = []
    for number in range(arguments.jobs):
        jobs.put(None)
        workers.append(apart(context, work, arguments, number, jobs, results))
    outcomes = collections.defaultdict(collections.Counter)
    of_libraries = collections.Counter()
    wrong = 0
    for name, fault, call, outcome, detail, kinds in results_of(workers, results, total):
        outcomes[name, fault.mode][outcome.split()[0]] += 1
        of_libraries.update(kinds)
        if outcome.startswith("WRONG"):
            wrong += 1
            print(f"\n--scenario {name} --fault {':'.join(map(str, fault))} ({call}): {outcome}",
                  detail, sep="\n", flush=True)
    for worker in workers:
        worker.join()
    for (name, mode), counter in sorted(outcomes.items()):
        print(f"{name}, {mode}: {sum(counter.values())} runs: "
              + ", ".join(f"{n} {outcome}" for outcome, n in counter.most_common()))
    for kind, n in of_libraries.most_common():
        print(f"{n} times: {kind}")
    unreached = sum(counter["unreached"] for counter in outcomes.values())
    print(f"{total} runs, {wrong} wrong, {unreached} in which the call was not reached")
    every, first = arguments.sample
    if every > 1:
        print(f"sampled 1 in {every}, starting at index {first}")
    return 1 if wrong or unreached > total * UNREACHED_MAX else 0


def show_one(arguments):
    """Shows everything about one run."""
    enter(arguments.root)
    words = arguments.fault.split(":")
    fault = Fault(*map(int, words[:3]), words[3])
    outcome, scenario = live(arguments.scenario, arguments, fault, detailed=True)
    print(outcome, *scenario.known, f"status {scenario.status}", *scenario.lines(),
          *scenario.notes.decode().split("\n"), sep="\n")
    report = scenario.report.data.decode().splitlines()
    print([line for line in report if line.startswith("failed")])
    for c in scenario.clients:
        print(c.name, len(c.sent), c.data, c.over)
    return outcome.startswith("WRONG")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="/")
    parser.add_argument("--programs", default=str(pathlib.Path("build/inject").resolve()),
                        help="directory of the programs and of inject, inside the root")
    parser.add_argument("--mode", choices=("once", "good"))
    parser.add_argument("--scenario", choices=SCENARIOS)
    parser.add_argument("--fault")
    parser.add_argument("--sample", metavar="EVERY:FIRST", default=(1, 0),
                        type=lambda text: tuple(map(int, text.split(":"))))
    parser.add_argument("--jobs", type=int, default=4 * (os.cpu_count() or 1))
    arguments = parser.parse_args()
    if arguments.fault:
        return show_one(arguments)
    return run_all(arguments, [arguments.scenario] if arguments.scenario else list(SCENARIOS),
                   [arguments.mode] if arguments.mode else ["once", "good"])


if __name__ == "__main__":
    sys.exit(main())
