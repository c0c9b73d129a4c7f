# SPDX-License-Identifier: MIT
"""netd-client doctor: every check fails for a real reason, and its advice, followed literally, makes
the next run ok."""

import collections
import json
import re

import pytest

from box import wait_for

Finding = collections.namedtuple("Finding", "status text meaning commands")
# The columns where findings, their meaning and the commands begin.
COLUMNS = re.compile(r"(?:(ok|warning|problem) +(\S+(?: \S+)*) {2,}(\S.*)| {24}(\S.*)| {28}(\S.*))$")


def parsed(text):
    """{check: Finding}, from what doctor prints for people, and the summary."""
    found, (*lines, summary) = {}, text.splitlines()
    for line in lines:
        status, name, words, meaning, command = COLUMNS.match(line).groups()
        if status:
            finding = found[name] = Finding(status, words, [], [])
        elif meaning:
            finding.meaning.append(meaning)
        else:
            finding.commands.append(command)
    return found, summary


def doctor(box, *options, run=()):
    """The findings of one run, whose exit status must say the same. RUN: a program to run it."""
    result = box.run(*run, "netd-client", *options, "doctor", check=False)
    found, summary = parsed(result.stdout)
    statuses = [finding.status for finding in found.values()]
    assert result.stderr == ""
    assert result.returncode == ("problem" in statuses)
    for word in "problem", "warning":
        assert f"{statuses.count(word)} {word}{'s' * (statuses.count(word) != 1)}" in summary
    return found


def mended(box, check, finding, *options, again=(), **how):
    """Runs the commands that FINDING of CHECK prints; the next run must find nothing there."""
    assert finding.status != "ok" and finding.commands, finding
    box.sh("\n".join(finding.commands), **how)
    after = wait_for(lambda: (f := doctor(box, *options, run=again)[check]).status == "ok" and f,
                     f"{finding} to be mended")
    return after


@pytest.fixture(name="settings", autouse=True)
def fixture_settings(netd):
    """Removes what advice has written, and settings of the test: journald(TEXT) writes them."""
    box = netd.box
    test = "/etc/systemd/journald.conf.d/test.conf"

    def restart(script):
        box.sh(f"{script}; systemctl reset-failed systemd-journald; "
               "systemctl restart systemd-journald; journalctl --flush")

    def journald(text):
        box.sh("mkdir -p /etc/systemd/journald.conf.d")
        box.path(test).write_text(f"[Journal]\n{text}\n", encoding="ascii")
        restart(":")

    yield journald
    if box.path("/etc/systemd/journald.conf.d").exists():
        restart("rm -r /etc/systemd/journald.conf.d")
    if box.sh("rm -rfv /etc/systemd/system/netd.service.d/zz-*"):
        box.sh("rmdir --ignore-fail-on-non-empty /etc/systemd/system/netd.service.d; "
               "systemctl daemon-reload")


def test_all_is_well(netd):
    netd.start()
    found = doctor(netd.box)
    assert found["service"] == ("ok", "netd.service is active (running)", [], [])
    assert found["address"].text == "127.0.0.1:3000 accepts connections"
    session = re.fullmatch(r"complete in the journal after \S+: ([0-9a-f]{32})",
                           found["test session"].text)[1]
    assert netd.received(session) == b"netd-client doctor: test session\n"
    assert len({e.text("NETD_SESSION_ID") for e in netd.events()}) == 1, "one session is enough"
    result = netd.box.run("netd-client", "doctor", "--json")
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(o["check"], o["status"]) for o in objects] == \
        [(check, finding.status) for check, finding in found.items()]
    assert objects[1] == {"check": "service", "status": "ok", "meaning": [], "commands": [],
                          "text": "netd.service is active (running)"}
    assert {check for check, finding in found.items() if finding.status != "ok"} == \
        {"boot", "forwarding"}
    quiet = netd.box.run("netd-client", "--quiet", "doctor").stdout
    assert re.findall("^[a-z]+ +([a-z ]+?)  ", quiet, re.M) == ["boot", "forwarding"]


