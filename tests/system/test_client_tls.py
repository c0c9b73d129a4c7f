# SPDX-License-Identifier: MIT
"""netd-client send --tls: against Python's ssl, stunnel in front of netd, and netd."""

import contextlib
import socket
import ssl
import threading

import pytest

import standin
from box import wait_for
from standin import client, drain, failed, reset
from test_client_relp import IDS, Relp
from test_client_send import ID, receipt

PORT = 4196
DIRECTORY = "/var/tmp/netd-client-tls"


@pytest.fixture(name="certificates", scope="module")
def fixture_certificates(boxes):
    """CA, certificates of a server and of a client, and others that are wrong."""
    for box in boxes.values():
        box.sh(f"""
            rm -rf {DIRECTORY}; mkdir {DIRECTORY}; cd {DIRECTORY}
            new() {{
                openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \\
                    -subj "/CN=$1" -keyout "$1.key" -out "$1.pem" "${{@:2}}" 2>/dev/null
            }}
            new ca
            new server -CA ca.pem -CAkey ca.key \\
                -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=CA:false
            new client -CA ca.pem -CAkey ca.key -addext basicConstraints=CA:false
            new other
            cat client.pem client.key >both.pem
            openssl ec -in client.key -aes128 -passout pass:x -out locked.key 2>/dev/null
            echo nothing >empty.pem
        """)


def file(name):
    return f"{DIRECTORY}/{name}"


@contextlib.contextmanager
def server(box, talk, host="127.0.0.1", name="server", client_ca=None, version=None):
    """As standin.server(), over TLS. What goes wrong in TLS is collected."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(box.path(file(f"{name}.pem")), box.path(file(f"{name}.key")))
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(box.path(file(client_ca)))
    if version:
        context.maximum_version = context.minimum_version = version
    errors = []

    def talk_tls(peer):
        try:
            with context.wrap_socket(peer, server_side=True,
                                     suppress_ragged_eofs=False) as wrapped:
                wrapped.settimeout(30)
                talk(wrapped)
        except ssl.SSLError as error:
            errors.append(error)

    with standin.server(box, talk_tls, PORT, host):
        yield errors


def send(box, *arguments, tls="ca.pem", **options):
    return client(box, "-p", PORT, f"--tls={file(tls)}", "send", *arguments, **options)


def talk_receipt(peer):
    """The drain ends with the client's close_notify, or there would be an error."""
    peer.sendall(receipt(drain(peer)))
    peer.unwrap()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_receipt_over_tls(box, certificates, version):
    with server(box, talk_receipt, version=version) as errors:
        for options in [], ["-H", "localhost"]:
            result = send(box, "-v", "one", *options)
            assert (result.returncode, result.stdout) == (0, f"{ID}\n"), result
        result = send(box, "-T", 60, input="x" * 20_000_000)
        assert (result.stdout, result.stderr) == (f"{ID}\n", "")
    assert errors == []


def test_the_server_is_verified(box, certificates):
    with server(box, talk_receipt, host="127.0.0.2"):
        failed(send(box, "-H", "127.0.0.2", "x"), 3,
               "no connection: 127.0.0.2: certificate verify failed: IP address mismatch")
    with server(box, talk_receipt):
        result = client(box, "-p", PORT, "--tls", "send", "x")
        assert (result.returncode, result.stdout) == (3, "")
        assert result.stderr.startswith(
            "netd-client: no connection: 127.0.0.1: certificate verify failed: ")
        assert result.stderr.count("\n") == 1
        result = send(box, "x", tls="other.pem")
        assert result.returncode == 3 and "certificate verify failed" in result.stderr
        # The certificate itself may be the one to trust.
        assert send(box, "x", tls="server.pem").stdout == f"{ID}\n"
    with server(box, talk_receipt, name="client"):
        failed(send(box, "-H", "localhost", "x"), 3,
               "no connection: localhost: certificate verify failed: hostname mismatch")


