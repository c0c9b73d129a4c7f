#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""netd-tls with a stand-in for netd: see src/netd-tls/interface.h.

    tls_program.py PROGRAM [--root DIRECTORY --pid PID] SCENARIO...

DIRECTORY is the root of a container and PID a process in it: the program and its peers are those of
the container. This process is to be in its network namespace, and has Python's whole library, which
the container has not. A scenario is a function below whose name begins with scenario_. It prints nothing if all is well.
"""

import argparse
import collections
import contextlib
import hashlib
import os
import pathlib
import queue
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

FD_SETTINGS, FD_CONTROL, FD_COUNTERS, FD_FIRST = 3, 4, 5, 6
COUNTERS_MAX, RESULTS = 128, 5
COUNTERS_SIZE = COUNTERS_MAX * (RESULTS * 8 + 8 + 8)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TLV_TLS, TLV_VERSION, TLV_COMMON_NAME, TLV_CIPHER = 0x20, 0x21, 0x22, 0x23
TLV_LISTENER, TLV_SUBJECT, TLV_NAME, TLV_FINGERPRINT, TLV_REFUSED = range(0xe0, 0xe5)

# The container's root, and what runs a command in it.
ROOT, PREFIX = "", []


def inside(path):
    """PATH as the container knows it."""
    return str(path).removeprefix(ROOT)


def within(command):
    return [*PREFIX, *map(inside, command)]


# --- Certificates ---


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Certificates:
    """A CA, a server and clients, in a directory."""

    def __init__(self, directory):
        self.directory = directory
        self.authority("ca")
        self.authority("other")
        self.leaf("server", "IP:127.0.0.1,DNS:localhost", "serverAuth")
        self.leaf("client", "DNS:logs.example.com,IP:192.0.2.7", "clientAuth")
        self.leaf("stranger", "DNS:logs.example.com", "clientAuth", issuer="other")

    def path(self, name):
        return self.directory / f"{name}.pem"

    def authority(self, name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", f"/CN={name}", "-days", "30", "-keyout", self.path(f"{name}-key"), "-out",
                self.path(name))

    def leaf(self, name, names, usage, issuer="ca", days=30, subject=None):
        request = self.directory / f"{name}.csr"
        extensions = self.directory / f"{name}.ext"
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                subject or f"/O=Example/CN={name}", "-keyout", self.path(f"{name}-key"), "-out",
                request)
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage={usage}\n")
        openssl("x509", "-req", "-in", request, "-CA", self.path(issuer), "-CAkey",
                self.path(f"{issuer}-key"), "-CAcreateserial", "-days", days, "-extfile",
                extensions, "-out", self.path(name))

    def fingerprint(self, name):
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.path(name).read_text())).digest()

# --- Settings ---


def settings(listeners, connections=10000, handshakes=1000, handshake_ms=10000, linger_ms=2000,
             refusals=5):
    """The bytes of a settings memfd. LISTENERS are dictionaries."""
    head = struct.Struct("=8sIIIIIIII")
    record = struct.Struct("=IIiIII12I")
    data = bytearray(head.size + record.size * len(listeners))

    def add(piece):
        if not piece:
            return 0, 0
        data.extend(piece)
        return len(data) - len(piece), len(piece)

    def text(value):
        return add(inside(value).encode() + b"\0") if value else (0, 0)

    for i, listener in enumerate(listeners):
        names, fingerprints = listener.get("names", []), listener.get("fingerprints", [])
        record.pack_into(
            data, head.size + i * record.size, listener.get("id", i), i, listener.get("fd", -1),
            listener.get("min_minor", 2), len(names), len(fingerprints),
            *add(struct.pack("=H", socket.AF_UNIX) + listener.get("internal", b"")),
            *text(listener["certificate"]), *text(listener["key"]),
            *text(listener.get("client_ca")),
            *add(b"".join(name.encode() + b"\0" for name in names)), *add(b"".join(fingerprints)))
    head.pack_into(data, 0, b"netd-tls", 2, len(data), connections, handshakes, handshake_ms,
                   linger_ms, refusals, len(listeners))
    return bytes(data)


def memfd(data):
    fd = os.memfd_create("test")
    os.write(fd, data)
    return fd


# --- netd's part ---

Header = collections.namedtuple("Header", "peer local tls tlvs")


def tlvs(data):
    found = {}
    while data:
        kind, length = struct.unpack("!BH", data[:3])
        found[kind], data = data[3:3 + length], data[3 + length:]
    return found


def parse_header(data):
    """Returns the header and its length, or None if DATA has not all of it."""
    if len(data) < 16 or len(data) < 16 + struct.unpack("!H", data[14:16])[0]:
        return None
    assert data.startswith(SIGNATURE) and data[12:14] == b"\x21\x11", data
    end = 16 + struct.unpack("!H", data[14:16])[0]
    source, destination, port, local = struct.unpack("!4s4sHH", data[16:28])
    found = tlvs(data[28:end])
    tls = None
    if TLV_TLS in found:
        assert found[TLV_TLS][1:5] == bytes(4)
        tls = tlvs(found[TLV_TLS][5:])
    return Header((socket.inet_ntoa(source), port), (socket.inet_ntoa(destination), local), tls,
                  found), end


class Session:
    """A connection to the internal listener, as netd has it."""

    def __init__(self, connection):
        self.connection = connection
        self.header = None
        self.data = bytearray()
        self.end = None  # "eof", "reset" or "refused"

    def read(self, count=1 << 20):
        """Reads once. Returns False at the end."""
        try:
            data = self.connection.recv(count)
        except ConnectionResetError:
            data, self.end = b"", "reset"
        self.data += data
        if self.header is None:
            found = parse_header(self.data)
            if found:
                self.header = found[0]
                del self.data[:found[1]]
        if not data:  # of a refusal, nobody reads the greeting
            self.end = "refused" if TLV_REFUSED in self.header.tlvs else self.end or "eof"
        return bool(data)

    def run(self, receipt):
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(b"\0")
        while self.read():
            pass
        if self.end == "eof" and receipt:
            self.connection.send(b"bytes=%d\n" % len(self.data))
        self.connection.close()


class Netd:
    """The stand-in: each session is read to its end, gets a receipt, and goes into a queue."""

    def __init__(self, receipt=True):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("")  # abstract, of the kernel's choice
        self.listener.listen(1024)
        self.address = self.listener.getsockname()
        self.sessions = queue.Queue()
        self.open = []  # all, in the order in which they began
        self.receipt = receipt
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        session = Session(connection)
        self.open.append(session)
        with contextlib.suppress(ConnectionError):
            session.run(self.receipt)
        self.sessions.put(session)

    def next(self, timeout=20):
        return self.sessions.get(timeout=timeout)

# --- The program ---


class Program:
    """netd-tls as a child, with its listeners bound to free ports of 127.0.0.1."""

    def __init__(self, program, listeners, netd=None, arguments=(), user=(), **limits):
        self.sockets, self.ports, described = [], [], []
        for i, listener in enumerate(listeners):
            made = socket.create_server(("127.0.0.1", 0), backlog=1024)
            self.sockets.append(made)
            self.ports.append(made.getsockname()[1])
            described.append(dict(listener, fd=FD_FIRST + i,
                                  internal=netd.address if netd else b""))
        self.control, theirs = socket.socketpair()
        self.control.settimeout(20)
        self.counters = memfd(bytes(COUNTERS_SIZE))
        given = [memfd(settings(described, **limits)), theirs.fileno(), self.counters,
                 *(s.fileno() for s in self.sockets)]
        self.process = subprocess.Popen(
            within([*user, program, *arguments]), preexec_fn=lambda: self._place(given), close_fds=False,
            stderr=subprocess.PIPE)
        theirs.close()
        os.close(given[0])
        self.answer = self._answer()

    @staticmethod
    def _place(given):
        high = [os.dup(fd) for fd in given]
        base = max(high) + 1
        for i, fd in enumerate(high):
            os.dup2(fd, base + i)
        for i in range(len(high)):
            os.dup2(base + i, FD_SETTINGS + i)
        os.closerange(FD_SETTINGS + len(high), base + len(high))

    def _answer(self):
        text = b""
        while not text.endswith(b"\n"):
            piece = self.control.recv(65536)
            if not piece:
                break
            text += piece
        return text.decode()

    def command(self, byte):
        self.control.send(byte)

    def counted(self, listener=0):
        size = RESULTS * 8 + 16
        values = struct.unpack(f"={RESULTS + 1}Qq", os.pread(self.counters, size, listener * size))
        return dict(zip(("complete", "failed", "closed", "timeout", "evicted", "unreported",
                         "not_after"), values))

    def close(self):
        """Ends it, and checks that it ended well."""
        self.control.close()
        errors = self.process.stderr.read().decode()
        status = self.process.wait(20)
        for s in self.sockets:
            s.close()
        os.close(self.counters)
        assert status == 0, (status, errors)
        return errors


class Bench:
    """What a scenario needs: program, certificates, netd."""

    def __init__(self, program):
        self.program = program
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=f"{ROOT}/var/tmp"))
        self.certificates = Certificates(self.directory)

    def listener(self, **more):
        return dict(certificate=self.certificates.path("server"),
                    key=self.certificates.path("server-key"), **more)

    @contextlib.contextmanager
    def running(self, *listeners, netd=None, **limits):
        netd = netd or Netd()
        program = Program(self.program, listeners or [self.listener()], netd, **limits)
        assert program.answer == "ready\n", program.answer
        try:
            yield program, netd
        except BaseException:
            program.process.kill()
            raise
        program.close()

    def check(self, user=(), **more):
        """Returns exit status and answer of --check; USER is a command that changes the user."""
        program = Program(self.program, [self.listener() | more], arguments=["--check"], user=user)
        program.process.communicate(timeout=20)
        return program.process.returncode, program.answer

    def context(self, name=None, **options):
        context = ssl.create_default_context(cafile=self.certificates.path("ca"))
        if name:
            context.load_cert_chain(self.certificates.path(name),
                                    self.certificates.path(f"{name}-key"))
        for option, value in options.items():
            setattr(context, option, value)
        return context

    def connect(self, port, name=None, **options):
        return Client(port, self.context(name, **options))


class Client:
    """A TLS client that can close its own direction and read on, as ssl.SSLSocket cannot."""

    def __init__(self, port, context):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.name = self.socket.getsockname()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        self._until_done(self.tls.do_handshake)

    def flush(self):
        self.socket.sendall(self.outgoing.read())

    def _receive(self):
        data = self.socket.recv(65536)
        self.incoming.write(data) if data else self.incoming.write_eof()

    def _until_done(self, function, *arguments):
        while True:
            try:
                result = function(*arguments)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                self._receive()

    def send(self, data):
        self.tls.write(data)
        self.flush()

    def read(self, size=65536):
        try:
            return self._until_done(self.tls.read, size)
        except ssl.SSLZeroReturnError:
            return b""

    def close_notify(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()

    def finish(self):
        """Sends close_notify, and returns what comes until the server's."""
        self.close_notify()
        received = b""
        while data := self.read():
            received += data
        self.socket.close()
        return received