def test_a_stopped_unit(netd):
    netd.start()
    netd.stop()
    found = doctor(netd.box)
    assert found["service"].text == "netd.service is inactive (dead)"
    assert found["address"].text == found["test session"].text == \
        "not tried: the service does not run"
    assert found["rate limit"].text == "not checked: the service is not known to run"
    mended(netd.box, "service", found["service"])


@pytest.mark.parametrize("where", ["--runtime", "--system"])
def test_a_masked_unit(netd, where):
    netd.box.sh(f"systemctl mask {where} netd.service")
    try:
        found = doctor(netd.box)["service"]
        assert found.text == "netd.service is masked (dead)"
        mended(netd.box, "service", found)
    finally:
        netd.box.run("systemctl", "unmask", where, "netd.service")


def test_a_socket_unit(netd):
    """systemd listens, at another address."""
    netd.start(socket=True, socket_dropin="[Socket]\nListenStream=\nListenStream=[::1]:4000\n")
    found = doctor(netd.box)
    assert found["service"] == \
        ("ok", "netd.service starts when a client connects to netd.socket", [], [])
    assert found["address"].text == "[::1]:4000 accepts connections"
    assert found["test session"].status == found["rate limit"].status == "ok"
    assert doctor(netd.box)["service"].text == "netd.service is active (running)"


def test_a_unit_that_is_not_enabled(netd):
    found = doctor(netd.box)["boot"]
    assert (found.status, found.text) == ("warning", "netd.service is disabled")
    try:
        assert mended(netd.box, "boot", found).text == "netd.service is enabled"
        netd.box.run("systemctl", "disable", "netd.service")
        netd.box.run("systemctl", "enable", "netd.socket")
        assert doctor(netd.box)["boot"].text == "netd.socket is enabled"
    finally:
        netd.box.run("systemctl", "disable", "netd.service", "netd.socket")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_somebody_else_has(netd, peer, host):
    """A unit, which is stopped, or a process of none, which is killed."""
    listen = "TCP6" if ":" in host else "TCP4"
    other = peer("socat", f"{listen}-LISTEN:3000,fork,bind={host}", "EXEC:true", port=3000)
    netd.start(config=f'host = "{host}";', check=False)
    wait_for(lambda: "auto-restart" in netd.show("SubState"), "netd to fail")
    found = doctor(netd.box, f"--host={host}")
    assert found["service"].status == "problem"
    assert found["service"].text == "netd.service is activating (auto-restart)"
    address = f"[{host}]" if ":" in host else host
    assert re.search(rf"^Its last error: .*cannot listen on {re.escape(address)}:3000: "
                     "Address already in use$", "\n".join(found["service"].meaning), re.M)
    assert f"Port 3000 is used by socat of {other}.service." in found["service"].meaning
    assert f"systemctl stop {other}.service" in found["service"].commands
    mended(netd.box, "service", found["service"], f"--host={host}")


def test_a_port_of_a_process(netd):
    command = ["socat", "TCP4-LISTEN:3000,fork,bind=127.0.0.1", "EXEC:true"]
    with netd.box.popen(*command) as other:
        try:
            wait_for(lambda: netd.box.run("ss", "-Hltn", "sport = :3000").stdout, "it to listen")
            netd.start(check=False)
            wait_for(lambda: "auto-restart" in netd.show("SubState"), "netd to fail")
            found = doctor(netd.box)["service"]
            assert re.match("kill [0-9]+$", found.commands[0])
            mended(netd.box, "service", found)
            other.wait(10)
        finally:
            other.kill()


def test_a_configuration_that_is_bad(netd):
    netd.start(config="port = 70000;", check=False)
    found = doctor(netd.box)["service"]
    assert found.text == "netd.service is failed (failed)"
    assert found.meaning[1] == "Its last error: /etc/netd/netd.conf:1: port: 70000 is not between " \
        "0 and 65535"
    netd.configure_file("")
    mended(netd.box, "service", found)


