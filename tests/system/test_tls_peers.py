# SPDX-License-Identifier: MIT
"""Programs that send over TLS to netd itself, by the configuration in netd(8)."""

import subprocess

import pytest

import documented
from box import wait_for
from senders import feed, named, node, rsyslog, syslog_ng
from test_senders import assert_documented, block
from traffic import file_inside

SECTION, RECEIVER, RECIPE = "SENDERS OVER TLS", "TLS", "TLS WITH HAPROXY"
DIRECTORY = "/etc/ssl/private"
CLIENT = "web1.example.com"


@pytest.fixture(autouse=True)
def server(netd):
    """netd as documented, with the certificates of the recipe."""
    box = netd.box
    script = documented.commands(RECIPE, "#").replace("/etc/haproxy", DIRECTORY)
    files = documented.files(RECEIVER)
    with named(box):
        box.sh(f"mkdir -p {DIRECTORY}; {script}\ncp logs.example.com.key netd.key")
        netd.start(config=files["/etc/netd/netd.conf"],
                   dropin=files["/etc/systemd/system/netd.service.d/tls.conf"])
        yield
        box.sh(f"rm -f {DIRECTORY}/*.pem {DIRECTORY}/*.key")


def text_of(path, section=SECTION):
    """The documented file PATH, with the certificates where they are here."""
    text = documented.files(section)[path]
    return text.replace(path.rpartition("/")[0].replace("/conf.d", "") + "/", f"{DIRECTORY}/")


def sessions(netd, count):
    """The sessions of COUNT messages, as (connect, message), by their listener."""
    def found():
        events = netd.events(fields=None)
        connects = {e.text("NETD_SESSION_ID"): e for e in events
                    if e.text("NETD_EVENT") == "connect"}
        messages = [e for e in events if b"91 % full" in e["MESSAGE"]]
        return [(connects[e.text("NETD_SESSION_ID")], e) for e in messages] \
            if len(messages) == count else None
    all_of_them = wait_for(found, f"{count} messages")
    for connect, _ in all_of_them:
        assert connect.text("NETD_TLS_NAME") == CLIENT
        assert connect.text("NETD_TLS_SUBJECT") == f"CN={CLIENT}"
    return sorted(all_of_them, key=lambda both: both[0].text("NETD_LISTENER"))


def end(netd, session):
    (event,) = wait_for(lambda: netd.events(session.text("NETD_SESSION_ID"), "disconnect"), "the end")
    return event.text("NETD_REASON")


@pytest.mark.parametrize("library", ["openssl", "gnutls"])
def test_rsyslog(netd, peer, library):
    """omfwd and omrelp."""
    text = text_of("/etc/rsyslog.d/netd-tls.conf", RECIPE) + \
        text_of("/etc/rsyslog.d/netd-relp-tls.conf")
    if library == "gnutls":
        text = text.replace('"ossl"', '"gtls"').replace('"openssl"', '"gnutls"')
    rsyslog(netd, peer, text)
    feed(netd.box)
    (tcp, message), (relp, message_of_relp) = sessions(netd, 2)
    assert_documented(netd, documented.files("SENDERS")["/etc/rsyslog.d/netd.conf"], message)
    assert_documented(netd, documented.files("SENDERS")["/etc/rsyslog.d/netd-relp.conf"],
                      message_of_relp)
    netd.box.run("systemctl", "stop", "peer-0")
    assert end(netd, tcp) == end(netd, relp) == "eof"


def test_others(netd, peer):
    """syslog-ng, Node.js, and logger through stunnel, one after the other."""
    box = netd.box
    syslog_ng(netd, peer, text_of("/etc/syslog-ng/conf.d/netd-tls.conf"))
    feed(box)
    ((session, message),) = sessions(netd, 1)
    assert_documented(netd, documented.files("SENDERS")["/etc/syslog-ng/conf.d/netd.conf"], message)
    box.run("systemctl", "stop", "peer-0")
    assert end(netd, session) == "reset"  # without close_notify

    programs = {text.split("\n", 1)[0]: text for text in documented.blocks(SECTION)}
    with node(netd, peer, programs["// node"], DIRECTORY):
        message = sessions(netd, 2)[1][1]
    assert_documented(netd, block("// node"), message)
    box.run("systemctl", "stop", "peer-1")
    assert end(netd, message) == "reset"

    with file_inside(box, "/etc/peer-stunnel.conf",
                     "foreground = yes\npid =\n" + text_of("/etc/stunnel/netd.conf")) as path:
        peer("stunnel4", path, port=514)
    box.sh(documented.commands(SECTION, "$"))
    message = sessions(netd, 3)[2][1]
    assert_documented(netd, block("$ logger"), message)
    assert end(netd, message) == "eof"


def test_without_close_notify(netd):
    """All bytes of a client that is killed, and no receipt."""
    files = ["--cacert", "ca.pem", "--cert", f"{CLIENT}.pem", "--key", f"{CLIENT}.key"]
    with netd.box.popen("sh", "-c", f"cd {DIRECTORY}; exec curl -s {' '.join(files)} "
                        "--data-binary 'one\ntwo' https://logs.example.com:6514/",
                        stdout=subprocess.PIPE) as curl:
        wait_for(lambda: [e for e in netd.events(event="data") if e.record == b"one"], "the records")
        curl.kill()
        assert curl.stdout.read() == b""
    (event,) = wait_for(lambda: netd.events(event="disconnect"), "the end")
    assert event.text("NETD_REASON") == "reset"
    data = netd.received(event.text("NETD_SESSION_ID"))
    assert data.startswith(b"POST / HTTP/1.1\r\n") and data.endswith(b"\r\n\r\none\ntwo")
    assert event.number("NETD_BYTES") == len(data)
