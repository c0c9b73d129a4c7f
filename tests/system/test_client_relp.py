# SPDX-License-Identifier: MIT
"""netd-client send --relp: against servers of every kind, rsyslog's imrelp, and netd."""

import contextlib
import re
import socket
import threading

import pytest

import standin
from box import wait_for
from standin import client, failed, reset
from traffic import ended, worker

PORT = 4195
IDS = [f"{n:032x}" for n in range(1, 100)]


class Relp:
    """The server's side of a connection."""

    def __init__(self, peer):
        self.peer, self.buffer = peer, b""

    def frame(self):
        """The next command: (txnr, name, data). None at the end of the stream."""
        while True:
            head = re.match(rb"([1-9]\d{0,8}) ([a-z]+) (\d{1,9})([ \n])", self.buffer)
            if head:
                start = head.end() - (head[4] == b"\n")
                end = start + int(head[3])
                if len(self.buffer) > end:
                    assert self.buffer[end:end + 1] == b"\n"
                    data, self.buffer = self.buffer[start:end], self.buffer[end + 1:]
                    return int(head[1]), head[2].decode(), data
            else:
                assert len(self.buffer) < 60, self.buffer[:60]
            piece = self.peer.recv(1 << 20)
            if not piece:
                return None
            self.buffer += piece

    def answer(self, txnr, data=b"200 OK"):
        self.peer.sendall(b"%d rsp %d%s\n" % (txnr, len(data), data and b" " + data))

    def opened(self, session=None):
        """Answers "open"."""
        txnr, name, offers = self.frame()
        assert (txnr, name) == (1, "open")
        assert offers.splitlines()[0] == b"relp_version=0" and b"\ncommands=syslog" in offers
        offer = b"\nnetd_session=" + session.encode() if session else b""
        self.answer(txnr, b"200 OK\nrelp_version=0\nrelp_software=x\ncommands=syslog" + offer)
        return self

    def records(self):
        """Yields txnr and data of each record, and answers "close"."""
        expected = 2
        while frame := self.frame():
            txnr, name, data = frame
            assert txnr == expected
            expected += 1
            if name == "close":
                self.answer(txnr, b"")
                return
            assert name == "syslog"
            yield txnr, data


def server(box, talk):
    return standin.server(box, talk, PORT)


class Collector:
    """Acknowledges every record of every connection."""

    def __init__(self):
        self.connections = []

    def __call__(self, peer):
        found = []
        self.connections.append(found)
        relp = Relp(peer).opened(IDS[len(self.connections) - 1])
        for txnr, data in relp.records():
            found.append(data)
            relp.answer(txnr)


def send(box, *arguments, **options):
    return client(box, "-p", PORT, "send", "--relp", *arguments, **options)


# --- What is sent ---


@pytest.mark.parametrize("arguments, text, records", [
    (["one", "two words", ""], "", [b"one", b"two words", b""]),
    (["two\nlines"], "", [b"two\nlines"]),
    ([], "one\n\ntwo\r\nlast", [b"one", b"", b"two\r", b"last"]),
    ([], "\0\n\t\n", [b"\0", b"\t"]),
    (["one", "-", "two"], "in\nbetween", [b"one", b"in", b"between", b"two"]),
    (["-", "-", "-"], "once\n", [b"once"]),
    ([], "", []),
])
def test_records(box, arguments, text, records):
    collector = Collector()
    with server(box, collector):
        result = send(box, *arguments, input=text)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{IDS[0]}\n", "")
    assert collector.connections == [records]


def test_without_the_offer_of_a_session(box):
    def talk(peer):
        relp = Relp(peer).opened()
        for txnr, _ in relp.records():
            relp.answer(txnr, b"200")

    with server(box, talk):
        result = send(box, "one")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_quiet_and_verbose(box):
    with server(box, Collector()):
        assert send(box, "-q", "one").stdout == ""
        result = send(box, "-v", "one", "two")
    assert re.fullmatch(r"netd-client: 2 records acknowledged in \d+\.\d{3} s, 0 sent again\n",
                        result.stderr)