@pytest.mark.parametrize("listeners, session", [
    # All framings that take a plain record; the first that does is used.
    ('{ name = "a"; framing = "raw"; port = 3000; }, { name = "b"; port = 3001; }', "a"),
    ('{ name = "a"; framing = "relp"; port = 3000; }, { name = "b"; port = 3001; framing = "nul"; }',
     "b"),
    ('{ name = "a"; deny = ("127.0.0.0/8"); port = 3000; }, '
     '{ name = "b"; path = "/run/netd/in"; format = "syslog"; }', "b"),
    ('{ name = "a"; proxy = true; port = 3000; }, { name = "b"; host = "*"; port = 3001; }', "b"),
    ('{ name = "a"; receipt = false; port = 3000; }, { name = "b"; host = "::1"; port = 3001; }',
     "b"),
    ('{ name = "a"; framing = "relp"; port = 3000; }', None),
])
def test_listeners(netd, listeners, session):
    netd.start(config=f"listeners = ( {listeners} );")
    found = doctor(netd.box)
    count = listeners.count("name")
    assert found["address"].text == (f"{count} addresses accept connections" if count > 1 else
                                     "127.0.0.1:3000 accepts connections")
    if not session:
        assert found["test session"].status == "warning"
        assert found["test session"].text == "not tried: no listener takes plain records without TLS"
        return
    ended = re.search("[0-9a-f]{32}$", found["test session"].text)[0]
    events = netd.events(ended)
    assert [e.text("NETD_LISTENER") for e in events] == [session] * 3
    assert b"netd-client doctor: test session" in events[1].record


def test_no_room_for_a_session(netd):
    netd.start(config="sessions = { max = 1; };")
    with netd.connect() as client:
        client.sendall(b"line\n")
        wait_for(lambda: len(netd.events()) == 2, "the session")
        found = doctor(netd.box)["test session"]
    assert (found.status, found.text) == ("problem", "127.0.0.1:3000: session-limit")
    wait_for(lambda: doctor(netd.box)["test session"].status == "ok", "room")


def test_given_address(netd):
    netd.start(env={"SERVER_PORT": "4000"})
    assert doctor(netd.box)["address"].text == "127.0.0.1:4000 accepts connections"
    found = doctor(netd.box, "--host=::1", "--port=4001")
    assert found["address"].text == "[::1]:4001: Connection refused"
    assert found["address"].status == found["test session"].status == "problem"


def test_journald_hangs(netd):
    box = netd.box
    netd.start()
    box.run("systemctl", "kill", "-s", "STOP", "systemd-journald.service")
    try:
        with netd.connect() as client:
            client.sendall(b"line\n" * 2000)
            wait_for(lambda: '{cause="full"} 1' in box.run("cat", "/run/netd/metrics.prom").stdout,
                     "netd to wait")
            found = doctor(box, "--timeout=1")
            assert found["test session"].text == \
                "127.0.0.1:3000: no receipt: Connection timed out"
            assert found["test session"].meaning == \
                ["netd waits for the journal (full), and clients wait for netd."]
            mended(box, "test session", found["test session"])
    finally:
        box.run("systemctl", "kill", "-s", "CONT", "systemd-journald.service")


# --- journald ---


def send(netd, records):
    """Sends RECORDS, and waits until journald has them behind it."""
    assert netd.send(b"line\n" * records).records == records
    netd.box.run("journalctl", "--sync")


def test_a_rate_limit(netd):
    netd.start(dropin="[Service]\nLogRateLimitIntervalSec=10s\nLogRateLimitBurst=100\n")
    found = doctor(netd.box)
    assert found["rate limit"].status == "problem"
    assert found["rate limit"].text == "100 entries in 10.000s"
    assert found["dropped"].status == "ok"
    assert mended(netd.box, "rate limit", found["rate limit"]).text == "1000000 entries in 1ms"


def test_a_rate_limit_of_zero_is_that_of_journald(netd, settings):
    """Zero in a unit does not lift the limit; in journald's settings it does."""
    netd.start(dropin="[Service]\nLogRateLimitIntervalSec=0\n")
    found = doctor(netd.box)["rate limit"]
    assert (found.status, found.text) == ("problem", "1000000 entries in 30.000s")
    settings("RateLimitIntervalSec=0")
    assert doctor(netd.box)["rate limit"] == ("ok", "none", [], [])


def test_a_limit_that_is_changed_but_not_in_force(netd):
    netd.start(dropin="[Service]\nLogRateLimitIntervalSec=10s\nLogRateLimitBurst=100\n")
    netd.configure()
    found = doctor(netd.box)["rate limit"]
    assert found.commands == ["systemctl restart netd.service"]
    mended(netd.box, "rate limit", found)