# --- Scenarios ---


def scenario_python(bench):
    """Python's ssl: bytes arrive, the end is an end, and close_notify comes back."""
    with bench.running() as (program, netd):
        client = bench.connect(program.ports[0])
        client.send(b"one\ntwo\n")
        assert client.finish() == b"bytes=8\n"
        session = netd.next()
        assert (bytes(session.data), session.end) == (b"one\ntwo\n", "eof"), vars(session)
        assert session.header.peer == client.name
        assert session.header.local == ("127.0.0.1", program.ports[0])
        assert session.header.tls[TLV_VERSION] == b"TLSv1.3", session.header
        assert session.header.tls[TLV_CIPHER].startswith(b"TLS_")


def scenario_peers(bench):
    """Clients of all kinds, with certificates: everything arrives, and the end is a good one."""
    path = bench.certificates.path
    ca, certificate, key = path("ca"), path("client"), path("client-key")
    listener = bench.listener(client_ca=ca, names=["*.example.com"])
    with bench.running(listener) as (program, netd):
        port = program.ports[0]
        commands = [
            ["openssl", "s_client", "-quiet", "-no_ign_eof", "-verify_return_error", "-CAfile", ca,
             "-cert", certificate, "-key", key, "-connect", f"127.0.0.1:{port}"],
            ["openssl", "s_client", "-quiet", "-no_ign_eof", "-tls1_2", "-CAfile", ca, "-cert",
             certificate, "-key", key, "-connect", f"127.0.0.1:{port}"],
            ["ncat", "--ssl", "--ssl-verify", "--ssl-trustfile", ca, "--ssl-cert", certificate,
             "--ssl-key", key, "localhost", str(port)],
        ]
        for command in commands:
            lines = b"".join(b"%s %d\n" % (command[0].encode(), i) for i in range(2000))
            done = subprocess.run(within(command), input=lines, capture_output=True, timeout=30,
                                  check=False)
            session = netd.next()
            assert bytes(session.data) == lines, (command, done, len(session.data))
            # When its input ends, ncat may close without close_notify.
            ends = ("eof", "reset") if command[0] == "ncat" else ("eof",)
            assert session.end in ends, (command, done)
            assert session.header.tlvs[TLV_SUBJECT] == b"CN=client,O=Example"
            assert session.header.tlvs[TLV_NAME] == b"logs.example.com"
            assert session.header.tlvs[TLV_FINGERPRINT].decode() == \
                bench.certificates.fingerprint("client").hex()
        with_stranger = [*commands[0]]
        with_stranger[with_stranger.index(certificate)] = path("stranger")
        with_stranger[with_stranger.index(key)] = path("stranger-key")
        subprocess.run(within(with_stranger), input=b"secret\n", capture_output=True, timeout=30,
                       check=False)
        session = netd.next()
        assert session.end == "refused" and not session.data, vars(session)


