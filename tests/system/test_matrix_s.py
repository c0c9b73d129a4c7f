# SPDX-License-Identifier: MIT
"""Bad configuration: one line that names the thing, exit status 78, and nothing starts."""

import contextlib
import re

from box import wait_for
from traffic import complaint, file_inside, served

FILE = "/root/netd-test/netd.conf"


def refused(box, content, *expected):
    """netd does not start with CONTENT in its file; the line has each of EXPECTED in it."""
    with file_inside(box, FILE, content):
        line = complaint(box, "-c", FILE)
    for word in expected:
        assert word in line
    return line


# S1: files


def test_s1_missing(box):
    assert complaint(box, "-c", "/nonexistent/netd.conf") == \
        "/nonexistent/netd.conf: No such file or directory"


def test_s1_missing_default_file_means_the_defaults(netd):
    path = netd.box.path("/etc/netd/netd.conf")
    saved = path.read_bytes()
    path.unlink()
    try:
        assert netd.box.run("netd", "-t").stderr == ""
        netd.box.run("systemctl", "start", "netd")
        served(netd)
    finally:
        netd.stop()
        path.write_bytes(saved)


def test_s1_directory(box):
    assert complaint(box, "-c", "/etc").startswith("/etc: ")


def test_s1_not_a_regular_file(box):
    assert complaint(box, "-c", "/dev/zero").startswith("/dev/zero: ")
    box.sh("rm -f /run/netd-fifo; mkfifo /run/netd-fifo")
    try:
        assert complaint(box, "-c", "/run/netd-fifo").startswith("/run/netd-fifo: ")
    finally:
        box.sh("rm /run/netd-fifo")


def test_s1_unreadable(box):
    with file_inside(box, "/var/netd-secret.conf", "port = 1;"):
        box.sh("chmod 600 /var/netd-secret.conf")
        line = complaint(box, "-c", "/var/netd-secret.conf",
                         program=("setpriv", "--reuid=nobody", "--clear-groups", "netd"))
    assert line == "/var/netd-secret.conf: Permission denied"


def test_s1_endless(box):
    box.sh("rm -f /root/netd-huge; truncate -s 1G /root/netd-huge")
    try:
        assert complaint(box, "-c", "/root/netd-huge").startswith("/root/netd-huge: ")
    finally:
        box.sh("rm /root/netd-huge")


def test_s1_empty_is_good(box):
    for content in "", "\n\n", "# nothing\n", "// nothing", "/* nothing */\n":
        with file_inside(box, FILE, content):
            result = box.run("netd", "-t", "-c", FILE)
        assert (result.stdout, result.stderr) == ("", ""), content


def test_s1_dev_null_is_empty(box):
    result = box.run("netd", "-t", "-c", "/dev/null")
    assert (result.stdout, result.stderr) == ("", "")


BROKEN = [  # with the line that is named; None: not asserted
    (b"port = 3001;\n\0host = \"::1\";\n", 2),
    (b"\0", 1),
    (b"host = \"a\0b\";\n", 1),
    (b"\xef\xbb\xbfport = 3001;\n", 1),
    (b"\xff\xfep\0o\0r\0t\0", 1),
    (b"port = \n\n3001\nhost\n", None),
    (b"port = 3001\n; /* no end", 2),
    (b"host = \"no end;\n", None),
    (b"port 3001;\n", 1),
    (b"\n\n\nport = = 1;\n", 4),
    (b"}\n", 1),
    (b"\x1b]0;title\x07 = 1;\n", 1),
    (b"a = " + b"(" * 5000 + b")" * 5000 + b";", 1),
    (b"a = " + b"{ b = " * 5000, 1),
    (b"sessions: { max = 10;\n\n", None),
    (b"port = 1;" * 1000, 1),
    (b"port = 1;" * 100000, None),
]


def test_s1_broken(box):
    for content, line in BROKEN:
        refused(box, content, f"{FILE}:{line}: " if line else f"{FILE}:")


def test_s1_include(box):
    with file_inside(box, "/root/netd-test/port.conf", "port = 3001;\nhost = 7;\n"):
        refused(box, '\n@include "port.conf"\n', "/root/netd-test/port.conf:2: host: ")


def test_s1_include_is_relative_to_the_file(box):
    with file_inside(box, "/root/netd-test/port.conf", "port = 3001;\n"), \
            file_inside(box, FILE, '@include "port.conf"\n'):
        assert box.run("netd", "-t", "-c", FILE).stderr == ""


def test_s1_include_loop(box):
    for name in "netd.conf", FILE, "./netd.conf":
        refused(box, f'@include "{name}"\n', "/netd.conf:1: @include: ")


def test_s1_missing_include(box):
    for name in "missing.conf", "/nonexistent/a", "..", "":
        refused(box, f'port = 3001;\n@include "{name}"\n', f"{FILE}:2: ")


# S2: values

