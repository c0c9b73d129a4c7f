# SPDX-License-Identifier: MIT
"""netd-client send: what it sends, and its errors."""

import contextlib
import os
import pty
import re
import select
import socket
import threading

import pytest

from box import wait_for
from standin import PORT, client, drain, failed, reset, server, unix_listener

ID = "ab" * 16


def receipt(size, records=1, end="eof"):
    return f"netd session={ID} records={records} bytes={size} end={end}\n".encode()


# --- Input ---


@pytest.mark.parametrize("arguments, text, sent", [
    (["one"], "", b"one\n"),
    (["one", "two words", ""], "", b"one\ntwo words\n\n"),
    ([], "as it comes", b"as it comes"),
    (["-"], "x\r\ny", b"x\r\ny"),
    (["one", "-", "two"], "in between", b"one\nin betweentwo\n"),
    (["-", "-"], "once", b"once"),
    (["--", "-x", "--host"], "", b"-x\n--host\n"),
    (["gr\u00fc\u00df"], "", "gr\u00fc\u00df\n".encode()),
    ([], "", b""),
])
def test_messages_and_standard_input(netd, arguments, text, sent):
    netd.start()
    result = netd.box.run("netd-client", "send", *arguments, input=text)
    assert re.fullmatch(r"[0-9a-f]{32}\n", result.stdout) and result.stderr == ""
    assert netd.received(result.stdout.strip()) == sent


def test_options_before_and_after_the_command(netd):
    netd.start(env={"SERVER_PORT": 4191})
    before = netd.box.run("netd-client", "-p", "4191", "-q", "send", "x")
    behind = netd.box.run("netd-client", "send", "x", "--quiet", "--port=4191")
    assert before.stdout == behind.stdout == before.stderr == behind.stderr == ""


def test_verbose_adds_counts(netd):
    netd.start()
    result = netd.box.run("netd-client", "-v", "send", "one", "two")
    assert re.fullmatch(r"netd-client: 2 records, 8 bytes in \d+\.\d{3} s, end: eof\n",
                        result.stderr)
    result = netd.box.run("netd-client", "-v", "send", "")
    assert result.stderr.startswith("netd-client: 1 record, 1 byte in ")


def test_a_message_with_a_newline_is_refused(box):
    failed(client(box, "send", "one", "two\nthree"), 2,
           "send: message 2 has more than one line; each message is one record, use standard "
           "input for more")


def test_a_gigabyte_in_constant_memory(box):
    with server(box, lambda peer: peer.sendall(receipt(drain(peer)))):
        # 64 MiB of address space, mostly libraries.
        session = box.sh(f"ulimit -v 65536; head -c 1G /dev/zero | netd-client -p {PORT} send",
                         timeout=300)
    assert session == f"{ID}\n"


# --- Host and port ---


def test_precedence(box):
    sizes = []

    def talk(peer):
        sizes.append(drain(peer))
        peer.sendall(receipt(sizes[-1]))

    with server(box, talk):
        good = {"SERVER_HOST": "127.0.0.1", "SERVER_PORT": str(PORT)}
        assert client(box, "send", "env", env=good).returncode == 0
        bad = {"SERVER_HOST": "::1", "SERVER_PORT": "1"}
        assert client(box, "-H", "127.0.0.1", "-p", PORT, "send", "x", env=bad).returncode == 0
        # The options override the variables, which are not even checked.
        bad = {"SERVER_HOST": "", "SERVER_PORT": "80x"}
        assert client(box, "-H", "127.0.0.1", "-p", PORT, "send", "x", env=bad).returncode == 0
    assert sizes == [4, 2, 2]


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost6"])
def test_ipv6(netd, host):
    hosts = netd.box.path("/etc/hosts")
    before = hosts.read_text() if hosts.exists() else None
    hosts.write_text("127.0.0.1 localhost\n::1 localhost6\n")
    try:
        netd.start(env={"SERVER_HOST": "::1"})
        session = netd.box.run("netd-client", "-H", host, "send", "six").stdout.strip()
    finally:
        hosts.unlink() if before is None else hosts.write_text(before)
    assert netd.events(session, "connect")[0].text("NETD_PEER_ADDRESS") == "::1"


def test_every_address_of_a_name_is_tried(box):
    hosts = box.path("/etc/hosts")
    before = hosts.read_text() if hosts.exists() else None
    hosts.write_text("127.0.0.1 both\n127.0.0.2 both\n127.0.0.3 both\n")
    try:
        with server(box, lambda peer: peer.sendall(receipt(drain(peer))), host="127.0.0.3"):
            assert client(box, "-H", "both", "-p", PORT, "send", "x").stdout == f"{ID}\n"
        result = client(box, "-H", "both", "-p", PORT, "send", "x")
    finally:
        hosts.unlink() if before is None else hosts.write_text(before)
    assert result.returncode == 3
    for address in "127.0.0.1", "127.0.0.2", "127.0.0.3":
        assert f"{address}:{PORT}: Connection refused" in result.stderr
    assert result.stderr.count("\n") == 1


