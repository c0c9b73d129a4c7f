# SPDX-License-Identifier: MIT
"""Many clients that send while something happens to netd, and the comparison with the journal.

Also netd's processes by their process ids on the host, so that signals need no nsenter.
"""

import contextlib
import fcntl
import os
import pathlib
import pty
import random
import re
import signal
import socket
import subprocess
import threading
import tty

import journal
from box import wait_for

# Processes


def outside(box, pid):
    """The process id on the host of PID inside BOX."""
    namespace = os.stat(f"/proc/{box.pid}/ns/pid").st_ino
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            found = re.search(r"^NSpid:.*\t(\d+)$", status.read_text(encoding="ascii"), re.M)
            if found and int(found[1]) == pid and \
                    os.stat(status.with_name("ns") / "pid").st_ino == namespace:
                return int(status.parent.name)
        except OSError:
            pass  # the process has ended
    raise AssertionError(f"no process {pid} in {box.release}")


def _is_worker(pid, supervisor):
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        state = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
        ours = pathlib.Path(f"/proc/{supervisor}/cmdline").read_bytes()
    except OSError:
        return False
    return words == ours and state.split()[0] != "Z"  # a reload's check has one word more


class Processes:
    """Supervisor and worker of netd.service, or of the netd with the given SUPERVISOR."""

    def __init__(self, netd, supervisor=None):
        self.supervisor = supervisor or outside(netd.box, netd.pid)

    def worker_if_any(self):
        top = pathlib.Path(f"/proc/{self.supervisor}/task/{self.supervisor}/children")
        for child in top.read_text(encoding="ascii").split():
            if _is_worker(int(child), self.supervisor):
                return int(child)
        return None

    def worker(self, other_than=None):
        """Waits for the worker; with OTHER_THAN for another one."""
        return wait_for(lambda: (pid := self.worker_if_any()) != other_than and pid, "a worker", 60)

    def kill_worker(self, number=signal.SIGKILL):
        """Returns the process id of the worker that got the signal."""
        while True:
            pid = self.worker()
            try:
                os.kill(pid, number)
                return pid
            except ProcessLookupError:
                pass  # it has exited

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.supervisor}/fd"))


class Outlet(threading.Thread):
    """A standard output of each kind, with the smallest buffer, and a reader of it that reads small
    pieces, so that the writer has to wait."""

    KINDS = ["pipe", "file", "append", "socket", "terminal"]

    def __init__(self, kind, path):
        super().__init__(daemon=True)
        self.said, self.path, self.ours = b"", path, None
        if kind == "pipe":
            self.ours, self.theirs = os.pipe()
            fcntl.fcntl(self.theirs, fcntl.F_SETPIPE_SZ, 4096)
        elif kind == "socket":
            ends = socket.socketpair()
            ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            self.ours, self.theirs = (end.detach() for end in ends)
        elif kind == "terminal":
            self.ours, self.theirs = pty.openpty()
            tty.setraw(self.theirs)
        else:
            self.theirs = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC |
                                  (os.O_APPEND if kind == "append" else 0))
        if self.ours is not None:
            self.start()

    def run(self):
        with contextlib.suppress(OSError):  # EIO: the other end of the terminal is closed
            while piece := os.read(self.ours, 1000):
                self.said += piece

    def everything(self):
        """Returns all output, after the last writer has closed it."""
        if self.ours is None:
            return self.path.read_bytes()
        self.join(60)
        assert not self.is_alive()
        os.close(self.ours)
        return self.said


class Foreground:
    """netd as a process without systemd, whose standard output is an Outlet."""

    def __init__(self, netd, *words, port=4000, kind="file"):
        self.output = netd.box.root.parent / "foreground.out"
        self.errors = netd.box.root.parent / "foreground.err"
        self.outlet = Outlet(kind, self.output)
        with open(self.errors, "wb") as err:
            self.popen = netd.box.popen("netd", "-p", port, *words, stdout=self.outlet.theirs,
                                        stderr=err, stdin=subprocess.DEVNULL)
        os.close(self.outlet.theirs)
        self.supervisor = wait_for(self._find, "netd in the foreground")
        status = pathlib.Path(f"/proc/{self.supervisor}/status").read_text(encoding="ascii")
        self.pid = int(re.search(r"^NSpid:.*\t(\d+)$", status, re.M)[1])
        wait_for(lambda: b"listening on" in self.errors.read_bytes(), self.errors)
        self.processes = Processes(netd, self.supervisor)

    def _find(self):
        """Follows the chain of single children from nsenter down."""
        pid = self.popen.pid
        while pid:
            if pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "netd\n":
                return pid
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
            pid = int(children.split()[0]) if children.strip() else None
        return None

    def stop(self):
        """Returns the exit status."""
        os.kill(self.supervisor, signal.SIGTERM)
        return self.popen.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            os.kill(self.supervisor, signal.SIGKILL)
            self.popen.wait(60)


