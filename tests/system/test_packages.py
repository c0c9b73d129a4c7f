# SPDX-License-Identifier: MIT
"""The packages of make deb and make rpm: what is in them, and what apt does with them on a minimal
Debian. Run by make check-packages and make check-long."""

import json
import os
import re
import shutil
import subprocess

import pytest

from box import SOURCE, Box, wait_for
from test_install import EXPECTED

INSIDE = "/var/packages-of-netd"
# Where the package has another place for a file than make install.
MOVED = {
    "/usr/libexec/netd-tls": "/usr/libexec/netd/netd-tls",
    "/usr/share/doc/netd/": "/usr/share/doc/netd/examples/",
    "/usr/share/zsh/site-functions/": "/usr/share/zsh/vendor-completions/",
}
CLIENT = ("netd-client", "/zsh/")  # of netd-client's package


def run(*command, **options):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            check=False, timeout=1800, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def older(deb, directory):
    """The same package with a lower version."""
    tree = directory / "older"
    run("dpkg-deb", "-R", deb, tree)
    control = tree / "DEBIAN/control"
    text = re.sub(r"\b0\.\d+\.\d+-1~", "0.1.9-1~", control.read_text(encoding="utf-8"))
    control.write_text(text, encoding="utf-8")
    made = directory / f"older-{deb.name}"
    run("dpkg-deb", "--root-owner-group", "-b", tree, made)
    shutil.rmtree(tree)
    return made


@pytest.fixture(scope="module")
def debs(release, tmp_path_factory):
    """The directory with what make deb makes; lintian is part of it."""
    directory = tmp_path_factory.mktemp("packages") / release
    run("make", "-s", "-C", SOURCE, "deb", f"RELEASE={release}", f"OUTPUT={directory}")
    return directory


def package(directory, name):
    found = list(directory.glob(f"{name}_*.deb"))
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def machine(files, release, debs, tmp_path_factory):
    """A minimal Debian with the packages, and older ones, as files. Nothing is installed."""
    box = Box(release, files[release].directory / "packaged")
    files[release].pristine(box.root)
    inside = box.path(INSIDE)
    inside.mkdir()
    for name in "netd", "netd-client":
        deb = package(debs, name)
        shutil.copy(deb, inside)
        shutil.copy(older(deb, tmp_path_factory.mktemp("older")), inside)
    box.boot()
    box.run("apt-get", "-qq", "update")
    yield box
    box.kill()
    shutil.rmtree(box.root)


class Packages:
    """apt, on a Debian that has nothing of netd when a test begins and ends."""

    def __init__(self, box):
        self.box = box
        self.before = self.files()

    def apt(self, *words, **options):
        return self.box.run("apt-get", "-q", "-y", *words, timeout=300,
                            env={"DEBIAN_FRONTEND": "noninteractive"}, **options)

    def install(self, prefix=""):
        """PREFIX "older-" for the version before."""
        done = self.apt("install", *self.box.sh(
            f"ls {INSIDE}/{prefix}netd_*.deb {INSIDE}/{prefix}netd-client_*.deb").split())
        assert not re.search(r"(?i)\b(warning|error|failed)\b", done.stdout), done.stdout

    def files(self):
        """All that is named after netd, but not what apt keeps of any package."""
        return self.box.sh(r"""
            find /etc /usr /var /run -name '*netd*' -not -path '/usr/src/*' -not -path '/var/log/*' \
                -not -path '/var/cache/*' -not -path '/var/packages*' 2>/dev/null || :
        """).split()

    def installed(self):
        """Files of both packages: {path: mode}."""
        lines = self.box.sh("dpkg -L netd netd-client | sort -u | xargs stat -c '%F|%a|%n'")
        split = (line.split("|") for line in lines.splitlines())
        return {path: mode for kind, mode, path in split if kind.startswith("regular")}

    def purge(self):
        self.apt("purge", "netd", "netd-client")
        assert self.files() == self.before

    def show(self, name, unit="netd.service"):
        return self.box.run("systemctl", "show", "-p", name, "--value", unit).stdout.strip()

    def send(self, *words):
        return self.box.run("netd-client", "send", *words).stdout.strip()

    def messages(self, session):
        self.box.run("journalctl", "--sync")
        return self.box.sh(f"journalctl -q -o cat NETD_SESSION_ID={session} NETD_EVENT=data")