def test_connection_refused(box):
    failed(client(box, "-p", PORT, "send", "x"), 3,
           f"no connection: 127.0.0.1:{PORT}: Connection refused")
    failed(client(box, "-H", "::1", "-p", PORT, "send", "x"), 3,
           f"no connection: [::1]:{PORT}: Connection refused")
    result = client(box, "-H", "no.such.host.invalid", "send", "x")
    assert result.returncode == 3
    assert result.stderr.startswith("netd-client: no.such.host.invalid: ")
    assert result.stderr.count("\n") == 1


def test_connecting_honours_the_timeout(box):
    """A listener with a full backlog does not respond."""
    with box.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", PORT))
        listener.listen(0)
        for _ in range(4):
            s = waiting.enter_context(box.socket())
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.connect(("127.0.0.1", PORT))
        failed(client(box, "-p", PORT, "-T", "1", "send", "x"), 3,
               f"no connection: 127.0.0.1:{PORT}: Connection timed out")


# --- Unix sockets ---


UNIX = "/var/tmp/netd-client-test"  # of test servers


@pytest.mark.parametrize("host", [
    UNIX, UNIX.replace("/netd", "/." * 41 + "/netd"), "@netd", "@" + "x" * 106, "@a/b:1"])
def test_unix_socket(box, host):
    sizes = []

    def talk(peer):
        sizes.append(drain(peer))
        peer.sendall(receipt(sizes[-1]))

    with server(box, talk, host=host):
        assert client(box, "-H", host, "send", "one").stdout == f"{ID}\n"
        assert client(box, "send", "two", env={"SERVER_HOST": host}).stdout == f"{ID}\n"
        # The port is that of other addresses, and not even checked.
        assert client(box, "send", "x", env={"SERVER_HOST": host, "SERVER_PORT": "80x"}).stdout
        size = 10_000_000
        result = client(box, "-H", host, "-T", "60", "send", input="x" * size)
        assert (result.stdout, result.stderr) == (f"{ID}\n", "")
        assert sizes == [4, 4, 2, size]
        # An option overrides the variable.
        failed(client(box, "-H", "127.0.0.1", "-p", PORT, "send", "x", env={"SERVER_HOST": host}),
               3, f"no connection: 127.0.0.1:{PORT}: Connection refused")


@pytest.mark.parametrize("host", ["/run/netd-test.sock", "@netd-test"])
def test_send_to_netd_over_a_unix_socket(netd, host):
    netd.start(socket=True, socket_dropin=f"[Socket]\nListenStream=\nListenStream={host}\n")
    session = netd.box.run("netd-client", "-H", host, "send", "one", "two").stdout.strip()
    assert netd.received(session) == b"one\ntwo\n"
    assert netd.events(session, "connect")[0].text("NETD_PEER") == "unix"


def test_no_unix_socket(box):
    box.run("rm", "-f", UNIX)
    failed(client(box, "-H", UNIX, "send", "x"), 3,
           f"no connection: {UNIX}: No such file or directory")
    failed(client(box, "-H", "/etc/passwd", "send", "x"), 3,
           "no connection: /etc/passwd: Connection refused")
    failed(client(box, "-H", "@netd", "send", "x"), 3, "no connection: @netd: Connection refused")
    failed(client(box, "-H", "/no\n\x1b[2J", "send", "x"), 3,
           "no connection: /no\\x0a\\x1b[2J: No such file or directory")


def test_connecting_to_a_unix_socket_honours_the_timeout(box):
    """While the backlog is full, connect(2) blocks, or fails if the socket is non-blocking."""
    with unix_listener(box, "@netd") as listener, contextlib.ExitStack() as waiting:
        listener.listen(0)
        for _ in range(4):
            s = waiting.enter_context(box.socket(socket.AF_UNIX))
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.connect("\0netd")
        failed(client(box, "-H", "@netd", "-T", "1", "send", "x"), 3,
               "no connection: @netd: Connection timed out")
        command = ["netd-client", "-H", "@netd", "send", "x"]
        with box.popen(*command, stdout=-1, text=True) as process, contextlib.ExitStack() as end:
            end.callback(process.kill)
            listener.settimeout(30)
            listener.accept()[0].close()  # the first of those that wait
            peer, _ = listener.accept()
            with peer:
                peer.sendall(receipt(drain(peer)))
            assert process.stdout.read() == f"{ID}\n"