RSYSLOG = """global(workDirectory="{directory}" DefaultNetstreamDriverCAFile="{ca}"
       DefaultNetstreamDriverCertFile="{certificate}" DefaultNetstreamDriverKeyFile="{key}")
template(name="raw" type="string" string="%msg%\\n")
module(load="imfile")
input(type="imfile" File="{directory}/input" Tag="test" ruleset="out")
ruleset(name="out") {{
    action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" StreamDriver="{driver}"
           StreamDriverMode="1" StreamDriverAuthMode="x509/certvalid" template="raw")
}}
"""


def scenario_rsyslog(bench):
    """omfwd with GnuTLS and with OpenSSL sends close_notify when it stops."""
    path = bench.certificates.path
    listener = bench.listener(client_ca=path("ca"))
    lines = b"".join(b"line %d\n" % i for i in range(5000))
    with bench.running(listener) as (program, netd):
        for driver in ("gtls", "ossl"):
            directory = bench.directory / driver
            directory.mkdir()
            netd.open.clear()
            (directory / "input").write_bytes(lines)
            (directory / "conf").write_text(RSYSLOG.format(
                directory=inside(directory), ca=inside(path("ca")),
                certificate=inside(path("client")), key=inside(path("client-key")),
                port=program.ports[0], driver=driver))
            with subprocess.Popen(within(["rsyslogd", "-n", "-f", directory / "conf", "-i",
                                          directory / "pid"])) as rsyslog:
                deadline = time.monotonic() + 30
                while not netd.open or len(netd.open[-1].data) < len(lines):
                    assert time.monotonic() < deadline, (driver, netd.open)
                    time.sleep(0.05)
                rsyslog.terminate()
            session = netd.next()
            assert bytes(session.data) == lines and session.end == "eof", (driver, session.end)


