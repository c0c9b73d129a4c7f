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
    assert objects[0] == {"check": "service", "status": "ok", "meaning": [], "commands": [],
                          "text": "netd.service is active (running)"}


def test_a_stopped_unit(netd):
    netd.start()
    netd.stop()
    found = doctor(netd.box)
    assert found["service"].text == "netd.service is inactive (dead)"
    assert found["address"].text == "127.0.0.1:3000: Connection refused"
    assert found["test session"].status == "problem"
    mended(netd.box, "service", found["service"])


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
        assert found["test session"].text == "not tried: no listener takes plain records"
        return
    ended = re.search("[0-9a-f]{32}$", found["test session"].text)[0]
    events = netd.events(ended)
    assert [e.text("NETD_LISTENER") for e in events] == [session] * 3
    assert b"netd-client doctor: test session" in events[1].record


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