def test_unix_socket_closed_while_sending(box):
    with server(box, lambda peer: peer.recv(1), host="@netd"):
        result = client(box, "-H", "@netd", "send", input="x" * 10_000_000)
    assert result.returncode == 1 and result.stdout == ""
    assert re.fullmatch(r"netd-client: no receipt: Connection reset by peer \(\d+ bytes sent\)\n",
                        result.stderr)


# --- Wrong usage ---


@pytest.mark.parametrize("arguments, line", [
    (["bogus"], "unknown command 'bogus'; see --help"),
    (["sesions"], "unknown command 'sesions'; did you mean 'sessions'?"),
    (["shwo"], "unknown command 'shwo'; did you mean 'show'?"),
    (["verifyy"], "unknown command 'verifyy'; did you mean 'verify'?"),
    (["x"], "unknown command 'x'; see --help"),
    ([""], "unknown command ''; see --help"),
    (["--bogus", "send"], "unknown option '--bogus'; see --help"),
    (["-x", "send"], "unknown option '-x'; see --help"),
    (["send", "-x"], "unknown option '-x'; put -- before a message that begins with '-'"),
    (["send", "one", "--two"],
     "unknown option '--two'; put -- before a message that begins with '-'"),
    (["send", "-qx"], "unknown option '-x'; put -- before a message that begins with '-'"),
    (["send", "--port"], "--port requires a value"),
    (["send", "-p"], "--port requires a value"),
    (["send", "--quiet=yes"], "--quiet takes no value"),
    (["send", "-p", "80x"], "--port: '80x' is not a number"),
    (["send", "-p", ""], "--port is empty"),
    (["send", "-p", "+80"], "--port: '+80' is not a number"),
    (["send", "-p", "0"], "--port: 0 is not between 1 and 65535"),
    (["send", "-p", "65536"], "--port: 65536 is not between 1 and 65535"),
    (["send", "-H", ""], "--host is empty"),
    (["send", "-H", "*"], "--host: '*' is for netd; a client needs one address"),
    (["send", "-H", "x" * 300], "--host: longer than 255 bytes"),
    (["send", "-H", "127.0.0.1:3000"],
     "--host: '127.0.0.1:3000' contains a port; use --port or SERVER_PORT"),
    (["send", "-H", "log.example:3000"],
     "--host: 'log.example:3000' contains a port; use --port or SERVER_PORT"),
    (["send", "-H", "[::1]:3000"],
     "--host: '[::1]:3000' contains a port; use --port or SERVER_PORT"),
    (["send", "-H", "/" + "x" * 107], "--host: path longer than 107 bytes"),
    (["send", "-H", "@" + "x" * 107], "--host: path longer than 107 bytes"),
    (["send", "-H", "@"], "--host: '@' is not the name of a unix socket"),
    (["send", "-H", "/run/netd/input", "-p", "3000"],
     "--port: '/run/netd/input' is a unix socket, which has no port"),
    (["send", "-H", "@netd", "-p", "x"], "--port: '@netd' is a unix socket, which has no port"),
    (["send", "-T", "1.5"], "--timeout: '1.5' is not a number"),
    (["send", "-T", "99999999"], "--timeout: 99999999 is not between 0 and 31536000"),
    (["send", "--json"], "send: unexpected option '--json'"),
    (["send", "--relp", "--framing=nul"], "--relp and --framing are mutually exclusive"),
    (["send", "--cert=x"], "--cert requires --tls"),
    (["send", "--key=x"], "--key requires --tls"),
    (["send", "--tls", "--key=x"], "--key requires --cert"),
    (["send", "--tls="], "--tls is empty"),
    (["send", "--tls", "-H", "@netd"], "--tls: '@netd' is a unix socket"),
    (["send", "--reconnect"], "--reconnect requires --relp"),
    (["send", "-D", "/"], "send: unexpected option '--directory'"),
    (["\x1b[31m\u202e"], "unknown command '\\x1b[31m\\xe2\\x80\\xae'; see --help"),
])
def test_wrong_usage(box, arguments, line):
    failed(client(box, *arguments), 2, line)


def test_a_bare_call_shows_the_usage(box):
    result = client(box)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == client(box, "--help").stdout


