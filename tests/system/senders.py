# SPDX-License-Identifier: MIT
"""rsyslog and syslog-ng as senders: what they read from INPUT they send as their configuration
says. The fixture `peer` runs them."""

import contextlib

from box import EXTRACTED, wait_for
from traffic import file_inside

# What the manual calls the machines.
ADDRESS, NAME, HOST = "192.0.2.10", "logs.example.com", "web1"

# One message, as logger(1) takes it.
MESSAGE = ["-t", "backup", "-p", "daemon.warning", "disk 91 % full"]

# Where rsyslog and syslog-ng take messages from: Debian's own files have the like.
INPUT = "/run/peer-input"
RSYSLOG = f"""
module(load="imuxsock" sysSock.use="off")
input(type="imuxsock" socket="{INPUT}" rateLimit.interval="0")
global(workDirectory="/var/spool/rsyslog")
"""
SYSLOG_NG = f"""
@version: current
source s_src {{ unix-dgram("{INPUT}"); }};
"""


@contextlib.contextmanager
def named(box):
    """In here the machine is HOST, and NAME and ADDRESS are its own as well."""
    before = box.run("hostname").stdout.strip()
    box.sh(f"""
        touch /etc/hosts
        cp -a /etc/hosts /run/peer-hosts
        echo {ADDRESS} {NAME} >>/etc/hosts
        ip addr add {ADDRESS}/32 dev lo
        hostname {HOST}
    """)
    try:
        yield
    finally:
        box.sh(f"""
            cp -a /run/peer-hosts /etc/hosts
            ip addr del {ADDRESS}/32 dev lo
            hostname {before}
        """)


def feed(box):
    """One message to the program that reads from INPUT."""
    box.run("logger", "--socket", INPUT, *MESSAGE)


def rsyslog(netd, peer, text):
    """rsyslogd with the configuration TEXT. It goes on when netd does."""
    netd.box.sh(f"rm -rf {INPUT} /var/spool/rsyslog/*")
    with file_inside(netd.box, "/etc/peer-rsyslog.conf", RSYSLOG + text) as path:
        netd.box.run("rsyslogd", "-N1", "-f", path)
        peer("rsyslogd", "-n", "-i", "NONE", "-f", path)
        wait_for(lambda: box_has(netd.box, INPUT), "rsyslogd")


def box_has(box, path):
    return box.run("test", "-e", path, check=False).returncode == 0


def libraries(box):
    found = box.path(f"{EXTRACTED}/usr/lib").glob("*-linux-gnu")
    return "LD_LIBRARY_PATH=" + ":".join(f"{EXTRACTED}/usr/lib/{path.name}" for path in found)


def syslog_ng(netd, peer, text):
    netd.box.sh(f"rm -rf {INPUT} /run/peer-ng; mkdir /run/peer-ng")
    with file_inside(netd.box, "/etc/peer-syslog-ng.conf", SYSLOG_NG + text) as path:
        files = [f"--{name}=/run/peer-ng/{name}" for name in ("persist-file", "control", "pidfile")]
        peer(f"{EXTRACTED}/usr/sbin/syslog-ng", "-F", "--no-caps", "-f", path, *files,
             properties=[f"Environment={libraries(netd.box)}"])
        wait_for(lambda: box_has(netd.box, INPUT), "syslog-ng")


@contextlib.contextmanager
def node(netd, peer, text, directory="/"):
    """Node.js with the program TEXT, in here."""
    with file_inside(netd.box, "/etc/peer.js", text) as path:
        peer(f"{EXTRACTED}/usr/bin/node", path,
             properties=[f"Environment={libraries(netd.box)}", f"WorkingDirectory={directory}"])
        yield