def scenario_sandbox(bench):
    """What netd-tls has given up, and that nobody else of the user reads its memory."""
    with bench.running() as (program, _):
        directory = pathlib.Path(f"/proc/{program.process.pid}")
        status = dict(re.findall(r"^(\w+):\s+(.*)$", (directory / "status").read_text(), re.M))
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", status
        assert os.stat(directory / "maps").st_uid == 0  # not dumpable
        names = sorted(os.readlink(fd).split(":")[0] for fd in (directory / "fd").iterdir())
        kinds = [name for name in names if not name.startswith(("/", "pipe"))]
        assert kinds == ["anon_inode", "socket", "socket"], names


def scenario_death(bench):
    """netd-tls is killed: netd has all that it had read, and a reset."""
    netd = Netd()
    program = Program(bench.program, [bench.listener()], netd)
    client = bench.connect(program.ports[0])
    client.send(b"kept\n")
    deadline = time.monotonic() + 20
    while not netd.open or bytes(netd.open[-1].data) != b"kept\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    program.process.kill()
    session = netd.next()
    assert (bytes(session.data), session.end) == (b"kept\n", "reset")
    program.process.wait()
    program.process.stderr.close()


def scenario_half_open(bench):
    """A thousand handshakes that nobody goes on with keep no good client out."""
    with bench.running(handshakes=200, refusals=0) as (program, netd):
        flood = [socket.create_connection(("127.0.0.1", program.ports[0])) for _ in range(1000)]
        client = bench.connect(program.ports[0])
        client.send(b"in\n")
        assert client.finish() == b"bytes=3\n"
        assert netd.next().end == "eof"
        for s in flood:
            s.close()
        assert program.counted()["evicted"] >= 800, program.counted()