def test_journald_that_drops(netd):
    netd.start(dropin="[Service]\nLogRateLimitIntervalSec=1s\nLogRateLimitBurst=50\n")
    send(netd, 1000)
    # journald says so with the first entry that it takes again.
    found = wait_for(lambda: (f := doctor(netd.box, "--timeout=1")["dropped"]).status == "problem" and f, "it")
    assert re.match(r"\d+ entries since the service was started$", found.text)
    mended(netd.box, "dropped", found)
    send(netd, 1000)
    assert doctor(netd.box)["dropped"].status == "ok"


def test_levels_that_are_not_stored(netd, settings):
    netd.start(dropin="[Service]\nLogLevelMax=notice\n")
    found = doctor(netd.box, "--timeout=1")
    assert found["test session"].text.startswith("not in the journal after 1.")
    assert found["level"].text == "LogLevelMax=5 of netd.service"
    mended(netd.box, "level", found["level"])
    netd.box.run("rm", "/etc/systemd/system/netd.service.d/zz-level.conf")
    netd.start()
    settings("MaxLevelStore=notice")
    found = doctor(netd.box, "--timeout=1")
    assert found["level"].text == "MaxLevelStore=5 of journald"
    mended(netd.box, "level", found["level"])
    netd.start(config='priority = "notice";')
    settings("MaxLevelStore=notice")
    assert doctor(netd.box)["level"].status == "ok", "they are stored"


def test_forwarding(netd):
    netd.start()
    found = doctor(netd.box)["forwarding"]
    assert (found.status, found.text) == ("warning", "ForwardToSyslog=yes")
    assert found.meaning[0].endswith("None listens, but that")
    assert mended(netd.box, "forwarding", found).text == "ForwardToSyslog=no"


def test_volatile_storage(netd, settings):
    netd.start()
    settings("Storage=volatile")
    found = doctor(netd.box)["storage"]
    assert found.status == "problem"
    assert found.text.startswith("in memory, in /run/log/journal/")
    assert mended(netd.box, "storage", found).text.startswith("on disk, in /var/log/journal/")


def test_no_directory_for_storage(netd):
    netd.start()
    box = netd.box
    box.sh("mv /var/log/journal /var/log/journal-away; systemctl restart systemd-journald")
    try:
        found = doctor(box)
        assert found["storage"].status == "problem"
        assert found["space"].text == "not checked: no journal on disk to read"
        assert found["storage"].commands[0] == "mkdir -p /var/log/journal"
        mended(box, "storage", found["storage"])
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=systemd-journal"]
        assert doctor(box, run=user)["permission"].status == "ok"
    finally:
        box.sh("""
            rm -rf /var/log/journal; mv /var/log/journal-away /var/log/journal
            systemctl restart systemd-journald; journalctl --flush
        """)


def test_no_storage(netd, settings):
    netd.start()
    settings("Storage=none")
    found = doctor(netd.box, "--timeout=1")
    assert found["test session"].status == "problem"
    assert found["storage"].text == "Storage=none"
    mended(netd.box, "storage", found["storage"])


def test_a_disk_that_is_nearly_full(netd):
    netd.start()
    box = netd.box
    begin = "systemd-tmpfiles --create --prefix /var/log/journal; systemctl restart systemd-journald; journalctl --flush"
    box.sh(f"mount -t tmpfs -o size=200M none /var/log/journal; {begin}")
    try:
        assert doctor(box)["space"].status == "ok"
        free = int(box.run("stat", "-f", "-c", "%a", "/var/log/journal").stdout) * 4096
        box.run("fallocate", "-l", free - (14 << 20), "/var/log/journal/other")
        found = doctor(box)["space"]
        assert found.status == "problem"
        assert re.fullmatch("1[34][.]. MiB free, but journald leaves 30.0 MiB to others", found.text)
        mended(box, "space", found)
    finally:
        box.sh("umount -l /var/log/journal; systemctl restart systemd-journald; journalctl --flush")


