# SPDX-License-Identifier: MIT
"""A client that speaks what its listener is not configured for: one warning, and all is logged."""

import logging
import logging.handlers
import socket
import ssl

import pytest

from box import wait_for
from traffic import is_read, port_of, session_of

ADDRESS = "127.0.0.1:3000"


def warnings(netd):
    return [line for line in netd.log().splitlines() if "seems to send" in line]


def warning(port, what):
    return f"{ADDRESS}: a client (127.0.0.1:{port}) seems to send {what}"


def send(netd, data):
    """DATA in one session. Returns the client's port."""
    with netd.connect() as client:
        session = session_of(netd, client)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert netd.receipt(client).bytes == len(data)
        assert netd.received(session) == data
        return port_of(client)


def client_hello():
    """As OpenSSL sends it."""
    out = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="example.com").do_handshake()
    return out.read()


def handler(netd):
    class Handler(logging.handlers.SysLogHandler):
        def createSocket(self):  # pylint: disable=invalid-name
            self.socket, self.unixsocket = netd.connect(), False

    return Handler(socktype=socket.SOCK_STREAM)


@pytest.mark.parametrize("data, what", [
    (client_hello(), "TLS; use a listener with tls"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\ntext\n",
     "a PROXY header; use a listener with proxy = true"),
    (b"1 open 24 relp_version=0\ncommands=\n",
     'RELP; set framing = "relp"'),
    (b"<13>one\0<13>two\0", 'syslog messages that end with NUL; set framing = "nul"'),
    (b"7 <13>one7 <13>two",
     'syslog with octet counting; set format = "syslog" or framing = "octet"'),
], ids=["tls", "proxy", "relp", "nul", "octet"])
def test_one_warning_for_a_listener(netd, data, what):
    netd.start()
    port = send(netd, data)
    assert wait_for(lambda: warnings(netd), "the warning") == [warning(port, what)]
    send(netd, data)
    send(netd, b"<13>other\0")
    assert len(warnings(netd)) == 1


def test_logger_and_python_are_told_the_key(netd):
    """And once their advice is followed there is no warning."""
    def logger():
        ends = len(netd.events(event="disconnect"))
        netd.box.run("logger", "--tcp", "--server", "127.0.0.1", "--port", "3000",
                     "--octet-count", "text")
        wait_for(lambda: len(netd.events(event="disconnect")) > ends, "the end of the session")

    def python():
        sender = handler(netd)
        sender.emit(logging.makeLogRecord({"msg": "text", "levelno": logging.INFO,
                                           "levelname": "INFO"}))
        wait_for(lambda: is_read(netd, sender.socket), "the message")
        sender.close()

    for send_some, config in (logger, 'format = "syslog"'), (python, 'framing = "nul"'):
        before = len(warnings(netd))
        netd.start()
        send_some()
        (line,) = wait_for(lambda: warnings(netd)[before:], "the warning")
        assert f"; set {config}" in line
        netd.reset()
        netd.start(config=f"{config};")
        send_some()
        assert len(warnings(netd)) == before + 1
        netd.reset()


def test_ordinary_text_gives_no_warning(netd):
    netd.start()
    for data in (b"text\n", b"<13>text\n", b"12 text\n", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\n",
                 b"<13>one\n<13>two\0", b"", bytes(range(256))):
        send(netd, data)
    with netd.connect() as client:  # not what it begins with
        client.sendall(b"text")
        wait_for(lambda: is_read(netd, client), "the text")
        client.sendall(b"\n7 <13>one")
        wait_for(lambda: is_read(netd, client), "the text")
    send(netd, b"last\n")
    assert not warnings(netd)


def test_each_listener_has_its_own_warning(netd):
    netd.start(config="""listeners = ({ name = "one"; port = 3000; },
                                      { name = "two"; port = 3001; format = "syslog"; },
                                      { name = "three"; port = 3002; });""")
    for port in 3000, 3001, 3002, 3002:
        netd.send(b"7 <13>one", port=port)
    wait_for(lambda: len(warnings(netd)) > 1, "the warnings")
    assert [line.split(": ")[0] for line in warnings(netd)] == [ADDRESS, "127.0.0.1:3002"]