def test_long_lines_are_sent_in_pieces(box):
    collector = Collector()
    most = 131072
    with server(box, collector):
        result = send(box, input="a" * most + "\n" + "b" * (2 * most + 1) + "\nc")
        assert result.returncode == 0
        assert result.stderr == "netd-client: lines longer than 131072 bytes were sent in pieces\n"
        assert send(box, "-q", input="a" * (most + 1)).stderr == ""
    assert [len(record) for record in collector.connections[0]] == [most, most, most, 1, 1]
    assert [len(record) for record in collector.connections[1]] == [most, 1]


def test_much_input_in_constant_memory(box):
    """Records of 100,000 bytes, 100 MB together, in 64 MiB of address space, mostly libraries."""
    sizes = []

    def talk(peer):
        relp = Relp(peer).opened(IDS[0])
        for txnr, data in relp.records():
            sizes.append(len(data))
            relp.answer(txnr)

    with server(box, talk):
        line = "head -c 99999 /dev/zero | tr '\\0' x; echo"
        session = box.sh(f"""
            record=$({line}); ulimit -v 65536
            for i in {{1..1000}}; do echo "$record"; done | netd-client -p {PORT} send --relp
        """, timeout=300)
    assert session == f"{IDS[0]}\n" and sizes == [99999] * 1000