KEYS = {
    "host": ('"::1"', "string"), "port": ("3001", "number"), "framing": ('"raw"', "string"),
    "max_record": ("64", "number"), "priority": ('"debug"', "string"),
    "receipt": ("false", "boolean"), "output": ('"journal"', "string"),
    "flush_timeout": ("10", "number"), "identifier": ('"%p"', "string"), "max_rate": ("10", "number"),
    "format": ('"syslog"', "string"), "trust_severity": ("true", "boolean"),
    "sessions.max": ("10", "number"), "sessions.max_per_address": ("10", "number"),
    "sessions.idle_timeout": ("10", "number"), "sessions.stop_timeout": ("10", "number"),
    "sessions.buffer_memory": ("67108864", "number"),
}


def setting(key, value, before="\n\n"):
    """KEY set to VALUE in the third line."""
    group, dot, name = key.rpartition(".")
    return f"{before}{group}{': { ' if dot else ''}{name} = {value};{' };' if dot else ''}\n"


def test_s2_wrong_type(box):
    values = {"string": '"x"', "number": "100", "float": "100.0", "boolean": "true",
              "group": "{ a = 1; }", "list": "(1, 2)", "array": "[1, 2]"}
    for key, (good, kind) in KEYS.items():
        for other in values.keys() - {kind}:
            refused(box, setting(key, values[other]), f"{FILE}:3: {key}: ")
        with file_inside(box, FILE, setting(key, good)):
            assert box.run("netd", "-t", "-c", FILE).stderr == ""


OUT_OF_RANGE = [
    ("port", ["-1", "65536", "70000"]),
    ("max_record", ["63", "0", "-1", "131073"]),
    ("flush_timeout", ["-1", "31536001"]),
    ("max_rate", ["-1", "2147483648L"]),
    ("sessions.max", ["0", "-1"]),
    ("sessions.max_per_address", ["-1"]),
    ("sessions.idle_timeout", ["-1"]),
    ("sessions.stop_timeout", ["-1"]),
    ("sessions.buffer_memory", ["-1", "0"]),
    ("identifier", ['""', '"%"', '"%d"', '"a\\nb"', '"%%%"', '"' + "x" * 64 + '"']),
    ("framing", ['"lines"', '""', '"RAW"']),
    ("format", ['"rfc5424"', '""', '"Syslog"']),
    ("priority", ['"warning"', '"emerg"', '"6"', '""']),
    ("output", ['"syslog"', '"/dev/stdout"', '""']),
    ("host", ['"127.0.0.1:3000"', '"/run/netd"']),
    ("host", ['""', '"a b"', '"a\\nb"']),
]


def test_s2_out_of_range(box):
    for key, values in OUT_OF_RANGE:
        for value in values:
            refused(box, setting(key, value), f"{FILE}:3: {key}: ")


def test_s2_the_line_of_the_contract(box):
    line = refused(box, "\n" * 6 + "port = 70000;\n")
    assert line == f"{FILE}:7: port: 70000 is not between 0 and 65535"


def test_s2_an_integer_that_would_wrap(box):
    for number in ("4294975376", "3000000000", "4294967297", "99999999999999999999",
                   "18446744073709551617", "0x100000BB8", "-4294964296"):
        for key in "port", "sessions.max":
            refused(box, setting(key, number), f"{FILE}:3: ")
            refused(box, setting(key, number + "L"), f"{FILE}:3: ")


def test_s2_a_string_without_quotes(box):
    for content in "host = localhost", "output: text;", "host = 127.0.0.1;":
        refused(box, content, f"{FILE}:1: syntax error near '{content}'", "needs double quotes")


UNKNOWN = [
    ("\n\nprot = 3001;", "prot"), ("\n\nsessions: { maximum = 3; };", "maximum"),
    ("\n\nmax = 3;", "max"), ("\n\nSessions: { max = 3; };", "Sessions"),
    ("\n\nHost = \"::1\";", "Host"),
]


def test_s2_unknown_key(box):
    for content, name in UNKNOWN:
        refused(box, content, f"{FILE}:3: ", name, "unknown")


DUPLICATE = [
    ("port = 1;\n\nport = 2;", "port"), ("port = 1;\n\nport = 1;", "port"),
    ("sessions: { max = 1;\n\n max = 2; };", "max"),
    ("sessions: { max = 1; };\n\nsessions: { max_per_address = 2; };", "sessions"),
]


def test_s2_duplicate_key(box):
    for content, key in DUPLICATE:
        refused(box, content, f"{FILE}:3: ", key)


def test_s2_the_unit_fails_and_is_not_tried_again(netd):
    result = netd.start(config="port = 70000;", check=False)
    assert result.returncode != 0
    assert netd.show("ExecMainStatus") == "78" and netd.show("NRestarts") == "0"
    assert netd.show("ActiveState") == "failed"
    assert "/etc/netd/netd.conf:1: port: 70000 is not between 0 and 65535" in netd.log().split("\n")


# S3: environment


