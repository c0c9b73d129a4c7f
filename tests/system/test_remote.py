# SPDX-License-Identifier: MIT
"""Beyond one host: each host's systemd-journal-upload sends its journal to one
systemd-journal-remote, and netd-client reads and verifies every host's sessions there.

The box is the centre. The hosts are containers of their own, with a network to the centre and
nothing that Debian does not bring but netd.
"""

import json
import os
import subprocess

import pytest

from box import SOURCE, wait_for
from daemon import Netd
from traffic import awkward, lines, seeded, together

HOSTS = 2
DIRECTORY = "/var/log/journal/remote"

# As README.md says.
CENTRE_DROPIN = f"""\
[Service]
ExecStart=
ExecStart=/usr/lib/systemd/systemd-journal-remote --listen-http=-3 --output={DIRECTORY}/
"""
HOST_DROPIN = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Restart=always
RestartSec=10
"""
HOST_CONF = "[Upload]\nURL=http://192.0.2.1\n"


def centre_address(number):
    return f"192.0.2.{4 * number + 1}"


def cable(centre, host, number):
    """A pair of interfaces, one in each; gone with the host."""
    names = [f"nt{os.getpid() % 1000000}{end}{number}" for end in "ab"]
    subprocess.run(["ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1]],
                   check=True)
    ends = zip(names, (centre, host), (4 * number + 1, 4 * number + 2))
    for name, box, last in ends:
        subprocess.run(["ip", "link", "set", name, "netns", str(box.pid)], check=True)
        # The hosts have no ip(8): its netlink socket takes another namespace from here.
        subprocess.run(["nsenter", "-t", str(box.pid), "-n", "sh", "-ec",
                        f"ip addr add 192.0.2.{last}/30 dev {name}; ip link set {name} up"],
                       check=True)


def install(centre, host):
    """netd and systemd-journal-upload on HOST, as built in CENTRE."""
    library = centre.sh("dpkg -S '*/libconfig.so.*' | cut -d: -f1 | sort -u").strip()
    host.sh("apt-get -q update && apt-get -q install -y --no-install-recommends "
            f"{library} systemd-journal-remote 2>&1", timeout=300)
    for path in ("/usr/local/sbin/netd", "/usr/local/lib/systemd/system/netd.service",
                 "/etc/netd/netd.conf", "/etc/default/netd"):
        host.path(path).parent.mkdir(parents=True, exist_ok=True)
        host.path(path).write_bytes(centre.path(path).read_bytes())
    host.sh("chmod 755 /usr/local/sbin/netd; systemctl daemon-reload")


def upload(host, number):
    for path, text in (
            ("systemd/journal-upload.conf.d/netd.conf",
             HOST_CONF.replace(centre_address(0), centre_address(number))),
            ("systemd/system/systemd-journal-upload.service.d/override.conf",
             HOST_DROPIN.replace("=10", "=1"))):
        host.path(f"/etc/{path}").parent.mkdir(exist_ok=True)
        host.path(f"/etc/{path}").write_text(text, encoding="ascii")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "enable", "--now", "systemd-journal-upload")


@pytest.fixture
def centre(box):
    dropin = box.path("/etc/systemd/system/systemd-journal-remote.service.d/netd.conf")
    dropin.parent.mkdir(exist_ok=True)
    dropin.write_text(CENTRE_DROPIN, encoding="ascii")
    # The directory is not there yet, as after an installation.
    box.sh(f"rm -rf {DIRECTORY}; systemctl daemon-reload; "
           "systemctl enable --now systemd-journal-remote.socket")
    yield box
    box.run("systemctl", "disable", "--now", "systemd-journal-remote.socket",
            "systemd-journal-remote.service")
    dropin.unlink()
    box.sh(f"rm -rf {DIRECTORY}; systemctl daemon-reload")


@pytest.fixture
def hosts(centre, pristine):
    made = [pristine(boot=True) for _ in range(HOSTS)]
    for number, host in enumerate(made):
        cable(centre, host, number)
        install(centre, host)
        host.run("systemctl", "start", "netd")
        upload(host, number)
    return [Netd(host) for host in made]


def at_centre(centre, *words, **options):
    return centre.run("netd-client", *words, "-D", DIRECTORY, **options)


def listed(centre):
    """Of the sessions at the centre, id to what `sessions` says of it."""
    said = at_centre(centre, "sessions", "--json", check=False).stdout
    return {s["session"]: s for s in map(json.loads, said.splitlines())}


def test_readme_has_what_is_tested():
    readme = (SOURCE / "README.md").read_text(encoding="utf-8")
    for text in CENTRE_DROPIN, HOST_DROPIN, HOST_CONF:
        assert "".join(f"    {line}\n" for line in text.splitlines()) in readme


def test_sessions_of_all_hosts_are_read_and_verified_at_the_centre(centre, hosts):
    sent = {}
    for netd in hosts:
        rnd = seeded(netd.box.root.name)
        data = [lines(1000), awkward(rnd, 50000), b"no end of line"]
        receipts = together([lambda d=d, n=netd: n.send(d) for d in data])
        sent.update({r.session: d for r, d in zip(receipts, data)})
    assert len(sent) == 3 * HOSTS

    wait_for(lambda: {s for s, of in listed(centre).items() if of.get("end")} >= set(sent),
             "all sessions, with their ends, at the centre", timeout=120)
    at_centre(centre, "verify", *sent)
    for session, data in sent.items():
        assert at_centre(centre, "cat", session, text=False).stdout == data

    # What a host logs while the centre is away comes later.
    centre.run("systemctl", "stop", "systemd-journal-remote.socket",
               "systemd-journal-remote.service")
    netd = hosts[0]
    away = netd.send(b"the centre is away\n")
    netd.box.run("journalctl", "--sync")
    wait_for(lambda: "failed" in netd.box.run("journalctl", "-u", "systemd-journal-upload").stdout,
             "an upload that fails")
    centre.run("systemctl", "start", "systemd-journal-remote.socket")
    wait_for(lambda: listed(centre).get(away.session, {}).get("end"), "the other", timeout=60)
    at_centre(centre, "verify", *sent, away.session)