def test_both_directions_full(box):
    """The server reads no further record until its answer, of 4 KB, is written; buffers of TCP have
    room for a few."""
    def talk(peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        relp = Relp(peer).opened(IDS[0])
        for txnr, _ in relp.records():
            relp.answer(txnr, b"200 " + b"x" * 4000)

    limits = ["/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/net/ipv4/tcp_wmem"]
    before = [box.run("cat", limit).stdout for limit in limits]
    box.sh(f"for limit in {' '.join(limits)}; do echo 4096 16384 16384 >$limit; done")
    try:
        with server(box, talk):
            result = send(box, "-T", 30, input=("y" * 1000 + "\n") * 1000, timeout=300)
    finally:
        for limit, text in zip(limits, before):
            box.sh(f"echo {text.strip()} >{limit}")
    assert (result.returncode, result.stderr) == (0, "")


def test_answers_byte_by_byte_and_in_any_order(box):
    def talk(peer):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        relp = Relp(peer).opened(IDS[0])
        waiting = []
        for txnr, _ in relp.records():
            waiting.append(txnr)
            if len(waiting) == 100:
                for number in reversed(waiting):
                    for byte in b"%d rsp 6 200 OK\n" % number:
                        peer.send(bytes([byte]))
                waiting.clear()

    with server(box, talk):
        result = send(box, input="x\n" * 300)
    assert (result.returncode, result.stderr) == (0, "")


def test_window(box):
    """1024 records are on the way before the first is acknowledged."""
    def talk(peer):
        relp = Relp(peer).opened(IDS[0])
        waiting = []
        for txnr, _ in relp.records():
            waiting.append(txnr)
            if len(waiting) == 1024:
                for number in waiting:
                    relp.answer(number)
                waiting.clear()

    with server(box, talk):
        result = send(box, input="x\n" * 10240)
    assert (result.returncode, result.stderr) == (0, "")


# --- Records that are not acknowledged ---


def test_refused_records(box):
    answers = [b"500 disk\x1b full", b"200 OK", b"401", b"200 OK"]

    def talk(peer):
        relp = Relp(peer).opened(IDS[0])
        for txnr, _ in relp.records():
            relp.answer(txnr, answers[txnr - 2])

    with server(box, talk):
        result = send(box, input="1\n2\n3\n4\n")
        assert (result.returncode, result.stdout) == (1, f"{IDS[0]}\n")
        assert result.stderr == ("netd-client: the server refused a record: 500 disk\\x1b full\n"
                                 "netd-client: the server refused 2 of 4 records\n")
        result = send(box, "one")
        assert result.returncode == 1
        assert result.stderr == "netd-client: the server refused a record: 500 disk\\x1b full\n"


def test_session_refused(box):
    def talk(peer):
        relp = Relp(peer)
        txnr, _, _ = relp.frame()
        relp.answer(txnr, b"500 no more\nx=y")
        relp.frame()

    with server(box, talk):
        failed(send(box, "--reconnect", "x"), 1,
               "no RELP session: the server refused the session: 500 no more")


def test_no_connection(box):
    failed(send(box, "--reconnect", "x"), 3,
           f"no connection: 127.0.0.1:{PORT}: Connection refused")


def talk_refuse(peer):
    peer.sendall(b"netd error=session-limit\n")


def talk_close(peer):
    peer.recv(1 << 16)


def talk_reset(peer):
    peer.recv(1)
    reset(peer)


def talk_foreign(peer):
    peer.sendall(b"SSH-2.0\x1b[2J\r\n")
    peer.recv(1 << 16)


@pytest.mark.parametrize("talk, line", [
    (talk_refuse, "netd refused the connection: session-limit"),
    (talk_close, "the server closed the connection"),
    (talk_reset, "Connection reset by peer"),
    (talk_foreign, "protocol error: the answer is 'SSH-2.0\\x1b[2J\\x0d\\x0a'"),
    (lambda peer: peer.sendall(b"0 serverclose 0\n"), "the server closed the session"),
    (lambda peer: peer.sendall(b"2 rsp 6 200 OK\n"), 'protocol error: no answer to "open"'),
])
def test_no_session(box, talk, line):
    with server(box, talk):
        failed(send(box, "--reconnect", "x"), 1, f"no RELP session: {line}")


@pytest.mark.parametrize("answer, line", [
    (b"4 rsp 6 200 OK\n", "protocol error: an answer to 4, which does not wait for one"),
    (b"2 rsp 6 200 OK\n2 rsp 6 200 OK\n",
     "protocol error: an answer to 2, which does not wait for one"),
    (b"2 rsp 0\n", "protocol error: an answer without a status"),
    (b"3 rsp 2 OK\n", "protocol error: the answer is '3 rsp 2 OK\\x0a'"),
    (b"2 rsp 4090 200 ", "protocol error: the answer is '2 rsp 4090 200 '"),
    (b"0 serverclose 0\n", "the server closed the session"),
    (b"", "the server closed the connection"),
])
def test_stopped(box, answer, line):
    def talk(peer):
        relp = Relp(peer).opened(IDS[0])
        relp.frame()
        relp.frame()
        peer.sendall(answer)

    with server(box, talk):
        result = send(box, "one", "two")
    count = 1 if answer.startswith(b"2 rsp 6") else 0
    assert (result.returncode, result.stdout) == (1, f"{IDS[0]}\n")
    assert result.stderr == f"netd-client: {line} ({count} of 2 records acknowledged)\n"


def test_no_progress(box):
    over = threading.Event()

    def talk_silent(_):
        over.wait(60)

    def talk_open(peer):
        Relp(peer).opened(IDS[0])
        over.wait(60)

    with server(box, talk_silent):
        failed(send(box, "-T", 1, "--reconnect", "x"), 1,
               'no RELP session: no answer to "open" for 1 s; is the listener for RELP?')
        over.set()
    over.clear()
    with server(box, talk_open):
        result = send(box, "-T", 1, "--reconnect", input="x\n" * 10000)
        over.set()
    assert result.returncode == 1
    assert result.stderr == "netd-client: no progress for 1 s (0 of 1024 records acknowledged)\n"


def test_close_is_not_answered(box):
    """Then everything is acknowledged nevertheless."""
    over = threading.Event()

    def talk(peer):
        relp = Relp(peer).opened(IDS[0])
        while (frame := relp.frame())[1] == "syslog":
            relp.answer(frame[0])
        over.wait(60)

    with server(box, talk):
        result = send(box, "-T", 1, "x")
        over.set()
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{IDS[0]}\n", "")


def test_standard_input_that_fails(box):
    with server(box, Collector()):
        command = f"netd-client -p {PORT} send --relp one -"
        result = box.run("bash", "-c", f"{command} two </", check=False)
        assert (result.returncode, result.stdout) == (1, f"{IDS[0]}\n")
        assert result.stderr == "netd-client: standard input: Is a directory (1 record sent)\n"
        result = box.run("bash", "-c", f"{command} <&-", check=False)
        assert result.stderr == "netd-client: standard input: Bad file descriptor (1 record sent)\n"


def test_standard_output_that_fails(box):
    with server(box, Collector()):
        result = box.run("bash", "-c", f"netd-client -p {PORT} send --relp x >/dev/full",
                         check=False)
    failed(result, 1, "standard output: No space left on device")


# --- Connecting again ---


class Dropping(Collector):
    """Ends each connection, with CLOSE, after COUNT records, of which half are acknowledged."""

    def __init__(self, count, close, connections):
        super().__init__()
        self.count, self.close, self.most = count, close, connections

    def __call__(self, peer):
        if len(self.connections) == self.most:
            super().__call__(peer)
            return
        found = []
        self.connections.append(found)
        relp = Relp(peer).opened(IDS[len(self.connections) - 1])
        for txnr, data in relp.records():
            found.append(data)
            if len(found) == self.count:
                break
        for txnr in range(2, 2 + self.count // 2):
            relp.answer(txnr)
        self.close(peer)


def close_session(peer):
    peer.sendall(b"0 serverclose 0\n")


@pytest.mark.parametrize("close, reason", [
    (close_session, "the server closed the session"),
    (lambda peer: None, "the server closed the connection"),
])
def test_reconnect(box, close, reason):
    """What was acknowledged is not sent again, everything else is, in order."""
    dropping = Dropping(4, close, 2)
    with server(box, dropping):
        result = send(box, "--reconnect", "-v", *"123456")
    assert (result.returncode, result.stdout.split()) == (0, IDS[:3])
    assert dropping.connections == [[b"1", b"2", b"3", b"4"], [b"3", b"4", b"5", b"6"],
                                    [b"5", b"6"]]
    lines = result.stderr.splitlines()
    again = "netd-client: connected again; sending {} again"
    # On a closed connection, what is sent may be answered by a reset.
    assert re.fullmatch(f"netd-client: connection lost: ({reason}|Connection reset by peer); "
                        "connecting again", lines[0])
    assert lines[1] == again.format("4 unacknowledged records")
    assert lines[3] == again.format("2 unacknowledged records")
    assert re.fullmatch(r"netd-client: 6 records acknowledged in \S+ s, 6 sent again", lines[4])
    assert len(lines) == 5


def test_reconnect_loses_nothing(box):
    dropping = Dropping(1000, reset, 20)
    with server(box, dropping):
        result = send(box, "--reconnect", "-q", input="".join(f"{n}\n" for n in range(30000)))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert len(dropping.connections) == 21
    received = {record for records in dropping.connections for record in records}
    assert received == {b"%d" % n for n in range(30000)}


def talk_one(peer):
    """Takes one record, and then ends the connection."""
    relp = Relp(peer).opened(IDS[0])
    txnr, _, data = relp.frame()
    assert data == b"one"
    relp.answer(txnr)
    close_session(peer)


@contextlib.contextmanager
def streaming(box, *arguments):
    """A client that has sent one line, and lost its server."""
    command = ["netd-client", "-p", PORT, "send", "--relp", "--reconnect", *arguments]
    with box.popen(*command, stdin=-1, stdout=-1, stderr=-1, text=True) as process, \
            contextlib.ExitStack() as end:
        end.callback(process.kill)
        print("one", file=process.stdin, flush=True)
        yield process


def test_reconnect_while_idle(box):
    """The connection is lost while there is nothing to send, and the server is away for a while."""
    collector = Collector()
    collector.connections.append([b"one"])
    with contextlib.ExitStack() as first:
        first.enter_context(server(box, talk_one))
        with streaming(box) as process:
            assert process.stdout.readline() == f"{IDS[0]}\n"
            first.close()
            lost = process.stderr.readline()
            refused = process.stderr.readline()
            with server(box, collector):
                assert process.stdout.readline() == f"{IDS[1]}\n"
                out, err = process.communicate("two\n", timeout=30)
    assert lost == "netd-client: connection lost: the server closed the session; connecting again\n"
    assert refused == f"netd-client: no connection: 127.0.0.1:{PORT}: Connection refused\n"
    assert (process.returncode, out) == (0, "")
    assert err == "netd-client: connected again; sending 0 unacknowledged records again\n"
    assert collector.connections == [[b"one"], [b"two"]]


def test_giving_up_to_reconnect(box):
    with contextlib.ExitStack() as first:
        first.enter_context(server(box, talk_one))
        with streaming(box, "-T", 1) as process:
            assert process.stdout.readline() == f"{IDS[0]}\n"
            first.close()
            assert process.wait(30) == 1
            assert process.stderr.read().splitlines()[-1] == (
                "netd-client: no progress for 1 s (1 of 1 record acknowledged)")


def test_a_server_that_takes_nothing(box):
    """It ends each connection before it acknowledges a record."""
    def talk(peer):
        Relp(peer).opened(IDS[0]).frame()

    with server(box, talk):
        result = send(box, "-q", "-T", 1, "--reconnect", "x")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "netd-client: no progress for 1 s (0 of 1 record acknowledged)\n"


# --- Servers that exist ---


def test_netd(netd):
    """Over a reload and a worker that is killed the session goes on; over a restart, the records."""
    netd.start(config=f'port = {PORT};\nframing = "relp";\n')
    with netd.box.popen("netd-client", "-p", PORT, "send", "--relp", "--reconnect", stdin=-1,
                        stdout=-1, stderr=-1, text=True) as process, contextlib.ExitStack() as end:
        end.callback(process.kill)

        def lines(first, count=3000):
            process.stdin.writelines(f"record {n}\n" for n in range(first, first + count))
            process.stdin.flush()

        lines(0)
        sessions = [process.stdout.readline().strip()]
        netd.reload()
        lines(3000)
        netd.box.run("kill", "-KILL", str(worker(netd)))
        lines(6000)
        wait_for(lambda: acknowledged(netd) == 9000, "the acknowledgements in the metrics")
        netd.stop()
        netd.start(config=f'port = {PORT};\nframing = "relp";\n')
        lines(9000)
        out, err = process.communicate(timeout=60)
    sessions += out.split()
    assert (process.returncode, len(sessions)) == (0, 2), err
    said = err.splitlines()  # between these: attempts to connect before netd has started
    assert said[0] == (
        "netd-client: connection lost: the server closed the session; connecting again")
    assert said[-1] == "netd-client: connected again; sending 0 unacknowledged records again"
    wait_for(lambda: acknowledged(netd) == 3000, "the acknowledgements of the new process")
    for session, first, count in zip(sessions, (0, 9000), (9000, 3000)):
        end = ended(netd, session)
        assert (end.text("NETD_REASON"), end.number("NETD_RECORDS")) == (
            "eof" if first else "shutdown", count)
        assert [e.record for e in netd.events(session, "data")] == [
            b"record %d" % n for n in range(first, first + count)]


def acknowledged(netd):
    text = netd.box.run("cat", "/run/netd/metrics.prom").stdout
    return sum(int(n) for n in re.findall(r"^netd_relp_acknowledged_total\S* (\d+)$", text, re.M))


IMRELP = f"""
global(maxMessageSize="256k" workDirectory="/var/tmp")
module(load="imrelp")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="imrelp" port="{PORT}" address="127.0.0.1" maxDataSize="256k" ruleset="relp")
ruleset(name="relp") {{ action(type="omfile" file="/var/tmp/relp-test.out" template="raw") }}
"""


def test_rsyslog(box):
    """imrelp acknowledges what its queue has; empty records, too."""
    box.path("/var/tmp/relp-test.conf").write_text(IMRELP, encoding="ascii")
    box.run("rm", "-f", "/var/tmp/relp-test.out")
    lines = [f"line {n}" for n in range(20000)] + ["", "x" * 131072]
    with box.popen("rsyslogd", "-n", "-f", "/var/tmp/relp-test.conf", "-i", "NONE") as rsyslogd, \
            contextlib.ExitStack() as end:
        end.callback(rsyslogd.kill)
        wait_for(lambda: not send(box, "-q", "-T", "1").returncode, "rsyslogd to listen")
        result = send(box, "-v", input="\n".join(lines) + "\n")
        assert (result.returncode, result.stdout) == (0, "")
        assert "20002 records acknowledged" in result.stderr
        out = box.path("/var/tmp/relp-test.out")
        wait_for(lambda: out.exists() and out.read_text().endswith("x\n"), "the file")
    assert [line for line in out.read_text().splitlines() if line] == [x for x in lines if x]
