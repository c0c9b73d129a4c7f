# SPDX-License-Identifier: MIT
"""Traffic for netd, and what has to be in the journal because of it.

The second half says independently of netd's own code, in Python's terms, what records a stream has
and what MESSAGE shows of one. check() holds a session's events against it, field by field.
"""

import collections
import contextlib
import os
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

from box import wait_for

ADDRESSES = {"NETD_PEER_ADDRESS", "NETD_PEER_PORT", "NETD_LOCAL"}
MESSAGE_IDS = {
    "connect": "cf8a2f824a45483794fc0d893bd9b33c",
    "data": "780dde514a934f698d9360e2b7999b2c",
    "disconnect": "9484e171ebb44f1daf42690b105b5810",
    "refused": "883b11a4ab9f46f6b046f5ac05c2b62e",
}
EVERY_EVENT = {"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "NETD_EVENT",
               "NETD_SESSION_ID", "NETD_PEER"}

# What is awkward in a stream of lines, of UTF-8 text, or of journal entries.
AWKWARD = [
    b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\n", b"\0", b"\t", b" ", b"\x1b[31m", b"\x7f", b"\x07",
    b"\xc2\x85", b"\xc2\x9b31m", b"\xe2\x80\xae", b"\xe2\x81\xa6", b"\xc3\xa9", b"\xe2\x82\xac",
    b"\xf0\x9f\x98\x80", b"\xc0\x80", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xff", b"\xe2\x82", b"\xf0\x9f", b"\\x41", b"MESSAGE=x\n", b"NETD_DATA\n\x04\0\0\0\0\0\0\0",
    b"_PID=1\n", b"%s%n", b"PRIORITY=0\n",
]


# Streams


def lines(count, start=1):
    """As seq prints them."""
    return b"".join(b"%d\n" % i for i in range(start, start + count))


def awkward(rnd, size):
    """About SIZE bytes: text, bytes and what is awkward, in short and in long lines."""
    out, length = [], 0
    while length < size:
        kind = rnd.random()
        if kind < 0.5:
            piece = rnd.choice(AWKWARD)
        elif kind < 0.8:
            piece = bytes(rnd.choices(b"abcdefghijklmnopqrstuvwxyz =_", k=rnd.randint(1, 60)))
        elif kind < 0.99:
            piece = rnd.randbytes(rnd.randint(1, 40))
        else:
            piece = b"l" * rnd.randint(1, size // 8 + 1)
        out.append(piece)
        length += len(piece)
    return b"".join(out)


# Clients


def reset(client):
    """Ends the connection with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def port_of(client):
    return client.getsockname()[1]


def finish(netd, client):
    """The client says that it has sent everything; returns its receipt."""
    client.shutdown(socket.SHUT_WR)
    return netd.receipt(client)


def is_read(netd, client):
    """True when netd has read all that the client has sent so far."""
    queue = netd.box.sh(f"ss -Htn 'sport = {client.getpeername()[1]} and "
                        f"dport = {port_of(client)}'").split()[1]
    return queue == "0"


def is_over(client):
    """True when the connection has ended, with a reset or in order, whatever was sent before."""
    try:
        while client.recv(4096):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def together(functions):
    """Calls each in a thread of its own; returns their results, or raises what one of them did."""
    results = [None] * len(functions)

    def call(i):
        try:
            results[i] = functions[i]()
        except BaseException as error:  # pylint: disable=broad-except
            results[i] = error

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class Feeder(threading.Thread):
    """A client that sends lines until told to end: for faults in the middle of traffic. With the
    usual pause some hundred lines a second, no more than can be checked afterwards."""

    def __init__(self, netd, number=0, pause=0.04, **options):
        super().__init__(daemon=True)
        self.client = netd.connect(timeout=120, **options)
        self.netd, self.number, self.pause = netd, number, pause
        self.sent, self.receipt, self.error = b"", None, None
        self._over = threading.Event()
        self.start()

    def run(self):
        rnd = random.Random(self.number)
        count = 0
        pieces = []
        try:
            while not self._over.is_set():
                piece = b"".join(b"client %d line %d %s\n" % (self.number, i, b"." * rnd.randint(0, 80))
                                 for i in range(count, count + rnd.randint(1, 40)))
                count += 40
                cut = rnd.randint(0, len(piece))
                pieces.append(piece)
                self.client.sendall(piece[:cut])
                self.client.sendall(piece[cut:])
                time.sleep(self.pause)
            self.sent = b"".join(pieces)
            self.receipt = finish(self.netd, self.client)
        except (OSError, AssertionError) as error:
            self.sent = b"".join(pieces)
            self.error = error
        finally:
            self.client.close()

    def end(self):
        self._over.set()
        self.join(180)
        assert not self.is_alive(), "the client got no answer"
        if self.error:
            raise self.error
        return self.receipt


# netd's processes


def processes(netd):
    """Supervisor and worker, as the box numbers them."""
    main = netd.pid
    workers = netd.box.sh(f"pgrep -P {main} || true").split()
    return [main, *map(int, workers)]


def worker(netd):
    return wait_for(lambda: processes(netd)[1:], "a worker")[0]


def memory_by_kind(netd, pids=None):
    """Bytes that netd has resident, those that its processes share counted in each: Anon, Shmem (the
    table and its regions) and File (programs and libraries)."""
    pids = pids or processes(netd)
    text = netd.box.sh("cat " + " ".join(f"/proc/{pid}/status" for pid in pids))
    kinds = collections.Counter()
    for kind, kilobytes in re.findall(r"^Rss(\w+):\s+(\d+) kB$", text, re.M):
        kinds[kind] += int(kilobytes) * 1024
    return kinds


def memory(netd, pids=None):
    """All of it."""
    return sum(memory_by_kind(netd, pids).values())


def cpu_ticks(netd, pids):
    """Hundredths of a second that the processes have run."""
    text = netd.box.sh("cat " + " ".join(f"/proc/{pid}/stat" for pid in pids))
    return sum(sum(map(int, line.rpartition(")")[2].split()[11:13])) for line in text.splitlines())


def open_descriptors(netd, pid):
    return len(netd.box.sh(f"ls /proc/{pid}/fd").split())


def sessions_open(netd):
    return int(netd.show("StatusText").split()[0])


def records_logged(netd):
    return int(netd.show("StatusText").split()[2])


def is_held(netd):
    return "waiting for the journal" in netd.show("StatusText")


# journald


def journald_pid(box):
    return int(box.run("systemctl", "show", "-p", "MainPID", "--value",
                       "systemd-journald").stdout)


def journald_restart(box):
    box.run("systemctl", "reset-failed", "systemd-journald.service")  # its start limit
    box.run("systemctl", "restart", "systemd-journald.service")


@contextlib.contextmanager
def journald_stopped(box):
    """In here journald hangs."""
    pid = journald_pid(box)
    box.run("kill", f"-{signal.SIGSTOP.value}", pid)
    try:
        yield
    finally:
        box.run("kill", f"-{signal.SIGCONT.value}", pid)


@contextlib.contextmanager
def file_inside(box, path, content):
    """A file in the box for a while; its directory too."""
    inside = box.path(path)
    made = not inside.parent.exists()
    inside.parent.mkdir(parents=True, exist_ok=True)
    inside.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        yield path
    finally:
        inside.unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):
                inside.parent.rmdir()


# What has to be in the journal


def records(data, max_record=65536):
    """The records, or pieces of one, that DATA is with framing "line": (bytes, terminator)."""
    found, at = [], 0
    while at < len(data):
        end = data.find(b"\n", at, at + max_record + 2)
        line = data[at:end] if end >= 0 else data[at:]
        if end >= 0 and line.endswith(b"\r"):
            found.append((line[:-1], b"crlf"))
            at = end + 1
        elif len(line) > max_record:
            found.append((line[:max_record], b"continued"))
            at += max_record
        elif end >= 0:
            found.append((line, None))
            at = end + 1
        else:
            found.append((line, b"none"))
            at = len(data)
    return found


def frames(data, max_record=65536):
    """The same with framing "octet", and the announced length where NETD_FRAME_LENGTH says it."""
    found, at = [], 0
    while at < len(data):
        head = re.compile(rb"([1-9][0-9]{0,8}) ").match(data, at)
        if not head:
            lf = data.find(b"\n", at)
            end = lf + 1 if lf >= 0 else len(data)
            found += [(*record, None) for record in records(data[at:end], max_record)]
            at = end
            continue
        frame = data[head.end():head.end() + int(head[1])]
        whole = len(frame) == int(head[1])
        cuts = range(max_record, len(frame) + (not whole), max_record)
        pieces = [frame[i:i + max_record] for i in (0, *cuts)]
        for piece in pieces:
            found.append((piece, b"continued", None))
        found[-1] = pieces[-1], b"octet" if whole else b"none", None
        if len(pieces) > 1 or not whole:
            first = len(found) - len(pieces)
            found[first] = *found[first][:2], head[1]
        at = head.end() + len(frame)
    return found


def nul_ended(data, max_record=65536):
    """The same with framing "nul"."""
    found = []
    *ended, rest = data.split(b"\0")
    for record, end in [(record, b"nul") for record in ended] + ([(rest, b"none")] if rest else []):
        cut = max(0, len(record) - 1) // max_record * max_record
        found += [(record[i:i + max_record], b"continued", None) for i in range(0, cut, max_record)]
        found.append((record[cut:], end, None))
    return found


def _is_control(character):
    c = ord(character)
    return (c < 0x20 and c != 0x09) or 0x7f <= c <= 0x9f or 0x202a <= c <= 0x202e \
        or 0x2066 <= c <= 0x2069


def _shown(character):
    c = ord(character)
    if 0xdc80 <= c <= 0xdcff:  # how Python decodes a byte that is none of a character
        return f"\\x{c - 0xdc00:02x}"
    if _is_control(character):
        return "".join(f"\\x{byte:02x}" for byte in character.encode())
    return character


def message(record):
    """What MESSAGE shows of a record's bytes."""
    return "".join(map(_shown, record.decode("utf-8", "surrogateescape"))).encode()


def check_record(event, record, terminator):
    """One data event against what it must hold."""
    shown = message(record)
    assert event["MESSAGE"] == shown, (record[:200], event["MESSAGE"][:200])
    assert event.get("NETD_DATA") == (None if shown == record else record), record[:200]
    assert event.get("NETD_TERMINATOR") == terminator, (record[:200], event)
    assert sum(name == "MESSAGE" for name, _ in event.pairs) == 1
    event["MESSAGE"].decode()


def check(netd, session, data, max_record=65536, reason="eof", exact=True, resent=False):
    """Holds the journal against DATA, everything that the client of SESSION sent. Without EXACT,
    where records were cut is left open (raw framing, buffer_memory). Returns the events."""
    events = netd.events(session)
    kinds = [e.text("NETD_EVENT") for e in events]
    assert kinds[:1] == ["connect"] and kinds[-1:] == ["disconnect"], (kinds[:3], kinds[-3:])
    assert set(kinds[1:-1]) <= {"data"}
    bodies = events[1:-1]
    if exact:
        expected = records(data, max_record)
        assert len(bodies) == len(expected)
        for event, (record, terminator) in zip(bodies, expected):
            check_record(event, record, terminator)
    else:
        for event in bodies:
            check_record(event, event.record, event.get("NETD_TERMINATOR"))
            assert len(event.record) <= max_record
    received = netd.received(session)
    assert len(received) == len(data) and received == data
    assert resent or not any("NETD_RESENT" in e for e in events)
    end = events[-1]
    assert end.text("NETD_REASON") == reason
    assert end.number("NETD_BYTES") == len(data)
    assert end.number("NETD_RECORDS") == sum(e.get("NETD_TERMINATOR") != b"continued"
                                             for e in bodies)
    return events


def send_and_check(netd, data, max_record=65536, exact=True, **options):
    """One client sends all of DATA; receipt and journal must agree with it."""
    receipt = netd.send(data, **options)
    events = check(netd, receipt.session, data, max_record, exact=exact)
    assert receipt.bytes == len(data) and receipt.end == "eof"
    assert receipt.records == events[-1].number("NETD_RECORDS")
    return events


def session_of(netd, client, event="connect"):
    """The id of the session of a client that is connected."""
    peer = f"{client.getsockname()[0]}:{port_of(client)}"

    def find():
        found = netd.journal(f"NETD_PEER={peer}", f"NETD_EVENT={event}")
        return found and found[-1].text("NETD_SESSION_ID")
    return wait_for(find, f"{event} of {peer}")


def ended(netd, session):
    """Waits for the disconnect event of SESSION, and returns it."""
    found = wait_for(lambda: netd.events(session, "disconnect"), f"the end of {session}")
    assert len(found) == 1
    return found[0]


def suppressed(netd):
    """How many refusals have no event: those that netd's warnings count."""
    return sum(map(int, re.findall(r": suppressed (\d+) refused event", netd.log())))


def served(netd, **options):
    """Other clients are served: one that sends a line gets it logged."""
    receipt = netd.send(b"still served\n", **options)
    assert receipt.records == 1 and receipt.bytes == 13
    assert netd.received(receipt.session) == b"still served\n"


def seeded(name):
    """A generator of its own for each test, the same in every run (NETD_TEST_SEED: another)."""
    return random.Random(f"{os.environ.get('NETD_TEST_SEED', '1')} {name}")


def complaint(box, *words, status=78, env=None, program=("netd",)):
    """Runs netd in the box, which must end at once with STATUS, without a word on standard output
    and with one line on standard error, without "netd: " in front: what is returned."""
    result = box.run(*program, *words, check=False, env=env, timeout=20)
    assert (result.returncode, result.stdout) == (status, ""), result
    assert re.fullmatch(r"netd: [\x20-\x7e]+\n", result.stderr), result.stderr
    return result.stderr[len("netd: "):-1]


class ByHand:
    """A netd that is no service, its output in pipes: .process, a Popen. It ends with the block.

        with ByHand(box, "-o", "text", "-p", "0") as program:
            port = program.ready().rpartition(":")[2]
    """

    PID = "/run/netd-by-hand.pid"

    def __init__(self, box, *words, env=None, program=("netd",), stdout=subprocess.PIPE):
        # Signals have to go to the process inside; the one here is nsenter.
        self.process = box.popen("sh", "-c", f'echo $$ >{self.PID}; exec "$@"', "sh", *program,
                                 *words, env=env, stdin=subprocess.DEVNULL, stdout=stdout,
                                 stderr=subprocess.PIPE)
        self.box = box

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()  # and with it, by its parent's death, what it entered for
        self.process.communicate()

    def ready(self):
        """The address that the ready notice names."""
        line = self.process.stderr.readline().decode()
        assert re.fullmatch(r"netd: ready: version \S+, events go to .+\n", line), line
        line = self.process.stderr.readline().decode()
        found = re.fullmatch(r"netd: listening on (.+)\n", line)
        assert found, line
        return found[1]

    def kill(self, name="TERM"):
        self.box.sh(f"kill -{name} $(cat {self.PID})")

    def stop(self):
        """Ends it in order; returns what it has said on standard output since."""
        self.kill()
        out, err = self.process.communicate(timeout=30)
        assert (self.process.returncode, err) == (0, b""), err
        return out