def scenario_drain(bench):
    """As at a reload: a second netd-tls on the same sockets, and the first goes on until its last
    session has ended."""
    with bench.running() as (program, netd):
        client = bench.connect(program.ports[0])
        program.command(b"d")
        client.send(b"still\n")
        waiting = socket.create_connection(("127.0.0.1", program.ports[0]))  # for the next one
        assert client.finish() == b"bytes=6\n"
        assert netd.next().end == "eof"
        waiting.close()
        assert program.process.wait(20) == 0


def scenario_files(bench):
    """Each way in which a file can be wrong has a line and status 78."""
    path, directory = bench.certificates.path, bench.directory
    assert bench.check() == (0, "ready\n")
    assert bench.check(client_ca=path("ca")) == (0, "ready\n")
    (directory / "empty").touch()
    bench.certificates.leaf("old", "DNS:old", "serverAuth", days=0)
    openssl("ec", "-in", path("server-key"), "-aes128", "-passout", "pass:x", "-out",
            directory / "locked")
    cases = [
        ({"certificate": "/none"}, "error 0 /none: No such file or directory\n"),
        ({"key": path("client-key")}, f"not the key of the certificate {inside(path('server'))}"),
        ({"key": directory / "locked"}, "the key is encrypted"),
        ({"client_ca": directory / "empty"}, "no certificate in PEM format"),
        ({"certificate": path("old"), "key": path("old-key")}, "the certificate expired at 20"),
        ({"key": path("server")}, "no key in PEM format"),
    ]
    time.sleep(1)  # until "old" has ended
    for more, expected in cases:
        status, answer = bench.check(**more)
        assert status == 78 and expected in answer, (more, status, answer)
        assert answer.startswith("error 0 /") and answer.count("\n") == 1, answer
    os.chmod(directory, 0o755)
    os.chmod(path("server-key"), 0o600)
    status, answer = bench.check(user=["setpriv", "--reuid", "65534", "--clear-groups"])
    assert status == 78, (status, answer)
    assert answer == f"error 0 {inside(path('server-key'))}: Permission denied\n", answer


def main():
    global ROOT, PREFIX  # pylint: disable=global-statement
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--root", default="")
    parser.add_argument("--pid")
    parser.add_argument("scenario", nargs="+")
    arguments = parser.parse_args()
    ROOT, PREFIX = arguments.root, ["nsenter", "-t", arguments.pid, "-m", "-r"] if arguments.pid else []
    bench = Bench(arguments.program)
    try:
        for name in arguments.scenario:
            globals()[f"scenario_{name}"](bench)
    finally:
        shutil.rmtree(bench.directory)


if __name__ == "__main__":
    main()