@pytest.fixture
def packages(machine):
    made = Packages(machine)
    yield made
    machine.sh("apt-get -q -y purge netd netd-client; rm -rf /etc/netd /etc/default/netd", check=False)


# --- What an administrator does ---


def query(box, text):
    said = box.run("curl", "-sf", "--data-urlencode", f"query={text}",
                   "http://127.0.0.1:9090/api/v1/query", check=False).stdout
    answer = json.loads(said) if said else {"status": "none"}
    return [r["value"][1] for r in answer["data"]["result"]] if answer["status"] == "success" else []


def test_from_apt_install_to_apt_purge(packages):
    box = packages.box
    assert box.run("which", "cc", "netd", "netd-client", check=False).stdout == ""
    packages.install()
    box.run("systemctl", "start", "netd")
    assert packages.show("ActiveState") == "active"
    assert box.run("systemctl", "is-enabled", "netd").stdout == "enabled\n"
    assert box.run("systemctl", "is-system-running", check=False).stdout == "running\n"

    session = packages.send("aaa")
    assert packages.messages(session) == "aaa\n"
    assert box.run("netd-client", "cat", session).stdout == "aaa\n"
    explained = box.run("journalctl", "-x", f"NETD_SESSION_ID={session}").stdout
    assert "A client connected: 127.0.0.1:" in explained  # the catalog

    checked = box.run("netd-client", "doctor", check=False)
    assert checked.returncode == 0, checked.stdout
    assert not re.search("^problem", checked.stdout, re.M)
    assert re.search(r"^ok +test session ", checked.stdout, re.M)

    version = packages.box.sh("dpkg-query -W -f '${Version}' netd").rpartition("-")[0]
    # The other one is doctor's.
    wait_for(lambda: " 2 records, " in box.run("netd-client", "status").stdout, "both sessions")
    shown = box.run("netd-client", "status").stdout
    assert re.search(rf"^ +Version: {re.escape(version)}$", shown, re.M), shown

    box.run("systemctl", "start", "netd-metrics.socket")
    box.install_from_mirror("curl", "prometheus")
    box.path("/etc/prometheus/prometheus.yml").write_text("""
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: netd
    static_configs: [{targets: ['127.0.0.1:9300']}]
""", encoding="ascii")
    box.run("systemctl", "start", "prometheus")
    wait_for(lambda: query(box, "sum(netd_records_total)") == ["2"], "the records", timeout=60)
    assert query(box, "up") == ["1"]
    assert query(box, f'netd_build_info{{version="{version}"}}') == ["1"]
    packages.send("bbb")
    wait_for(lambda: query(box, "sum(netd_records_total)") == ["3"], "one more", timeout=60)
    box.run("systemctl", "stop", "prometheus")

    packages.purge()
    assert box.sh("systemctl list-units --all --plain --no-legend 'netd*'") == ""
    assert packages.messages(session) == "aaa\n"  # the journal keeps what is in it


def test_the_smoke_test_of_autopkgtest(packages):
    """As debian/tests/control says, which names tests that exist."""
    packages.install()
    directory = SOURCE / "etc/packaging/debian/tests"
    control = (directory / "control").read_text(encoding="utf-8")
    assert re.findall(r"^Tests: (.*)$", control, re.M) == ["smoke"]
    assert os.access(directory / "smoke", os.X_OK)
    shutil.copy(directory / "smoke", packages.box.path(INSIDE))
    said = packages.box.run(f"{INSIDE}/smoke")
    assert " Version: " in said.stdout
    assert said.stderr == ""  # autopkgtest takes it for a failure


