# SPDX-License-Identifier: MIT
"""Listeners with TLS: netd and netd-tls together."""

import json
import os
import socket
import ssl
import struct
import time

import pytest

import documented
from box import wait_for
from crowd import Processes
from senders import named
from test_metrics import changed, metrics, value
from traffic import ended, reset

DIRECTORY = "/etc/netd"
CONFIG = """
listeners = (
  { name = "secure"; port = 6514; tls = { certificate = "server.pem"; key = "server-key.pem"; }; },
  { name = "mutual"; port = 6515; tls = { certificate = "server.pem"; key = "server-key.pem";
      client_ca = "ca.pem"; client_names = ("client.example"); }; },
  { name = "closed"; port = 6516; deny = ("127.0.0.1");
    tls = { certificate = "server.pem"; key = "server-key.pem"; }; },
  { name = "plain"; port = 3000; }
);
"""


@pytest.fixture
def certificates(netd, tmp_path):
    """A CA, a server's and a client's certificate; the client's with its key in a file here."""
    netd.box.sh(f"""
        mkdir -p {DIRECTORY}; cd {DIRECTORY}; umask 022
        new="openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        $new -x509 -subj /CN=ca -days 30 -keyout ca-key.pem -out ca.pem
        for name in server client; do
            $new -subj /CN=$name -keyout $name-key.pem -out $name.csr
            echo subjectAltName=DNS:$name.example,IP:127.0.0.1 >$name.ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 30 \\
                -extfile $name.ext -out $name.pem
        done
        chmod 644 *.pem
    """)
    both = tmp_path / "client.pem"
    both.write_text(netd.box.sh(f"cat {DIRECTORY}/client.pem {DIRECTORY}/client-key.pem"))
    yield str(both)
    netd.box.sh(f"cd {DIRECTORY}; rm -f *.pem *.csr *.ext *.srl")


