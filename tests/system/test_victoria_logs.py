# SPDX-License-Identifier: MIT
"""Several hosts whose systemd-journal-upload sends to one VictoriaLogs, by the text of netd(8).

Debian 13 has VictoriaLogs as source. It is built from Debian's packages, which takes minutes: these
tests do something only with --long, and only on Debian 13.
"""

import collections
import json
import re
import shlex
import subprocess

import pytest

import documented
from box import mirror, wait_for
from daemon import Netd
from test_remote import cable, centre_address, install
from traffic import lines, together

SECTION = "SEVERAL HOSTS"
ADDRESS = "192.0.2.1"  # in the page
PROGRAM = "/usr/local/bin/victoria-logs"
HOSTS = 3
SESSIONS = 10  # of each host
RECORDS = 10000  # of each session


def build(root, release):
    """Makes a Debian in ROOT, and VictoriaLogs in it, with the commands of the page."""
    script = documented.commands(SECTION, "#")
    packages = script[script.index("apt install ") + len("apt install "):script.index("cd /usr")]
    words = subprocess.run(["bash", "-c", f"printf '%s,' {packages}"], check=True,
                           capture_output=True, text=True).stdout.rstrip(",")
    commands = script[script.index("cd /usr"):script.index("victoria-logs -storage")]
    hook = ("""mount --bind /proc "$1/proc"; """
            f"""HOME=/root chroot "$1" sh -ec '{commands}'; umount "$1/proc" """)
    subprocess.run(["mmdebstrap", "--variant=minbase", "--mode=root", "--quiet",
                    f"--include={words}", f"--customize-hook={hook}", release, root, mirror()],
                   check=True, timeout=1800)


@pytest.fixture
def program(box, files, release, long):
    """True where VictoriaLogs is in the box."""
    if not long or release != "trixie":
        return False
    if not box.path(PROGRAM).exists():
        root = files[release].directory / "victoria-logs"
        try:
            build(root, release)
            box.path(PROGRAM).write_bytes((root / PROGRAM.lstrip("/")).read_bytes())
            box.path(PROGRAM).chmod(0o755)
        finally:
            subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)
    return True


@pytest.fixture
def database(box, program, peer):
    """The box with VictoriaLogs in it; None where there is none."""
    if not program:
        yield None
        return
    box.sh("rm -rf /var/lib/victoria-logs")
    (command,) = re.findall(r"^victoria-logs.*(?:\n .*)*", documented.commands(SECTION, "#"), re.M)
    peer(*shlex.split(command.replace("\\\n", " ")), port=9428)
    yield box
    box.sh("rm -rf /var/lib/victoria-logs")


def query(box, number, *replace):
    """What one of the queries of the page gives."""
    command = re.split(r"^(?=curl)", documented.commands(SECTION, "$"), flags=re.M)[1:][number]
    for old, new in ((ADDRESS, "127.0.0.1"), *replace):
        assert old in command
        command = command.replace(old, new)
    said = box.sh(command, timeout=300, text=False)
    # Bytes that are no UTF-8 come as they are, which JSON does not know.
    return [json.loads(line.decode("utf-8", "surrogateescape")) for line in said.splitlines()]


def session_of(box, session):
    return query(box, 0, ("548a56fd4fa6bcee50ffe0359d7560f6", session))


@pytest.fixture
def hosts(database, pristine):
    made = []
    for number in range(HOSTS if database else 0):
        host = pristine(boot=True)
        made.append(host)
        cable(database, host, number)
        install(database, host)
        host.sh(f"hostnamectl set-hostname web{number} 2>&1 || hostname web{number}")
        for path, text in documented.files(SECTION).items():
            host.path(path).parent.mkdir(exist_ok=True)
            text = text.replace(ADDRESS, centre_address(number)).replace("=10", "=1")
            host.path(path).write_text(text, encoding="ascii")
        host.run("systemctl", "start", "netd")
    return [Netd(host) for host in made]


def upload(netd):
    script = documented.commands(SECTION, "#")
    netd.box.sh(script[script.index("systemctl daemon-reload"):], timeout=300)


def test_records_of_three_hosts_are_found_by_session(database, hosts):
    sent = {}
    for number, netd in enumerate(hosts):
        data = lines(RECORDS, start=number * RECORDS)
        for receipt in together([lambda n=netd, d=data: n.send(d)] * SESSIONS):
            assert receipt.records == RECORDS
            sent[receipt.session] = number
        upload(netd)
    if not database:
        return

    def counts():
        return {row["NETD_SESSION_ID"]: (int(row["stored"]), row.get("sent"))
                for row in query(database, 1)}

    complete = {session: (RECORDS, str(RECORDS)) for session in sent}
    wait_for(lambda: counts() == complete, f"{len(sent)} sessions with all records", timeout=600)
    for session, number in list(sent.items())[::SESSIONS]:
        found = session_of(database, session)
        assert {row["_HOSTNAME"] for row in found} == {f"web{number}"}
        events = collections.Counter(row["NETD_EVENT"] for row in found)
        assert events == {"connect": 1, "data": RECORDS, "disconnect": 1}
        texts = [int(row["_msg"]) for row in found if row["NETD_EVENT"] == "data"]
        assert texts == list(range(number * RECORDS, (number + 1) * RECORDS))

    what_is_awkward_is_kept(database, hosts[0])


def what_is_awkward_is_kept(database, netd):
    """What the page says of it."""
    receipt = netd.send(b"\n\xff\xfe\0bad\n" + b"l" * 60000 + b"\n")
    wait_for(lambda: len(session_of(database, receipt.session)) == 5, "the session", timeout=120)
    empty, binary, long_line = [row for row in session_of(database, receipt.session)
                                if row["NETD_EVENT"] == "data"]
    assert empty["_msg"].startswith("missing _msg field")
    assert binary["_msg"] == "\\xff\\xfe\\x00bad"
    assert binary["NETD_DATA"].encode("utf-8", "surrogateescape") == b"\xff\xfe\0bad"
    assert long_line["_msg"] == "l" * 60000