# Clients


class Client(threading.Thread):
    """Sends numbered records, with pauses within records, until `over` is set."""

    def __init__(self, netd, number, pause=0.03, framing="line", connect=None, **options):
        super().__init__(daemon=True)
        self.netd, self.pause, self.framing = netd, pause, framing
        self.random = random.Random(number)
        self.label = b"client %d record " % number
        self.socket = (connect or netd.connect)(timeout=180, **options)
        self.sent = self.answer = b""
        self.error = None
        self.over = threading.Event()
        self.go_on = threading.Event()
        self.start()

    def _framed(self, record):
        if self.framing == "octet" and self.random.random() < 0.8:  # the others are lines
            return b"%d %s" % (len(record), record)
        return record + (b"\0" if self.framing == "nul" else b"\n")

    def _records(self, first):
        return [self._framed(self.label + b"%d " % (first + i) +
                             b"." * self.random.randint(0, 80))
                for i in range(self.random.randint(1, 5))]

    def run(self):
        pieces, count = [], 0
        try:
            while not self.over.is_set():
                records = self._records(count)
                count += len(records)
                piece = b"".join(records)
                pieces.append(piece)
                cut = self.random.randrange(len(piece))
                self.socket.sendall(piece[:cut])
                self.over.wait(self.random.random() * self.pause)
                self.socket.sendall(piece[cut:])
                self.over.wait(self.random.random() * self.pause)
            pieces.append(b"999 " * (self.framing == "octet") + self.label +
                          b"the last, without an end")
            self.socket.sendall(pieces[-1])
            socket.socket.shutdown(self.socket, 1)  # an SSLSocket's own would end reading, too
            while piece := self.socket.recv(4096):
                self.answer += piece
        except OSError as error:
            self.error = error
        self.sent = b"".join(pieces)
        self.socket.close()


class Crowd:
    def __init__(self, netd, count, **options):
        self.netd = netd
        self.clients = [Client(netd, i, **options) for i in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.over.set()

    def settle(self, end="eof"):
        """Ends all clients, and compares their receipts and the journal with what they sent.
        Returns the number of data events marked as repeats, and the number of data events."""
        for client in self.clients:
            client.over.set()
        for client in self.clients:
            client.join(180)
            assert not client.is_alive(), "a client still waits for its receipt"
            assert client.error is None, client.error
        events = sessions(self.netd)
        return tuple(map(sum, zip(*(check(client.sent, client.answer, events, end)
                                    for client in self.clients))))

    def session_ids(self):
        """The ids that the receipts name; after settle()."""
        return [RECEIPT.fullmatch(client.answer)[1].decode() for client in self.clients]


RECEIPT = re.compile(rb"netd session=([0-9a-f]{32}) records=(\d+) bytes=(\d+) end=([a-z]+)\n")


def sessions(netd):
    """Maps each session id to the session's events."""
    found = {}
    for event in netd.events():
        found.setdefault(event.text("NETD_SESSION_ID"), []).append(event)
    return found


def check(sent, answer, events, end="eof"):
    """Compares receipt, events and data of a client. Returns the numbers of repeats and of data
    events."""
    receipt = RECEIPT.fullmatch(answer)
    assert receipt, f"not a receipt: {answer!r}"
    assert (int(receipt[3]), receipt[4].decode()) == (len(sent), end), answer
    own = events[receipt[1].decode()]
    kinds = [e.text("NETD_EVENT") for e in own]
    assert kinds[0] == "connect" and kinds[-1] == "disconnect", kinds
    assert kinds[1:-1] == ["data"] * (len(kinds) - 2), kinds
    repeats = [e for e in own if "NETD_RESENT" in e]
    received = journal.joined(own)
    assert len(received) == len(sent) and received == sent, (len(received), len(sent))
    last = own[-1]
    assert (last.text("NETD_REASON"), last.number("NETD_BYTES")) == (end, len(sent))
    assert last.number("NETD_RECORDS") == int(receipt[2]) == \
        sum(e.get("NETD_TERMINATOR") != b"continued" for e in own[1:-1])
    return len(repeats), len(own) - 2