def test_little_space(netd, settings):
    netd.start()
    settings("SystemMaxUse=9M")
    found = doctor(netd.box)["space"]
    assert found.status == "warning"
    assert found.text.endswith(" used of 9.0 MiB that the journal may take")
    assert mended(netd.box, "space", found).text.endswith("1.0 GiB that the journal may take")


# --- Everything else ---


def test_open_files(netd):
    netd.start(config="sessions = { max = 4000; };", dropin="[Service]\nLimitNOFILE=4000\n")
    found = doctor(netd.box)["open files"]
    assert (found.status, found.text) == ("problem", "4000, for 4000 sessions")
    assert mended(netd.box, "open files", found).text == "4065, for 4000 sessions"
    assert "LimitNOFILE" not in netd.log().rpartition("Starting")[2], "netd has no objection"


def test_permission(netd):
    """Of a member of no group, and of one who is made a member."""
    netd.start()
    box = netd.box
    box.run("useradd", "--system", "reader")
    try:
        user = ["runuser", "-u", "reader", "--"]
        found = doctor(box, run=user)
        assert found["permission"].status == "problem"
        assert found["permission"].text == "no permission to read the journal"
        assert found["test session"].text == "logged, says the receipt; cannot be looked up"
        assert found["service"].status == found["rate limit"].status == "ok"
        assert found["permission"].commands == ["usermod -a -G systemd-journal reader"]
        mended(box, "permission", found["permission"], again=user)
        assert doctor(box, run=user)["test session"].status == "ok"
    finally:
        box.run("userdel", "reader")


CERTIFICATE = """
    cd /etc/netd
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \\
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -days {} -keyout test.key -out test.pem \\
        2>/dev/null
    chmod 644 test.key
"""


def test_a_certificate_that_ends_tomorrow(netd):
    box = netd.box
    try:
        box.sh(CERTIFICATE.format(1))
        netd.start(config="""listeners = (
            { name = "secure"; port = 6514; tls = { certificate = "test.pem"; key = "test.key"; }; },
            { name = "plain"; port = 3000; });""")
        found = doctor(box)
        assert found["address"].text == \
            "1 of 2 addresses accept connections; not tried without --tls: 1"
        assert found["certificates"].status == "problem"
        assert re.match("that of listener secure ends 20", found["certificates"].text)
        box.sh(CERTIFICATE.format(10))
        after = wait_for(lambda: box.sh("\n".join(found["certificates"].commands)) or
                         (f := doctor(box)["certificates"]).status == "warning" and f, "the new one")
        box.sh(CERTIFICATE.format(100))
        mended(box, "certificates", after)
        # Over TLS, too.
        found = doctor(box, "--tls=/etc/netd/test.pem", "--host=localhost", "--port=6514")
        assert found["test session"].status == "ok"
        found = doctor(box, "--tls=/etc/netd/test.pem")
        assert found["address"].text == "2 addresses accept connections"
        assert not netd.events(event="refused")
    finally:
        box.sh("rm -f /etc/netd/test.*")


def test_without_systemd(box):
    """One line for each check that needs it, and nothing else."""
    inside = "mount -t tmpfs none /run && exec netd-client -T1 doctor"
    result = box.run("unshare", "-m", "sh", "-c", inside, check=False)
    found, _ = parsed(result.stdout)
    assert (result.returncode, result.stderr) == (1, "")
    skipped = {check for check, f in found.items()
               if f == ("warning", "not checked: systemd is not running", [], [])}
    assert found.keys() - skipped == {"address", "test session", "certificates"}
    assert found["address"].text == "127.0.0.1:3000: Connection refused"


def test_without_a_bus(netd):
    """As root, the service manager itself answers."""
    netd.start()
    box = netd.box
    inside = "mount -t tmpfs none /run/dbus && exec netd-client doctor --json"
    lines = box.run("unshare", "-m", "sh", "-c", inside).stdout.splitlines()
    assert json.loads(lines[1])["text"] == "netd.service is active (running)"
    inside = "mount -t tmpfs none /run/dbus && exec runuser -u nobody -- netd-client doctor"
    found, _ = parsed(box.run("unshare", "-m", "sh", "-c", inside, check=False).stdout)
    assert found["service"].text == "not checked: no connection to the service manager"