def context(certificate=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if certificate:
        made.load_cert_chain(certificate)
    return made


def connect(netd, port=6514, certificate=None):
    return context(certificate).wrap_socket(netd.connect(port=port))


def over(client):
    """Ends the stream in order, and returns what netd says then."""
    plain = socket.socket(fileno=os.dup(client.fileno()))
    with plain:
        try:
            client.unwrap()
        except (ssl.SSLError, OSError):
            pass
    client.close()


def end_of(netd, port):
    [end] = wait_for(lambda: [e for e in netd.events(event="disconnect", fields=None)
                              if e.text("NETD_PEER") == f"127.0.0.1:{port}"], "the end")
    return end


def test_sessions(netd, certificates):
    netd.start(config=CONFIG)
    client = connect(netd)
    port = client.getsockname()[1]
    client.sendall(b"one\ntwo\n")
    over(client)
    end = end_of(netd, port)
    assert end.text("NETD_REASON") == "eof" and end.text("NETD_RECORDS") == "2"
    assert end.text("NETD_TLS_VERSION") == "TLSv1.3" and "NETD_PROXY" not in end
    assert end.text("NETD_LISTENER") == "secure" and end.text("NETD_LOCAL") == "127.0.0.1:6514"
    client = connect(netd, 6515, certificates)
    port = client.getsockname()[1]
    client.sendall(b"x\n")
    over(client)
    end = end_of(netd, port)
    assert end.text("NETD_TLS_NAME") == "client.example"
    assert end.text("NETD_TLS_SUBJECT") == "CN=client" and len(end.text("NETD_TLS_FINGERPRINT")) == 64


def test_truncation_is_a_reset(netd, certificates):
    netd.start(config=CONFIG)
    for how in (lambda c: socket.socket(fileno=c.detach()).close(), reset):
        client = connect(netd)
        port = client.getsockname()[1]
        client.sendall(b"one\nrest")
        wait_for(lambda p=port: [e for e in netd.events(event="data") if
                                 e.text("NETD_PEER").endswith(f":{p}")], "the record")
        how(client)
        end = end_of(netd, port)
        assert end.text("NETD_REASON") == "reset" and end.text("NETD_BYTES") == "8"


def test_refusals(netd, certificates):
    netd.start(config=CONFIG)
    with netd.connect(port=6514) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        [event] = wait_for(lambda: netd.events(event="refused", fields=None), "the refusal")
        assert event.text("NETD_REASON") == "tls" and "http request" in event.text("MESSAGE")
        assert event.text("NETD_PEER") == f"127.0.0.1:{client.getsockname()[1]}"
    client = connect(netd, 6516)
    wait_for(lambda: [e for e in netd.events(event="refused") if e.text("NETD_REASON") == "denied"],
             "the refusal")
    client.close()


def test_kills_and_reloads(netd, certificates):
    netd.start(config=CONFIG)
    processes = Processes(netd)
    client = connect(netd)
    port = client.getsockname()[1]
    client.sendall(b"one\n")
    for _ in range(3):
        killed = processes.kill_worker()
        processes.worker(other_than=killed)
        netd.reload()
        client.sendall(b"more\n")
    over(client)
    end = end_of(netd, port)
    assert end.text("NETD_REASON") == "eof" and end.text("NETD_RECORDS") == "4"
    # netd-tls dies: its sessions are reset, and another one serves.
    client = connect(netd)
    port = client.getsockname()[1]
    client.sendall(b"one\n")
    wait_for(lambda: [e for e in netd.events(event="data")
                      if e.text("NETD_PEER").endswith(f":{port}")], "the record")
    netd.box.sh("pkill -9 -x netd-tls")
    assert end_of(netd, port).text("NETD_REASON") == "reset"
    again = wait_for(lambda: connect(netd), "another netd-tls")
    over(again)


def test_metrics(netd, certificates):
    """Whatever dies, and whatever a reload does with the listeners."""
    def handshakes(found, listener):
        return {result: value(found, "tls_handshakes_total", listener=listener, result=result)
                for result in ("complete", "failed", "closed", "timeout", "evicted")}

    def counted(complete, failed):
        none = dict.fromkeys(("closed", "timeout", "evicted"), 0)
        return dict(none, complete=complete, failed=failed)

    def fail(count):
        for _ in range(count):
            with netd.connect(port=6515) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while client.recv(4096):
                    pass

    def until(listener):
        return ("netd_tls_certificate_not_after_seconds", (("listener", listener),))

    text = netd.box.sh(f"openssl x509 -in {DIRECTORY}/server.pem -noout -enddate").strip()
    end = ssl.cert_time_to_seconds(text.removeprefix("notAfter="))
    netd.start(config=CONFIG)
    over(connect(netd))
    over(connect(netd))
    fail(7)
    found = changed(netd, lambda m: handshakes(m, "mutual")["failed"] == 7 and
                    handshakes(m, "secure")["complete"] == 2, "nine handshakes")
    assert handshakes(found, "secure") == counted(2, 0)
    assert handshakes(found, "mutual") == counted(0, 7)
    # Five a second are reported, all are counted.
    assert value(found, "refused_total", listener="mutual", reason="tls") == 7
    assert {found[until(name)] for name in ("secure", "mutual", "closed")} == {end}
    assert until("plain") not in found
    said = netd.box.run("netd-client", "status", "--utc").stdout
    assert "\n      TLS: complete 2, failed 7\n" in said and " REFUSED CERTIFICATE UNTIL\n" in said
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(end))
    assert [line.endswith(f" {when}") for line in said.splitlines()[-4:]] == [True] * 3 + [False]
    state = json.loads(netd.box.run("netd-client", "status", "--json").stdout)
    assert state["listeners"][0]["tls_certificate_not_after_seconds"] == end
    assert state["listeners"][1]["tls_handshakes"]["failed"] == 7

    killed = Processes(netd).kill_worker()
    Processes(netd).worker(other_than=killed)
    netd.box.sh("pkill -9 -x netd-tls")
    over(wait_for(lambda: connect(netd), "another netd-tls"))
    # Others in another order, and one without TLS.
    netd.configure_file("""listeners = (
        { name = "new"; port = 6517; tls = { certificate = "server.pem"; key = "server-key.pem"; }; },
        { name = "mutual"; port = 6515; },
        { name = "secure"; port = 6514; tls = { certificate = "server.pem"; key = "server-key.pem"; }; }
    );""")
    netd.reload()
    over(connect(netd, 6517))
    over(connect(netd))
    found = changed(netd, lambda m: handshakes(m, "secure")["complete"] == 4 and
                    handshakes(m, "new")["complete"] == 1, "all handshakes")
    assert handshakes(found, "mutual") == counted(0, 7)
    assert handshakes(found, "new") == counted(1, 0)
    assert [until(name) in found for name in ("new", "mutual", "secure", "closed")] == \
        [True, False, True, False]
    assert metrics(netd)[until("new")] == end