@pytest.mark.parametrize("name, value, line", [
    ("SERVER_PORT", "", "SERVER_PORT is empty"),
    ("SERVER_PORT", "80x", "SERVER_PORT: '80x' is not a number"),
    ("SERVER_PORT", " 80", "SERVER_PORT: ' 80' is not a number"),
    ("SERVER_PORT", "-1", "SERVER_PORT: '-1' is not a number"),
    ("SERVER_PORT", "65536", "SERVER_PORT: 65536 is not between 1 and 65535"),
    ("SERVER_PORT", "9" * 20, f"SERVER_PORT: {'9' * 20} is not between 1 and 65535"),
    ("SERVER_HOST", "", "SERVER_HOST is empty"),
    ("SERVER_HOST", "*", "SERVER_HOST: '*' is for netd; a client needs one address"),
    ("SERVER_HOST", "x" * 10000, "SERVER_HOST: longer than 255 bytes"),
    ("SERVER_HOST", "localhost:3000",
     "SERVER_HOST: 'localhost:3000' contains a port; use --port or SERVER_PORT"),
])
def test_bad_environment(box, name, value, line):
    failed(client(box, "send", "x", env={name: value}), 2, line)


def test_help_and_version(box):
    help_text = client(box, "--help")
    assert help_text.returncode == 0 and help_text.stderr == ""
    for command in "send", "sessions", "show", "cat", "follow", "verify":
        assert f"\n  {command} " in help_text.stdout
    assert all(len(line) <= 80 for line in help_text.stdout.splitlines())
    assert re.fullmatch(r"netd-client \d+\.\d+\.\d+\n", client(box, "-V").stdout)


# --- Missing receipts ---


def talk_refuse(peer):
    peer.sendall(b"netd error=session-limit\n")
    peer.shutdown(socket.SHUT_WR)
    drain(peer)


def talk_short(peer):
    peer.sendall(receipt(drain(peer) - 1, end="shutdown"))


def talk_long(peer):
    peer.sendall(receipt(drain(peer) + 1))


def talk_nothing(peer):
    drain(peer)


def talk_half(peer):
    drain(peer)
    peer.sendall(b"netd session=")


def talk_foreign(peer):
    peer.sendall(b"SSH-2.0\x1b[2J\r\n")
    drain(peer)


def talk_reset(peer):
    peer.recv(1)
    reset(peer)


@pytest.mark.parametrize("talk, line", [
    (talk_refuse, "netd refused the connection: session-limit"),
    (talk_short, f"the receipt names 11 of 12 bytes: session {ID} ended: shutdown"),
    (talk_long, f"the receipt names 13 of 12 bytes: session {ID} ended: eof"),
    (talk_nothing, "no receipt: the connection was closed (12 bytes sent)"),
    (talk_half, "no receipt: the answer is 'netd session='"),
    (talk_foreign, "no receipt: the answer is 'SSH-2.0\\x1b[2J\\x0d\\x0a'"),
    (talk_reset, "no receipt: Connection reset by peer (12 bytes sent)"),
])
def test_missing_or_wrong_receipt(box, talk, line):
    with server(box, talk):
        failed(client(box, "-p", PORT, "send", "hello world"), 1, line)


def test_singular(box):
    with server(box, talk_nothing):
        failed(client(box, "-p", PORT, "send", ""), 1,
               "no receipt: the connection was closed (1 byte sent)")
    with server(box, talk_short):
        failed(client(box, "-p", PORT, "send", ""), 1,
               f"the receipt names 0 of 1 byte: session {ID} ended: shutdown")


def test_refused_while_sending(box):
    with server(box, talk_refuse):
        result = client(box, "-p", PORT, "send", stdin=None, input="x" * (1 << 24))
    failed(result, 1, "netd refused the connection: session-limit")


def test_reset_while_sending(box):
    with server(box, talk_reset):
        result = client(box, "-p", PORT, "send", input="x" * (1 << 24))
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"netd-client: no receipt: Connection reset by peer \(\d+ bytes sent\)\n",
                        result.stderr)


def test_ended_while_waiting_for_input(box):
    """For example by an idle timeout, before the end of the input."""
    def talk(peer):
        size = len(peer.recv(100))
        peer.sendall(receipt(size, end="idle"))
        peer.shutdown(socket.SHUT_WR)
        drain(peer)

    read_end, write_end = os.pipe()
    with server(box, talk), os.fdopen(read_end), os.fdopen(write_end, "wb", 0) as write_end:
        with box.popen("netd-client", "-p", PORT, "send", stdin=read_end, text=True,
                       stdout=-1, stderr=-1) as process:
            write_end.write(b"hello\n")
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert err == ("netd-client: the session ended before the input: idle; session "
                   f"{ID} has the 6 bytes sent until then\n")


def test_success_does_not_depend_on_the_reason(box):
    with server(box, lambda peer: peer.sendall(receipt(drain(peer), end="shutdown"))):
        assert client(box, "-p", PORT, "send", "x").stdout == f"{ID}\n"