def test_client_certificate(box, certificates):
    with server(box, talk_receipt, client_ca="ca.pem"):
        pair = ["--cert", file("client.pem"), "--key", file("client.key")]
        assert send(box, "x", *pair).stdout == f"{ID}\n"
        assert send(box, "x", "--cert", file("both.pem")).stdout == f"{ID}\n"
        result = send(box, "x")
        assert (result.returncode, result.stdout) == (1, "")
        assert "certificate required" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("options, path, reasons", [
    (["--tls=/nowhere"], "/nowhere", ["No such file or directory"]),
    (["--tls=" + file("empty.pem")], file("empty.pem"), ["no certificate or crl found"]),
    (["--tls", "--cert=/nowhere"], "/nowhere", ["No such file or directory"]),
    (["--tls", "--cert=" + file("client.pem")], file("client.pem"), ["no start line",
                                                                      "unsupported"]),
    (["--tls", "--cert=" + file("client.pem"), "--key=" + file("other.key")], file("other.key"),
     ["key values mismatch"]),
    (["--tls", "--cert=" + file("client.pem"), "--key=" + file("locked.key")],
     file("locked.key"), ["bad password read", "problems getting password",
                          "processing error", "interrupted or cancelled"]),
])
def test_wrong_files(box, certificates, options, path, reasons):
    with server(box, talk_receipt):
        result = client(box, "-p", PORT, *options, "send", "x")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr in [f"netd-client: no connection: {path}: {reason}\n"
                             for reason in reasons]


def test_a_server_without_tls(box, certificates):
    over = threading.Event()

    def talk_plain(peer):
        peer.recv(1 << 16)
        peer.sendall(b"SSH-2.0\r\n")
        drain(peer)

    with standin.server(box, talk_plain, PORT):
        result = send(box, "x")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("netd-client: no connection: 127.0.0.1: TLS: ")
    with standin.server(box, lambda peer: peer.recv(1 << 16), PORT):
        failed(send(box, "x"), 3, "no connection: 127.0.0.1: the TLS connection was cut off")
    with standin.server(box, lambda peer: over.wait(60), PORT):
        failed(send(box, "x", "-T", 1), 3, "no connection: 127.0.0.1: no TLS handshake within 1 s; "
               "is the listener for TLS?")
        over.set()


def cut(data):
    """Sends DATA and ends the stream without close_notify."""
    def talk(peer):
        drain(peer)
        if data:
            peer.sendall(data)
        socket.socket(fileno=peer.detach()).close()
    return talk


def test_a_truncated_answer_is_no_receipt(box, certificates):
    with server(box, cut(b"")):
        failed(send(box, "x"), 1, "no receipt: the TLS connection was cut off (2 bytes sent)")
    with server(box, cut(receipt(2)[:-1])):
        result = send(box, "x")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("netd-client: no receipt: the answer is 'netd session=")


def test_reset_while_sending(box, certificates):
    def talk(peer):
        peer.recv(1)
        reset(peer)
        socket.socket(fileno=peer.detach()).close()

    with server(box, talk):
        result = send(box, input="x" * 20_000_000)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("netd-client: no receipt: Connection reset by peer (")


def test_relp_over_tls(box, certificates):
    connections = []

    def talk(peer):
        connections.append([])
        relp = Relp(peer).opened(IDS[len(connections) - 1])
        for txnr, data in relp.records():
            if len(connections) == 1 and len(connections[0]) == 500:
                return  # without close_notify
            connections[-1].append(data)
            relp.answer(txnr)

    with server(box, talk):
        result = send(box, "--relp", "--reconnect", input="".join(f"{n}\n" for n in range(5000)))
    assert (result.returncode, result.stdout.split()) == (0, IDS[:2])
    received = {record for records in connections for record in records}
    assert received == {b"%d" % n for n in range(5000)}


def test_stunnel_in_front_of_netd(netd, certificates):
    box = netd.box
    box.path(file("stunnel.conf")).write_text(
        f"foreground = yes\npid =\n[netd]\naccept = 127.0.0.1:{PORT}\nconnect = 127.0.0.1:3000\n"
        f"cert = {file('server.pem')}\nkey = {file('server.key')}\n", encoding="ascii")
    netd.start()
    with box.popen("stunnel4", file("stunnel.conf"), stderr=-3) as stunnel, \
            contextlib.ExitStack() as end:
        end.callback(stunnel.kill)
        wait_for(lambda: send(box, "-q", "x").returncode == 0, "stunnel to listen")
        text = "".join(f"{n}\n" for n in range(50000))
        session = send(box, input=text).stdout.strip()
    assert netd.received(session) == text.encode()
