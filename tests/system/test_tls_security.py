# SPDX-License-Identifier: MIT
"""What TLS protects in netd as it is installed: against clients, and of its own key. The tests of
netd-tls (tests/unit/test-tls-server.c) have renegotiation, tickets and truncation in detail."""

import contextlib
import os
import pathlib
import ssl

import pytest

from box import wait_for
from crowd import Processes
from test_metrics import changed, value
from test_tls import (CONFIG, DIRECTORY, certificates, connect, context,  # pylint: disable=unused-import
                      end_of, over)

# Records of TLS: the content type; and the length of an alert, in TLS 1.3 encrypted.
RECORDS = {ssl.TLSVersion.TLSv1_2: (21, 2), ssl.TLSVersion.TLSv1_3: (23, 2 + 1 + 16)}


def records(stream):
    """(type, length) of each record of TLS in the bytes STREAM."""
    found = []
    while stream:
        found.append((stream[0], int.from_bytes(stream[3:5], "big")))
        stream = stream[5 + found[-1][1]:]
    return found


def after_handshake(connection, made):
    """What the server sends after the client's last message of the handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = made.wrap_bio(incoming, outgoing)
    received = b""
    while True:
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        sent = outgoing.read()
        connection.sendall(sent)
        # The last one has the answer to the request for a certificate.
        if received and sent:
            break
        received = connection.recv(65536)
        incoming.write(received)
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def refusals(netd, port):
    return [e for e in netd.events(event="refused", fields=None)
            if e.text("NETD_PEER") == f"127.0.0.1:{port}"]


@pytest.mark.parametrize("version", RECORDS, ids=lambda v: v.name)
def test_without_certificate(netd, certificates, version):
    """A client without one gets an alert and nothing else; the journal has only the refusal."""
    netd.start(config=CONFIG)
    made = context()
    made.minimum_version = made.maximum_version = version
    with netd.connect(port=6515) as client:
        port = client.getsockname()[1]
        assert records(after_handshake(client, made)) == [RECORDS[version]]
    (event,) = wait_for(lambda: refusals(netd, port), "the refusal")
    assert event.text("NETD_REASON") == "tls" and "certificate" in event.text("MESSAGE")
    assert netd.events() == netd.events(event="refused")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_old_version_and_half_open_handshakes(netd, certificates):
    """TLS 1.1 is refused; and more half-open handshakes than are allowed keep nobody out."""
    netd.start(config=CONFIG)
    made = context()
    made.set_ciphers("ALL:@SECLEVEL=0")
    made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_1
    with netd.connect(port=6514) as client:
        port = client.getsockname()[1]
        with pytest.raises(ssl.SSLError):
            made.wrap_socket(client)
    (event,) = wait_for(lambda: refusals(netd, port), "the refusal")
    assert "unsupported protocol" in event.text("MESSAGE")
    with contextlib.ExitStack() as flood:
        for _ in range(1010):
            flood.enter_context(netd.connect(port=6514))
        client = connect(netd)
        port = client.getsockname()[1]
        client.sendall(b"one\n")
        over(client)
        assert end_of(netd, port).text("NETD_REASON") == "eof"
        # It did not have to wait until they were too old.
        found = changed(netd, lambda m: value(m, "tls_handshakes_total", listener="secure",
                                              result="complete") == 1, "the handshake")
        assert value(found, "tls_handshakes_total", listener="secure", result="evicted") > 0


def key_forms(netd, name):
    """The private key NAME as it may stand in memory: its number in either order of bytes, and a
    line of the file."""
    text = netd.box.sh(f"openssl ec -in {DIRECTORY}/{name}-key.pem -noout -text 2>/dev/null")
    digits = text.partition("priv:")[2].partition("pub:")[0]
    number = int(digits.replace(":", "").replace("\n", "").replace(" ", ""), 16)
    line = netd.box.sh(f"sed -n 2p {DIRECTORY}/{name}-key.pem").strip()
    return [number.to_bytes(32, "big"), number.to_bytes(32, "little"), line.encode()]


def memory(pid):
    """All that process PID has in memory, in pieces. Of memfds only what is not a hole: to read one
    by its mapping would fill it."""
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        area, access, *_, path = (line + " ").split(" ")[:2] + [line[73:]]
        if access[0] == "r" and not path.startswith(("/memfd:", "[v")):
            start, end = (int(n, 16) for n in area.split("-"))
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
                file.seek(start)
                yield file.read(end - start)
    for path in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(path).startswith("/memfd:"):
            with open(path, "rb", buffering=0) as file:
                yield from parts(file)


def parts(file):
    at, size = 0, os.fstat(file.fileno()).st_size
    while at < size:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
        yield os.pread(file.fileno(), end - at, at)
        at = end


def test_only_netd_tls_has_the_key(netd, certificates):
    """Also with sessions, and after a reload, when two netd-tls run. The others have what a client
    sent: the search finds what is there."""
    netd.start(config=CONFIG)
    client = connect(netd, 6515, certificates)
    client.sendall(b"one\na text that a client sent")  # without its end it stays
    wait_for(lambda: netd.events(event="data"), "the record")
    netd.reload()
    over(connect(netd))
    processes = Processes(netd)
    children = pathlib.Path(f"/proc/{processes.supervisor}/task/{processes.supervisor}/children")
    by_name = {}
    for pid in [processes.supervisor, *map(int, children.read_text(encoding="ascii").split())]:
        name = pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
        by_name.setdefault(name, []).append(b"\0".join(memory(pid)))
    client.close()
    assert [len(by_name[name]) for name in ("netd", "netd-tls")] == [2, 2], by_name.keys()
    forms = key_forms(netd, "server")
    assert all(any(form in held for form in forms) for held in by_name["netd-tls"])
    for held in by_name["netd"]:
        assert not any(form in held for form in forms)
        assert b"a text that a client sent" in held
