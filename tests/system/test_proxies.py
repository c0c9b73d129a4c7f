# SPDX-License-Identifier: MIT
"""Real proxies in front of a listener with proxy = true, and the recipe in netd(8)."""

import contextlib
import re
import ssl

import pytest

import documented
from box import wait_for
from senders import feed, named, rsyslog
from traffic import lines, port_of

RECIPE = "TLS WITH HAPROXY"
DIRECTORY = "/etc/haproxy"
SERVER, CLIENT = "logs.example.com", "web1.example.com"
PORT = 6514


@pytest.fixture(scope="module")
def certificates(boxes, release):
    """Made by the commands of the recipe, in the directory that it says."""
    box = boxes[release]
    script = documented.commands(RECIPE, "#")
    assert script.count("openssl req") == 2
    box.sh(script)
    yield box.path(DIRECTORY)
    box.sh(f"rm {DIRECTORY}/*.key {DIRECTORY}/*.pem")


def write(box, path, text):
    box.path(path).write_text(text, encoding="ascii")


def haproxy(netd, peer, changed=lambda text: text, config=""):
    """The recipe in force; its configuration of haproxy CHANGED, with CONFIG before netd's."""
    files = documented.files(RECIPE)
    path = f"{DIRECTORY}/haproxy.cfg"
    write(netd.box, path, changed(files[path]))
    netd.start(config=config + files["/etc/netd/netd.conf"])
    peer("haproxy", "-db", "-f", path, port=PORT)


class Client:
    """A TLS connection to the proxy, with or without the client's certificate."""

    def __init__(self, netd, certificates, identified=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certificates / "ca.pem")
        if identified:
            context.load_cert_chain(certificates / f"{CLIENT}.pem", certificates / f"{CLIENT}.key")
        connection = netd.connect(PORT)
        self.peer = f"127.0.0.1:{port_of(connection)}"
        self.socket = context.wrap_socket(connection, server_hostname=SERVER)
        self.sendall = self.socket.sendall

    def recv(self, size):
        try:
            return self.socket.recv(size)
        except ssl.SSLZeroReturnError:
            return b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def finish(self):
        """Sends close_notify."""
        timeout = self.socket.gettimeout()
        self.socket.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):  # for the other side's
            self.socket.unwrap()
        self.socket.settimeout(timeout)


def both(netd, peer):
    """Connect and disconnect of the session of PEER, which ends."""
    def events():
        found = netd.journal(f"NETD_PEER={peer}", "NETD_PEER_ADDRESS=127.0.0.1", fields=None)
        return found if len(found) == 2 else None

    found = wait_for(events, f"the end of {peer}'s session")
    assert [e.text("NETD_EVENT") for e in found] == ["connect", "disconnect"]
    return found


def assert_proxied(netd, client, data, reason="eof"):
    """The journal has DATA of CLIENT, its address and that of the proxy. Returns both events."""
    events = both(netd, client.peer)
    for event in events:
        assert event.text("NETD_LOCAL") == f"127.0.0.1:{PORT}"
        assert re.fullmatch(r"127\.0\.0\.1:\d+", event.text("NETD_PROXY"))
        assert event.text("NETD_PROXY") != client.peer
    assert events[1].text("NETD_REASON") == reason
    assert netd.received(events[0].text("NETD_SESSION_ID")) == data
    return events


def assert_identified(events):
    for event in events:
        assert event.text("NETD_LISTENER") == "tls"
        assert event.text("NETD_TLS_NAME") == CLIENT
        assert event.text("NETD_TLS_VERSION") == "TLSv1.2"
        assert event.text("NETD_TLS_CIPHER").startswith("ECDHE-")


def test_the_recipe(netd, peer, certificates):
    haproxy(netd, peer)
    with Client(netd, certificates) as client:
        client.sendall(b"one\ntwo\n")
        client.finish()
        assert netd.receipt(client).bytes == 8
    events = assert_proxied(netd, client, b"one\ntwo\n")
    assert_identified(events)
    assert events[0].text("NETD_SESSION_ID") in netd.box.sh(
        documented.commands(RECIPE, "$").splitlines()[-1] + " -o export")