def test_bad_certificates(netd, certificates):
    netd.start(config=CONFIG)
    netd.configure_file(CONFIG.replace("server.pem", "nothing.pem"))
    assert netd.box.run("netd", "-t", check=False).returncode == 78
    assert "nothing.pem" in netd.box.run("netd", "-t", check=False).stderr
    assert netd.box.run("systemctl", "reload", "netd", check=False).returncode != 0
    over(connect(netd))


DOCUMENTED = "/etc/ssl/private"
DROPIN = "/etc/systemd/system/netd.service.d/tls.conf"


@pytest.fixture
def documented_certificates(netd):
    """The files of the manual's authority, where its drop-in expects them."""
    script = documented.commands("TLS WITH HAPROXY", "#").replace("/etc/haproxy", DOCUMENTED)
    netd.box.sh(f"mkdir -p {DOCUMENTED}; {script}\ncp logs.example.com.key netd.key")
    yield
    netd.box.sh(f"rm -f {DOCUMENTED}/*.pem {DOCUMENTED}/*.key {DROPIN}; systemctl daemon-reload")


def test_manual(netd, documented_certificates):
    files = documented.files("TLS")
    netd.box.sh(f"mkdir -p {os.path.dirname(DROPIN)}")
    netd.box.path(DROPIN).write_text(files[DROPIN], encoding="ascii")
    netd.box.run("systemctl", "daemon-reload")
    netd.start(config=files["/etc/netd/netd.conf"])
    send, look = documented.commands("TLS", "$").replace("\\\n", "").splitlines()
    with named(netd.box):
        session = netd.box.sh(f"cd {DOCUMENTED}; {send}").strip()
    assert netd.received(session) == b"hello\n"
    assert "eof, 1 record, 6 bytes" in wait_for(lambda: netd.box.sh(look), "the events")


def test_files_of_a_group(netd, documented_certificates):
    """Renewed, and taken by a reload."""
    netd.box.sh(f"""
        groupadd -f ssl-cert; chgrp ssl-cert {DOCUMENTED} {DOCUMENTED}/netd.key
        chmod 710 {DOCUMENTED}; chmod 640 {DOCUMENTED}/netd.key; chmod 644 {DOCUMENTED}/netd.pem
        mkdir -p {os.path.dirname(DROPIN)}
        printf '[Service]\nSupplementaryGroups=ssl-cert\n' >{DROPIN}
        systemctl daemon-reload""")
    netd.start(config=f"""listeners = ({{ name = "secure"; port = 6514;
        tls = {{ certificate = "{DOCUMENTED}/netd.pem"; key = "{DOCUMENTED}/netd.key"; }}; }});""")

    def served():
        with connect(netd) as client:
            return ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True)).strip()

    old = served()
    netd.box.sh(f"""cd {DOCUMENTED}
        openssl req -x509 -newkey rsa:2048 -noenc -subj /CN=new -keyout netd.key -out netd.pem""")
    netd.reload()
    new = netd.box.sh(f"cat {DOCUMENTED}/netd.pem").strip()
    assert old != new == served()
