# SPDX-License-Identifier: MIT
"""The README shows the actual output of netd-client, except for IDs, times and ports."""

import itertools
import re

from box import SOURCE, wait_for

SPACE = "netdreadme"
BINARY = b"tab\there\r\n\x1b[31mred\nhalf"


def blocks():
    """The commands in the README and their output: (command, lines)."""
    found = []
    for line in (SOURCE / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("    $ "):
            found.append((line[6:], []))
        elif found and line.startswith("    ") and found[-1][1] is not None:
            found[-1][1].append(line[4:])
        elif found and not line:
            found.append(("", []))
    return [(command, shown) for command, shown in found if command and shown]


def normal(line):
    """LINE with placeholders for what differs between runs."""
    line = re.sub(r"\b([0-9a-f]{32}|[0-9a-f]{8})\b", "ID", line)
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?", "TIME", line)
    line = re.sub(r"(127\.0\.0\.1):\d+", r"\1:PORT", line)
    line = re.sub(r"\b\d+ms\b|\b\d+\.\d{3} ?s\b", "DURATION", line)
    return re.sub(r" +", " ", line).rstrip()


def check(command, output):
    """Asserts that OUTPUT contains the lines in the README below COMMAND, in that order."""
    (shown,) = [lines for c, lines in blocks() if c == command]
    written = [normal(line) for line in output.splitlines()]
    for line in shown:
        if line in ("...", "^C"):
            continue
        assert normal(line) in written, f"{command} does not write {line!r} but\n{output}"
        del written[:written.index(normal(line)) + 1]


def test_messages_of_netd_itself(netd):
    """All messages, but no events."""
    readme = (SOURCE / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^\| what netd itself had to say \| `(.+)` \|$", readme, re.M)
    netd.start()
    netd.send(b"said by a client\n")
    netd.box.run("systemctl", "reload", "netd")

    def words():
        lines = netd.box.sh(f"journalctl --sync; {command} -o cat").splitlines()[-4:]
        return [line.split()[0] for line in lines]

    wait_for(lambda: words() == ["ready:", "listening", "reloaded:", "listening"],
             "netd's own lines")


def test_the_tour(netd):
    box = netd.box
    box.sh(f"rm -rf /var/log/journal/*.{SPACE}")
    netd.start(dropin=f"[Service]\nLogNamespace={SPACE}\n")

    def client(*arguments, **options):
        return box.run("netd-client", *arguments, "--namespace", SPACE, **options).stdout

    def sync():
        box.run("journalctl", f"--namespace={SPACE}", "--sync")

    netd.send(b"Hello, journal\n")
    check("netd-client send one two", box.run("netd-client", "send", "one", "two").stdout)
    session = netd.send(BINARY).session
    sync()
    check("netd-client sessions", client("sessions"))
    (show,) = [c for c, _ in blocks() if c.startswith("netd-client show ")]
    check(show, client("show", session))
    (cat,) = [c for c, _ in blocks() if c.startswith("netd-client cat ")]
    assert cat.endswith("| od -c")
    check(cat, box.sh(f"netd-client cat --namespace {SPACE} {session} | od -c"))

    with box.popen("netd-client", "follow", "--namespace", SPACE, stdout=-1, text=True) as follow:
        netd.send(b"followed\n")
        written = ""
        while "1 record, 9 bytes" not in written:
            written += follow.stdout.readline()
        follow.kill()
    check("netd-client follow", written)

    (verify,) = [lines for c, lines in blocks() if c == "netd-client verify"]
    *some, summary = client("verify").splitlines()
    assert normal(verify[-2]) in map(normal, some)
    pattern = r"\d+ sessions: \d+ ok(, \d+ [a-z-]+)*"
    assert re.fullmatch(pattern, verify[-1]) and re.fullmatch(pattern, summary)

    result = box.run("netd-client", "-v", "send", input="1\n2\n3\n")
    check("seq 3 | netd-client -v send", result.stdout + result.stderr)
    wait_for(lambda: netd.show("StatusText").startswith("0 "), "the sessions to be over")


def snippet(first):
    """The README's indented block that begins with the line FIRST."""
    lines = (SOURCE / "README.md").read_text(encoding="utf-8").splitlines()
    start = lines.index(f"    {first}")
    block = itertools.takewhile(lambda line: line.startswith("    "), lines[start:])
    return "".join(line[4:] + "\n" for line in block)


def test_syslog_and_relp(netd):
    netd.start(config=snippet("listeners = ("))
    readme = (SOURCE / "README.md").read_text(encoding="utf-8")
    section = readme.partition("### Syslog and RELP\n")[2].partition("\n### ")[0]
    ends = 0
    for command in re.findall(r"^    \$ (.+)$", section, re.M):
        if command.startswith("journalctl "):
            check(command, netd.box.sh(f"journalctl --sync; {command} -q --cursor='{netd.since}'"))
        else:
            written = netd.box.sh(f"{command} 2>&1")
            ends += 1
            wait_for(lambda n=ends: len(netd.events(event="disconnect")) == n, "the session's end")
            if command in dict(blocks()):
                check(command, written)


def test_the_python_client(netd):
    netd.start()
    written = netd.box.run("python3", "-c", snippet("import socket")).stdout
    assert re.fullmatch(r"netd session=[0-9a-f]{32} records=2 bytes=8 end=eof\n\n", written)


def test_a_client_that_sends_no_line_feed_and_stays(netd):
    """What the Node.js client of the README sends."""
    words = re.findall(r"socket\.write\('(.*)'\)", snippet("const net = require('net');"))
    netd.start()
    with netd.connect() as client:
        for word in words:
            client.sendall(word.encode())
        wait_for(lambda: netd.events(event="data"), "what was sent to be logged")
        (data,) = netd.events(event="data")
        assert data["MESSAGE"] == b"aaabbb" and data["NETD_TERMINATOR"] == b"continued"