def test_the_client_of_the_recipe(netd, peer, certificates):
    haproxy(netd, peer)
    script = documented.commands(RECIPE, "$").replace("\\\n", " ").splitlines()[0]
    assert f"{SERVER}:{PORT}" in script
    script = script.replace(f"{SERVER}:{PORT}", f"localhost:{PORT} -verify_hostname {SERVER}")
    written = netd.box.sh(f"cd {DIRECTORY}; {script} 2>&1")
    (event,) = wait_for(lambda: netd.events(event="data"), "what was sent")
    assert event.record == b"hello", written


def test_rsyslog_over_the_recipe(netd, peer, certificates):
    files = documented.files(RECIPE)
    haproxy(netd, peer, config='format = "syslog";\n')
    text = files["/etc/rsyslog.d/netd-tls.conf"].replace("/etc/rsyslog.d/", f"{DIRECTORY}/")
    with named(netd.box):
        rsyslog(netd, peer, text)
        feed(netd.box)
        (event,) = wait_for(lambda: netd.events(event="data"), "the message")
    assert event.text("MESSAGE") == "disk 91 % full"


def test_readme_has_the_recipe():
    files = documented.files(RECIPE)
    for path in f"{DIRECTORY}/haproxy.cfg", "/etc/netd/netd.conf":
        assert documented.in_readme(files[path])


def test_clients_that_never_read_lose_nothing(netd, peer, certificates):
    """Also those that do not even send close_notify: haproxy does not tell."""
    data = (b"x" * 50_000 + b"\n") * 60
    haproxy(netd, peer)
    for in_order in True, False:
        with Client(netd, certificates) as client:
            client.sendall(data)
            if in_order:
                client.finish()
        assert_identified(assert_proxied(netd, client, data))


def test_health_checks_leave_no_event(netd, peer, certificates):
    haproxy(netd, peer, lambda text: text.replace("ssl-cipher", "ssl-cipher,crc32c,unique-id")
            .replace(":3001", ":3001 check inter 50ms"))
    count = "nstat -az TcpPassiveOpens | tail -n1 | awk '{ print $2 }'"
    before = int(netd.box.sh(count))
    wait_for(lambda: int(netd.box.sh(count)) > before + 10, "some health checks")
    assert not netd.events()
    with Client(netd, certificates) as client:
        client.sendall(b"checked\n")
        client.finish()
        assert netd.receipt(client).end == "eof"
    assert_identified(assert_proxied(netd, client, b"checked\n"))
    assert len(netd.events()) == 3


def test_no_certificate_no_session(netd, peer, certificates):
    haproxy(netd, peer)
    with pytest.raises(OSError), Client(netd, certificates, identified=False) as client:
        client.sendall(b"nobody\n")
        assert not client.socket.recv(1)
    assert not netd.events()


OTHERS = {
    "nginx": (["nginx", "-c"], f"""
daemon off;
load_module modules/ngx_stream_module.so;
pid /run/peer-nginx.pid;
error_log stderr;
events {{ }}
stream {{
    server {{
        listen {PORT} ssl;
        ssl_certificate {DIRECTORY}/{SERVER}.pem;
        ssl_certificate_key {DIRECTORY}/{SERVER}.key;
        proxy_pass 127.0.0.1:3001;
        proxy_protocol on;
        proxy_half_close on;
    }}
}}
"""),
    "stunnel": (["stunnel"], f"""
foreground = yes
pid =
[netd]
accept = {PORT}
connect = 127.0.0.1:3001
cert = {DIRECTORY}/netd.pem
protocol = proxy
"""),
    "hitch": (["hitch", "--config"], f"""
frontend = "[*]:{PORT}"
backend = "[127.0.0.1]:3001"
pem-file = "{DIRECTORY}/netd.pem"
user = "nobody"
write-proxy-v2 = on
"""),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others(netd, peer, certificates, name):
    command, text = OTHERS[name]
    netd.start(config=documented.files(RECIPE)["/etc/netd/netd.conf"])
    path = f"/etc/peer-{name}.conf"
    write(netd.box, path, text)
    peer(*command, path, port=PORT)
    netd.box.path(path).unlink()
    data = lines(10_000)
    with Client(netd, certificates, identified=False) as client:
        client.sendall(data)
        client.finish()
        events = assert_proxied(netd, client, data)
    for event in events:
        assert (event.text("NETD_TLS_VERSION") == "TLSv1.3") == (name == "hitch")
        assert "NETD_TLS_NAME" not in event