# --- Upgrade ---


CERTIFICATE = """
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=netd -addext subjectAltName=IP:127.0.0.1 \
    -days 30 -keyout netd.key -out netd.pem
chmod 644 netd.key
"""
LISTENERS = """listeners = (
  { name = "lines"; port = 3000; },
  { name = "secure"; port = 6514; tls = { certificate = "netd.pem"; key = "netd.key"; }; }
);
"""


def test_an_upgrade_keeps_sessions_and_configuration(packages):
    box = packages.box
    packages.install("older-")
    subprocess.run(["sh", "-ec", CERTIFICATE], cwd=box.path("/etc/netd"), check=True,
                   capture_output=True, timeout=60)
    box.path("/etc/netd/netd.conf").write_text(LISTENERS, encoding="ascii")
    box.run("systemctl", "restart", "netd")
    pid = packages.show("MainPID")
    old = box.sh("stat -c %i /usr/sbin/netd")
    with box.connect(3000) as plain, \
            box.popen("netd-client", "-p", "6514", "send", "--tls=/etc/netd/netd.pem",
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as secure:
        plain.sendall(b"before\n")
        secure.stdin.write("before\n")
        secure.stdin.flush()
        wait_for(lambda: " 2 records, " in box.run("netd-client", "status").stdout, "both sessions")

        packages.install()
        assert packages.show("MainPID") == pid and packages.show("NRestarts") == "0"
        assert box.sh(f"readlink /proc/{pid}/exe") == "/usr/sbin/netd\n"
        assert box.sh("stat -c %i /usr/sbin/netd") != old
        assert box.sh(f"stat -L -c %i /proc/{pid}/exe") == box.sh("stat -c %i /usr/sbin/netd")

        plain.sendall(b"after\n")
        plain.shutdown(1)
        answer = b""
        while piece := plain.recv(4096):
            answer += piece
        receipt = re.fullmatch(rb"netd session=(\w+) records=2 bytes=13 end=eof\n", answer)
        assert receipt, answer
        session = secure.communicate("after\n", timeout=60)[0].strip()
        assert secure.returncode == 0
    for session in receipt[1].decode(), session:
        box.run("netd-client", "verify", session)
        assert box.run("netd-client", "cat", session).stdout == "before\nafter\n"
    assert box.path("/etc/netd/netd.conf").read_text(encoding="ascii") == LISTENERS
    # A new session over TLS, with the new program.
    box.run("netd-client", "-p", "6514", "send", "--tls=/etc/netd/netd.pem", "new")


def test_an_upgrade_with_a_bad_configuration_leaves_the_old_program_running(packages):
    box = packages.box
    packages.install("older-")
    with box.connect(3000) as client:
        client.sendall(b"before\n")
        box.path("/etc/netd/netd.conf").write_text("port = 70000;\n", encoding="ascii")
        done = packages.apt("install", *box.sh(f"ls {INSIDE}/netd_*.deb").split())
        assert "netd: not reloaded, the previous version goes on: journalctl -u netd" in \
            done.stdout + done.stderr
        client.sendall(b"after\n")
        client.shutdown(1)
        assert b"records=2 bytes=13 end=eof" in client.recv(4096)
    box.path("/etc/netd/netd.conf").write_text("port = 3000;\n", encoding="ascii")
    box.run("systemctl", "reload", "netd")
    assert box.sh(f"readlink /proc/{packages.show('MainPID')}/exe") == "/usr/sbin/netd\n"


def test_an_upgrade_starts_nothing_that_was_disabled(packages):
    packages.install("older-")
    packages.box.run("systemctl", "disable", "-q", "--now", "netd")
    packages.box.run("systemctl", "enable", "-q", "--now", "netd.socket")
    packages.install()
    assert packages.show("ActiveState") == "inactive"
    assert packages.show("ActiveState", "netd.socket") == "active"
    assert packages.box.run("systemctl", "is-enabled", "netd", check=False).stdout == "disabled\n"


# --- Remove and purge ---


def test_remove_keeps_the_configuration_and_purge_does_not(packages):
    box = packages.box
    packages.install()
    box.sh("echo 'port = 4000;' >/etc/netd/netd.conf; systemctl restart netd")
    box.run("systemctl", "enable", "-q", "--now", "netd-metrics.socket", "netd@1.socket")
    box.run("systemctl", "enable", "-q", "netd.socket")
    box.run("netd-client", "-p", "4000", "send", "x")
    packages.apt("remove", "netd", "netd-client")
    assert box.sh("systemctl list-units --plain --no-legend 'netd*'") == ""
    assert set(packages.files()) - set(packages.before) >= {"/etc/netd", "/etc/netd/netd.conf",
                                                            "/etc/default/netd"}
    assert not [f for f in packages.files() if f.startswith("/usr/") and f not in packages.before]

    packages.install()
    assert box.run("systemctl", "is-active", "netd").stdout == "active\n"
    box.run("netd-client", "-p", "4000", "send", "x")
    packages.purge()
    assert box.sh("systemctl list-units --all --plain --no-legend 'netd*'") == ""


# --- What is in them ---


def test_the_files_are_those_of_make_install(packages, release):
    packages.install()
    expected = {}
    for path, mode in EXPECTED.items():
        path = path[1:]
        for old, new in MOVED.items():
            path = path.replace(old, new)
        if release == "bookworm":
            path = path.replace("/usr/lib/systemd/system/", "/lib/systemd/system/")
        expected[path + ".gz" if "/man/" in path else path] = mode
    found = {path: mode for path, mode in packages.installed().items()
             if not re.match("/usr/share/doc/[^/]+/[^/]+$", path)}
    assert found == expected
    of_client = packages.box.run("dpkg", "-L", "netd-client").stdout.split()
    for path in expected:
        assert (path in of_client) == any(word in path for word in CLIENT), path


def test_two_builds_have_the_same_bytes(debs, release, tmp_path):
    """The second in another time zone and locale, without tests, in one process."""
    environment = {**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C",
                   "DEB_BUILD_OPTIONS": "nocheck parallel=1"}
    again = tmp_path / "again"
    run("/usr/bin/python3", "-B", SOURCE / "etc/packaging/build.py", "deb", "--release", release,
        "--no-check", again, env=environment)
    names = sorted(path.name for path in debs.iterdir()
                   if path.suffix in (".deb", ".dsc", ".xz", ".gz"))
    assert len(names) == 7  # two packages, their debug symbols, and the source in three files
    for name in names:
        assert (debs / name).read_bytes() == (again / name).read_bytes(), name


def test_rpm(release, tmp_path):
    """As far as Debian's rpm goes: it builds, rpmlint has nothing to say, and the files are there."""
    output = tmp_path / "rpm"
    said = run("make", "-s", "-C", SOURCE, "rpm", f"RELEASE={release}", f"OUTPUT={output}")
    assert re.search(r"\b0 errors, 0 warnings", said), said
    found = {}
    for line in (output / "files").read_text(encoding="utf-8").splitlines():
        name, mode, path = line.split()
        if mode.startswith("-"):
            found[path.removesuffix(".gz")] = name
    expected = {}
    for path in EXPECTED:
        path = path[1:].replace("/usr/libexec/", "/usr/libexec/netd/")
        path = path.replace("/usr/share/doc/netd/", "/usr/share/netd/")
        expected[path] = "netd-client" if any(word in path for word in CLIENT) else "netd"
    assert {path: name for path, name in found.items()
            if not path.startswith(("/usr/share/doc/", "/usr/share/licenses/"))} == expected
    assert len(list(output.glob("*.rpm"))) == 3