def test_s3_port(box):
    for value in ("", "80x", " 80", "+80", "-1", "65536", "0x50", "80 ", "1e3", "080", "3000.0",
                  "12345678901234567890", "99999999999999999999", "٣٠٠٠", "http", "\t", "8 0",
                  "80\n"):
        for words in [], ["-t"]:
            assert complaint(box, *words, env={"SERVER_PORT": value}).startswith("SERVER_PORT: ")
    assert complaint(box, env={"SERVER_PORT": ""}) == "SERVER_PORT: is empty"


def test_s3_host(box):
    for value in "", " ", "a b", "127.0.0.1 ", "x" * 10240, "a\nb", "\x1b[2J":
        for words in [], ["-t"]:
            line = complaint(box, *words, env={"SERVER_HOST": value})
            assert line.startswith("SERVER_HOST: ") and len(line) < 200


def test_s3_unresolvable(box):
    """Nobody answers here: where that may change, systemd tries again."""
    for value, status in (("no-such-host.invalid", 1), ("256.1.1.1", 1), ("::g", 78),
                          ("[::1", 78), ("x" * 200, 78)):
        line = complaint(box, env={"SERVER_HOST": value}, status=status)
        assert line.startswith("SERVER_HOST: ") and value[:40] in line


def test_s3_options(box):
    """The same values as an option are wrong usage."""
    for value in "", "80x", "65536", "-1":
        assert complaint(box, f"--port={value}", status=2).startswith("--port: ")
    for value in "", "a b":
        assert complaint(box, f"--host={value}", status=2).startswith("--host: ")
    assert complaint(box, "-o", "syslog", status=2).startswith("--output: ")


# S4: addresses


@contextlib.contextmanager
def listening(box, port):
    s = box.socket()
    with s:
        s.bind(("127.0.0.1", port))
        s.listen()
        yield


def test_s4_port_in_use(box):
    with listening(box, 3456):
        line = complaint(box, "-p", "3456", status=1)
        assert "127.0.0.1:3456" in line and "Address already in use" in line
        with file_inside(box, FILE, "\nport = 3456;\n"):
            assert complaint(box, "-c", FILE, status=1).startswith(f"{FILE}:2: port: ")
        assert complaint(box, env={"SERVER_PORT": "3456"}, status=1).startswith("SERVER_PORT: ")


def test_s4_a_second_netd(netd):
    netd.start()
    assert "Address already in use" in complaint(netd.box, status=1)
    served(netd)


def test_s4_address_not_there(box):
    line = complaint(box, "-H", "192.0.2.7", "-p", "3456", status=1)
    assert "192.0.2.7:3456" in line and "Cannot assign requested address" in line
    assert complaint(box, env={"SERVER_HOST": "2001:db8::7"}, status=1).startswith("SERVER_HOST: ")
    with file_inside(box, FILE, '\nhost = "192.0.2.7";\n'):
        assert complaint(box, "-c", FILE, status=1).startswith(f"{FILE}:2: host: ")


def test_s4_ipv6_off(netd):
    """The kernel without IPv6 says the same as a sandbox that has no such sockets."""
    off = "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX AF_INET\n" \
          "SystemCallErrorNumber=EAFNOSUPPORT\n"
    assert netd.start(env={"SERVER_HOST": "::1"}, dropin=off, check=False).returncode
    assert netd.show("ExecMainStatus") == "78"
    said = [line for line in netd.log().split("\n") if "SERVER_HOST" in line]
    assert len(said) == 1 and "[::1]:3000" in said[0]
    netd.start(config='host = "*";', dropin=off)  # every address there is
    served(netd)
    with listening(netd.box, 3456):
        assert netd.start(config='host = "*"; port = 3456;', dropin=off, check=False).returncode
    assert "port: cannot listen on *:3456: Address already in use" in netd.log()


def test_s4_no_ipv6_address(box):
    """An interface without IPv6 addresses, not even for loopback."""
    script = "ip link set lo up; sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || " \
             "ip -6 addr flush dev lo; exec netd -H ::1"
    line = complaint(box, program=("unshare", "-n", "bash", "-c", script), status=1)
    assert "[::1]:3000" in line


def test_s4_port_below_1024(netd):
    assert netd.start(config="port = 80;", check=False).returncode
    assert netd.show("ExecMainStatus") == "78" and netd.show("NRestarts") == "0"
    assert re.search(r"^/etc/netd/netd.conf:1: port: .*127.0.0.1:80: Permission denied; "
                     "for a port below 1024 use netd.socket, or a drop-in with "
                     "AmbientCapabilities=CAP_NET_BIND_SERVICE, see netd\\(8\\)$",
                     netd.log(), re.M)


def test_s4_nothing_is_left_behind(netd):
    """After all that, the unit starts as ever."""
    netd.start(config="nonsense", check=False)
    netd.start()
    wait_for(lambda: netd.show("ActiveState") == "active", "netd to run")
    served(netd)