@pytest.mark.parametrize("size", [6, 1 << 24])
def test_no_progress(box, size):
    """The timeout applies to sending and to the receipt."""
    over = threading.Event()
    with server(box, lambda peer: over.wait(60)):
        result = client(box, "-p", PORT, "-T", "1", "send", input="x" * size)
        over.set()
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"netd-client: no receipt: no progress for 1 s \(\d+ bytes sent\)\n",
                        result.stderr)


def test_netd_refuses(netd):
    netd.start(config="sessions = { max = 1; };")
    with netd.connect() as other:
        other.sendall(b"first\n")
        wait_for(lambda: netd.events(event="data"), "the first client's record")
        failed(client(netd.box, "send", "x"), 1, "netd refused the connection: session-limit")


def test_receipt_switched_off(netd):
    netd.start(config="receipt = false;")
    failed(client(netd.box, "send", "x"), 1,
           "no receipt: the connection was closed (2 bytes sent)")


def test_standard_input_that_fails(box):
    with server(box, talk_nothing):
        result = box.run("bash", "-c", f"netd-client -p {PORT} send </", check=False)
        failed(result, 1, "standard input: Is a directory (0 bytes sent)")
        result = box.run("bash", "-c", f"netd-client -p {PORT} send <&-", check=False)
        failed(result, 1, "standard input: Bad file descriptor (0 bytes sent)")


def test_standard_output_that_fails(box):
    with server(box, lambda peer: peer.sendall(receipt(drain(peer)))):
        for redirection, error in ((">&-", "Bad file descriptor"),
                                   (">/dev/full", "No space left on device")):
            result = box.run("bash", "-c", f"netd-client -p {PORT} send x {redirection}",
                             check=False)
            failed(result, 1, f"standard output: {error}")


def test_progress_on_a_terminal(box):
    """Shown after a second, and erased at the end."""
    seen = threading.Event()

    def talk(peer):
        size = len(peer.recv(1))
        seen.wait(30)
        peer.sendall(receipt(size + drain(peer)))

    ours, theirs = pty.openpty()
    with server(box, talk), os.fdopen(theirs, "wb") as terminal:
        with box.popen("netd-client", "-p", PORT, "send", "x", stdout=-1, stderr=terminal) as c:
            terminal.close()
            shown = b""
            while b"MB/s" not in shown:
                shown += os.read(ours, 1000)
            seen.set()
            assert c.communicate(timeout=30)[0] == f"{ID}\n".encode()
            with contextlib.suppress(OSError):  # EIO: the other side was closed
                while piece := os.read(ours, 1000):
                    shown += piece
    os.close(ours)
    assert re.search(rb"\r0\.0 MB sent, 0\.0 MB/s ", shown)
    assert shown.endswith(b"\r\x1b[K")


HINT = "netd-client: reading from the terminal; end with Ctrl-D\n"


@contextlib.contextmanager
def typing(box, *arguments, **options):
    """A client that reads from a terminal, and the other side of the terminal."""
    ours, theirs = pty.openpty()
    with server(box, lambda peer: peer.sendall(receipt(drain(peer)))), os.fdopen(theirs) as terminal:
        options = {"stdout": -1, "stderr": -1} | options
        options = {name: terminal if fd == "terminal" else fd for name, fd in options.items()}
        with box.popen("netd-client", "-p", PORT, *arguments, stdin=terminal, **options) as process:
            terminal.close()
            yield process, ours
    os.close(ours)


@pytest.mark.parametrize("arguments, hint", [
    (["send"], HINT),
    (["send", "one", "-", "-"], HINT),
    (["-q", "send"], ""),
])
def test_hint_on_a_terminal(box, arguments, hint):
    with typing(box, *arguments, text=True) as (process, keyboard):
        os.write(keyboard, b"hello\n\x04\x04")
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, hint)
    assert out == ("" if "-q" in arguments else f"{ID}\n")


def test_no_hint_without_standard_input(box):
    with typing(box, "send", "one", text=True) as (process, _):
        assert process.communicate(timeout=30) == (f"{ID}\n", "")


def test_no_progress_line_while_typing(box):
    with typing(box, "send", stderr="terminal") as (process, terminal):
        shown = b""
        while b"Ctrl-D\r\n" not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, b"hello\n")
        while b"hello\r\n" not in shown:
            shown += os.read(terminal, 1000)
        assert not select.select([terminal], [], [], 2)[0]  # it is drawn after a second
        os.write(terminal, b"\x04")
        assert process.communicate(timeout=30)[0] == f"{ID}\n".encode()
